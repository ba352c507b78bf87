use super::*;
use crate::manifest::{Comparison, Dim, SymbolId};

const GOOD: &str = r#"{
"version": [1, 0],
"recorder": {"pycandle": "0.1.0", "torch": "2.15.0"},
"model": {"name": "tiny", "class": "models.tiny.Tiny", "output_class": null},
"dtype": "float32",
"symbols": [
{"name": "batch", "min": 1, "max": 64}
],
"inputs": [
{"name": "x", "path": "args[0]", "dtype": "float32", "shape": ["batch", 4]}
],
"fixed_inputs": [],
"outputs": [
{"name": "out", "path": "", "value": {"v": "linear"}}
],
"states": [],
"parameters": [
{"name": "fc.weight", "kind": "parameter", "dtype": "float32", "shape": [3, 4], "tied_to": null}
],
"constants": [
{"name": "scale", "dtype": "float32", "shape": [2], "data": {"list": [0.1, {"float": "-inf"}]}}
],
"modules": [
{"path": "", "class": "models.tiny.Tiny"},
{"path": "fc", "class": "torch.nn.Linear"}
],
"calls": [
{"module": "", "index": 0, "parent": null, "outputs": ["linear"]},
{"module": "fc", "index": 0, "parent": 0, "outputs": ["linear"]}
],
"nodes": [
{"op": "aten.linear.default", "args": {"input": {"v": "x"}, "weight": {"param": "fc.weight"}}, "out": [{"name": "linear", "dtype": "float32", "shape": [{"mul": ["batch", 1]}, 3]}], "call": 1, "at": "tiny.py:9"}
],
"config": null
}
"#;

/// The report on the good manifest with `from` replaced by `to`.
fn report(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "`{from}` is in the manifest");
    match parse("tiny_manifest.json", &GOOD.replacen(from, to, 1)) {
        Ok(_) => "ok".to_owned(),
        Err(report) => report.to_string(),
    }
}

#[track_caller]
fn check(from: &str, to: &str, place: &str, message: &str) {
    let report = report(from, to);
    let expected = format!("--> tiny_manifest.json:{place}: {message}");
    assert!(
        report.contains(&expected),
        "expected\n{expected}\nin\n{report}"
    );
}

#[test]
fn reads_what_was_recorded() {
    let manifest = parse("tiny_manifest.json", GOOD).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!((&*manifest.name, &*manifest.class), ("tiny", "Tiny"));
    assert_eq!(manifest.nodes[0].line, 32);
    assert_eq!(manifest.nodes[0].args.len(), 2);
    assert_eq!(manifest.calls[1].outputs.len(), 1);
}

#[test]
fn accepts_a_newer_minor_version_and_unknown_fields() {
    assert_eq!(report("[1, 0]", "[1, 7]"), "ok");
    assert_eq!(
        report("\"config\": null", "\"config\": {\"a\": [1]}, \"new\": {}"),
        "ok"
    );
    assert_eq!(report("\"min\": 1", "\"hint\": 3, \"min\": 1"), "ok");
}

#[test]
fn refuses_another_major_version_and_says_what_to_do() {
    check(
        "[1, 0]",
        "[3, 1]",
        "2: version",
        "the manifest has format version 3.1, this pycandle reads 1.* to 2.*: upgrade",
    );
    check(
        "[1, 0]",
        "[0, 9]",
        "2: version",
        "the manifest has format version 0.9, this pycandle reads 1.* to 2.*: record again",
    );
    check("[1, 0]", "\"1\"", "2: version", "invalid type: string");
    check(
        "\"version\": [1, 0],",
        "",
        "1: version",
        "the field is missing",
    );
}

#[test]
fn says_what_json_it_is_where_it_is_no_object() {
    for (text, found) in [
        ("[]", "1: expected a JSON object, found an array"),
        (
            "\n\n [{\"version\": [1, 0]}]",
            "3: expected a JSON object, found an array",
        ),
        ("\"{}\"", "1: expected a JSON object, found a string"),
        ("null", "1: expected a JSON object, found null"),
        ("-7", "1: expected a JSON object, found a number"),
        ("true", "1: expected a JSON object, found a boolean"),
    ] {
        let report = parse("m_manifest.json", text)
            .err()
            .map(|report| report.to_string());
        let said = format!("m_manifest.json:{found}");
        assert!(
            report.as_ref().is_some_and(|report| report.contains(&said)),
            "{report:?}"
        );
    }
    let model = "{\"name\": \"tiny\", \"class\": \"models.tiny.Tiny\", \"output_class\": null}";
    check(
        model,
        "7",
        "4: model",
        "invalid type: integer `7`, expected a JSON object",
    );
}

#[test]
fn names_the_line_and_the_field() {
    check(
        "{\"v\": \"x\"}",
        "{\"v\": \"y\"}",
        "32: nodes[0].args.input",
        "no earlier value is named `y`",
    );
    check(
        "{\"v\": \"x\"}",
        "{\"w\": \"x\"}",
        "32: nodes[0].args.input",
        "unknown variant `w`",
    );
    check(
        "{\"v\": \"x\"}",
        "\n{\"v\":\n 7}",
        "34: nodes[0].args.input.v",
        "invalid type: integer `7`",
    );
    check(
        "{\"param\": \"fc.weight\"}",
        "[{\"param\": \"fc.bias\"}]",
        "32: nodes[0].args.weight",
        "no parameter is named `fc.bias`",
    );
    check(
        "\"call\": 1",
        "\"call\": 9",
        "32: nodes[0].call",
        "there is no call 9",
    );
    check(
        "\"call\": 1",
        "\"call\": -1",
        "32: nodes[0].call",
        "invalid value: integer `-1`",
    );
    check(
        "[\"batch\", 4]",
        "[\"batch\", -4]",
        "10: inputs[0].shape[1]",
        "a size cannot be -4",
    );
    check(
        "[\"batch\", 4]",
        "[\"seq\", 4]",
        "10: inputs[0].shape[0]",
        "no symbol is named `seq`",
    );
    check(
        "[\"batch\", 4]",
        "[1, 4]",
        "7: symbols[0]",
        "no input has `batch` as one of its sizes",
    );
    check(
        "\"name\": \"x\"",
        "\"name\": \"x.y\"",
        "10: inputs[0].name",
        "`x.y` is not an identifier",
    );
    check(
        "\"max\": 64",
        "\"max\": 0",
        "7: symbols[0].max",
        "the range 1..=0 is empty",
    );
    check(
        "\"tied_to\": null",
        "\"tied_to\": \"fc.weight\"",
        "18: parameters[0].tied_to",
        "no parameter before this one",
    );
    check(
        "[3, 4]",
        "[9999999999, 9999999999]",
        "18: parameters[0].shape",
        "the tensor is too large to address",
    );
    check(
        "\"shape\": [2]",
        "\"shape\": [3]",
        "21: constants[0].data",
        "2 elements, the shape has 3",
    );
    check(
        "{\"list\": [0.1, {\"float\": \"-inf\"}]}",
        "{\"file\": \"../x.safetensors\"}",
        "21: constants[0].data",
        "`../x.safetensors` is not the bare name",
    );
    check(
        "\"path\": \"fc\"",
        "\"path\": \"a.fc\"",
        "25: modules[1].path",
        "its parent `a` does not come before it",
    );
    check(
        "\"index\": 0, \"parent\": 0",
        "\"index\": 1, \"parent\": 0",
        "29: calls[1].index",
        "this is call 0 of `fc`, not 1",
    );
    check(
        "\"parent\": 0",
        "\"parent\": 1",
        "29: calls[1].parent",
        "the parent must be an earlier call",
    );
    check(
        "{\"mul\": [\"batch\", 1]}",
        "{\"mul\": [\"batch\"]}",
        "32: nodes[0].out[0].shape[0]",
        "the operator takes two or more operands, not 1",
    );
    check(
        "{\"mul\": [\"batch\", 1]}",
        "{\"mod\": [\"batch\", 0]}",
        "32: nodes[0].out[0].shape[0]",
        "division by zero",
    );
}

/// The report on the good manifest with this condition.
fn condition(holds: &str) -> String {
    let list =
        format!("\"conditions\": [\n{{\"holds\": {holds}, \"at\": \"m.py:3\"}}\n],\n\"inputs\": [");
    report("\"inputs\": [", &list)
}

#[test]
fn reads_conditions() {
    let list =
        r#""conditions": [{"holds": {"le": [1, {"mod": ["batch", 4]}]}, "at": "a\nb.py:3"}],"#;
    let text = GOOD.replacen("\"inputs\"", &format!("{list}\n\"inputs\""), 1);
    let text = text.replacen("[1, 0]", "[2, 0]", 1);
    let manifest = parse("m.json", &text).unwrap_or_else(|report| panic!("{report}"));
    let [read] = &manifest.conditions[..] else {
        panic!("{:?}", manifest.conditions)
    };
    let batch = || Box::new(Dim::Sym(SymbolId(0)));
    assert_eq!(read.comparison, Comparison::Le);
    assert_eq!(read.left, Dim::Size(1));
    assert_eq!(read.right, Dim::Mod(batch(), Box::new(Dim::Size(4))));
    assert_eq!(read.at.as_deref(), Some("a b.py:3"));
    assert_eq!(
        condition(r#"{"ne": ["batch", {"sub": ["batch", 9]}]}"#),
        "ok"
    );
    assert_eq!(
        condition(r#"{"eq": [{"floordiv": [9, "batch"]}, 1]}"#),
        "ok"
    );
}

#[test]
fn refuses_conditions_with_their_line_and_field() {
    for (holds, message) in [
        (
            r#"{"ne": ["rows", 1]}"#,
            "10: conditions[0].holds: no symbol is named `rows`",
        ),
        (
            r#"{"ne": ["batch"]}"#,
            "10: conditions[0].holds.ne[0]: invalid length 1",
        ),
        (r#"{"ne": ["batch", 1, 2]}"#, "10: conditions[0].holds.ne"),
        (
            r#"{"gt": ["batch", 1]}"#,
            "10: conditions[0].holds: unknown variant `gt`",
        ),
        (
            r#"{"eq": [1, 1]}"#,
            "10: conditions[0].holds: the condition has no size in it",
        ),
        (
            r#"{"eq": [{"mod": ["batch", 0]}, 1]}"#,
            "10: conditions[0].holds: division by zero",
        ),
        (
            r#"{"eq": [{"mod": [7, {"sub": ["batch", 1]}]}, 1]}"#,
            "10: conditions[0].holds: a divisor in it can be 0",
        ),
        (
            r#"{"eq": [{"floordiv": ["batch", {"mod": ["batch", 2]}]}, 1]}"#,
            "10: conditions[0].holds: a divisor in it can be 0",
        ),
        (
            r#"{"lt": ["batch", 1.5]}"#,
            "10: conditions[0].holds.lt[1]: invalid type",
        ),
        ("null", "10: conditions[0].holds"),
        ("[]", "10: conditions[0].holds"),
    ] {
        let report = condition(holds);
        assert!(report.contains(message), "{message}\nis not in\n{report}");
    }
    assert!(
        report("\"inputs\"", "\"conditions\": {}, \"inputs\"").contains("conditions: invalid type")
    );
}

#[test]
fn collects_everything_of_one_kind() {
    let text = GOOD.replace("\"float32\"", "\"float33\"");
    let report = parse("tiny_manifest.json", &text).map(|_| ()).unwrap_err();
    assert_eq!(report.errors().len(), 5, "{report}");
}

#[test]
fn survives_every_cut_and_every_flipped_bit() {
    for end in 0..GOOD.len() {
        if let Some(text) = GOOD.get(..end) {
            assert!(parse("cut", text).is_err() || text.trim_end() == GOOD.trim_end());
        }
    }
    for place in 0..GOOD.len() {
        for bit in 0..8 {
            let mut bytes = GOOD.as_bytes().to_vec();
            bytes[place] ^= 1 << bit;
            if let Ok(text) = std::str::from_utf8(&bytes) {
                let _ = parse("flipped", text).map_err(|report| report.to_string());
            }
        }
    }
}

#[test]
fn survives_deep_nesting() {
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    assert!(report("{\"v\": \"x\"}", &deep).contains("recursion limit"));
    assert!(report("\"config\": null", &format!("\"config\": {deep}")).contains("recursion limit"));
    assert_eq!(
        report(
            "\"config\": null",
            &format!("\"new\": {deep}, \"config\": null")
        ),
        "ok"
    );
    let dims = "{\"add\":[1,".repeat(5_000) + "1" + &"]}".repeat(5_000);
    assert!(report("{\"mul\": [\"batch\", 1]}", &dims).contains("recursion limit"));
}

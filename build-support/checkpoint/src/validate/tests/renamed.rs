//! Names that are not those of the trace, and the renames that are proposed.

use super::*;
use regex::Regex;

/// A norm and two matrices below each of these modules.
fn encoder(modules: &[&str]) -> Vec<(String, Vec<usize>)> {
    let tensors = modules.iter().flat_map(|module| {
        [
            (format!("{module}.LayerNorm.weight"), vec![8]),
            (format!("{module}.LayerNorm.bias"), vec![8]),
            (format!("{module}.query.weight"), vec![8, 8]),
            (format!("{module}.query.bias"), vec![8]),
            (format!("{module}.dense.weight"), vec![8, 8]),
        ]
    });
    tensors.collect()
}

fn old(name: &str) -> String {
    let name = name.replace("LayerNorm.weight", "LayerNorm.gamma");
    name.replace("LayerNorm.bias", "LayerNorm.beta")
}

/// What a report proposes, applied to a key as the front ends do.
pub(super) fn applied(mismatch: &Mismatch, key: &str) -> String {
    let lines = mismatch.findings().iter().flat_map(|f| &f.lines);
    let mut name = key.to_owned();
    for rule in lines.flat_map(|line| &line.renames) {
        let pattern = Regex::new(&rule.pattern).expect("a pattern");
        name = pattern.replace_all(&name, &*rule.replacement).into_owned();
    }
    name
}

#[test]
fn norms_with_other_words_are_renamed_by_what_the_words_mean() {
    let modules = ["embeddings", "layer.0", "layer.1"];
    let params = encoder(&modules);
    let needs = needs(&params);
    let expected = Expected {
        needs: &needs,
        ..Expected::DEFAULT
    };
    let file = super::renamed(&params, old);
    let mismatch = validate(&expected, &checkpoint(&tensors(&file))).expect_err("other names");
    let lines: Vec<_> = mismatch.findings()[1].lines.iter().collect();
    let text: Vec<_> = lines.iter().map(|line| line.to_string()).collect();
    assert_eq!(
        text,
        [
            "renamed: embeddings.LayerNorm.weight and 2 others may end in `.gamma` in the checkpoint",
            "renamed: embeddings.LayerNorm.bias and 2 others may end in `.beta` in the checkpoint",
            r#"  if so, add rename = [("\\.gamma$", ".weight"), ("\\.beta$", ".bias")]"#,
        ]
    );
    // With another prefix the renames come in the order in which they work, and mend everything.
    let hub = super::renamed(&params, |name| format!("bert.{}", old(name)));
    let mismatch = validate(&expected, &checkpoint(&tensors(&hub))).expect_err("other names");
    let text = mismatch.to_string();
    let rules = r#"rename = [("^bert\\.", ""), ("\\.gamma$", ".weight"), ("\\.beta$", ".bias")]"#;
    assert!(
        text.contains(rules) && text.matches("rename =").count() == 1,
        "{text}"
    );
    for ((name, _), (key, _)) in params.iter().zip(&hub) {
        assert_eq!(&applied(&mismatch, key), name);
    }
}

/// What is said of a file that has other names than these.
fn refusal(params: &[(String, Vec<usize>)], file: &[(String, Vec<usize>)]) -> String {
    let needs = needs(params);
    let expected = Expected {
        needs: &needs,
        ..Expected::DEFAULT
    };
    let error = validate(&expected, &checkpoint(&tensors(file)));
    error.expect_err("other names").to_string()
}

#[test]
fn a_word_that_is_used_is_no_word_for_another() {
    let mut params = encoder(&["a"]);
    let mut file = super::renamed(&params, old);
    params.push(("b.gamma".to_owned(), vec![8]));
    file.push(("b.gamma".to_owned(), vec![8]));
    let text = refusal(&params, &file);
    assert!(
        text.contains(r#"("^a\\.LayerNorm\\.gamma$", "a.LayerNorm.weight")"#),
        "{text}"
    );
    assert!(text.contains(r#"("\\.beta$", ".bias")"#), "{text}");
}

/// A rule that would make one name of two keys is none.
#[test]
fn words_of_norms_leave_other_keys_alone() {
    let params = encoder(&["a", "b"]);
    let mut file = super::renamed(&params, old);
    file.push(("ls.gamma".to_owned(), vec![4]));
    file.push(("ls.weight".to_owned(), vec![4]));
    let text = refusal(&params, &file);
    assert!(!text.contains(r#"("\\.gamma$""#), "{text}");
    assert!(text.contains(r#"("\\.beta$", ".bias")"#), "{text}");
    let rule = r#"("^a\\.LayerNorm\\.gamma$", "a.LayerNorm.weight")"#;
    assert!(text.contains(rule), "{text}");
}

#[test]
fn one_key_is_proposed_for_one_name() {
    let names = |names: &[&str]| -> Vec<(String, Vec<usize>)> {
        names
            .iter()
            .map(|name| ((*name).to_owned(), vec![4, 4]))
            .collect()
    };
    let needs = needs(&names(&["attn.k_proj.weight", "attn.q_proj.weight"]));
    check(
        &needs,
        &tensors(&names(&["attn.q_prj.weight"])),
        &[
            "missing (2):",
            "  attn.k_proj.weight",
            "  attn.q_proj.weight",
            r#"renamed: attn.q_proj.weight may be called attn.q_prj.weight in the checkpoint: if so, add rename = [("^attn\\.q_prj\\.weight$", "attn.q_proj.weight")]"#,
            "",
            AGAIN,
        ],
    );
    // A bias is no weight, however near its name.
    let needs = [Need {
        shape: &[4],
        ..needs[0].clone()
    }];
    let bias = [("attn.k_proj.bias".to_owned(), Dtype::F32, vec![4])];
    let found = lines(
        &Expected {
            needs: &needs,
            ..Expected::DEFAULT
        },
        &checkpoint(&bias),
    );
    assert!(
        found.iter().all(|line| !line.contains("rename")),
        "{found:?}"
    );
}

/// Takes a prefix off, as the rule `^net\\.` does.
#[derive(Debug)]
pub(super) struct Without(pub &'static str);

impl Rules for Without {
    fn name<'k>(&self, key: &'k str) -> Cow<'k, str> {
        key.strip_prefix(self.0).unwrap_or(key).into()
    }
}

/// What is said of a file under a rule; what is proposed behind the rule mends all of it.
#[track_caller]
fn mended(
    rule: Option<&Without>,
    params: &[(String, Vec<usize>)],
    file: &[(String, Vec<usize>)],
) -> Vec<String> {
    let needs = needs(params);
    let keys = file.iter().map(|(key, _)| &**key);
    let keys = keys.filter_map(|key| Some((rule?.name(key), key)));
    let keys: Vec<_> = keys.collect();
    let there = keys
        .iter()
        .filter(|(name, _)| params.iter().any(|(need, _)| need == name));
    let renames: Vec<(&str, &str)> = there.map(|(name, key)| (&**name, *key)).collect();
    let expected = Expected {
        needs: &needs,
        renames: &renames,
        rules: rule.map(|rule| rule as &dyn Rules),
        ..Expected::DEFAULT
    };
    let mismatch = validate(&expected, &checkpoint(&tensors(file))).expect_err("other names");
    let mut names = std::collections::BTreeSet::new();
    for (number, (key, _)) in file.iter().enumerate() {
        let key = rule.map_or(Cow::Borrowed(&**key), |rule| rule.name(key));
        let name = applied(&mismatch, &key);
        if let Some((need, _)) = params.get(number) {
            assert_eq!(&name, need, "{mismatch}");
        }
        assert!(names.insert(name), "one name of two: {mismatch}");
    }
    let lines = mismatch.findings().iter().flat_map(|f| &f.lines);
    let lines = lines.map(ToString::to_string);
    lines
        .skip_while(|line| !line.contains(": ") || line.starts_with("missing"))
        .collect()
}

#[test]
fn what_is_proposed_comes_behind_the_rules_that_there_are() {
    let params = llama(3);
    let file = super::renamed(&params, |name| {
        format!("net.{}", name.replace("embed", "embd"))
    });
    assert_eq!(
        mended(Some(&Without("net.")), &params, &file),
        [
            "renamed: model.embed_tokens.weight may be called net.model.embd_tokens.weight in the \
             checkpoint: if so, add after those given \
             rename = [(\"^model\\\\.embd_tokens\\\\.weight$\", \"model.embed_tokens.weight\")]"
        ]
    );
    // A rule that takes too much or too little off.
    let body = &params[..7];
    let file = super::renamed(body, |name| format!("model.{name}"));
    assert_eq!(
        mended(Some(&Without("model.model.")), body, &file),
        [
            "prefix: after the renames given, 7 keys lack the `model.` that the trace expects: \
             add after those given rename = [(\"^\", \"model.\")]"
        ]
    );
    let file = super::renamed(body, |name| format!("a.b.{name}"));
    assert_eq!(
        mended(Some(&Without("a.")), body, &file),
        [
            "prefix: after the renames given, 7 keys start with `b.`, the trace has them without it: \
             add after those given rename = [(\"^b\\\\.\", \"\")]"
        ]
    );
}

/// A prefix before the keys of one layer, or missing from them, is no other module.
#[test]
fn a_prefix_of_some_layers_is_found() {
    let params = llama(4);
    let some = |change: fn(&str) -> String| {
        super::renamed(&params, |name| match name.contains("layers.2.") {
            true => change(name),
            false => name.to_owned(),
        })
    };
    for (change, rule, key) in [
        (
            (|name| format!("module.{name}")) as fn(&str) -> String,
            r#"("^module\\.", "")"#,
            "module.model.layers.2.mlp.gate_proj.weight",
        ),
        (
            |name| name["model.".len()..].to_owned(),
            r#"("^(layers)\\.", "model.${1}.")"#,
            "layers.2.mlp.gate_proj.weight",
        ),
        (
            |name| format!("model.{name}"),
            r#"("^model\\.model\\.", "model.")"#,
            "model.model.layers.2.mlp.gate_proj.weight",
        ),
    ] {
        let said = format!(
            "renamed: model.layers.2.mlp.gate_proj.weight may be called {key} in the checkpoint, \
             and 1 other in the same way: if so, add rename = [{rule}]"
        );
        assert_eq!(mended(None, &params, &some(change)), [said]);
    }
    // One of them has a name that others have once they are mended.
    let file = super::renamed(&params, |name| match name {
        "lm_head.weight" => format!("model.{name}"),
        name if name.contains("layers.2.") => format!("model.{name}"),
        name => name.to_owned(),
    });
    assert_eq!(mended(None, &params, &file).len(), 3);
    // What would be a second tensor of one name is another module of the same kind.
    let mut file = params.clone();
    let layer = |n: &'static str| params.iter().filter(move |(name, _)| name.contains(n));
    file.retain(|(name, _)| !name.contains("layers.2."));
    let other = |name: &str| format!("draft.{name}");
    file.extend(
        layer("layers.2.")
            .chain(layer("layers.1."))
            .map(|(n, s)| (other(n), s.clone())),
    );
    let text = refusal(&params, &file);
    assert!(!text.contains("rename"), "{text}");
}

/// Every name that is near another is said in one run, and the rest counted.
#[test]
fn many_slips_are_mended_at_once() {
    let words = [
        "alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel",
    ];
    let names = words
        .iter()
        .flat_map(|a| words.iter().map(move |b| format!("{a}.{b}_proj.weight")));
    let params: Vec<_> = names.take(20).map(|name| (name, vec![4, 4])).collect();
    let file = super::renamed(&params, |name| name.replace("_proj", "_prj"));
    let lines = mended(None, &params, &file);
    assert_eq!(lines.len(), 14, "{lines:?}");
    assert_eq!(lines[12], "  and 8 more");
    // What is left is said.
    let names = words
        .iter()
        .flat_map(|a| words.iter().map(move |b| format!("{a}.{b}_proj.weight")));
    let params: Vec<_> = names.take(30).map(|name| (name, vec![4, 4])).collect();
    let file = super::renamed(&params, |name| name.replace("_proj", "_prj"));
    let text = refusal(&params, &file);
    assert!(
        text.contains("\n  more may be found once these are mended\n  if so, add rename"),
        "{text}"
    );
}

/// One rule must not give a tensor the name that another, proposed before it, has given.
#[test]
fn proposals_leave_the_names_of_one_another_alone() {
    let mut params = llama(3);
    for layer in 0..3 {
        params.push((format!("model.layers.{layer}.norm.weight"), vec![8]));
    }
    let mut file = super::renamed(&params, |name| match name.contains(".norm.") {
        true => format!("module.{name}"),
        false => name.replace(".mlp.", ".mpl."),
    });
    file.push((
        "module.model.layers.0.mlp.gate_proj.weight".to_owned(),
        vec![16, 8],
    ));
    let needs = needs(&params);
    let expected = Expected {
        needs: &needs,
        ..Expected::DEFAULT
    };
    let mismatch = validate(&expected, &checkpoint(&tensors(&file))).expect_err("other names");
    let names: Vec<_> = file
        .iter()
        .map(|(key, _)| applied(&mismatch, key))
        .collect();
    let unique: std::collections::BTreeSet<_> = names.iter().collect();
    assert_eq!(unique.len(), names.len(), "{mismatch}");
    assert!(names.contains(&params[1].0), "{mismatch}");
}

/// A prefix before other keys as well, one of which would get the name of another.
#[test]
fn a_prefix_is_taken_off_where_that_makes_no_name_of_two() {
    let params = llama(3);
    let mut file = super::renamed(&params, |name| format!("module.{name}"));
    file.extend(["module.ema.step", "ema.step"].map(|name| (name.to_owned(), vec![1])));
    let needs = needs(&params);
    let expected = Expected {
        needs: &needs,
        ..Expected::DEFAULT
    };
    let mismatch = validate(&expected, &checkpoint(&tensors(&file))).expect_err("other names");
    for ((name, _), (key, _)) in params.iter().zip(&file) {
        assert_eq!(&applied(&mismatch, key), name, "{mismatch}");
    }
    assert_eq!(applied(&mismatch, "module.ema.step"), "module.ema.step");
    // Where there is no such rule, none is shown, and nothing called right.
    let mut file = super::renamed(&params, |name| name.replace("model.", ""));
    file.push(params[1].clone());
    let text = refusal(&params, &file);
    assert!(
        !text.contains("rename =") && !text.contains("everything else fits"),
        "{text}"
    );
    let name = &params[1].0;
    let key = name.replace("model.", "");
    let why =
        format!("  a rename would give {name} two keys, {key} and its own: take one of them out");
    assert!(text.contains(&why), "{text}");
}

/// Of many keys with one template, the last may be the one in the way.
#[test]
fn every_key_is_looked_at_for_a_rule() {
    let params = llama(3);
    let mut file = super::renamed(&params, |name| match name.contains("layers.1.") {
        true => format!("module.{name}"),
        false => name.to_owned(),
    });
    file.extend((0..600).map(|n| (format!("module.ema.{n}.w"), vec![1])));
    file.push(("ema.1.w".to_owned(), vec![1]));
    let mended = mended(None, &params, &file);
    assert!(
        mended[0].ends_with(r#"add rename = [("^module\\.(model)\\.", "${1}.")]"#),
        "{mended:?}"
    );
}

/// What is there of some layers by one name, and of others by another, takes a rule for each.
#[test]
fn layers_with_different_wrappers_are_mended_one_after_another() {
    let params = llama(7);
    let file = super::renamed(&params, |name| match name.split('.').nth(2) {
        Some("3" | "4" | "5") => format!("module.{name}"),
        Some("0" | "1") => format!("module.module.{name}"),
        _ => name.to_owned(),
    });
    assert_eq!(mended(None, &params, &file).len(), 3);
    // Also where neither is more than the other.
    let params = llama(2);
    let file = super::renamed(&params, |name| match name.split('.').nth(2) {
        Some("0") => format!("module.module.{name}"),
        Some("1") => format!("module.{name}"),
        _ => name.to_owned(),
    });
    assert_eq!(mended(None, &params, &file).len(), 3);
}

/// A module by another name, of which one part has another name too.
#[test]
fn most_of_a_module_is_enough() {
    let mut params = encoder(&["model.layers.0", "model.layers.1"]);
    params.push(("model.embed.weight".to_owned(), vec![100, 8]));
    params.push(("model.norm.weight".to_owned(), vec![8]));
    let file = super::renamed(&params, |name| {
        name.replace("layers", "blocks")
            .replace("dense", "out_dense")
    });
    let text = refusal(&params, &file);
    assert!(
        text.contains(r#"("^model\\.blocks\\.", "model.layers.")"#),
        "{text}"
    );
    // The last two are all that is left.
    let file = super::renamed(&params, |name| name.replace("model.", "transformer."));
    let file = super::renamed(&file, |name| name.replace("layers", "blocks"));
    assert_eq!(mended(None, &params, &file).len(), 3);
}

//! Names that are not those of the trace, and the renames that are proposed.

use super::*;

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

/// What a report proposes, applied to a key as the front ends do; patterns of this test are a prefix
/// or an ending.
fn applied(mismatch: &Mismatch, key: &str) -> String {
    let lines = mismatch.findings().iter().flat_map(|f| &f.lines);
    lines
        .flat_map(|line| &line.renames)
        .fold(key.to_owned(), |key, rule| {
            let (pattern, with) = (rule.pattern.replace('\\', ""), &rule.replacement);
            match (pattern.strip_prefix('^'), pattern.strip_suffix('$')) {
                (Some(start), None) => key
                    .strip_prefix(start)
                    .map_or(key.clone(), |rest| format!("{with}{rest}")),
                (None, Some(end)) => key
                    .strip_suffix(end)
                    .map_or(key.clone(), |rest| format!("{rest}{with}")),
                _ => panic!("{rule}"),
            }
        })
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

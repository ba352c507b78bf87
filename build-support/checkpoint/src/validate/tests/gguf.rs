//! GGUF files: other names, other row orders, blocks.

use super::*;

fn gguf(architecture: &str, tensors: &[(&str, Dtype, &[usize])]) -> Checkpoint {
    let mut snapshot = Snapshot::default();
    snapshot.gguf(true);
    let text = crate::Value::Text(architecture.into());
    snapshot.metadata("general.architecture", text);
    for (key, heads) in [("head_count", 2), ("head_count_kv", 1)] {
        let key = format!("{architecture}.attention.{key}");
        snapshot.metadata(&key, crate::Value::Integer(heads));
    }
    for (name, dtype, shape) in tensors {
        snapshot.tensor(name, *dtype, shape).expect("a new name");
    }
    snapshot.into_checkpoint("m.gguf".as_ref(), "m.gguf".as_ref())
}

#[test]
fn a_gguf_is_found_by_llama_cpps_names() {
    let shapes: [(&str, &[usize]); 4] = [
        ("model.embed_tokens.weight", &[256, 256]),
        ("model.layers.0.self_attn.q_proj.weight", &[8, 256]),
        ("model.layers.0.self_attn.k_proj.weight", &[4, 256]),
        ("model.layers.0.input_layernorm.weight", &[256]),
    ];
    let needs = needs(&shapes.map(|(name, shape)| (name.to_owned(), shape.to_vec())));
    let expected = Expected {
        needs: &needs,
        strict: true,
        ..Expected::DEFAULT
    };
    let tensors: [(&str, Dtype, &[usize]); 5] = [
        ("token_embd.weight", Dtype::Q4_K, &[256, 256]),
        ("blk.0.attn_q.weight", Dtype::Q4_K, &[8, 256]),
        ("blk.0.attn_k.weight", Dtype::Q6_K, &[4, 256]),
        ("blk.0.attn_norm.weight", Dtype::F32, &[256]),
        ("rope_freqs.weight", Dtype::F32, &[64]),
    ];
    let plain = |architecture: &str, q, k| {
        let file = gguf(architecture, &tensors);
        let source = |key, rows, form| Source {
            id: file.get(key).map(|tensor| tensor.id()),
            rows,
            form,
        };
        let validated = validate(&expected, &file).expect("it fits");
        let stored = Rows::AsStored;
        let sources = [
            source("token_embd.weight", stored, Form::Blocks),
            source("blk.0.attn_q.weight", q, Form::Blocks),
            source("blk.0.attn_k.weight", k, Form::Blocks),
            source("blk.0.attn_norm.weight", stored, Form::Plain),
        ];
        let found = [0, 1, 2, 3].map(|need| validated.source(need));
        assert_eq!(found, sources);
    };
    plain("qwen2", Rows::AsStored, Rows::AsStored);
    let heads = |heads| Rows::Interleaved { heads };
    plain("llama", heads(2), heads(1));

    let refused = |architecture: &str, line: &str| {
        let found = lines(&expected, &gguf(architecture, &tensors));
        assert_eq!(found[0], line);
        assert_eq!(
            found[1..],
            ["  take the model's safetensors checkpoint instead of the GGUF file"]
        );
    };
    refused(
        "gemma2",
        "converted: files of the architecture `gemma2` have 1 added to the weights of their norms, \
         which loading does not undo",
    );
    refused(
        "brandnew",
        "converted: it is not known what llama.cpp changed in the values of the architecture \
         `brandnew`",
    );
}

#[test]
fn blocks_that_cannot_be_multiplied_by_are_named() {
    let shape: &[usize] = &[4, 256];
    let needs = needs(&[("lm_head.weight".to_owned(), shape.to_vec())]);
    let expected = Expected {
        needs: &needs,
        ..Expected::DEFAULT
    };
    let file = gguf("qwen2", &[("output.weight", Dtype::TQ2_0, shape)]);
    let found = lines(&expected, &file);
    assert_eq!(
        found[0],
        "quantized: 1 weight is stored as GGUF TQ2_0 blocks:"
    );
    let advice = "  loading cannot multiply by these: quantize the model to Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 or \
        Q2_K to Q6_K instead, as llama.cpp's `llama-quantize` does";
    assert_eq!(found[2], advice);
}

/// The rows of q and k of a llama with 4 and so many heads, by the names of the trace.
fn rows_of(q: &str, k: &str, kv: Option<crate::Value>) -> Result<[Rows; 2], String> {
    rows_of_shapes(q, k, kv, [16, 16])
}

/// The same with so many rows of q and k.
fn rows_of_shapes(
    q: &str,
    k: &str,
    kv: Option<crate::Value>,
    rows: [usize; 2],
) -> Result<[Rows; 2], String> {
    let shapes = rows.map(|rows| vec![rows, 32]);
    let names = [q, k].map(|name| format!("layers.0.{name}.weight"));
    let needs: Vec<_> = names.into_iter().zip(shapes.clone()).collect();
    let needs = super::needs(&needs);
    let mut snapshot = Snapshot::default();
    snapshot.gguf(true);
    let mut put = |key: &str, value| snapshot.metadata(key, value);
    put("general.architecture", crate::Value::Text("llama".into()));
    put("llama.attention.head_count", crate::Value::Integer(4));
    kv.into_iter()
        .for_each(|value| put("llama.attention.head_count_kv", value));
    let names = ["blk.0.attn_q.weight", "blk.0.attn_k.weight"];
    for (name, shape) in names.into_iter().zip(&shapes) {
        snapshot.tensor(name, Dtype::F32, shape).expect("new");
    }
    let file = snapshot.into_checkpoint("m.gguf".as_ref(), "m.gguf".as_ref());
    let expected = Expected {
        needs: &needs,
        ..Expected::DEFAULT
    };
    let validated = validate(&expected, &file).map_err(|mismatch| mismatch.to_string())?;
    Ok([validated.source(0).rows, validated.source(1).rows])
}

#[test]
fn rows_are_moved_only_by_a_count_of_heads_that_is_known() {
    let heads = |heads| Rows::Interleaved { heads };
    let (q, k) = ("self_attn.q_proj", "self_attn.k_proj");
    let integer = crate::Value::Integer;
    // Without a count of its own, k has as many heads as q, unless they are of another width.
    assert_eq!(rows_of(q, k, None), Ok([heads(4), heads(4)]));
    let narrow = rows_of_shapes(q, k, None, [16, 8]).expect_err("heads of half the width");
    assert!(narrow.contains("there is no number of heads"), "{narrow}");
    assert_eq!(
        rows_of_shapes(q, k, Some(integer(2)), [16, 8]),
        Ok([heads(4), heads(2)])
    );
    // Counts that differ from layer to layer, none, and one that is no divisor of the rows.
    let large = [1 << 60, 1 << 63, u64::MAX.into()].map(integer);
    let odd = [crate::Value::Array(2), integer(0), integer(-1), integer(3)];
    for odd in odd.into_iter().chain(large) {
        let text = rows_of(q, k, Some(odd)).expect_err("no count of heads");
        assert!(
            text.contains("converted: llama.cpp puts the rows of q and k in another order"),
            "{text}"
        );
    }
    let stored = Rows::AsStored;
    let names = ("attention.wq", "attention.wk");
    let found = rows_of(names.0, names.1, Some(integer(2)));
    assert_eq!(found, Ok([stored, stored]));
}

/// A rule says what a tensor is called, not what is in it.
#[test]
fn what_was_converted_is_asked_of_renamed_tensors_too() {
    let name = |part: &str| format!("layers.0.{part}.weight");
    let needs = needs(&[(name("query"), vec![8, 4]), (name("norm"), vec![4])]);
    let (query, norm) = (name("query"), name("norm"));
    let renames = [
        (&*query, "blk.0.attn_q.weight"),
        (&*norm, "blk.0.attn_norm.weight"),
    ];
    let expected = Expected {
        needs: &needs,
        renames: &renames,
        ..Expected::DEFAULT
    };
    let tensors: [(&str, Dtype, &[usize]); 2] = [
        ("blk.0.attn_q.weight", Dtype::F32, &[8, 4]),
        ("blk.0.attn_norm.weight", Dtype::F32, &[4]),
    ];
    let rows = |architecture: &str| {
        let validated = validate(&expected, &gguf(architecture, &tensors)).expect("it fits");
        validated.source(0).rows
    };
    assert_eq!(rows("qwen2"), Rows::AsStored);
    assert_eq!(rows("llama"), Rows::Interleaved { heads: 2 });
    for architecture in ["gemma", "deepseek2"] {
        let found = lines(&expected, &gguf(architecture, &tensors));
        assert!(found[0].starts_with("converted: "), "{found:?}");
    }
    // A model with llama.cpp's own names is written for such files, and takes them as they are.
    let own = tensors.map(|(name, _, shape)| (name.to_owned(), shape.to_vec()));
    let own = super::needs(&own);
    let expected = Expected {
        needs: &own,
        ..Expected::DEFAULT
    };
    let validated = validate(&expected, &gguf("llama", &tensors)).expect("it fits");
    assert_eq!(validated.sources().count(), 0);
}

#[test]
fn two_parts_of_a_model_are_not_read_from_one() {
    let name = |part: &str| format!("{part}.layers.0.self_attn.v_proj.weight");
    let needs = needs(&["vision", "text"].map(|part| (name(part), vec![4, 4])));
    let expected = Expected {
        needs: &needs,
        ..Expected::DEFAULT
    };
    let file = gguf("qwen2", &[("blk.0.attn_v.weight", Dtype::F32, &[4, 4])]);
    let found = lines(&expected, &file);
    let line = format!(
        "twice: {} and {} would both be read from one tensor",
        name("vision"),
        name("text")
    );
    assert_eq!(found[0], line);
    assert!(
        found[1].starts_with("  llama.cpp's names do not tell these apart"),
        "{found:?}"
    );
}

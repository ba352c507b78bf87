//! Handles: what they check, when they read, and what they share.

use pycandle::{DType, Device, Weights};

use crate::{folder, save, write};

fn open(tensors: &[(&str, &[usize], &[f32])]) -> (tempfile::TempDir, Weights) {
    let dir = folder();
    let path = dir.path().join("model.safetensors");
    save(&path, tensors);
    let weights = Weights::open(path).expect("a good file");
    (dir, weights)
}

#[test]
fn handles_check_name_and_shape_from_headers() {
    let (_dir, weights) = open(&[("a.weight", &[2, 1], &[1., 2.])]);
    let scope = weights.scope(DType::F32, &Device::Cpu).pp("a");
    let text = scope
        .param("bias", 2)
        .expect_err("a missing key")
        .to_string();
    assert!(
        text.contains("model.safetensors: `a.bias` is missing"),
        "{text}"
    );
    let text = scope
        .param("weight", (1, 2))
        .expect_err("a wrong shape")
        .to_string();
    assert!(
        text.contains("`a.weight` is [2, 1], the model has [1, 2]"),
        "{text}"
    );
    let param = scope.param("weight", (2, 1)).expect("a handle");
    assert!(!param.is_loaded());
    assert_eq!(scope.root().path().as_str(), "");
}

#[test]
fn clones_ties_and_models_share_one_tensor() {
    let (_dir, weights) = open(&[("embed.weight", &[2], &[1., 2.])]);
    let ties = [("head.weight", "lm.weight"), ("lm.weight", "embed.weight")];
    let scope = weights.scope(DType::F32, &Device::Cpu).tied(&ties);
    let embed = scope.pp("embed").param("weight", 2).expect("a handle");
    let head = scope.pp("head").param("weight", 2).expect("a tied handle");
    assert_eq!(head.key(), "embed.weight");
    let tensor = embed.tensor().expect("a tensor");
    assert!(head.is_loaded() && embed.clone().is_loaded());
    assert_eq!(head.tensor().expect("a tensor").id(), tensor.id());
    // Another dtype is another tensor.
    let half = weights
        .scope(DType::BF16, &Device::Cpu)
        .param("embed.weight", 2);
    assert!(!half.expect("a handle").is_loaded());
    // The last handle frees it.
    drop((embed, head, tensor));
    let again = scope.pp("embed").param("weight", 2).expect("a handle");
    assert!(!again.is_loaded());
}

#[test]
fn tied_names_that_are_both_there_are_one_tensor() {
    let tensors: [(&str, &[usize], &[f32]); 2] = [("a", &[2], &[1., 2.]), ("b", &[2], &[1., 2.])];
    let (_dir, weights) = open(&tensors);
    let scope = weights.scope(DType::F32, &Device::Cpu).tied(&[("a", "b")]);
    let a = scope.param("a", 2).expect("a handle");
    let b = scope.param("b", 2).expect("a handle");
    assert_eq!((a.key(), b.key()), ("b", "b"));
    let tensor = a.tensor().expect("equal twins");
    assert!(b.is_loaded());
    assert_eq!(b.tensor().expect("a tensor").id(), tensor.id());
    // A tie in a circle ends.
    let scope = scope.tied(&[("x", "y"), ("y", "x")]);
    assert!(scope.param("x", 1).is_err() && !scope.contains("y") && scope.contains("a"));
}

#[test]
fn tied_names_that_differ_are_refused_when_read() {
    let tensors: [(&str, &[usize], &[f32]); 3] =
        [("a", &[1], &[1.]), ("b", &[1], &[2.]), ("c", &[1], &[2.])];
    let (_dir, weights) = open(&tensors);
    let scope = weights.scope(DType::F32, &Device::Cpu);
    let ties = [("a", "c"), ("b", "c")];
    // Headers agree, so nothing is read and nothing is wrong yet.
    let a = scope.tied(&ties).param("a", 1).expect("a handle");
    let loaded = scope.param("c", 1).expect("a handle");
    loaded.tensor().expect("an untied handle");
    assert!(a.is_loaded());
    for _ in 0..2 {
        let text = a.tensor().expect_err("unequal twins").to_string();
        let says = "model.safetensors: `c` and `a` are one tensor in the trace and differ here";
        assert!(text.contains(says), "{text}");
    }
    let b = scope.tied(&[("b", "c")]).param("b", 1).expect("a handle");
    b.tensor().expect("equal twins");
}

#[test]
fn tied_names_of_other_shapes_or_dtypes_are_refused_from_headers() {
    let (_dir, weights) = open(&[("a", &[2], &[1., 1.]), ("b", &[1], &[1.])]);
    let scope = weights.scope(DType::F32, &Device::Cpu).tied(&[("a", "b")]);
    let text = scope.param("a", 1).expect_err("two shapes").to_string();
    assert!(text.contains("(F32 [1] and F32 [2])"), "{text}");

    let dir = folder();
    let path = dir.path().join("model.safetensors");
    let json = r#"{"a":{"dtype":"F16","shape":[1],"data_offsets":[0,2]},"b":{"dtype":"BF16","shape":[1],"data_offsets":[2,4]}}"#;
    write(&path, json, &[0; 4]);
    let weights = Weights::open(&path).expect("a good file");
    let scope = weights.scope(DType::F32, &Device::Cpu).tied(&[("a", "b")]);
    let text = scope.param("b", 1).expect_err("two dtypes").to_string();
    assert!(text.contains("`b` and `a` are one tensor"), "{text}");
    assert!(text.contains("(BF16 [1] and F16 [1])"), "{text}");
}

#[test]
fn integers_keep_their_kind_and_unloadable_dtypes_are_refused() {
    let dir = folder();
    let path = dir.path().join("model.safetensors");
    let json = r#"{"i":{"dtype":"I32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"BOOL","shape":[2],"data_offsets":[4,6]},"c":{"dtype":"C64","shape":[1],"data_offsets":[6,14]}}"#;
    write(&path, json, &[5, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    let weights = Weights::open(&path).expect("a good file");
    let scope = weights.scope(DType::BF16, &Device::Cpu);
    let get = |name, len: usize| {
        scope
            .param(name, len)
            .and_then(|p| p.tensor())
            .expect("a tensor")
    };
    assert_eq!(get("i", 1).to_vec1::<i64>().expect("I64"), [5]);
    assert_eq!(get("b", 2).to_vec1::<u8>().expect("U8"), [0, 1]);
    let text = scope.param("c", 1).expect_err("complex").to_string();
    assert!(
        text.contains("`c` is C64, which cannot be loaded as BF16"),
        "{text}"
    );
}

#[test]
fn threads_that_ask_at_once_get_one_tensor() {
    let values: Vec<f32> = (0..100_000).map(|i| i as f32).collect();
    let (_dir, weights) = open(&[("a", &[100_000], &values)]);
    let param = weights
        .scope(DType::F32, &Device::Cpu)
        .param("a", 100_000)
        .expect("a handle");
    let ids: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| param.tensor().expect("a tensor").id()))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]));
}

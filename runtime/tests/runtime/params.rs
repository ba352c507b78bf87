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
fn a_name_that_is_there_wins_over_its_twin() {
    let (_dir, weights) = open(&[("a", &[1], &[1.]), ("b", &[1], &[2.])]);
    let scope = weights.scope(DType::F32, &Device::Cpu).tied(&[("a", "b")]);
    assert_eq!(scope.param("a", 1).expect("a handle").key(), "a");
    // A tie in a circle ends.
    let scope = scope.tied(&[("x", "y"), ("y", "x")]);
    assert!(scope.param("x", 1).is_err());
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

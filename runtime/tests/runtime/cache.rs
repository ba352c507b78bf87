//! Caches: what an append returns, and that no earlier view ever changes.

use proptest::prelude::*;
use pycandle::{CacheTensor, DType, Device, KvCache, Tensor};

/// `[1, 2, n, 1]` of values that tell position and step.
fn step(from: f32, n: usize) -> Tensor {
    let values: Vec<f32> = (0..2 * n).map(|i| from + i as f32).collect();
    Tensor::from_vec(values, (1, 2, n, 1), &Device::Cpu).expect("a tensor")
}

fn values(tensor: &Tensor) -> Vec<f32> {
    let flat = tensor.flatten_all().expect("a flat tensor");
    flat.to_vec1().expect("a vector")
}

#[test]
fn appending_is_concatenating() {
    let mut cache = CacheTensor::new(2);
    let mut expected: Option<Tensor> = None;
    for (i, n) in [3, 1, 1, 20, 1, 0, 64].into_iter().enumerate() {
        let new = step(100. * i as f32, n);
        let whole = match &expected {
            Some(past) => Tensor::cat(&[past, &new], 2).expect("a tensor"),
            None => new.clone(),
        };
        let view = cache.append(&new).expect("an append");
        assert_eq!(view.dims(), whole.dims());
        assert_eq!(values(&view), values(&whole));
        assert_eq!(cache.len(), whole.dims()[2]);
        expected = Some(whole);
    }
}

#[test]
fn a_decode_step_does_not_copy_the_cache() {
    let mut cache = CacheTensor::new(2);
    let new = Tensor::zeros((1, 8, 1, 64), DType::F32, &Device::Cpu).expect("a tensor");
    let mut moves = 0;
    let mut buffer = None;
    for _ in 0..4096 {
        let view = cache.append(&new).expect("an append");
        let strides = view.stride().to_vec();
        if buffer.replace(strides.clone()) != Some(strides) {
            moves += 1;
        }
    }
    // 16, 32, …, 4096
    assert_eq!(moves, 9);
}

#[test]
fn earlier_views_never_change() {
    let mut cache = CacheTensor::new(2);
    let first = cache.append(&step(0., 4)).expect("an append");
    let before = values(&first);
    cache.truncate(2);
    assert_eq!(cache.len(), 2);
    let second = cache.append(&step(50., 1)).expect("an append");
    assert_eq!(values(&second), [0., 1., 50., 4., 5., 51.]);
    assert_eq!(values(&first), before);
    cache.reset();
    assert!(cache.tensor().is_none());
    cache.append(&step(90., 3)).expect("an append");
    assert_eq!(values(&first), before);
    assert_eq!(values(&second), [0., 1., 50., 4., 5., 51.]);
}

#[test]
fn clones_go_their_own_way() {
    let mut one = CacheTensor::new(2);
    one.append(&step(0., 2)).expect("an append");
    let mut two = one.clone();
    let of_one = one.append(&step(10., 1)).expect("an append");
    let of_two = two.append(&step(20., 1)).expect("an append");
    assert_eq!(values(&of_one), [0., 1., 10., 2., 3., 11.]);
    assert_eq!(values(&of_two), [0., 1., 20., 2., 3., 21.]);
    assert_eq!(values(&one.tensor().expect("content")), values(&of_one));
}

#[test]
fn a_set_tensor_is_not_written_to() {
    let mut cache = CacheTensor::new(2);
    let theirs = step(0., 2);
    cache
        .set(theirs.clone())
        .expect("a tensor with that dimension");
    assert_eq!(cache.len(), 2);
    cache.truncate(1);
    cache.append(&step(10., 1)).expect("an append");
    assert_eq!(values(&theirs), [0., 1., 2., 3.]);
    assert_eq!(
        values(&cache.tensor().expect("content")),
        [0., 10., 2., 11.]
    );
}

#[test]
fn another_batch_dtype_or_rank_is_an_error() {
    let mut cache = CacheTensor::new(2);
    cache.append(&step(0., 2)).expect("an append");
    let zeros = |dims: &[usize], dtype| Tensor::zeros(dims, dtype, &Device::Cpu).expect("zeros");
    for other in [
        zeros(&[2, 2, 1, 1], DType::F32),
        zeros(&[1, 2, 1, 1], DType::F16),
        zeros(&[1, 2, 1], DType::F32),
    ] {
        let text = cache.append(&other).expect_err("a mismatch").to_string();
        assert!(
            text.contains("cannot append") && text.contains("[1, 2, 2, 1]"),
            "{text}"
        );
    }
    assert!(CacheTensor::new(4).append(&step(0., 1)).is_err());
    assert_eq!(cache.len(), 2);
}

#[test]
fn a_model_cache_keeps_its_layers_together() {
    let mut cache = KvCache::new(&[("key", 2), ("value", 2)], 2);
    for layer in 0..2 {
        for slot in 0..2 {
            let slot = cache.layer(layer).slot_mut(slot);
            slot.append(&step(0., 5)).expect("an append");
        }
    }
    cache.truncate(3);
    assert_eq!((cache.len(), cache.layer(1).slot(1).len()), (3, 3));
    let copy = cache.clone();
    cache.reset();
    assert!(cache.is_empty() && copy.len() == 3);
}

#[derive(Debug, Clone)]
enum Move {
    Append(usize),
    Truncate(usize),
    Reset,
    Fork,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        4 => (0usize..9).prop_map(Move::Append),
        2 => (0usize..30).prop_map(Move::Truncate),
        1 => Just(Move::Reset),
        1 => Just(Move::Fork),
    ];
    prop::collection::vec(one, 1..40)
}

proptest! {
    /// Against a plain list, every view ever returned checked at the end.
    #[test]
    fn any_history_is_that_of_a_list(moves in moves()) {
        let mut cache = CacheTensor::new(0);
        let mut list: Vec<f32> = Vec::new();
        let mut others = Vec::new();
        let mut views = Vec::new();
        for (i, next) in moves.into_iter().enumerate() {
            match next {
                Move::Append(n) => {
                    let new: Vec<f32> = (0..n).map(|j| (100 * i + j) as f32).collect();
                    list.extend(&new);
                    let new = Tensor::from_vec(new, n, &Device::Cpu).expect("a tensor");
                    views.push((cache.append(&new).expect("an append"), list.clone()));
                }
                Move::Truncate(n) => {
                    cache.truncate(n);
                    list.truncate(n);
                }
                Move::Reset => {
                    cache.reset();
                    list.clear();
                }
                Move::Fork => others.push((cache.clone(), list.clone())),
            }
            prop_assert_eq!(cache.len(), list.len());
        }
        for (mut other, mut content) in others {
            content.push(-1.0);
            let new = Tensor::new(&[-1f32], &Device::Cpu).expect("a tensor");
            views.push((other.append(&new).expect("an append"), content));
        }
        for (view, content) in views {
            prop_assert_eq!(values(&view), content);
        }
    }
}

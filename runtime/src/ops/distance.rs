//! Distances and angles between vectors.

use candle_core::{Tensor, WithDType};

use super::Result;
use super::composed::widened;
use super::elementwise::{div, float_only, mul, sub};
use super::functions::clamp;
use super::map::{always_chunks, same_dtype};
use super::memory::{fail, on_cpu, read, tensor, with_any, written};
use super::reduce::{sum, vector_norm};
use super::scalar::add_scalar;
use super::walk::{broadcast_shape, expand_to};

/// The `p`-norm of the difference of every row of `a` and every row of `b`: `[.., n, k]` and
/// `[.., m, k]` give `[.., n, m]`. (`aten.cdist`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let a = Tensor::new(&[[0f32, 0.], [3., 4.]], &Device::Cpu)?;
/// let b = Tensor::new(&[[3f32, 4.]], &Device::Cpu)?;
/// assert_eq!(ops::cdist(&a, &b, 2.0)?.to_vec2::<f32>()?, [[5.], [0.]]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn cdist(a: &Tensor, b: &Tensor, p: f64) -> Result<Tensor> {
    float_only("cdist", a)?;
    same_dtype("cdist", a, b)?;
    let (&[ref batch @ .., n, k], &[ref other @ .., m, l]) = (a.dims(), b.dims()) else {
        fail!("cdist: {:?} and {:?}", a.dims(), b.dims());
    };
    if k != l || p.is_nan() || p < 0.0 {
        fail!("cdist: {:?} and {:?} with p = {p}", a.dims(), b.dims());
    }
    let batch = broadcast_shape("cdist", batch, other)?;
    let a = expand_to(a, &[&batch[..], &[n, k]].concat())?;
    let b = expand_to(b, &[&batch[..], &[m, k]].concat())?;
    let shape = [&batch[..], &[n, m]].concat();
    on_cpu(&[&a, &b], |inputs| {
        with_any!(a.dtype(), "cdist", T => read::<T, _>(inputs[0], |a| {
            read::<T, _>(inputs[1], |b| {
                let out = written(shape.iter().product(), |out: &mut [T]| {
                    always_chunks(out, m.max(1), &|start, out: &mut [T]| {
                        let row = start / m;
                        let from = &a[row * k..][..k];
                        for (j, to) in out.iter_mut().enumerate() {
                            let other = (row / n * m + j) * k;
                            *to = T::from_f64(distance(from, &b[other..][..k], p));
                        }
                    });
                });
                tensor(out, &shape[..])
            })
        }))
    })
}

fn distance<T: WithDType>(a: &[T], b: &[T], p: f64) -> f64 {
    let apart = a
        .iter()
        .zip(b)
        .map(|(a, b)| (a.to_f64() - b.to_f64()).abs());
    match p {
        0.0 => apart.filter(|&d| d != 0.0).count() as f64,
        1.0 => apart.sum(),
        2.0 => apart.map(|d| d * d).sum::<f64>().sqrt(),
        f64::INFINITY => apart.fold(0.0, |a, b| if a.is_nan() || a > b { a } else { b }),
        _ => apart.map(|d| d.powf(p)).sum::<f64>().powf(1.0 / p),
    }
}

/// The cosine of the angle between vectors along a dimension; a norm below `eps` counts as that.
/// Half types in `f32`, rounded once. (`aten.cosine_similarity`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let a = Tensor::new(&[[3f32, 0.], [1., 0.]], &Device::Cpu)?;
/// let b = Tensor::new(&[[-2f32, 0.], [0., 4.]], &Device::Cpu)?;
/// assert_eq!(ops::cosine_similarity(&a, &b, 1, 1e-8)?.to_vec1::<f32>()?, [-1., 0.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn cosine_similarity(a: &Tensor, b: &Tensor, dim: usize, eps: f64) -> Result<Tensor> {
    widened([a, b], |[a, b]| {
        let shape = broadcast_shape("cosine_similarity", a.dims(), b.dims())?;
        let unit = |x: &Tensor| {
            let x = expand_to(x, &shape)?;
            let norm = vector_norm(&x, 2.0, &[dim], true)?;
            div(&x, &clamp(&norm, Some(eps), None)?)
        };
        sum(&mul(&unit(a)?, &unit(b)?)?, &[dim], false)
    })
}

/// The `p`-norm of `a - b + eps` over the last dimension. (`aten.pairwise_distance`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let a = Tensor::new(&[[3f64, 0.]], &Device::Cpu)?;
/// let b = Tensor::new(&[[0f64, 4.]], &Device::Cpu)?;
/// assert_eq!(ops::pairwise_distance(&a, &b, 2.0, 0.0, false)?.to_vec1::<f64>()?, [5.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn pairwise_distance(
    a: &Tensor,
    b: &Tensor,
    p: f64,
    eps: f64,
    keepdim: bool,
) -> Result<Tensor> {
    widened([a, b], |[a, b]| {
        let apart = add_scalar(&sub(a, b)?, eps)?;
        let Some(last) = apart.rank().checked_sub(1) else {
            fail!("pairwise_distance: the tensors have no dimension");
        };
        vector_norm(&apart, p, &[last], keepdim)
    })
}

//! Attention, rotary embedding and the masks between them.

use candle_core::{DType, Device, Tensor};

use super::Result;
use super::compare::where_;
use super::create::full;
use super::elementwise::{add, mul};
use super::flash;
use super::functions::neg;
use super::isa::{Isa, Kernel, dispatch};
use super::linalg::matmul;
use super::map::{always_chunks, same_dtype};
use super::memory::{
    Narrow, PARALLEL, fail, is_float, is_half, on_cpu, tensor, to_i64, with_narrow, with_storage,
    written,
};
use super::scalar::mul_scalar;
use super::scan::softmax;
use super::shape::cat;
use super::walk::{Plan, broadcast_shape, expand_to};

/// Scaled dot-product attention without dropout:
/// `softmax(q k^T scale + mask) v`. (`aten.scaled_dot_product_attention`)
///
/// `q` is `[.., heads, queries, d]`, `k` `[.., kv heads, keys, d]`, `v` `[.., kv heads, keys, d_v]`;
/// the heads may be a multiple of the kv heads, each serving as many heads in a row, without being
/// repeated in memory. The result is `[.., heads, queries, d_v]`.
///
/// The mask broadcasts to `[.., heads, queries, keys]`: a boolean one (`U8`) keeps where it is 1, a
/// floating-point one is added. `is_causal` keeps key `j` for query `i` where `j <= i`, and
/// excludes a mask. The scale is `1 / sqrt d` unless given. A query that may see no key gives zeros,
/// as in PyTorch. Scores, softmax and sums are in `f32` for half types, rounded once.
///
/// ```
/// # use pycandle::{DType, Device, Tensor, ops};
/// let q = Tensor::ones((1, 4, 3, 8), DType::F32, &Device::Cpu)?; // four heads, three queries
/// let k = Tensor::ones((1, 2, 5, 8), DType::F32, &Device::Cpu)?; // each of two serves two heads
/// let v = Tensor::full(0.5f32, (1, 2, 5, 6), &Device::Cpu)?;
/// let out = ops::sdpa(&q, &k, &v, None, true, None)?;
/// assert_eq!(out.dims(), [1, 4, 3, 6]);
/// assert_eq!(out.max_all()?.to_scalar::<f32>()?, 0.5); // a mean of equal rows
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn sdpa(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    mask: Option<&Tensor>,
    is_causal: bool,
    scale: Option<f64>,
) -> Result<Tensor> {
    let call = Attention::new(q, k, v, mask, is_causal, scale)?;
    let out = if q.device().is_cpu() && q.dtype() != DType::F64 && !call.is_empty() {
        with_narrow!(q.dtype(), "sdpa", T => flash::attend::<T>(&call))?
    } else {
        call.composed()?
    };
    let rank = q.rank();
    match rank {
        4 => Ok(out),
        _ => {
            let shape = [&q.dims()[..rank - 1], &v.dims()[rank - 1..]].concat();
            Ok(out.reshape(shape)?)
        }
    }
}

/// The arguments of [`sdpa`], checked, in four dimensions.
pub(super) struct Attention {
    /// `[batch, heads, queries, d]`
    pub(super) q: Tensor,
    /// `[batch, kv heads, keys, d]`
    pub(super) k: Tensor,
    /// `[batch, kv heads, keys, d_v]`
    pub(super) v: Tensor,
    /// Expanded to `[batch, heads, queries, keys]`; boolean, or of the dtype of `q`.
    pub(super) mask: Option<Tensor>,
    pub(super) is_causal: bool,
    pub(super) scale: f64,
}

impl Attention {
    fn new(
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        mask: Option<&Tensor>,
        is_causal: bool,
        scale: Option<f64>,
    ) -> Result<Self> {
        same_dtype("sdpa", q, k)?;
        same_dtype("sdpa", q, v)?;
        if !is_float(q.dtype()) {
            fail!("sdpa: expected floating point, got {:?}", q.dtype());
        }
        if mask.is_some() && is_causal {
            fail!("sdpa: a mask and is_causal exclude each other");
        }
        let (rank, rank_k, rank_v) = (q.rank(), k.rank(), v.rank());
        if rank < 2 || rank_k != rank || rank_v != rank {
            fail!(
                "sdpa: shapes {:?}, {:?} and {:?}",
                q.dims(),
                k.dims(),
                v.dims()
            );
        }
        // The batch is merged below, so its dimensions are compared here, one by one.
        let batch = |x: &Tensor| x.dims()[..rank.saturating_sub(3)].to_vec();
        if batch(q) != batch(k) || batch(q) != batch(v) {
            fail!(
                "sdpa: the batches of {:?}, {:?} and {:?} differ",
                q.dims(),
                k.dims(),
                v.dims()
            );
        }
        let shape = four("sdpa", q)?;
        let full_mask = match mask {
            None => None,
            Some(mask) => {
                let whole = [&q.dims()[..rank - 1], &k.dims()[rank - 2..rank - 1]].concat();
                let mask = match mask.dtype() {
                    DType::U8 => mask.clone(),
                    _ => super::cast::to_dtype(mask, q.dtype())?,
                };
                if broadcast_shape("sdpa", mask.dims(), &whole)? != whole {
                    fail!("sdpa: a mask of {:?} for scores of {whole:?}", mask.dims());
                }
                let mask = if mask.device().same_device(q.device()) {
                    mask
                } else {
                    mask.to_device(q.device())?
                };
                Some(four_view(&expand_to(&mask, &whole)?)?)
            }
        };
        let (q, k, v) = (four_view(q)?, four_view(k)?, four_view(v)?);
        let [batch, heads, _, d] = shape;
        let (kd, vd) = (k.dims(), v.dims());
        let fits =
            kd[0] == batch && kd[..3] == vd[..3] && kd[3] == d && kd[1] > 0 && heads % kd[1] == 0;
        if !fits {
            fail!(
                "sdpa: shapes {:?}, {:?} and {:?} do not fit",
                q.dims(),
                kd,
                vd
            );
        }
        let scale = scale.unwrap_or(1.0 / (d as f64).sqrt());
        Ok(Self {
            q,
            k,
            v,
            mask: full_mask,
            is_causal,
            scale,
        })
    }

    fn is_empty(&self) -> bool {
        [&self.q, &self.k, &self.v]
            .iter()
            .any(|t| t.elem_count() == 0)
    }

    /// The definition, by matrix products: for other devices, for doubles and for empty tensors.
    fn composed(&self) -> Result<Tensor> {
        let (dtype, device) = (self.q.dtype(), self.q.device());
        let [batch, heads, queries, d] = four("sdpa", &self.q)?;
        let [_, kv_heads, keys, d_v] = four("sdpa", &self.v)?;
        let widen = |t: &Tensor| -> Result<Tensor> {
            Ok(if is_half(dtype) {
                t.to_dtype(DType::F32)?
            } else {
                t.clone()
            })
        };
        let (q, k, v) = (widen(&self.q)?, widen(&self.k)?, widen(&self.v)?);
        // The heads that share keys become more rows of one product.
        let rows = heads / kv_heads * queries;
        let q = mul_scalar(&q, self.scale)?.reshape((batch, kv_heads, rows, d))?;
        let scores = matmul(&q, &k.transpose(2, 3)?)?.reshape((batch, heads, queries, keys))?;
        let lowest = full(f64::NEG_INFINITY, &[], scores.dtype(), device)?;
        let scores = match &self.mask {
            Some(mask) if mask.dtype() == DType::U8 => where_(mask, &scores, &lowest)?,
            Some(mask) => add(&scores, &widen(mask)?)?,
            None if self.is_causal => where_(
                &causal_mask(queries, keys, 0, None, None, device)?,
                &scores,
                &lowest,
            )?,
            None => scores,
        };
        if keys == 0 {
            return full(0.0, &[batch, heads, queries, d_v], dtype, device);
        }
        // A row without a key would be NaN: all of its scores are minus infinity.
        let hidden = super::compare::eq(&super::reduce::amax(&scores, &[3], true)?, &lowest)?;
        let zero = full(0.0, &[], scores.dtype(), device)?;
        let weights = where_(&hidden, &zero, &softmax(&scores, 3)?)?;
        let out = matmul(&weights.reshape((batch, kv_heads, rows, keys))?, &v)?;
        super::cast::to_dtype(&out.reshape((batch, heads, queries, d_v))?, dtype)
    }
}

fn four(op: &str, x: &Tensor) -> Result<[usize; 4]> {
    match *x.dims() {
        [a, b] => Ok([1, 1, a, b]),
        [h, a, b] => Ok([1, h, a, b]),
        [ref batch @ .., h, a, b] => Ok([batch.iter().product(), h, a, b]),
        _ => fail!("{op}: shape {:?}", x.dims()),
    }
}

fn four_view(x: &Tensor) -> Result<Tensor> {
    if x.rank() == 4 {
        Ok(x.clone())
    } else {
        Ok(x.reshape(&four("sdpa", x)?[..])?)
    }
}

/// Rotary embedding: `x * cos + cat(-x2, x1) * sin`, where `x1` and `x2` are the halves of the last
/// dimension. `cos` and `sin` have its full width and broadcast to `x`. (`apply_rotary_pos_emb` of
/// the modelling code of Llama and its relatives.)
///
/// Half types are rounded after each product, as the separate operations would be.
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[1f32, 2., 3., 4.], &Device::Cpu)?;
/// let (cos, sin) = (x.zeros_like()?, x.ones_like()?); // a quarter turn
/// assert_eq!(ops::rope(&x, &cos, &sin)?.to_vec1::<f32>()?, [-3., -4., 1., 2.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn rope(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    same_dtype("rope", x, cos)?;
    same_dtype("rope", x, sin)?;
    let width = x.dims().last().copied().unwrap_or(0);
    if width % 2 != 0 || width == 0 {
        fail!("rope: the last dimension of {:?} has no halves", x.dims());
    }
    for table in [cos, sin] {
        if broadcast_shape("rope", x.dims(), table.dims())? != x.dims() {
            fail!(
                "rope: cos {:?} and sin {:?} for {:?}",
                cos.dims(),
                sin.dims(),
                x.dims()
            );
        }
    }
    if x.dtype() == DType::F64 || !x.device().is_cpu() {
        return rope_composed(x, cos, sin, width);
    }
    on_cpu(
        &[x, cos, sin],
        |inputs| with_narrow!(x.dtype(), "rope", T => rope_rows::<T>(inputs[0], inputs[1], inputs[2], width)),
    )
}

fn rope_composed(x: &Tensor, cos: &Tensor, sin: &Tensor, width: usize) -> Result<Tensor> {
    let (last, half) = (x.rank() - 1, width / 2);
    let (x1, x2) = (x.narrow(last, 0, half)?, x.narrow(last, half, half)?);
    let rotated = cat(&[&neg(&x2)?, &x1], last)?;
    add(&mul(x, cos)?, &mul(&rotated, sin)?)
}

fn rope_rows<T: Narrow>(x: &Tensor, cos: &Tensor, sin: &Tensor, width: usize) -> Result<Tensor> {
    let rows = |t: &Tensor| -> Result<(Tensor, Tensor)> {
        let t = expand_to(t, x.dims())?;
        let last = t.rank() - 1;
        let t = if t.stride()[last] == 1 {
            t
        } else {
            t.contiguous()?
        };
        Ok((t.narrow(last, 0, 1)?, t))
    };
    let ((x0, x), (c0, cos), (s0, sin)) = (rows(x)?, rows(cos)?, rows(sin)?);
    let plan = Plan::new([&x0, &c0, &s0]);
    with_storage::<T, _>(&x, |xs, _| {
        with_storage::<T, _>(&cos, |cs, _| {
            with_storage::<T, _>(&sin, |ss, _| {
                let out = written(x.elem_count(), |out: &mut [T]| {
                    let task = |start: usize, out: &mut [T]| {
                        let plan = &plan;
                        dispatch(Rope {
                            plan,
                            first: start / width,
                            width,
                            xs,
                            cs,
                            ss,
                            out,
                        });
                    };
                    if out.len() <= PARALLEL {
                        task(0, out);
                    } else {
                        always_chunks(out, (8192 / width).max(1) * width, &task);
                    }
                });
                tensor(out, x.dims())
            })
        })
    })
}

struct Rope<'a, T> {
    plan: &'a Plan<3>,
    first: usize,
    width: usize,
    xs: &'a [T],
    cs: &'a [T],
    ss: &'a [T],
    out: &'a mut [T],
}

impl<T: Narrow> Kernel for Rope<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<S: Isa>(self) {
        let Self {
            plan,
            first,
            width,
            xs,
            cs,
            ss,
            out,
        } = self;
        let mut wide = vec![0.0f32; 4 * width];
        let (x_wide, rest) = wide.split_at_mut(width);
        let (c_wide, rest) = rest.split_at_mut(width);
        let (s_wide, rotated) = rest.split_at_mut(width);
        plan.runs(
            first..first + out.len() / width,
            1,
            &mut |row, _, [x, c, s]| {
                let x = T::load(&xs[x..x + width], x_wide);
                let c = T::load(&cs[c..c + width], c_wide);
                let s = T::load(&ss[s..s + width], s_wide);
                let half = width / 2;
                turn::<T>(
                    &x[..half],
                    &x[half..],
                    -1.0,
                    &c[..half],
                    &s[..half],
                    &mut rotated[..half],
                );
                turn::<T>(
                    &x[half..],
                    &x[..half],
                    1.0,
                    &c[half..],
                    &s[half..],
                    &mut rotated[half..],
                );
                T::store(rotated, &mut out[row * width..(row + 1) * width]);
            },
        );
    }
}

#[inline(always)]
fn turn<T: Narrow>(x: &[f32], other: &[f32], sign: f32, cos: &[f32], sin: &[f32], out: &mut [f32]) {
    for i in 0..out.len() {
        let straight = T::nearest(x[i] * cos[i]).wide();
        let turned = T::nearest(sign * other[i] * sin[i]).wide();
        out[i] = straight + turned;
    }
}

/// The mask of causal attention, boolean, `[batch, 1, query_len, kv_len]`, or `[1, ..]` without
/// padding.
///
/// Query `i` stands at position `past + i` and sees key `j` where `j <= past + i`, `j` is less than
/// `window` positions back, and `padding[batch][j]` (of `[batch, kv_len]`) is not zero.
///
/// ```
/// # use pycandle::{Device, ops};
/// let mask = ops::causal_mask(2, 3, 1, None, None, &Device::Cpu)?; // one token is cached
/// assert_eq!(mask.dims(), [1, 1, 2, 3]);
/// assert_eq!(mask.squeeze(0)?.squeeze(0)?.to_vec2::<u8>()?, [[1, 1, 0], [1, 1, 1]]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn causal_mask(
    query_len: usize,
    kv_len: usize,
    past: usize,
    window: Option<usize>,
    padding: Option<&Tensor>,
    device: &Device,
) -> Result<Tensor> {
    let padding = match padding {
        None => None,
        Some(padding) if padding.rank() == 2 && padding.dims()[1] == kv_len => {
            Some(to_i64(&super::compare::to_bool(padding)?)?)
        }
        Some(other) => {
            fail!(
                "causal_mask: padding of {:?} for [batch, {kv_len}]",
                other.dims()
            )
        }
    };
    let batch = padding.as_ref().map_or(1, |p| p.len() / kv_len.max(1));
    let mut mask = vec![0u8; batch * query_len * kv_len];
    for (row, out) in mask.chunks_mut(kv_len.max(1)).enumerate() {
        let (b, position) = (row / query_len, past + row % query_len);
        let end = (position + 1).min(kv_len);
        let start = window
            .map_or(0, |w| (position + 1).saturating_sub(w))
            .min(end);
        out[start..end].fill(1);
        if let Some(padding) = &padding {
            for (to, &keep) in out.iter_mut().zip(&padding[b * kv_len..(b + 1) * kv_len]) {
                *to &= keep as u8;
            }
        }
    }
    Ok(tensor(mask, &[batch, 1, query_len, kv_len][..])?.to_device(device)?)
}

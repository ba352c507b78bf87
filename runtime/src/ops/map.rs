//! Elementwise loops: one or two inputs, any dtype, broadcasting, vectorised and in parallel.

use candle_core::{DType, Tensor, WithDType};
use half::{bf16, f16};
use rayon::prelude::*;

use super::Result;
use super::isa::{Isa, Kernel, dispatch};
use super::memory::{BLOCK, Narrow, PARALLEL, fail, on_cpu, read, tensor, with_storage, written};
use super::walk::{Plan, broadcast_shape, expand_to};

/// Output elements that one task computes.
const CHUNK: usize = 16 * BLOCK;

/// A function of one number. Half types go through `f32`, rounded once.
pub(super) trait Map1: Copy + Send + Sync {
    /// On single precision; `#[inline(always)]`.
    fn f32<S: Isa>(self, x: f32) -> f32;
    /// On double precision.
    fn f64(self, x: f64) -> f64;
}

/// A function of two numbers. Half types go through `f32`, rounded once.
pub(super) trait Map2: Copy + Send + Sync {
    /// For messages.
    const NAME: &'static str;
    /// On single precision, for tensors of `T`; `#[inline(always)]`.
    fn f32<S: Isa, T: Narrow>(self, a: f32, b: f32) -> f32;
    /// On double precision.
    fn f64(self, a: f64, b: f64) -> f64;
    /// On integers, wrapping; the narrower types keep the low bits.
    fn int(self, a: i64, b: i64) -> i64;
}

/// Applies `map` to every element of a float tensor.
pub(super) fn unary<M: Map1>(name: &str, x: &Tensor, map: M) -> Result<Tensor> {
    on_cpu(&[x], |inputs| {
        let x = inputs[0];
        match x.dtype() {
            DType::F32 => unary_narrow::<f32, M>(x, map),
            DType::BF16 => unary_narrow::<bf16, M>(x, map),
            DType::F16 => unary_narrow::<f16, M>(x, map),
            DType::F64 => each::<f64, f64>(x, move |v| map.f64(v)),
            other => fail!("{name}: expected floating point, got {other:?}"),
        }
    })
}

fn unary_narrow<T: Narrow, M: Map1>(x: &Tensor, map: M) -> Result<Tensor> {
    struct Piece<'a, T, M>(&'a [T], &'a mut [T], M);
    impl<T: Narrow, M: Map1> Kernel for Piece<'_, T, M> {
        type Out = ();
        #[inline(always)]
        fn run<S: Isa>(self) {
            let Piece(source, out, map) = self;
            let mut buffer = [0.0f32; BLOCK];
            T::write(out, |range, out| {
                let values = T::load(&source[range], &mut buffer);
                for (to, &from) in out.iter_mut().zip(values) {
                    *to = map.f32::<S>(from);
                }
            });
        }
    }
    read::<T, _>(x, |data| {
        let out = written(data.len(), |out| {
            chunks(out, CHUNK, |start, out| {
                dispatch(Piece(&data[start..start + out.len()], out, map));
            });
        });
        tensor(out, x.dims())
    })
}

/// Runs `f(position, chunk)` over the chunks of `out`, in parallel when there is enough of it.
pub(super) fn chunks<T: Send>(out: &mut [T], size: usize, f: impl Fn(usize, &mut [T]) + Sync) {
    if out.len() <= PARALLEL.max(size) {
        for (i, chunk) in out.chunks_mut(size).enumerate() {
            f(i * size, chunk);
        }
    } else {
        out.par_chunks_mut(size)
            .enumerate()
            .for_each(|(i, chunk)| f(i * size, chunk));
    }
}

/// As [`chunks`], in parallel whatever the length: for outputs that stand for more input.
pub(super) fn always_chunks<T: Send>(
    out: &mut [T],
    size: usize,
    f: impl Fn(usize, &mut [T]) + Sync,
) {
    out.par_chunks_mut(size)
        .enumerate()
        .for_each(|(i, chunk)| f(i * size, chunk));
}

/// Applies a plain function to every element, possibly to another type.
pub(super) fn each<T: WithDType, U: WithDType>(
    x: &Tensor,
    f: impl Fn(T) -> U + Sync,
) -> Result<Tensor> {
    read::<T, _>(x, |data| {
        let out = written(data.len(), |out| {
            chunks(out, CHUNK, |start, out| {
                for (to, &from) in out.iter_mut().zip(&data[start..]) {
                    *to = f(from);
                }
            });
        });
        tensor(out, x.dims())
    })
}

/// Applies a function that only has a scalar form, per dtype.
pub(super) fn scalar_map(
    name: &str,
    x: &Tensor,
    single: impl Fn(f32) -> f32 + Sync,
    double: impl Fn(f64) -> f64 + Sync,
) -> Result<Tensor> {
    on_cpu(&[x], |inputs| {
        let x = inputs[0];
        match x.dtype() {
            DType::F32 => each::<f32, f32>(x, single),
            DType::BF16 => each::<bf16, bf16>(x, |v| bf16::nearest(single(v.wide()))),
            DType::F16 => each::<f16, f16>(x, |v| f16::nearest(single(v.wide()))),
            DType::F64 => each::<f64, f64>(x, double),
            other => fail!("{name}: expected floating point, got {other:?}"),
        }
    })
}

/// Applies a function to every element of an integer or boolean tensor, keeping its dtype.
pub(super) fn int_map(name: &str, x: &Tensor, f: impl Fn(i64) -> i64 + Sync) -> Result<Tensor> {
    on_cpu(&[x], |inputs| {
        let x = inputs[0];
        match x.dtype() {
            DType::I64 => each::<i64, i64>(x, f),
            DType::U8 => each::<u8, u8>(x, |v| f(i64::from(v)) as u8),
            DType::U32 => each::<u32, u32>(x, |v| f(i64::from(v)) as u32),
            DType::I32 => each::<i32, i32>(x, |v| f(i64::from(v)) as i32),
            DType::I16 => each::<i16, i16>(x, |v| f(i64::from(v)) as i16),
            other => fail!("{name}: expected integers, got {other:?}"),
        }
    })
}

/// Applies `map` to two tensors of one dtype, broadcasting them.
pub(super) fn binary<M: Map2>(a: &Tensor, b: &Tensor, map: M) -> Result<Tensor> {
    same_dtype(M::NAME, a, b)?;
    on_cpu(&[a, b], |inputs| {
        let [a, b] = expanded(M::NAME, inputs[0], inputs[1])?;
        match a.dtype() {
            DType::F32 => binary_narrow::<f32, M>(&a, &b, map),
            DType::BF16 => binary_narrow::<bf16, M>(&a, &b, map),
            DType::F16 => binary_narrow::<f16, M>(&a, &b, map),
            DType::F64 => zip::<f64, f64>(&a, &b, |x, y| map.f64(x, y)),
            DType::I64 => zip::<i64, i64>(&a, &b, |x, y| map.int(x, y)),
            DType::U8 => zip::<u8, u8>(&a, &b, |x, y| map.int(x.into(), y.into()) as u8),
            DType::U32 => zip::<u32, u32>(&a, &b, |x, y| map.int(x.into(), y.into()) as u32),
            DType::I32 => zip::<i32, i32>(&a, &b, |x, y| map.int(x.into(), y.into()) as i32),
            DType::I16 => zip::<i16, i16>(&a, &b, |x, y| map.int(x.into(), y.into()) as i16),
            other => fail!("{}: unsupported dtype {other:?}", M::NAME),
        }
    })
}

pub(super) fn same_dtype(name: &str, a: &Tensor, b: &Tensor) -> Result<()> {
    if a.dtype() != b.dtype() {
        fail!("{name}: dtypes {:?} and {:?} differ", a.dtype(), b.dtype());
    }
    Ok(())
}

/// Both tensors as views of their common shape.
pub(super) fn expanded(name: &str, a: &Tensor, b: &Tensor) -> Result<[Tensor; 2]> {
    let shape = broadcast_shape(name, a.dims(), b.dims())?;
    Ok([expand_to(a, &shape)?, expand_to(b, &shape)?])
}

/// A plain function of two tensors of one shape, possibly to another type.
pub(super) fn zip<T: WithDType, U: WithDType>(
    a: &Tensor,
    b: &Tensor,
    f: impl Fn(T, T) -> U + Sync,
) -> Result<Tensor> {
    let plan = Plan::new([a, b]);
    let [sa, sb] = plan.inner();
    with_storage::<T, _>(a, |x, _| {
        with_storage::<T, _>(b, |y, _| {
            let out = written(a.elem_count(), |out: &mut [U]| {
                chunks(out, CHUNK, |start, out| {
                    plan.runs(start..start + out.len(), usize::MAX, |at, len, [oa, ob]| {
                        let out = &mut out[at..at + len];
                        if (sa, sb) == (1, 1) {
                            let (x, y) = (&x[oa..oa + len], &y[ob..ob + len]);
                            for ((to, &x), &y) in out.iter_mut().zip(x).zip(y) {
                                *to = f(x, y);
                            }
                        } else {
                            for (i, to) in out.iter_mut().enumerate() {
                                *to = f(x[oa + i * sa], y[ob + i * sb]);
                            }
                        }
                    });
                });
            });
            tensor(out, a.dims())
        })
    })
}

fn binary_narrow<T: Narrow, M: Map2>(a: &Tensor, b: &Tensor, map: M) -> Result<Tensor> {
    let plan = Plan::new([a, b]);
    with_storage::<T, _>(a, |x, _| {
        with_storage::<T, _>(b, |y, _| {
            let out = written(a.elem_count(), |out| {
                chunks(out, CHUNK, |start, out| {
                    dispatch(Pair {
                        plan: &plan,
                        start,
                        x,
                        y,
                        out,
                        map,
                    });
                });
            });
            tensor(out, a.dims())
        })
    })
}

struct Pair<'a, T, M> {
    plan: &'a Plan<2>,
    start: usize,
    x: &'a [T],
    y: &'a [T],
    out: &'a mut [T],
    map: M,
}

impl<T: Narrow, M: Map2> Kernel for Pair<'_, T, M> {
    type Out = ();
    #[inline(always)]
    fn run<S: Isa>(self) {
        let Pair {
            plan,
            start,
            x,
            y,
            out,
            map,
        } = self;
        let [sx, sy] = plan.inner();
        let (mut x_buffer, mut y_buffer) = ([0.0f32; BLOCK], [0.0f32; BLOCK]);
        plan.runs(start..start + out.len(), BLOCK, |at, len, [ox, oy]| {
            T::write(&mut out[at..at + len], |_, out| match (sx, sy) {
                (_, 0) if sx != 0 => {
                    let (x, y) = (row(x, ox, sx, len, &mut x_buffer), y[oy].wide());
                    for (to, &x) in out.iter_mut().zip(x) {
                        *to = map.f32::<S, T>(x, y);
                    }
                }
                (0, _) => {
                    let (x, y) = (x[ox].wide(), row(y, oy, sy, len, &mut y_buffer));
                    for (to, &y) in out.iter_mut().zip(y) {
                        *to = map.f32::<S, T>(x, y);
                    }
                }
                _ => {
                    let x = row(x, ox, sx, len, &mut x_buffer);
                    let y = row(y, oy, sy, len, &mut y_buffer);
                    for ((to, &x), &y) in out.iter_mut().zip(x).zip(y) {
                        *to = map.f32::<S, T>(x, y);
                    }
                }
            });
        });
    }
}

/// `len` elements from `offset` on, `stride` apart, as `f32`.
#[inline(always)]
fn row<'a, T: Narrow>(
    data: &'a [T],
    offset: usize,
    stride: usize,
    len: usize,
    buffer: &'a mut [f32; BLOCK],
) -> &'a [f32] {
    if stride == 1 {
        return T::load(&data[offset..offset + len], buffer);
    }
    for (i, to) in buffer[..len].iter_mut().enumerate() {
        *to = data[offset + i * stride].wide();
    }
    &buffer[..len]
}

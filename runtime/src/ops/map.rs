//! Elementwise loops: one or two inputs, any dtype, broadcasting, vectorised and in parallel.
//!
//! A function is compiled once per instruction set, over blocks of `f32`; the loops around it are
//! compiled once per dtype and call it through a pointer, which keeps the crate quick to build.

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
    /// On single precision; `#[inline(always)]`.
    fn f32<S: Isa>(self, a: f32, b: f32) -> f32;
    /// On double precision.
    fn f64(self, a: f64, b: f64) -> f64;
    /// On integers, wrapping; the narrower types keep the low bits.
    fn int(self, a: i64, b: i64) -> i64;
}

/// A function from one block to another of the same length.
type Block1<'a> = &'a (dyn Fn(&[f32], &mut [f32]) + Sync);

/// A function from two rows to a block.
type Block2<'a> = &'a (dyn Fn(Row<'_>, Row<'_>, &mut [f32]) + Sync);

/// A block of an operand, or one number that stands for all of it.
#[derive(Clone, Copy)]
pub(super) enum Row<'a> {
    Slice(&'a [f32]),
    Splat(f32),
}

struct Run1<'a, M>(M, &'a [f32], &'a mut [f32]);

impl<M: Map1> Kernel for Run1<'_, M> {
    type Out = ();
    #[inline(always)]
    fn run<S: Isa>(self) {
        for (to, &from) in self.2.iter_mut().zip(self.1) {
            *to = self.0.f32::<S>(from);
        }
    }
}

struct Run2<'a, M>(M, Row<'a>, Row<'a>, &'a mut [f32]);

impl<M: Map2> Kernel for Run2<'_, M> {
    type Out = ();
    #[inline(always)]
    fn run<S: Isa>(self) {
        let Self(map, x, y, out) = self;
        match (x, y) {
            (Row::Slice(x), Row::Slice(y)) => {
                for ((to, &x), &y) in out.iter_mut().zip(x).zip(y) {
                    *to = map.f32::<S>(x, y);
                }
            }
            (Row::Slice(x), Row::Splat(y)) => {
                for (to, &x) in out.iter_mut().zip(x) {
                    *to = map.f32::<S>(x, y);
                }
            }
            (Row::Splat(x), Row::Slice(y)) => {
                for (to, &y) in out.iter_mut().zip(y) {
                    *to = map.f32::<S>(x, y);
                }
            }
            (Row::Splat(x), Row::Splat(y)) => out.fill(map.f32::<S>(x, y)),
        }
    }
}

/// Applies `map` to every element of a float tensor.
pub(super) fn unary<M: Map1>(name: &str, x: &Tensor, map: M) -> Result<Tensor> {
    let block = move |from: &[f32], to: &mut [f32]| dispatch(Run1(map, from, to));
    unary_blocks(name, x, &block, &move |v| map.f64(v))
}

fn unary_blocks(
    name: &str,
    x: &Tensor,
    block: Block1<'_>,
    double: &(dyn Fn(f64) -> f64 + Sync),
) -> Result<Tensor> {
    on_cpu(&[x], |inputs| {
        let x = inputs[0];
        match x.dtype() {
            DType::F32 => unary_narrow::<f32>(x, block),
            DType::BF16 => unary_narrow::<bf16>(x, block),
            DType::F16 => unary_narrow::<f16>(x, block),
            DType::F64 => each::<f64, f64>(x, double),
            other => fail!("{name}: expected floating point, got {other:?}"),
        }
    })
}

fn unary_narrow<T: Narrow>(x: &Tensor, block: Block1<'_>) -> Result<Tensor> {
    read::<T, _>(x, |data| {
        let out = written(data.len(), |out| {
            chunks(out, CHUNK, &|start, out: &mut [T]| {
                let mut buffer = [0.0f32; BLOCK];
                T::write(out, |range, out| {
                    let range = start + range.start..start + range.end;
                    block(T::load(&data[range], &mut buffer), out);
                });
            });
        });
        tensor(out, x.dims())
    })
}

/// Runs `f(position, chunk)` over the chunks of `out`, in parallel when there is enough of it.
///
/// An empty `out` has no chunks, whatever their size.
pub(super) fn chunks<T: Send>(out: &mut [T], size: usize, f: &(dyn Fn(usize, &mut [T]) + Sync)) {
    if out.is_empty() {
        return;
    }
    if out.len() <= PARALLEL.max(size) {
        for (i, chunk) in out.chunks_mut(size).enumerate() {
            f(i * size, chunk);
        }
    } else {
        always_chunks(out, size, f);
    }
}

/// As [`chunks`], in parallel whatever the length: for outputs that stand for more input.
pub(super) fn always_chunks<T: Send>(
    out: &mut [T],
    size: usize,
    f: &(dyn Fn(usize, &mut [T]) + Sync),
) {
    if out.is_empty() {
        return;
    }
    out.par_chunks_mut(size)
        .enumerate()
        .for_each(|(i, chunk)| f(i * size, chunk));
}

/// Runs `f` for every task, in parallel.
pub(super) fn tasks(count: usize, f: &(dyn Fn(usize) + Sync)) {
    (0..count).into_par_iter().for_each(f);
}

/// Applies a plain function to every element, possibly to another type.
pub(super) fn each<T: WithDType, U: WithDType>(
    x: &Tensor,
    f: &(dyn Fn(T) -> U + Sync),
) -> Result<Tensor> {
    read::<T, _>(x, |data| {
        let out = written(data.len(), |out| {
            chunks(out, CHUNK, &|start, out: &mut [U]| {
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
    let block = |from: &[f32], to: &mut [f32]| {
        for (to, &from) in to.iter_mut().zip(from) {
            *to = single(from);
        }
    };
    unary_blocks(name, x, &block, &double)
}

/// Applies a function to every element of an integer or boolean tensor, keeping its dtype.
pub(super) fn int_map(name: &str, x: &Tensor, f: impl Fn(i64) -> i64 + Sync) -> Result<Tensor> {
    int_map_dyn(name, x, &f)
}

fn int_map_dyn(name: &str, x: &Tensor, f: &(dyn Fn(i64) -> i64 + Sync)) -> Result<Tensor> {
    on_cpu(&[x], |inputs| {
        let x = inputs[0];
        match x.dtype() {
            DType::I64 => each::<i64, i64>(x, f),
            DType::U8 => each::<u8, u8>(x, &|v| f(i64::from(v)) as u8),
            other => fail!("{name}: expected integers, got {other:?}"),
        }
    })
}

/// Applies `map` to two tensors of one dtype, broadcasting them.
pub(super) fn binary<M: Map2>(a: &Tensor, b: &Tensor, map: M) -> Result<Tensor> {
    let block = move |x: Row<'_>, y: Row<'_>, out: &mut [f32]| dispatch(Run2(map, x, y, out));
    let pair = Pair {
        name: M::NAME,
        first: None,
        block: &block,
        double: &move |x, y| map.f64(x, y),
        int: &move |x, y| map.int(x, y),
    };
    pair.run(a, b)
}

/// As [`binary`], from functions that only have a scalar form.
pub(super) fn scalar_binary(
    name: &str,
    a: &Tensor,
    b: &Tensor,
    single: fn(f32, f32) -> f32,
    double: fn(f64, f64) -> f64,
    int: fn(i64, i64) -> i64,
) -> Result<Tensor> {
    let block = move |x: Row<'_>, y: Row<'_>, out: &mut [f32]| {
        let at = |row: &Row<'_>, i: usize| match row {
            Row::Slice(values) => values[i],
            Row::Splat(value) => *value,
        };
        for (i, to) in out.iter_mut().enumerate() {
            *to = single(at(&x, i), at(&y, i));
        }
    };
    Pair {
        name,
        first: None,
        block: &block,
        double: &double,
        int: &int,
    }
    .run(a, b)
}

/// The product of a mapped tensor and another, in one pass. The mapped value is rounded to the
/// dtype before the product, so the result is the unfused one, bit for bit.
pub(super) fn mapped_product<M: Map1>(
    name: &str,
    a: &Tensor,
    b: &Tensor,
    map: M,
) -> Result<Tensor> {
    let first = move |from: &[f32], to: &mut [f32]| dispatch(Run1(map, from, to));
    let block = |x: Row<'_>, y: Row<'_>, out: &mut [f32]| dispatch(Run2(Product, x, y, out));
    let pair = Pair {
        name,
        first: Some(&first),
        block: &block,
        double: &move |x, y| map.f64(x) * y,
        int: &|_, _| 0,
    };
    pair.run(a, b)
}

#[derive(Clone, Copy)]
struct Product;

impl Map2 for Product {
    const NAME: &'static str = "product";
    #[inline(always)]
    fn f32<S: Isa>(self, a: f32, b: f32) -> f32 {
        a * b
    }
    fn f64(self, a: f64, b: f64) -> f64 {
        a * b
    }
    fn int(self, a: i64, b: i64) -> i64 {
        a.wrapping_mul(b)
    }
}

/// A function of two tensors, in the forms that the dtypes need.
struct Pair<'a> {
    name: &'a str,
    /// Applied to the first operand, and rounded.
    first: Option<Block1<'a>>,
    block: Block2<'a>,
    double: &'a (dyn Fn(f64, f64) -> f64 + Sync),
    int: &'a (dyn Fn(i64, i64) -> i64 + Sync),
}

impl Pair<'_> {
    fn run(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        same_dtype(self.name, a, b)?;
        on_cpu(&[a, b], |inputs| {
            let [a, b] = expanded(self.name, inputs[0], inputs[1])?;
            match a.dtype() {
                DType::F32 => self.narrow::<f32>(&a, &b),
                DType::BF16 => self.narrow::<bf16>(&a, &b),
                DType::F16 => self.narrow::<f16>(&a, &b),
                DType::F64 => zip::<f64, f64>(&a, &b, self.double),
                DType::I64 => zip::<i64, i64>(&a, &b, self.int),
                DType::U8 => zip::<u8, u8>(&a, &b, &|x, y| (self.int)(x.into(), y.into()) as u8),
                other => fail!("{}: unsupported dtype {other:?}", self.name),
            }
        })
    }

    fn narrow<T: Narrow>(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        let plan = Plan::new([a, b]);
        with_storage::<T, _>(a, |x, _| {
            with_storage::<T, _>(b, |y, _| {
                let out = written(a.elem_count(), |out| {
                    chunks(out, CHUNK, &|start, out: &mut [T]| {
                        self.chunk::<T>(&plan, start, x, y, out);
                    });
                });
                tensor(out, a.dims())
            })
        })
    }

    fn chunk<T: Narrow>(&self, plan: &Plan<2>, start: usize, x: &[T], y: &[T], out: &mut [T]) {
        let [sx, sy] = plan.inner();
        let (mut x_buffer, mut y_buffer) = ([0.0f32; BLOCK], [0.0f32; BLOCK]);
        let mut mapped = [0.0f32; BLOCK];
        let mut rounded = [T::nearest(0.0); BLOCK];
        plan.runs(start..start + out.len(), BLOCK, &mut |at, len, [ox, oy]| {
            T::write(&mut out[at..at + len], |_, out| {
                let mut a = row(x, ox, sx, len, &mut x_buffer);
                let b = row(y, oy, sy, len, &mut y_buffer);
                if let Some(first) = self.first {
                    let mapped = &mut mapped[..len];
                    match a {
                        Row::Slice(values) => first(values, mapped),
                        Row::Splat(value) => {
                            first(&[value], &mut mapped[..1]);
                            let value = mapped[0];
                            mapped.fill(value);
                        }
                    }
                    T::store(mapped, &mut rounded[..len]);
                    a = Row::Slice(T::load(&rounded[..len], mapped));
                    (self.block)(a, b, out);
                } else {
                    (self.block)(a, b, out);
                }
            });
        });
    }
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
    f: &(dyn Fn(T, T) -> U + Sync),
) -> Result<Tensor> {
    let plan = Plan::new([a, b]);
    let [sa, sb] = plan.inner();
    with_storage::<T, _>(a, |x, _| {
        with_storage::<T, _>(b, |y, _| {
            let out = written(a.elem_count(), |out| {
                chunks(out, CHUNK, &|start, out: &mut [U]| {
                    let range = start..start + out.len();
                    plan.runs(range, usize::MAX, &mut |at, len, [oa, ob]| {
                        for (i, to) in out[at..at + len].iter_mut().enumerate() {
                            *to = f(x[oa + i * sa], y[ob + i * sb]);
                        }
                    });
                });
            });
            tensor(out, a.dims())
        })
    })
}

/// `len` elements from `offset` on, `stride` apart, as `f32`.
fn row<'a, T: Narrow>(
    data: &'a [T],
    offset: usize,
    stride: usize,
    len: usize,
    buffer: &'a mut [f32; BLOCK],
) -> Row<'a> {
    match stride {
        0 => Row::Splat(data[offset].wide()),
        1 => Row::Slice(T::load(&data[offset..offset + len], buffer)),
        _ => {
            for (i, to) in buffer[..len].iter_mut().enumerate() {
                *to = data[offset + i * stride].wide();
            }
            Row::Slice(&buffer[..len])
        }
    }
}

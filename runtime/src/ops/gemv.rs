//! Products of a few rows with a matrix: bound by reading the weights, which are read once, in
//! their own dtype.

use candle_core::DType;

use super::isa::{Isa, Kernel, dispatch};
use super::map::always_chunks;
use super::memory::{BLOCK, Narrow};
use super::vmath;

/// At most this many rows are multiplied this way.
pub(super) const ROWS: usize = 4;

/// Weight rows that one task multiplies.
const TASK: usize = 64;

/// `x weight^T + bias` for `[m, k]` and `[n, k]`, as `[m, n]`.
pub(super) fn product<T: Narrow>(
    x: &[f32],
    weight: &[T],
    bias: Option<&[f32]>,
    [m, n, k]: [usize; 3],
) -> Vec<f32> {
    // Compiled for one row and for four: fewer rows are filled up with zeros.
    let lanes = if m == 1 { 1 } else { ROWS };
    let padded;
    let x = if m == lanes {
        x
    } else {
        padded = [x, &vec![0.0; (lanes - m) * k]].concat();
        &padded
    };
    // By output, so that a task writes one piece; transposed at the end when there are rows.
    let mut by_output = vec![0.0f32; n * lanes];
    let run = |start: usize, out: &mut [f32]| {
        let first = start / lanes;
        let weight = &weight[first * k..(first + out.len() / lanes) * k];
        if lanes == 1 && T::DTYPE == DType::F32 {
            // `load` gives `f32` elements back as they are.
            let weight = T::load(weight, &mut []);
            dispatch(Vector { x, weight, k, out });
        } else if lanes == 1 {
            dispatch(Panel::<T, 1> { x, weight, k, out });
        } else {
            dispatch(Panel::<T, ROWS> { x, weight, k, out });
        }
    };
    if n * k < 64 * 1024 {
        run(0, &mut by_output);
    } else {
        always_chunks(&mut by_output, TASK * lanes, &run);
    }
    let mut out = by_output;
    if m > 1 {
        out = (0..m * n).map(|i| out[i % n * lanes + i / n]).collect();
    }
    if let Some(bias) = bias {
        for row in out.chunks_mut(n) {
            row.iter_mut().zip(bias).for_each(|(v, b)| *v += b);
        }
    }
    out
}

/// One row times `f32` weights.
struct Vector<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    k: usize,
    out: &'a mut [f32],
}

impl Kernel for Vector<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Isa>(self) {
        let Self { x, weight, k, out } = self;
        let pairs = weight.chunks_exact(2 * k);
        let last = pairs.remainder();
        for (pair, out) in pairs.zip(out.chunks_mut(2)) {
            let (a, b) = pair.split_at(k);
            out.copy_from_slice(&vmath::dot2::<S>(a, b, x));
        }
        if let (false, Some(out)) = (last.is_empty(), out.last_mut()) {
            *out = vmath::dot::<S>(last, x);
        }
    }
}

struct Panel<'a, T, const M: usize> {
    x: &'a [f32],
    weight: &'a [T],
    k: usize,
    out: &'a mut [f32],
}

impl<T: Narrow, const M: usize> Kernel for Panel<'_, T, M> {
    type Out = ();
    #[inline(always)]
    fn run<S: Isa>(self) {
        let Self { x, weight, k, out } = self;
        let mut buffer = [0.0f32; BLOCK];
        for (row, out) in weight.chunks_exact(k).zip(out.chunks_exact_mut(M)) {
            let mut lanes = [[0.0f32; 64]; M];
            for (b, block) in row.chunks(BLOCK).enumerate() {
                let block = T::load(block, &mut buffer);
                for (m, lanes) in lanes.iter_mut().enumerate() {
                    let start = m * k + b * BLOCK;
                    multiply::<S>(block, &x[start..start + block.len()], lanes);
                }
            }
            for (to, lanes) in out.iter_mut().zip(&mut lanes) {
                let mut width = 32;
                while width > 0 {
                    for lane in 0..width {
                        lanes[lane] += lanes[lane + width];
                    }
                    width /= 2;
                }
                *to = lanes[0];
            }
        }
    }
}

#[inline(always)]
fn multiply<S: Isa>(a: &[f32], b: &[f32], lanes: &mut [f32; 64]) {
    let mut sums = *lanes;
    let (a_blocks, a_rest) = a.as_chunks::<64>();
    let (b_blocks, b_rest) = b.as_chunks::<64>();
    for (x, y) in a_blocks.iter().zip(b_blocks) {
        for lane in 0..64 {
            sums[lane] = S::fma(x[lane], y[lane], sums[lane]);
        }
    }
    for (lane, (&x, &y)) in sums.iter_mut().zip(a_rest.iter().zip(b_rest)) {
        *lane = S::fma(x, y, *lane);
    }
    *lanes = sums;
}

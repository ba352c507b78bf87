//! Products of a few rows with a matrix: the weights are read once, in their own dtype, and not
//! rearranged.

use super::isa::{Isa, Kernel, dispatch};
use super::map::always_chunks;
use super::memory::Narrow;

/// At most this many rows are multiplied this way: packing the weights, as a product of matrices
/// does, pays from more rows on.
pub(super) const ROWS: usize = 32;

/// At most this many rows are multiplied this way where the weight is transposed; and at a time.
pub(super) const FEW: usize = 4;

/// Weight rows that one task multiplies.
const TASK: usize = 64;

/// Rows of a transposed weight that one task multiplies.
const DEEP: usize = 128;

/// Fewer weights than this are not worth a second thread.
const SMALL: usize = 64 * 1024;

/// `x weight^T` for `[m, k]` and `[n, k]`, as `[m, n]`.
pub(super) fn product<T: Narrow>(x: &[f32], weight: &[T], [m, n, k]: [usize; 3]) -> Vec<f32> {
    // By output, so that a task writes one piece; transposed at the end when there are rows.
    let mut out = vec![0.0f32; n * m];
    let run = |start: usize, out: &mut [f32]| {
        let first = start / m;
        let weight = &weight[first * k..(first + out.len() / m) * k];
        dispatch(Rows { x, weight, k, out });
    };
    if n * k < SMALL {
        run(0, &mut out);
    } else {
        always_chunks(&mut out, TASK * m, &run);
    }
    if m > 1 {
        out = (0..m * n).map(|i| out[i % n * m + i / n]).collect();
    }
    out
}

/// `x weight` for `[m, k]` and `[k, n]`, as `[m, n]`.
pub(super) fn transposed<T: Narrow>(x: &[f32], weight: &[T], [m, n, k]: [usize; 3]) -> Vec<f32> {
    // A task sums over some rows of the weight, which lie together; the sums are added in order, so
    // that they do not depend on the number of threads.
    let mut parts = vec![0.0f32; k.div_ceil(DEEP) * m * n];
    let run = |start: usize, out: &mut [f32]| {
        let first = start / (m * n) * DEEP;
        let weight = &weight[first * n..(first + DEEP).min(k) * n];
        let x = &x[first..];
        match m {
            1 => dispatch(Columns::<T, 1> { x, k, weight, out }),
            2 => dispatch(Columns::<T, 2> { x, k, weight, out }),
            3 => dispatch(Columns::<T, 3> { x, k, weight, out }),
            _ => dispatch(Columns::<T, FEW> { x, k, weight, out }),
        }
    };
    if n * k < SMALL {
        let each = parts.chunks_mut(m * n).enumerate();
        each.for_each(|(i, out)| run(i * m * n, out));
    } else {
        always_chunks(&mut parts, m * n, &run);
    }
    let (out, rest) = parts.split_at_mut(m * n);
    for part in rest.chunks_exact(m * n) {
        out.iter_mut().zip(part).for_each(|(sum, v)| *sum += v);
    }
    parts.truncate(m * n);
    parts
}

/// Rows of `k` times rows of weights: several of both at once, because each row of weights is a
/// stream of memory of its own, and each sum has registers of its own.
struct Rows<'a, T> {
    x: &'a [f32],
    weight: &'a [T],
    k: usize,
    /// `[weight rows, rows]`
    out: &'a mut [f32],
}

impl<T: Narrow> Kernel for Rows<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<S: Isa>(self) {
        if S::MANY || self.x.len() == self.k {
            self.several::<S, 4>();
        } else {
            self.several::<S, 1>();
        }
    }
}

impl<T: Narrow> Rows<'_, T> {
    #[inline(always)]
    fn several<S: Isa, const R: usize>(self) {
        let Self { x, weight, k, out } = self;
        let m = x.len() / k;
        let groups = weight.chunks_exact(R * k);
        let rest = groups.remainder().chunks_exact(k);
        let (many, few) = out.split_at_mut(groups.len() * R * m);
        for (rows, out) in groups.zip(many.chunks_exact_mut(R * m)) {
            by_all::<S, T, R>(std::array::from_fn(|r| &rows[r * k..(r + 1) * k]), x, out);
        }
        for (row, out) in rest.zip(few.chunks_exact_mut(m)) {
            by_all::<S, T, 1>([row], x, out);
        }
    }
}

/// `R` rows of weights by all rows of `x`, `[R, rows of x]`. The weights come from memory once.
#[inline(always)]
fn by_all<S: Isa, T: Narrow, const R: usize>(weight: [&[T]; R], x: &[f32], out: &mut [f32]) {
    let k = weight[0].len();
    let m = x.len() / k;
    for (group, x) in x.chunks(FEW * k).enumerate() {
        let (out, first) = (&mut out[FEW * group..], group == 0);
        match x.len() / k {
            1 => dots::<S, T, R, 1>(weight, x, first, out, m),
            2 => dots::<S, T, R, 2>(weight, x, first, out, m),
            3 => dots::<S, T, R, 3>(weight, x, first, out, m),
            _ => dots::<S, T, R, FEW>(weight, x, first, out, m),
        }
    }
}

/// All inner products of `R` rows of weights and `M` of `f32`, of one length; the results of a row
/// of weights are `stride` after those of the one before.
#[inline(always)]
fn dots<S: Isa, T: Narrow, const R: usize, const M: usize>(
    weight: [&[T]; R],
    x: &[f32],
    first: bool,
    out: &mut [f32],
    stride: usize,
) {
    let k = weight[0].len();
    let x: [&[f32]; M] = std::array::from_fn(|m| &x[m * k..(m + 1) * k]);
    let whole = k / 16;
    let w = weight.map(|row| &row.as_chunks::<16>().0[..whole]);
    let y = x.map(|row| &row.as_chunks::<16>().0[..whole]);
    // Two blocks of lanes for a single row, so that a sum does not wait for the one before.
    let mut sums = [[[S::splat(0.0); M]; R]; 2];
    for i in (0..whole / 2 * 2).step_by(2) {
        for row in weight {
            // The rows that come next: they begin where the hardware does not expect it.
            let ahead = row.as_ptr().wrapping_add(R * k + 16 * i);
            for line in 0..32 * size_of::<T>() / 64 {
                if first {
                    S::prefetch(ahead.wrapping_byte_add(64 * line));
                }
            }
        }
        step::<S, T, R, M>(&w, &y, i, &mut sums[0]);
        step::<S, T, R, M>(&w, &y, i + 1, &mut sums[usize::from(M == 1)]);
    }
    if whole % 2 == 1 {
        step::<S, T, R, M>(&w, &y, whole - 1, &mut sums[0]);
    }
    for r in 0..R {
        for m in 0..M {
            let mut lanes = S::store(sums[0][r][m]);
            if M == 1 {
                let second = S::store(sums[1][r][m]);
                for lane in 0..16 {
                    lanes[lane] += second[lane];
                }
            }
            let mut width = 8;
            while width > 0 {
                for lane in 0..width {
                    lanes[lane] += lanes[lane + width];
                }
                width /= 2;
            }
            let rest = weight[r][16 * whole..].iter().zip(&x[m][16 * whole..]);
            out[r * stride + m] = rest.fold(lanes[0], |sum, (w, &x)| S::fma(w.wide(), x, sum));
        }
    }
}

/// The products of sixteen columns.
#[inline(always)]
fn step<S: Isa, T: Narrow, const R: usize, const M: usize>(
    weight: &[&[[T; 16]]; R],
    x: &[&[[f32; 16]]; M],
    i: usize,
    sums: &mut [[S::Lanes; M]; R],
) {
    for r in 0..R {
        let w = T::lanes::<S>(&weight[r][i]);
        for m in 0..M {
            sums[r][m] = S::fma_lanes(w, S::load(&x[m][i]), sums[r][m]);
        }
    }
}

/// The first elements of `M` rows, `k` apart, times as many rows of a transposed weight.
struct Columns<'a, T, const M: usize> {
    x: &'a [f32],
    k: usize,
    weight: &'a [T],
    /// `[M, n]`, zeros before.
    out: &'a mut [f32],
}

impl<T: Narrow, const M: usize> Kernel for Columns<'_, T, M> {
    type Out = ();
    #[inline(always)]
    fn run<S: Isa>(self) {
        /// Columns at a time: their sums stay in the first-level cache.
        const WIDTH: usize = 1024;
        let Self { x, k, weight, out } = self;
        let n = out.len() / M;
        for start in (0..n).step_by(WIDTH) {
            let width = WIDTH.min(n - start);
            let mut sums = out
                .chunks_exact_mut(n)
                .map(|row| &mut row[start..][..width]);
            let mut sums: [&mut [f32]; M] =
                std::array::from_fn(|_| sums.next().unwrap_or_default());
            let groups = weight.chunks_exact(4 * n);
            let first = groups.len() * 4;
            let rest = groups.remainder().chunks_exact(n);
            for (i, rows) in groups.enumerate() {
                let rows = std::array::from_fn(|r| &rows[r * n + start..][..width]);
                let x = std::array::from_fn(|m| std::array::from_fn(|r| x[m * k + 4 * i + r]));
                add_rows::<S, T, 4, M>(rows, x, &mut sums, 4 * n);
            }
            for (i, row) in rest.enumerate() {
                let x = std::array::from_fn(|m| [x[m * k + first + i]]);
                add_rows::<S, T, 1, M>([&row[start..][..width]], x, &mut sums, n);
            }
        }
    }
}

/// Adds `R` rows of weights, scaled, to `M` rows of sums: these are loaded and stored once.
#[inline(always)]
fn add_rows<S: Isa, T: Narrow, const R: usize, const M: usize>(
    weight: [&[T]; R],
    x: [[f32; R]; M],
    sums: &mut [&mut [f32]; M],
    ahead: usize,
) {
    let n = weight[0].len();
    // Loops rather than closures: these might be compiled without the instruction set.
    let mut scales = [[S::splat(0.0); R]; M];
    for m in 0..M {
        for r in 0..R {
            scales[m][r] = S::splat(x[m][r]);
        }
    }
    let mut w = [S::splat(0.0); R];
    for (i, at) in (0..n / 16 * 16).step_by(16).enumerate() {
        for r in 0..R {
            S::prefetch(weight[r].as_ptr().wrapping_add(ahead + at));
            w[r] = T::lanes::<S>(&weight[r].as_chunks::<16>().0[i]);
        }
        for m in 0..M {
            let sum = &mut sums[m].as_chunks_mut::<16>().0[i];
            let mut lanes = S::load(sum);
            for r in 0..R {
                lanes = S::fma_lanes(w[r], scales[m][r], lanes);
            }
            *sum = S::store(lanes);
        }
    }
    for i in n / 16 * 16..n {
        for m in 0..M {
            for r in 0..R {
                sums[m][i] = S::fma(weight[r][i].wide(), x[m][r], sums[m][i]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::super::isa::with_each;
    use super::*;

    /// Either kernel, into a vector of its own.
    struct Whole<'a, T, const M: usize> {
        x: &'a [f32],
        weight: &'a [T],
        size: [usize; 2],
        transposed: bool,
    }

    impl<T: Narrow, const M: usize> Kernel for Whole<'_, T, M> {
        type Out = Vec<f32>;
        #[inline(always)]
        fn run<S: Isa>(self) -> Vec<f32> {
            let Self { x, weight, .. } = self;
            let [n, k] = self.size;
            let mut out = vec![0.0; n * M];
            if self.transposed {
                let out = &mut out[..];
                Columns::<T, M> { x, k, weight, out }.run::<S>();
            } else {
                let out = &mut out[..];
                Rows { x, weight, k, out }.run::<S>();
            }
            out
        }
    }

    /// Small multiples of 1/8, whose products and sums are exact.
    fn eighths<T: Narrow>(len: usize, step: usize) -> Vec<T> {
        let value = |i: usize| T::nearest((i * step % 23) as f32 / 8.0 - 1.375);
        (0..len).map(value).collect()
    }

    fn check<T: Narrow, const M: usize>() {
        for [n, k] in [[1, 1], [5, 16], [17, 33], [9, 47], [37, 100], [1030, 6]] {
            let (x, weight) = (eighths::<f32>(M * k, 5), eighths::<T>(n * k, 7));
            for transposed in [false, true] {
                let expected: Vec<f32> = (0..n * M)
                    .map(|i| match transposed {
                        true => (i / n, i % n, n),
                        false => (i % M, i / M * k, 1),
                    })
                    .map(|(m, first, step)| {
                        let products =
                            (0..k).map(|j| x[m * k + j] * weight[first + j * step].wide());
                        products.sum()
                    })
                    .collect();
                let whole = || Whole::<T, M> {
                    x: &x,
                    weight: &weight,
                    size: [n, k],
                    transposed,
                };
                with_each(whole, |set, out| {
                    assert_eq!(out, expected, "{set}: {M} rows, {n} by {k}, {transposed}");
                });
            }
        }
    }

    fn check_rows<T: Narrow>() {
        check::<T, 1>();
        check::<T, 2>();
        check::<T, 3>();
        check::<T, FEW>();
    }

    #[test]
    fn every_instruction_set_gives_the_definition() {
        check_rows::<f32>();
        check_rows::<bf16>();
        check_rows::<f16>();
    }
}

//! `f32` functions without branches or calls, so that loops over them vectorise.
//!
//! The polynomials are least-maximum fits of our own; each function is within about one unit in the
//! last place of the true value (the tests measure it), as PyTorch's vector library is.

use super::isa::Isa;

const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;
/// Adding this to a small float leaves its nearest integer in the low bits.
const ROUND: f32 = 12_582_912.0;

/// `e^x`: overflows to infinity, underflows gradually to zero, keeps NaN.
#[inline(always)]
pub(super) fn exp<S: Isa>(x: f32) -> f32 {
    // Comparisons instead of `clamp`, so that NaN passes through.
    let x = if x > 89.0 { 89.0 } else { x };
    let x = if x < -104.5 { -104.5 } else { x };
    let shifted = S::fma(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = S::fma(n, -LN2_HIGH, x);
    let r = S::fma(n, -LN2_LOW, r);
    let p = 1.381_982_4e-3;
    let p = S::fma(p, r, 8.368_687e-3);
    let p = S::fma(p, r, 4.166_827_7e-2);
    let p = S::fma(p, r, 1.666_652_1e-1);
    let p = S::fma(p, r, 0.499_999_94);
    let p = S::fma(p, r * r, r) + 1.0;
    // 2^n in two factors: n reaches -151 and 128, beyond one exponent field.
    let n = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let half = n >> 1;
    p * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// The error function.
#[inline(always)]
pub(super) fn erf<S: Isa>(x: f32) -> f32 {
    let t = x.abs();
    let s = x * x;
    let small = 7.996_649e-5;
    let small = S::fma(small, s, -8.049_769_7e-4);
    let small = S::fma(small, s, 5.192_405e-3);
    let small = S::fma(small, s, -2.685_573_1e-2);
    let small = S::fma(small, s, 1.128_362_6e-1);
    let small = S::fma(small, s, -3.761_263e-1);
    let small = S::fma(small, s, 1.283_791_7e-1);
    let small = S::fma(small, x, x);
    // Past 4 the function is 1 to single precision.
    let c = if t > 4.0 { 4.0 } else { t };
    let large = 1.123_001_4e-5;
    let large = S::fma(large, c, -3.227_940_2e-4);
    let large = S::fma(large, c, 3.642_429_6e-3);
    let large = S::fma(large, c, -2.376_202e-2);
    let large = S::fma(large, c, 1.062_368_45e-1);
    let large = S::fma(large, c, 6.351_513e-1);
    let large = S::fma(large, c, 1.286_484_9e-1);
    let large = S::fma(large, c, c);
    let large = (1.0 - exp::<S>(-large)).copysign(x);
    if t > 0.925 { large } else { small }
}

/// The hyperbolic tangent.
#[inline(always)]
pub(super) fn tanh<S: Isa>(x: f32) -> f32 {
    let t = x.abs();
    let s = x * x;
    let small = -5.695_554_4e-3;
    let small = S::fma(small, s, 2.063_067e-2);
    let small = S::fma(small, s, -5.373_712e-2);
    let small = S::fma(small, s, 1.333_141e-1);
    let small = S::fma(small, s, -3.333_328e-1);
    let small = S::fma(small * s, x, x);
    let large = (1.0 - 2.0 / (exp::<S>(2.0 * t) + 1.0)).copysign(x);
    if t > 0.625 { large } else { small }
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(super) fn sigmoid<S: Isa>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<S>(-x))
}

/// `x * sigmoid(x)`.
#[inline(always)]
pub(super) fn silu<S: Isa>(x: f32) -> f32 {
    x / (1.0 + exp::<S>(-x))
}

/// `x * (1 + erf(x / sqrt 2)) / 2`.
#[inline(always)]
pub(super) fn gelu<S: Isa>(x: f32) -> f32 {
    x * 0.5 * (1.0 + erf::<S>(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// The hyperbolic-tangent approximation of `gelu`.
#[inline(always)]
pub(super) fn gelu_tanh<S: Isa>(x: f32) -> f32 {
    const BETA: f32 = std::f32::consts::SQRT_2 * std::f32::consts::FRAC_2_SQRT_PI * 0.5;
    let inner = BETA * S::fma(0.044715 * x * x, x, x);
    0.5 * x * (1.0 + tanh::<S>(inner))
}

/// The sum of a slice, in 32 independent lanes.
#[inline(always)]
pub(super) fn sum(values: &[f32]) -> f32 {
    fold(values, 0.0, |a, v| a + v, |a, b| a + b)
}

/// The largest element, ignoring NaN; negative infinity when there is none.
#[inline(always)]
pub(super) fn max(values: &[f32]) -> f32 {
    let pick = |a: f32, b: f32| if b > a { b } else { a };
    fold(values, f32::NEG_INFINITY, pick, pick)
}

/// Folds a slice in 32 independent lanes, then the lanes pairwise.
#[inline(always)]
pub(super) fn fold(
    values: &[f32],
    start: f32,
    step: impl Fn(f32, f32) -> f32,
    join: impl Fn(f32, f32) -> f32,
) -> f32 {
    let mut lanes = [start; 32];
    let (blocks, rest) = values.as_chunks::<32>();
    for block in blocks {
        for lane in 0..32 {
            lanes[lane] = step(lanes[lane], block[lane]);
        }
    }
    if !rest.is_empty() {
        // In lanes of its own: a variable index would keep the others out of registers.
        let mut tail = [start; 32];
        for (lane, &value) in tail.iter_mut().zip(rest) {
            *lane = step(*lane, value);
        }
        for lane in 0..32 {
            lanes[lane] = join(lanes[lane], tail[lane]);
        }
    }
    let mut width = 16;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] = join(lanes[lane], lanes[lane + width]);
        }
        width /= 2;
    }
    lanes[0]
}

/// The inner product of two slices of one length.
#[inline(always)]
pub(super) fn dot<S: Isa>(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 64];
    let (a_blocks, a_rest) = a.as_chunks::<64>();
    let (b_blocks, b_rest) = b.as_chunks::<64>();
    for (x, y) in a_blocks.iter().zip(b_blocks) {
        for lane in 0..64 {
            lanes[lane] = S::fma(x[lane], y[lane], lanes[lane]);
        }
    }
    add_rest(&mut lanes, a_rest, b_rest);
    join(lanes)
}

/// What is left behind the last block, in lanes of its own: a variable index would keep the others
/// out of registers.
#[inline(always)]
fn add_rest(lanes: &mut [f32; 64], a: &[f32], b: &[f32]) {
    if a.is_empty() {
        return;
    }
    let mut tail = [0.0f32; 64];
    for (lane, (&x, &y)) in tail.iter_mut().zip(a.iter().zip(b)) {
        *lane = x * y;
    }
    for lane in 0..64 {
        lanes[lane] += tail[lane];
    }
}

/// The sum of the lanes, pairwise.
#[inline(always)]
fn join(mut lanes: [f32; 64]) -> f32 {
    let mut width = 32;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

//! The block formats of GGUF to f32, bit for bit as the `gguf` package computes them.
//!
//! A block is a run of 32 or 256 elements of a row with scales of its own: `d` and `m` are f16,
//! small integers multiply them, and every value is `scale * q` or `scale * q - minimum` in f32,
//! rounded after each step.

use half::f16;

use crate::dtype::Dtype;

/// Turns one block into its values.
pub(crate) type Decode = fn(block: &[u8], values: &mut [f32]);

/// How blocks of this format are read; `None` for plain types, and for the formats that
/// [`validate`](crate::validate()) refuses because nothing multiplies by them.
///
/// `block` and `values` have the lengths that [`Dtype::block`] gives.
pub(crate) fn decoder(dtype: Dtype) -> Option<Decode> {
    Some(match dtype {
        Dtype::Q4_0 => q4_0,
        Dtype::Q4_1 => q4_1,
        Dtype::Q5_0 => q5_0,
        Dtype::Q5_1 => q5_1,
        Dtype::Q8_0 => q8_0,
        Dtype::Q2_K => q2_k,
        Dtype::Q3_K => q3_k,
        Dtype::Q4_K => q4_k,
        Dtype::Q5_K => q5_k,
        Dtype::Q6_K => q6_k,
        _ => return None,
    })
}

fn half(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

fn q4_0(b: &[u8], y: &mut [f32]) {
    let (d, q) = (half(b, 0), &b[2..18]);
    for i in 0..16 {
        y[i] = d * (i32::from(q[i] & 15) - 8) as f32;
        y[i + 16] = d * (i32::from(q[i] >> 4) - 8) as f32;
    }
}

fn q4_1(b: &[u8], y: &mut [f32]) {
    let (d, m, q) = (half(b, 0), half(b, 2), &b[4..20]);
    for i in 0..16 {
        y[i] = d * f32::from(q[i] & 15) + m;
        y[i + 16] = d * f32::from(q[i] >> 4) + m;
    }
}

/// The 32 values of 5 bits whose upper bits are in 4 bytes, lower ones in 16.
fn five_bits(high: &[u8], low: &[u8]) -> [u8; 32] {
    std::array::from_fn(|i| {
        let nibble = low[i % 16] >> (4 * (i / 16)) & 15;
        nibble | (high[i / 8] >> (i % 8) & 1) << 4
    })
}

fn q5_0(b: &[u8], y: &mut [f32]) {
    let d = half(b, 0);
    for (y, q) in y.iter_mut().zip(five_bits(&b[2..6], &b[6..22])) {
        *y = d * (i32::from(q) - 16) as f32;
    }
}

fn q5_1(b: &[u8], y: &mut [f32]) {
    let (d, m) = (half(b, 0), half(b, 2));
    for (y, q) in y.iter_mut().zip(five_bits(&b[4..8], &b[8..24])) {
        *y = d * f32::from(q) + m;
    }
}

fn q8_0(b: &[u8], y: &mut [f32]) {
    let d = half(b, 0);
    for (y, &q) in y.iter_mut().zip(&b[2..34]) {
        *y = f32::from(q as i8) * d;
    }
}

/// Two bits of each value: half a block of 128 values shares 32 bytes.
fn two_bits(q: &[u8], i: usize) -> u8 {
    q[i / 128 * 32 + i % 32] >> (2 * (i / 32 % 4)) & 3
}

fn q2_k(b: &[u8], y: &mut [f32]) {
    let (scales, q, d, dmin) = (&b[..16], &b[16..80], half(b, 80), half(b, 82));
    for (i, y) in y.iter_mut().enumerate() {
        let scale = scales[i / 16];
        let minimum = dmin * f32::from(scale >> 4);
        *y = d * f32::from(scale & 15) * f32::from(two_bits(q, i)) - minimum;
    }
}

fn q3_k(b: &[u8], y: &mut [f32]) {
    let (high, q, packed, d) = (&b[..32], &b[32..96], &b[96..108], half(b, 108));
    let scale = |j: usize| {
        let low = packed[j % 8] >> (4 * (j / 8)) & 15;
        let high = packed[8 + j % 4] >> (2 * (j / 4)) & 3;
        d * (i32::from(low | high << 4) - 32) as f32
    };
    let scales: [f32; 16] = std::array::from_fn(scale);
    for (i, y) in y.iter_mut().enumerate() {
        // A bit that is not set takes 4 away.
        let low = if high[i % 32] >> (i / 32) & 1 == 0 {
            4
        } else {
            0
        };
        *y = scales[i / 16] * (i32::from(two_bits(q, i)) - low) as f32;
    }
}

/// Scale and minimum of each of 8 groups, as q4_k and q5_k pack them: 6 bits each.
fn scales_and_minima(b: &[u8]) -> [(f32, f32); 8] {
    let (d, dmin, s) = (half(b, 0), half(b, 2), &b[4..16]);
    std::array::from_fn(|j| {
        let (scale, minimum) = match j {
            0..4 => (s[j] & 63, s[j + 4] & 63),
            _ => (
                s[j + 4] & 15 | s[j - 4] >> 2 & 48,
                s[j + 4] >> 4 | s[j] >> 2 & 48,
            ),
        };
        (d * f32::from(scale), dmin * f32::from(minimum))
    })
}

/// Four bits of each value: a quarter of a block, 64 values, shares 32 bytes.
fn four_bits(q: &[u8], i: usize) -> u8 {
    q[i / 64 * 32 + i % 32] >> (4 * (i / 32 % 2)) & 15
}

fn q4_k(b: &[u8], y: &mut [f32]) {
    let groups = scales_and_minima(b);
    for (i, y) in y.iter_mut().enumerate() {
        let (scale, minimum) = groups[i / 32];
        *y = scale * f32::from(four_bits(&b[16..144], i)) - minimum;
    }
}

fn q5_k(b: &[u8], y: &mut [f32]) {
    let groups = scales_and_minima(b);
    let (high, low) = (&b[16..48], &b[48..176]);
    for (i, y) in y.iter_mut().enumerate() {
        let (scale, minimum) = groups[i / 32];
        let q = four_bits(low, i) | (high[i % 32] >> (i / 32) & 1) << 4;
        *y = scale * f32::from(q) - minimum;
    }
}

fn q6_k(b: &[u8], y: &mut [f32]) {
    let (low, high, scales, d) = (&b[..128], &b[128..192], &b[192..208], half(b, 208));
    for (i, y) in y.iter_mut().enumerate() {
        let nibble = low[i / 128 * 64 + i % 64] >> (4 * (i / 64 % 2)) & 15;
        let q = nibble | two_bits(high, i) << 4;
        *y = d * f32::from(scales[i / 16] as i8) * (i32::from(q) - 32) as f32;
    }
}

//! Sizes for which a trace holds, to put into its shapes.

use crate::manifest::{Comparison, Condition, Dim, Manifest, Symbol};

/// How many sets of sizes a manifest is checked for: a number that equals a symbol's size in one of
/// them does not in another.
const SAMPLES: usize = 2;

/// How many sets are tried to meet the conditions.
const TRIES: usize = 4096;

/// Sizes that are equal to none that a model is likely to have, and to no sum of each other.
const PRIMES: [i64; 12] = [7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47];

/// Sizes by symbol that meet the ranges and all conditions; none when none were found.
pub fn samples(m: &Manifest) -> Vec<Vec<i64>> {
    if m.symbols.is_empty() {
        return vec![Vec::new()];
    }
    let mut samples: Vec<Vec<i64>> = Vec::new();
    let mut random = 1_u64;
    for attempt in 0..TRIES {
        let symbols = m.symbols.iter().enumerate();
        let sizes: Vec<i64> = symbols
            .map(|(i, symbol)| {
                // A linear congruential generator, Knuth's constants: the same choice every time.
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let choice = match attempt < 2 * PRIMES.len() {
                    true => (i + attempt) as u64,
                    false => random >> 33,
                };
                choose(symbol, choice)
            })
            .collect();
        let new = samples.iter().all(|other| differ(m, other, &sizes));
        if new && m.conditions.iter().all(|c| holds(c, &sizes)) {
            samples.push(sizes);
        }
        if samples.len() == SAMPLES {
            break;
        }
    }
    samples
}

/// A size within the symbol's range.
fn choose(symbol: &Symbol, choice: u64) -> i64 {
    let min = i64::try_from(symbol.min).unwrap_or(i64::MAX);
    let max = symbol.max.and_then(|max| i64::try_from(max).ok());
    let max = max.unwrap_or(i64::MAX);
    let n = PRIMES.len() as u64;
    let prime = PRIMES[(choice % n) as usize];
    // Multiples of powers of two come after the primes themselves.
    let wanted = prime << ((choice / (2 * n)) % 8);
    match wanted {
        fits if (min..=max).contains(&fits) => fits,
        // Within the range, though it be small or begin far out.
        wanted => match max.checked_sub(min).and_then(|span| span.checked_add(1)) {
            Some(span) => min + wanted % span,
            None => min.saturating_add(wanted),
        },
    }
}

/// Whether two samples share no size that is open.
fn differ(m: &Manifest, a: &[i64], b: &[i64]) -> bool {
    let open = |s: &Symbol| s.max.is_none_or(|max| max > s.min);
    let mut symbols = m.symbols.iter().zip(a.iter().zip(b));
    symbols.all(|(s, (a, b))| a != b || !open(s))
}

fn holds(condition: &Condition, sizes: &[i64]) -> bool {
    let sides = (
        value(&condition.left, sizes),
        value(&condition.right, sizes),
    );
    let (Some(left), Some(right)) = sides else {
        return false;
    };
    match condition.comparison {
        Comparison::Eq => left == right,
        Comparison::Ne => left != right,
        Comparison::Lt => left < right,
        Comparison::Le => left <= right,
    }
}

/// A size as a number; None when it is none, or too large for one.
pub fn value(dim: &Dim, sizes: &[i64]) -> Option<i64> {
    let all = |dims: &[Dim], f: fn(i64, i64) -> Option<i64>| {
        let mut values = dims.iter().map(|dim| value(dim, sizes));
        let first = values.next()??;
        values.try_fold(first, |a, b| f(a, b?))
    };
    let pair = |a: &Dim, b: &Dim| Some((value(a, sizes)?, value(b, sizes)?));
    match dim {
        Dim::Size(size) => Some(*size),
        Dim::Sym(symbol) => sizes.get(symbol.0).copied(),
        Dim::Add(dims) => all(dims, i64::checked_add),
        Dim::Mul(dims) => all(dims, i64::checked_mul),
        Dim::Max(dims) => all(dims, |a, b| Some(a.max(b))),
        Dim::Min(dims) => all(dims, |a, b| Some(a.min(b))),
        Dim::Sub(a, b) => pair(a, b).and_then(|(a, b)| a.checked_sub(b)),
        Dim::FloorDiv(a, b) => pair(a, b).and_then(|(a, b)| floor_div(a, b)),
        Dim::Mod(a, b) => {
            let (a, b) = pair(a, b)?;
            a.checked_sub(floor_div(a, b)?.checked_mul(b)?)
        }
    }
}

/// Division that rounds down, as Python's.
pub fn floor_div(a: i64, b: i64) -> Option<i64> {
    let (quotient, rest) = (a.checked_div(b)?, a.checked_rem(b)?);
    let down = rest != 0 && (rest < 0) != (b < 0);
    Some(quotient - i64::from(down))
}

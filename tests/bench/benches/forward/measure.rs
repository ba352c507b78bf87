//! Two functions taking turns.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use pycandle::{DType, Error, Result, Tensor};
use rayon::prelude::*;

/// Furthest that the outputs may lie apart, of the largest value: sums in another order.
const TOLERANCE: f64 = 1e-4;

/// How long a case may go on taking turns, and how often at least and at most.
const BUDGET: Duration = Duration::from_secs(8);
const TURNS: std::ops::RangeInclusive<usize> = 9..=400;

/// What a case took, sorted.
pub struct Case {
    name: String,
    ours: Vec<f64>,
    theirs: Vec<f64>,
}

/// Checks that both give the same, then times them in turns.
pub fn compare(
    name: &str,
    mut ours: impl FnMut() -> Result<Tensor>,
    mut theirs: impl FnMut() -> Result<Tensor>,
) -> Result<Case> {
    let apart = distance(&ours()?, &theirs()?)?;
    if apart.is_nan() || apart > TOLERANCE {
        return Err(Error::msg(format!(
            "{name}: the outputs lie {apart:.1e} apart"
        )));
    }
    let mut case = Case {
        name: name.to_owned(),
        ours: Vec::new(),
        theirs: Vec::new(),
    };
    let begin = Instant::now();
    while case.ours.len() < *TURNS.end()
        && (case.ours.len() < *TURNS.start() || begin.elapsed() < BUDGET)
    {
        case.ours.push(time(&mut ours)?);
        case.theirs.push(time(&mut theirs)?);
    }
    case.ours.sort_by(f64::total_cmp);
    case.theirs.sort_by(f64::total_cmp);
    Ok(case)
}

/// Prints all cases; fails when ours takes longer in one.
pub fn report(cases: &[Case]) -> ExitCode {
    println!(
        "{:26} {:>21} {:>21} {:>7} {:>7} {:>6}",
        "", "ours min/median ms", "theirs min/median ms", "min", "median", "turns"
    );
    let mut slower = false;
    for Case { name, ours, theirs } in cases {
        let ratio = |f: fn(&[f64]) -> f64| f(ours) / f(theirs);
        println!(
            "{name:26} {:>21} {:>21} {:>7.3} {:>7.3} {:>6}",
            format!("{:.2} / {:.2}", min(ours), median(ours)),
            format!("{:.2} / {:.2}", min(theirs), median(theirs)),
            ratio(min),
            ratio(median),
            ours.len()
        );
        // On a busy machine one of the two is disturbed, seldom both.
        slower |= ratio(min) > 1.0 && ratio(median) > 1.0;
    }
    if slower {
        println!("a generated model takes longer than the hand-written one");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn time(f: &mut impl FnMut() -> Result<Tensor>) -> Result<f64> {
    let begin = Instant::now();
    std::hint::black_box(f()?);
    Ok(begin.elapsed().as_secs_f64() * 1e3)
}

fn min(sorted: &[f64]) -> f64 {
    sorted[0]
}

fn median(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}

/// Largest difference over the largest value.
fn distance(a: &Tensor, b: &Tensor) -> Result<f64> {
    let (a, b) = (a.to_dtype(DType::F64)?, b.to_dtype(DType::F64)?);
    let difference = (&a - &b)?.abs()?.max_all()?.to_scalar::<f64>()?;
    Ok(difference / b.abs()?.max_all()?.to_scalar::<f64>()?)
}

/// Bytes per second that all threads together read from memory, in GB/s.
pub fn roof() -> f64 {
    let data = vec![1.0f32; 1 << 28];
    let read = || {
        let begin = Instant::now();
        let sum: f32 = data
            .par_chunks(1 << 20)
            .map(|part| {
                let mut lanes = [0.0f32; 64];
                for block in part.chunks_exact(64) {
                    for (lane, v) in lanes.iter_mut().zip(block) {
                        *lane += v;
                    }
                }
                lanes.iter().sum::<f32>()
            })
            .sum();
        std::hint::black_box(sum);
        4.0 * data.len() as f64 / begin.elapsed().as_secs_f64() / 1e9
    };
    (0..5).map(|_| read()).fold(0.0, f64::max)
}

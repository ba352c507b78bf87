//! Two functions taking turns.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use pycandle::{DType, Error, Result, Tensor};
use rayon::prelude::*;

/// How long a case may go on taking turns, and how often at least and at most.
const BUDGET: Duration = Duration::from_secs(8);
const TURNS: std::ops::RangeInclusive<usize> = 9..=400;

/// What a case took, in seconds, sorted.
pub struct Case {
    name: String,
    tolerance: f64,
    apart: f64,
    reads: u64,
    ours: Vec<f64>,
    theirs: Vec<f64>,
    /// Plain reads of memory between the turns, in GB/s.
    roof: Vec<f64>,
}

impl Case {
    /// A case whose outputs may lie `tolerance` of the largest value apart.
    pub fn new(name: &str, tolerance: f64) -> Self {
        Self {
            name: name.to_owned(),
            tolerance,
            apart: 0.0,
            reads: 0,
            ours: Vec::new(),
            theirs: Vec::new(),
            roof: Vec::new(),
        }
    }

    /// Bytes of weights that ours has to read, to compare with plain reads of memory.
    pub fn reads(self, reads: u64) -> Self {
        Self { reads, ..self }
    }
}

/// Checks that both give the same, then times them in turns.
pub fn compare(
    mut case: Case,
    mut ours: impl FnMut() -> Result<Tensor>,
    mut theirs: impl FnMut() -> Result<Tensor>,
) -> Result<Case> {
    case.apart = distance(&ours()?, &theirs()?)?;
    if case.apart.is_nan() || case.apart > case.tolerance {
        return Err(Error::msg(format!(
            "{}: the outputs lie {:.1e} apart",
            case.name, case.apart
        )));
    }
    let memory = (case.reads > 0).then(Memory::new);
    let begin = Instant::now();
    while case.ours.len() < *TURNS.end()
        && (case.ours.len() < *TURNS.start() || begin.elapsed() < BUDGET)
    {
        case.ours.push(time(&mut ours)?);
        case.theirs.push(time(&mut theirs)?);
        case.roof.extend(memory.as_ref().map(Memory::read));
    }
    Ok(case)
}

/// Prints all cases; fails when ours takes longer in one, at its best or in the middle.
pub fn report(cases: Vec<Case>) -> ExitCode {
    println!(
        "{:28} {:>19} {:>19} {:>6} {:>6} {:>5} {:>7}  ours reads, of plain reads",
        "", "ours min/median ms", "theirs min/median", "min", "median", "turns", "apart"
    );
    let mut slower = false;
    for mut case in cases {
        let ours = [least(&case.ours), median(&mut case.ours)];
        let theirs = [least(&case.theirs), median(&mut case.theirs)];
        let ratio = [ours[0] / theirs[0], ours[1] / theirs[1]];
        let pair = |[a, b]: [f64; 2]| format!("{:.2} / {:.2}", 1e3 * a, 1e3 * b);
        let reads = if case.reads > 0 {
            let (speed, roof) = (case.reads as f64 / ours[1] / 1e9, median(&mut case.roof));
            format!("{speed:.1} GB/s, {:.0}% of {roof:.1}", 100.0 * speed / roof)
        } else {
            String::new()
        };
        println!(
            "{:28} {:>19} {:>19} {:>6.3} {:>6.3} {:>5} {:>7.0e}  {reads}",
            case.name,
            pair(ours),
            pair(theirs),
            ratio[0],
            ratio[1],
            case.ours.len(),
            case.apart
        );
        slower |= ratio.iter().any(|&ratio| ratio > 1.0);
    }
    if slower {
        println!("a generated model takes longer than the hand-written one");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Seconds that a function takes.
pub fn time<T>(f: &mut impl FnMut() -> Result<T>) -> Result<f64> {
    let begin = Instant::now();
    std::hint::black_box(f()?);
    Ok(begin.elapsed().as_secs_f64())
}

fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

/// The value in the middle.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Largest difference over the largest value.
fn distance(a: &Tensor, b: &Tensor) -> Result<f64> {
    let (a, b) = (a.to_dtype(DType::F64)?, b.to_dtype(DType::F64)?);
    let difference = (&a - &b)?.abs()?.max_all()?.to_scalar::<f64>()?;
    Ok(difference / b.abs()?.max_all()?.to_scalar::<f64>()?)
}

/// More memory than a cache holds.
pub struct Memory(Vec<u64>);

impl Memory {
    pub fn new() -> Self {
        // Not zeros, which the system would map to one page.
        Self(vec![1; 1 << 26])
    }

    /// GB/s that all threads together read, each from four places in turn, which is fastest.
    pub fn read(&self) -> f64 {
        let begin = Instant::now();
        let sum = self.0.par_chunks(1 << 15).map(|part| {
            let (low, high) = part.split_at(part.len() / 2);
            let (a, b) = low.split_at(low.len() / 2);
            let (c, d) = high.split_at(high.len() / 2);
            let blocks = |part| <[u64]>::as_chunks::<4>(part).0.iter();
            let mut lanes = [0u64; 4];
            for (((a, b), c), d) in blocks(a).zip(blocks(b)).zip(blocks(c)).zip(blocks(d)) {
                for lane in 0..4 {
                    lanes[lane] ^= a[lane] ^ b[lane] ^ c[lane] ^ d[lane];
                }
            }
            lanes.iter().fold(0, |sum, lane| sum ^ lane)
        });
        std::hint::black_box(sum.reduce(|| 0, |a, b| a ^ b));
        8.0 * self.0.len() as f64 / begin.elapsed().as_secs_f64() / 1e9
    }
}

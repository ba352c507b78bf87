//! The probe that compares outputs as they arrive and keeps only statistics.

use std::collections::{BTreeSet, HashMap};

use candle_core::Tensor;

use super::Goldens;
use super::Verdict;
use super::compare::compare;
use super::pattern::matches;
use super::report::{ParityReport, Row};
use crate::{Error, Path, Probe, Result};

pub(super) struct Comparing<'a> {
    goldens: &'a Goldens,
    fused: &'a [&'a str],
    calls: HashMap<String, Calls>,
    strict: bool,
    rows: Vec<Row>,
    seen: BTreeSet<String>,
    error: Option<Error>,
}

/// The outputs of all calls of one module.
#[derive(Default)]
struct Calls {
    /// Those with goldens: call, output, and whether a fusion hides it; in order.
    expected: Vec<(usize, usize, bool)>,
    /// How many of them lie behind.
    passed: usize,
    /// Call and output that came last.
    last: Option<(usize, usize)>,
}

impl Calls {
    /// The call that an output belongs to which the model shows next.
    ///
    /// A model shows what its fusions leave, in order: calls may show some of their outputs or none.
    fn call_of(&mut self, out: usize) -> usize {
        let ahead = || (self.passed..).zip(&self.expected[self.passed..]);
        let mut alike = ahead().filter(|(_, e)| e.1 == out);
        let shown = alike.clone().find(|(_, e)| !e.2);
        let call = match shown.or_else(|| alike.next()) {
            Some((at, &(call, ..))) => {
                self.passed = at + 1;
                call
            }
            // No golden: one that is not further on than the last begins a call.
            None => match self.last {
                None => 0,
                Some((call, last)) => call + usize::from(out <= last),
            },
        };
        self.last = Some((call, out));
        call
    }
}

/// Module, call and output of a golden's key.
fn place(key: &str) -> Option<(&str, usize, usize)> {
    let (module, rest) = key.rsplit_once('#')?;
    let (call, out) = rest.split_once(".out.")?;
    Some((module, call.parse().ok()?, out.parse().ok()?))
}

impl<'a> Comparing<'a> {
    /// `fused`: patterns of the keys that the model does not show; `strict`: floats must have the
    /// golden's dtype.
    pub fn new(goldens: &'a Goldens, fused: &'a [&'a str], strict: bool) -> Self {
        let mut calls: HashMap<String, Calls> = HashMap::new();
        for key in goldens.keys() {
            if let Some((module, call, out)) = place(key) {
                let hidden = is_fused(fused, key);
                let of_module = calls.entry(module.to_owned()).or_default();
                of_module.expected.push((call, out, hidden));
            }
        }
        for of_module in calls.values_mut() {
            of_module.expected.sort_unstable();
        }
        Self {
            goldens,
            fused,
            calls,
            strict,
            rows: Vec::new(),
            seen: BTreeSet::new(),
            error: None,
        }
    }

    /// Compares one value; the first error of reading a tensor is kept for [`Self::finish`].
    pub fn compare(&mut self, key: &str, value: &Tensor) {
        match compare(self.goldens, key, value, self.strict) {
            Ok(row) => self.rows.push(row),
            Err(err) => {
                self.error.get_or_insert(err.at(key));
            }
        }
        self.seen.insert(key.to_string());
    }

    fn record_at(&mut self, module: String, out: usize, value: &Tensor) {
        let prefix = format!("{module}#");
        let call = self.calls.entry(module).or_default().call_of(out);
        self.compare(&format!("{prefix}{call}.out.{out}"), value);
    }

    /// Adds what was recorded in PyTorch and never seen here.
    pub fn finish(self) -> Result<ParityReport> {
        if let Some(err) = self.error {
            return Err(err);
        }
        let goldens = self.goldens;
        if !self.seen.iter().any(|key| goldens.contains(key)) && goldens.keys().next().is_some() {
            let text = "goldens of another model: no key of theirs is an output of this one";
            return Err(Error::file(goldens.path(), vec![text.into()]));
        }
        let mut rows = self.rows;
        for key in goldens.keys().filter(|key| !self.seen.contains(*key)) {
            let verdict = match is_fused(self.fused, key) {
                true => Verdict::Fused,
                false => Verdict::Missing,
            };
            rows.push(Row::new(key, verdict));
        }
        Ok(ParityReport::new(goldens, rows))
    }
}

fn is_fused(fused: &[&str], key: &str) -> bool {
    fused.iter().any(|pattern| matches(pattern, key))
}

impl Probe for Comparing<'_> {
    fn record(&mut self, module: &Path, out: usize, value: &Tensor) {
        self.record_at(module.to_string(), out, value);
    }

    fn record_child(&mut self, module: &Path, child: &str, out: usize, value: &Tensor) {
        self.record_at(module.join(child).to_string(), out, value);
    }
}

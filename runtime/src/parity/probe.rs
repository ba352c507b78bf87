//! The probe that compares outputs as they arrive and keeps only statistics.

use std::collections::{BTreeSet, HashMap};

use candle_core::Tensor;

use super::Goldens;
use super::compare::compare;
use super::pattern::matches;
use super::report::{ParityReport, Row, Verdict};
use crate::{Error, Path, Probe, Result};

pub(super) struct Comparing<'a> {
    goldens: &'a Goldens,
    /// By module: the number of the running call and the last output recorded of it.
    calls: HashMap<String, (usize, usize)>,
    strict: bool,
    rows: Vec<Row>,
    seen: BTreeSet<String>,
    error: Option<Error>,
}

impl<'a> Comparing<'a> {
    /// `strict`: floats must have the golden's dtype.
    pub fn new(goldens: &'a Goldens, strict: bool) -> Self {
        Self {
            goldens,
            calls: HashMap::new(),
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
        // Outputs come in the order of their indices: one that is not further on begins a call.
        let call = match self.calls.get(&module) {
            None => 0,
            Some(&(call, last)) if out > last => call,
            Some(&(call, _)) => call + 1,
        };
        let key = format!("{module}#{call}.out.{out}");
        self.calls.insert(module, (call, out));
        self.compare(&key, value);
    }

    /// Adds what was recorded in PyTorch and never seen here.
    pub fn finish(self, fused: &[&str]) -> Result<ParityReport> {
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
            let verdict = match fused.iter().any(|pattern| matches(pattern, key)) {
                true => Verdict::Fused,
                false => Verdict::Missing,
            };
            rows.push(Row::new(key, verdict));
        }
        Ok(ParityReport::new(goldens, rows))
    }
}

impl Probe for Comparing<'_> {
    fn record(&mut self, module: &Path, out: usize, value: &Tensor) {
        self.record_at(module.to_string(), out, value);
    }

    fn record_child(&mut self, module: &Path, child: &str, out: usize, value: &Tensor) {
        self.record_at(module.join(child).to_string(), out, value);
    }
}

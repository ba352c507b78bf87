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
    calls: HashMap<(String, usize), usize>,
    rows: Vec<Row>,
    seen: BTreeSet<String>,
    error: Option<Error>,
}

impl<'a> Comparing<'a> {
    pub fn new(goldens: &'a Goldens) -> Self {
        Self {
            goldens,
            calls: HashMap::new(),
            rows: Vec::new(),
            seen: BTreeSet::new(),
            error: None,
        }
    }

    /// Compares one value; the first error of reading a tensor is kept for [`Self::finish`].
    pub fn compare(&mut self, key: &str, value: &Tensor) {
        match compare(self.goldens, key, value) {
            Ok(row) => self.rows.push(row),
            Err(err) => {
                self.error.get_or_insert(err.at(key));
            }
        }
        self.seen.insert(key.to_string());
    }

    fn record_at(&mut self, module: String, out: usize, value: &Tensor) {
        let call = self.calls.entry((module.clone(), out)).or_default();
        let key = format!("{module}#{call}.out.{out}");
        *call += 1;
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

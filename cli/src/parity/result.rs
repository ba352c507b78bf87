//! What came of each model, as a table for people and as JSON for programs.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

/// One run on one file of goldens, as the scratch program prints it.
#[derive(Deserialize)]
#[serde(untagged)]
pub enum Run {
    /// The model ran.
    Compared(Comparison),
    /// It could not.
    Failed {
        /// Why.
        error: String,
    },
    /// The program itself stopped.
    #[serde(skip)]
    Error(String),
}

/// The numbers of a run.
#[derive(Deserialize)]
pub struct Comparison {
    passed: bool,
    modules: usize,
    worst: Option<Worst>,
    detail: String,
    ratio: Option<Number>,
    burden: Option<Number>,
    table: String,
}

/// How a model fared.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// At parity.
    Pass,
    /// Not at parity.
    Fail,
    /// Some ops, or ways in which they are called, have no lowering.
    Unsupported,
    /// It could not be compared.
    Error,
}

/// The tensor furthest off.
#[derive(Clone, Serialize, Deserialize)]
pub struct Worst {
    module: String,
    rel: Number,
    abs: Number,
}

/// A number, or the text `inf`, `-inf` or `nan`, for which JSON has no number.
#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum Number {
    Finite(f64),
    Text(String),
}

impl Number {
    fn value(&self) -> f64 {
        match self {
            Self::Finite(value) => *value,
            Self::Text(text) => text.parse().unwrap_or(f64::NAN),
        }
    }
}

/// What came of a model, over all its files of goldens.
#[derive(Serialize)]
pub struct Verdict {
    name: String,
    /// How it fared.
    pub status: Status,
    modules: usize,
    worst: Option<Worst>,
    detail: String,
    /// The worst difference as the table shows it.
    #[serde(skip)]
    off: String,
    #[serde(skip)]
    tables: Vec<(String, String)>,
}

#[derive(Serialize)]
struct Verdicts<'a> {
    models: &'a [Verdict],
}

impl Verdict {
    fn new(name: &str, status: Status, detail: String) -> Self {
        let (name, off) = (name.to_owned(), String::new());
        Self {
            name,
            status,
            modules: 0,
            worst: None,
            detail,
            off,
            tables: Vec::new(),
        }
    }

    /// The model could not be compared.
    pub fn error(name: &str, detail: impl Into<String>) -> Self {
        Self::new(name, Status::Error, detail.into())
    }

    /// The model needs these ops, or calls them in these ways.
    pub fn unsupported(name: &str, unlowered: &[String]) -> Self {
        Self::new(name, Status::Unsupported, unlowered.join(", "))
    }

    /// All runs together: the counts are summed, the worst is the worst of all.
    pub fn of_runs(name: &str, runs: Vec<(String, Run)>) -> Self {
        let mut verdict = Self::new(name, Status::Pass, String::new());
        let mut details = Vec::new();
        let mut heaviest = f64::NEG_INFINITY;
        for (case, run) in runs {
            let label = if case.is_empty() {
                String::new()
            } else {
                format!("{case}: ")
            };
            match run {
                Run::Compared(run) => {
                    verdict.modules += run.modules;
                    let burden = match run.burden.as_ref().map(Number::value) {
                        Some(burden) if !burden.is_nan() => burden,
                        None if run.passed => 0.0,
                        _ => f64::INFINITY,
                    };
                    if let Some(worst) = run.worst.filter(|_| burden >= heaviest) {
                        heaviest = burden;
                        verdict.off = match run.ratio {
                            Some(ratio) => format!("{:.1}×", ratio.value()),
                            None => format!("{:.1e}", worst.rel.value()),
                        };
                        verdict.worst = Some(worst);
                    }
                    if !run.passed {
                        details.push(format!("{label}{}", run.detail));
                        if verdict.status == Status::Pass {
                            verdict.status = Status::Fail;
                        }
                    }
                    verdict.tables.push((case, run.table));
                }
                Run::Failed { error } | Run::Error(error) => {
                    verdict.status = Status::Error;
                    details.push(format!("{label}{error}"));
                }
            }
        }
        verdict.detail = details.join("; ");
        verdict
    }
}

/// All verdicts as JSON.
pub fn json(verdicts: &[Verdict]) -> String {
    serde_json::to_string(&Verdicts { models: verdicts }).unwrap_or_default()
}

/// All verdicts as a table; with `full`, the tables of all compared tensors before it.
pub fn table(verdicts: &[Verdict], full: bool) -> String {
    let mut text = String::new();
    for verdict in verdicts.iter().filter(|_| full) {
        for (case, table) in &verdict.tables {
            let dot = if case.is_empty() { "" } else { "." };
            let _ = writeln!(text, "{}{dot}{case}\n{table}\n", verdict.name);
        }
    }
    let rows: Vec<_> = verdicts.iter().map(row).collect();
    let width = |head: &str, i: usize| {
        rows.iter()
            .map(|row| row[i].chars().count())
            .max()
            .unwrap_or(0)
            .max(head.chars().count())
    };
    let heads = [
        "model",
        "modules",
        "worst (× PyTorch's own error)",
        "result",
    ];
    let (a, b, c) = (width(heads[0], 0), width(heads[1], 1), width(heads[2], 2));
    let heads = heads.map(str::to_owned);
    for [name, modules, worst, result] in std::iter::once(&heads).chain(&rows) {
        let _ = writeln!(text, "{name:a$}  {modules:>b$}  {worst:c$}  {result}");
    }
    text.trim_end().to_owned()
}

fn row(verdict: &Verdict) -> [String; 4] {
    let worst = verdict.worst.as_ref().map_or("-".to_owned(), |worst| {
        format!("{}  {}", verdict.off, worst.module)
    });
    let result = match verdict.status {
        Status::Pass => "pass".to_owned(),
        Status::Fail => format!("fail: {}", verdict.detail),
        Status::Unsupported => format!("unsupported: {}", verdict.detail),
        Status::Error => format!("error: {}", verdict.detail.replace('\n', "\n    ")),
    };
    [
        verdict.name.clone(),
        verdict.modules.to_string(),
        worst,
        result,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(json: &str) -> Run {
        serde_json::from_str(json).expect("a run")
    }

    fn verdicts() -> Vec<Verdict> {
        let good = r#"{"passed":true,"modules":76,"worst":{"module":"layer.5.output","rel":2e-7,"abs":1e-6},"detail":"","ratio":1.3,"burden":0.6,"table":"t"}"#;
        let bad = r#"{"passed":false,"modules":4,"worst":{"module":"b","rel":"nan","abs":2.0},"detail":"first divergence: b","ratio":null,"burden":null,"table":"t"}"#;
        vec![
            Verdict::of_runs("mini", vec![(String::new(), run(good))]),
            Verdict::of_runs(
                "two",
                vec![(String::new(), run(good)), ("long".into(), run(bad))],
            ),
            Verdict::unsupported("fft", &["aten.fft_rfft.default".to_owned()]),
            Verdict::of_runs("gone", vec![(String::new(), run(r#"{"error":"no"}"#))]),
        ]
    }

    #[test]
    fn the_table_has_one_row_per_model() {
        let expected = "\
model  modules  worst (× PyTorch's own error)  result
mini        76  1.3×  layer.5.output           pass
two         80  NaN  b                         fail: long: first divergence: b
fft          0  -                              unsupported: aten.fft_rfft.default
gone         0  -                              error: no";
        assert_eq!(table(&verdicts(), false), expected);
    }

    #[test]
    fn the_json_has_the_documented_fields() {
        let expected = r#"{"models":[{"name":"mini","status":"pass","modules":76,"worst":{"module":"layer.5.output","rel":2e-7,"abs":1e-6},"detail":""},"#;
        assert!(
            json(&verdicts()).starts_with(expected),
            "{}",
            json(&verdicts())
        );
        let not_finite = r#""worst":{"module":"b","rel":"nan","abs":2.0}"#;
        assert!(json(&verdicts()).contains(not_finite));
    }
}

//! What a comparison found.

use std::fmt;

use serde::{Serialize, Serializer};

use super::{Goldens, Origin, Verdict};

/// What a comparison is that failed on goldens of another manifest.
pub(super) const OTHER_MANIFEST: &str = "these goldens were recorded with another manifest than \
     the model was generated from: record both again, and generate from that manifest";
/// The same of other weights.
const OTHER_WEIGHTS: &str = "these goldens were recorded with other weights: compare on those, or \
     record goldens again for these";

/// One compared tensor.
///
/// As JSON, a distance that is not finite is the text `inf` or `nan`; null is one that there is not.
///
/// ```
/// # use pycandle::{Device, Weights, parity::{self, Goldens, Verdict}};
/// # #[pycandle::pycandle_model(manifest = "../tests/models/mlp_manifest.json")]
/// # pub struct Mlp;
/// # fn main() -> pycandle::Result<()> {
/// # let weights = Weights::open("../tests/models/mlp.safetensors")?;
/// # let goldens = Goldens::open("../tests/models/mlp_trace.safetensors")?;
/// # let report = parity::run::<Mlp>(&weights, &goldens, &Device::Cpu)?;
/// let row = &report.rows[0]; // inner modules are done first
/// assert_eq!((&*row.key, row.module()), ("up#0.out.0", "up"));
/// assert_eq!(row.verdict, Verdict::Pass);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The golden's key, `{module}#{call}.out.{i}` or `output.{name}`.
    pub key: String,
    /// The result.
    pub verdict: Verdict,
    /// Our relative L2 distance, to the truth or, without one, to PyTorch.
    #[serde(serialize_with = "option")]
    pub rel: Option<f64>,
    /// Our worst element's distance.
    #[serde(serialize_with = "option")]
    pub abs: Option<f64>,
    /// PyTorch's relative L2 distance to the truth.
    #[serde(serialize_with = "option")]
    pub torch: Option<f64>,
    /// The relative distance that passes.
    #[serde(serialize_with = "option")]
    pub limit: Option<f64>,
}

impl Row {
    pub(super) fn new(key: &str, verdict: Verdict) -> Self {
        Self {
            key: key.to_string(),
            verdict,
            rel: None,
            abs: None,
            torch: None,
            limit: None,
        }
    }

    /// The module path, or `output.{name}`.
    pub fn module(&self) -> &str {
        self.key
            .rsplit_once('#')
            .map_or(&self.key, |(module, _)| module)
    }

    fn ratio(&self) -> Option<f64> {
        match (self.rel?, self.torch?) {
            (_, 0.0) => None,
            (rel, torch) => Some(rel / torch),
        }
    }
}

/// The comparison of one run with its goldens, in order of execution.
///
/// `Display` is the full table; [`ParityReport::line`] one line for a table of models;
/// [`ParityReport::snapshot`] a text that does not depend on the machine; [`ParityReport::summary`]
/// serialises.
///
/// ```
/// # use pycandle::{Device, Weights, parity::{self, Goldens}};
/// # #[pycandle::pycandle_model(manifest = "../tests/models/mlp_manifest.json")]
/// # pub struct Mlp;
/// # fn main() -> pycandle::Result<()> {
/// # let weights = Weights::open("../tests/models/mlp.safetensors")?;
/// # let goldens = Goldens::open("../tests/models/mlp_trace.safetensors")?;
/// # let report = parity::run::<Mlp>(&weights, &goldens, &Device::Cpu)?;
/// println!("{report}");
/// if let Some(row) = report.first_divergence() {
///     println!("look at {}: {}", row.module(), report.diagnosis());
/// }
/// assert!(report.passed() && report.failures().next().is_none());
/// assert_eq!(report.compared(), 4);
/// let worst = report.worst().expect("something was compared");
/// assert!(worst.rel < Some(1e-6));
/// println!("{}\n{}", report.line(), report.snapshot());
/// assert_eq!(report.summary().modules, 4);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ParityReport {
    /// Everything compared, in order of execution, then what was fused or missing.
    pub rows: Vec<Row>,
    /// Precision of the truth, as recorded; `None` when the goldens hold none.
    pub truth: Option<String>,
    /// dtype of the run that the goldens were recorded from.
    pub dtype: Option<String>,
    /// Whether the goldens were recorded with the model's manifest.
    pub manifest: Origin,
    /// Whether they were recorded with these weights; looked at when something failed.
    pub weights: Origin,
}

/// [`ParityReport`] in numbers, to be serialised.
///
/// ```
/// # use pycandle::{Device, Weights, parity::{self, Goldens}};
/// # #[pycandle::pycandle_model(manifest = "../tests/models/mlp_manifest.json")]
/// # pub struct Mlp;
/// # fn main() -> pycandle::Result<()> {
/// # let weights = Weights::open("../tests/models/mlp.safetensors")?;
/// # let goldens = Goldens::open("../tests/models/mlp_trace.safetensors")?;
/// # let report = parity::run::<Mlp>(&weights, &goldens, &Device::Cpu)?;
/// let summary = report.summary();
/// assert!(summary.passed && summary.failed == 0 && summary.detail.is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Whether everything passed.
    pub passed: bool,
    /// Tensors compared.
    pub modules: usize,
    /// Tensors that failed, missing ones among them.
    pub failed: usize,
    /// Goldens inside fused operations, not compared.
    pub fused: usize,
    /// The tensor furthest off.
    pub worst: Option<Worst>,
    /// Why it failed; empty when it passed.
    pub detail: String,
}

/// The tensor furthest off.
///
/// As JSON, a distance that is not finite is the text `inf` or `nan`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Worst {
    /// Its module path, or `output.{name}`.
    pub module: String,
    /// Relative L2 distance.
    #[serde(serialize_with = "number")]
    pub rel: f64,
    /// Distance of the worst element.
    #[serde(serialize_with = "number")]
    pub abs: f64,
}

/// A number that says so when it is not finite, for which JSON has no form.
pub(super) fn number<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
    match value.is_finite() {
        true => to.serialize_f64(*value),
        false => to.serialize_str(&value.to_string().to_lowercase()),
    }
}

fn option<S: Serializer>(value: &Option<f64>, to: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => number(value, to),
        None => to.serialize_none(),
    }
}

impl ParityReport {
    pub(super) fn new(goldens: &Goldens, rows: Vec<Row>) -> Self {
        let get = |key| goldens.metadata(key).map(str::to_string);
        let has_truth = rows.iter().any(|row| row.torch.is_some());
        Self {
            rows,
            truth: has_truth.then(|| get("truth_dtype").unwrap_or_else(|| "higher".into())),
            dtype: get("dtype"),
            manifest: Origin::Unchecked,
            weights: Origin::Unchecked,
        }
    }

    /// Whether every tensor passed or was explained by a fusion, and something was compared.
    pub fn passed(&self) -> bool {
        self.compared() > 0 && !self.rows.iter().any(|row| row.verdict.is_failure())
    }

    /// Tensors that were compared with PyTorch's.
    pub fn compared(&self) -> usize {
        let absent = |row: &&Row| {
            matches!(
                row.verdict,
                Verdict::Fused | Verdict::Missing | Verdict::Unexpected
            )
        };
        self.rows.len() - self.rows.iter().filter(absent).count()
    }

    /// The failed rows, in order of execution.
    pub fn failures(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.verdict.is_failure())
    }

    /// The first tensor, in order of execution, whose numbers are wrong.
    ///
    /// Modules report when they are done, inner ones first: everything that went into it passed.
    pub fn first_divergence(&self) -> Option<&Row> {
        let absent = |row: &&Row| matches!(row.verdict, Verdict::Missing | Verdict::Unexpected);
        self.failures().find(|row| !absent(row))
    }

    /// The tensor furthest off: relative to PyTorch's own error, or absolutely without a truth.
    pub fn worst(&self) -> Option<&Row> {
        let burden = |row: &&Row| match (row.rel, row.limit) {
            (Some(0.0), _) => 0.0, // of zeros there is no limit
            (Some(rel), Some(limit)) if rel.is_finite() && limit > 0.0 => rel / limit,
            (Some(_), _) => f64::INFINITY,
            _ => -1.0,
        };
        let compared = self.rows.iter().filter(|row| row.rel.is_some());
        compared.max_by(|a, b| burden(a).total_cmp(&burden(b)))
    }

    /// Why it failed; empty when it passed.
    ///
    /// Goldens of another manifest or other weights are named as such. Otherwise it is the first
    /// divergence, and what the goldens leave open about where they come from.
    pub fn diagnosis(&self) -> String {
        if self.passed() {
            return String::new();
        }
        let other = [
            (&self.manifest, OTHER_MANIFEST),
            (&self.weights, OTHER_WEIGHTS),
        ];
        let other: Vec<&str> = other
            .iter()
            .filter(|(origin, _)| **origin == Origin::Other)
            .map(|(_, text)| *text)
            .collect();
        if !other.is_empty() {
            return other.join("; ");
        }
        let mut text = self.divergence();
        for origin in [&self.manifest, &self.weights] {
            if let Origin::Unknown(why) = origin {
                text += &format!("; {why}");
            }
        }
        text
    }

    fn divergence(&self) -> String {
        if let Some(first) = self.first_divergence() {
            let module = first.module();
            let prefix = format!("{module}.");
            let before = self.rows.iter().take_while(|row| *row != first);
            let inner = before
                .filter(|row| module.is_empty() || row.key.starts_with(&prefix))
                .count();
            let place = match module {
                "" => "the model itself",
                module => module,
            };
            return match inner {
                _ if module.starts_with("output.") => {
                    format!("first divergence: {place}; every module before it agrees")
                }
                0 => format!(
                    "first divergence: {place}; its inputs agree, so the fault is inside it"
                ),
                inner => format!(
                    "first divergence: {place}; its inputs and the {inner} tensors computed inside \
                     it agree, so the fault is in its own operations"
                ),
            };
        }
        let count = |verdict| {
            self.rows
                .iter()
                .filter(|row| row.verdict == verdict)
                .count()
        };
        let (missing, unexpected) = (count(Verdict::Missing), count(Verdict::Unexpected));
        match (missing, unexpected) {
            (0, 0) => "nothing was compared".into(),
            _ => format!(
                "{missing} goldens were never reported and {unexpected} outputs have no golden: \
                 the goldens are of another model or of another trace of it"
            ),
        }
    }

    /// One line: tensors compared, the worst of them, the result.
    pub fn line(&self) -> String {
        let worst = self.worst().map_or(String::from("-"), |row| {
            let off = match row.ratio() {
                Some(ratio) => format!("{ratio:.1}×"),
                None => format!("{:.1e}", row.rel.unwrap_or(0.0)),
            };
            format!("{off} {}", name(row.module()))
        });
        let result = match self.passed() {
            true => "pass".into(),
            false => format!("fail: {}", self.diagnosis()),
        };
        format!("{} tensors, worst {worst}, {result}", self.compared())
    }

    /// The summary, for JSON.
    pub fn summary(&self) -> Summary {
        let fused = |row: &&Row| row.verdict == Verdict::Fused;
        Summary {
            passed: self.passed(),
            modules: self.compared(),
            failed: self.failures().count(),
            fused: self.rows.iter().filter(fused).count(),
            worst: self.worst().map(|row| Worst {
                module: name(row.module()).to_string(),
                rel: row.rel.unwrap_or(0.0),
                abs: row.abs.unwrap_or(0.0),
            }),
            detail: self.diagnosis(),
        }
    }

    /// Names, limits by order of magnitude, and results: the same on every machine.
    ///
    /// Limits come from the goldens alone; measured differences, which depend on the processor's
    /// order of summation, are left out unless they fail.
    pub fn snapshot(&self) -> String {
        let mut text = format!("{}\n", self.basis());
        for row in &self.rows {
            let result = match &row.verdict {
                Verdict::Pass => match row.limit {
                    Some(limit) => format!("pass within {}", magnitude(limit)),
                    None => "pass exactly".into(),
                },
                Verdict::Differs => {
                    format!("FAIL about {}", magnitude(row.rel.unwrap_or(f64::NAN)))
                }
                other => other.to_string(),
            };
            text += &format!("{}: {result}\n", row.key);
        }
        text
    }

    fn basis(&self) -> String {
        let dtype = self.dtype.as_deref().unwrap_or("unknown dtype");
        match &self.truth {
            Some(truth) => format!("{dtype} against a {truth} truth: at most 2× PyTorch's error"),
            None => format!(
                "{dtype} without a truth: relative 1e-4 (f32) or 2e-2 (f16, bf16) to PyTorch"
            ),
        }
    }
}

impl fmt::Display for ParityReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.rows.iter().map(|row| name(&row.key).len()).max();
        let width = width.unwrap_or(0).max("tensor".len());
        writeln!(f, "{}", self.basis())?;
        writeln!(
            f,
            "{:width$}  {:>8}  {:>8}  result",
            "tensor", "rel", "×PyTorch"
        )?;
        for row in &self.rows {
            let rel = row.rel.map_or("-".into(), |rel| format!("{rel:.1e}"));
            let ratio = row
                .ratio()
                .map_or("-".into(), |ratio| format!("{ratio:.2}"));
            writeln!(
                f,
                "{:width$}  {rel:>8}  {ratio:>8}  {}",
                row.key, row.verdict
            )?;
        }
        let fused = self.rows.iter().filter(|row| row.verdict == Verdict::Fused);
        let (fused, failed) = (fused.count(), self.failures().count());
        write!(
            f,
            "{} tensors compared, {failed} failed, {fused} fused",
            self.compared()
        )?;
        match (self.diagnosis(), &self.manifest) {
            (text, _) if !text.is_empty() => write!(f, "\n{text}"),
            (_, Origin::Other) => {
                f.write_str("\nnote: it passed on goldens that were recorded with another manifest")
            }
            (_, Origin::Unknown(why)) => write!(f, "\nnote: {why}"),
            _ => Ok(()),
        }
    }
}

/// The root module's path is empty.
fn name(module: &str) -> &str {
    match module {
        "" => "(model)",
        module => module,
    }
}

/// The next power of ten above.
fn magnitude(value: f64) -> String {
    match value {
        value if value > 0.0 && value.is_finite() => format!("1e{}", value.log10().ceil() as i32),
        value => value.to_string(),
    }
}

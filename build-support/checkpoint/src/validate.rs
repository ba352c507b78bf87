//! A checkpoint held against what a model needs of it.
//!
//! In: [`Expected`] and the headers of a [`Checkpoint`]. Out: for every tensor that is needed where
//! it is, or one [`Mismatch`] that says everything that does not fit.

mod adapter;
mod compare;
mod conclusion;
mod config;
mod edit;
mod extra;
mod forms;
mod found;
mod gguf;
mod groups;
mod hits;
mod keys;
mod mismatch;
mod missing;
mod names;
mod needs;
mod pieces;
mod prefix;
mod renamed;
mod rules;
mod similar;
mod sources;
mod tied;

use crate::open::{Checkpoint, Tensor};

pub use config::config_facts;
pub use forms::need_of_key;
#[cfg(feature = "data")]
pub(crate) use found::EXTRACTED;
pub use mismatch::{Class, Finding, Line, Mismatch, Rename};
pub use names::Names;
pub use needs::{ByName, Need, Needs};
pub use rules::Rules;
pub use sources::{Form, Rows, Source};

use found::{Finder, Found as Hits};
use sources::Sources;

/// What a model expects of a checkpoint.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// The name of the trace in messages, as `llama_manifest.json`.
    pub trace: &'a str,
    /// Every tensor that the model needs.
    pub needs: &'a dyn Needs,
    /// Need → key in the checkpoint, where they differ, as [`Names`] reads them: a segment `*` stands
    /// for a number, the n-th of the need for the n-th of the key. A checkpoint that has the need
    /// under its own name is as good.
    pub renames: &'a [(&'a str, &'a str)],
    /// The rules that `renames` come from, where they are known: renames that a report proposes are to
    /// be added behind them.
    pub rules: Option<&'a dyn Rules>,
    /// The `config.json` of the trace, as JSON; `None` where there was none.
    pub config: Option<&'a str>,
    /// Whether tensors that nothing needs are findings.
    pub strict: bool,
}

impl Expected<'_> {
    /// Nothing is needed and nothing renamed.
    pub const DEFAULT: Self = Self {
        trace: "the manifest",
        needs: &[],
        renames: &[],
        rules: None,
        config: None,
        strict: false,
    };
}

/// Where everything is that the model needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Validated {
    sources: Sources,
    /// What is no mistake, but good to know.
    pub notes: Vec<String>,
    /// What is perhaps a mistake, though everything fits.
    pub warnings: Vec<String>,
}

impl Validated {
    /// Where the need of this number is.
    pub fn source(&self, need: usize) -> Source {
        self.sources.get(need)
    }

    /// The needs that have another key, order or form in the checkpoint, by their numbers.
    ///
    /// ```
    /// use pycandle_checkpoint::{Dtype, Expected, Need, Snapshot, validate};
    /// let mut snapshot = Snapshot::default();
    /// snapshot.tensor("h.weight", Dtype::F32, &[4])?;
    /// let checkpoint = snapshot.into_checkpoint("w".as_ref(), "w".as_ref());
    /// let need = Need {
    ///     name: "layer.weight".into(),
    ///     shape: &[4],
    ///     dtype: Dtype::F32,
    ///     tied_to: None,
    /// };
    /// let expected = Expected {
    ///     needs: &[need],
    ///     renames: &[("layer.weight", "h.weight")],
    ///     ..Expected::DEFAULT
    /// };
    /// let validated = validate(&expected, &checkpoint).map_err(|mismatch| mismatch.to_string())?;
    /// let (need, source) = validated.sources().next().ok_or("none")?;
    /// assert_eq!((need, source.key(&checkpoint)), (0, Some("h.weight")));
    /// # Ok::<(), String>(())
    /// ```
    pub fn sources(&self) -> impl Iterator<Item = (usize, Source)> {
        self.sources.iter()
    }
}

/// Holds a checkpoint against what a model expects of it; reads nothing but what is already open,
/// and `config.json`.
///
/// Dtypes may differ where loading converts: a floating-point tensor of the trace may be stored as
/// F64, F32, F16, BF16, F8_E4M3 or in blocks of GGUF; an integer as any integer all of whose values it
/// has, but for U8; U8 also as a boolean. Nothing else is converted.
///
/// # Errors
/// Everything that does not fit, in one report.
///
/// ```
/// use pycandle_checkpoint::{Dtype, Expected, Need, Snapshot, validate};
/// let mut snapshot = Snapshot::default();
/// snapshot.tensor("fc.weight", Dtype::BF16, &[5, 4])?;
/// let checkpoint = snapshot.into_checkpoint("w".as_ref(), "w".as_ref());
/// let need = Need {
///     name: "fc.weight".into(),
///     shape: &[3, 4],
///     dtype: Dtype::F32,
///     tied_to: None,
/// };
/// let expected = Expected { needs: &[need], ..Expected::DEFAULT };
/// let mismatch = validate(&expected, &checkpoint).unwrap_err();
/// assert!(mismatch.to_string().contains("shape: fc.weight is [5, 4], the trace has [3, 4]"));
/// # Ok::<(), String>(())
/// ```
pub fn validate(expected: &Expected<'_>, checkpoint: &Checkpoint) -> Result<Validated, Mismatch> {
    let finder = Finder::new(checkpoint, expected.rules);
    let mut found = Hits::new(expected, &finder);
    let mut findings = Vec::new();
    let mut prefixes = prefix::findings(expected, &finder, &mut found);
    found.find_scales(expected, &finder);
    found.share(expected);
    findings.extend(missing::findings(expected, &finder, &found, &mut prefixes));
    findings.extend(prefixes.finding(&finder));
    let is_whole = findings.is_empty();
    findings.extend(tied::findings(expected, &finder, &found, is_whole));
    findings.extend(compare::findings(expected, &found));
    let mut compared = config::compare(expected, checkpoint);
    findings.extend(extra::findings(expected, &found, &compared));
    findings.append(&mut compared.findings);
    let is_no_mistake = |finding: &Finding| finding.is_note() || finding.is_warning();
    if findings.iter().all(is_no_mistake) {
        let said = |which: fn(&Finding) -> bool| {
            let findings = findings.iter().filter(|finding| which(finding));
            let lines = findings.flat_map(|finding| &finding.lines);
            lines.map(ToString::to_string).collect()
        };
        return Ok(Validated {
            notes: said(Finding::is_note),
            warnings: said(Finding::is_warning),
            sources: found.sources(expected),
        });
    }
    let conclusion = conclusion::conclude(expected, checkpoint, &found, &findings, &compared);
    Err(Mismatch::new(expected, checkpoint, findings, conclusion))
}

/// What a checkpoint has of what a model expects, whether or not it fits.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Located<'c> {
    /// For every need, in the same order, what is there of it.
    pub needs: Vec<Option<Found<'c>>>,
    /// Keys that nothing needs, sorted.
    pub unneeded: Vec<&'c str>,
}

/// A need that the checkpoint has.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Found<'c> {
    /// The tensor that is it.
    pub tensor: Tensor<'c>,
    /// Whether that is the tensor of a twin, because the need's own is absent.
    pub tied: bool,
    /// How its numbers are stored.
    pub form: Form,
}

/// Looks for everything that a model expects, as [`validate`] does, and judges nothing.
///
/// ```
/// use pycandle_checkpoint::{Dtype, Expected, Snapshot, locate};
/// let mut snapshot = Snapshot::default();
/// snapshot.tensor("fc.weight", Dtype::BF16, &[5, 4])?;
/// let checkpoint = snapshot.into_checkpoint("w".as_ref(), "w".as_ref());
/// assert_eq!(locate(&Expected::DEFAULT, &checkpoint).unneeded, ["fc.weight"]);
/// # Ok::<(), String>(())
/// ```
pub fn locate<'c>(expected: &Expected<'_>, checkpoint: &'c Checkpoint) -> Located<'c> {
    let finder = Finder::new(checkpoint, expected.rules);
    let mut hits = Hits::new(expected, &finder);
    // Keys under another prefix are hits, so that they are not listed as what nothing needs.
    let _ = prefix::findings(expected, &finder, &mut hits);
    hits.find_scales(expected, &finder);
    hits.share(expected);
    let found = |hit: hits::Hit<'c>| Found {
        tensor: hit.tensor,
        tied: hit.tied,
        form: hit.form,
    };
    let unneeded = extra::unneeded(&hits);
    let mut unneeded: Vec<_> = unneeded.iter().map(|tensor| tensor.name()).collect();
    unneeded.sort_unstable();
    Located {
        needs: hits.hits.iter().map(|hit| hit.map(found)).collect(),
        unneeded,
    }
}

#[cfg(test)]
mod tests;

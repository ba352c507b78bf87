//! What came of one tensor.

use std::fmt;

use serde::Serialize;

use super::report::number;

/// The result of one tensor.
///
/// ```
/// use pycandle::parity::Verdict;
/// let verdict = Verdict::Unequal { differ: 1, of: 8 };
/// assert!(verdict.is_failure());
/// assert_eq!(verdict.to_string(), "FAIL: 1 of 8 integers differ");
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verdict {
    /// Within the rule.
    Pass,
    /// Numbers are further off than the rule allows.
    Differs,
    /// Integers or booleans that are not equal.
    Unequal {
        /// Elements that differ.
        differ: usize,
        /// Elements in all.
        of: usize,
    },
    /// Another shape than PyTorch's.
    Shape {
        /// The model's shape.
        ours: Vec<usize>,
        /// PyTorch's shape.
        golden: Vec<usize>,
    },
    /// Another dtype than PyTorch's. Integers, which are all kept in 64 bits, count as one.
    DType {
        /// The model's dtype.
        ours: String,
        /// PyTorch's dtype.
        golden: String,
    },
    /// NaN, an infinity, the largest number of the dtype or a mask's fill, on one side only.
    Special {
        /// The first such element, row-major.
        at: usize,
        /// The model's value.
        #[serde(serialize_with = "number")]
        ours: f64,
        /// PyTorch's value.
        #[serde(serialize_with = "number")]
        golden: f64,
    },
    /// Recorded in PyTorch and part of a fused operation here: not compared.
    Fused,
    /// Recorded in PyTorch, never reported by the model.
    Missing,
    /// Reported by the model, not recorded in PyTorch.
    Unexpected,
}

impl Verdict {
    /// Whether it counts against the model.
    pub fn is_failure(&self) -> bool {
        !matches!(self, Self::Pass | Self::Fused)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pass => f.write_str("pass"),
            Self::Differs => f.write_str("FAIL"),
            Self::Unequal { differ, of } => write!(f, "FAIL: {differ} of {of} integers differ"),
            Self::Shape { ours, golden } => write!(f, "FAIL: shape {ours:?}, PyTorch {golden:?}"),
            Self::DType { ours, golden } => write!(f, "FAIL: dtype {ours}, PyTorch {golden}"),
            Self::Special { at, ours, golden } => {
                write!(f, "FAIL: element {at} is {ours:e}, PyTorch {golden:e}")
            }
            Self::Fused => f.write_str("fused"),
            Self::Missing => f.write_str("FAIL: never reported by the model"),
            Self::Unexpected => f.write_str("FAIL: not among the goldens"),
        }
    }
}

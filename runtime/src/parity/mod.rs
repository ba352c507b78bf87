//! Holding a model against PyTorch, module by module.
//!
//! What comes in: a generated model ([`Traced`]), its weights and [`Goldens`]; what goes out: a
//! [`ParityReport`] that names the first module that diverges.
//!
//! # The rule
//! The distance of a tensor from the truth is its relative L2 error, ‖a − t‖ / ‖t‖.
//! The truth is a run of the same model in PyTorch in a higher precision.
//! A tensor passes when its distance is at most twice that of PyTorch's own tensor in the model's
//! precision, or at most 1e-6.
//! So that a single wrong element cannot hide in a large tensor, no element may be off by more than
//! eight times PyTorch's worst one (or 8e-6 of the largest).
//! Where no truth was recorded, the distance is taken from PyTorch's tensor itself and may be 1e-4
//! in f32 (and f64) and 2e-2 in f16 and bf16; the report says so. The same holds where PyTorch's own
//! distance from the truth is more than a quarter: twice it would let anything pass.
//! Values that a mask fills in (repeated exactly, a thousand or more and a thousand times the usual
//! size) are left out of
//! the distance, which they would drown, and must agree to 1e-6, or to one step of a half type.
//! Both sides of every comparison scale with the tensor: a small tensor that is wrong fails, and so
//! does a doubled one.
//! Integers and booleans are equal or fail; shapes and dtypes are equal or fail; NaN, infinities and the
//! largest finite number of the dtype (which masks are made of) are in the same places or fail.
//!
//! # Goldens of something else
//! Goldens name, by hash, the manifest and the weights that they were recorded with. When a
//! comparison fails and one of them is another, the report says that instead of a divergence; see
//! [`Origin`]. One that passes all the same passes, and the report notes the other manifest.

mod compare;
mod goldens;
mod origin;
mod pattern;
mod probe;
mod report;
mod verdict;

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};

use crate::{Probe, Result, Weights};

pub use goldens::Goldens;
pub use origin::Origin;
pub use report::{ParityReport, Row, Summary};
pub use verdict::Verdict;

/// Tensors by manifest name.
///
/// ```
/// use pycandle::{Device, Tensor, parity::Named};
/// # fn main() -> pycandle::Result<()> {
/// let inputs = Named::from([("x".to_owned(), Tensor::new(1f32, &Device::Cpu)?)]);
/// assert!(inputs.contains_key("x"));
/// # Ok(())
/// # }
/// ```
pub type Named = BTreeMap<String, Tensor>;

/// Names or patterns of names, fixed in generated code.
///
/// ```
/// const INPUTS: pycandle::parity::Names = &["input_ids", "past_key_values_*_*"];
/// # assert_eq!(INPUTS.len(), 2);
/// ```
pub type Names = &'static [&'static str];

/// A generated model, as parity runs it; implemented by generated code.
///
/// A model that was written by hand can be held against PyTorch as well:
///
/// ```
/// use pycandle::{Device, Probe, Result, Weights, parity::{Named, Names, Traced}};
///
/// struct Doubled;
/// impl Traced for Doubled {
///     const INPUTS: Names = &["x"];
///     fn load(_: &Weights, _: &Device) -> Result<Self> {
///         Ok(Self)
///     }
///     fn forward_named(&self, inputs: &Named, _: &mut impl Probe) -> Result<Named> {
///         Ok([("output".to_owned(), (&inputs["x"] * 2.0)?)].into())
///     }
/// }
/// ```
pub trait Traced: Sized {
    /// Manifest names of the inputs, to tell a golden of another model; empty when unknown. `*`
    /// stands for any text within a name.
    const INPUTS: Names = &[];

    /// Golden keys (`{module}#{call}.out.{i}`) whose values fusions made unobservable;
    /// `*` stands for any text within a dotted segment.
    const FUSED: Names = &[];

    /// SHA-256 of the manifest that the code was generated from, in hexadecimal; empty when
    /// unknown.
    const MANIFEST: &str = "";

    /// Loads the model in the dtype of the trace.
    fn load(weights: &Weights, device: &Device) -> Result<Self>;

    /// Runs the model on inputs by manifest name, caches among them; gives all outputs by name.
    fn forward_named(&self, inputs: &Named, probe: &mut impl Probe) -> Result<Named>;
}

/// Loads `M`, runs it on the goldens' inputs and compares everything that was recorded.
///
/// Fails when the model cannot be loaded or run, or the goldens are of another model; a difference
/// in numbers is not an error but a report that says [`ParityReport::passed`] is false.
///
/// ```
/// use pycandle::{Device, Weights, parity::{self, Goldens}};
///
/// #[pycandle::pycandle_model(manifest = "../tests/models/mlp_manifest.json")]
/// pub struct Mlp;
///
/// # fn main() -> pycandle::Result<()> {
/// let weights = Weights::open("../tests/models/mlp.safetensors")?;
/// let goldens = Goldens::open("../tests/models/mlp_trace.safetensors")?;
/// let report = parity::run::<Mlp>(&weights, &goldens, &Device::Cpu)?;
/// println!("{report}");
/// assert!(report.passed());
/// # Ok(())
/// # }
/// ```
pub fn run<M: Traced>(
    weights: &Weights,
    goldens: &Goldens,
    device: &Device,
) -> Result<ParityReport> {
    let model = M::load(weights, device)?;
    let mut report = run_model(&model, goldens, device, true)?;
    if !report.passed() {
        report.weights = origin::weights(goldens, weights);
    }
    Ok(report)
}

/// [`run`] with a model that is already loaded, maybe in another dtype than the trace's: the dtypes
/// of floating-point outputs are not compared, nor are the weights' hashes.
///
/// ```
/// use pycandle::{Device, Weights, parity::{self, Goldens}};
///
/// #[pycandle::pycandle_model(manifest = "../tests/models/mlp_manifest.json")]
/// pub struct Mlp;
///
/// # fn main() -> pycandle::Result<()> {
/// let weights = Weights::open("../tests/models/mlp.safetensors")?;
/// let goldens = Goldens::open("../tests/models/mlp_trace.safetensors")?;
/// let model = Mlp::load(&weights, &Device::Cpu)?;
/// assert!(parity::run_loaded(&model, &goldens, &Device::Cpu)?.passed());
/// # Ok(())
/// # }
/// ```
pub fn run_loaded<M: Traced>(
    model: &M,
    goldens: &Goldens,
    device: &Device,
) -> Result<ParityReport> {
    run_model(model, goldens, device, false)
}

fn run_model<M: Traced>(
    model: &M,
    goldens: &Goldens,
    device: &Device,
    strict: bool,
) -> Result<ParityReport> {
    let manifest = origin::manifest(goldens, M::MANIFEST);
    let compared = || {
        goldens.check_inputs(M::INPUTS)?;
        let inputs = goldens.inputs(device)?;
        let mut probe = probe::Comparing::new(goldens, M::FUSED, strict);
        let outputs = model
            .forward_named(&inputs, &mut probe)
            .map_err(|err| err.at(format!("running on {}", goldens.path().display())))?;
        for (name, value) in &outputs {
            probe.compare(&format!("output.{name}"), value);
        }
        probe.finish()
    };
    match (compared(), manifest) {
        (Ok(report), manifest) => Ok(ParityReport { manifest, ..report }),
        (Err(err), Origin::Other) => Err(err.at(report::OTHER_MANIFEST)),
        (Err(err), _) => Err(err),
    }
}

/// What [`assert_golden!`](crate::assert_golden) expands to.
#[doc(hidden)]
pub fn assert_golden<M: Traced>(
    weights: impl AsRef<std::path::Path>,
    goldens: impl AsRef<std::path::Path>,
) -> ParityReport {
    let report = Weights::open(weights).and_then(|weights| {
        let goldens = Goldens::open(goldens)?;
        run::<M>(&weights, &goldens, &Device::Cpu)
    });
    match report {
        Ok(report) if report.passed() => report,
        Ok(report) => panic!("{report}"),
        Err(err) => panic!("{err}"),
    }
}

/// Runs a model on goldens on the CPU and panics with the report unless all of it is at parity.
///
/// Gives the [`ParityReport`], for `insta::assert_snapshot!(report.snapshot())`.
///
/// ```no_run
/// # use pycandle::{Device, Probe, Result, Tensor, Weights};
/// # use std::collections::BTreeMap;
/// # struct MyModel;
/// # impl pycandle::parity::Traced for MyModel {
/// #     fn load(_: &Weights, _: &Device) -> Result<Self> { Ok(MyModel) }
/// #     fn forward_named(&self, _: &BTreeMap<String, Tensor>, _: &mut impl Probe)
/// #         -> Result<BTreeMap<String, Tensor>> { Ok(BTreeMap::new()) }
/// # }
/// let report = pycandle::assert_golden!(
///     MyModel,
///     "my_model.safetensors",
///     "my_model_trace.safetensors"
/// );
/// println!("{report}");
/// ```
#[macro_export]
macro_rules! assert_golden {
    ($model:ty, $weights:expr, $goldens:expr $(,)?) => {
        $crate::parity::assert_golden::<$model>($weights, $goldens)
    };
}

//! Listening to a model from the outside: every module reports its outputs to a [`Probe`].

use std::fmt::{self, Display};
use std::sync::Arc;

use candle_core::Tensor;

/// A dotted module path such as `encoder.layer.0.attention`; the root's is empty.
///
/// ```
/// let path = pycandle::Path::root().join("layers").join(0);
/// assert_eq!(path.as_str(), "layers.0");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Path(Arc<str>);

impl Path {
    /// The empty path of the model itself.
    pub fn root() -> Self {
        Self(Arc::from(""))
    }

    /// This path, one segment (or several, dotted) further down.
    #[must_use]
    pub fn join(&self, segment: impl Display) -> Self {
        let segment = segment.to_string();
        match (self.0.is_empty(), segment.is_empty()) {
            (_, true) => self.clone(),
            (true, false) => Self(segment.into()),
            (false, false) => Self(format!("{}.{segment}", self.0).into()),
        }
    }

    /// The path as text, without a trailing dot.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Path {
    fn default() -> Self {
        Self::root()
    }
}

impl Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Sees the outputs of every module while a model runs.
///
/// Generated models and layers call it in order of execution; `out` is the index of the value in the
/// manifest's `calls[…].outputs`.
/// A probe counts the calls of a module itself: calls come in order, and the outputs of one call in
/// the order of their indices. What a fusion hides ([`Traced::FUSED`](crate::parity::Traced::FUSED))
/// is not shown, so a call may show some of its outputs or none.
/// Output `out` of call `n` belongs to the golden `{module}#{n}.out.{out}`.
///
/// ```
/// use pycandle::{Path, Probe, Tensor};
/// struct Names(Vec<String>);
/// impl Probe for Names {
///     fn record(&mut self, module: &Path, out: usize, _value: &Tensor) {
///         self.0.push(format!("{module}.{out}"));
///     }
///     fn record_child(&mut self, module: &Path, child: &str, out: usize, value: &Tensor) {
///         self.record(&module.join(child), out, value);
///     }
/// }
/// ```
pub trait Probe {
    /// Output `out` of `module`.
    fn record(&mut self, module: &Path, out: usize, value: &Tensor);

    /// Output `out` of a submodule that has no struct of its own; `child` is relative to `module`.
    fn record_child(&mut self, module: &Path, child: &str, out: usize, value: &Tensor);
}

/// Listens to nothing; every call of it compiles to nothing.
///
/// ```
/// # use pycandle::{Device, LayerNorm, NoProbe, Tensor};
/// let norm = LayerNorm::new(None, None, 2, 0.0);
/// norm.forward(&Tensor::new(&[1f32, 3.], &Device::Cpu)?, &mut NoProbe)?;
/// # Ok::<(), pycandle::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProbe;

impl Probe for NoProbe {
    #[inline(always)]
    fn record(&mut self, _: &Path, _: usize, _: &Tensor) {}

    #[inline(always)]
    fn record_child(&mut self, _: &Path, _: &str, _: usize, _: &Tensor) {}
}

impl<P: Probe + ?Sized> Probe for &mut P {
    #[inline(always)]
    fn record(&mut self, module: &Path, out: usize, value: &Tensor) {
        (**self).record(module, out, value);
    }

    #[inline(always)]
    fn record_child(&mut self, module: &Path, child: &str, out: usize, value: &Tensor) {
        (**self).record_child(module, child, out, value);
    }
}

//! Activation functions.

use candle_core::Tensor;

use super::Result;
use super::composed::widened;
use super::functions::clamp;
use super::isa::Isa;
use super::map::{Map1, int_map, mapped_product, scalar_map, unary};
use super::memory::{fail, is_float};
use super::shape::check_dim;
use super::vmath;

/// Declares activations: the vector form on `f32`, the scalar form on `f64`.
macro_rules! activations {
    ($($(#[$doc:meta])* $name:ident $map:ident: |$x:ident| $single:expr, $double:expr;)*) => {$(
        #[derive(Clone, Copy)]
        struct $map;
        impl Map1 for $map {
            #[inline(always)]
            fn f32<S: Isa>(self, $x: f32) -> f32 { $single }
            fn f64(self, $x: f64) -> f64 { $double }
        }
        $(#[$doc])*
        pub fn $name(x: &Tensor) -> Result<Tensor> {
            unary(stringify!($name), x, $map)
        }
    )*};
}

activations! {
    /// `1 / (1 + e^-x)`. (`aten.sigmoid`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let x = Tensor::new(&[0f32, 90.], &Device::Cpu)?;
    /// assert_eq!(ops::sigmoid(&x)?.to_vec1::<f32>()?, [0.5, 1.]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    sigmoid Sigmoid: |x| vmath::sigmoid::<S>(x), 1.0 / (1.0 + (-x).exp());
    /// `x * sigmoid(x)`. (`aten.silu`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let x = Tensor::new(&[0f32, 90.], &Device::Cpu)?;
    /// assert_eq!(ops::silu(&x)?.to_vec1::<f32>()?, [0., 90.]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    silu Silu: |x| vmath::silu::<S>(x), x / (1.0 + (-x).exp());
    /// `x * (1 + erf(x / sqrt 2)) / 2`. (`aten.gelu`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let x = Tensor::new(&[0f32, 90.], &Device::Cpu)?;
    /// assert_eq!(ops::gelu(&x)?.to_vec1::<f32>()?, [0., 90.]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    gelu Gelu: |x| vmath::gelu::<S>(x), gelu_f64(x);
    /// The tanh approximation of `gelu`. (`aten.gelu`, `approximate="tanh"`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let x = Tensor::new(&[0f32, 90.], &Device::Cpu)?;
    /// assert_eq!(ops::gelu_tanh(&x)?.to_vec1::<f32>()?, [0., 90.]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    gelu_tanh GeluTanh: |x| vmath::gelu_tanh::<S>(x), gelu_tanh_f64(x);
    /// `x * relu6(x + 3) / 6`. (`aten.hardswish`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let x = Tensor::new(&[-3f32, 0., 3.], &Device::Cpu)?;
    /// assert_eq!(ops::hardswish(&x)?.to_vec1::<f32>()?, [0., 0., 3.]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    hardswish HardSwish: |x| x * relu6(x + 3.0) / 6.0, x * relu6_f64(x + 3.0) / 6.0;
    /// `relu6(x + 3) / 6`. (`aten.hardsigmoid`)
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let x = Tensor::new(&[-3f32, 0., 3.], &Device::Cpu)?;
    /// assert_eq!(ops::hardsigmoid(&x)?.to_vec1::<f32>()?, [0., 0.5, 1.]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    hardsigmoid HardSigmoid: |x| relu6(x + 3.0) / 6.0, relu6_f64(x + 3.0) / 6.0;
    /// `x * sigmoid(1.702 x)`, as `transformers` names it.
    ///
    /// ```
    /// # use pycandle::{Device, Tensor, ops};
    /// let x = Tensor::new(&[0f32, 90.], &Device::Cpu)?;
    /// assert_eq!(ops::quick_gelu(&x)?.to_vec1::<f32>()?, [0., 90.]);
    /// # Ok::<(), pycandle::Error>(())
    /// ```
    quick_gelu QuickGelu: |x| x * vmath::sigmoid::<S>(1.702 * x), x / (1.0 + (-1.702 * x).exp());
}

#[inline(always)]
fn relu6(x: f32) -> f32 {
    let x = if x < 0.0 { 0.0 } else { x };
    if x > 6.0 { 6.0 } else { x }
}

fn relu6_f64(x: f64) -> f64 {
    let x = if x < 0.0 { 0.0 } else { x };
    if x > 6.0 { 6.0 } else { x }
}

fn gelu_f64(x: f64) -> f64 {
    x * 0.5 * (1.0 + erf_f64(x * std::f64::consts::FRAC_1_SQRT_2))
}

fn gelu_tanh_f64(x: f64) -> f64 {
    let beta = std::f64::consts::SQRT_2 * std::f64::consts::FRAC_2_SQRT_PI * 0.5;
    0.5 * x * (1.0 + (beta * (x + 0.044715 * x * x * x)).tanh())
}

/// The error function in double precision.
pub(super) fn erf_f64(x: f64) -> f64 {
    candle_core::cpu::erf::erf_f64(x)
}

/// `max(x, 0)`; NaN stays NaN. (`aten.relu`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[-1f32, 2.], &Device::Cpu)?;
/// assert_eq!(ops::relu(&x)?.to_vec1::<f32>()?, [0., 2.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn relu(x: &Tensor) -> Result<Tensor> {
    if is_float(x.dtype()) {
        clamp(x, Some(0.0), None)
    } else {
        int_map("relu", x, |v| v.max(0))
    }
}

/// `log(1 + e^(beta x)) / beta`, and `x` where `beta x > threshold`. (`aten.softplus`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[0f32, 30.], &Device::Cpu)?;
/// assert_eq!(ops::softplus(&x, 1.0, 20.0)?.to_vec1::<f32>()?, [2f32.ln(), 30.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn softplus(x: &Tensor, beta: f64, threshold: f64) -> Result<Tensor> {
    let (b, t) = (beta as f32, threshold as f32);
    scalar_map(
        "softplus",
        x,
        move |x| {
            if x * b > t {
                x
            } else {
                (x * b).exp().ln_1p() / b
            }
        },
        move |x| {
            if x * beta > threshold {
                x
            } else {
                (x * beta).exp().ln_1p() / beta
            }
        },
    )
}

/// `x` above zero, `alpha (e^x - 1)` below. (`aten.elu`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[-40f32, 2.], &Device::Cpu)?;
/// assert_eq!(ops::elu(&x, 0.5)?.to_vec1::<f32>()?, [-0.5, 2.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn elu(x: &Tensor, alpha: f64) -> Result<Tensor> {
    elu_scaled(x, alpha, 1.0, 1.0)
}

/// `scale x` above zero, `scale alpha (e^(input_scale x) - 1)` below. (`aten.elu`, all arguments)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[-40f32, 2.], &Device::Cpu)?;
/// assert_eq!(ops::elu_scaled(&x, 0.5, 3.0, 1.0)?.to_vec1::<f32>()?, [-1.5, 6.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn elu_scaled(x: &Tensor, alpha: f64, scale: f64, input_scale: f64) -> Result<Tensor> {
    let (a, s, i) = ((alpha * scale) as f32, scale as f32, input_scale as f32);
    scalar_map(
        "elu",
        x,
        move |x| {
            if x <= 0.0 {
                (x * i).exp_m1() * a
            } else {
                x * s
            }
        },
        move |x| {
            if x <= 0.0 {
                (x * input_scale).exp_m1() * alpha * scale
            } else {
                x * scale
            }
        },
    )
}

/// `x` above zero, `slope x` below. (`aten.leaky_relu`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[-8f32, 2.], &Device::Cpu)?;
/// assert_eq!(ops::leaky_relu(&x, 0.25)?.to_vec1::<f32>()?, [-2., 2.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn leaky_relu(x: &Tensor, slope: f64) -> Result<Tensor> {
    let s = slope as f32;
    scalar_map(
        "leaky_relu",
        x,
        move |x| if x > 0.0 { x } else { x * s },
        move |x| if x > 0.0 { x } else { x * slope },
    )
}

/// `x tanh(softplus(x))`. (`aten.mish`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[0f32, 40.], &Device::Cpu)?;
/// assert_eq!(ops::mish(&x)?.to_vec1::<f32>()?, [0., 40.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn mish(x: &Tensor) -> Result<Tensor> {
    scalar_map(
        "mish",
        x,
        |x| x * x.exp().ln_1p().tanh(),
        |x| x * x.exp().ln_1p().tanh(),
    )
}

/// `log(sigmoid(x))`, without overflow. (`aten.log_sigmoid_forward`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[-90f32, 200.], &Device::Cpu)?;
/// assert_eq!(ops::logsigmoid(&x)?.to_vec1::<f32>()?, [-90., 0.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn logsigmoid(x: &Tensor) -> Result<Tensor> {
    scalar_map(
        "logsigmoid",
        x,
        |x| x.min(0.0) - (-x.abs()).exp().ln_1p(),
        |x| x.min(0.0) - (-x.abs()).exp().ln_1p(),
    )
}

fn gated<M: Map1>(gate: &Tensor, up: &Tensor, map: M) -> Result<Tensor> {
    if !is_float(gate.dtype()) {
        fail!(
            "gated product: expected floating point, got {:?}",
            gate.dtype()
        );
    }
    mapped_product("gated product", gate, up, map)
}

/// `silu(gate) * up`.
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let gate = Tensor::new(&[0f32, 90.], &Device::Cpu)?;
/// let up = Tensor::new(&[5f32, 2.], &Device::Cpu)?;
/// assert_eq!(ops::swiglu(&gate, &up)?.to_vec1::<f32>()?, [0., 180.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gated(gate, up, Silu)
}

/// `gelu(gate) * up`.
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let gate = Tensor::new(&[0f32, 90.], &Device::Cpu)?;
/// let up = Tensor::new(&[5f32, 2.], &Device::Cpu)?;
/// assert_eq!(ops::gelu_mul(&gate, &up)?.to_vec1::<f32>()?, [0., 180.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn gelu_mul(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gated(gate, up, Gelu)
}

/// `gelu_tanh(gate) * up`.
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let gate = Tensor::new(&[0f32, 90.], &Device::Cpu)?;
/// let up = Tensor::new(&[5f32, 2.], &Device::Cpu)?;
/// assert_eq!(ops::gelu_tanh_mul(&gate, &up)?.to_vec1::<f32>()?, [0., 180.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn gelu_tanh_mul(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gated(gate, up, GeluTanh)
}

/// The first half along a dimension times the sigmoid of the second; the dimension's size is even.
/// Half types in `f32`, rounded once. (`aten.glu`)
///
/// ```
/// # use pycandle::{Device, Tensor, ops};
/// let x = Tensor::new(&[6f32, 8., 0., 90.], &Device::Cpu)?;
/// assert_eq!(ops::glu(&x, 0)?.to_vec1::<f32>()?, [3., 8.]);
/// # Ok::<(), pycandle::Error>(())
/// ```
pub fn glu(x: &Tensor, dim: usize) -> Result<Tensor> {
    check_dim("glu", x, dim)?;
    let size = x.dims()[dim];
    if !size.is_multiple_of(2) {
        fail!("glu: dimension {dim} of {:?} cannot be halved", x.dims());
    }
    let (value, gate) = (
        x.narrow(dim, 0, size / 2)?,
        x.narrow(dim, size / 2, size / 2)?,
    );
    widened([&gate, &value], |[gate, value]| gated(gate, value, Sigmoid))
}

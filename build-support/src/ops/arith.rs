//! Elementwise arithmetic, with PyTorch's type promotion made explicit.

use super::{Row, Rule, float, int, number_or_size, op, signed, some, why};
use crate::ir::Expr;
use crate::lower::{Ctx, Operand, Why, storage};
use crate::manifest::{Dim, Dtype, Scalar};

pub const ROWS: &[Row] = &[
    ("aten._to_copy.default", Rule::Fn(to_copy)),
    ("aten.abs.default", Rule::Op("abs")),
    ("aten.acos.default", Rule::Op("acos")),
    ("aten.acosh.default", Rule::Op("acosh")),
    ("aten.add.Scalar", Rule::Fn(add)),
    ("aten.add.Tensor", Rule::Fn(add)),
    ("aten.asin.default", Rule::Op("asin")),
    ("aten.asinh.default", Rule::Op("asinh")),
    ("aten.atan.default", Rule::Op("atan")),
    ("aten.atan2.default", Rule::Fn(atan2)),
    ("aten.atanh.default", Rule::Op("atanh")),
    ("aten.ceil.default", Rule::Op("ceil")),
    ("aten.clamp.Tensor", Rule::Fn(clamp_tensor)),
    ("aten.clamp.default", Rule::Fn(clamp)),
    ("aten.clamp_max.Tensor", Rule::Fn(clamp_tensor)),
    ("aten.clamp_max.default", Rule::Fn(clamp)),
    ("aten.clamp_min.Tensor", Rule::Fn(clamp_tensor)),
    ("aten.clamp_min.default", Rule::Fn(clamp)),
    ("aten.copy.default", Rule::Fn(copy)),
    ("aten.copysign.Tensor", Rule::Fn(|c| both(c, "copysign"))),
    ("aten.cos.default", Rule::Op("cos")),
    ("aten.cosh.default", Rule::Op("cosh")),
    (
        "aten.deg2rad.default",
        Rule::Fn(|c| times(c, std::f64::consts::PI / 180.0)),
    ),
    ("aten.digamma.default", Rule::Op("digamma")),
    ("aten.div.Scalar", Rule::Fn(div)),
    ("aten.div.Tensor", Rule::Fn(div)),
    ("aten.div.Tensor_mode", Rule::Fn(div_mode)),
    (
        "aten.dropout.default",
        Rule::Refuse("is active: call model.eval() before recording"),
    ),
    ("aten.erf.default", Rule::Op("erf")),
    ("aten.erfc.default", Rule::Op("erfc")),
    ("aten.erfinv.default", Rule::Op("erfinv")),
    ("aten.exp.default", Rule::Op("exp")),
    ("aten.exp2.default", Rule::Op("exp2")),
    ("aten.expm1.default", Rule::Op("expm1")),
    ("aten.float_power.Tensor_Scalar", Rule::Fn(pow)),
    ("aten.floor.default", Rule::Op("floor")),
    ("aten.floor_divide.Scalar", Rule::Fn(floor_divide)),
    ("aten.floor_divide.default", Rule::Fn(floor_divide)),
    ("aten.fmax.default", Rule::Fn(|c| both(c, "fmax"))),
    ("aten.fmin.default", Rule::Fn(|c| both(c, "fmin"))),
    ("aten.fmod.Scalar", Rule::Fn(fmod)),
    ("aten.fmod.Tensor", Rule::Fn(fmod)),
    ("aten.frac.default", Rule::Op("frac")),
    ("aten.hypot.default", Rule::Fn(|c| both(c, "hypot"))),
    ("aten.lerp.Scalar", Rule::Fn(lerp)),
    ("aten.lerp.Tensor", Rule::Fn(lerp)),
    ("aten.lgamma.default", Rule::Op("lgamma")),
    ("aten.log.default", Rule::Op("log")),
    ("aten.log10.default", Rule::Op("log10")),
    ("aten.log1p.default", Rule::Op("log1p")),
    ("aten.log2.default", Rule::Op("log2")),
    ("aten.logaddexp.default", Rule::Fn(|c| both(c, "logaddexp"))),
    (
        "aten.logaddexp2.default",
        Rule::Fn(|c| both(c, "logaddexp2")),
    ),
    ("aten.max.other", Rule::Fn(maximum)),
    ("aten.maximum.default", Rule::Fn(maximum)),
    ("aten.min.other", Rule::Fn(minimum)),
    ("aten.minimum.default", Rule::Fn(minimum)),
    ("aten.mul.Scalar", Rule::Fn(mul)),
    ("aten.mul.Tensor", Rule::Fn(mul)),
    ("aten.nan_to_num.default", Rule::Fn(nan_to_num)),
    ("aten.neg.default", Rule::Op("neg")),
    ("aten.pow.Scalar", Rule::Fn(rpow)),
    ("aten.pow.Tensor_Scalar", Rule::Fn(pow)),
    ("aten.pow.Tensor_Tensor", Rule::Fn(pow_tensor)),
    (
        "aten.rad2deg.default",
        Rule::Fn(|c| times(c, 180.0 / std::f64::consts::PI)),
    ),
    ("aten.reciprocal.default", Rule::Op("reciprocal")),
    ("aten.remainder.Scalar", Rule::Fn(remainder)),
    ("aten.remainder.Tensor", Rule::Fn(remainder)),
    ("aten.round.decimals", Rule::Fn(round_decimals)),
    ("aten.round.default", Rule::Op("round")),
    ("aten.rsqrt.default", Rule::Op("rsqrt")),
    ("aten.rsub.Scalar", Rule::Fn(rsub)),
    ("aten.sgn.default", Rule::Op("sign")),
    ("aten.sign.default", Rule::Op("sign")),
    ("aten.sin.default", Rule::Op("sin")),
    ("aten.sinh.default", Rule::Op("sinh")),
    ("aten.sqrt.default", Rule::Op("sqrt")),
    ("aten.square.default", Rule::Fn(square)),
    ("aten.sub.Scalar", Rule::Fn(sub)),
    ("aten.sub.Tensor", Rule::Fn(sub)),
    ("aten.tan.default", Rule::Op("tan")),
    ("aten.tanh.default", Rule::Op("tanh")),
    ("aten.true_divide.Scalar", Rule::Fn(div)),
    ("aten.true_divide.Tensor", Rule::Fn(div)),
    ("aten.trunc.default", Rule::Op("trunc")),
    ("aten.type_as.default", Rule::Fn(to_copy)),
    ("aten.xlogy.Scalar_Other", Rule::Fn(|c| both(c, "xlogy"))),
    ("aten.xlogy.Tensor", Rule::Fn(|c| both(c, "xlogy"))),
];

/// The second operand of an arithmetic op.
enum Other {
    Tensor(Operand),
    Float(f64),
    /// A size beside floats.
    Size(Dim),
    Int(Expr),
}

fn other(c: &Ctx, name: &str) -> Result<Other, Why> {
    if c.is_tensor(name) {
        return Ok(Other::Tensor(c.tensor(name)?));
    }
    if let Ok(size) = c.size(name) {
        return Ok(if c.out_dtype().is_float() {
            match size {
                Dim::Size(i) => Other::Float(i as f64),
                size => Other::Size(size),
            }
        } else {
            Other::Int(signed(&size))
        });
    }
    Ok(match c.scalar(name)? {
        Scalar::Bool(b) if c.out_dtype().is_float() => Other::Float(f64::from(u8::from(b))),
        Scalar::Int(i) => Other::Int(Expr::Int(i)),
        Scalar::Bool(b) => Other::Int(Expr::Int(i64::from(b))),
        Scalar::Float(f) => Other::Float(f),
    })
}

/// `a ∘ b` in the output's dtype: an operator for equal shapes, else the broadcasting function.
fn binary(c: &Ctx, symbol: char, name: &'static str, b: Operand) -> Result<Expr, Why> {
    let a = c.tensor("self")?;
    let (x, y) = (a.cast(c, c.out_dtype()), b.cast(c, c.out_dtype()));
    if c.out_dtype() == Dtype::Bool {
        return why("arithmetic on booleans");
    }
    // Candle's operators are PyTorch's only where nothing wraps around.
    if a.shape == b.shape && c.out_dtype().is_float() {
        Ok(Expr::Binary(symbol, Box::new(x), Box::new(y)))
    } else {
        op(name, [x, y])
    }
}

/// `a ∘ scalar`: the integer or the float function.
fn with_scalar(c: &Ctx, names: (&'static str, &'static str), scalar: Other) -> Result<Expr, Why> {
    with_scalar_of(c, "self", names, scalar)
}

fn with_scalar_of(
    c: &Ctx,
    tensor: &str,
    names: (&'static str, &'static str),
    scalar: Other,
) -> Result<Expr, Why> {
    let x = c.tensor(tensor)?.cast(c, c.out_dtype());
    if c.out_dtype() == Dtype::Bool {
        return why("arithmetic on booleans");
    }
    match scalar {
        Other::Int(i) => op(names.1, [x, i]),
        Other::Float(f) => op(names.0, [x, float(f)]),
        Other::Size(size) => op(names.0, [x, Expr::SizeAsFloat(size)]),
        Other::Tensor(_) => why("expected a number"),
    }
}

fn scaled(c: &Ctx, value: Other, alpha: f64) -> Result<Other, Why> {
    if alpha == 1.0 {
        return Ok(value);
    }
    Ok(match value {
        Other::Float(f) => Other::Float(f * alpha),
        Other::Int(Expr::Int(i)) => Other::Int(Expr::Int(i.wrapping_mul(alpha as i64))),
        Other::Int(_) | Other::Size(_) => return why("`alpha` with a symbolic size"),
        Other::Tensor(t) => {
            let x = t.cast(c, c.out_dtype());
            let scaled = if c.out_dtype().is_float() {
                Expr::Op("mul_scalar", vec![x, float(alpha)])
            } else {
                Expr::Op("mul_scalar_int", vec![x, int(alpha as i64)])
            };
            Other::Tensor(Operand {
                expr: scaled,
                dtype: c.out_dtype(),
                ..t
            })
        }
    })
}

fn add(c: &Ctx) -> Result<Expr, Why> {
    let alpha = c.float_or("alpha", 1.0)?;
    match scaled(c, other(c, "other")?, alpha)? {
        Other::Tensor(b) => binary(c, '+', "add", b),
        scalar => with_scalar(c, ("add_scalar", "add_scalar_int"), scalar),
    }
}

fn sub(c: &Ctx) -> Result<Expr, Why> {
    let alpha = c.float_or("alpha", 1.0)?;
    if !c.is_tensor("self") && alpha == 1.0 {
        // Decompositions also subtract tensors from numbers.
        return number_less(c, "other", other(c, "self")?);
    }
    match scaled(c, other(c, "other")?, alpha)? {
        Other::Tensor(b) => binary(c, '-', "sub", b),
        Other::Int(Expr::Int(i)) => with_scalar(
            c,
            ("add_scalar", "add_scalar_int"),
            Other::Int(Expr::Int(i.wrapping_neg())),
        ),
        Other::Int(size) => {
            let x = c.tensor("self")?.cast(c, c.out_dtype());
            op("sub_scalar_int", [x, size])
        }
        scalar => with_scalar(c, ("sub_scalar", "sub_scalar_int"), scalar),
    }
}

fn rsub(c: &Ctx) -> Result<Expr, Why> {
    if c.float_or("alpha", 1.0)? != 1.0 {
        return why("argument `alpha` is not 1");
    }
    number_less(c, "self", other(c, "other")?)
}

/// A number less a tensor.
fn number_less(c: &Ctx, tensor: &str, number: Other) -> Result<Expr, Why> {
    with_scalar_of(c, tensor, ("rsub_scalar", "rsub_scalar_int"), number)
}

fn mul(c: &Ctx) -> Result<Expr, Why> {
    match other(c, "other")? {
        Other::Tensor(b) => {
            if c.out_dtype() == Dtype::Bool {
                return op("bool_and", [c.tensor("self")?.expr, b.expr]);
            }
            binary(c, '*', "mul", b)
        }
        scalar => with_scalar(c, ("mul_scalar", "mul_scalar_int"), scalar),
    }
}

fn div(c: &Ctx) -> Result<Expr, Why> {
    match other(c, "other")? {
        Other::Tensor(b) => binary(c, '/', "div", b),
        scalar => with_scalar(c, ("div_scalar", "div_scalar"), scalar),
    }
}

fn div_mode(c: &Ctx) -> Result<Expr, Why> {
    match c.str_or("rounding_mode", "")? {
        "floor" => floor_divide(c),
        "trunc" => both(c, "trunc_divide"),
        "" => div(c),
        mode => why(format!(
            "argument `rounding_mode` is `{mode}`, expected `floor`, `trunc` or none"
        )),
    }
}

/// A function of two tensors; a number as the second becomes a tensor.
fn both(c: &Ctx, name: &'static str) -> Result<Expr, Why> {
    let b = match other(c, "other")? {
        Other::Tensor(b) => b.cast(c, c.out_dtype()),
        Other::Int(Expr::Int(i)) => constant(c, float(i as f64)),
        Other::Float(f) => constant(c, float(f)),
        Other::Size(size) | Other::Int(Expr::SizeAsInt(size)) => {
            constant(c, Expr::SizeAsFloat(size))
        }
        Other::Int(_) => return why("a tensor and an expression are combined"),
    };
    op(name, [c.tensor("self")?.cast(c, c.out_dtype()), b])
}

/// A tensor of one number.
fn constant(c: &Ctx, value: Expr) -> Expr {
    let dtype = c.dtype_expr(c.out_dtype());
    let shape = Expr::Shape(Vec::new());
    Expr::Op("full", vec![value, shape, dtype, Expr::Device])
}

fn floor_divide(c: &Ctx) -> Result<Expr, Why> {
    match other(c, "other")? {
        Other::Tensor(b) => {
            let a = c.tensor("self")?.cast(c, c.out_dtype());
            op("floor_divide", [a, b.cast(c, c.out_dtype())])
        }
        scalar => with_scalar(
            c,
            ("floor_divide_scalar", "floor_divide_scalar_int"),
            scalar,
        ),
    }
}

fn remainder(c: &Ctx) -> Result<Expr, Why> {
    match other(c, "other")? {
        Other::Tensor(b) => {
            let a = c.tensor("self")?.cast(c, c.out_dtype());
            op("remainder", [a, b.cast(c, c.out_dtype())])
        }
        scalar => with_scalar(c, ("remainder_scalar", "remainder_scalar_int"), scalar),
    }
}

fn fmod(c: &Ctx) -> Result<Expr, Why> {
    match other(c, "other")? {
        Other::Float(f) => with_scalar(c, ("fmod_scalar", "fmod"), Other::Float(f)),
        _ => both(c, "fmod"),
    }
}

fn atan2(c: &Ctx) -> Result<Expr, Why> {
    both(c, "atan2")
}

fn lerp(c: &Ctx) -> Result<Expr, Why> {
    let (start, end) = (c.tensor("self")?, c.tensor("end")?);
    let (start, end) = (start.cast(c, c.out_dtype()), end.cast(c, c.out_dtype()));
    match c.is_tensor("weight") {
        true => op(
            "lerp_tensor",
            [start, end, c.tensor("weight")?.cast(c, c.out_dtype())],
        ),
        false => op("lerp", [start, end, float(c.float("weight")?)]),
    }
}

/// A product with a number, in the dtype of the output.
fn times(c: &Ctx, number: f64) -> Result<Expr, Why> {
    let x = c.tensor("self")?.cast(c, c.out_dtype());
    op("mul_scalar", [x, float(number)])
}

fn round_decimals(c: &Ctx) -> Result<Expr, Why> {
    let (x, decimals) = (c.tensor("self")?, c.int("decimals")?);
    if !x.dtype.is_float() {
        return why("integers rounded to decimals");
    }
    op("round_decimals", [x.expr, int(decimals)])
}

/// The infinities become the largest numbers of the dtype that the tensor has at run time.
fn nan_to_num(c: &Ctx) -> Result<Expr, Why> {
    let (nan, up, down) = (
        c.float_or("nan", 0.0)?,
        c.float_opt("posinf")?,
        c.float_opt("neginf")?,
    );
    op("nan_to_num", [c.tensor("self")?.expr, float(nan), up, down])
}

fn minimum(c: &Ctx) -> Result<Expr, Why> {
    let (a, b) = (c.tensor("self")?, c.tensor("other")?);
    op(
        "minimum",
        [a.cast(c, c.out_dtype()), b.cast(c, c.out_dtype())],
    )
}

fn maximum(c: &Ctx) -> Result<Expr, Why> {
    let (a, b) = (c.tensor("self")?, c.tensor("other")?);
    op(
        "maximum",
        [a.cast(c, c.out_dtype()), b.cast(c, c.out_dtype())],
    )
}

fn pow(c: &Ctx) -> Result<Expr, Why> {
    let x = c.tensor("self")?.cast(c, c.out_dtype());
    op("pow_scalar", [x, float(c.float("exponent")?)])
}

fn square(c: &Ctx) -> Result<Expr, Why> {
    op("pow_scalar", [c.tensor("self")?.expr, float(2.0)])
}

fn pow_tensor(c: &Ctx) -> Result<Expr, Why> {
    let (a, b) = (c.tensor("self")?, c.tensor("exponent")?);
    op("pow", [a.cast(c, c.out_dtype()), b.cast(c, c.out_dtype())])
}

fn rpow(c: &Ctx) -> Result<Expr, Why> {
    let x = c.tensor("exponent")?.cast(c, c.out_dtype());
    op("rpow_scalar", [x, float(c.float("self")?)])
}

fn clamp(c: &Ctx) -> Result<Expr, Why> {
    let x = c.tensor("self")?.cast(c, c.out_dtype());
    let bound = |name| match c.given(name) {
        true => number_or_size(c, name).map(|b| some(Some(b))),
        false => Ok(Expr::None),
    };
    op("clamp", [x, bound("min")?, bound("max")?])
}

fn clamp_tensor(c: &Ctx) -> Result<Expr, Why> {
    let x = c.tensor("self")?.cast(c, c.out_dtype());
    let bound = |name| Ok::<_, Why>(c.tensor_opt(name)?.map(|b| b.cast(c, c.out_dtype())));
    let (min, max) = (bound("min")?, bound("max")?);
    let x = min.map_or(Ok(x.clone()), |min| op("maximum", [x, min]))?;
    max.map_or(Ok(x.clone()), |max| op("minimum", [x, max]))
}

fn to_copy(c: &Ctx) -> Result<Expr, Why> {
    let x = c.first()?;
    let to = c.out_dtype();
    // Integers are held as i64, so that only a cast to bool or to a float changes anything.
    let integer = |d: Dtype| storage(d) == Dtype::Int64;
    if integer(to) && integer(x.dtype) {
        return Ok(x.expr);
    }
    Ok(x.cast(c, to))
}

fn copy(c: &Ctx) -> Result<Expr, Why> {
    let src = c.tensor("src")?;
    let x = src.cast(c, c.out_dtype());
    if src.shape == c.out_shape() {
        Ok(x)
    } else {
        op("expand", [x, Expr::Shape(c.out_shape().to_vec())])
    }
}

/// PyTorch's result dtype of two tensors: the higher category wins, and within a category a tensor
/// with dimensions wins over one without.
pub fn result_type(a: &Operand, b: &Operand) -> Dtype {
    let category = |d: Dtype| match d {
        Dtype::Bool => 0,
        d if d.is_float() => 2,
        _ => 1,
    };
    let (ca, cb) = (category(a.dtype), category(b.dtype));
    match (a.rank() == 0, b.rank() == 0) {
        _ if ca > cb => a.dtype,
        _ if cb > ca => b.dtype,
        (true, false) => b.dtype,
        (false, true) => a.dtype,
        _ => promote(a.dtype, b.dtype),
    }
}

pub fn promote(a: Dtype, b: Dtype) -> Dtype {
    use Dtype::{Bfloat16, Float16, Float32, Int16, Uint8};
    match (a.min(b), a.max(b)) {
        (a, b) if a == b => a,
        (Float16, Bfloat16) => Float32,
        (Uint8, Dtype::Int8) => Int16,
        (_, max) => max,
    }
}

//! `x * rsqrt(mean(x²) + eps) * weight` becomes one normalisation.

use super::{Fused, Matcher, is_last, is_plain, number, tensor};
use crate::manifest::{Arg, Dtype, Node, Source};

/// The styles differ in where the result is rounded to the model's dtype: before the weight
/// (`""`), after it (`f32_scale`), or after `1 + weight` (`unit_offset`).
pub fn rewrite(m: &Matcher, node: &Node) -> Option<Fused> {
    match node.op.as_str() {
        "aten.mul.Tensor" => {
            let pairs = m.either(node)?;
            pairs
                .into_iter()
                .find_map(|(weight, y)| plain(m, node, weight, y))
        }
        "aten._to_copy.default" => rounded_last(m, node),
        _ => None,
    }
}

/// `weight * round(norm(x))`
fn plain(m: &Matcher, node: &Node, weight: Source, y: Source) -> Option<Fused> {
    let out = m.graph.dtype(Source::Value(node.out[0]));
    if m.graph.dtype(weight) != out || m.graph.dtype(y) != out {
        return None;
    }
    let (x, eps) = normalised(m, m.before_cast(y))?;
    if m.graph.dtype(x) != out {
        return None;
    }
    if out == Dtype::Float32
        && let Some(weight) = unit_offset(m, weight)
    {
        return fused(m, x, weight, eps, "unit_offset");
    }
    fused(m, x, weight, eps, "")
}

/// `round(norm(x) * weight)`
fn rounded_last(m: &Matcher, node: &Node) -> Option<Fused> {
    let product = m.made_by(node.tensor("self")?, &["aten.mul.Tensor"])?;
    let out = m.graph.dtype(Source::Value(node.out[0]));
    let upper = m.graph.dtype(Source::Value(product.out[0]));
    if !out.is_float() || upper != Dtype::Float32 {
        return None;
    }
    m.either(product)?.into_iter().find_map(|(weight, y)| {
        let (x, eps) = normalised(m, y)?;
        if m.graph.dtype(x) != out {
            return None;
        }
        match unit_offset(m, weight) {
            Some(weight) => fused(m, x, weight, eps, "unit_offset"),
            None => fused(m, x, m.before_cast(weight), eps, "f32_scale"),
        }
    })
}

fn fused(m: &Matcher, x: Source, weight: Source, eps: f64, style: &str) -> Option<Fused> {
    // The weight has one size per element of the last dimension.
    let (shape, dims) = (m.graph.shape(x), m.graph.shape(weight));
    if dims.len() != 1 || dims.last() != shape.last() {
        return None;
    }
    let args = vec![
        tensor("input", x),
        tensor("weight", weight),
        ("eps".to_owned(), Arg::Float(eps)),
        ("style".to_owned(), Arg::Str(style.to_owned())),
    ];
    Some(("pycandle.rms_norm".to_owned(), args))
}

/// The parameter in `1 + weight`.
fn unit_offset(m: &Matcher, source: Source) -> Option<Source> {
    let add = m.made_by(source, &["aten.add.Tensor"])?;
    (number(add, "other")? == 1.0 && is_plain(add)).then_some(())?;
    Some(m.before_cast(add.tensor("self")?))
}

/// `x` and eps when `y` is `f32(x) * rsqrt(mean(f32(x)²) + eps)`, over the last dimension.
fn normalised(m: &Matcher, y: Source) -> Option<(Source, f64)> {
    let product = m.made_by(y, &["aten.mul.Tensor"])?;
    m.either(product)?.into_iter().find_map(|(x, scale)| {
        let rsqrt = m.made_by(scale, &["aten.rsqrt.default"])?;
        let add = m.made_by(rsqrt.tensor("self")?, &["aten.add.Tensor"])?;
        let eps = number(add, "other").filter(|_| is_plain(add))?;
        let mean = m.made_by(add.tensor("self")?, &["aten.mean.dim"])?;
        let Some(Arg::List(dims)) = mean.arg("dim") else {
            return None;
        };
        let rank = m.graph.shape(x).len();
        let last = matches!(dims[..], [Arg::Int(d)] if is_last(d, rank));
        matches!(mean.arg("dtype"), None | Some(Arg::Null)).then_some(())?;
        let kept = matches!(mean.arg("keepdim"), Some(Arg::Bool(true)));
        let square = m.made_by(mean.tensor("self")?, &["aten.pow.Tensor_Scalar"])?;
        let two = number(square, "exponent")? == 2.0;
        (last && kept && two && square.tensor("self")? == x).then_some(())?;
        Some((m.before_cast(x), eps))
    })
}

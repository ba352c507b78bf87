//! `x * rsqrt(mean(x²) + eps) * weight` becomes one normalisation.

use super::{CASTS, Fused, Matcher, is_last, is_plain, number, tensor};
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
        op => CASTS.contains(&op).then(|| rounded_last(m, node))?,
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
        let is_upper = m.graph.dtype(weight) == upper;
        match unit_offset(m, weight).filter(|_| is_upper) {
            Some(weight) => fused(m, x, weight, eps, "unit_offset"),
            None => fused(m, x, widened(m, weight), eps, "f32_scale"),
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
    Some(widened(m, add.tensor("self")?))
}

/// A tensor before a cast that changes none of its numbers.
fn widened(m: &Matcher, source: Source) -> Source {
    let before = m.before_cast(source);
    let kinds = (m.graph.dtype(before), m.graph.dtype(source));
    let is_exact = matches!(
        kinds,
        (
            Dtype::Float16 | Dtype::Bfloat16,
            Dtype::Float32 | Dtype::Float64
        ) | (Dtype::Float32, Dtype::Float64)
    );
    if is_exact { before } else { source }
}

/// `x` and eps when `y` is `f32(x) * rsqrt(mean(f32(x)²) + eps)`, over the last dimension.
fn normalised(m: &Matcher, y: Source) -> Option<(Source, f64)> {
    let product = m.made_by(y, &["aten.mul.Tensor"])?;
    // Computed in fewer bits, it is another number than the one operation gives.
    matches!(m.graph.dtype(y), Dtype::Float32 | Dtype::Float64).then_some(())?;
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
        let squared = squared(m, mean.tensor("self")?)?;
        let x = common(m, squared, x, product)?;
        (last && kept).then_some((x, eps))
    })
}

/// What is squared.
fn squared(m: &Matcher, source: Source) -> Option<Source> {
    let ops = [
        "aten.pow.Tensor_Scalar",
        "aten.square.default",
        "aten.mul.Tensor",
    ];
    let node = m.made_by(source, &ops)?;
    let x = node.tensor("self")?;
    let is_square = match node.op.as_str() {
        "aten.pow.Tensor_Scalar" => number(node, "exponent")? == 2.0,
        "aten.square.default" => true,
        _ => node.tensor("other")? == x,
    };
    is_square.then_some(x)
}

/// What is cast to the dtype of a product where it is squared and where it is multiplied: by itself,
/// or by the product, which casts what is narrower.
fn common(m: &Matcher, squared: Source, x: Source, product: &Node) -> Option<Source> {
    let upper = m.graph.dtype(Source::Value(product.out[0]));
    let is_upper = |source| m.graph.dtype(source) == upper;
    let (before, of_squared) = (widened(m, x), widened(m, squared));
    if squared == x || before == of_squared && is_upper(squared) && is_upper(x) {
        return Some(before);
    }
    (of_squared == x && is_upper(squared)).then_some(x)
}

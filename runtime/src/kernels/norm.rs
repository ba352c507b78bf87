//! Layer and RMS normalisation.

use candle_core::{D, DType, Tensor};

use crate::{Error, Result};

/// Where RMS normalisation scales and rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RmsScale {
    /// Round to the input's dtype, then multiply by the weight in it.
    Rounded,
    /// Multiply by the weight in the wide type, then round.
    Wide,
    /// Multiply by 1 + weight in the wide type, then round.
    UnitOffset,
}

/// The dtype that statistics are computed in.
pub(crate) fn wide(dtype: DType) -> DType {
    match dtype {
        DType::F64 => DType::F64,
        _ => DType::F32,
    }
}

/// `aten.layer_norm` over the last `dims.len()` dimensions.
pub(crate) fn layer_norm(
    x: &Tensor,
    dims: &[usize],
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<Tensor> {
    if !x.dims().ends_with(dims) || dims.is_empty() {
        let text = format!(
            "layer_norm: the input is {:?}, expected […, {dims:?}]",
            x.dims()
        );
        return Err(Error::msg(text));
    }
    let inner: usize = dims.iter().product();
    if inner == 0 || x.elem_count() == 0 {
        return Ok(x.clone());
    }
    let wide = wide(x.dtype());
    let rows = x.reshape(((), inner))?.to_dtype(wide)?;
    let centred = rows.broadcast_sub(&rows.mean_keepdim(D::Minus1)?)?;
    let var = centred.sqr()?.mean_keepdim(D::Minus1)?;
    let mut y = centred.broadcast_div(&(var + eps)?.sqrt()?)?;
    if let Some(weight) = weight {
        y = y.broadcast_mul(&weight.to_dtype(wide)?.flatten_all()?)?;
    }
    if let Some(bias) = bias {
        y = y.broadcast_add(&bias.to_dtype(wide)?.flatten_all()?)?;
    }
    Ok(y.to_dtype(x.dtype())?.reshape(x.shape())?)
}

/// RMS normalisation over the last dimension.
pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64, scale: RmsScale) -> Result<Tensor> {
    if x.dims().last() != weight.dims().last() || weight.rank() != 1 {
        let (x, weight) = (x.dims(), weight.dims());
        return Err(Error::msg(format!(
            "rms_norm: the input is {x:?}, the weight {weight:?}"
        )));
    }
    let wide = wide(x.dtype());
    let rows = x.to_dtype(wide)?;
    let mean = rows.sqr()?.mean_keepdim(D::Minus1)?;
    let y = rows.broadcast_mul(&(mean + eps)?.sqrt()?.recip()?)?;
    let y = match scale {
        RmsScale::Rounded => y.to_dtype(x.dtype())?.broadcast_mul(weight)?,
        RmsScale::Wide => y.broadcast_mul(&weight.to_dtype(wide)?)?,
        RmsScale::UnitOffset => y.broadcast_mul(&(weight.to_dtype(wide)? + 1.0)?)?,
    };
    Ok(y.to_dtype(x.dtype())?)
}

//! Convolutions.

use candle_core::Tensor;

use super::norm::wide;
use crate::{Conv1dConfig, Conv2dConfig, Error, Result};

/// `aten.conv1d`: `x` `[batch, in, length]` or `[in, length]`, `weight` `[out, in / groups, kernel]`.
pub(crate) fn conv1d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    config: &Conv1dConfig,
) -> Result<Tensor> {
    let config = Conv2dConfig {
        stride: [1, config.stride],
        padding: [0, config.padding],
        dilation: [1, config.dilation],
        groups: config.groups,
    };
    let x = x.unsqueeze(x.rank().saturating_sub(1))?;
    let y = conv2d(&x, &weight.unsqueeze(2)?, bias, &config)?;
    Ok(y.squeeze(y.rank() - 2)?)
}

/// `aten.conv2d`: `x` `[batch, in, height, width]` or `[in, height, width]`, `weight`
/// `[out, in / groups, height, width]`.
pub(crate) fn conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    config: &Conv2dConfig,
) -> Result<Tensor> {
    if x.rank() == 3 {
        return Ok(conv2d(&x.unsqueeze(0)?, weight, bias, config)?.squeeze(0)?);
    }
    let dtype = x.dtype();
    let wide = wide(dtype);
    let (stride, padding, dilation) = (config.stride, config.padding, config.dilation);
    let _ = (x.dims4()?, Error::msg(""));
    let y = x
        .to_dtype(wide)?
        .pad_with_zeros(2, padding[0], padding[0])?
        .pad_with_zeros(3, padding[1], padding[1])?
        .conv2d(
            &weight.to_dtype(wide)?,
            0,
            stride[1],
            dilation[1],
            config.groups,
        )?;
    let y = match bias {
        Some(bias) => y.broadcast_add(&bias.to_dtype(wide)?.reshape((1, (), 1, 1))?)?,
        None => y,
    };
    Ok(y.to_dtype(dtype)?)
}

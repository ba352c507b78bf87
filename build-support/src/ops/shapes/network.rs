//! Shapes of a network's layers: convolution, pooling, norms, embeddings.

use super::joins::affine;
use super::samples::floor_div;
use super::{At, Given, No, Rule, Shape, is, one, same, wrong};

pub const RULES: &[(&str, Rule)] = &[
    ("aten._adaptive_avg_pool2d.default", adaptive::<2>),
    ("aten._adaptive_avg_pool3d.default", adaptive::<3>),
    (
        "aten._native_batch_norm_legit_no_training.default",
        batch_norm,
    ),
    ("aten._upsample_bicubic2d_aa.vec", upsample::<2>),
    ("aten._upsample_bilinear2d_aa.vec", upsample::<2>),
    ("aten._upsample_nearest_exact1d.vec", upsample::<1>),
    ("aten._upsample_nearest_exact2d.vec", upsample::<2>),
    ("aten._upsample_nearest_exact3d.vec", upsample::<3>),
    ("aten._weight_norm.default", weight_norm),
    ("aten.adaptive_avg_pool1d.default", adaptive::<1>),
    ("aten.adaptive_avg_pool2d.default", adaptive::<2>),
    ("aten.adaptive_avg_pool3d.default", adaptive::<3>),
    ("aten.adaptive_max_pool1d.default", adaptive_max::<1>),
    ("aten.adaptive_max_pool2d.default", adaptive_max::<2>),
    ("aten.adaptive_max_pool3d.default", adaptive_max::<3>),
    ("aten.affine_grid_generator.default", affine_grid),
    ("aten.avg_pool1d.default", pool::<1>),
    ("aten.avg_pool2d.default", pool::<2>),
    ("aten.avg_pool3d.default", pool::<3>),
    ("aten.col2im.default", col2im),
    ("aten.conv1d.default", conv::<1>),
    ("aten.conv1d.padding", conv::<1>),
    ("aten.conv2d.default", conv::<2>),
    ("aten.conv2d.padding", conv::<2>),
    ("aten.conv3d.default", conv::<3>),
    ("aten.conv3d.padding", conv::<3>),
    ("aten.conv_transpose1d.default", conv_transpose::<1>),
    ("aten.conv_transpose2d.input", conv_transpose::<2>),
    ("aten.conv_transpose3d.input", conv_transpose::<3>),
    ("aten.dropout.default", same),
    ("aten.embedding.default", embedding),
    ("aten.embedding_bag.padding_idx", embedding_bag),
    ("aten.grid_sampler.default", grid_sample),
    ("aten.group_norm.default", group_norm),
    ("aten.im2col.default", im2col),
    ("aten.instance_norm.default", instance_norm),
    ("aten.layer_norm.default", layer_norm),
    ("aten.max_pool1d.default", pool::<1>),
    (
        "aten.max_pool1d_with_indices.default",
        pool_with_indices::<1>,
    ),
    ("aten.max_pool2d.default", pool::<2>),
    (
        "aten.max_pool2d_with_indices.default",
        pool_with_indices::<2>,
    ),
    ("aten.max_pool3d.default", pool::<3>),
    (
        "aten.max_pool3d_with_indices.default",
        pool_with_indices::<3>,
    ),
    ("aten.max_unpool2d.default", max_unpool),
    ("aten.max_unpool3d.default", max_unpool),
    ("aten.prelu.default", prelu),
    ("aten.rms_norm.default", layer_norm),
    ("aten.upsample_bicubic2d.vec", upsample::<2>),
    ("aten.upsample_bilinear2d.vec", upsample::<2>),
    ("aten.upsample_linear1d.vec", upsample::<1>),
    ("aten.upsample_nearest1d.vec", upsample::<1>),
    ("aten.upsample_nearest2d.vec", upsample::<2>),
    ("aten.upsample_nearest3d.vec", upsample::<3>),
    ("aten.upsample_trilinear3d.vec", upsample::<3>),
];

/// How a window moves over one dimension.
struct Window {
    size: i64,
    stride: i64,
    dilation: i64,
}

impl Window {
    fn new(size: i64, stride: i64, dilation: i64) -> Result<Self, No> {
        match size.min(stride).min(dilation) {
            1.. => Ok(Self {
                size,
                stride,
                dilation,
            }),
            _ => Err(No::Unknown),
        }
    }

    /// How many places it has within `length`, where each side has been padded.
    fn places(&self, length: i64, up: bool) -> Option<i64> {
        let covered = self.dilation.checked_mul(self.size.checked_sub(1)?)?;
        let free = length.checked_sub(covered)?.checked_sub(1)?;
        let more = if up { self.stride.checked_sub(1)? } else { 0 };
        let places = floor_div(free.checked_add(more)?, self.stride)?;
        places.checked_add(1).filter(|&n| n >= 0)
    }
}

/// The spatial dimensions of an input that may have no batch.
fn spatial<const N: usize>(x: &[i64]) -> Result<(&[i64], [i64; N]), No> {
    let Some(before) = x.len().checked_sub(N).filter(|n| (1..=2).contains(n)) else {
        return wrong(format!("{x:?} is no input of {N} spatial dimensions"));
    };
    let sizes = x[before..].try_into().map_err(|_| No::Unknown)?;
    Ok((&x[..before], sizes))
}

fn conv<const N: usize>(at: &At) -> Given {
    let (x, weight) = (at.shape("input")?, at.shape("weight")?);
    let (before, sizes) = spatial::<N>(&x)?;
    let groups = at.int_or("groups", 1)?;
    let channels = before[before.len() - 1];
    let fit = weight.len() == N + 2
        && groups > 0
        && weight[1].checked_mul(groups) == Some(channels)
        && weight[0] % groups == 0;
    if !fit {
        return wrong(format!(
            "`input` is {x:?} and `weight` {weight:?} in {groups} groups: the channels differ"
        ));
    }
    is(at, "bias", &weight[..1])?;
    let stride = at.per_dim("stride", &[1; N])?;
    let dilation = at.per_dim("dilation", &[1; N])?;
    let mut out = before.to_vec();
    let last = out.len() - 1;
    out[last] = weight[0];
    for i in 0..N {
        let window = Window::new(weight[2 + i], stride[i], dilation[i])?;
        let length = match at.text("padding") {
            Some("same") => Ok(sizes[i].checked_add((window.size - 1).saturating_mul(dilation[i]))),
            Some(_) => Ok(Some(sizes[i])),
            None => at
                .per_dim("padding", &[0; N])
                .map(|p| p[i].checked_mul(2).and_then(|p| p.checked_add(sizes[i]))),
        }?;
        let places = length.and_then(|length| window.places(length, false));
        match places {
            Some(n) => out.push(n),
            None => {
                return wrong(format!(
                    "`input` is {x:?}, smaller than `weight` {weight:?}"
                ));
            }
        }
    }
    one(out)
}

fn conv_transpose<const N: usize>(at: &At) -> Given {
    let (x, weight) = (at.shape("input")?, at.shape("weight")?);
    let (before, sizes) = spatial::<N>(&x)?;
    let groups = at.int_or("groups", 1)?;
    if weight.len() != N + 2 || before.last() != weight.first() || groups < 1 {
        return wrong(format!(
            "`input` is {x:?} and `weight` {weight:?}: the channels differ"
        ));
    }
    let channels = weight[1].checked_mul(groups).ok_or(No::Unknown)?;
    is(at, "bias", &[channels])?;
    let stride = at.per_dim("stride", &[1; N])?;
    let padding = at.per_dim("padding", &[0; N])?;
    let more = at.per_dim("output_padding", &[0; N])?;
    let dilation = at.per_dim("dilation", &[1; N])?;
    let mut out = before.to_vec();
    let last = out.len() - 1;
    out[last] = channels;
    for i in 0..N {
        let length = || {
            let steps = sizes[i].checked_sub(1)?.checked_mul(stride[i])?;
            let covered = weight[2 + i].checked_sub(1)?.checked_mul(dilation[i])?;
            let cut = padding[i].checked_mul(2)?;
            let sum = steps.checked_add(covered)?.checked_sub(cut)?;
            sum.checked_add(more[i])?.checked_add(1)
        };
        out.push(length().ok_or(No::Unknown)?);
    }
    one(out)
}

fn pool<const N: usize>(at: &At) -> Given {
    let x = at.shape("self")?;
    let (before, sizes) = spatial::<N>(&x)?;
    let kernel = at.ints("kernel_size")?;
    let kernel = match kernel[..] {
        [n] => vec![n; N],
        _ if kernel.len() == N => kernel,
        _ => return Err(No::Unknown),
    };
    let stride = at.per_dim("stride", &kernel)?;
    let padding = at.per_dim("padding", &[0; N])?;
    let dilation = at.per_dim("dilation", &[1; N])?;
    let up = at.flag("ceil_mode");
    let mut out = before.to_vec();
    for i in 0..N {
        let window = Window::new(kernel[i], stride[i], dilation[i])?;
        let length = padding[i]
            .checked_mul(2)
            .and_then(|p| p.checked_add(sizes[i]));
        let Some(n) = length.and_then(|length| window.places(length, up)) else {
            return wrong(format!("{x:?} is smaller than the window {kernel:?}"));
        };
        // No window begins behind the input and the padding before it.
        let behind = (n - 1).saturating_mul(stride[i]) >= sizes[i].saturating_add(padding[i]);
        out.push(n - i64::from(up && behind));
    }
    one(out)
}

fn adaptive<const N: usize>(at: &At) -> Given {
    let x = at.shape("self")?;
    let (before, _) = spatial::<N>(&x)?;
    let size = at.ints("output_size")?;
    match size.len() == N {
        true => one([before, &size].concat()),
        false => Err(No::Unknown),
    }
}

/// The same shape twice: of the largest elements, and of where they were.
fn twice(given: Given) -> Given {
    given.map(|shapes| [shapes.clone(), shapes].concat())
}

fn pool_with_indices<const N: usize>(at: &At) -> Given {
    twice(pool::<N>(at))
}

fn adaptive_max<const N: usize>(at: &At) -> Given {
    twice(adaptive::<N>(at))
}

fn upsample<const N: usize>(at: &At) -> Given {
    let x = at.shape("input")?;
    if x.len() != N + 2 {
        return Err(No::Unknown);
    }
    let (before, sizes) = x.split_at(2);
    if at.given("output_size") {
        return one([before, &at.ints("output_size")?[..]].concat());
    }
    let factors = at.floats("scale_factors")?;
    if factors.len() != N {
        return Err(No::Unknown);
    }
    let scaled = sizes.iter().zip(factors);
    let scaled = scaled.map(|(&n, by)| (n as f64 * by).floor() as i64);
    one(before.iter().copied().chain(scaled).collect())
}

/// The elements and the places of the windows of `im2col` over an image of this size.
fn windows(at: &At, sizes: [i64; 2]) -> Result<(i64, i64), No> {
    let kernel = at.per_dim("kernel_size", &[1; 2])?;
    let stride = at.per_dim("stride", &[1; 2])?;
    let padding = at.per_dim("padding", &[0; 2])?;
    let dilation = at.per_dim("dilation", &[1; 2])?;
    let (mut elements, mut places) = (1_i64, 1_i64);
    for i in 0..2 {
        let window = Window::new(kernel[i], stride[i], dilation[i])?;
        let length = padding[i]
            .checked_mul(2)
            .and_then(|p| p.checked_add(sizes[i]));
        let Some(n @ 1..) = length.and_then(|length| window.places(length, false)) else {
            return wrong(format!("{sizes:?} is smaller than the window {kernel:?}"));
        };
        elements = elements.checked_mul(kernel[i]).ok_or(No::Unknown)?;
        places = places.checked_mul(n).ok_or(No::Unknown)?;
    }
    Ok((elements, places))
}

fn im2col(at: &At) -> Given {
    let x = at.shape("self")?;
    let (before, sizes) = spatial::<2>(&x)?;
    let (elements, places) = windows(at, sizes)?;
    let mut out = before.to_vec();
    let last = out.len() - 1;
    out[last] = out[last].checked_mul(elements).ok_or(No::Unknown)?;
    out.push(places);
    one(out)
}

fn col2im(at: &At) -> Given {
    let (x, size) = (at.shape("self")?, at.ints("output_size")?);
    let sizes = size[..].try_into().map_err(|_| No::Unknown)?;
    let (elements, places) = windows(at, sizes)?;
    match &x[..] {
        [batch @ .., column, n] if column % elements == 0 && *n == places => {
            one([batch, &[column / elements], &sizes[..]].concat())
        }
        _ => wrong(format!(
            "{x:?} is not columns of {elements} of {places} windows"
        )),
    }
}

fn embedding(at: &At) -> Given {
    let (weight, indices) = (at.shape("weight")?, at.shape("indices")?);
    match weight[..] {
        [_, width] => one([&indices[..], &[width]].concat()),
        _ => wrong(format!("`weight` is {weight:?}, expected two dimensions")),
    }
}

/// The bags, and what is only for training.
fn embedding_bag(at: &At) -> Given {
    let (weight, offsets) = (at.shape("weight")?, at.shape("offsets")?);
    is(at, "per_sample_weights", &at.shape("indices")?)?;
    match (&weight[..], &offsets[..]) {
        ([_, width], [bags]) => {
            let bags = bags.saturating_sub(i64::from(at.flag("include_last_offset")));
            Ok(vec![Some(vec![bags, *width]), None, None, None])
        }
        _ => wrong(format!("`weight` is {weight:?} and `offsets` {offsets:?}")),
    }
}

fn max_unpool(at: &At) -> Given {
    let (x, size) = (at.shape("self")?, at.ints("output_size")?);
    is(at, "indices", &x)?;
    let before = x.len().checked_sub(size.len()).ok_or(No::Unknown)?;
    one([&x[..before], &size].concat())
}

fn grid_sample(at: &At) -> Given {
    let (x, grid) = (at.shape("input")?, at.shape("grid")?);
    match (&x[..], &grid[..]) {
        ([batch, channels, sizes @ ..], [of, places @ .., dims])
            if batch == of && usize::try_from(*dims) == Ok(sizes.len()) =>
        {
            one([&[*batch, *channels], places].concat())
        }
        _ => wrong(format!("`input` is {x:?} and `grid` {grid:?}")),
    }
}

fn affine_grid(at: &At) -> Given {
    let (theta, size) = (at.shape("theta")?, at.ints("size")?);
    let ([batch, n, columns], [of, _, sizes @ ..]) = (&theta[..], &size[..]) else {
        return Err(No::Unknown);
    };
    if batch != of || *columns != n + 1 || usize::try_from(*n) != Ok(sizes.len()) {
        return wrong(format!("`theta` is {theta:?} for a size of {size:?}"));
    }
    one([&[*batch], sizes, &[*n]].concat())
}

fn layer_norm(at: &At) -> Given {
    let (x, over) = (at.shape("input")?, at.ints("normalized_shape")?);
    if !x.ends_with(&over) {
        return wrong(format!("`input` is {x:?}, which does not end in {over:?}"));
    }
    affine(at, &over)?;
    one(x)
}

/// The second dimension.
fn channels(x: &Shape) -> Result<i64, No> {
    x.get(1).copied().ok_or(No::Unknown)
}

fn group_norm(at: &At) -> Given {
    let (x, groups) = (at.shape("input")?, at.int("num_groups")?);
    let channels = channels(&x)?;
    if groups < 1 || channels % groups != 0 {
        return wrong(format!("{channels} channels are no {groups} groups"));
    }
    affine(at, &[channels])?;
    one(x)
}

fn instance_norm(at: &At) -> Given {
    let x = at.shape("input")?;
    let channels = [channels(&x)?];
    affine(at, &channels)?;
    is(at, "running_mean", &channels)?;
    is(at, "running_var", &channels)?;
    one(x)
}

fn batch_norm(at: &At) -> Given {
    // The mean and deviation saved for training are empty.
    let x = instance_norm(at)?.into_iter();
    Ok(x.chain([None, None]).collect())
}

fn weight_norm(at: &At) -> Given {
    let v = at.shape("v")?;
    let dim = at.axis("dim", 0, v.len())?;
    let norms = v.iter().enumerate();
    let norms = norms.map(|(i, &size)| if i == dim { size } else { 1 });
    is(at, "g", &norms.collect::<Shape>())?;
    one(v)
}

fn prelu(at: &At) -> Given {
    let (x, weight) = (at.shape("self")?, at.shape("weight")?);
    let slopes: i64 = weight.iter().fold(1, |n, &d| n.saturating_mul(d));
    let channels = x.get(1).or(x.first()).copied().unwrap_or(1);
    match slopes == 1 || slopes == channels {
        true => one(x),
        false => wrong(format!("`weight` is {weight:?} for {channels} channels")),
    }
}

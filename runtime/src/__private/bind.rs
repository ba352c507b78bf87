//! What generated code needs around the model's own lines: inputs that fit the trace, constants,
//! and the connection between a cache and its tensors' names.

mod load;

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use half::f16;
use safetensors::SafeTensors;

use crate::{Error, KvCache, Result, Scope, ops};

pub use load::{Expected, load, required_keys};

/// Whether a trace in `traced` also holds in `wanted`.
///
/// A half-precision trace holds its upcasts explicitly, so it holds in every float dtype that holds
/// `largest`, the largest number that stands in it: the least of BF16, as masks have it, is
/// infinity in F16. A trace in f32 has no upcasts, so only a wider dtype gives PyTorch's results.
pub fn dtype(traced: DType, wanted: DType, largest: f64) -> Result<()> {
    let half = |d| matches!(d, DType::F16 | DType::BF16);
    let float = half(wanted) || matches!(wanted, DType::F32 | DType::F64);
    if float && (half(traced) || traced == wanted || wanted == DType::F64) {
        if traced == wanted || wanted != DType::F16 || largest <= f64::from(f16::MAX) {
            return Ok(());
        }
        return Err(Error::msg(format!(
            "the model was traced in {traced:?} and computes with {largest:e}, which F16 does not \
             hold: load it in {traced:?} or F32, or record it again in F16"
        )));
    }
    Err(Error::msg(format!(
        "the model was traced in {traced:?} and cannot be loaded in {wanted:?}: \
         record it again in that dtype"
    )))
}

/// The sizes of an input with `N` dimensions.
pub fn dims<const N: usize>(name: &str, input: &Tensor) -> Result<[usize; N]> {
    input.dims().try_into().map_err(|_| {
        let (rank, shape) = (input.rank(), input.dims());
        let text = format!("input `{name}` has {rank} dimensions {shape:?}, the trace has {N}");
        Error::msg(text)
    })
}

/// A size within the range for which the trace holds.
pub fn size(name: &str, size: usize, min: usize, max: Option<usize>) -> Result<()> {
    if size >= min && max.is_none_or(|max| size <= max) {
        return Ok(());
    }
    let max = max.map_or_else(|| "any".to_owned(), |max| max.to_string());
    Err(Error::msg(format!(
        "size `{name}` is {size}, the trace holds from {min} to {max}: \
         record again with another range in `dynamic_shapes`"
    )))
}

/// Whether the sizes meet a condition of the trace, which `text` says with the line that asks for it.
pub fn condition(holds: bool, text: &str, sizes: &[(&str, usize)]) -> Result<()> {
    if holds {
        return Ok(());
    }
    let got = sizes.iter().map(|(name, size)| format!("{name} = {size}"));
    let got = got.collect::<Vec<_>>().join(", ");
    Err(Error::msg(format!(
        "the trace holds only where {text}, not for {got}: \
         record again with other sizes or another range in `dynamic_shapes`"
    )))
}

/// How many positions a cache holds, the same in every layer.
pub fn past(cache: &KvCache) -> Result<usize> {
    let layers = (0..cache.num_layers()).map(|i| cache.layer_ref(i));
    let slots = layers.flat_map(|layer| (0..layer.names().count()).map(|i| layer.slot(i).len()));
    let mut lengths = slots.collect::<Vec<_>>();
    lengths.dedup();
    match lengths[..] {
        [] => Ok(0),
        [len] => Ok(len),
        _ => Err(Error::msg(format!(
            "the cache holds {lengths:?} positions in its layers: a run failed half way, call \
             `truncate` or `reset`"
        ))),
    }
}

/// An input of the expected shape, as `dtype`: integers of any width, floats of any precision.
pub fn input(name: &str, input: &Tensor, shape: &[usize], dtype: DType) -> Result<Tensor> {
    if input.dims() != shape {
        let got = input.dims();
        return Err(Error::msg(format!(
            "input `{name}` has shape {got:?}, expected {shape:?}"
        )));
    }
    let given = input.dtype();
    if given == dtype {
        return Ok(input.clone());
    }
    if given.is_float() != dtype.is_float() {
        return Err(Error::msg(format!(
            "input `{name}` has dtype {given:?}, expected {dtype:?}"
        )));
    }
    ops::to_dtype(input, dtype)
}

/// An integer input of the expected shape, from integers of any width.
pub fn int(name: &str, input: &Tensor, shape: &[usize]) -> Result<Tensor> {
    self::input(name, input, shape, DType::I64)
}

/// A boolean input of the expected shape, from booleans or integers.
pub fn mask(name: &str, mask: &Tensor, shape: &[usize]) -> Result<Tensor> {
    ops::to_bool(&input(name, mask, shape, mask.dtype())?)
}

/// A constant of equal elements.
pub fn full(w: &Scope, value: f64, shape: &[usize], dtype: DType) -> Result<Tensor> {
    ops::full(value, shape, dtype, w.device())
}

/// A constant whose element `i` is `start + i * step`.
pub fn arange(w: &Scope, start: f64, step: f64, shape: &[usize], dtype: DType) -> Result<Tensor> {
    let n = shape.iter().product::<usize>();
    let values: Vec<f64> = (0..n).map(|i| start + i as f64 * step).collect();
    constant(w, &values, shape, dtype)
}

/// A constant of floats.
pub fn constant(w: &Scope, values: &[f64], shape: &[usize], dtype: DType) -> Result<Tensor> {
    let values = Tensor::from_slice(values, shape, &Device::Cpu)?;
    Ok(values.to_dtype(dtype)?.to_device(w.device())?)
}

/// A constant of floats that are exact in `f32`.
pub fn constant_f32(w: &Scope, values: &[f32], shape: &[usize], dtype: DType) -> Result<Tensor> {
    let values = Tensor::from_slice(values, shape, &Device::Cpu)?;
    Ok(values.to_dtype(dtype)?.to_device(w.device())?)
}

/// A constant of integers or booleans.
pub fn constant_int(w: &Scope, values: &[i64], shape: &[usize], dtype: DType) -> Result<Tensor> {
    let values = Tensor::from_slice(values, shape, &Device::Cpu)?;
    Ok(values.to_dtype(dtype)?.to_device(w.device())?)
}

/// A constant of the side file that was recorded beside the manifest.
pub fn stored(w: &Scope, file: &[u8], name: &str, shape: &[usize], dtype: DType) -> Result<Tensor> {
    if w.is_asking() {
        // Nobody looks at it, and it may be large.
        return Ok(Tensor::zeros(0, dtype, w.device())?);
    }
    let broken = |why: &dyn std::fmt::Display| Error::msg(format!("constant `{name}`: {why}"));
    let file = SafeTensors::deserialize(file).map_err(|err| broken(&err))?;
    let view = file.tensor(name).map_err(|err| broken(&err))?;
    let stored = match view.dtype() {
        safetensors::Dtype::BOOL => DType::U8,
        other => DType::try_from(other).map_err(|err| broken(&err))?,
    };
    let tensor = Tensor::from_raw_buffer(view.data(), stored, view.shape(), &Device::Cpu)?;
    Ok(tensor
        .reshape(shape)?
        .to_dtype(dtype)?
        .to_device(w.device())?)
}

/// An input of a golden, by its manifest name.
pub fn named<'a>(inputs: &'a BTreeMap<String, Tensor>, name: &str) -> Result<&'a Tensor> {
    inputs
        .get(name)
        .ok_or_else(|| Error::msg(format!("there is no input `{name}`")))
}

/// Fills a cache from inputs by name; absent and empty ones leave their place empty.
///
/// `names` is one template with `{layer}` and `{slot}`, or all names in order of layer and slot.
pub fn fill_cache(
    cache: &mut KvCache,
    inputs: &BTreeMap<String, Tensor>,
    names: &[&str],
) -> Result<()> {
    for (layer, slot, name) in places(cache, names) {
        if let Some(value) = inputs.get(&name) {
            let place = cache.layer(layer).slot_mut(slot);
            if value.dim(place.dim())? > 0 {
                place.append(value)?;
            }
        }
    }
    Ok(())
}

/// Adds a cache's content to the outputs, by name; `names` as in [`fill_cache`].
pub fn cache_outputs(cache: &KvCache, names: &[&str], outputs: &mut BTreeMap<String, Tensor>) {
    for (layer, slot, name) in places(cache, names) {
        if let Some(value) = cache.layer_ref(layer).slot(slot).tensor() {
            outputs.insert(name, value);
        }
    }
}

/// Layer, slot and name of every tensor of a cache.
fn places(cache: &KvCache, names: &[&str]) -> Vec<(usize, usize, String)> {
    let mut places = Vec::new();
    for layer in 0..cache.num_layers() {
        for (slot, slot_name) in cache.layer_ref(layer).names().enumerate() {
            let name = match names {
                [template] if template.contains('{') => template
                    .replace("{layer}", &layer.to_string())
                    .replace("{slot}", slot_name),
                all => all
                    .get(places.len())
                    .copied()
                    .unwrap_or_default()
                    .to_owned(),
            };
            places.push((layer, slot, name));
        }
    }
    places
}

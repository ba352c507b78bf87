//! State that grows while a model runs: the key-value cache of attention.
//!
//! A [`CacheTensor`] hands out views of a buffer that it keeps writing behind their end.
//! Invariant: an element that has been handed out is never written again, so every view stays
//! valid for ever; truncating, resetting or cloning makes the next append copy what is kept.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut, Range};

use candle_core::Tensor;

use crate::{Error, Result};

/// Written-to mark of a buffer that somebody else may write to as well.
const SHARED: usize = usize::MAX;
/// Smallest number of positions that a buffer is made for.
const MIN_CAPACITY: usize = 16;

/// One tensor that grows along one dimension, amortised O(new elements) per append.
///
/// ```
/// use pycandle::{CacheTensor, Device, Tensor};
/// # fn main() -> pycandle::Result<()> {
/// let mut keys = CacheTensor::new(1);
/// keys.append(&Tensor::new(&[[1f32, 2.]], &Device::Cpu)?)?;
/// let all = keys.append(&Tensor::new(&[[3f32]], &Device::Cpu)?)?;
/// assert_eq!(all.to_vec2::<f32>()?, [[1., 2., 3.]]);
/// keys.truncate(1);
/// assert_eq!((keys.len(), keys.dim()), (1, 1));
/// assert_eq!(all.dims(), [1, 3]); // a view of an earlier step does not change
/// keys.set(Tensor::new(&[[8f32, 9.]], &Device::Cpu)?)?;
/// assert!(keys.tensor().is_some_and(|all| all.dims() == [1, 2]));
/// keys.reset();
/// assert!(keys.is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct CacheTensor {
    dim: usize,
    len: usize,
    /// Positions below it may be visible to others; `SHARED` when the buffer is not ours alone.
    handed_out: usize,
    buffer: Option<Tensor>,
}

impl CacheTensor {
    /// An empty tensor that grows along `dim`; the first append fixes its other dimensions.
    pub fn new(dim: usize) -> Self {
        Self {
            dim,
            len: 0,
            handed_out: 0,
            buffer: None,
        }
    }

    /// The dimension that it grows along.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Positions held, in elements along the growing dimension.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds `new` at the end and returns the whole content as a view.
    ///
    /// `new` has the rank, dtype, device and other dimensions of the first append; otherwise an
    /// error.
    /// The view is that of `torch.cat([past, new], dim)`; it stays valid whatever follows.
    pub fn append(&mut self, new: &Tensor) -> Result<Tensor> {
        let added = new.dim(self.dim)?;
        if let Some(buffer) = &self.buffer {
            self.check(buffer, new)?;
        }
        let len = self.len + added;
        if !self.fits(len) {
            self.reallocate(len, new)?;
        }
        let Some(buffer) = &self.buffer else {
            return Err(Error::msg("cache has no buffer after it was allocated"));
        };
        if added > 0 {
            buffer.slice_set(&new.contiguous()?, self.dim, self.len)?;
        }
        self.len = len;
        self.handed_out = len;
        Ok(buffer.narrow(self.dim, 0, len)?)
    }

    /// The whole content as a view, or `None` before the first append and after [`Self::reset`].
    pub fn tensor(&self) -> Option<Tensor> {
        let buffer = self.buffer.as_ref()?;
        if self.len == 0 {
            return None;
        }
        // The buffer is at least `len` long along `dim`, so this cannot fail.
        buffer.narrow(self.dim, 0, self.len).ok()
    }

    /// Replaces the content by `value`, which is not copied until the next append.
    pub fn set(&mut self, value: Tensor) -> Result<()> {
        self.len = value.dim(self.dim)?;
        self.handed_out = SHARED;
        self.buffer = Some(value);
        Ok(())
    }

    /// Forgets everything, the other dimensions included.
    pub fn reset(&mut self) {
        *self = Self::new(self.dim);
    }

    /// Keeps the first `len` positions; does nothing when fewer are held.
    ///
    /// The next append copies what is kept: views of earlier steps do not change.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Whether positions `self.len..len` can be written in place.
    fn fits(&self, len: usize) -> bool {
        let capacity = match &self.buffer {
            Some(buffer) => buffer.dim(self.dim).unwrap_or(0),
            None => return false,
        };
        len <= capacity && self.handed_out <= self.len
    }

    /// Moves the content to a buffer of our own for at least `len` positions.
    fn reallocate(&mut self, len: usize, like: &Tensor) -> Result<()> {
        let capacity = len.max(2 * self.len).max(MIN_CAPACITY);
        let mut dims = like.dims().to_vec();
        dims[self.dim] = capacity;
        let buffer = Tensor::zeros(dims, like.dtype(), like.device())?;
        if let Some(kept) = self.tensor() {
            buffer.slice_set(&kept.contiguous()?, self.dim, 0)?;
        }
        self.buffer = Some(buffer);
        self.handed_out = self.len;
        Ok(())
    }

    fn check(&self, buffer: &Tensor, new: &Tensor) -> Result<()> {
        let same = |dims: &[usize]| {
            let mut dims = dims.to_vec();
            if let Some(dim) = dims.get_mut(self.dim) {
                *dim = 0;
            }
            dims
        };
        if same(buffer.dims()) != same(new.dims()) || buffer.dtype() != new.dtype() {
            let mut held = buffer.dims().to_vec();
            held[self.dim] = self.len;
            return Err(Error::msg(format!(
                "cannot append {:?} {:?} to a cache of {:?} {held:?} along dimension {}: \
                 call `reset` before another batch",
                new.dtype(),
                new.dims(),
                buffer.dtype(),
                self.dim,
            )));
        }
        Ok(())
    }
}

/// A clone holds the same content; whichever of the two appends does not change the other.
impl Clone for CacheTensor {
    fn clone(&self) -> Self {
        Self {
            dim: self.dim,
            len: self.len,
            handed_out: SHARED,
            buffer: self.buffer.clone(),
        }
    }
}

/// The cache tensors of one layer, in the manifest's slot order (for attention: key, value).
///
/// ```
/// # use pycandle::{DType, Device, LayerCache, Tensor};
/// let mut layer = LayerCache::new(&[("key", 2), ("value", 2)]);
/// assert_eq!(layer.names().collect::<Vec<_>>(), ["key", "value"]);
/// let new = Tensor::zeros((1, 8, 3, 64), DType::F32, &Device::Cpu)?;
/// layer.append("key", &new)?;
/// layer.slot_mut(1).append(&new)?;
/// layer.truncate(2);
/// assert_eq!((layer.len(), layer.slot(1).len()), (2, 2));
/// layer.reset();
/// assert!(layer.is_empty());
/// # Ok::<(), pycandle::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct LayerCache {
    slots: Vec<(&'static str, CacheTensor)>,
}

impl LayerCache {
    /// An empty cache with one slot per `(name, growing dimension)`.
    pub fn new(slots: &[(&'static str, usize)]) -> Self {
        let slots = slots
            .iter()
            .map(|&(name, dim)| (name, CacheTensor::new(dim)));
        Self {
            slots: slots.collect(),
        }
    }

    /// The slots' names, in order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.slots.iter().map(|(name, _)| *name)
    }

    /// Slot number `index`.
    ///
    /// # Panics
    /// When there are not that many slots; their number is fixed by the model.
    pub fn slot(&self, index: usize) -> &CacheTensor {
        &self.slots[index].1
    }

    /// Slot number `index`, to append to.
    ///
    /// # Panics
    /// When there are not that many slots; their number is fixed by the model.
    pub fn slot_mut(&mut self, index: usize) -> &mut CacheTensor {
        &mut self.slots[index].1
    }

    /// Appends to the slot of this name and gives its whole content, as [`CacheTensor::append`].
    ///
    /// # Errors
    /// When there is no such slot, or its other dimensions differ from those of `new`.
    pub fn append(&mut self, slot: &str, new: &Tensor) -> Result<Tensor> {
        match self.slots.iter_mut().find(|(name, _)| *name == slot) {
            Some((_, tensor)) => tensor.append(new),
            None => Err(Error::msg(format!("the cache has no slot `{slot}`"))),
        }
    }

    /// Positions held by the first slot.
    pub fn len(&self) -> usize {
        self.slots.first().map_or(0, |(_, slot)| slot.len())
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Empties every slot.
    pub fn reset(&mut self) {
        self.slots.iter_mut().for_each(|(_, slot)| slot.reset());
    }

    /// Keeps the first `len` positions of every slot.
    pub fn truncate(&mut self, len: usize) {
        self.slots
            .iter_mut()
            .for_each(|(_, slot)| slot.truncate(len));
    }
}

/// The cache of a whole model: one [`LayerCache`] per layer.
///
/// ```
/// use pycandle::{Device, KvCache, LayerCache, Tensor};
/// # fn main() -> pycandle::Result<()> {
/// let mut cache = KvCache::new(&[("key", 2), ("value", 2)], 4);
/// let k = Tensor::zeros((1, 8, 3, 64), pycandle::DType::F32, &Device::Cpu)?;
/// cache.layer(0).slot_mut(0).append(&k)?;
/// assert_eq!((cache.len(), cache.num_layers()), (3, 4));
/// cache.truncate(2);
/// assert_eq!(cache.layer_ref(0).len(), 2);
/// for layer in cache.layers(1..4) {
///     assert!(layer.is_empty());
/// }
/// cache.reset();
/// assert!(cache.is_empty());
/// let one_that_differs = KvCache::from_layers(vec![LayerCache::new(&[("state", 1)])]);
/// assert_eq!(one_that_differs.num_layers(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct KvCache {
    layers: Vec<LayerCache>,
}

impl KvCache {
    /// An empty cache of `layers` layers with these `(name, growing dimension)` slots each.
    pub fn new(slots: &[(&'static str, usize)], layers: usize) -> Self {
        Self::from_layers(vec![LayerCache::new(slots); layers])
    }

    /// A cache whose layers do not all have the same slots.
    pub fn from_layers(layers: Vec<LayerCache>) -> Self {
        Self { layers }
    }

    /// Number of layers.
    pub fn num_layers(&self) -> usize {
        self.layers.len()
    }

    /// The cache of layer `index`.
    ///
    /// # Panics
    /// When there are not that many layers; their number is fixed by the model.
    pub fn layer(&mut self, index: usize) -> &mut LayerCache {
        &mut self.layers[index]
    }

    /// Some layers, in order.
    ///
    /// # Panics
    /// When there are not that many layers; their number is fixed by the model.
    pub fn layers(&mut self, range: Range<usize>) -> &mut [LayerCache] {
        &mut self.layers[range]
    }

    /// The cache of layer `index`, to look at.
    ///
    /// # Panics
    /// When there are not that many layers; their number is fixed by the model.
    pub fn layer_ref(&self, index: usize) -> &LayerCache {
        &self.layers[index]
    }

    /// Positions held by the first layer.
    pub fn len(&self) -> usize {
        self.layers.first().map_or(0, LayerCache::len)
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Empties every layer, for another sequence or batch.
    pub fn reset(&mut self) {
        self.layers.iter_mut().for_each(LayerCache::reset);
    }

    /// Keeps the first `len` positions of every layer.
    pub fn truncate(&mut self, len: usize) {
        self.layers.iter_mut().for_each(|layer| layer.truncate(len));
    }
}

/// The cache of one model: a [`KvCache`] that no other model takes.
///
/// Made by the generated model's `cache` function; `reset`, `truncate` and `len` are [`KvCache`]'s.
/// A model with several caches has one such function for each; `WHICH` tells them apart, so that
/// one in another's place does not compile.
///
/// ```
/// use pycandle::{KvCache, ModelCache};
/// struct MyModel;
/// let mut cache = ModelCache::<MyModel>::new(KvCache::new(&[("key", 2), ("value", 2)], 4));
/// cache.reset();
/// assert_eq!(cache.num_layers(), 4);
/// ```
///
/// ```compile_fail,E0308
/// use pycandle::{KvCache, ModelCache};
/// struct MyModel;
/// fn forward(encoder: &mut ModelCache<MyModel, 0>, decoder: &mut ModelCache<MyModel, 1>) {}
/// let mut encoder = ModelCache::<MyModel, 0>::new(KvCache::new(&[("key", 2)], 4));
/// let mut decoder = ModelCache::<MyModel, 1>::new(KvCache::new(&[("key", 2)], 4));
/// forward(&mut decoder, &mut encoder);
/// ```
pub struct ModelCache<M, const WHICH: usize = 0> {
    cache: KvCache,
    model: PhantomData<fn() -> M>,
}

impl<M, const WHICH: usize> ModelCache<M, WHICH> {
    /// A cache for the model `M`.
    pub fn new(cache: KvCache) -> Self {
        Self {
            cache,
            model: PhantomData,
        }
    }
}

impl<M, const WHICH: usize> Clone for ModelCache<M, WHICH> {
    fn clone(&self) -> Self {
        Self::new(self.cache.clone())
    }
}

impl<M, const WHICH: usize> fmt::Debug for ModelCache<M, WHICH> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cache.fmt(f)
    }
}

impl<M, const WHICH: usize> Deref for ModelCache<M, WHICH> {
    type Target = KvCache;

    fn deref(&self) -> &KvCache {
        &self.cache
    }
}

impl<M, const WHICH: usize> DerefMut for ModelCache<M, WHICH> {
    fn deref_mut(&mut self) -> &mut KvCache {
        &mut self.cache
    }
}

//! A parameter that is read on first use.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use candle_core::quantized::{GgmlDType, QMatMul};
use candle_core::{DType, Device, Shape, Tensor};
use pycandle_checkpoint::{Dtype as FileDtype, Rows};

use super::{Weights, blocks, convert, rows};
use crate::{Error, Result};

/// A handle to one tensor of a checkpoint: key, shape, dtype and device, but no bytes.
///
/// [`Param::tensor`] reads it once; clones and tied names share what was read, and dropping the
/// last of them frees it.
///
/// ```
/// use pycandle::{DType, Device, Param, Tensor, Weights};
/// # fn main() -> pycandle::Result<()> {
/// # let dir = tempfile::tempdir().map_err(pycandle::Error::msg)?;
/// # let path = dir.path().join("model.safetensors");
/// # let bias = Tensor::new(&[1f32, 2.], &Device::Cpu)?;
/// # candle_core::safetensors::save(&[("bias", bias)].into(), &path)?;
/// let weights = Weights::open(&path)?;
/// let bias = weights.scope(DType::BF16, &Device::Cpu).param("bias", 2)?;
/// assert_eq!(bias.dtype(), DType::BF16); // what the model computes in
/// assert!(bias.key() == "bias" && bias.dims() == [2] && bias.device().is_cpu());
/// assert!(!bias.is_loaded());
/// assert_eq!(bias.tensor()?.dtype(), DType::BF16);
/// assert!(bias.is_loaded());
/// // A tensor that no checkpoint holds:
/// let ones = Param::from_tensor("ones", Tensor::ones(2, DType::BF16, &Device::Cpu)?);
/// assert_eq!(ones.shape(), bias.shape());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Param {
    key: Arc<str>,
    shape: Shape,
    dtype: DType,
    source: Source,
    /// Further keys of the same tensor that the file holds too.
    twins: Option<Arc<Twins>>,
    /// The block type of the file, where Candle multiplies by it as it is.
    blocks: Option<GgmlDType>,
    cell: Arc<Cell>,
}

struct Twins {
    keys: Vec<Box<str>>,
    /// Whether their bytes were compared.
    equal: AtomicBool,
}

#[derive(Clone)]
enum Source {
    File(Weights, Rows),
    /// A tensor that no checkpoint holds, or none at all.
    Value,
}

impl Param {
    pub(super) fn new(
        weights: &Weights,
        (key, rows): (&str, Rows),
        mut twins: Vec<Box<str>>,
        shape: Shape,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let file = || weights.file_of(key).to_path_buf();
        let (Some(found), Some(file_dtype)) = (weights.shape(key), weights.file_dtype(key)) else {
            let text = format!("`{key}` is missing among {} tensors", weights.len());
            return Err(Error::file(weights.path(), vec![text]));
        };
        if found != shape.dims() {
            let text = format!("`{key}` is {found:?}, the model has {:?}", shape.dims());
            return Err(Error::file(&file(), vec![text]));
        }
        let describe = |key: &str| {
            let dtype = weights.file_dtype(key);
            let dtype = dtype.map_or("nothing", |dtype| dtype.name());
            format!("{dtype} {:?}", weights.shape(key).unwrap_or_default())
        };
        // Blocks of another type stand for the same matrix, and cannot be equal.
        twins.retain(|twin| match weights.file_dtype(twin) {
            Some(other) => {
                other == file_dtype || !(other.is_quantized() || file_dtype.is_quantized())
            }
            None => true,
        });
        let unlike = |twin: &&str| {
            weights.shape(twin) != Some(found) || weights.file_dtype(twin) != Some(file_dtype)
        };
        if let Some(twin) = twins.iter().map(|twin| &**twin).find(unlike) {
            let how = format!("{} and {}", describe(key), describe(twin));
            return Err(Error::file(&file(), vec![untied(key, twin, &how)]));
        }
        let Some(dtype) = convert::target(file_dtype, dtype) else {
            let text = format!("`{key}` is {file_dtype}, which cannot be loaded as {dtype:?}");
            return Err(Error::file(&file(), vec![text]));
        };
        Ok(Self {
            key: key.into(),
            blocks: blocks::of(file_dtype).filter(|_| shape.rank() == 2),
            shape,
            dtype,
            source: Source::File(weights.clone(), rows),
            twins: (!twins.is_empty()).then(|| {
                Arc::new(Twins {
                    keys: twins,
                    equal: AtomicBool::new(false),
                })
            }),
            cell: weights.cell(key, rows, dtype, device),
        })
    }

    /// A handle without a tensor, for models that are built only to see what they ask for.
    pub(super) fn unbound(key: &str, shape: Shape, dtype: DType, device: &Device) -> Self {
        Self {
            key: key.into(),
            shape,
            dtype,
            source: Source::Value,
            twins: None,
            blocks: None,
            cell: Arc::new(Cell::new(device)),
        }
    }

    /// A handle to a tensor that is already there, for constants and computed weights.
    pub fn from_tensor(key: &str, tensor: Tensor) -> Self {
        let (shape, dtype) = (tensor.shape().clone(), tensor.dtype());
        let cell = Cell::new(tensor.device());
        let cell = Arc::new(Cell {
            tensor: OnceLock::from(tensor),
            ..cell
        });
        Self {
            key: key.into(),
            shape,
            dtype,
            source: Source::Value,
            twins: None,
            blocks: None,
            cell,
        }
    }

    /// The key in the checkpoint; of tied names the one that is read.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The shape, as in the file.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The sizes of the dimensions.
    pub fn dims(&self) -> &[usize] {
        self.shape.dims()
    }

    /// The dtype that [`Param::tensor`] has: the model's for floats, U8 for bool and uint8, else I64.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The device that [`Param::tensor`] is on.
    pub fn device(&self) -> &Device {
        self.cell.device()
    }

    /// Whether the bytes have been read.
    pub fn is_loaded(&self) -> bool {
        self.cell.tensor.get().is_some() || self.cell.blocks.get().is_some()
    }

    /// The tensor, read and converted on the first call of any handle to it.
    ///
    /// The conversion goes from the mapped file to the tensor in one pass: no second copy exists
    /// at any time on the CPU. Blocks of a GGUF file are dequantized.
    ///
    /// Fails when the file also holds the tensor under a tied name, with other bytes.
    pub fn tensor(&self) -> Result<Tensor> {
        self.value(&self.cell.tensor, |bytes, file| {
            let tensor = match blocks::of(file) {
                Some(blocks) => blocks::tensor(bytes, blocks, &self.shape, &Device::Cpu)?
                    .dequantize(&Device::Cpu)?
                    .to_dtype(self.dtype)?,
                None => {
                    let storage = convert::convert(bytes, file, self.dtype);
                    let text = || Error::msg(format!("{file} cannot be loaded"));
                    convert::tensor(storage.ok_or_else(text)?, &self.shape)?
                }
            };
            Ok(tensor.to_device(self.device())?)
        })
    }

    /// The matrix in the blocks of its file, where those can be multiplied by; read like
    /// [`Param::tensor`].
    pub(crate) fn blocks(&self) -> Result<Option<QMatMul>> {
        let Some(blocks) = self.blocks else {
            return Ok(None);
        };
        let matrix = self.value(&self.cell.blocks, |bytes, _| {
            let tensor = blocks::tensor(bytes, blocks, &self.shape, self.device())?;
            Ok(QMatMul::from_qtensor(tensor)?)
        });
        matrix.map(Some)
    }

    /// What is in the slot, or what is made for it of the file's bytes and dtype.
    fn value<T: Clone>(
        &self,
        slot: &OnceLock<T>,
        make: impl FnOnce(&[u8], FileDtype) -> Result<T>,
    ) -> Result<T> {
        let checked = |twins: &Arc<Twins>| twins.equal.load(Ordering::Acquire);
        match slot.get() {
            Some(value) if self.twins.as_ref().is_none_or(checked) => Ok(value.clone()),
            _ => self.read(slot, make),
        }
    }

    #[cold]
    fn read<T: Clone>(
        &self,
        slot: &OnceLock<T>,
        make: impl FnOnce(&[u8], FileDtype) -> Result<T>,
    ) -> Result<T> {
        // One thread reads, the others wait. After a panic in it the cell is still empty.
        let mut equal = self.cell.reading.lock().unwrap_or_else(|e| e.into_inner());
        let Source::File(weights, rows) = &self.source else {
            return Err(Error::msg(format!("`{}` has no file", self.key)));
        };
        let fail = |text: String| Error::file(weights.file_of(&self.key), vec![text]);
        let (Some(bytes), Some(dtype)) = (weights.bytes(&self.key), weights.file_dtype(&self.key))
        else {
            return Err(fail(format!("`{}` is not in the mapped file", self.key)));
        };
        if let Some(twins) = &self.twins {
            for twin in twins.keys.iter().filter(|twin| !equal.contains(*twin)) {
                if weights.bytes(twin) != Some(bytes) {
                    return Err(fail(untied(&self.key, twin, "their values")));
                }
            }
            equal.extend(twins.keys.iter().cloned());
            twins.equal.store(true, Ordering::Release);
        }
        if let Some(value) = slot.get() {
            return Ok(value.clone());
        }
        let value = rows::in_order(bytes, *rows, self.dims())
            .and_then(|bytes| make(&bytes, dtype))
            .map_err(|err| fail(format!("`{}`: {err}", self.key)))?;
        Ok(slot.get_or_init(|| value).clone())
    }
}

/// What to say about tied keys that hold different tensors.
pub(crate) fn untied(key: &str, twin: &str, how: &str) -> String {
    format!(
        "`{key}` and `{twin}` are one tensor in the trace and differ here ({how}): save the \
         checkpoint with one of them, or record the model with both untied"
    )
}

impl std::fmt::Debug for Param {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Param({} {:?} {:?})", self.key, self.dtype, self.dims())
    }
}

/// What all handles of one tensor in one dtype on one device share.
#[derive(Debug)]
pub(super) struct Cell {
    device: Device,
    tensor: OnceLock<Tensor>,
    /// The same in the blocks of the file.
    blocks: OnceLock<QMatMul>,
    /// Held while reading; the keys whose bytes were found to be equal to this tensor's.
    reading: Mutex<BTreeSet<Box<str>>>,
}

impl Cell {
    pub fn new(device: &Device) -> Self {
        Self {
            device: device.clone(),
            tensor: OnceLock::new(),
            blocks: OnceLock::new(),
            reading: Mutex::default(),
        }
    }

    pub fn device(&self) -> &Device {
        &self.device
    }
}

//! Elements of CPU tensors as slices, and new tensors from what kernels write.

use candle_core::{DType, Device, Layout, Storage, Tensor, WithDType};
use half::slice::HalfFloatSliceExt;
use half::vec::HalfBitsVecExt;
use half::{bf16, f16};
use std::any::Any;
use std::ops::Range;

use super::Result;
use super::isa::{Isa, Kernel, dispatch};

/// Elements converted at a time between a half type and `f32`; a few kilobytes, so it stays in the
/// first-level cache.
pub(super) const BLOCK: usize = 512;

/// Fewer elements than this are not worth a second thread.
pub(super) const PARALLEL: usize = 16 * 1024;

/// Fails with a message of this module.
macro_rules! fail {
    ($($arg:tt)*) => {
        return Err($crate::Error::msg(format!($($arg)*)))
    };
}
pub(super) use fail;

/// Runs a body with `$t` standing for the element type of any dtype that models use.
macro_rules! with_any {
    ($dtype:expr, $op:expr, $t:ident => $body:expr) => {
        match $dtype {
            candle_core::DType::U8 => {
                type $t = u8;
                $body
            }
            candle_core::DType::I64 => {
                type $t = i64;
                $body
            }
            candle_core::DType::BF16 => {
                type $t = half::bf16;
                $body
            }
            candle_core::DType::F16 => {
                type $t = half::f16;
                $body
            }
            candle_core::DType::F32 => {
                type $t = f32;
                $body
            }
            candle_core::DType::F64 => {
                type $t = f64;
                $body
            }
            other => $crate::ops::memory::fail!("{}: unsupported dtype {other:?}", $op),
        }
    };
}
pub(super) use with_any;

/// Runs a body with `$t` standing for `f32`, `f16` or `bf16`.
macro_rules! with_narrow {
    ($dtype:expr, $op:expr, $t:ident => $body:expr) => {
        match $dtype {
            candle_core::DType::BF16 => {
                type $t = half::bf16;
                $body
            }
            candle_core::DType::F16 => {
                type $t = half::f16;
                $body
            }
            candle_core::DType::F32 => {
                type $t = f32;
                $body
            }
            other => $crate::ops::memory::fail!("{}: unsupported dtype {other:?}", $op),
        }
    };
}
pub(super) use with_narrow;

/// Whether PyTorch counts the dtype as floating point.
pub(super) fn is_float(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64)
}

/// Whether sums of this dtype are kept in `f32`.
pub(super) fn is_half(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16)
}

/// Calls `f` with the elements of a CPU tensor in order; copies first if they are not contiguous.
pub(super) fn read<T: WithDType, R>(x: &Tensor, f: impl FnOnce(&[T]) -> Result<R>) -> Result<R> {
    let x = x.contiguous()?;
    with_storage::<T, R>(&x, |data, layout| {
        // An empty view may start past the end of its storage.
        if layout.shape().elem_count() == 0 {
            return f(&[]);
        }
        let start = layout.start_offset();
        f(&data[start..start + layout.shape().elem_count()])
    })
}

/// Calls `f` with the whole storage of a CPU tensor and its layout.
pub(super) fn with_storage<T: WithDType, R>(
    x: &Tensor,
    f: impl FnOnce(&[T], &Layout) -> Result<R>,
) -> Result<R> {
    let (storage, layout) = x.storage_and_layout();
    match &*storage {
        Storage::Cpu(cpu) => f(cpu.as_slice::<T>()?, layout),
        _ => fail!("expected a tensor on the CPU, got one on {:?}", x.device()),
    }
}

/// All elements of a tensor on any device.
pub(super) fn to_vec<T: WithDType>(x: &Tensor) -> Result<Vec<T>> {
    Ok(x.flatten_all()?.to_vec1::<T>()?)
}

/// All elements of an integer or boolean tensor as `i64`.
pub(super) fn to_i64(x: &Tensor) -> Result<Vec<i64>> {
    match x.dtype() {
        DType::I64 => to_vec::<i64>(x),
        DType::U8 => Ok(to_vec::<u8>(x)?.into_iter().map(i64::from).collect()),
        DType::U32 => Ok(to_vec::<u32>(x)?.into_iter().map(i64::from).collect()),
        DType::I32 => Ok(to_vec::<i32>(x)?.into_iter().map(i64::from).collect()),
        DType::I16 => Ok(to_vec::<i16>(x)?.into_iter().map(i64::from).collect()),
        other => fail!("expected integers, got {other:?}"),
    }
}

/// A CPU tensor that owns `data`.
pub(super) fn tensor<T: WithDType>(
    data: Vec<T>,
    shape: impl Into<candle_core::Shape>,
) -> Result<Tensor> {
    Ok(Tensor::from_vec(data, shape.into(), &Device::Cpu)?)
}

/// A vector of `len` elements, zeros but for what `write` sets.
pub(super) fn written<T: WithDType>(len: usize, write: impl FnOnce(&mut [T])) -> Vec<T> {
    let mut data = zeros(len);
    write(&mut data);
    data
}

/// A vector of zeros, in memory that the allocator hands out as zeros rather than filled here.
fn zeros<T: WithDType>(len: usize) -> Vec<T> {
    // `vec!` knows the zeros of primitive types only, so the half types go by way of their bits.
    let bits = || vec![0u16; len];
    let half: Box<dyn Any> = match T::DTYPE {
        DType::BF16 => Box::new(bits().reinterpret_into::<bf16>()),
        DType::F16 => Box::new(bits().reinterpret_into::<f16>()),
        _ => return vec![T::zero(); len],
    };
    match half.downcast::<Vec<T>>() {
        Ok(zeros) => *zeros,
        Err(_) => vec![T::zero(); len],
    }
}

/// Runs a CPU kernel on tensors of any device, by way of the CPU when they are elsewhere.
///
/// The kernels without a Candle equivalent use it, so that they are right, if not fast, everywhere.
pub(super) fn on_cpu<R: Home>(
    inputs: &[&Tensor],
    f: impl FnOnce(&[&Tensor]) -> Result<R>,
) -> Result<R> {
    match inputs.iter().find(|x| !x.device().is_cpu()) {
        None => f(inputs),
        Some(away) => {
            let device = away.device().clone();
            let moved = inputs
                .iter()
                .map(|x| Ok(x.to_device(&Device::Cpu)?))
                .collect::<Result<Vec<_>>>()?;
            f(&moved.iter().collect::<Vec<_>>())?.home(&device)
        }
    }
}

/// Results that can move to the device of the inputs.
pub(super) trait Home: Sized {
    /// The result on `device`.
    fn home(self, device: &Device) -> Result<Self>;
}

impl Home for Tensor {
    fn home(self, device: &Device) -> Result<Self> {
        Ok(self.to_device(device)?)
    }
}

impl Home for (Tensor, Tensor) {
    fn home(self, device: &Device) -> Result<Self> {
        Ok((self.0.to_device(device)?, self.1.to_device(device)?))
    }
}

/// Element types whose arithmetic happens in `f32`, rounded once when stored.
pub(super) trait Narrow: WithDType {
    /// The elements as `f32`: themselves, or converted into `buffer` (at least as long).
    fn load<'a>(source: &'a [Self], buffer: &'a mut [f32]) -> &'a [f32];
    /// Rounds `values` into `out`, of the same length.
    fn store(values: &[f32], out: &mut [Self]);
    /// Lets `f` write `out` as `f32`, in ranges of at most [`BLOCK`] elements for the half types.
    fn write(out: &mut [Self], f: impl FnMut(Range<usize>, &mut [f32]));
    /// One element as `f32`.
    fn wide(self) -> f32;
    /// Sixteen elements as `f32`, in registers.
    fn lanes<S: Isa>(from: &[Self; 16]) -> S::Lanes;
    /// The nearest element to an `f32`.
    fn nearest(value: f32) -> Self;
}

impl Narrow for f32 {
    #[inline(always)]
    fn load<'a>(source: &'a [Self], _: &'a mut [f32]) -> &'a [f32] {
        source
    }
    #[inline(always)]
    fn store(values: &[f32], out: &mut [Self]) {
        out.copy_from_slice(values);
    }
    #[inline(always)]
    fn write(out: &mut [Self], mut f: impl FnMut(Range<usize>, &mut [f32])) {
        f(0..out.len(), out);
    }
    #[inline(always)]
    fn wide(self) -> f32 {
        self
    }
    #[inline(always)]
    fn lanes<S: Isa>(from: &[Self; 16]) -> S::Lanes {
        S::load(from)
    }
    #[inline(always)]
    fn nearest(value: f32) -> Self {
        value
    }
}

impl Narrow for bf16 {
    #[inline(always)]
    fn load<'a>(source: &'a [Self], buffer: &'a mut [f32]) -> &'a [f32] {
        let buffer = &mut buffer[..source.len()];
        for (to, from) in buffer.iter_mut().zip(source) {
            *to = f32::from_bits(u32::from(from.to_bits()) << 16);
        }
        buffer
    }
    #[inline(always)]
    fn store(values: &[f32], out: &mut [Self]) {
        for (to, &from) in out.iter_mut().zip(values) {
            *to = Self::nearest(from);
        }
    }
    #[inline(always)]
    fn write(out: &mut [Self], f: impl FnMut(Range<usize>, &mut [f32])) {
        write_blocks(out, f);
    }
    #[inline(always)]
    fn wide(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
    #[inline(always)]
    fn lanes<S: Isa>(from: &[Self; 16]) -> S::Lanes {
        S::load_bf16(from)
    }
    #[inline(always)]
    fn nearest(value: f32) -> Self {
        // Round half to even, without the branch that would keep the loop from vectorising.
        let bits = value.to_bits();
        let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
        let quiet = (bits >> 16) | 0x40;
        bf16::from_bits(if value.is_nan() { quiet } else { rounded } as u16)
    }
}

impl Narrow for f16 {
    #[inline(always)]
    fn load<'a>(source: &'a [Self], buffer: &'a mut [f32]) -> &'a [f32] {
        let buffer = &mut buffer[..source.len()];
        source.convert_to_f32_slice(buffer);
        buffer
    }
    #[inline(always)]
    fn store(values: &[f32], out: &mut [Self]) {
        out.convert_from_f32_slice(values);
    }
    #[inline(always)]
    fn write(out: &mut [Self], f: impl FnMut(Range<usize>, &mut [f32])) {
        write_blocks(out, f);
    }
    #[inline(always)]
    fn wide(self) -> f32 {
        self.to_f32()
    }
    #[inline(always)]
    fn lanes<S: Isa>(from: &[Self; 16]) -> S::Lanes {
        S::load_f16(from)
    }
    #[inline(always)]
    fn nearest(value: f32) -> Self {
        f16::from_f32(value)
    }
}

#[inline(always)]
fn write_blocks<T: Narrow>(out: &mut [T], mut f: impl FnMut(Range<usize>, &mut [f32])) {
    let mut buffer = [0.0f32; BLOCK];
    let mut start = 0;
    for piece in out.chunks_mut(BLOCK) {
        let values = &mut buffer[..piece.len()];
        f(start..start + piece.len(), values);
        T::store(values, piece);
        start += piece.len();
    }
}

/// The `f32` elements of a contiguous float tensor on the CPU.
pub(super) fn to_f32(x: &Tensor) -> Result<Vec<f32>> {
    with_narrow!(x.dtype(), "to_f32", T => read::<T, _>(x, |data| {
        let mut out = vec![0.0f32; data.len()];
        widen(data, &mut out);
        Ok(out)
    }))
}

/// Converts a slice to `f32`.
pub(super) fn widen<T: Narrow>(source: &[T], out: &mut [f32]) {
    struct Widen<'a, T>(&'a [T], &'a mut [f32]);
    impl<T: Narrow> Kernel for Widen<'_, T> {
        type Out = ();
        #[inline(always)]
        fn run<S: Isa>(self) {
            let mut buffer = [0.0f32; BLOCK];
            for (from, to) in self.0.chunks(BLOCK).zip(self.1.chunks_mut(BLOCK)) {
                to.copy_from_slice(T::load(from, &mut buffer));
            }
        }
    }
    dispatch(Widen(source, out));
}

/// Rounds `f32` values to a dtype and makes them a tensor.
pub(super) fn from_f32(values: Vec<f32>, shape: &[usize], dtype: DType) -> Result<Tensor> {
    with_narrow!(dtype, "from_f32", T => {
        if dtype == DType::F32 {
            return tensor(values, shape);
        }
        tensor(written::<T>(values.len(), |out| narrow(&values, out)), shape)
    })
}

/// Rounds `f32` values into a slice.
pub(super) fn narrow<T: Narrow>(values: &[f32], out: &mut [T]) {
    struct Round<'a, T>(&'a [f32], &'a mut [T]);
    impl<T: Narrow> Kernel for Round<'_, T> {
        type Out = ();
        #[inline(always)]
        fn run<S: Isa>(self) {
            T::store(self.0, self.1);
        }
    }
    dispatch(Round(values, out));
}

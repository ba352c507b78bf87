//! Run-time choice of the vector instruction set: one kernel source, compiled for each set.
//!
//! A [`Kernel`] is written once over an [`Isa`]; [`dispatch`] runs the copy compiled for the best
//! instruction set of this machine. Everything a kernel calls must be `#[inline(always)]`, or it
//! keeps the baseline instructions.
//!
//! Most kernels are plain loops that the compiler vectorises. Those that must keep many sums in
//! registers say so with [`Isa::Lanes`], because the compiler would move arrays of sums to memory.

use half::{bf16, f16};

#[cfg(target_arch = "x86_64")]
use super::x86::{Avx2, Avx512};

/// What differs between instruction sets in the source of a kernel.
pub(super) trait Isa: Copy + Send + Sync {
    /// Sixteen numbers in registers.
    type Lanes: Copy;
    /// Whether registers hold sixteen `Lanes`, and some to spare.
    const MANY: bool;

    /// `a * b + c`, in one rounding where the set has such an instruction.
    fn fma(a: f32, b: f32, c: f32) -> f32;
    /// One number in all lanes.
    fn splat(value: f32) -> Self::Lanes;
    /// Sixteen numbers from memory.
    fn load(from: &[f32; 16]) -> Self::Lanes;
    /// Sixteen numbers from memory, widened.
    fn load_bf16(from: &[bf16; 16]) -> Self::Lanes;
    /// Sixteen numbers from memory, widened.
    fn load_f16(from: &[f16; 16]) -> Self::Lanes;
    /// [`fma`](Self::fma) in every lane.
    fn fma_lanes(a: Self::Lanes, b: Self::Lanes, c: Self::Lanes) -> Self::Lanes;
    /// The numbers in the lanes.
    fn store(lanes: Self::Lanes) -> [f32; 16];
    /// Asks for the cache line at an address, which need not be valid.
    fn prefetch<T>(at: *const T);
}

/// What every machine has. Not `FUSED`: no fused multiply-add in hardware, so two roundings, rather
/// than a slow software emulation.
#[derive(Clone, Copy)]
pub(super) struct Portable<const FUSED: bool>;

impl<const FUSED: bool> Isa for Portable<FUSED> {
    type Lanes = [f32; 16];
    const MANY: bool = false;

    #[inline(always)]
    fn fma(a: f32, b: f32, c: f32) -> f32 {
        if FUSED { a.mul_add(b, c) } else { a * b + c }
    }
    #[inline(always)]
    fn splat(value: f32) -> [f32; 16] {
        [value; 16]
    }
    #[inline(always)]
    fn load(from: &[f32; 16]) -> [f32; 16] {
        *from
    }
    #[inline(always)]
    fn load_bf16(from: &[bf16; 16]) -> [f32; 16] {
        from.map(|v| f32::from_bits(u32::from(v.to_bits()) << 16))
    }
    #[inline(always)]
    fn load_f16(from: &[f16; 16]) -> [f32; 16] {
        from.map(f16::to_f32)
    }
    #[inline(always)]
    fn fma_lanes(a: [f32; 16], b: [f32; 16], mut c: [f32; 16]) -> [f32; 16] {
        for lane in 0..16 {
            c[lane] = Self::fma(a[lane], b[lane], c[lane]);
        }
        c
    }
    #[inline(always)]
    fn store(lanes: [f32; 16]) -> [f32; 16] {
        lanes
    }
    #[inline(always)]
    fn prefetch<T>(_: *const T) {}
}

/// A loop to compile for every instruction set. Implementations mark `run` `#[inline(always)]`.
pub(super) trait Kernel {
    /// What the loop returns.
    type Out;
    /// Runs the loop.
    fn run<S: Isa>(self) -> Self::Out;
}

/// Runs `kernel` with the best instruction set of this machine.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(super) fn dispatch<K: Kernel>(kernel: K) -> K::Out {
    match level() {
        // SAFETY: `level` returns `V4` only when every feature named on `run_v4` was detected.
        Level::V4 => unsafe { run_v4(kernel) },
        // SAFETY: `level` returns `V3` only when every feature named on `run_v3` was detected.
        Level::V3 => unsafe { run_v3(kernel) },
        Level::V1 => kernel.run::<Portable<false>>(),
    }
}

/// Runs `kernel` with the best instruction set of this machine.
#[cfg(target_arch = "aarch64")]
#[inline]
pub(super) fn dispatch<K: Kernel>(kernel: K) -> K::Out {
    kernel.run::<Portable<true>>()
}

/// Runs `kernel` with the best instruction set of this machine.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
#[inline]
pub(super) fn dispatch<K: Kernel>(kernel: K) -> K::Out {
    kernel.run::<Portable<false>>()
}

#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
enum Level {
    V1,
    V3,
    V4,
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn level() -> Level {
    static LEVEL: std::sync::OnceLock<Level> = std::sync::OnceLock::new();
    *LEVEL.get_or_init(|| {
        let v3 = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        let v4 = v3
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512cd");
        match (v4, v3) {
            (true, _) => Level::V4,
            (_, true) => Level::V3,
            _ => Level::V1,
        }
    })
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512cd")]
fn run_v4<K: Kernel>(kernel: K) -> K::Out {
    kernel.run::<Avx512>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn run_v3<K: Kernel>(kernel: K) -> K::Out {
    kernel.run::<Avx2>()
}

/// Runs a kernel with every instruction set of this machine, one after the other.
#[cfg(test)]
pub(super) fn with_each<K: Kernel>(kernel: impl Fn() -> K, check: impl Fn(&str, K::Out)) {
    check("portable", kernel().run::<Portable<false>>());
    check("portable, fused", kernel().run::<Portable<true>>());
    #[cfg(target_arch = "x86_64")]
    {
        if !matches!(level(), Level::V1) {
            // SAFETY: `level` returns `V3` or `V4` only when the features of `run_v3` were detected.
            check("AVX2", unsafe { run_v3(kernel()) });
        }
        if matches!(level(), Level::V4) {
            // SAFETY: `level` returns `V4` only when every feature named on `run_v4` was detected.
            check("AVX-512", unsafe { run_v4(kernel()) });
        }
    }
}

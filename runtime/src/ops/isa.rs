//! Run-time choice of the vector instruction set: one kernel source, compiled for each set.
//!
//! A [`Kernel`] is written once over an [`Isa`]; [`dispatch`] runs the copy compiled for the best
//! instruction set of this machine. Everything a kernel calls must be `#[inline(always)]`, or it
//! keeps the baseline instructions.

/// What differs between instruction sets in the source of a kernel.
pub(super) trait Isa: Copy + Send + Sync {
    /// `a * b + c`, in one rounding where the set has such an instruction.
    fn fma(a: f32, b: f32, c: f32) -> f32;
}

/// No fused multiply-add in hardware: two roundings, rather than a slow software emulation.
#[derive(Clone, Copy)]
pub(super) struct Plain;

/// Fused multiply-add in hardware.
#[derive(Clone, Copy)]
pub(super) struct Fused;

impl Isa for Plain {
    #[inline(always)]
    fn fma(a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }
}

impl Isa for Fused {
    #[inline(always)]
    fn fma(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
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
        Level::V1 => kernel.run::<Plain>(),
    }
}

/// Runs `kernel` with the best instruction set of this machine.
#[cfg(target_arch = "aarch64")]
#[inline]
pub(super) fn dispatch<K: Kernel>(kernel: K) -> K::Out {
    kernel.run::<Fused>()
}

/// Runs `kernel` with the best instruction set of this machine.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
#[inline]
pub(super) fn dispatch<K: Kernel>(kernel: K) -> K::Out {
    kernel.run::<Plain>()
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
    kernel.run::<Fused>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn run_v3<K: Kernel>(kernel: K) -> K::Out {
    kernel.run::<Fused>()
}

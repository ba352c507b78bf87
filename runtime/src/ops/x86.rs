//! The registers of x86-64, for kernels that name them.
//!
//! The functions are safe to call only where the instructions exist. That is the contract of both
//! types: [`dispatch`](super::isa::dispatch) alone names them, as the `S` of kernels that it runs
//! after it has detected every feature used here.

use std::arch::x86_64::*;

use half::{bf16, f16};

use super::isa::Isa;

/// AVX-512 (F), with FMA and F16C.
#[derive(Clone, Copy)]
pub(super) struct Avx512;

impl Isa for Avx512 {
    type Lanes = __m512;
    const MANY: bool = true;

    #[inline(always)]
    fn fma(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
    #[inline(always)]
    fn splat(value: f32) -> __m512 {
        // SAFETY: AVX-512 exists, by the contract of the type.
        unsafe { _mm512_set1_ps(value) }
    }
    #[inline(always)]
    fn load(from: &[f32; 16]) -> __m512 {
        // SAFETY: AVX-512 exists, by the contract of the type; 64 readable bytes, at any alignment.
        unsafe { _mm512_loadu_ps(from.as_ptr()) }
    }
    #[inline(always)]
    fn load_bf16(from: &[bf16; 16]) -> __m512 {
        // SAFETY: AVX-512 exists, by the contract of the type; 32 readable bytes, at any alignment.
        unsafe {
            let bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.as_ptr().cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
        }
    }
    #[inline(always)]
    fn load_f16(from: &[f16; 16]) -> __m512 {
        // SAFETY: AVX-512 exists, by the contract of the type; 32 readable bytes, at any alignment.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast())) }
    }
    #[inline(always)]
    fn fma_lanes(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: AVX-512 exists, by the contract of the type.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn store(lanes: __m512) -> [f32; 16] {
        let mut out = [0.0; 16];
        // SAFETY: AVX-512 exists, by the contract of the type; 64 writable bytes, at any alignment.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), lanes) };
        out
    }
    #[inline(always)]
    fn prefetch<T>(at: *const T) {
        prefetch(at);
    }
}

/// AVX2, with FMA and F16C.
#[derive(Clone, Copy)]
pub(super) struct Avx2;

impl Isa for Avx2 {
    type Lanes = [__m256; 2];
    const MANY: bool = false;

    #[inline(always)]
    fn fma(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
    #[inline(always)]
    fn splat(value: f32) -> [__m256; 2] {
        // SAFETY: AVX exists, by the contract of the type.
        unsafe { [_mm256_set1_ps(value); 2] }
    }
    #[inline(always)]
    fn load(from: &[f32; 16]) -> [__m256; 2] {
        let at = from.as_ptr();
        // SAFETY: AVX exists, by the contract of the type; twice 32 readable bytes, at any
        // alignment.
        unsafe { [_mm256_loadu_ps(at), _mm256_loadu_ps(at.add(8))] }
    }
    #[inline(always)]
    fn load_bf16(from: &[bf16; 16]) -> [__m256; 2] {
        let at = from.as_ptr().cast::<__m128i>();
        // SAFETY: AVX2 exists, by the contract of the type; twice 16 readable bytes, at any
        // alignment.
        unsafe {
            let low = _mm256_cvtepu16_epi32(_mm_loadu_si128(at));
            let high = _mm256_cvtepu16_epi32(_mm_loadu_si128(at.add(1)));
            [
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(low)),
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(high)),
            ]
        }
    }
    #[inline(always)]
    fn load_f16(from: &[f16; 16]) -> [__m256; 2] {
        let at = from.as_ptr().cast::<__m128i>();
        // SAFETY: F16C exists, by the contract of the type; twice 16 readable bytes, at any
        // alignment.
        unsafe {
            [
                _mm256_cvtph_ps(_mm_loadu_si128(at)),
                _mm256_cvtph_ps(_mm_loadu_si128(at.add(1))),
            ]
        }
    }
    #[inline(always)]
    fn fma_lanes(a: [__m256; 2], b: [__m256; 2], c: [__m256; 2]) -> [__m256; 2] {
        // SAFETY: FMA exists, by the contract of the type.
        unsafe {
            [
                _mm256_fmadd_ps(a[0], b[0], c[0]),
                _mm256_fmadd_ps(a[1], b[1], c[1]),
            ]
        }
    }
    #[inline(always)]
    fn store(lanes: [__m256; 2]) -> [f32; 16] {
        let mut out = [0.0; 16];
        let at = out.as_mut_ptr();
        // SAFETY: AVX exists, by the contract of the type; twice 32 writable bytes, at any
        // alignment.
        unsafe {
            _mm256_storeu_ps(at, lanes[0]);
            _mm256_storeu_ps(at.add(8), lanes[1]);
        }
        out
    }
    #[inline(always)]
    fn prefetch<T>(at: *const T) {
        prefetch(at);
    }
}

#[inline(always)]
fn prefetch<T>(at: *const T) {
    // SAFETY: part of every x86-64; a prefetch of an invalid address does nothing.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
}

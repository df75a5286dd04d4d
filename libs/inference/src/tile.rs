//! Register tiles of the packed perceptron: one panel of outputs for some rows.

use crate::Isa;
use crate::mlp::PANEL;

/// A panel's work. `weights` holds `inputs` rows of [`PANEL`]; results go to `out[row * stride + column ..]`.
pub(crate) struct Tile<'a> {
    pub(crate) rows: &'a [f32],
    pub(crate) inputs: usize,
    pub(crate) weights: &'a [f32],
    pub(crate) bias: &'a [f32],
    pub(crate) stride: usize,
    pub(crate) column: usize,
}

/// Fills the panel's columns of `count` rows.
pub(crate) fn run(isa: Isa, tile: &Tile, count: usize, out: &mut [f32]) {
    assert!(tile.rows.len() >= count * tile.inputs, "rows hold `count` rows");
    assert!(tile.weights.len() == tile.inputs * PANEL && tile.bias.len() == PANEL, "weights are one panel");
    assert!(count == 0 || out.len() >= (count - 1) * tile.stride + tile.column + PANEL, "out holds the panel");
    match isa {
        #[cfg(target_arch = "x86_64")]
        #[expect(unsafe_code, reason = "vector instructions")]
        // SAFETY: the variant is only made after detection of avx512f; the asserts above bound every access.
        Isa::Avx512 => unsafe { x86::avx512(tile, count, out) },
        #[cfg(target_arch = "x86_64")]
        #[expect(unsafe_code, reason = "vector instructions")]
        // SAFETY: the variant is only made after detection of avx2 and fma; the asserts above bound every access.
        Isa::Avx2 => unsafe { x86::avx2(tile, count, out) },
        _ => portable(tile, count, out),
    }
}

fn portable(tile: &Tile, count: usize, out: &mut [f32]) {
    for r in 0..count {
        let mut sums = [0f32; PANEL];
        sums.copy_from_slice(tile.bias);
        let row = &tile.rows[r * tile.inputs..(r + 1) * tile.inputs];
        for (&x, weights) in row.iter().zip(tile.weights.chunks_exact(PANEL)) {
            for (sum, &weight) in sums.iter_mut().zip(weights) {
                *sum = x.mul_add(weight, *sum);
            }
        }
        let at = r * tile.stride + tile.column;
        out[at..at + PANEL].copy_from_slice(&sums);
    }
}

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "vector instructions")]
mod x86 {
    use super::{PANEL, Tile};
    use std::arch::x86_64::{
        __m256, __m512, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_storeu_ps, _mm512_fmadd_ps,
        _mm512_loadu_ps, _mm512_set1_ps, _mm512_storeu_ps,
    };

    /// # Safety
    /// The CPU has avx512f, and `super::run` has checked the slices.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn avx512(tile: &Tile, count: usize, out: &mut [f32]) {
        let mut r = 0;
        // SAFETY: rows `r..r + R` are below `count`.
        unsafe {
            while r + 8 <= count {
                wide::<8>(tile, r, out);
                r += 8;
            }
            while r + 2 <= count {
                wide::<2>(tile, r, out);
                r += 2;
            }
            if r < count {
                wide::<1>(tile, r, out);
            }
        }
    }

    /// # Safety
    /// As for [`avx512`], and rows `first..first + R` exist.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn wide<const R: usize>(tile: &Tile, first: usize, out: &mut [f32]) {
        // SAFETY: `super::run` checked that rows, weights, bias and out reach as far as they are read and written.
        unsafe {
            let bias = tile.bias.as_ptr();
            let mut sums: [[__m512; 2]; R] = [[_mm512_loadu_ps(bias), _mm512_loadu_ps(bias.add(16))]; R];
            let rows = tile.rows.as_ptr().add(first * tile.inputs);
            let mut weights = tile.weights.as_ptr();
            for k in 0..tile.inputs {
                let (low, high) = (_mm512_loadu_ps(weights), _mm512_loadu_ps(weights.add(16)));
                weights = weights.add(PANEL);
                for (r, sum) in sums.iter_mut().enumerate() {
                    let x = _mm512_set1_ps(*rows.add(r * tile.inputs + k));
                    sum[0] = _mm512_fmadd_ps(x, low, sum[0]);
                    sum[1] = _mm512_fmadd_ps(x, high, sum[1]);
                }
            }
            for (r, sum) in sums.iter().enumerate() {
                let to = out.as_mut_ptr().add((first + r) * tile.stride + tile.column);
                _mm512_storeu_ps(to, sum[0]);
                _mm512_storeu_ps(to.add(16), sum[1]);
            }
        }
    }

    /// # Safety
    /// The CPU has avx2 and fma, and `super::run` has checked the slices.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn avx2(tile: &Tile, count: usize, out: &mut [f32]) {
        for half in [0, PANEL / 2] {
            let mut r = 0;
            // SAFETY: rows `r..r + R` are below `count`.
            unsafe {
                while r + 6 <= count {
                    narrow::<6>(tile, r, half, out);
                    r += 6;
                }
                while r < count {
                    narrow::<1>(tile, r, half, out);
                    r += 1;
                }
            }
        }
    }

    /// # Safety
    /// As for [`avx2`], rows `first..first + R` exist, and `half` is 0 or half a panel.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn narrow<const R: usize>(tile: &Tile, first: usize, half: usize, out: &mut [f32]) {
        // SAFETY: `super::run` checked that rows, weights, bias and out reach as far as they are read and written.
        unsafe {
            let bias = tile.bias.as_ptr().add(half);
            let mut sums: [[__m256; 2]; R] = [[_mm256_loadu_ps(bias), _mm256_loadu_ps(bias.add(8))]; R];
            let rows = tile.rows.as_ptr().add(first * tile.inputs);
            let weights = tile.weights.as_ptr().add(half);
            for k in 0..tile.inputs {
                let at = weights.add(k * PANEL);
                let (low, high) = (_mm256_loadu_ps(at), _mm256_loadu_ps(at.add(8)));
                for (r, sum) in sums.iter_mut().enumerate() {
                    let x = _mm256_set1_ps(*rows.add(r * tile.inputs + k));
                    sum[0] = _mm256_fmadd_ps(x, low, sum[0]);
                    sum[1] = _mm256_fmadd_ps(x, high, sum[1]);
                }
            }
            for (r, sum) in sums.iter().enumerate() {
                let to = out.as_mut_ptr().add((first + r) * tile.stride + tile.column + half);
                _mm256_storeu_ps(to, sum[0]);
                _mm256_storeu_ps(to.add(8), sum[1]);
            }
        }
    }
}

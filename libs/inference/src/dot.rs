//! Dot products of one vector with many rows.
//!
//! Every product is accumulated in 16 lanes (lane l takes coordinates l, l + 16, ...; plain multiply, then add), the
//! lanes are summed as a fixed tree. So a row's result has the same bits on every CPU, alone or among others.

use crate::Isa;

const LANES: usize = 16;
/// Listed rows asked for before their turn.
const AHEAD: usize = 8;

/// Asks for a row that will be read soon.
#[inline(always)]
fn prefetch(row: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    for line in row.chunks(LANES) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        #[expect(unsafe_code, reason = "a hint to the cache has no safe form")]
        // SAFETY: a prefetch reads nothing and cannot fault; SSE is part of the architecture.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = row;
}

#[inline(always)]
fn lanes(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; LANES];
    let n = a.len().min(b.len());
    let (a, b) = (&a[..n], &b[..n]);
    let (a16, a_rest) = a.as_chunks::<LANES>();
    let (b16, b_rest) = b.as_chunks::<LANES>();
    for (x, y) in a16.iter().zip(b16) {
        for l in 0..LANES {
            sums[l] += x[l] * y[l];
        }
    }
    for l in 0..a_rest.len() {
        sums[l] += a_rest[l] * b_rest[l];
    }
    for width in [8, 4, 2, 1] {
        for l in 0..width {
            sums[l] += sums[l + width];
        }
    }
    sums[0]
}

/// Sum of the products of two equally long slices (the longer one's tail is ignored).
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut out = [0.0];
    let n = a.len().min(b.len());
    score_rows(&b[..n], n, &a[..n], &mut out);
    out[0]
}

/// `out[i]` = row i of `rows` (row-major, `dim` wide) times `user`, for as many rows as `out` holds.
pub fn score_rows(rows: &[f32], dim: usize, user: &[f32], out: &mut [f32]) {
    run(Isa::detect(), rows, dim, user, Rows::All, out);
}

/// `out[i]` = row `items[i]` of `rows` times `user`; negative infinity where `rows` has no such row.
pub fn gather_dot(rows: &[f32], dim: usize, user: &[f32], items: &[u32], out: &mut [f32]) {
    run(Isa::detect(), rows, dim, user, Rows::Listed(items), out);
}

#[derive(Clone, Copy)]
enum Rows<'a> {
    All,
    Listed(&'a [u32]),
}

fn run(isa: Isa, rows: &[f32], dim: usize, user: &[f32], which: Rows, out: &mut [f32]) {
    match isa {
        #[cfg(target_arch = "x86_64")]
        #[expect(unsafe_code, reason = "calls a function compiled for an instruction set")]
        // SAFETY: the variant is only made by `Isa::available`, after detection of avx512f.
        Isa::Avx512 => unsafe { run_avx512(rows, dim, user, which, out) },
        #[cfg(target_arch = "x86_64")]
        #[expect(unsafe_code, reason = "calls a function compiled for an instruction set")]
        // SAFETY: the variant is only made by `Isa::available`, after detection of avx2.
        Isa::Avx2 => unsafe { run_avx2(rows, dim, user, which, out) },
        _ => run_any(rows, dim, user, which, out),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn run_avx512(rows: &[f32], dim: usize, user: &[f32], which: Rows, out: &mut [f32]) {
    run_any(rows, dim, user, which, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn run_avx2(rows: &[f32], dim: usize, user: &[f32], which: Rows, out: &mut [f32]) {
    run_any(rows, dim, user, which, out);
}

#[inline(always)]
fn run_any(rows: &[f32], dim: usize, user: &[f32], which: Rows, out: &mut [f32]) {
    match which {
        Rows::All => {
            for (slot, row) in out.iter_mut().zip(rows.chunks_exact(dim.max(1))) {
                *slot = lanes(user, row);
            }
        }
        Rows::Listed(items) => {
            for (at, (slot, &item)) in out.iter_mut().zip(items).enumerate() {
                // The rows lie anywhere in a table larger than the caches.
                if let Some(&ahead) = items.get(at + AHEAD) {
                    prefetch(rows.get(ahead as usize * dim..).map_or(&[], |rest| &rest[..dim.min(rest.len())]));
                }
                let from = item as usize * dim;
                // Not in a closure: that would be compiled without the caller's instruction set.
                *slot = match rows.get(from..from + dim) {
                    Some(row) => lanes(user, row),
                    None => f32::NEG_INFINITY,
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn same_bits_alone_together_and_on_every_instruction_set(
            dim in 1usize..150, count in 1usize..40, seed in any::<u32>(),
        ) {
            let mut state = seed | 1;
            let mut next = || { state ^= state << 13; state ^= state >> 17; state ^= state << 5; state as f32 / u32::MAX as f32 - 0.5 };
            let rows: Vec<f32> = (0..dim * count).map(|_| next()).collect();
            let user: Vec<f32> = (0..dim).map(|_| next()).collect();
            let mut together = vec![0.0; count];
            score_rows(&rows, dim, &user, &mut together);
            let order: Vec<u32> = (0..count as u32).rev().collect();
            for &isa in Isa::available() {
                let mut gathered = vec![0.0; count];
                run(isa, &rows, dim, &user, Rows::Listed(&order), &mut gathered);
                gathered.reverse();
                prop_assert!(together.iter().zip(&gathered).all(|(a, b)| a.to_bits() == b.to_bits()));
            }
            for (i, &all) in together.iter().enumerate() {
                let row = &rows[i * dim..(i + 1) * dim];
                prop_assert_eq!(dot(&user, row).to_bits(), all.to_bits());
                let exact: f64 = row.iter().zip(&user).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
                prop_assert!((f64::from(all) - exact).abs() < 1e-4);
            }
        }
    }

    #[test]
    fn a_row_that_is_not_there_scores_below_everything() {
        let mut out = [0.0; 2];
        gather_dot(&[1.0, 2.0], 2, &[1.0, 1.0], &[0, u32::MAX], &mut out);
        assert_eq!(out, [3.0, f32::NEG_INFINITY]);
    }
}

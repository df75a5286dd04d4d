//! Item vectors in a byte a coordinate, for the edge: a quarter of the cache lines of `f32` rows.
//!
//! A row is scaled so that its largest coordinate is 127, the user vector so that its largest is 32,767 (less in very long
//! vectors); the products are added as whole numbers. So a result is exact in the rounded vectors and has the same bits in any order and on
//! every CPU. The last `exact` coordinates of a row, which are biases rather than directions, stay `f32`.

use crate::Isa;
use crate::multiversion::multiversion;

/// Coordinates of a row are padded to a multiple of this.
const STEP: usize = 32;
/// Listed rows asked for before their turn.
const AHEAD: usize = 12;
/// Most `f32` coordinates a row can have.
const MAX_EXACT: usize = 2;

/// Rows of compact vectors. Grows at the end.
#[derive(Debug, Clone)]
pub struct CompactRows {
    dim: usize,
    exact: usize,
    rows: Vec<i8>,
    facts: Vec<Facts>,
}

/// What stands beside a row's bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Facts {
    scale: f32,
    exact: [f32; MAX_EXACT],
}

/// The user's side of a product. Keep one and fill it anew.
#[derive(Debug, Default)]
pub struct Query {
    wide: Vec<i16>,
    scale: f32,
    exact: [f32; MAX_EXACT],
}

impl CompactRows {
    /// For vectors of `dim` coordinates whose last `exact`, at most 2, keep full precision.
    pub fn new(dim: usize, exact: usize) -> Self {
        assert!(exact <= MAX_EXACT && exact <= dim, "at most {MAX_EXACT} exact coordinates");
        Self { dim, exact, rows: Vec::new(), facts: Vec::new() }
    }

    fn width(&self) -> usize {
        (self.dim - self.exact).next_multiple_of(STEP)
    }

    /// Adds a row; coordinates that are not finite count as 0.
    pub fn push(&mut self, row: &[f32]) {
        let (rounded, exact) = row.split_at(self.dim - self.exact);
        let mut most = [0.0];
        largest_of(rounded, &mut most);
        let scale = most[0] / 127.0;
        let start = self.rows.len();
        let per = reciprocal(scale);
        self.rows.extend(rounded.iter().map(|x| quantised(*x, per) as i8));
        self.rows.resize(start + self.width(), 0);
        let mut facts = Facts { scale, ..Facts::default() };
        facts.exact[..exact.len()].copy_from_slice(exact);
        self.facts.push(facts);
    }

    pub fn len(&self) -> usize {
        self.facts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.facts.is_empty()
    }

    /// Rounds a user vector for [`gather_dot`](Self::gather_dot).
    pub fn query(&self, user: &[f32], query: &mut Query) {
        let (rounded, exact) = user.split_at(self.dim - self.exact);
        // As fine as the sum of a row's products can be held in 32 bits.
        let limit = (i32::MAX / (127 * self.width().max(1) as i32)).min(i32::from(i16::MAX)) as f32;
        let mut most = [0.0];
        largest_of(rounded, &mut most);
        query.scale = most[0] / limit;
        query.wide.clear();
        query.wide.resize(self.width(), 0);
        quantise(rounded, reciprocal(query.scale), &mut query.wide);
        query.exact = [0.0; MAX_EXACT];
        query.exact[..exact.len()].copy_from_slice(exact);
    }

    /// `out[i]` = row `items[i]` times the user; negative infinity where there is no such row.
    pub fn gather_dot(&self, query: &Query, items: &[u32], out: &mut [f32]) {
        gather(Isa::detect(), self, query, items, out);
    }
}

multiversion! {
    fn largest_of, _largest_on = largest_any(values: &[f32], most: &mut [f32; 1])
}

/// The largest finite magnitude.
#[inline(always)]
fn largest_any(values: &[f32], most: &mut [f32; 1]) {
    // Lanes side by side: the order of a maximum changes nothing.
    let mut lanes = [0f32; 16];
    let (whole, rest) = values.as_chunks::<16>();
    let bounded = |x: f32| if x.abs() < f32::INFINITY { x.abs() } else { 0.0 };
    for chunk in whole {
        for l in 0..16 {
            let x = bounded(chunk[l]);
            lanes[l] = if x > lanes[l] { x } else { lanes[l] };
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane = lane.max(bounded(x));
    }
    most[0] = lanes.into_iter().fold(0.0, f32::max);
}

multiversion! {
    fn quantise, _quantise_on = quantise_any(values: &[f32], per: f32, out: &mut [i16])
}

#[inline(always)]
fn quantise_any(values: &[f32], per: f32, out: &mut [i16]) {
    for (to, &from) in out.iter_mut().zip(values) {
        *to = quantised(from, per) as i16;
    }
}

/// The nearest whole number of scales, ties to even: with 1.5 * 2^23 added no bits are left for a fraction. `per` is the
/// reciprocal of the scale; what is not finite counts as 0.
#[inline(always)]
fn quantised(x: f32, per: f32) -> i32 {
    const SHIFT: f32 = 12_582_912.0;
    let x = if x.is_finite() { x } else { 0.0 };
    (x * per + SHIFT).to_bits() as i32 - SHIFT.to_bits() as i32
}

fn reciprocal(scale: f32) -> f32 {
    if scale > f32::MIN_POSITIVE { 1.0 / scale } else { 0.0 }
}

fn gather(isa: Isa, rows: &CompactRows, query: &Query, items: &[u32], out: &mut [f32]) {
    match isa {
        #[cfg(target_arch = "x86_64")]
        #[expect(unsafe_code, reason = "calls a function compiled for an instruction set")]
        // SAFETY: the variant is only made by `Isa::available`, after detection of these features.
        Isa::Avx512 => unsafe { gather_avx512(rows, query, items, out) },
        #[cfg(target_arch = "x86_64")]
        #[expect(unsafe_code, reason = "calls a function compiled for an instruction set")]
        // SAFETY: as above.
        Isa::Avx2 => unsafe { gather_avx2(rows, query, items, out) },
        _ => gather_with(rows, query, items, out, product),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn gather_avx512(rows: &CompactRows, query: &Query, items: &[u32], out: &mut [f32]) {
    use std::arch::x86_64::{
        _mm256_loadu_si256, _mm512_add_epi32, _mm512_cvtepi8_epi16, _mm512_loadu_si512, _mm512_madd_epi16,
        _mm512_reduce_add_epi32, _mm512_setzero_si512,
    };
    gather_with(rows, query, items, out, |row, user| {
        let mut sum = _mm512_setzero_si512();
        for (a, b) in row.as_chunks::<STEP>().0.iter().zip(user.as_chunks::<STEP>().0) {
            #[expect(unsafe_code, reason = "vector loads take pointers")]
            // SAFETY: the arrays are 32 bytes and 64 bytes long, and the loads need no alignment.
            let (a, b) = unsafe { (_mm256_loadu_si256(a.as_ptr().cast()), _mm512_loadu_si512(b.as_ptr().cast())) };
            sum = _mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_cvtepi8_epi16(a), b));
        }
        _mm512_reduce_add_epi32(sum)
    });
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn gather_avx2(rows: &CompactRows, query: &Query, items: &[u32], out: &mut [f32]) {
    use std::arch::x86_64::{
        __m256i, _mm_loadu_si128, _mm256_add_epi32, _mm256_cvtepi8_epi16, _mm256_loadu_si256, _mm256_madd_epi16,
        _mm256_setzero_si256, _mm256_storeu_si256,
    };
    gather_with(rows, query, items, out, |row, user| {
        let mut sum = _mm256_setzero_si256();
        for (a, b) in row.as_chunks::<16>().0.iter().zip(user.as_chunks::<16>().0) {
            #[expect(unsafe_code, reason = "vector loads take pointers")]
            // SAFETY: the arrays are 16 bytes and 32 bytes long, and the loads need no alignment.
            let (a, b) = unsafe { (_mm_loadu_si128(a.as_ptr().cast()), _mm256_loadu_si256(b.as_ptr().cast())) };
            sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_cvtepi8_epi16(a), b));
        }
        let mut lanes = [0i32; 8];
        #[expect(unsafe_code, reason = "a vector store takes a pointer")]
        // SAFETY: the array is as long as the vector, and the store needs no alignment.
        unsafe {
            _mm256_storeu_si256(lanes.as_mut_ptr().cast::<__m256i>(), sum);
        }
        lanes.iter().sum()
    });
}

fn product(row: &[i8], user: &[i16]) -> i32 {
    row.iter().zip(user).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum()
}

#[inline(always)]
fn gather_with(
    rows: &CompactRows,
    query: &Query,
    items: &[u32],
    out: &mut [f32],
    product: impl Fn(&[i8], &[i16]) -> i32,
) {
    let width = query.wide.len();
    for (at, (slot, &item)) in out.iter_mut().zip(items).enumerate() {
        if let Some(&ahead) = items.get(at + AHEAD) {
            prefetch(&rows.rows, ahead as usize * width, width);
        }
        let from = item as usize * width;
        *slot = match (rows.rows.get(from..from + width), rows.facts.get(item as usize)) {
            (Some(row), Some(facts)) => {
                let exact = query.exact[0] * facts.exact[0] + query.exact[1] * facts.exact[1];
                product(row, &query.wide) as f32 * (query.scale * facts.scale) + exact
            }
            _ => f32::NEG_INFINITY,
        };
    }
}

/// Asks for a row that will be read soon.
#[inline(always)]
fn prefetch(rows: &[i8], from: usize, width: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(row) = rows.get(from..from + width) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        for line in row.chunks(64) {
            #[expect(unsafe_code, reason = "a hint to the cache has no safe form")]
            // SAFETY: a prefetch reads nothing and cannot fault; SSE is part of the architecture.
            unsafe {
                _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast());
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (rows, from, width);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table(dim: usize, exact: usize, count: usize, seed: u32) -> (CompactRows, Vec<f32>, Vec<f32>) {
        let mut state = seed | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as f32 / u32::MAX as f32 - 0.5
        };
        let rows: Vec<f32> = (0..dim * count).map(|_| next()).collect();
        let user: Vec<f32> = (0..dim).map(|_| next()).collect();
        let mut table = CompactRows::new(dim, exact);
        rows.chunks(dim).for_each(|row| table.push(row));
        (table, rows, user)
    }

    proptest! {
        #[test]
        fn near_the_exact_product_and_the_same_alone_and_together(
            dim in 3usize..1200, exact in 0usize..3, count in 1usize..40, seed: u32,
        ) {
            let (table, rows, user) = table(dim, exact, count, seed);
            let items: Vec<u32> = (0..count as u32).rev().collect();
            let mut together = vec![0.0; count];
            let mut query = Query::default();
            table.query(&user, &mut query);
            table.gather_dot(&query, &items, &mut together);
            for (&item, &got) in items.iter().zip(&together) {
                let mut alone = [0.0];
                table.gather_dot(&query, &[item], &mut alone);
                prop_assert_eq!(alone[0].to_bits(), got.to_bits());
                let row = &rows[item as usize * dim..][..dim];
                let want: f32 = row.iter().zip(&user).map(|(a, b)| a * b).sum();
                let norm = |v: &[f32]| v.iter().map(|x| x * x).sum::<f32>().sqrt();
                prop_assert!((got - want).abs() <= 0.008 * norm(row) * norm(&user) + 1e-5, "{got} for {want}");
            }
        }

        #[test]
        fn same_bits_on_every_instruction_set(seed: u32) {
            let (table, _, user) = table(126, 2, 30, seed);
            let mut query = Query::default();
            table.query(&user, &mut query);
            let items: Vec<u32> = (0..30).collect();
            let mut first = None;
            for &isa in Isa::available() {
                let mut out = vec![0.0; 30];
                gather(isa, &table, &query, &items, &mut out);
                let bits: Vec<u32> = out.iter().map(|x| x.to_bits()).collect();
                prop_assert_eq!(first.get_or_insert_with(|| bits.clone()), &bits);
            }
        }
    }

    #[test]
    fn what_is_not_there_or_not_finite_does_no_harm() {
        let mut table = CompactRows::new(4, 1);
        table.push(&[f32::NAN, f32::INFINITY, 0.5, 2.0]);
        table.push(&[0.0; 4]);
        let mut out = [0.0; 3];
        let mut query = Query::default();
        table.query(&[1.0, 1.0, 1.0, 3.0], &mut query);
        table.gather_dot(&query, &[0, 1, 2], &mut out);
        assert!((out[0] - 6.5).abs() < 1e-3, "{out:?}");
        assert_eq!((out[1], out[2]), (0.0, f32::NEG_INFINITY));
    }
}

//! Item vectors in a byte a coordinate, for the edge: a quarter of the cache lines of `f32` rows.
//!
//! A row is scaled so that its largest coordinate is 127, the user vector so that its largest is 32,767 (less in very
//! long vectors); the products are added as whole numbers. So a product has the same bits in any order and on every CPU.
//! The last `exact` coordinates of a row, which are biases rather than directions, stay `f32` and outside of it.

use crate::Isa;
use crate::multiversion::multiversion;

/// Bytes of a row come in whole lines of the cache.
const LINE: usize = 64;
/// Listed rows asked for before their turn.
const AHEAD: usize = 12;
/// Most `f32` coordinates a row can have.
const MAX_EXACT: usize = 2;

#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([i8; LINE]);

/// Rows of compact vectors. Grows at the end.
#[derive(Debug, Clone)]
pub struct CompactRows {
    dim: usize,
    exact: usize,
    lines: Vec<Line>,
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
    lines: Vec<[i16; LINE]>,
    scale: f32,
}

impl Query {
    /// What one in a product with a row of scale 1 stands for.
    pub fn scale(&self) -> f32 {
        self.scale
    }
}

impl CompactRows {
    /// For vectors of `dim` coordinates whose last `exact`, at most 2, keep full precision.
    pub fn new(dim: usize, exact: usize) -> Self {
        assert!(exact <= MAX_EXACT && exact <= dim, "at most {MAX_EXACT} exact coordinates");
        Self { dim, exact, lines: Vec::new(), facts: Vec::new() }
    }

    fn rounded(&self) -> usize {
        self.dim - self.exact
    }

    fn lines_a_row(&self) -> usize {
        self.rounded().div_ceil(LINE)
    }

    /// Adds a row; coordinates that are not finite count as 0.
    pub fn push(&mut self, row: &[f32]) {
        let (rounded, exact) = row.split_at(self.rounded());
        let mut most = [0.0];
        largest_of(rounded, &mut most);
        let scale = most[0] / 127.0;
        let per = reciprocal(scale);
        for part in rounded.chunks(LINE) {
            let mut line = Line([0; LINE]);
            line.0.iter_mut().zip(part).for_each(|(to, &from)| *to = quantised(from, per) as i8);
            self.lines.push(line);
        }
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

    /// What one in a product with this row stands for, by the scale of the query; 0 where there is no such row.
    pub fn scale(&self, item: u32) -> f32 {
        self.facts.get(item as usize).map_or(0.0, |facts| facts.scale)
    }

    /// The product with `user` over the exact coordinates alone; 0 where there is no such row.
    pub fn exact_dot(&self, item: u32, user: &[f32]) -> f32 {
        let exact = &user[self.rounded()..];
        self.facts.get(item as usize).map_or(0.0, |facts| facts.exact.iter().zip(exact).map(|(a, b)| a * b).sum())
    }

    /// Rounds a user vector for [`products`](Self::products).
    pub fn query(&self, user: &[f32], query: &mut Query) {
        let rounded = &user[..self.rounded()];
        // As fine as the sum of a row's products can be held in 32 bits.
        let limit = (i32::MAX / (127 * rounded.len().max(1) as i32)).min(i32::from(i16::MAX)) as f32;
        let mut most = [0.0];
        largest_of(rounded, &mut most);
        query.scale = most[0] / limit;
        query.lines.clear();
        query.lines.resize(self.lines_a_row(), [0; LINE]);
        let per = reciprocal(query.scale);
        query.lines.iter_mut().zip(rounded.chunks(LINE)).for_each(|(line, part)| quantise(part, per, line));
    }

    /// `out[i]` = row `items[i]` times the user over the rounded coordinates, in units of the row's and the query's
    /// scale; 0 where there is no such row.
    pub fn products(&self, query: &Query, items: &[u32], out: &mut [i32]) {
        products(Isa::detect(), self, query, items, out);
    }

    /// The row's lines; none where there is no such row.
    #[inline(always)]
    fn row(&self, item: u32, width: usize) -> &[Line] {
        let from = item as usize * width;
        self.lines.get(from..from + width).unwrap_or_default()
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

fn products(isa: Isa, rows: &CompactRows, query: &Query, items: &[u32], out: &mut [i32]) {
    match isa {
        #[cfg(target_arch = "x86_64")]
        #[expect(unsafe_code, reason = "calls a function compiled for an instruction set")]
        // SAFETY: the variant is only made by `Isa::available`, after detection of these features.
        Isa::Avx512 => unsafe { avx512::products(rows, query, items, out) },
        #[cfg(target_arch = "x86_64")]
        #[expect(unsafe_code, reason = "calls a function compiled for an instruction set")]
        // SAFETY: as above.
        Isa::Avx2 => unsafe { products_avx2(rows, query, items, out) },
        _ => each_product(rows, query, items, out),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn products_avx2(rows: &CompactRows, query: &Query, items: &[u32], out: &mut [i32]) {
    each_product(rows, query, items, out);
}

#[inline(always)]
fn each_product(rows: &CompactRows, query: &Query, items: &[u32], out: &mut [i32]) {
    for (at, (out, &item)) in out.iter_mut().zip(items).enumerate() {
        ask_for(rows, query, items.get(at + AHEAD));
        *out = rows
            .row(item, query.lines.len())
            .iter()
            .zip(&query.lines)
            .map(|(row, user)| row.0.iter().zip(user).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum::<i32>())
            .sum();
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::{AHEAD, CompactRows, Line, Query, ask_for};
    use std::arch::x86_64::{
        __m128i, __m512i, _mm_add_epi32, _mm256_add_epi32, _mm256_castsi256_si128, _mm256_extracti128_si256,
        _mm256_loadu_si256, _mm512_add_epi32, _mm512_castsi512_si256, _mm512_cvtepi8_epi16, _mm512_extracti64x4_epi64,
        _mm512_loadu_si512, _mm512_madd_epi16, _mm512_reduce_add_epi32, _mm512_setzero_si512, _mm512_unpackhi_epi32,
        _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
    };

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    pub(super) fn products(rows: &CompactRows, query: &Query, items: &[u32], out: &mut [i32]) {
        let width = query.lines.len();
        let (fours, rest) = items.as_chunks::<4>();
        let (out_fours, out_rest) = out.as_chunks_mut::<4>();
        for (at, (out, four)) in out_fours.iter_mut().zip(fours).enumerate() {
            for i in 0..4 {
                ask_for(rows, query, items.get(4 * at + i + AHEAD));
            }
            let [a, b, c, d] = four.map(|item| partial_sums(rows.row(item, width), query));
            *out = four_sums(a, b, c, d);
        }
        for (out, &item) in out_rest.iter_mut().zip(rest) {
            *out = _mm512_reduce_add_epi32(partial_sums(rows.row(item, width), query));
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    fn partial_sums(row: &[Line], query: &Query) -> __m512i {
        let mut sum = _mm512_setzero_si512();
        for (row, user) in row.iter().zip(&query.lines) {
            for half in [0, 32] {
                #[expect(unsafe_code, reason = "vector loads take pointers")]
                // SAFETY: both arrays have 64 elements and each load reads 32 from `half` on; it needs no alignment.
                let (a, b) = unsafe {
                    let (a, b) = (row.0.as_ptr().add(half), user.as_ptr().add(half));
                    (_mm256_loadu_si256(a.cast()), _mm512_loadu_si512(b.cast()))
                };
                sum = _mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_cvtepi8_epi16(a), b));
            }
        }
        sum
    }

    /// The sum of each, with a quarter of the shuffles that four sums of their own take.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    fn four_sums(a: __m512i, b: __m512i, c: __m512i, d: __m512i) -> [i32; 4] {
        let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
        let abcd = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
        let half = _mm256_add_epi32(_mm512_castsi512_si256(abcd), _mm512_extracti64x4_epi64::<1>(abcd));
        let sums: __m128i = _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256::<1>(half));
        #[expect(unsafe_code, reason = "a vector and an array of the same four numbers")]
        // SAFETY: both are 16 bytes, any of which are valid.
        unsafe {
            std::mem::transmute(sums)
        }
    }
}

/// Asks for a row that will be read soon.
#[inline(always)]
fn ask_for(rows: &CompactRows, query: &Query, item: Option<&u32>) {
    #[cfg(target_arch = "x86_64")]
    if let Some(&item) = item {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        for line in rows.row(item, query.lines.len()) {
            #[expect(unsafe_code, reason = "a hint to the cache has no safe form")]
            // SAFETY: a prefetch reads nothing and cannot fault; SSE is part of the architecture.
            unsafe {
                _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(line).cast());
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (rows, query, item);
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

    /// What the edge makes of products, scales and exact coordinates.
    fn dots(table: &CompactRows, user: &[f32], items: &[u32]) -> Vec<f32> {
        let mut query = Query::default();
        table.query(user, &mut query);
        let mut products = vec![0; items.len()];
        table.products(&query, items, &mut products);
        let dot = |(&item, product): (&u32, i32)| {
            product as f32 * (query.scale() * table.scale(item)) + table.exact_dot(item, user)
        };
        items.iter().zip(products).map(dot).collect()
    }

    proptest! {
        #[test]
        fn near_the_exact_product_and_the_same_alone_and_together(
            dim in 3usize..1200, exact in 0usize..3, count in 1usize..40, seed: u32,
        ) {
            let (table, rows, user) = table(dim, exact, count, seed);
            let items: Vec<u32> = (0..count as u32).rev().collect();
            let together = dots(&table, &user, &items);
            for (&item, &got) in items.iter().zip(&together) {
                let alone = dots(&table, &user, &[item]);
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
                let mut out = vec![0; 30];
                products(isa, &table, &query, &items, &mut out);
                prop_assert_eq!(first.get_or_insert_with(|| out.clone()), &out);
            }
        }
    }

    #[test]
    fn what_is_not_there_or_not_finite_does_no_harm() {
        let mut table = CompactRows::new(4, 1);
        table.push(&[f32::NAN, f32::INFINITY, 0.5, 2.0]);
        table.push(&[0.0; 4]);
        let out = dots(&table, &[1.0, 1.0, 1.0, 3.0], &[0, 1, 2]);
        assert!((out[0] - 6.5).abs() < 1e-3, "{out:?}");
        assert_eq!(out[1..], [0.0, 0.0]);
    }
}

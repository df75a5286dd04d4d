//! Inner products of one query with many rows. Hot path.
//!
//! Always holds: a row's product depends on the row and the query only, and its bits are the same on every instruction
//! set: sixteen lanes accumulate with fused multiply-add, and a fixed tree adds them up.

/// Rows are padded with zeros to a multiple of this many floats.
pub(super) const LANES: usize = 16;

/// Floats a row of `dim` occupies.
pub(super) fn stride(dim: usize) -> usize {
    dim.next_multiple_of(LANES)
}

/// Appends a row, padded.
pub(super) fn push_row(rows: &mut Vec<f32>, row: &[f32]) {
    rows.extend_from_slice(row);
    rows.resize(rows.len() + stride(row.len()) - row.len(), 0.0);
}

#[inline(always)]
fn product(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    for (a, b) in a.chunks_exact(LANES).zip(b.chunks_exact(LANES)) {
        for i in 0..LANES {
            lanes[i] = a[i].mul_add(b[i], lanes[i]);
        }
    }
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

#[inline(always)]
fn gather_body(rows: &[f32], query: &[f32], picks: &[u32], out: &mut Vec<f32>) {
    // A loop, not an iterator's closure: that would be compiled without the caller's instruction set, and then every
    // fused multiply-add is a call into the mathematics library.
    let stride = query.len();
    out.reserve(picks.len());
    for &pick in picks {
        out.push(product(&rows[pick as usize * stride..][..stride], query));
    }
}

#[inline(always)]
fn scan_body(rows: &[f32], query: &[f32], out: &mut Vec<f32>) {
    out.reserve(rows.len() / query.len());
    for row in rows.chunks_exact(query.len()) {
        out.push(product(row, query));
    }
}

#[cfg(target_arch = "x86_64")]
mod wide {
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn gather(rows: &[f32], query: &[f32], picks: &[u32], out: &mut Vec<f32>) {
        super::gather_body(rows, query, picks, out);
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn scan(rows: &[f32], query: &[f32], out: &mut Vec<f32>) {
        super::scan_body(rows, query, out);
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
        super::product(a, b)
    }

    pub(super) fn available() -> bool {
        is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
    }
}

/// Appends the products of `query` with the rows `picks`. `query` has the rows' stride.
#[expect(unsafe_code, reason = "calls a function compiled for an instruction set that was just detected")]
pub(super) fn gather(rows: &[f32], query: &[f32], picks: &[u32], out: &mut Vec<f32>) {
    #[cfg(target_arch = "x86_64")]
    if wide::available() {
        // SAFETY: AVX2 and FMA are there.
        return unsafe { wide::gather(rows, query, picks, out) };
    }
    gather_body(rows, query, picks, out);
}

/// Appends the products of `query` with every row.
#[expect(unsafe_code, reason = "calls a function compiled for an instruction set that was just detected")]
pub(super) fn scan(rows: &[f32], query: &[f32], out: &mut Vec<f32>) {
    #[cfg(target_arch = "x86_64")]
    if wide::available() {
        // SAFETY: AVX2 and FMA are there.
        return unsafe { wide::scan(rows, query, out) };
    }
    scan_body(rows, query, out);
}

/// The product of two padded rows.
#[expect(unsafe_code, reason = "calls a function compiled for an instruction set that was just detected")]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    #[cfg(target_arch = "x86_64")]
    if wide::available() {
        // SAFETY: AVX2 and FMA are there.
        return unsafe { wide::dot(a, b) };
    }
    product(a, b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_path_gives_the_same_bits(a in prop::collection::vec(-3f32..3.0, 1..90), seed in 0u32..1000) {
            let b: Vec<f32> = a.iter().enumerate().map(|(i, x)| x * 0.7 + ((i as u32 ^ seed) % 13) as f32 - 6.0).collect();
            let (mut rows, mut query) = (Vec::new(), Vec::new());
            push_row(&mut rows, &a);
            push_row(&mut rows, &b);
            push_row(&mut query, &b);
            let portable = product(&rows[..query.len()], &query);
            let (mut gathered, mut scanned) = (Vec::new(), Vec::new());
            gather(&rows, &query, &[1, 0], &mut gathered);
            scan(&rows, &query, &mut scanned);
            prop_assert_eq!(gathered[1].to_bits(), portable.to_bits());
            prop_assert_eq!(scanned[0].to_bits(), portable.to_bits());
            prop_assert_eq!(dot(&rows[..query.len()], &query).to_bits(), portable.to_bits());
            let exact: f64 = a.iter().zip(&b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
            prop_assert!((f64::from(portable) - exact).abs() < 1e-2);
        }
    }
}

//! Column kernels of the edge: clicks from logits, and Thompson draws. Hot path.
//!
//! Plain operations in one fixed order, so that a column's value has the same bits on every CPU, alone or among others.

use crate::multiversion::multiversion;

multiversion! {
    /// `out[i]` = 1 / (1 + exp(-(offsets[i] + slope * scales[i] * products[i]))), within 3e-7. The columns are equally
    /// long.
    pub fn sigmoid_lines, sigmoid_lines_on = sigmoid_lines_any(
        offsets: &[f32],
        slope: f32,
        scales: &[f32],
        products: &[i32],
        out: &mut [f32],
    )
}

#[inline(always)]
fn sigmoid_lines_any(offsets: &[f32], slope: f32, scales: &[f32], products: &[i32], out: &mut [f32]) {
    let n = out.len();
    let (offsets, scales, products) = (&offsets[..n], &scales[..n], &products[..n]);
    for i in 0..n {
        out[i] = 1.0 / (1.0 + exp(-(offsets[i] + slope * scales[i] * products[i] as f32)));
    }
}

multiversion! {
    /// `out[i]` = one draw of Beta(`alpha[i]`, `beta[i]`), a pure function of `seed`, `items[i]` and the two.
    ///
    /// The share of two gammas, each by Wilson and Hilferty's cube (1931), from two normals by Box and Muller (1958).
    pub fn beta_draws, beta_draws_on =
        beta_draws_any(seed: u64, items: &[u32], alpha: &[f32], beta: &[f32], out: &mut [f32])
}

multiversion! {
    /// Beta parameters of items, and their posterior means for one visitor.
    ///
    /// The prior has `prior` pseudo-rewards at the item's base rate; `counts` are impressions and rewards. `lift` is the
    /// visitor's score over the base rate, `means` the posterior mean times the lift.
    pub fn posterior_columns, posterior_columns_on = posterior_columns_any(
        prior: f32,
        base_rates: &[f32],
        counts: &[[f32; 2]],
        scores: &[f32],
        alpha: &mut [f32],
        beta: &mut [f32],
        lift: &mut [f32],
        means: &mut [f32],
    )
}

#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "columns of one kernel")]
fn posterior_columns_any(
    prior: f32,
    base_rates: &[f32],
    counts: &[[f32; 2]],
    scores: &[f32],
    alpha: &mut [f32],
    beta: &mut [f32],
    lift: &mut [f32],
    means: &mut [f32],
) {
    let n = scores.len();
    let (base_rates, counts) = (&base_rates[..n], &counts[..n]);
    let (alpha, beta, lift, means) = (&mut alpha[..n], &mut beta[..n], &mut lift[..n], &mut means[..n]);
    for i in 0..n {
        let over_base = 1.0 / base_rates[i].clamp(0.005, 0.995);
        let [impressions, rewards] = counts[i];
        alpha[i] = prior + rewards;
        beta[i] = prior * (over_base - 1.0) + impressions - rewards;
        lift[i] = scores[i] * over_base;
        means[i] = alpha[i] / (alpha[i] + beta[i]) * lift[i];
    }
}

#[inline(always)]
fn beta_draws_any(seed: u64, items: &[u32], alpha: &[f32], beta: &[f32], out: &mut [f32]) {
    let n = out.len();
    let (items, alpha, beta) = (&items[..n], &alpha[..n], &beta[..n]);
    for i in 0..n {
        let bits = mix(mix(seed ^ u64::from(items[i]).wrapping_mul(0x9E37_79B9_7F4A_7C15)).wrapping_add(seed));
        let (z, w) = normals((bits >> 40) as u32, bits as u32 & 0xFF_FFFF);
        let (a, b) = (9.0 * alpha[i].max(1e-3), 9.0 * beta[i].max(1e-3));
        // One division for both reciprocals.
        let reciprocal = 1.0 / (a * b);
        let x = wilson_hilferty(alpha[i], b * reciprocal, z);
        let y = wilson_hilferty(beta[i], a * reciprocal, w);
        out[i] = x / (x + y);
    }
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014).
#[inline(always)]
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A gamma of shape `k` from the normal `z`; `ninth` is 1 / (9 k).
#[inline(always)]
fn wilson_hilferty(k: f32, ninth: f32, z: f32) -> f32 {
    let root = 1.0 - ninth + z * ninth.sqrt();
    (k * root * root * root).max(1e-6)
}

/// Two independent standard normals of two numbers of 24 bits.
#[inline(always)]
fn normals(a: u32, b: u32) -> (f32, f32) {
    const STEP: f32 = 1.0 / (1 << 24) as f32;
    let radius = (-2.0 * ln((a as i32 as f32 + 0.5) * STEP)).sqrt();
    let (sin, cos) = sin_cos_turns(b as i32 as f32 * STEP);
    (radius * cos, radius * sin)
}

/// The nearest whole number, ties to even, for |x| < 2^22, as both types: with 1.5 * 2^23 added no bits are left for a
/// fraction. A cast would saturate, which has no vector form.
#[inline(always)]
pub(crate) fn round(x: f32) -> (f32, i32) {
    const SHIFT: f32 = 12_582_912.0;
    let shifted = x + SHIFT;
    (shifted - SHIFT, shifted.to_bits() as i32 - SHIFT.to_bits() as i32)
}

/// e to the x, relative error below 2e-7; the ends saturate at e to the +-87.
#[inline(always)]
fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.0, 87.0);
    let (k, power) = round(x * std::f32::consts::LOG2_E);
    // ln 2 in two parts, so that the reduction keeps its last bits.
    let r = (x - k * 0.693_359_4) - k * -2.121_944_4e-4;
    let p = 1.0 + r * (1.0 + r * (0.5 + r * (1.0 / 6.0 + r * (1.0 / 24.0 + r * (1.0 / 120.0 + r * (1.0 / 720.0))))));
    p * f32::from_bits(((power + 127) << 23) as u32)
}

/// Natural logarithm of a normal positive number, absolute error below 5e-7 near 1 and relative below that elsewhere.
#[inline(always)]
fn ln(x: f32) -> f32 {
    const SQRT_HALF: i32 = 0x3F35_04F3;
    let bits = x.to_bits() as i32;
    let k = (bits - SQRT_HALF) >> 23;
    let t = f32::from_bits((bits - (k << 23)) as u32) - 1.0;
    // The minimax polynomial of Moshier's Cephes library for ln(1 + t) - t + t^2 / 2, t from sqrt(1/2) - 1 to sqrt(2) - 1.
    const P: [f32; 9] = [
        7.037_683_6e-2,
        -1.151_461e-1,
        1.167_699_87e-1,
        -1.242_014_1e-1,
        1.424_932_3e-1,
        -1.666_805_8e-1,
        2.000_071_5e-1,
        -2.499_999_4e-1,
        3.333_333e-1,
    ];
    let mut p = P[0];
    for c in &P[1..] {
        p = p * t + c;
    }
    k as f32 * std::f32::consts::LN_2 + (t - 0.5 * t * t + t * t * t * p)
}

/// Sine and cosine of 2 pi x, for x from 0 to 1.
#[inline(always)]
fn sin_cos_turns(x: f32) -> (f32, f32) {
    let quarters = x * 4.0;
    let (nearest, q) = round(quarters);
    let a = (quarters - nearest) * std::f32::consts::FRAC_PI_2;
    let a2 = a * a;
    let s = a * (1.0 + a2 * (-1.0 / 6.0 + a2 * (1.0 / 120.0 + a2 * (-1.0 / 5040.0 + a2 * (1.0 / 362_880.0)))));
    let c = 1.0 + a2 * (-0.5 + a2 * (1.0 / 24.0 + a2 * (-1.0 / 720.0 + a2 * (1.0 / 40_320.0))));
    let (s, c) = if q & 1 == 0 { (s, c) } else { (c, s) };
    let sin_sign = ((q & 2) << 30) as u32;
    let cos_sign = (((q + 1) & 2) << 30) as u32;
    (f32::from_bits(s.to_bits() ^ sin_sign), f32::from_bits(c.to_bits() ^ cos_sign))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agree_with_the_standard_library(x in -80f32..80.0, y in 1e-8f32..1.0, turn in 0f32..1.0) {
            let e = f64::from(x).exp();
            prop_assert!((f64::from(exp(x)) / e - 1.0).abs() < 3e-7, "exp {x}");
            prop_assert!((f64::from(ln(y)) - f64::from(y).ln()).abs() < 5e-7 * (1.0 + f64::from(y).ln().abs()), "ln {y}");
            let (s, c) = sin_cos_turns(turn);
            let (want_s, want_c) = (f64::from(turn) * std::f64::consts::TAU).sin_cos();
            prop_assert!((f64::from(s) - want_s).abs() < 5e-7 && (f64::from(c) - want_c).abs() < 5e-7, "{turn}: {s} {c}");
        }

        #[test]
        fn same_bits_alone_together_and_on_every_instruction_set(seed: u64, count in 1usize..70) {
            let items: Vec<u32> = (0..count as u32).map(|i| i * 7919).collect();
            let alpha: Vec<f32> = (0..count).map(|i| 0.5 + i as f32).collect();
            let beta: Vec<f32> = (0..count).map(|i| 40.0 + 3.0 * i as f32).collect();
            let mut draws = vec![0.0; count];
            beta_draws(seed, &items, &alpha, &beta, &mut draws);
            let products: Vec<i32> = (0..count as i32).map(|i| i * 1000 - 20_000).collect();
            let mut clicks = vec![0.0; count];
            sigmoid_lines(&alpha, -3e-4, &draws, &products, &mut clicks);
            for &isa in Isa::available() {
                let counts: Vec<[f32; 2]> = (0..count).map(|i| [10.0 * i as f32, i as f32]).collect();
                let columns = |isa, from: usize, to: usize| {
                    let mut all = [vec![0.0; to - from], vec![0.0; to - from], vec![0.0; to - from], vec![0.0; to - from]];
                    let [a, b, c, d] = &mut all;
                    posterior_columns_on(isa, 30.0, &draws[from..to], &counts[from..to], &draws[from..to], a, b, c, d);
                    all
                };
                let all = columns(isa, 0, count);
                for i in 0..count {
                    let mut alone = [0.0];
                    let one = columns(Isa::Portable, i, i + 1);
                    prop_assert!(all.iter().zip(&one).all(|(all, one)| all[i].to_bits() == one[0].to_bits()));
                    beta_draws_on(isa, seed, &items[i..=i], &alpha[i..=i], &beta[i..=i], &mut alone);
                    prop_assert_eq!(alone[0].to_bits(), draws[i].to_bits());
                    sigmoid_lines_on(isa, &alpha[i..=i], -3e-4, &draws[i..=i], &products[i..=i], &mut alone);
                    prop_assert_eq!(alone[0].to_bits(), clicks[i].to_bits());
                }
            }
        }
    }

    #[test]
    fn pairs_are_standard_and_independent() {
        let n = 400_000u64;
        let (mut sums, mut product, mut beyond) = ([0.0f64; 4], 0.0, 0u32);
        for i in 0..n {
            let bits = mix(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            let (z, w) = normals((bits >> 40) as u32, bits as u32 & 0xFF_FFFF);
            let (z, w) = (f64::from(z), f64::from(w));
            sums[0] += z;
            sums[1] += w;
            sums[2] += z * z;
            sums[3] += w * w;
            product += z * w;
            beyond += u32::from(z.abs() > 1.959_964);
        }
        let n = n as f64;
        for sum in &sums[..2] {
            assert!((sum / n).abs() < 4.0 / n.sqrt(), "{sums:?}");
        }
        for sum in &sums[2..] {
            assert!((sum / n - 1.0).abs() < 6.0 / n.sqrt(), "{sums:?}");
        }
        assert!((product / n).abs() < 4.0 / n.sqrt());
        assert!((f64::from(beyond) / n - 0.05).abs() < 4.0 * (0.05f64 * 0.95 / n).sqrt());
    }
}

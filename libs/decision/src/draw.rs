//! Thompson draws: one sample of an item's posterior, a pure function of (seed, item, posterior).

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::SeedableRng as _;
use rand_distr::{Beta, Distribution as _};

/// How a Beta posterior is sampled. The choice belongs to the path and is part of replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sampler {
    /// `rand_distr::Beta` over ChaCha12: the origin.
    Exact,
    /// Two Wilson-Hilferty gammas (Wilson and Hilferty 1931): within 2 % of the exact 5, 50, 95 and 99 % quantiles from
    /// Beta(2, 50) on, several times cheaper: the edge.
    Fast,
}

impl Sampler {
    /// One draw in (0, 1) for each item. `alpha` and `beta` must be positive; anything else gives 0.5 or some other
    /// number of the interval. The columns are equally long.
    pub fn draw_all(self, seed: u64, items: &[u32], alpha: &[f32], beta: &[f32], out: &mut [f32]) {
        match self {
            Self::Exact => {
                for (((out, &item), &alpha), &beta) in out.iter_mut().zip(items).zip(alpha).zip(beta) {
                    let stream = mix(seed ^ u64::from(item).wrapping_mul(0x9E37_79B9_7F4A_7C15));
                    *out = match Beta::new(f64::from(alpha), f64::from(beta)) {
                        Ok(posterior) => posterior.sample(&mut ChaCha12Rng::seed_from_u64(stream)) as f32,
                        Err(_) => 0.5,
                    };
                }
            }
            Self::Fast => attune_inference::beta_draws(seed, items, alpha, beta, out),
        }
    }
}

/// A uniform number in [0, 1) for one slot or one purpose of a decision.
pub(crate) fn uniform(seed: u64, purpose: u64) -> f64 {
    (mix(seed ^ mix(purpose ^ 0x5851_F42D_4C95_7F2D)) >> 11) as f64 / (1u64 << 53) as f64
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014).
pub(crate) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(sampler: Sampler, seed: u64, item: u32, alpha: f32, beta: f32) -> f32 {
        let mut out = [0.0];
        sampler.draw_all(seed, &[item], &[alpha], &[beta], &mut out);
        out[0]
    }

    fn quantile(sampler: Sampler, alpha: f32, beta: f32, q: f64) -> f32 {
        let mut draws: Vec<f32> = (0..40_000).map(|i| draw(sampler, mix(i), i as u32 % 977, alpha, beta)).collect();
        draws.sort_by(f32::total_cmp);
        draws[(q * draws.len() as f64) as usize]
    }

    #[test]
    fn the_fast_sampler_has_the_exact_quantiles() {
        for (alpha, beta) in [(2.0, 50.0), (5.0, 95.0), (20.0, 80.0)] {
            for q in [0.05, 0.5, 0.95, 0.99] {
                let (fast, exact) = (quantile(Sampler::Fast, alpha, beta, q), quantile(Sampler::Exact, alpha, beta, q));
                let error = (fast / exact - 1.0).abs();
                assert!(error < 0.05, "Beta({alpha}, {beta}) at {q}: {fast} for {exact}");
            }
        }
    }

    #[test]
    fn a_draw_is_a_function_of_seed_and_item() {
        for sampler in [Sampler::Exact, Sampler::Fast] {
            let draw = |seed, item| draw(sampler, seed, item, 3.0, 40.0);
            assert_eq!(draw(7, 1), draw(7, 1));
            assert_ne!(draw(7, 1), draw(7, 2));
            assert_ne!(draw(7, 1), draw(8, 1));
        }
    }
}

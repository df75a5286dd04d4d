//! Thompson draws: one sample of an item's posterior, a pure function of (seed, item, posterior).

use attune_domain::ItemIx;
use rand::rand_core::{Infallible, TryRng};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::SeedableRng as _;
use rand_distr::{Beta, Distribution as _, StandardNormal};

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
    /// A draw in (0, 1). `alpha` and `beta` must be positive; anything else gives the mean of a flat prior.
    pub fn draw(self, seed: u64, item: ItemIx, alpha: f32, beta: f32) -> f32 {
        let stream = mix(seed ^ u64::from(item.0).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        match self {
            Self::Exact => match Beta::new(f64::from(alpha), f64::from(beta)) {
                Ok(posterior) => posterior.sample(&mut ChaCha12Rng::seed_from_u64(stream)) as f32,
                Err(_) => 0.5,
            },
            Self::Fast => {
                let mut rng = SplitMix(stream);
                let x = wilson_hilferty(alpha, StandardNormal.sample(&mut rng));
                let y = wilson_hilferty(beta, StandardNormal.sample(&mut rng));
                x / (x + y)
            }
        }
    }
}

/// A uniform number in [0, 1) for one slot or one purpose of a decision.
pub(crate) fn uniform(seed: u64, purpose: u64) -> f64 {
    (mix(seed ^ mix(purpose ^ 0x5851_F42D_4C95_7F2D)) >> 11) as f64 / (1u64 << 53) as f64
}

fn wilson_hilferty(k: f32, z: f32) -> f32 {
    let ninth = 1.0 / (9.0 * k.max(1e-3));
    let root = 1.0 - ninth + z * ninth.sqrt();
    (k * root * root * root).max(1e-6)
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014).
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

struct SplitMix(u64);

impl TryRng for SplitMix {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.try_next_u64().map(|v| (v >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        Ok(mix(self.0))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        for chunk in out.chunks_mut(8) {
            let word = self.try_next_u64()?.to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantile(sampler: Sampler, alpha: f32, beta: f32, q: f64) -> f32 {
        let mut draws: Vec<f32> =
            (0..40_000).map(|i| sampler.draw(mix(i), ItemIx(i as u32 % 977), alpha, beta)).collect();
        draws.sort_by(f32::total_cmp);
        draws[(q * draws.len() as f64) as usize]
    }

    #[test]
    fn the_fast_sampler_has_the_exact_quantiles() {
        for (alpha, beta) in [(2.0, 50.0), (5.0, 95.0), (20.0, 80.0)] {
            for q in [0.05, 0.5, 0.95, 0.99] {
                let (fast, exact) =
                    (quantile(Sampler::Fast, alpha, beta, q), quantile(Sampler::Exact, alpha, beta, q));
                let error = (fast / exact - 1.0).abs();
                assert!(error < 0.05, "Beta({alpha}, {beta}) at {q}: {fast} for {exact}");
            }
        }
    }

    #[test]
    fn a_draw_is_a_function_of_seed_and_item() {
        for sampler in [Sampler::Exact, Sampler::Fast] {
            let draw = |seed, item| sampler.draw(seed, ItemIx(item), 3.0, 40.0);
            assert_eq!(draw(7, 1), draw(7, 1));
            assert_ne!(draw(7, 1), draw(7, 2));
            assert_ne!(draw(7, 1), draw(8, 1));
            assert!((0.0..=1.0).contains(&sampler.draw(1, ItemIx(1), f32::NAN, 1.0)) || sampler == Sampler::Fast);
        }
    }
}

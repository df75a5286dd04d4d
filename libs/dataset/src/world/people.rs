//! Who visits: tastes, ages, devices and places, and what these make of the categories.

use super::goods::Goods;
use super::{Latent, WorldConfig, generator, unit};
use attune_domain::{Context, Device, Geo, PageType, UserAttributes};
use rand::{Rng, RngExt as _};
use rand_distr::{Distribution as _, LogNormal, StandardNormal};

pub const AGE_BUCKETS: [&str; 5] = ["18-24", "25-34", "35-44", "45-54", "55+"];

/// How likely a visitor is in each bucket, and on each device.
const AGE_SHARES: [f64; 5] = [0.22, 0.28, 0.22, 0.16, 0.12];
const DEVICES: [(Device, f64); 4] =
    [(Device::Mobile, 0.55), (Device::Desktop, 0.30), (Device::Tablet, 0.11), (Device::Tv, 0.04)];
const PAGES: [(PageType, f64); 4] =
    [(PageType::Home, 0.6), (PageType::Product, 0.2), (PageType::Search, 0.15), (PageType::Cart, 0.05)];
/// Share of visits on the visitor's own device.
const USUAL_DEVICE: f64 = 0.85;

/// A visitor's lasting traits.
#[derive(Debug, Clone, PartialEq)]
pub struct UserTraits {
    pub(super) taste: Latent,
    /// Index into [`AGE_BUCKETS`].
    pub age: u8,
    pub device: Device,
    pub geo: Geo,
    /// How often this visitor comes, relative to the mean.
    pub activity: f32,
}

impl UserTraits {
    pub fn age_bucket(&self) -> &'static str {
        AGE_BUCKETS[usize::from(self.age)]
    }

    pub fn attributes(&self) -> UserAttributes {
        UserAttributes(vec![("age_bucket".to_owned(), self.age_bucket().to_owned())])
    }

    pub fn usual_context(&self) -> Context {
        Context { page: PageType::Home, device: self.device, geo: self.geo }
    }

    /// Circumstances of one visit.
    pub fn draw_context(&self, rng: &mut impl Rng) -> Context {
        let device = if rng.random_bool(USUAL_DEVICE) { self.device } else { pick(&DEVICES, rng) };
        Context { page: pick(&PAGES, rng), device, geo: self.geo }
    }
}

/// What groups of visitors make of categories.
pub(super) struct People {
    seed: u64,
    centroids: Vec<Latent>,
    /// Rows of one value per category.
    by_age: Vec<[f32; AGE_BUCKETS.len()]>,
    by_device: Vec<Vec<f32>>,
    by_geo: Vec<Vec<f32>>,
}

impl People {
    pub(super) fn make(config: &WorldConfig, goods: &Goods) -> Self {
        let rng = &mut generator(config.seed, "people", 0);
        let categories = goods.centroids.len();
        // Each category is liked most at one age; the steps keep any two seeds equally diverse.
        let shift: f32 = rng.random();
        let by_age = (0..categories)
            .map(|c| {
                let centre = 4.0 * (c as f32 * 0.618_034 + shift).fract();
                let bumps: [f32; AGE_BUCKETS.len()] =
                    std::array::from_fn(|age| (-(age as f32 - centre).powi(2) / 1.6).exp());
                let mean = bumps.iter().sum::<f32>() / bumps.len() as f32;
                bumps.map(|bump| 1.3 * (bump - mean))
            })
            .collect();
        let mut table = |rows: usize, deviation: f32| -> Vec<Vec<f32>> {
            // Row 0 is `other`, which says nothing.
            let mut table = vec![vec![0.0; categories]];
            table.extend((1..rows).map(|_| {
                (0..categories).map(|_| deviation * f32::clamp(StandardNormal.sample(rng), -2.5, 2.5)).collect()
            }));
            table
        };
        let by_device = table(Device::ALL.len(), 0.2);
        let by_geo = table(Geo::ALL.len(), 0.2);
        Self { seed: config.seed, centroids: goods.centroids.clone(), by_age, by_device, by_geo }
    }

    pub(super) fn affinity(&self, age: u8, context: Context, category: u8) -> f32 {
        let c = usize::from(category);
        self.by_age[c][usize::from(age)]
            + self.by_device[usize::from(context.device.code())][c]
            + self.by_geo[usize::from(context.geo.code())][c]
    }

    /// Traits of visitor `n`: a function of the seed and `n` alone, so that there is always another new visitor.
    pub(super) fn traits(&self, n: u32) -> UserTraits {
        let rng = &mut generator(self.seed, "visitor traits", u64::from(n));
        let mut taste = [0.0; super::LATENT];
        // One main interest and up to two others.
        for weight in [1.0, rng.random_range(0.0..0.8), rng.random_range(0.0..0.5)] {
            let interest = rng.random_range(0..self.centroids.len());
            for (t, c) in taste.iter_mut().zip(&self.centroids[interest]) {
                *t += weight * c;
            }
        }
        for t in &mut taste {
            let noise: f32 = StandardNormal.sample(rng);
            *t += 0.1 * noise;
        }
        let ages = AGE_SHARES.iter().zip(0u8..).map(|(&share, age)| (age, share)).collect::<Vec<_>>();
        let deviation = 0.7f32;
        let activity = LogNormal::new(-deviation * deviation / 2.0, deviation).expect("the deviation is finite");
        UserTraits {
            taste: unit(taste),
            age: pick(&ages, rng),
            device: pick(&DEVICES, rng),
            geo: Geo::ALL[rng.random_range(1..Geo::ALL.len())],
            activity: activity.sample(rng).min(8.0),
        }
    }
}

/// Draws from a short list with shares that sum to 1; the last takes what rounding leaves.
fn pick<T: Copy>(shares: &[(T, f64)], rng: &mut impl Rng) -> T {
    let mut left: f64 = rng.random();
    let last = shares.len() - 1;
    for (value, share) in &shares[..last] {
        if left < *share {
            return *value;
        }
        left -= share;
    }
    shares[last].0
}

//! The simulated world: a shop and its visitors with a known truth, for demonstrations and for measuring what is learnt.
//!
//! A visitor looks at slot `p` of a slate with [`examination`]`(p)`, and clicks what they look at with a probability that
//! depends on their taste, age, device and place and on the item's appeal, never on the other slots.
//! The scale is set so that a random slate of [`SLATE`] gets about 6.5 % clicks and the best one about 30 %, as far as
//! a catalogue allows that.
//! Always holds: everything is a function of the seed and the arguments; sorting by click probability is optimal, because
//! examination falls with the slot.

mod goods;
mod history;
mod people;
mod visitor;

pub use people::{AGE_BUCKETS, UserTraits};
pub use visitor::{Action, Visit, Visitor};

use attune_domain::{Context, Item, ItemIx, PageType, UnixMillis, UserAttributes};
use goods::Goods;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::borrow::Cow;
use std::collections::HashMap;

/// Length of the slates that the world is calibrated on and that its history logs.
pub const SLATE: usize = 20;
/// Dimensions of the latent tastes.
const LATENT: usize = 16;
type Latent = [f32; LATENT];

const RANDOM_CTR: f64 = 0.065;
const ORACLE_CTR: f64 = 0.30;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorldConfig {
    pub seed: u64,
    pub items: u32,
    /// Visitors that the history knows; every higher number is a visitor too, a new one.
    pub users: u32,
    pub categories: u8,
    /// No item was created after this.
    pub catalogue_at: UnixMillis,
}

impl Default for WorldConfig {
    /// 2,000 items in 12 categories and 2,000 visitors, at the start of 2026.
    fn default() -> Self {
        Self { seed: 1, items: 2_000, users: 2_000, categories: 12, catalogue_at: 1_767_225_600_000 }
    }
}

/// A world that cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorldError {
    #[error("{field} must be {least} to {most}")]
    OutOfRange { field: &'static str, least: u32, most: u32 },
}

pub struct World {
    config: WorldConfig,
    goods: Goods,
    by_id: HashMap<String, ItemIx>,
    people: people::People,
    users: Vec<UserTraits>,
    /// Click logit given examination = `offset + scale * utility`.
    offset: f64,
    scale: f64,
}

impl World {
    pub fn new(config: WorldConfig) -> Result<Self, WorldError> {
        let within = |field, value, least, most| match value {
            v if (least..=most).contains(&v) => Ok(()),
            _ => Err(WorldError::OutOfRange { field, least, most }),
        };
        within("items", config.items, 1, 1_000_000)?;
        within("users", config.users, 1, 10_000_000)?;
        within("categories", u32::from(config.categories), 2, goods::CATEGORIES as u32)?;
        let goods = Goods::make(&config);
        let people = people::People::make(&config, &goods);
        let users = (0..config.users).map(|n| people.traits(n)).collect();
        let by_id = goods.items.iter().zip(0..).map(|(item, ix)| (item.id.to_string(), ItemIx(ix))).collect();
        let mut world = Self { config, goods, by_id, people, users, offset: 0.0, scale: 1.0 };
        world.calibrate();
        Ok(world)
    }

    pub fn config(&self) -> &WorldConfig {
        &self.config
    }

    /// In the order of their numbers.
    pub fn items(&self) -> &[Item] {
        &self.goods.items
    }

    pub fn find(&self, item_id: &str) -> Option<ItemIx> {
        self.by_id.get(item_id).copied()
    }

    /// The id under which visitor `n` comes to the edge.
    pub fn user_raw_id(&self, n: u32) -> String {
        format!("visitor-{n}")
    }

    /// What the shop knows of a visitor.
    pub fn attributes(&self, n: u32) -> UserAttributes {
        self.traits(n).attributes()
    }

    pub fn traits(&self, n: u32) -> Cow<'_, UserTraits> {
        match self.users.get(n as usize) {
            Some(traits) => Cow::Borrowed(traits),
            None => Cow::Owned(self.people.traits(n)),
        }
    }

    /// True probability that this visitor clicks this item in this slot. 0 for an item the world does not have.
    pub fn click_probability(&self, user: u32, context: Context, item: ItemIx, position: usize) -> f64 {
        self.click_given_traits(&self.traits(user), context, item, position)
    }

    /// Expected clicks per slot of a slate; 0 for an empty one.
    pub fn expected_ctr(&self, user: u32, context: Context, slate: &[ItemIx]) -> f64 {
        if slate.is_empty() {
            return 0.0;
        }
        let traits = self.traits(user);
        let clicks: f64 =
            slate.iter().enumerate().map(|(p, &item)| self.click_given_traits(&traits, context, item, p)).sum();
        clicks / slate.len() as f64
    }

    /// The slate of `k` different items with the most expected clicks.
    pub fn oracle_slate(&self, user: u32, context: Context, k: usize) -> Vec<ItemIx> {
        let traits = self.traits(user);
        let mut scored: Vec<(f64, ItemIx)> =
            (0..self.config.items).map(ItemIx).map(|item| (self.utility(&traits, context, item), item)).collect();
        let k = k.min(scored.len());
        let best_first = |a: &(f64, ItemIx), b: &(f64, ItemIx)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        if k < scored.len() {
            scored.select_nth_unstable_by(k, best_first);
            scored.truncate(k);
        }
        scored.sort_by(best_first);
        scored.into_iter().map(|(_, item)| item).collect()
    }

    fn click_given_traits(&self, traits: &UserTraits, context: Context, item: ItemIx, position: usize) -> f64 {
        if item.index() >= self.goods.items.len() {
            return 0.0;
        }
        let logit = self.offset + self.scale * self.utility(traits, context, item) + page_shift(context.page);
        examination(position) * sigmoid(logit)
    }

    /// How well an item suits a visitor here and now, in no particular unit. The item exists.
    fn utility(&self, traits: &UserTraits, context: Context, item: ItemIx) -> f64 {
        let i = item.index();
        let taste: f32 = traits.taste.iter().zip(&self.goods.latent[i]).map(|(a, b)| a * b).sum();
        let here = self.people.affinity(traits.age, context, self.goods.category[i]);
        f64::from(2.2 * taste + here + self.goods.appeal[i])
    }

    /// Finds the offset and scale of the click logit by nested bisection on a sample of visitors.
    fn calibrate(&mut self) {
        let mut any = Vec::new();
        let mut best = Vec::new();
        for n in 0..200.min(self.config.users) {
            let traits = self.traits(n);
            let context = traits.usual_context();
            best.extend(
                self.oracle_slate(n, context, SLATE)
                    .into_iter()
                    .enumerate()
                    .map(|(p, item)| (examination(p), self.utility(&traits, context, item))),
            );
            // A stride that is coprime with most catalogue sizes spreads the sample over the catalogue.
            let start = u64::from(n) * 31;
            any.extend((0..60).map(|j| {
                let item = ItemIx(((start + j * 7_919) % u64::from(self.config.items)) as u32);
                self.utility(&traits, context, item)
            }));
        }
        let slots = SLATE.min(self.goods.items.len());
        let mean_examination = (0..slots).map(examination).sum::<f64>() / slots as f64;
        let random_ctr = |offset: f64, scale: f64| {
            any.iter().map(|u| sigmoid(offset + scale * u)).sum::<f64>() / any.len() as f64 * mean_examination
        };
        let oracle_ctr = |offset: f64, scale: f64| {
            best.iter().map(|(e, u)| e * sigmoid(offset + scale * u)).sum::<f64>() / best.len() as f64
        };
        let offset_for = |scale: f64| bisect(-40.0, 10.0, |offset| random_ctr(offset, scale) < RANDOM_CTR);
        self.scale = bisect(0.1, 6.0, |scale| oracle_ctr(offset_for(scale), scale) < ORACLE_CTR);
        self.offset = offset_for(self.scale);
    }
}

/// Probability that a slot is looked at.
pub fn examination(position: usize) -> f64 {
    1.0 / (1.0 + 0.1 * position as f64)
}

fn page_shift(page: PageType) -> f64 {
    match page {
        PageType::Home => 0.0,
        PageType::Product => 0.15,
        PageType::Search => 0.4,
        PageType::Cart => -0.3,
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The least `x` at which `below` turns false, given that it turns once.
fn bisect(mut low: f64, mut high: f64, below: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..28 {
        let middle = f64::midpoint(low, high);
        if below(middle) { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}

/// A generator of its own for each use and number, so that drawing more in one place changes nothing in another.
fn generator(seed: u64, purpose: &str, number: u64) -> ChaCha8Rng {
    let mut hash = blake3::Hasher::new();
    hash.update(&seed.to_le_bytes()).update(&number.to_le_bytes()).update(purpose.as_bytes());
    ChaCha8Rng::from_seed(*hash.finalize().as_bytes())
}

fn unit(mut vector: Latent) -> Latent {
    let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-6);
    vector.iter_mut().for_each(|x| *x /= norm);
    vector
}

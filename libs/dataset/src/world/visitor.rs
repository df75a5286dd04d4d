//! What a visitor does with an answer.

use super::{UserTraits, World, examination, generator, page_shift, sigmoid};
use attune_domain::{Context, EventKind, ItemIx, UserAttributes};
use rand::{Rng, RngExt as _};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, Exp, LogNormal};
use std::time::Duration;

/// Longest dwell on one item, in seconds.
const MAX_DWELL: f32 = 600.0;
/// Mean time between an answer's last action and the next request, in seconds.
const MEAN_THINK: f64 = 15.0;

/// Something a visitor does about an item of the slate. Impressions are the caller's: it knows what it showed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Action {
    pub kind: EventKind,
    pub item: ItemIx,
    /// Zero-based slot.
    pub position: u8,
    /// Seconds for a dwell, minor currency units for a conversion, otherwise 1.
    pub value: f32,
    /// Since the answer was shown. Grows along a visit by at least a millisecond.
    pub after: Duration,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Visit {
    pub actions: Vec<Action>,
    /// Time from the last action, or from the answer where there is none, to the next request.
    pub think: Duration,
}

/// One visitor with a generator of their own: the same seed and answers give the same visits.
#[derive(Debug, Clone)]
pub struct Visitor {
    user: u32,
    traits: UserTraits,
    rng: ChaCha8Rng,
}

impl World {
    /// Visitor `n`; from `config.users` on they are new to the history.
    pub fn visitor(&self, n: u32, seed: u64) -> Visitor {
        let rng = generator(self.config.seed ^ seed.rotate_left(32), "visits", u64::from(n));
        Visitor { user: n, traits: self.traits(n).into_owned(), rng }
    }
}

impl Visitor {
    pub fn user(&self) -> u32 {
        self.user
    }

    pub fn attributes(&self) -> UserAttributes {
        self.traits.attributes()
    }

    pub fn traits(&self) -> &UserTraits {
        &self.traits
    }

    /// Circumstances of the next request.
    pub fn next_context(&mut self) -> Context {
        self.traits.draw_context(&mut self.rng)
    }

    /// Goes through a slate from the top. Items that the world does not have are passed over.
    pub fn react(&mut self, world: &World, answer: &[ItemIx], context: Context) -> Visit {
        react(world, &self.traits, answer, context, &mut self.rng)
    }
}

pub(super) fn react(
    world: &World,
    traits: &UserTraits,
    answer: &[ItemIx],
    context: Context,
    rng: &mut impl Rng,
) -> Visit {
    let mut actions = Vec::new();
    let mut clock = Duration::ZERO;
    for (position, &item) in (0u8..=u8::MAX).zip(answer) {
        // Both draws are always made, so that two slates that differ in one slot meet the same chance in the others.
        let (looks, clicks): (f64, f64) = (rng.random(), rng.random());
        let mut own = generator(rng.random(), "slot", u64::from(position));
        if looks >= examination(usize::from(position)) || item.index() >= world.items().len() {
            continue;
        }
        clock += Duration::from_millis(own.random_range(400..1_500));
        if clicks < world.attraction(traits, context, item) {
            open_item(world, traits, context, item, &mut own, |kind, value, takes| {
                clock += takes.max(Duration::from_millis(1));
                actions.push(Action { kind, item, position, value, after: clock });
            });
        }
    }
    let think = Exp::new(1.0 / MEAN_THINK).expect("the rate is positive").sample(rng).min(10.0 * MEAN_THINK);
    Visit { actions, think: Duration::from_secs_f64(0.2 + think) }
}

/// A click and what follows from it. `act` takes the type, the value and the time since the action before.
pub(super) fn open_item(
    world: &World,
    traits: &UserTraits,
    context: Context,
    item: ItemIx,
    rng: &mut impl Rng,
    mut act: impl FnMut(EventKind, f32, Duration),
) {
    act(EventKind::Click, 1.0, Duration::ZERO);
    let dwell = world.dwell(traits, context, item).sample(rng).clamp(0.5, MAX_DWELL);
    act(EventKind::Dwell, dwell, Duration::from_secs_f32(dwell));
    if rng.random_bool(world.like_given_click(traits, context, item)) {
        act(EventKind::Like, 1.0, Duration::from_millis(300));
    }
    if rng.random_bool(world.conversion_given_click(traits, context, item)) {
        let price = world.items()[item.index()].price.unwrap_or(0);
        act(EventKind::Conversion, price as f32, Duration::from_secs(rng.random_range(5..60)));
    }
}

impl World {
    /// Probability of a click on an item that is looked at.
    fn attraction(&self, traits: &UserTraits, context: Context, item: ItemIx) -> f64 {
        sigmoid(self.suits(traits, context, item) + page_shift(context.page))
    }

    /// The click logit on the home page.
    fn suits(&self, traits: &UserTraits, context: Context, item: ItemIx) -> f64 {
        self.offset + self.scale * self.utility(traits, context, item)
    }

    /// About one click in ten; better fit and lower price help.
    fn conversion_given_click(&self, traits: &UserTraits, context: Context, item: ItemIx) -> f64 {
        let price = self.items()[item.index()].price.unwrap_or(3_000).max(1) as f64;
        sigmoid(-2.3 + 0.4 * self.suits(traits, context, item).clamp(-3.0, 3.0) - 0.2 * (price / 3_000.0).ln())
    }

    fn like_given_click(&self, traits: &UserTraits, context: Context, item: ItemIx) -> f64 {
        sigmoid(-1.8 + 0.7 * self.suits(traits, context, item).clamp(-3.0, 3.0))
    }

    /// Seconds on an opened item: half a minute at the median, longer on what suits.
    fn dwell(&self, traits: &UserTraits, context: Context, item: ItemIx) -> LogNormal<f32> {
        let fit = self.suits(traits, context, item).clamp(-3.0, 3.0) as f32;
        LogNormal::new(3.4 + 0.3 * fit, 0.7).expect("the deviation is finite")
    }
}

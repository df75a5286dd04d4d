//! What the ranker learns from: logged slates, or positives among sampled negatives.

use crate::features::UserSide;
use crate::items::ItemTable;
use crate::progress::Progress;
use crate::schema::FeatureSchema;
use crate::tower::{TowerSection, UserInput};
use crate::train::ranking::{Evidence, Rows};
use crate::train::timeline::{Cut, Shown, Timeline};
use attune_domain::{Context, ItemIx, UserAttributes, UserWindow};
use rand::RngExt as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;

/// Negatives from the towers' own favourites, which is what the ranker meets at serving.
const HARD: usize = 24;
/// Negatives from the whole catalogue.
const EASY: usize = 7;
/// The towers' favourites that hard negatives are drawn from.
const POOL: usize = 500;
/// Newest events on which the towers' recall is measured.
const RECALL_SAMPLES: usize = 2000;

/// The towers on events they had not seen.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tail {
    pub(crate) samples: u64,
    pub(crate) found: u64,
}

pub(crate) struct Sampler<'a> {
    pub(crate) lines: &'a [Timeline],
    /// Parallel to the lines.
    pub(crate) cuts: &'a [Cut],
    pub(crate) attributes: &'a [UserAttributes],
    pub(crate) schema: &'a FeatureSchema,
    pub(crate) tower: &'a TowerSection,
    pub(crate) table: &'a ItemTable,
    pub(crate) progress: &'a dyn Progress,
    /// Rows at most.
    pub(crate) limit: usize,
}

impl Sampler<'_> {
    pub(crate) fn rows(&self, width: usize, evidence: Evidence, rng: &mut ChaCha8Rng) -> (Rows, Tail) {
        let mut positives =
            super::towers::examples(self.lines, |user| self.cuts[user].steps..self.lines[user].steps.len());
        positives.retain(|&(_, k)| k > 0);
        positives.shuffle(rng);
        let mut rows = Rows::new(width);
        let mut tail = Tail::default();
        match evidence {
            Evidence::SampledNegatives => {
                positives.truncate(self.limit / (1 + HARD + EASY));
                self.progress.stage("ranker examples", positives.len() as u64);
                for (at, &(user, k)) in positives.iter().enumerate() {
                    self.contrast(user as usize, k as usize, &mut rows, &mut tail, rng);
                    self.progress.tick(at as u64 + 1, "");
                }
            }
            Evidence::Impressions => {
                self.slates(&mut rows, rng);
                positives.truncate(RECALL_SAMPLES);
                for &(user, k) in &positives {
                    self.measure(user as usize, k as usize, &mut tail);
                }
            }
        }
        (rows, tail)
    }

    fn vector(&self, user: usize, window: &UserWindow, context: Context) -> Vec<f32> {
        let mut vector = vec![0.0; self.table.dim()];
        self.tower.window_vector(self.schema, self.table, window, &self.attributes[user], &mut vector);
        self.tower.add_context(context, &mut vector);
        vector
    }

    /// The towers' favourites among what the visitor has not seen, and the number of them that beat the target.
    fn favourites(&self, window: &UserWindow, vector: &[f32], target: ItemIx) -> (Vec<u32>, usize) {
        let mut scores = vec![0.0; self.table.len()];
        attune_inference::score_rows(self.table.vectors(), self.table.dim(), vector, &mut scores);
        window.seen().iter().for_each(|seen| scores[seen.item.index()] = f32::NEG_INFINITY);
        let wanted = scores[target.index()];
        let better = scores.iter().filter(|&&s| s > wanted).count();
        let mut order: Vec<u32> = (0..scores.len() as u32).collect();
        let pool = POOL.min(order.len() - 1);
        let by_score = |a: &u32, b: &u32| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b));
        order.select_nth_unstable_by(pool, by_score);
        order.truncate(pool);
        order.sort_unstable_by(by_score);
        order.retain(|&ix| ix != target.0 && scores[ix as usize] > f32::NEG_INFINITY);
        (order, better)
    }

    fn measure(&self, user: usize, k: usize, tail: &mut Tail) {
        let line = &self.lines[user];
        let (window, step) = (line.window_and_seen(k), &line.steps[k]);
        let vector = self.vector(user, &window, step.context);
        let (_, better) = self.favourites(&window, &vector, step.event.item);
        tail.samples += 1;
        tail.found += u64::from(better < 100);
    }

    /// A positive and `HARD + EASY` negatives, a group of fixed size.
    fn contrast(&self, user: usize, k: usize, rows: &mut Rows, tail: &mut Tail, rng: &mut ChaCha8Rng) {
        let line = &self.lines[user];
        let (window, step) = (line.window_and_seen(k), &line.steps[k]);
        let target = step.event.item;
        let vector = self.vector(user, &window, step.context);
        let (favourites, better) = self.favourites(&window, &vector, target);
        tail.samples += 1;
        tail.found += u64::from(better < 100);
        let attributes = &self.attributes[user];
        let input = UserInput { window: &window, attributes, context: step.context, now: step.event.occurred_at };
        let side = UserSide::new(self.schema, self.table, &input, &vector);
        rows.open_group();
        rows.push(&side, target, 0, true, false, None);
        for slot in 0..HARD + EASY {
            let any = |rng: &mut ChaCha8Rng| ItemIx(rng.random_range(0..self.table.len() as u32));
            let mut item = any(rng);
            if slot < HARD && !favourites.is_empty() {
                item = ItemIx(favourites[rng.random_range(0..favourites.len())]);
            }
            for _ in 0..20 {
                if item != target && !window.has_seen(item) {
                    break;
                }
                item = any(rng);
            }
            rows.push(&side, item, 0, false, false, None);
        }
    }

    /// Logged slates from the visitors' newest events, whole slates in random order until the limit.
    fn slates(&self, rows: &mut Rows, rng: &mut ChaCha8Rng) {
        let mut slates: Vec<(usize, &[Shown])> = Vec::new();
        for (user, (line, cut)) in self.lines.iter().zip(self.cuts).enumerate() {
            let slate = |a: &Shown, b: &Shown| a.slate == b.slate;
            slates.extend(line.shown[cut.shown..].chunk_by(slate).map(|s| (user, s)));
        }
        slates.shuffle(rng);
        self.progress.stage("ranker examples", slates.len() as u64);
        for (at, &(user, slate)) in slates.iter().enumerate() {
            if rows.len() >= self.limit {
                break;
            }
            let first = &slate[0];
            let window = self.lines[user].window(first.before);
            let vector = self.vector(user, &window, first.context);
            let attributes = &self.attributes[user];
            let input = UserInput { window: &window, attributes, context: first.context, now: first.at };
            let side = UserSide::new(self.schema, self.table, &input, &vector);
            rows.open_group();
            for shown in slate {
                rows.push(&side, shown.item, shown.position, shown.clicked, shown.converted, shown.dwell);
            }
            self.progress.tick(at as u64 + 1, "");
        }
    }
}

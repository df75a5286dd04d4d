//! What the ranker reads about a visitor and an item.
//!
//! Always holds: a candidate's features depend on the visitor, the context, the time and that candidate alone, and are
//! computed with operations that have the same bits on every CPU.

use crate::attribution::FeatureGroup;
use crate::items::ItemTable;
use crate::schema::FeatureSchema;
use crate::tower::{CONTEXT_ROWS, UserInput, attribute_rows, context_rows};
use attune_domain::{EventKind, ItemIx, Segment, WindowEvent};
use attune_inference::{Layer, Mlp, ln_1p};

use FeatureGroup::{Category, Context, Freshness, Popularity, Price, Similarity, Taste, Visitor};

const DAY: f32 = 86_400_000.0;
const YEAR: f32 = 365.25;
/// Events closer together than this belong to one visit.
const VISIT_MILLIS: i64 = 30 * 60 * 1000;

/// Columns before the attribute values: name and the group it is explained under.
pub(crate) const COLUMNS: [(&str, FeatureGroup); 39] = [
    ("taste_logit", Taste),
    ("taste_latent", Taste),
    ("item_bias", Popularity),
    ("similarity_max", Similarity),
    ("similarity_top3", Similarity),
    ("similarity_last", Similarity),
    ("similarity_last5", Similarity),
    ("similarity_mean", Similarity),
    ("similarity_hidden", Similarity),
    ("category_share", Category),
    ("category_best", Category),
    ("category_primary", Category),
    ("category_last", Category),
    ("category_hidden", Category),
    ("category_count", Category),
    ("popularity", Popularity),
    ("popularity_recent", Popularity),
    ("like_rate", Popularity),
    ("click_rate", Popularity),
    ("item_dwell", Popularity),
    ("popularity_gap", Popularity),
    ("age_days_log", Freshness),
    ("age_unknown", Freshness),
    ("age_gap_years", Freshness),
    ("price_log", Price),
    ("price_gap", Price),
    ("in_window", Similarity),
    ("position", Context),
    ("hour_night", Context),
    ("hour_morning", Context),
    ("hour_afternoon", Context),
    ("segment_new", Visitor),
    ("segment_casual", Visitor),
    ("segment_active", Visitor),
    ("window_length", Visitor),
    ("visit_length", Visitor),
    ("last_event_age", Visitor),
    ("like_share", Visitor),
    ("hide_share", Visitor),
];
/// The one-hot context follows the columns above, then one column per attribute value.
pub(crate) const FIXED: usize = COLUMNS.len() + CONTEXT_ROWS;
pub(crate) const POSITION: usize = 27;

/// Width of a feature row.
pub(crate) fn width(schema: &FeatureSchema) -> usize {
    FIXED + schema.attribute_columns().map(|(_, values)| values.len()).sum::<usize>()
}

pub(crate) fn group(column: usize) -> FeatureGroup {
    match column {
        at if at < COLUMNS.len() => COLUMNS[at].1,
        at if at < FIXED => Context,
        _ => Visitor,
    }
}

/// The visitor's side of the features, computed once a request.
pub(crate) struct UserSide<'a> {
    items: &'a ItemTable,
    vector: &'a [f32],
    /// Newest first; parallel to the outputs of `similarity`.
    recent: Vec<WindowEvent>,
    similarity: Option<Mlp>,
    /// Share of every category among liked and clicked items, newer ones weighing more.
    profile: Vec<f32>,
    hidden: Vec<f32>,
    last_categories: &'a [u16],
    mean_popularity: Option<f32>,
    mean_age_days: Option<f32>,
    mean_price: Option<f32>,
    now: i64,
    /// A whole row with the item's columns at 0.
    template: Vec<f32>,
}

/// Running weighted mean.
#[derive(Default)]
struct Mean {
    sum: f32,
    weight: f32,
}

impl Mean {
    fn add(&mut self, value: f32, weight: f32) {
        self.sum += value * weight;
        self.weight += weight;
    }

    fn get(&self) -> Option<f32> {
        (self.weight > 0.0).then(|| self.sum / self.weight)
    }
}

impl<'a> UserSide<'a> {
    pub(crate) fn new(schema: &FeatureSchema, items: &'a ItemTable, input: &UserInput, vector: &'a [f32]) -> Self {
        let categories = items.categories();
        let recent: Vec<WindowEvent> =
            input.window.events().iter().rev().filter(|e| items.input(e.item).is_some()).copied().collect();
        let mut side = Self {
            items,
            vector,
            similarity: similarity(items, &recent),
            recent,
            profile: vec![0.0; categories],
            hidden: vec![0.0; categories],
            last_categories: &[],
            mean_popularity: None,
            mean_age_days: None,
            mean_price: None,
            now: input.now,
            template: vec![0.0; width(schema)],
        };
        side.read_window();
        side.fill_template(schema, input);
        side
    }

    fn read_window(&mut self) {
        let (mut popularity, mut age, mut price) = (Mean::default(), Mean::default(), Mean::default());
        let (mut liked, mut weight) = (0.0f32, 1.0f32);
        for event in &self.recent {
            let Some((content, stats)) = self.items.content(event.item).zip(self.items.stats(event.item)) else {
                continue;
            };
            if event.kind == EventKind::Hide {
                content.categories.iter().for_each(|&c| self.hidden[c as usize] += 1.0);
                continue;
            }
            if liked == 0.0 {
                self.last_categories = &content.categories;
            }
            liked += weight;
            content.categories.iter().for_each(|&c| self.profile[c as usize] += weight);
            popularity.add(stats.popularity, weight);
            if let Some(at) = content.created_at {
                age.add(age_days(self.now, at), weight);
            }
            if let Some(p) = content.price {
                price.add(p, weight);
            }
            weight *= 0.95;
        }
        if liked > 0.0 {
            self.profile.iter_mut().for_each(|share| *share /= liked);
        }
        self.mean_popularity = popularity.get();
        self.mean_age_days = age.get();
        self.mean_price = price.get();
    }

    fn fill_template(&mut self, schema: &FeatureSchema, input: &UserInput) {
        let events = input.window.events();
        let row = &mut self.template;
        match input.now.div_euclid(3_600_000).rem_euclid(24) {
            0..6 => row[28] = 1.0,
            6..12 => row[29] = 1.0,
            12..18 => row[30] = 1.0,
            _ => {}
        }
        match input.window.segment() {
            Segment::New => row[31] = 1.0,
            Segment::Casual => row[32] = 1.0,
            Segment::Active => row[33] = 1.0,
            Segment::Power => {}
        }
        let count = events.len() as f32;
        let visit = events.iter().rev().take_while(|e| input.now.saturating_sub(e.occurred_at) < VISIT_MILLIS).count();
        row[34] = ln_1p(count);
        row[35] = ln_1p(visit as f32);
        row[36] = events.last().map_or(0.0, |e| ln_1p(input.now.saturating_sub(e.occurred_at) as f32 / 60_000.0));
        let share = |kind| events.iter().filter(|e| e.kind == kind).count() as f32 / count.max(1.0);
        row[37] = share(EventKind::Like);
        row[38] = share(EventKind::Hide);
        for at in context_rows(input.context) {
            row[COLUMNS.len() + at] = 1.0;
        }
        for at in attribute_rows(schema, input.attributes) {
            row[FIXED + at] = 1.0;
        }
    }

    pub(crate) fn width(&self) -> usize {
        self.template.len()
    }

    /// Appends a row for each candidate, which all must be in the table. `position` is the zero-based slot where it was
    /// logged, 0 at serving.
    pub(crate) fn rows(&self, candidates: &[ItemIx], position: u8, out: &mut Vec<f32>) {
        let latent = self.items.dim() - crate::FIXED_COORDINATES;
        let events = self.recent.len();
        let mut similar = vec![0.0; events * candidates.len()];
        if let Some(similarity) = &self.similarity {
            let gathered: Vec<f32> =
                candidates.iter().flat_map(|&ix| &self.items.vector(ix)[..latent]).copied().collect();
            similarity.forward(&gathered, &mut similar);
        }
        for (at, &ix) in candidates.iter().enumerate() {
            let from = out.len();
            out.extend_from_slice(&self.template);
            let row = &mut out[from..];
            self.item(ix, latent, row);
            self.similar(ix, &similar[at * events..(at + 1) * events], row);
            row[POSITION] = ln_1p(f32::from(position));
        }
    }

    fn item(&self, ix: ItemIx, latent: usize, row: &mut [f32]) {
        let vector = self.items.vector(ix);
        row[0] = attune_inference::dot(self.vector, vector);
        row[1] = attune_inference::dot(&self.vector[..latent], &vector[..latent]);
        row[2] = vector[latent + 1];
        let Some((content, stats)) = self.items.content(ix).zip(self.items.stats(ix)) else {
            return;
        };
        let share = |c: &u16| self.profile[*c as usize];
        let count = content.categories.len().max(1) as f32;
        row[9] = content.categories.iter().map(share).sum::<f32>() / count;
        row[10] = content.categories.iter().map(share).fold(0.0, f32::max);
        row[11] = content.categories.first().map_or(0.0, share);
        row[12] = content.categories.iter().filter(|c| self.last_categories.contains(c)).count() as f32 / count;
        row[13] = content.categories.iter().map(|&c| self.hidden[c as usize]).sum::<f32>() / count;
        row[14] = content.categories.len() as f32;
        row[15] = stats.popularity;
        row[16] = stats.recent_popularity;
        row[17] = stats.like_rate;
        row[18] = stats.click_rate;
        row[19] = stats.dwell;
        row[20] = self.mean_popularity.map_or(0.0, |mean| stats.popularity - mean);
        match content.created_at {
            Some(at) => {
                let age = age_days(self.now, at);
                row[21] = ln_1p(age);
                row[23] = self.mean_age_days.map_or(0.0, |mean| (age - mean).abs() / YEAR);
            }
            None => row[22] = 1.0,
        }
        row[24] = content.price.unwrap_or(0.0);
        row[25] = content.price.zip(self.mean_price).map_or(0.0, |(price, mean)| price - mean);
    }

    /// `closeness[k]`: what the k-th newest event alone would add to the item's logit.
    fn similar(&self, ix: ItemIx, closeness: &[f32], row: &mut [f32]) {
        let mut top = [f32::NEG_INFINITY; 3];
        let (mut sum, mut liked, mut last5, mut hidden) = (0.0, 0u32, 0.0, 0.0);
        for (event, &close) in self.recent.iter().zip(closeness) {
            if event.item == ix {
                row[26] = 1.0;
            }
            if event.kind == EventKind::Hide {
                hidden += close;
                continue;
            }
            if liked == 0 {
                row[5] = close;
            }
            if liked < 5 {
                last5 += close;
            }
            sum += close;
            liked += 1;
            if close > top[0] {
                top = [close, top[0], top[1]];
            } else if close > top[1] {
                top = [top[0], close, top[1]];
            } else if close > top[2] {
                top[2] = close;
            }
        }
        row[8] = hidden;
        if liked > 0 {
            row[3] = top[0];
            row[4] = top.iter().take(liked.min(3) as usize).sum::<f32>() / liked.min(3) as f32;
            row[6] = last5 / liked.min(5) as f32;
            row[7] = sum / liked as f32;
        }
    }

    /// Items of the window by how much they alone would add to the item's logit, strongest first.
    pub(crate) fn closest(&self, ix: ItemIx) -> Vec<ItemIx> {
        let latent = self.items.dim() - crate::FIXED_COORDINATES;
        let vector = &self.items.vector(ix)[..latent];
        let liked = self.recent.iter().filter(|e| e.kind != EventKind::Hide);
        let mut close: Vec<(f32, ItemIx)> = liked
            .filter_map(|e| Some((attune_inference::dot(self.items.input(e.item)?, vector), e.item)))
            .filter(|&(close, _)| close > 0.0)
            .collect();
        close.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut seen = Vec::new();
        close.retain(|&(_, item)| {
            !seen.contains(&item) && {
                seen.push(item);
                true
            }
        });
        close.into_iter().map(|(_, item)| item).collect()
    }

    /// Items of the window that share a category with the item, newest first.
    pub(crate) fn same_category(&self, ix: ItemIx) -> Vec<ItemIx> {
        let categories = |ix| self.items.content(ix).map_or(&[][..], |content| &content.categories[..]);
        let own = categories(ix);
        let mut found = Vec::new();
        for event in self.recent.iter().filter(|e| e.kind != EventKind::Hide) {
            if categories(event.item).iter().any(|c| own.contains(c)) && !found.contains(&event.item) {
                found.push(event.item);
            }
        }
        found
    }
}

fn age_days(now: i64, at: i64) -> f32 {
    (now.saturating_sub(at) as f32 / DAY).max(0.0)
}

/// The window's input rows as one packed layer: a candidate's closeness to all events in one pass.
fn similarity(items: &ItemTable, recent: &[WindowEvent]) -> Option<Mlp> {
    let weights: Vec<f32> = recent.iter().filter_map(|e| items.input(e.item)).flatten().copied().collect();
    let latent = items.dim() - crate::FIXED_COORDINATES;
    Mlp::new(latent, &[Layer { weights, bias: vec![0.0; recent.len()] }]).ok()
}

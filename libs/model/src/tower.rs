//! The user tower: window, attributes and context to a vector.
//!
//! Always holds: the vector is a sum of table rows in a fixed order with plain multiply and add, so it has the same
//! bits on every CPU; coordinate `dim - 1` is 1, coordinate `dim - 2` is 1 exactly when the window is empty.

use crate::FIXED_COORDINATES;
use crate::bundle::Bundle;
use crate::items::ItemTable;
use crate::schema::{FeatureSchema, USER_PREFIX};
use crate::sections::{Malformed, Stored, Tensors};
use attune_domain::{Context, Device, EventKind, Geo, PageType, UnixMillis, UserAttributes, UserWindow, WINDOW_EVENTS};

/// Everything a score may depend on besides the item.
#[derive(Debug, Clone, Copy)]
pub struct UserInput<'a> {
    pub window: &'a UserWindow,
    pub attributes: &'a UserAttributes,
    pub context: Context,
    pub now: UnixMillis,
}

pub(crate) const PAGES: usize = PageType::ALL.len();
pub(crate) const DEVICES: usize = Device::ALL.len();
pub(crate) const GEOS: usize = Geo::ALL.len();
pub(crate) const CONTEXT_ROWS: usize = PAGES + DEVICES + GEOS;
pub(crate) const KINDS: usize = EventKind::ALL.len();

/// Rows of the context table that a context adds.
pub(crate) fn context_rows(context: Context) -> [usize; 3] {
    [
        context.page.code() as usize,
        PAGES + context.device.code() as usize,
        PAGES + DEVICES + context.geo.code() as usize,
    ]
}

/// Weights of the tower besides the item table.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct TowerSection {
    /// Weight by age of the event in the window: the newest is 0.
    pub(crate) recency: Vec<f32>,
    /// Weight by [`EventKind`] code; that of `hide` is negative.
    pub(crate) kinds: Vec<f32>,
    /// `CONTEXT_ROWS` rows of latent width.
    pub(crate) context: Vec<f32>,
    /// A row of latent width for every value of every user attribute of the schema, in schema order.
    pub(crate) attributes: Vec<f32>,
}

impl TowerSection {
    /// See [`Bundle::window_vector`].
    pub(crate) fn window_vector(
        &self,
        schema: &FeatureSchema,
        items: &ItemTable,
        window: &UserWindow,
        attributes: &UserAttributes,
        out: &mut [f32],
    ) {
        let latent = out.len() - FIXED_COORDINATES;
        out.fill(0.0);
        let (sum, fixed) = out.split_at_mut(latent);
        for (age, event) in window.events().iter().rev().enumerate() {
            if let Some(row) = items.input(event.item) {
                let weight = self.recency[age] * self.kinds[event.kind.code() as usize];
                add_scaled(sum, weight, row);
            }
        }
        for row in attribute_rows(schema, attributes) {
            add_scaled(sum, 1.0, &self.attributes[row * latent..(row + 1) * latent]);
        }
        fixed[0] = if window.is_empty() { 1.0 } else { 0.0 };
        fixed[1] = 1.0;
    }

    /// See [`Bundle::add_context`].
    pub(crate) fn add_context(&self, context: Context, vector: &mut [f32]) {
        let latent = vector.len() - FIXED_COORDINATES;
        for row in context_rows(context) {
            add_scaled(&mut vector[..latent], 1.0, &self.context[row * latent..(row + 1) * latent]);
        }
    }
}

impl Bundle {
    /// The part of the user vector that depends only on window and attributes; cached with the state. `out` has
    /// [`Bundle::dim`] coordinates and is overwritten.
    pub fn window_vector(&self, items: &ItemTable, window: &UserWindow, attributes: &UserAttributes, out: &mut [f32]) {
        self.tower.window_vector(&self.manifest().schema, items, window, attributes, out);
    }

    /// Adds the context's part to a window vector.
    pub fn add_context(&self, context: Context, vector: &mut [f32]) {
        self.tower.add_context(context, vector);
    }

    /// Window, attributes and context.
    pub fn user_vector(&self, items: &ItemTable, input: &UserInput) -> Vec<f32> {
        let mut vector = vec![0.0; self.dim()];
        self.window_vector(items, input.window, input.attributes, &mut vector);
        self.add_context(input.context, &mut vector);
        vector
    }
}

/// One row of the attribute table per attribute column of the schema; row 0 of a column stands for `missing`, which a
/// value outside the training data's list also reads.
pub(crate) fn attribute_rows(schema: &FeatureSchema, attributes: &UserAttributes) -> impl Iterator<Item = usize> {
    let mut first = 0;
    schema.attribute_columns().map(move |(name, values)| {
        let row = first + value_row(values, attributes.get(&name[USER_PREFIX.len()..]));
        first += values.len();
        row
    })
}

fn value_row(values: &[String], value: Option<&str>) -> usize {
    value.and_then(|value| values.iter().skip(1).position(|v| v == value)).map_or(0, |at| at + 1)
}

pub(crate) fn add_scaled(sum: &mut [f32], weight: f32, row: &[f32]) {
    for (s, &x) in sum.iter_mut().zip(row) {
        *s += weight * x;
    }
}

impl TowerSection {
    pub(crate) fn encode(&self, latent: usize) -> Result<Vec<u8>, Malformed> {
        let mut tensors = Tensors::default();
        tensors.put("recency", &[self.recency.len()], &self.recency);
        tensors.put("kinds", &[self.kinds.len()], &self.kinds);
        tensors.put("context", &[CONTEXT_ROWS, latent], &self.context);
        tensors.put("attributes", &[self.attributes.len() / latent, latent], &self.attributes);
        tensors.encode()
    }

    pub(crate) fn decode(bytes: &[u8], latent: usize, attribute_values: usize) -> Result<Self, Malformed> {
        let stored = Stored::decode(bytes)?;
        Ok(Self {
            recency: stored.take("recency", WINDOW_EVENTS)?,
            kinds: stored.take("kinds", KINDS)?,
            context: stored.take("context", CONTEXT_ROWS * latent)?,
            attributes: stored.take("attributes", attribute_values * latent)?,
        })
    }
}

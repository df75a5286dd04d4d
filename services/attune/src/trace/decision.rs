//! A decision record as text: its path, versions and slots, and how likely each item was to be shown.

use crate::replay::{Materials, MaterialsCache, Source, check, path_name, redraw};
use attune_decision::{DecisionRecord, Path, Policy, Slot, SourceKind, unpack_slots};
use attune_domain::{ItemIx, LevelReason, Variant};
use std::fmt::Write as _;

/// Decisions under other seeds, from which the propensities are estimated.
const DRAWS: u32 = 400;
/// SplitMix64's step, so that seeds of draws are far apart.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The record as lines. What it names is looked up for the items' ids and the propensities.
pub(super) async fn describe(source: &Source, record: &DecisionRecord) -> String {
    let mut out = head(record);
    let slots = unpack_slots(&record.slots, record.items.len());
    let materials = match source.materials(record, &mut MaterialsCache::default()).await {
        Ok(Ok(materials)) => Ok(materials),
        Ok(Err(missing)) => Err(missing),
        Err(error) => Err(crate::output::one_line(&error)),
    };
    let estimated = materials.as_ref().map_err(Clone::clone).and_then(|materials| estimate(record, materials));
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(out, "slots      {} of {} eligible items", record.items.len(), record.eligible);
    match &estimated {
        Ok(Some(_)) => {
            let _ = writeln!(
                out,
                "           propensity: share of {DRAWS} draws with the item on the page, and its standard error"
            );
        }
        Ok(None) => {
            let _ = writeln!(out, "           propensity: 1, nothing is drawn in a list of favourites");
        }
        Err(why) => {
            let _ = writeln!(out, "           propensity: not estimated, {why}");
        }
    }
    for (i, (&item, slot)) in record.items.iter().zip(&slots).enumerate() {
        let id = materials.as_ref().ok().and_then(|m| m.serving.catalogue.get(ItemIx(item)));
        let id = id.map_or_else(|| format!("item number {item}"), |item| item.id.to_string());
        let propensity = match &estimated {
            Ok(Some(shares)) => {
                let share = shares.get(i).copied().unwrap_or(0.0);
                format!("{share:.3} ± {:.3}", (share * (1.0 - share) / f64::from(DRAWS)).sqrt())
            }
            Ok(None) => "1".to_owned(),
            Err(_) => "-".to_owned(),
        };
        let _ = writeln!(out, "  {:>3}  {propensity:15}  {:12}  {id}", i + 1, how(*slot));
    }
    out.pop();
    out
}

fn head(record: &DecisionRecord) -> String {
    let variant = u8::try_from(record.variant).ok().and_then(Variant::from_code).map_or("unknown", Variant::as_str);
    let reason = record.level_reason.checked_sub(1).and_then(|code| u8::try_from(code).ok());
    let reason = reason.and_then(LevelReason::from_code).map(|r| format!(" ({r})")).unwrap_or_default();
    let mut out = String::new();
    let path = path_name(record).unwrap_or("unknown path");
    let _ = writeln!(
        out,
        "decision   {path}, variant {variant}, level {}{reason}, seed {:016x}",
        record.level, record.seed
    );
    let _ = write!(out, "           model {:016x}, catalogue offset {}", record.model, record.catalogue_offset);
    for (what, hash) in [("posteriors", &record.posteriors), ("index", &record.index)] {
        if !hash.is_empty() {
            let _ = write!(out, ", {what} {}", hex(hash));
        }
    }
    out.push('\n');
    if !record.sources.is_empty() {
        let sources = record.sources.iter().map(|source| {
            let name = SourceKind::from_code(source.source).map_or("unknown", SourceKind::as_str);
            match source.outcome {
                0 => format!("{name} {}", source.items.len()),
                1 => format!("{name} late"),
                2 => format!("{name} failed"),
                _ => format!("{name} not asked"),
            }
        });
        let _ = writeln!(out, "sources    {}", sources.collect::<Vec<_>>().join(", "));
    }
    if let Some(policy) = Policy::from_array(&record.policy) {
        let each = f64::from(policy.uniform) / f64::from(record.eligible.max(1));
        let _ = writeln!(
            out,
            "policy     a slot is drawn uniformly with probability {}, each item then with {each:.6}; {} to {} of a page explore",
            policy.uniform, policy.exploration_min, policy.exploration_max
        );
    }
    out
}

/// How often each item of the page is on it under other seeds; nothing where nothing is drawn. The record's own
/// decision must come out as recorded first.
fn estimate(record: &DecisionRecord, materials: &Materials) -> Result<Option<Vec<f64>>, String> {
    if let Some(difference) = check(record, materials) {
        return Err(format!("the decision comes out differently at {}", difference.stage.as_str()));
    }
    if Path::from_code(record.path) == Some(Path::Favourites) {
        return Ok(None);
    }
    let mut shown = vec![0u32; record.items.len()];
    for draw in 1..=u64::from(DRAWS) {
        let seed = record.seed.wrapping_add(draw.wrapping_mul(STEP));
        let decided = redraw(record, materials, seed).ok_or("a draw failed")?;
        for (count, item) in shown.iter_mut().zip(&record.items) {
            *count += u32::from(decided.items.contains(item));
        }
    }
    Ok(Some(shown.into_iter().map(|count| f64::from(count) / f64::from(DRAWS)).collect()))
}

const fn how(slot: Slot) -> &'static str {
    match (slot.uniform, slot.exploration) {
        (true, true) => "uniform, new",
        (true, false) => "uniform",
        (false, true) => "exploration",
        (false, false) => "best",
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

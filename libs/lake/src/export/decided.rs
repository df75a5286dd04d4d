//! Tables whose rows are made of decisions: an hour is written anew until nothing can come to it any more.

use super::{DECISION_GRACE, ExportOptions, ExportProgress, TableReport, place};
use crate::error::LakeError;
use crate::hours::Hours;
use crate::lake::Lake;
use crate::manifest::{HOUR, HourEntry, hour_name, hour_of, hour_start};
use crate::schema::Table;
use crate::source::LakeSource;
use crate::tables::impressions::{Decision, Served};
use crate::training::{self, Evidence, Outcome};
use attune_domain::{ItemId, RequestId, UnixMillis};
use attune_serving::replay_catalogue;
use attune_storage::Topic;
use std::collections::BTreeMap;

/// Decisions in memory at once, with the histories of their visitors.
const CHUNK: usize = 20_000;

pub(super) async fn export(
    lake: &mut Lake,
    source: &dyn LakeSource,
    options: &ExportOptions,
    table: Table,
    report: &mut TableReport,
    progress: &dyn ExportProgress,
) -> Result<(), LakeError> {
    let horizon = match table {
        Table::Training => claim_horizon(lake, options)?,
        _ => 0,
    };
    let settled_before = lake.manifest.entry(table).settled_before;
    let mut settled = hour_of(options.now.saturating_sub(horizon).saturating_sub(DECISION_GRACE)).max(settled_before);
    let mut by_hour: BTreeMap<UnixMillis, Vec<RequestId>> = BTreeMap::new();
    for id in source.decisions_since(settled_before).await? {
        let hour = hour_of(id.unix_millis());
        let is_settled = |hour: &HourEntry| hour.settled;
        let done = lake.manifest.entry(table).hours.get(&hour_name(hour)).is_some_and(is_settled);
        if hour < settled_before || done || id.unix_millis().saturating_add(horizon) >= options.now {
            continue;
        }
        if options.holds(hour) {
            by_hour.entry(hour).or_default().push(id);
        } else {
            settled = settled.min(hour);
        }
    }
    let waiting = by_hour.values().map(|ids| ids.len() as u64).sum();
    progress.table(table, waiting);

    let names = match table {
        Table::Impressions => names(source).await?,
        _ => Vec::new(),
    };
    let mut hours = Hours::new(lake.root(), table);
    let mut outcome = Outcome::default();
    let mut seen = 0;
    for (hour, mut ids) in by_hour {
        ids.sort_unstable();
        for chunk in ids.chunks(CHUNK) {
            let mut decisions = Vec::with_capacity(chunk.len());
            for &id in chunk {
                seen += 1;
                if seen % 256 == 0 {
                    progress.at(seen);
                }
                match decision(source, id).await? {
                    Read::Found(decision) => decisions.push(*decision),
                    Read::Erased => report.erased += 1,
                    Read::Unreadable => report.unreadable += 1,
                }
            }
            if table == Table::Training {
                let evidence = Evidence::read(source, &decisions).await?;
                for row in training::rows(source, &decisions, &evidence, horizon, &mut outcome).await? {
                    hours.push_to(hour, row.decided_at, None, row.into_row())?;
                }
                continue;
            }
            for decision in decisions {
                for row in decision.rows(|item| names.get(item as usize).cloned()) {
                    hours.push_to(hour, decision.decided_at, None, row)?;
                }
            }
        }
    }
    place(lake, table, hours.finish()?, true, report);
    report.training = (table == Table::Training).then_some(outcome);
    let last = options.now.saturating_sub(horizon).saturating_sub(DECISION_GRACE);
    let entry = lake.manifest.entry(table);
    entry.settled_before = settled;
    for (name, hour) in &mut entry.hours {
        let ended = hour_start(name).is_some_and(|start| options.holds(start) && start + HOUR <= last);
        hour.settled |= ended;
    }
    Ok(())
}

/// Rows of one lake have one horizon.
fn claim_horizon(lake: &mut Lake, options: &ExportOptions) -> Result<i64, LakeError> {
    let asked = i64::try_from(options.horizon.as_millis()).unwrap_or(i64::MAX / 4).max(1);
    let entry = lake.manifest.entry(Table::Training);
    if entry.horizon_ms != 0 && entry.horizon_ms != asked {
        return Err(LakeError::OtherHorizon { found: entry.horizon_ms, asked });
    }
    entry.horizon_ms = asked;
    Ok(asked)
}

/// Ids of all items by number.
async fn names(source: &dyn LakeSource) -> Result<Vec<ItemId>, LakeError> {
    let failed = "item updates";
    let end = source.log().bounds(Topic::ItemUpdates).await.map_err(LakeError::source(failed))?.end;
    let catalogue = replay_catalogue(source.log(), end).await.map_err(LakeError::source(failed))?;
    Ok(catalogue.items().iter().map(|item| item.id.clone()).collect())
}

enum Read {
    Found(Box<Decision>),
    Erased,
    Unreadable,
}

async fn decision(source: &dyn LakeSource, id: RequestId) -> Result<Read, LakeError> {
    let Some(record) = source.decision(id).await? else { return Ok(Read::Erased) };
    let state = source.state(&record.state).await?;
    let served = state.map(|state| Served { version: state.version, watermark: state.watermark });
    Ok(Decision::new(record, served).map_or(Read::Unreadable, |decision| Read::Found(Box::new(decision))))
}

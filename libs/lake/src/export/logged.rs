//! Tables whose rows are records of a topic: appended as the log grows.

use super::{ExportOptions, ExportProgress, TableReport, place};
use crate::erasure::Fences;
use crate::error::LakeError;
use crate::hours::Hours;
use crate::lake::Lake;
use crate::manifest::{Offsets, hour_name, hour_of, hour_start};
use crate::row::Row;
use crate::schema::Table;
use crate::source::{LakeSource, UserRecord, attributes_record, scan, user_record};
use crate::tables::Source;
use crate::tables::events::EventRow;
use crate::tables::items::ItemRow;
use crate::tables::users::UserRow;
use attune_domain::UnixMillis;
use attune_proto::{convert, state::v1 as wire};
use attune_storage::{Bounds, Record, Topic, partition_of};
use prost::Message as _;

/// What a record is to a table.
enum Read {
    Row(UnixMillis, Row),
    Erased,
    /// Nothing that has a row.
    Other,
    Unreadable,
}

#[expect(clippy::too_many_arguments, reason = "one call for each topic, each with its own")]
pub(super) async fn export(
    lake: &mut Lake,
    source: &dyn LakeSource,
    options: &ExportOptions,
    table: Table,
    bounds: &[Bounds],
    fences: &Fences,
    report: &mut TableReport,
    progress: &dyn ExportProgress,
) -> Result<(), LakeError> {
    let entry = lake.manifest.entry(table).clone();
    let topic = match table {
        Table::Items => Topic::ItemUpdates,
        Table::Users => Topic::UserUpdates,
        _ => Topic::UserEvents,
    };
    let from = |partition: u16| entry.resume.get(&partition).copied().unwrap_or(0);
    let waiting: u64 = bounds.iter().map(|b| b.end.saturating_sub(from(partition_of(b.end)).max(b.start))).sum();
    progress.table(table, waiting);

    let mut hours = Hours::new(lake.root(), table);
    let mut resume = Offsets::new();
    let mut seen = 0;
    for &partition in bounds {
        let number = partition_of(partition.end);
        let mut first_left_out = partition.end;
        scan(source.log(), topic, partition, from(number), |offset, record| {
            seen += 1;
            if seen % 4_096 == 0 {
                progress.at(seen);
            }
            match read(table, offset, record, fences) {
                Read::Row(at, row) => {
                    let hour = hour_of(at);
                    if !options.holds(hour) {
                        first_left_out = first_left_out.min(offset);
                    } else if entry.hours.get(&hour_name(hour)).and_then(|h| h.scanned.get(&number)) <= Some(&offset) {
                        hours.push(at, Some(offset), row)?;
                    }
                }
                Read::Erased => report.erased += 1,
                Read::Unreadable => report.unreadable += 1,
                Read::Other => {}
            }
            Ok(())
        })
        .await?;
        resume.insert(number, first_left_out);
    }
    place(lake, table, hours.finish()?, false, report);
    let entry = lake.manifest.entry(table);
    let whole = bounds.iter().all(|b| resume.get(&partition_of(b.end)) == Some(&b.end));
    let before = std::mem::replace(&mut entry.resume, resume);
    for (name, hour) in &mut entry.hours {
        if whole {
            // Nothing before `resume` is looked at again.
            hour.scanned.clear();
        } else if hour_start(name).is_some_and(|start| options.holds(start)) {
            hour.scanned = super::ends(bounds);
        } else if hour.scanned.is_empty() {
            hour.scanned.clone_from(&before);
        }
    }
    Ok(())
}

fn read(table: Table, offset: u64, record: &Record, fences: &Fences) -> Read {
    match table {
        Table::Events => match user_record(record) {
            Some(UserRecord::Event(event)) if fences.voids_event(&event.uid, offset) => Read::Erased,
            Some(UserRecord::Event(event)) => Read::Row(event.accepted_at, EventRow { offset, event }.into_row()),
            Some(UserRecord::Erased { .. }) => Read::Other,
            None => Read::Unreadable,
        },
        Table::Users => match attributes_record(record) {
            Some((uid, _, at, _)) if fences.voids_at(&uid, at) => Read::Erased,
            Some((uid, attributes, accepted_at, imported)) => {
                let source = Source::of(imported);
                Read::Row(accepted_at, UserRow { offset, uid, attributes, accepted_at, source }.into_row())
            }
            None => Read::Unreadable,
        },
        _ => match item(offset, record) {
            Some(item) => Read::Row(item.accepted_at, item.into_row()),
            None => Read::Unreadable,
        },
    }
}

fn item(offset: u64, record: &Record) -> Option<ItemRow> {
    let decoded = wire::ItemUpdate::decode(record.value.clone()).ok()?;
    let update = convert::item_update(&decoded).ok()?;
    Some(ItemRow { offset, update, accepted_at: decoded.accepted_at, source: Source::of(decoded.imported) })
}

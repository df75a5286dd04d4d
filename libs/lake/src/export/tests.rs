//! Exports over a log in memory: what is in the lake after ranges, repetitions, late records and erasures.

use super::*;
use crate::import::import;
use crate::manifest::HOUR;
use crate::row::{Row, Value};
use crate::testbed::{Bed, T, event, response};
use attune_domain::EventKind;
use attune_testkit::world;
use std::collections::BTreeSet;
use std::path::Path;

const KEY: &str = "a key";

async fn run(bed: &Bed, root: &Path, range: (Option<i64>, Option<i64>), tables: &[Table]) -> Vec<TableReport> {
    let options = ExportOptions {
        tables: tables.to_vec(),
        since: range.0,
        until: range.1,
        now: T + 10 * HOUR,
        horizon: Duration::from_secs(60),
    };
    let mut lake = Lake::create(root, KEY).unwrap();
    export(&mut lake, bed, &options, &NoExportProgress).await.unwrap()
}

fn rows(root: &Path, table: Table) -> Vec<Row> {
    let lake = Lake::open(root).unwrap();
    let mut rows = Vec::new();
    for part in lake.parts(table) {
        lake.verify(part).unwrap();
        lake.read(table, part, |row| {
            rows.push(row);
            Ok(())
        })
        .unwrap();
    }
    rows
}

/// Event ids, each of which must be there once.
fn ids(root: &Path) -> BTreeSet<String> {
    let rows = rows(root, Table::Events);
    let text =
        |row: &Row| if let Value::Bytes(id) = &row[2] { String::from_utf8(id.clone()).unwrap() } else { panic!() };
    let ids: BTreeSet<_> = rows.iter().map(text).collect();
    assert_eq!(ids.len(), rows.len(), "a row twice");
    ids
}

async fn write(bed: &Bed, n: u64, accepted_at: i64) {
    let happened =
        event(world::uid(n % 5), &format!("e{n}"), EventKind::Click, (n % 100) as u32, (accepted_at - 9, accepted_at));
    bed.write(&happened).await;
}

#[tokio::test]
async fn whatever_ranges_are_asked_for_each_record_comes_once() {
    let first = T.div_euclid(HOUR) * HOUR;
    // In every order of ranges, with records of each hour that come between the runs.
    let ranges = [(None, Some(1)), (Some(1), Some(2)), (Some(2), None), (None, None)];
    for start in 0..ranges.len() {
        let (bed, dir) = (Bed::new(), tempfile::tempdir().unwrap());
        let mut n = 0;
        for turn in 0..6 {
            for hour in 0..4 {
                for k in 0..3 {
                    write(&bed, n, first + hour * HOUR + k * 60_000 + turn).await;
                    n += 1;
                }
            }
            let hour = |hour: Option<i64>| hour.map(|hour| first + hour * HOUR);
            let (since, until) = ranges[(start + turn as usize) % ranges.len()];
            run(&bed, dir.path(), (hour(since), hour(until)), &[Table::Events]).await;
            ids(dir.path());
        }
        run(&bed, dir.path(), (None, None), &[Table::Events]).await;
        assert_eq!(ids(dir.path()).len(), n as usize, "from range {start}");
        let before = std::fs::read(dir.path().join("manifest.json")).unwrap();
        let report = run(&bed, dir.path(), (None, None), &[Table::Events]).await;
        assert_eq!((report[0].rows, report[0].hours.len()), (0, 0));
        assert_eq!(std::fs::read(dir.path().join("manifest.json")).unwrap(), before);
        let hours = std::fs::read_dir(dir.path().join("table=events")).unwrap().count();
        assert!(
            hours >= 1 && Lake::open(dir.path()).unwrap().manifest().table(Table::Events).unwrap().hours.len() == 4
        );
    }
}

#[tokio::test]
async fn a_log_that_cannot_forget_is_obeyed_all_the_same() {
    // Records before the fence stay on the log, as on Kafka.
    let (mut bed, dir) = (Bed::new(), tempfile::tempdir().unwrap());
    bed.items().await;
    let (gone, stays) = (world::uid(1), world::uid(2));
    for n in 0..20 {
        write(&bed, n, T - HOUR + n as i64).await;
    }
    for (n, uid) in [(1, gone), (2, stays)] {
        bed.attributes(uid, &[("age", "30")], T - 100).await;
        let id = bed.decide(n, uid, T - 50, &[7, 8], None);
        bed.write(&response(uid, id, EventKind::Impression, 7, T - 40)).await;
    }
    let personal = [Table::Events, Table::Users, Table::Impressions, Table::Training];
    run(&bed, dir.path(), (None, None), &personal).await;
    let of = |uid: attune_domain::Uid, root: &Path| {
        personal.map(|table| rows(root, table).iter().filter(|row| row[1] == Value::Bytes(uid.0.to_vec())).count())
    };
    let (theirs, others) = (of(gone, dir.path()), of(stays, dir.path()));
    assert_eq!((theirs, others), ([5, 1, 2, 1], [5, 1, 2, 1]));

    bed.erase(gone, T).await;
    bed.decisions.retain(|_, record| record.uid[..] != gone.0);
    bed.write(&event(gone, "back", EventKind::Click, 3, (T + 5, T + 5))).await;
    // Exported again, exported anew, and exported table by table.
    run(&bed, dir.path(), (None, None), &personal).await;
    let fresh = tempfile::tempdir().unwrap();
    for table in personal {
        run(&bed, fresh.path(), (None, None), &[table]).await;
    }
    for root in [dir.path(), fresh.path()] {
        assert_eq!(of(gone, root), [1, 0, 0, 0], "who came back after is somebody new");
        assert_eq!(of(stays, root), others);
    }
    assert!(ids(dir.path()).contains("back"));
}

#[tokio::test]
async fn a_lake_is_read_back_as_it_was_and_bad_rows_are_named() {
    let (bed, dir) = (Bed::new(), tempfile::tempdir().unwrap());
    bed.items().await;
    for n in 0..50 {
        write(&bed, n, T + n as i64).await;
    }
    bed.attributes(world::uid(1), &[("age", "30"), ("plan", "")], T).await;
    run(&bed, dir.path(), (None, None), &[Table::Items, Table::Users, Table::Events]).await;
    let (contents, report) = import(&Lake::open(dir.path()).unwrap(), |_| {}).unwrap();
    assert_eq!((report.items, report.users, report.events, report.rejected_total()), (world::ITEMS, 5, 50, 0));
    assert_eq!(contents.catalogue, bed.serving.catalogue.items());
    assert_eq!(contents.users[0].attributes.get("age"), Some("30"));
    assert_eq!(contents.events[7].event.event_id.as_str(), "e7");

    // An event twice, one about an item that never was, and one about another's id.
    let mut wrong = event(world::uid(1), "wrong", EventKind::Click, 5, (T, T));
    wrong.item_id = world::item(6).id;
    let mut unheard = event(world::uid(1), "unheard", EventKind::Click, 5, (T, T));
    unheard.item = attune_domain::ItemIx(world::ITEMS as u32);
    write(&bed, 3, T + 1_000).await;
    for event in [&wrong, &unheard] {
        bed.write(event).await;
    }
    run(&bed, dir.path(), (None, None), &[Table::Events]).await;
    let (contents, report) = import(&Lake::open(dir.path()).unwrap(), |_| {}).unwrap();
    assert_eq!((contents.events.len(), report.rejected_total()), (50, 3));
    for (reason, column) in
        [("was there before", "event_id"), ("is another item's", "item_id"), ("is not in the table of items", "item")]
    {
        let offence = &report.first_offending[reason][0];
        assert!(offence.column == column && offence.file.starts_with("table=events/date="), "{offence:?}");
        assert!(report.to_string().contains(&format!("{}:{} ({column})", offence.file, offence.row)));
    }

    // A file that is not what was written.
    let lake = Lake::open(dir.path()).unwrap();
    let part = dir.path().join(&lake.parts(Table::Events).next().unwrap().file);
    let mut bytes = std::fs::read(&part).unwrap();
    bytes[40] ^= 1;
    std::fs::write(&part, bytes).unwrap();
    let error = import(&lake, |_| {}).unwrap_err();
    assert!(error.exit_code() == 65 && error.to_string().contains(part.to_str().unwrap()), "{error}");
}

#[tokio::test]
async fn an_export_that_did_not_end_leaves_nothing_and_another_key_is_refused() {
    let (bed, dir) = (Bed::new(), tempfile::tempdir().unwrap());
    write(&bed, 1, T).await;
    run(&bed, dir.path(), (None, None), &[Table::Events]).await;
    let hour = dir.path().join(crate::manifest::hour_folder(Table::Events, crate::manifest::hour_of(T)));
    std::fs::write(hour.join("part-0123456789abcdef.parquet"), "half").unwrap();
    std::fs::write(hour.join(".writing-1"), "half").unwrap();
    run(&bed, dir.path(), (None, None), &[Table::Events]).await;
    assert_eq!(std::fs::read_dir(&hour).unwrap().count(), 1);

    // A first export that was cut off is no reason to refuse the folder; somebody else's files are.
    let (begun, foreign) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::create_dir_all(begun.path().join("table=events/date=2026-01-29")).unwrap();
    assert!(Lake::create(begun.path(), KEY).is_ok());
    std::fs::write(foreign.path().join("thesis.txt"), "mine").unwrap();
    let refused = Lake::create(foreign.path(), KEY).unwrap_err();
    assert!(refused.exit_code() == 65 && refused.to_string().ends_with("neither empty nor a lake"), "{refused}");

    let held = Lake::create(dir.path(), KEY).unwrap();
    assert_eq!(Lake::create(dir.path(), KEY).unwrap_err().exit_code(), 75);
    drop(held);
    assert_eq!(Lake::create(dir.path(), "another").unwrap_err().exit_code(), 65);
}

//! The tables for ClickHouse have the columns of the Parquet files, in their order and of their types.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use attune_lake::{Column, Kind, Table};

const TABLES: &str = include_str!("../../../observability/clickhouse/tables.sql");
const LOAD: &str = include_str!("../../../observability/clickhouse/load.sql");
const ERASE: &str = include_str!("../../../observability/clickhouse/erase.sql");

/// Name and type of each column of a `CREATE TABLE`.
fn declared(sql: &str, table: &str) -> Option<Vec<(String, String)>> {
    let (_, rest) = sql.split_once(&format!("CREATE TABLE IF NOT EXISTS {table}\n(\n"))?;
    let (columns, _) = rest.split_once("\n)\n")?;
    let column = |line: &str| {
        let line = line.trim().trim_end_matches(',');
        let (name, rest) = line.split_once(' ')?;
        let kind = rest.split_once(" COMMENT ").map_or(rest, |(kind, _)| kind);
        Some((name.trim_matches('`').to_owned(), kind.to_owned()))
    };
    columns.lines().map(column).collect()
}

/// Types that hold what the Parquet column holds, and nothing else.
fn types(column: &Column) -> Vec<String> {
    let own = |name: &str| vec![name.to_owned()];
    let plain = match column.kind {
        Kind::U32 => own("UInt32"),
        Kind::U64 => own("UInt64"),
        Kind::I64 => own("Int64"),
        Kind::F32 => own("Float32"),
        Kind::Bool => own("Bool"),
        Kind::Millis => own("DateTime64(3, 'UTC')"),
        Kind::Fixed(bytes) => vec![format!("FixedString({bytes})")],
        Kind::Texts => own("Array(LowCardinality(String))"),
        Kind::Floats => own("Array(Float32)"),
        Kind::Pairs => own("Map(LowCardinality(String), String)"),
        Kind::Text => own("String"),
    };
    let nullable = plain.into_iter().map(|kind| if column.optional { format!("Nullable({kind})") } else { kind });
    let low = |kind: String| {
        if column.kind == Kind::Text { vec![format!("LowCardinality({kind})"), kind] } else { vec![kind] }
    };
    nullable.flat_map(low).collect()
}

/// The first difference between a declaration and the Parquet schema.
fn difference(table: Table, sql: &str) -> Option<String> {
    let Some(declared) = declared(sql, table.as_str()) else { return Some(format!("{table} is not declared")) };
    let columns = table.columns();
    for (column, (name, kind)) in columns.iter().zip(&declared) {
        if column.name != name || !types(column).contains(kind) {
            return Some(format!("{table}: {name} {kind} instead of {} {:?}", column.name, types(column)));
        }
    }
    (columns.len() != declared.len())
        .then(|| format!("{table}: {} columns instead of {}", declared.len(), columns.len()))
}

#[test]
fn clickhouse_has_the_columns_of_the_lake() {
    for table in Table::ALL {
        assert_eq!(difference(table, TABLES), None);
        assert!(LOAD.contains(&format!("INSERT INTO {table} SELECT * FROM file('lake/table={table}/")));
        assert_eq!(ERASE.contains(&format!("DELETE FROM {table} WHERE uid")), table.is_personal());
    }
}

#[test]
fn a_column_that_diverges_is_named() {
    for (from, to, wanted) in [
        ("accepted_at DateTime64(3, 'UTC')", "accepted_at DateTime", "events: accepted_at DateTime "),
        ("    uid FixedString(17)", "    user FixedString(17)", "events: user"),
        ("price Nullable(Int64)", "price Int64", "items: price Int64"),
        ("    f_like_share Float32,\n", "", "training: f_hide_share"),
        (",\n    f_hide_share Float32", "", "training: 61 columns instead of 62"),
    ] {
        assert!(TABLES.contains(from), "{from}");
        let changed = TABLES.replacen(from, to, 1);
        let found: Vec<_> = Table::ALL.into_iter().filter_map(|table| difference(table, &changed)).collect();
        assert!(found.len() == 1 && found[0].starts_with(wanted), "{from}: {found:?}");
    }
}

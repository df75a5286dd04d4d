//! Prints how many durable events a second the embedded event log takes, by calls at once and records a call.

use attune_storage::{DedupKey, EmbeddedEventLog, EventLog, Record, Topic};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Instant;

const RECORDS: usize = 400_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    for (callers, records) in [(1, 1), (1, 100), (8, 100), (32, 10)] {
        let dir = tempfile::tempdir()?;
        let log = Arc::new(EmbeddedEventLog::open(dir.path())?);
        let calls = if records == 1 { 5_000 } else { RECORDS / callers / records };
        let start = Instant::now();
        let tasks: Vec<_> = (0..callers)
            .map(|caller| {
                let log = log.clone();
                tokio::spawn(async move {
                    for n in 0..calls {
                        let batch = (0..records).map(|i| record(caller, n, i)).collect();
                        log.append(Topic::UserEvents, batch).await?;
                    }
                    Ok::<_, attune_storage::StorageError>(())
                })
            })
            .collect();
        for task in tasks {
            task.await??;
        }
        let seconds = start.elapsed().as_secs_f64();
        let total = callers * calls * records;
        println!(
            "callers={callers} records_per_call={records} events_per_s={:.0} ms_per_call={:.3}",
            total as f64 / seconds,
            seconds * 1e3 / calls as f64
        );
    }
    Ok(())
}

/// 256 bytes and an identity, like an event.
fn record(caller: usize, n: usize, i: usize) -> (Record, Option<DedupKey>) {
    let name = [caller, n, i].map(usize::to_le_bytes).concat();
    let mut value = name.repeat(11);
    value.truncate(256);
    let record =
        Record { key: Bytes::from_static(b"a uid has 17 byte"), value: value.into(), traceparent: String::new() };
    (record, Some(DedupKey { day: 20_000, identity: name.into() }))
}

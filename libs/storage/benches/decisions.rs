//! What a decision record costs the embedded log, in CPU time by thread and in bytes: hits of returning visitors,
//! appended as the origin appends them, one batch after the other.
//!
//! `cargo bench -p attune-storage --bench decisions -- [records] [batch] [pages]`, where a visitor's state
//! changes once in so many of their pages. Linux only: it reads `/proc`.

#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use attune_domain::{RequestId, Uid};
use attune_proto::decision::v1::DecisionRecord;
use attune_proto::state::v1::Context;
use attune_storage::{Decision, DecisionEntry, DecisionLog, EmbeddedDecisionLog, ObjectHash, RecordHead};
use bytes::Bytes;
use prost::Message as _;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

/// As in the `attune` binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const VISITORS: u64 = 20_000;
const COHORTS: u64 = 12;
const RECORDS_A_SECOND: u64 = 10_000;
const START: i64 = 1_760_000_000_000;

/// SplitMix64.
fn mix(n: u64) -> u64 {
    let mut z = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn random<const N: usize>(seed: u64) -> [u8; N] {
    std::array::from_fn(|i| (mix(seed ^ (i as u64 / 8) << 56) >> (8 * (i % 8))) as u8)
}

fn object(kind: u64, n: u64, bytes: usize) -> (ObjectHash, Bytes) {
    let content: Vec<u8> = (0..bytes as u64 / 4)
        .flat_map(|i| (mix(kind << 60 ^ n << 16 ^ i) as u32 & 0x00ff_ffff).to_le_bytes())
        .collect();
    (ObjectHash::of(&content), Bytes::from(content))
}

type Batch = (Vec<DecisionEntry>, Vec<(ObjectHash, Bytes)>);

/// Batches as an edge sends them: an object comes with the first record that names it.
fn batches(records: u64, batch: u64, pages_a_state: u64) -> Vec<Batch> {
    let mut pages = vec![0; VISITORS as usize];
    let mut sent = std::collections::HashSet::new();
    let name = |hash: ObjectHash| Bytes::copy_from_slice(&hash.0);
    let mut known: BTreeMap<(u64, u64), (ObjectHash, Bytes)> = BTreeMap::new();
    (0..records)
        .step_by(batch as usize)
        .map(|first| {
            let mut objects = Vec::new();
            let entries = (first..(first + batch).min(records))
                .map(|n| {
                    let visitor = mix(n) % VISITORS;
                    let page = &mut pages[visitor as usize];
                    let state = (visitor << 20) | (*page / pages_a_state);
                    *page += 1;
                    let now = START + (n * 1000 / RECORDS_A_SECOND) as i64;
                    let mut named = |kind, n, bytes| {
                        let (hash, content) = known.entry((kind, n)).or_insert_with(|| object(kind, n, bytes)).clone();
                        if sent.insert(hash) {
                            objects.push((hash, content));
                        }
                        name(hash)
                    };
                    let (id, uid) = (RequestId::new(now, random(n)), Uid(random(visitor | 1 << 50)));
                    let record = DecisionRecord {
                        request_id: Bytes::copy_from_slice(&id.0),
                        uid: Bytes::copy_from_slice(&uid.0),
                        now,
                        seed: mix(n ^ 1 << 40),
                        context: Some(Context { page: 1, device: (n % 3) as u32, geo: (visitor % 40) as u32 }),
                        limit: 10,
                        variant: 1,
                        catalogue_offset: 12_345,
                        model: 0x1234_5678_9abc_def0,
                        posteriors: named(1, n / RECORDS_A_SECOND, 40_000),
                        digests: (0..6).map(|i| if i == 1 { 0 } else { mix(n << 3 | i) }).collect(),
                        items: (0..10).map(|i| (mix(n << 4 | i) % 50_000) as u32).collect(),
                        slots: Bytes::from_static(&[0, 1, 0]),
                        policy: vec![0.02, 20.0, 0.05, 0.3, 0.3, 0.7],
                        eligible: 300,
                        state: named(2, state, 600),
                        own: named(3, state, 800),
                        candidates: named(4, ((visitor % COHORTS) << 20) | (n / (20 * RECORDS_A_SECOND)), 4_000),
                        ..Default::default()
                    };
                    DecisionEntry { request_id: id, uid, record: record.encode_to_vec().into() }
                })
                .collect();
            (entries, objects)
        })
        .collect()
}

/// Nanoseconds on a CPU by thread name.
fn cpu() -> BTreeMap<String, u64> {
    let mut threads = BTreeMap::new();
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let path = task.unwrap().path();
        let name = std::fs::read_to_string(path.join("comm")).unwrap().trim().to_owned();
        let times = std::fs::read_to_string(path.join("schedstat")).unwrap();
        *threads.entry(name).or_default() += times.split(' ').next().unwrap().parse::<u64>().unwrap();
    }
    threads
}

/// A number of `/proc/self/status` or `/proc/self/io`.
fn kernel(file: &str, field: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/self/{file}")).unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix(field)).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn minor_faults() -> u64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    text.rsplit(") ").next().unwrap().split(' ').nth(7).unwrap().parse().unwrap()
}

fn folder_bytes(dir: &Path) -> u64 {
    std::fs::read_dir(dir).unwrap().fold(0, |sum, entry| {
        let entry = entry.unwrap();
        let meta = entry.metadata().unwrap();
        let journal = entry.path().extension().is_some_and(|e| e == "jnl");
        sum + if meta.is_dir() {
            folder_bytes(&entry.path())
        } else if journal {
            0
        } else {
            meta.len()
        }
    })
}

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|a| a.parse::<u64>().ok());
    let (records, batch) = (numbers.next().unwrap_or(400_000), numbers.next().unwrap_or(400));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let dir = tempfile::tempdir_in(std::env::var_os("ATTUNE_BENCH_DIR").unwrap_or_else(|| "/var/tmp".into())).unwrap();
    let batches = batches(records, batch, numbers.next().unwrap_or(5));
    let ids: Vec<(RequestId, Uid)> =
        batches.iter().flat_map(|(entries, _)| entries.iter().map(|e| (e.request_id, e.uid))).collect();
    let record_bytes: usize = batches.iter().flat_map(|(e, _)| e).map(|e| e.record.len()).sum();
    let object_bytes: usize = batches.iter().flat_map(|(_, o)| o).map(|(_, content)| content.len()).sum();
    let sample: Vec<Bytes> = batches.iter().flat_map(|(e, _)| e).take(20_000).map(|e| e.record.clone()).collect();
    let log = EmbeddedDecisionLog::open(dir.path()).unwrap();
    let resident = kernel("status", "VmRSS:");
    let (before, faults, written, clock) = (cpu(), minor_faults(), kernel("io", "write_bytes:"), Instant::now());
    runtime.block_on(async {
        for (entries, objects) in batches {
            log.append(entries, objects).await.unwrap();
        }
    });
    let wall = clock.elapsed();
    let a_record = |n: u64| n as f64 / records as f64;
    println!(
        "{records} records of {} bytes in batches of {batch}, {:.0} object bytes a record, {wall:.1?}",
        record_bytes as u64 / records,
        a_record(object_bytes as u64)
    );
    let mut total = 0;
    for (name, after) in cpu() {
        let spent = after - before.get(&name).copied().unwrap_or(0);
        total += spent;
        println!("  {name:<16} {:7.3} us a record", a_record(spent) / 1e3);
    }
    println!("  {:<16} {:7.3} us a record", "all", a_record(total) / 1e3);
    println!(
        "  faults {:.2}, written {:.0} bytes a record; resident {} kB grown by {} kB",
        a_record(minor_faults() - faults),
        a_record(kernel("io", "write_bytes:") - written),
        kernel("status", "VmRSS:"),
        kernel("status", "VmRSS:") as i64 - resident as i64
    );
    runtime.block_on(async {
        let mut times = Vec::new();
        for n in 0..4_000u64 {
            let (id, _) = ids[(mix(n ^ 1 << 33) % records) as usize];
            let clock = Instant::now();
            assert!(matches!(log.get(id).await.unwrap(), Decision::Found(_)));
            times.push(clock.elapsed());
        }
        times.drain(..2_000);
        times.sort_unstable();
        println!("  get p50 {:.1?}, p99 {:.1?}", times[1_000], times[1_980]);
        let clock = Instant::now();
        let mut erased = 0;
        for n in 0..10 {
            erased += log.erase_user(ids[n * 7].1).await.unwrap();
        }
        println!("  erase {:.1?} a visitor, {erased} records", clock.elapsed() / 10);
        let clock = Instant::now();
        for n in 0..5 {
            assert_eq!(log.erase_user(Uid([n + 1; 17])).await.unwrap(), 0);
        }
        let searched = 5.0 * records as f64 / clock.elapsed().as_secs_f64();
        println!("  search for a visitor {:.0} million records a second", searched / 1e6);
    });
    drop(log);
    let nanos = |read: &dyn Fn(&Bytes)| {
        let rounds = (0..20).map(|_| {
            let clock = Instant::now();
            sample.iter().for_each(read);
            clock.elapsed().as_secs_f64()
        });
        rounds.fold(f64::MAX, f64::min) * 1e9 / sample.len() as f64
    };
    let head = nanos(&|record| {
        black_box(RecordHead::read(record, Some(&mut Vec::with_capacity(10))).unwrap());
    });
    let whole = nanos(&|record| {
        black_box(DecisionRecord::decode(record.clone()).unwrap());
    });
    println!("  read a head {head:.0} ns, decode a record {whole:.0} ns");
    println!("  folder {:.0} bytes a record without the journal", a_record(folder_bytes(dir.path())));
}

//! `cargo xtask bench main`: the run, top to bottom.

use super::metrics::{self, Samples};
use super::report::{Floors, Hits, Latency, Misses, Report, Side, StageTime};
use super::say;
use super::servers::{self, Load, Server};
use super::stats::{Interval, Spread};
use super::workload::{self, HIT_CONNECTIONS, MISS_CONNECTIONS, Method, OPEN_SHARE};
use super::{load::Loaded, prepare, roofline};
use anyhow::{Context as _, bail};
use clap::Args;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// One pause of the machine is a percent of a run's requests; the run in the middle stands for all.
const LATENCY_RUNS: usize = 5;

#[derive(Debug, Args)]
pub(crate) struct MainArgs {
    /// A state folder that `attune up` has filled from MovieLens [default: one prepared under target/bench from --data]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// What to fill a state folder from
    #[arg(long, value_name = "DIR", default_value = "../shared/data/ml-latest-small")]
    data: PathBuf,
    /// Interleaved rounds
    #[arg(long, value_name = "N", default_value_t = 7)]
    rounds: usize,
    /// Seconds of load a side and round
    #[arg(long, value_name = "S", default_value_t = 3.0)]
    seconds: f64,
    /// Known visitors who ask, by user id 1 to N
    #[arg(long, value_name = "N", default_value_t = 600)]
    visitors: u32,
    /// How pages are asked for, of every side alike
    #[arg(long, value_enum, default_value = "post")]
    method: Method,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    /// Write the report into this folder too
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Fail when a floor is missed
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(args: &MainArgs) -> anyhow::Result<ExitCode> {
    if args.rounds == 0 || args.visitors == 0 || args.seconds.is_nan() || args.seconds <= 0.0 {
        bail!("--rounds, --visitors and --seconds must be more than 0");
    }
    if std::thread::available_parallelism().is_ok_and(|cores| cores.get() < 2) {
        bail!("the bench needs two cores: one for the server, one for the load");
    }
    let nginx = servers::find_nginx()?;
    let attune = prepare::build()?;
    let scratch = tempfile::Builder::new()
        .prefix("attune-bench-")
        .tempdir_in(prepare::tmpfs()?)
        .context("make a folder on tmpfs")?;
    let state = prepare::state(args.state.as_deref(), &args.data, &attune)?;
    let report = measure(args, &attune, &nginx, &state, scratch.path())?;
    let json = serde_json::to_string_pretty(&report)?;
    if let Some(dir) = &args.out {
        fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        fs::write(dir.join("bench-main.json"), &json).context("write the report")?;
        fs::write(dir.join("bench-main.txt"), report.to_string()).context("write the report")?;
    }
    let text = if args.json { format!("{json}\n") } else { report.to_string() };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(if args.check && (report.void || !report.floors.all_met()) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn measure(args: &MainArgs, program: &Path, nginx: &Path, state: &Path, scratch: &Path) -> anyhow::Result<Report> {
    let roofline = roofline::probe()?;
    say("starting attune");
    let (attune, admin) = servers::attune(program, state, &[])?;
    let resident_at_rest_mb = attune.resident_mb()?;

    let pages: Vec<String> = (1..=args.visitors).map(|user| workload::page(args.method, user)).collect();
    let hits = workload::write(&scratch.join("hits.json"), &pages)?;
    say("warming");
    for page in &pages {
        servers::capture(&attune.address, page)?;
    }
    let hit_load = Load { requests: &hits, connections: HIT_CONNECTIONS, seconds: args.seconds, rate: None };
    hit_load.put_on(&attune.address)?;
    attune.settled_cpu()?;
    let answer = servers::capture(&attune.address, &pages[0])?;
    let answer_path = scratch.join("answer");
    fs::write(&answer_path, &answer)?;
    let constant = servers::constant(&answer_path)?;
    let peer = servers::nginx(nginx, &scratch.join("nginx"), &constant.address)?;
    for page in &pages {
        servers::capture(&peer.address, page)?;
    }
    let upstream_before = constant.cpu()?;
    Load { seconds: 0.5, ..hit_load }.put_on(&peer.address)?;
    if constant.cpu()? - upstream_before > 0.05 {
        bail!("nginx asks its upstream for what it should have cached");
    }

    let (hits, pages_read) = measure_hits(args, &hit_load, [&attune, &peer, &constant], &admin, answer.len())?;
    let misses = measure_misses(args, scratch, &attune, &admin, &answer)?;
    let resident_mb = attune.resident_mb()?;
    let floors = Floors::of(&hits, &misses, resident_mb);
    let dropped = metrics::grown(&Samples::new(), &pages_read, &["edge_decisions_dropped_total"]);
    Ok(Report {
        void: hits.is_disturbed(),
        rounds: args.rounds,
        seconds: args.seconds,
        visitors: args.visitors,
        method: format!("{:?}", args.method).to_uppercase(),
        roofline,
        hits,
        misses,
        records_dropped: dropped,
        resident_at_rest_mb,
        resident_mb,
        floors,
        load_average: fs::read_to_string("/proc/loadavg").unwrap_or_default().trim().to_owned(),
    })
}

fn measure_hits(
    args: &MainArgs,
    load: &Load<'_>,
    servers: [&Server; 3],
    admin: &str,
    answer_bytes: usize,
) -> anyhow::Result<(Hits, Samples)> {
    let mut rounds: [Vec<(Loaded, f64)>; 3] = Default::default();
    let before = metrics::read(admin)?;
    for round in 0..args.rounds {
        say(&format!("hits, round {} of {}", round + 1, args.rounds));
        let mut order = [0, 1, 2];
        if round % 2 == 1 {
            order.reverse();
        }
        for side in order {
            rounds[side].push(load.cost(servers[side])?);
        }
    }
    let after = metrics::read(admin)?;
    let hit = metrics::grown(&before, &after, &["edge_requests_total", "\"hit\""]);
    let all = metrics::grown(&before, &after, &["edge_requests_total"]);
    let per_second = |side: usize| -> Vec<f64> { rounds[side].iter().map(|(l, cpu)| l.answers as f64 / cpu).collect() };
    let ratio = |to: usize| -> Vec<f64> { per_second(0).iter().zip(per_second(to)).map(|(a, b)| a / b).collect() };
    let saturation =
        |side: usize| -> Vec<f64> { rounds[side].iter().map(|(l, _)| l.answers as f64 / l.seconds).collect() };
    let weakest = (0..2).map(|side| Spread::of(&saturation(side)).median).fold(f64::INFINITY, f64::min);
    let rate = OPEN_SHARE * weakest;
    let mut latencies = Vec::new();
    for server in servers {
        say(&format!("hits at {rate:.0} a second"));
        latencies.push(Latency::of(rate, &load.at_rate(rate, server)?));
    }
    let sides = ["attune", "nginx proxy_cache", "own constant"];
    let sides = sides
        .iter()
        .zip(latencies)
        .enumerate()
        .map(|(side, (name, latency))| {
            let values = per_second(side);
            Side {
                name: (*name).to_owned(),
                per_cpu_second: Spread::of(&values),
                cpu_us: Spread::of(&values.iter().map(|v| 1e6 / v).collect::<Vec<_>>()),
                per_wall_second: Spread::of(&saturation(side)),
                latency,
            }
        })
        .collect();
    let hits = Hits {
        sides,
        of_nginx: Interval::of(&ratio(1)),
        of_constant: Interval::of(&ratio(2)),
        hit_share: hit / all,
        answer_bytes,
        recorded: metrics::grown(&before, &metrics::read(admin)?, &["origin_decisions_stored_total"]),
        answered: metrics::grown(&before, &metrics::read(admin)?, &["edge_requests_total"]),
    };
    Ok((hits, metrics::read(admin)?))
}

fn measure_misses(
    args: &MainArgs,
    scratch: &Path,
    attune: &Server,
    admin: &str,
    answer: &[u8],
) -> anyhow::Result<Misses> {
    let pages = workload::product_pages(args.visitors, answer)?;
    let requests = workload::write(&scratch.join("misses.json"), &pages)?;
    let closed = Load { requests: &requests, connections: MISS_CONNECTIONS, seconds: args.seconds, rate: None };
    say("warming the origin");
    closed.put_on(&attune.address)?;

    say("misses, one at a time");
    let before = metrics::read(admin)?;
    let alone_cpu = attune.settled_cpu()?;
    let alone = Load { connections: 1, ..closed }.put_on(&attune.address)?;
    let alone_cpu = attune.settled_cpu()? - alone_cpu;
    let after = metrics::read(admin)?;
    let stages = metrics::timed(&before, &after)
        .into_iter()
        .map(|(name, observed, seconds)| StageTime {
            name,
            calls_per_miss: observed / alone.answers as f64,
            us_per_miss: seconds * 1e6 / alone.answers as f64,
        })
        .collect();
    let candidates = metrics::grown(&before, &after, &["origin_candidates_sum"])
        / metrics::grown(&before, &after, &["origin_candidates_count"]);

    let before = metrics::read(admin)?;
    let mut rounds = Vec::new();
    for round in 0..args.rounds {
        say(&format!("misses, round {} of {}", round + 1, args.rounds));
        rounds.push(closed.cost(attune)?);
    }
    let saturation = Spread::of(&rounds.iter().map(|(l, _)| l.answers as f64 / l.seconds).collect::<Vec<_>>());
    let rate = OPEN_SHARE * saturation.median;
    let mut latencies = Vec::new();
    for run in 0..LATENCY_RUNS {
        say(&format!("misses at {rate:.0} a second, run {} of {LATENCY_RUNS}", run + 1));
        let loaded = Load { seconds: args.seconds.max(10.0), ..closed }.at_rate(rate, attune)?;
        latencies.push(Latency::of(rate, &loaded));
    }
    latencies.sort_by(|a, b| a.p99_ms.total_cmp(&b.p99_ms));
    let p99_ms = Spread::of(&latencies.iter().map(|latency| latency.p99_ms).collect::<Vec<_>>());
    let after = metrics::read(admin)?;
    let of_misses = metrics::grown(&before, &after, &["edge_requests_total", "\"miss\""])
        / metrics::grown(&before, &after, &["edge_requests_total"]);
    let full = metrics::grown(&before, &after, &["personalization_level_total", "\"0\""])
        / metrics::grown(&before, &after, &["personalization_level_total"]);
    Ok(Misses {
        cpu_us: Spread::of(&rounds.iter().map(|(l, cpu)| cpu * 1e6 / l.answers as f64).collect::<Vec<_>>()),
        per_wall_second: saturation,
        latency: latencies.swap_remove(LATENCY_RUNS / 2),
        p99_ms,
        alone_p50_us: alone.p50,
        alone_cpu_us: alone_cpu * 1e6 / alone.answers as f64,
        candidates,
        miss_share: of_misses,
        full_level_share: full,
        stages,
    })
}

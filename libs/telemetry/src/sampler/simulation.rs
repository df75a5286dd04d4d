//! Traffic through the samplers of five processes: what is kept is whole, and what is counted from it is right.
//!
//! Time is virtual: requests, their calls and their ends are events in one queue. The edge publishes and does not
//! listen, as in production.

use super::*;
use crate::bus::{DecisionSink, MemoryBus};
use parking_lot::Mutex;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, LogNormal};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

const EDGE: usize = 0;
const ORIGIN: usize = 1;
const RETRIEVAL: usize = 2;
const RANKING: usize = 3;
const LLM: usize = 4;
const NAMES: [&str; 5] = ["edge", "origin", "retrieval", "ranking", "llm"];
const TICK_US: u64 = 50_000;
const SLOW_US: u64 = 200_000;

/// The request a part belongs to, and its process.
struct Piece {
    request: usize,
    process: usize,
    floor: Threshold,
    randomness: u64,
}

impl Part for Piece {
    fn bytes(&self) -> usize {
        800
    }

    fn spans(&self) -> usize {
        3
    }

    fn randomness(&self) -> u64 {
        self.randomness
    }

    fn floor(&self) -> Threshold {
        self.floor
    }
}

struct Process {
    sampler: Sampler<Piece>,
    now_us: AtomicU64,
    out: Mutex<Vec<Settled<Piece>>>,
}

impl Process {
    fn now(&self) -> Duration {
        Duration::from_micros(self.now_us.load(Relaxed))
    }
}

impl DecisionSink for Process {
    fn hear(&self, decisions: &[Decision]) {
        self.sampler.hear(decisions, self.now(), 0, &mut self.out.lock());
    }
}

/// What happens to requests.
#[derive(Clone, Copy)]
struct World {
    per_second: f64,
    /// Of all requests.
    edge_only: f64,
    /// Of those that reach the origin.
    llm: f64,
    ranking_fails: f64,
    falls_back: f64,
    /// Failures come in bursts of this many seconds, every other time.
    bursts: Option<u64>,
}

const USUAL: World =
    World { per_second: 2_000.0, edge_only: 0.82, llm: 0.05, ranking_fails: 0.006, falls_back: 0.02, bursts: None };

/// One request: what was to happen, and what became of its parts.
struct Request {
    id: RequestId,
    begun: u64,
    took: u64,
    processes: u8,
    fails: bool,
    edge_fails: bool,
    llm: bool,
    falls_back: bool,
    standing: [Option<Arc<Standing>>; 5],
    settled: u8,
    kept: u8,
    thresholds: [Option<Threshold>; 5],
}

impl Request {
    fn class(&self) -> Class {
        match self {
            Self { fails: true, .. } | Self { edge_fails: true, .. } => Class::Error,
            Self { took, .. } if *took > SLOW_US => Class::Slow,
            Self { llm: true, .. } => Class::Llm,
            Self { falls_back: true, .. } => Class::Degraded,
            Self { processes: 1, .. } => Class::EdgeOnly,
            _ => Class::Normal,
        }
    }

    /// What the root's span says it stands for.
    fn weight(&self) -> f64 {
        self.thresholds[EDGE].map_or(f64::NAN, Threshold::weight)
    }

    fn kept_at_edge(&self) -> bool {
        self.kept & 1 << EDGE != 0
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Arrives,
    Calls(usize, usize),
    Answers(usize, usize),
    Ends,
}

fn simulate(seed: u64, count: usize, world: World) -> Vec<Request> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let policy = Policy { normal: Threshold::of_share(0.01), edge_only: Threshold::of_share(0.001) };
    let bus = Arc::new(MemoryBus::default());
    let processes: Vec<Arc<Process>> = (0..NAMES.len())
        .map(|process| {
            let limits = TailLimits {
                bytes: 64 << 20,
                traces: 65_536,
                wait: Duration::from_secs(5),
                short_wait: Duration::from_secs(1),
                slow_after: Duration::from_micros(SLOW_US),
                age: Duration::from_secs(30),
            };
            let sampler = Sampler::new(policy, limits, 200, process as u32 + 1);
            assert!(sampler.outbox().attach(bus.clone()));
            Arc::new(Process { sampler, now_us: AtomicU64::new(0), out: Mutex::default() })
        })
        .collect();
    let sinks: Vec<Arc<dyn DecisionSink>> = processes.iter().map(|p| p.clone() as Arc<dyn DecisionSink>).collect();
    sinks.iter().enumerate().skip(1).for_each(|(process, sink)| bus.subscribe(process as u32 + 1, sink));

    let latency = LogNormal::new(3.6, 0.62).unwrap();
    let mut requests: Vec<Request> = Vec::with_capacity(count);
    let mut at = 0.0;
    for _ in 0..count {
        at += -(1.0 - rng.random::<f64>()).ln() / world.per_second * 1e6;
        let begun = at as u64;
        let edge_only = rng.random_bool(world.edge_only);
        let stormy = world.bursts.is_none_or(|seconds| begun / 1_000_000 / seconds % 2 == 1);
        let llm = !edge_only && rng.random_bool(world.llm);
        let fails = !edge_only && stormy && rng.random_bool(world.ranking_fails);
        let ms: f64 = latency.sample(&mut rng) * if llm { 3.0 } else { 1.0 };
        let took = if edge_only { rng.random_range(300..3_000) } else { (ms.min(1_500.0) * 1e3) as u64 + 5_000 };
        requests.push(Request {
            id: RequestId::new(begun as i64 / 1_000, rng.random()),
            begun,
            took,
            processes: if edge_only { 1 } else { 0b1111 | u8::from(llm) << LLM },
            fails,
            edge_fails: rng.random_bool(0.0005),
            llm,
            falls_back: !edge_only && rng.random_bool(world.falls_back),
            standing: Default::default(),
            settled: 0,
            kept: 0,
            thresholds: [None; 5],
        });
    }

    let mut queue: BinaryHeap<Reverse<(u64, usize, Step)>> = BinaryHeap::new();
    let (mut next, mut tick) = (0, TICK_US);
    loop {
        let arrival = requests.get(next).map(|request| request.begun);
        let event = queue.peek().map(|Reverse((at, ..))| *at);
        let (now, request, step) = match (arrival, event) {
            (Some(arrival), event) if event.is_none_or(|event| arrival <= event) => {
                next += 1;
                (arrival, next - 1, Step::Arrives)
            }
            (_, Some(_)) => match queue.pop() {
                Some(Reverse(event)) => event,
                None => break,
            },
            _ => break,
        };
        while tick <= now {
            for process in &processes {
                process.now_us.store(tick, Relaxed);
                process.sampler.tick(process.now(), 0, &mut process.out.lock());
            }
            collect(&processes, &mut requests);
            tick += TICK_US;
        }
        processes.iter().for_each(|process| process.now_us.store(now, Relaxed));
        take_step(&processes, &mut requests[request], request, now, step, &mut queue);
        collect(&processes, &mut requests);
    }
    for _ in 0..120 {
        tick += TICK_US;
        for process in &processes {
            process.now_us.store(tick, Relaxed);
            process.sampler.tick(process.now(), 0, &mut process.out.lock());
        }
        collect(&processes, &mut requests);
    }
    for process in &processes {
        assert_eq!(process.sampler.store().load().now(), [0; 3]);
        assert_eq!(process.sampler.store().pressure().counts(), [0; 2]);
        assert_eq!(process.sampler.outbox().lost(), 0);
    }
    requests
}

fn take_step(
    processes: &[Arc<Process>],
    request: &mut Request,
    index: usize,
    now: u64,
    step: Step,
    queue: &mut BinaryHeap<Reverse<(u64, usize, Step)>>,
) {
    let mut plan = |after: u64, step| queue.push(Reverse((now + after, index, step)));
    let at = Duration::from_micros(now);
    let randomness = request.id.randomness();
    match step {
        Step::Arrives => {
            let edge = &processes[EDGE];
            let standing = edge.sampler.begin(request.id, randomness, None, at, &mut edge.out.lock());
            request.standing[EDGE] = standing;
            if request.processes == 1 {
                return plan(request.took, Step::Ends);
            }
            let tenth = request.took / 10;
            plan(1_000, Step::Calls(EDGE, ORIGIN));
            plan(tenth + 1_000, Step::Calls(ORIGIN, RETRIEVAL));
            plan(tenth * 3, Step::Answers(RETRIEVAL, ORIGIN));
            plan(tenth * 4, Step::Calls(ORIGIN, RANKING));
            plan(tenth * 6, Step::Answers(RANKING, ORIGIN));
            if request.llm {
                plan(tenth * 6 + 1, Step::Calls(ORIGIN, LLM));
                plan(tenth * 9, Step::Answers(LLM, ORIGIN));
            }
            plan(request.took - 1_000, Step::Answers(ORIGIN, EDGE));
            plan(request.took, Step::Ends);
        }
        Step::Calls(caller, callee) => {
            let from = &processes[caller];
            let standing = request.standing[caller].clone().unwrap();
            let mut out = from.out.lock();
            from.sampler.watch(&standing, at, &mut out);
            if callee == LLM {
                from.sampler.promote(&standing, Class::Llm, at, &mut out);
            }
            let flags = standing.flags(from.sampler.policy());
            drop(out);
            let to = &processes[callee];
            let flags = Some(flags.unwrap_or(Threshold::NEVER));
            request.standing[callee] = to.sampler.begin(request.id, randomness, flags, at, &mut to.out.lock());
        }
        Step::Answers(callee, caller) => {
            let failed = request.fails && matches!(callee, RANKING | ORIGIN);
            let falls_back = request.falls_back && callee == ORIGIN;
            let verdict = end(processes, request, index, callee, at, failed, falls_back);
            let to = &processes[caller];
            let standing = request.standing[caller].clone().unwrap();
            to.sampler.learn(&standing, verdict, at, &mut to.out.lock());
        }
        Step::Ends => {
            let failed = request.fails || request.edge_fails;
            end(processes, request, index, EDGE, at, failed, false);
        }
    }
}

/// Ends a local root as the recorder does, and gives what goes into the answer.
fn end(
    processes: &[Arc<Process>],
    request: &mut Request,
    index: usize,
    process: usize,
    now: Duration,
    failed: bool,
    falls_back: bool,
) -> Verdict {
    let Process { sampler, out, .. } = &*processes[process];
    let mut out = out.lock();
    let standing = request.standing[process].take().unwrap();
    if failed {
        sampler.promote(&standing, Class::Error, now, &mut out);
    }
    if falls_back {
        sampler.degrade(&standing, NAMES[process], "bandit_unavailable", now, &mut out);
    }
    if process == EDGE && request.took > SLOW_US {
        sampler.promote(&standing, Class::Slow, now, &mut out);
    }
    let base = if request.processes == 1 { Base::EdgeOnly } else { Base::Normal };
    let randomness = standing.randomness();
    let piece = Piece { request: index, process, floor: standing.floor(), randomness };
    let verdict = standing.verdict();
    match sampler.end_alone(&standing, base, now) {
        Some(outcome) => out.push(Settled { part: piece, outcome, waited: Duration::ZERO }),
        None => sampler.end(&standing, piece, now, &mut out),
    }
    verdict
}

fn collect(processes: &[Arc<Process>], requests: &mut [Request]) {
    for process in processes {
        for settled in process.out.lock().drain(..) {
            let request = &mut requests[settled.part.request];
            let bit = 1 << settled.part.process;
            assert_eq!(request.settled & bit, 0, "settled twice");
            request.settled |= bit;
            request.kept |= if settled.outcome.keep { bit } else { 0 };
            request.thresholds[settled.part.process] = Some(settled.outcome.threshold);
        }
    }
}

/// All of a trace's parts leave, all of them are kept or none, and those kept stand for the same number.
fn check_whole(requests: &[Request]) {
    for request in requests {
        assert_eq!(request.settled, request.processes);
        if request.kept != 0 {
            assert_eq!(request.kept, request.processes, "{:?} {:?}", request.class(), request.thresholds);
            let mut thresholds = request.thresholds.iter().flatten();
            let first = thresholds.next();
            assert!(thresholds.all(|t| Some(t) == first), "{:?} {:?}", request.class(), request.thresholds);
        }
    }
}

/// An estimated total beside the true one and its standard deviation, for everything that one would count.
fn totals(requests: &[Request], weight: impl Fn(&Request) -> f64) -> Vec<(String, f64, f64, f64)> {
    let mut rows = Vec::new();
    let mut row = |name: &str, value: &dyn Fn(&Request) -> f64| {
        let (mut truth, mut estimate, mut variance) = (0.0, 0.0, 0.0);
        for request in requests {
            let x = value(request);
            truth += x;
            // Of the unbiased estimator: each trace is in with probability 1/w, and then counts w times.
            variance += x * x * (request.weight() - 1.0);
            estimate += if request.kept_at_edge() { x * weight(request) } else { 0.0 };
        }
        rows.push((name.to_owned(), truth, estimate, f64::sqrt(variance)));
    };
    for class in Class::ALL {
        row(class.as_str(), &|request| f64::from(request.class() == class));
    }
    row("all", &|_| 1.0);
    row("fallbacks", &|request| f64::from(request.falls_back));
    row("seconds", &|request| request.took as f64 / 1e6);
    rows
}

/// Prints the rows; gives the names of those that are further off than three standard deviations.
fn off(title: &str, rows: &[(String, f64, f64, f64)]) -> Vec<String> {
    let mut names = Vec::new();
    for (name, truth, estimate, sigma) in rows.iter().filter(|(_, truth, ..)| *truth > 0.0) {
        let off = (estimate - truth).abs();
        println!(
            "{title:<8} {name:<10} true {truth:>10.0}  estimated {estimate:>10.0}  {:>+7.2} %  3 sigma {:>6.2} %",
            (estimate - truth) / truth * 100.0,
            3.0 * sigma / truth * 100.0
        );
        if off > 3.0 * sigma + 1e-6 * truth {
            names.push(name.clone());
        }
    }
    names
}

/// What one would do without the final threshold: what the head took counts for what the head says, and what was
/// promoted counts once.
fn naive(request: &Request) -> f64 {
    let policy = Policy { normal: Threshold::of_share(0.01), edge_only: Threshold::of_share(0.001) };
    if request.class() == Class::EdgeOnly {
        policy.edge_only.weight()
    } else if policy.head(request.id.randomness()) {
        policy.normal.weight()
    } else {
        1.0
    }
}

#[test]
fn totals_are_right_and_the_naive_weights_are_not() {
    let mut runs = Vec::new();
    for seed in 1..=10 {
        let requests = simulate(seed, 1_000_000, USUAL);
        check_whole(&requests);
        for request in requests.iter().filter(|r| matches!(r.class(), Class::Error | Class::Slow | Class::Llm)) {
            assert_eq!((request.kept, request.weight()), (request.processes, 1.0), "{:?}", request.class());
        }
        assert_eq!(off(&format!("run {seed}"), &totals(&requests, Request::weight)), [""; 0]);
        let wrong = off("naive", &totals(&requests, naive));
        assert!(["error", "slow", "llm"].iter().all(|class| wrong.iter().any(|name| name == class)), "{wrong:?}");
        runs.push(totals(&requests, Request::weight));
    }
    // Together they must come closer.
    let mut all = runs.pop().unwrap();
    for run in runs {
        for (sum, row) in all.iter_mut().zip(run) {
            *sum = (row.0, sum.1 + row.1, sum.2 + row.2, f64::hypot(sum.3, row.3));
        }
    }
    assert_eq!(off("all", &all), [""; 0]);
}

/// Far above the budget, in bursts: fewer are kept, with thresholds that differ between processes and seconds; each
/// trace is still whole, and the totals are still right.
#[test]
fn above_the_budget_totals_are_still_right() {
    let storm = World { per_second: 10_000.0, ranking_fails: 0.6, bursts: Some(5), ..USUAL };
    for seed in 1..=3 {
        let requests = simulate(seed, 1_000_000, storm);
        check_whole(&requests);
        let errors: Vec<_> = requests.iter().filter(|r| r.class() == Class::Error).collect();
        let kept = errors.iter().filter(|r| r.kept != 0).count();
        println!("{kept} of {} errors kept", errors.len());
        // Every other five seconds have some 1,080 a second. The first of them is kept whole, the others within the budget.
        assert!(kept < errors.len() / 2, "{kept} of {}", errors.len());
        assert_eq!(off("storm", &totals(&requests, Request::weight)), [""; 0]);
        assert!(off("naive", &totals(&requests, naive)).contains(&"error".to_owned()));
    }
}

/// One dead dependency: every page falls back, at most one trace a second and service is kept for it, and the rest
/// counts as what it is.
#[test]
fn a_dead_dependency_promotes_one_trace_a_second() {
    let dead = World { falls_back: 1.0, ranking_fails: 0.0, llm: 0.0, ..USUAL };
    let requests = simulate(1, 400_000, dead);
    check_whole(&requests);
    let seconds = requests.last().unwrap().begun / 1_000_000 + 1;
    let promoted = requests.iter().filter(|r| r.class() == Class::Degraded && r.kept != 0 && r.weight() == 1.0).count();
    println!("{promoted} promoted in {seconds} s");
    assert!(promoted as u64 <= seconds && promoted as u64 > seconds * 8 / 10, "{promoted} in {seconds} s");
    assert_eq!(off("dead", &totals(&requests, Request::weight)), [""; 0]);
}

/// A page asks the llm for each of its items: that is one trace of the budget, not ten.
#[test]
fn a_trace_of_many_calls_asks_the_governor_once() {
    let policy = Policy { normal: Threshold::of_share(0.01), edge_only: Threshold::of_share(0.001) };
    let limits = TailLimits {
        bytes: 64 << 20,
        traces: 65_536,
        wait: Duration::from_secs(5),
        short_wait: Duration::from_secs(1),
        slow_after: Duration::from_micros(SLOW_US),
        age: Duration::from_secs(30),
    };
    let sampler = Sampler::<Piece>::new(policy, limits, 200, 1);
    let mut out = Vec::new();
    for trace in 0..1_000u64 {
        let now = Duration::from_millis(trace * 10);
        let id = RequestId(u128::from(trace * 0x0101).to_be_bytes());
        for _ in 0..10 {
            let randomness = id.randomness();
            let standing = sampler.begin(id, randomness, Some(Threshold::NEVER), now, &mut out).unwrap();
            sampler.promote(&standing, Class::Llm, now, &mut out);
            let piece = Piece { request: 0, process: LLM, floor: standing.floor(), randomness };
            sampler.end(&standing, piece, now, &mut out);
        }
    }
    assert_eq!(out.len(), 10_000);
    assert!(out.iter().all(|settled| settled.outcome.keep && settled.outcome.class == Class::Llm));
}

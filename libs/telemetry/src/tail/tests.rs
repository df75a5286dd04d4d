use super::*;
use crate::sampling::{Class, SharedVerdict};
use std::sync::Arc;

const WAIT: Duration = Duration::from_secs(5);
const ERROR: Verdict = Verdict { threshold: Threshold::ALWAYS, reasons: 8 };

#[derive(Clone, Debug)]
struct Live(Arc<SharedVerdict>);

impl Recording for Live {
    fn learn(&self, verdict: Verdict) {
        self.0.merge(verdict);
    }

    fn note_asked(&self, _: u8) {}

    fn bytes(&self) -> usize {
        10_000
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

#[derive(Debug)]
struct Spans {
    name: &'static str,
    bytes: usize,
    floor: Threshold,
    randomness: u64,
}

impl Part for Spans {
    fn bytes(&self) -> usize {
        self.bytes
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

/// A store, its time, and what came out.
struct Bench {
    store: TailStore<Live, Spans>,
    now: Duration,
    out: Vec<Settled<Spans>>,
}

impl Bench {
    fn new(bytes: usize) -> Self {
        let policy = Policy { normal: Threshold::of_share(0.01), edge_only: Threshold::of_share(0.001) };
        let limits = TailLimits {
            bytes,
            traces: 65_536,
            wait: WAIT,
            short_wait: Duration::from_secs(1),
            slow_after: Duration::from_millis(200),
            age: Duration::from_secs(30),
        };
        Self { store: TailStore::new(policy, limits), now: Duration::from_secs(100), out: Vec::new() }
    }

    fn pass(&mut self, ms: u64) -> Due<Live> {
        self.now += Duration::from_millis(ms);
        self.store.sweep(self.now, &mut self.out)
    }

    fn watch(&mut self, id: RequestId) -> Live {
        let live = Live(Arc::new(SharedVerdict::new(Verdict::NONE)));
        self.store.watch(id, id.randomness(), live.clone(), self.now, &mut self.out);
        live
    }

    fn end_as(&mut self, id: RequestId, live: &Live, name: &'static str, end: End) {
        let part = part(name, id);
        self.store.end(id, live, live.0.get(), part, end, self.now, &mut self.out);
    }

    fn end(&mut self, id: RequestId, live: &Live, name: &'static str) {
        self.end_as(id, live, name, End::Call);
    }

    fn hear(&mut self, id: RequestId, verdict: Verdict) -> Heard {
        self.store.hear(id, verdict, 0, self.now, &mut self.out)
    }

    /// Name, threshold and fate of what came out since the last call.
    fn settled(&mut self) -> Vec<(&'static str, String, bool)> {
        let facts = |s: Settled<Spans>| (s.part.name, s.outcome.threshold.to_string(), s.outcome.keep);
        std::mem::take(&mut self.out).into_iter().map(facts).collect()
    }

    fn is_empty(&self) -> bool {
        self.store.load().now() == [0; 3]
    }
}

fn part(name: &'static str, id: RequestId) -> Spans {
    Spans { name, bytes: 1_000, floor: Threshold::ALWAYS, randomness: id.randomness() }
}

/// An id that the head wants, or does not; `n` tells them apart and spreads them.
fn id(n: u64, head: bool) -> RequestId {
    let randomness = n.wrapping_mul(0x0101) & 0x00ff_ffff | if head { 0xff << 48 } else { 0 };
    RequestId((u128::from(n) << 64 | u128::from(randomness)).to_be_bytes())
}

fn always(name: &'static str) -> (&'static str, String, bool) {
    (name, "0".into(), true)
}

#[test]
fn without_a_verdict_the_head_decides_after_the_wait() {
    let mut bench = Bench::new(1 << 20);
    for (n, head) in [(1, false), (2, true)] {
        let live = bench.watch(id(n, head));
        bench.end(id(n, head), &live, "part");
    }
    bench.pass(4_990);
    assert!(bench.settled().is_empty());
    bench.pass(10);
    assert_eq!(bench.settled(), [("part", "fd70a4".into(), false), ("part", "fd70a4".into(), true)]);
    assert!(bench.is_empty());
}

#[test]
fn a_promotion_reaches_what_ended_what_runs_and_what_comes() {
    let mut bench = Bench::new(1 << 20);
    let trace = id(1, false);
    let (first, second) = (bench.watch(trace), bench.watch(trace));
    bench.end(trace, &first, "ended");
    assert_eq!(bench.hear(trace, ERROR), Heard::Applied);
    assert_eq!(bench.settled(), [always("ended")]);
    assert_eq!(second.0.get(), ERROR);
    bench.end(trace, &second, "running");
    assert_eq!(bench.settled(), [always("running")]);
    assert!(bench.is_empty());
    // A further call of the same trace, after this process had forgotten all but the verdict.
    let third = bench.watch(trace);
    assert_eq!(third.0.get(), ERROR);
    bench.end(trace, &third, "coming");
    assert_eq!(bench.settled(), [always("coming")]);
    // The decision before the call that it is about.
    assert_eq!(bench.hear(id(2, false), ERROR), Heard::Unknown);
    let live = bench.watch(id(2, false));
    bench.end(id(2, false), &live, "told before");
    assert_eq!(bench.settled(), [always("told before")]);
    assert!(bench.is_empty());
}

#[test]
fn a_governed_threshold_waits_for_a_smaller_one() {
    let mut bench = Bench::new(1 << 20);
    let trace = RequestId((3u128 << 120 | 0x99 << 48).to_be_bytes());
    let threshold = |digits| Verdict { threshold: Threshold::parse(digits).unwrap(), reasons: 8 };
    for smaller in [None, Some("4")] {
        let trace = RequestId((u128::from_be_bytes(trace.0) + u128::from(smaller.is_some())).to_be_bytes());
        let live = bench.watch(trace);
        live.learn(threshold("8"));
        bench.end(trace, &live, "part");
        bench.pass(2_000);
        if let Some(digits) = smaller {
            bench.hear(trace, threshold(digits));
        }
        assert!(bench.settled().is_empty());
        bench.pass(3_000);
        assert_eq!(bench.settled(), [("part", smaller.unwrap_or("8").to_owned(), true)]);
    }
}

#[test]
fn the_end_of_the_trace_settles_every_part_of_it() {
    let mut bench = Bench::new(1 << 20);
    for (n, head) in [(1, false), (2, true)] {
        let trace = id(n, head);
        let (root, callee, hedge) = (bench.watch(trace), bench.watch(trace), bench.watch(trace));
        bench.end(trace, &callee, "callee");
        bench.end_as(trace, &root, "root", End::Trace);
        let one_percent = |name| (name, "fd70a4".to_owned(), head);
        assert_eq!(bench.settled(), [one_percent("callee"), one_percent("root")]);
        bench.end(trace, &hedge, "hedge");
        assert_eq!(bench.settled(), [one_percent("hedge")]);
    }
    assert!(bench.is_empty());
    // Promoted by a part that outlived the root: what is gone is gone, and said to be.
    assert_eq!(bench.hear(id(1, false), ERROR), Heard::Late);
    assert_eq!(bench.hear(id(1, false), ERROR), Heard::Unknown, "once");
}

#[test]
fn late_spans_inherit_and_never_leak() {
    let mut bench = Bench::new(1 << 20);
    let late = |bench: &mut Bench, trace| {
        let was = bench.store.late(trace, part("late", trace), bench.now, &mut bench.out);
        (was, bench.settled())
    };
    let (kept, dropped, unknown) = (id(1, true), id(2, false), id(3, true));
    for trace in [kept, dropped] {
        let live = bench.watch(trace);
        bench.end(trace, &live, "part");
    }
    let was = late(&mut bench, dropped);
    assert_eq!((was.0, was.1.len()), (Late::Held, 0));
    bench.pass(5_000);
    let mut settled = bench.settled();
    settled.sort();
    assert_eq!(
        settled.iter().map(|s| (s.0, s.2)).collect::<Vec<_>>(),
        [("late", false), ("part", false), ("part", true)]
    );
    assert_eq!(late(&mut bench, kept), (Late::Keep, vec![("late", "fd70a4".into(), true)]));
    assert_eq!(late(&mut bench, dropped), (Late::Drop, vec![("late", "fd70a4".into(), false)]));
    assert_eq!(late(&mut bench, unknown), (Late::Unknown, vec![]));
    bench.pass(30_000);
    assert_eq!(late(&mut bench, kept), (Late::Unknown, vec![]), "verdicts are remembered for 30 s");
    assert!(bench.is_empty());
}

#[test]
fn what_is_slow_or_too_old_is_named() {
    let mut bench = Bench::new(1 << 20);
    let (slow, quick) = (bench.watch(id(1, false)), bench.watch(id(2, false)));
    bench.end(id(2, false), &quick, "quick");
    assert!(bench.pass(190).slow.is_empty());
    let due = bench.pass(10);
    assert!(due.slow.len() == 1 && due.slow[0].is(&slow) && due.aged.is_empty());
    assert_eq!(bench.store.load().now()[0], 1_000 + 10_000, "by now it is known how much it holds");
    bench.settled();
    slow.learn(ERROR);
    bench.hear(id(1, false), ERROR);
    assert!(bench.pass(29_790).aged.is_empty());
    let due = bench.pass(10);
    assert!(due.aged.len() == 1 && due.aged[0].is(&slow));
    assert!(bench.is_empty());
    bench.settled();
    bench.end(id(1, false), &slow, "long");
    assert_eq!(bench.settled(), [always("long")]);
}

/// Twice the load that fits: bytes stay below the bound, what the head or a promotion wants stays, the rest goes whole
/// and oldest first.
#[test]
fn pressure_sheds_in_order() {
    let bound = 300_000;
    let mut bench = Bench::new(bound);
    let (mut most, mut promoted, mut heads) = (0, 0, 0);
    let mut kept = [0; 2];
    for n in 0..20_000 {
        let head = n % 100 == 0;
        let trace = id(n, head);
        if bench.store.admit(trace.randomness(), Threshold::NEVER).is_none() {
            assert!(!head, "stress mode does not concern the head");
            continue;
        }
        heads += u64::from(head);
        let live = bench.watch(trace);
        // Governed, so that it has to wait.
        if n % 50 == 7 {
            promoted += 1;
            live.learn(Verdict { threshold: Threshold::parse("00000000000001").unwrap(), reasons: 8 });
        }
        bench.end(trace, &live, "part");
        most = most.max(bench.store.load().now()[0]);
        if n % 50 == 0 {
            bench.pass(50);
        }
        for settled in bench.out.drain(..) {
            let class = settled.outcome.class;
            kept[usize::from(class == Class::Error)] += u64::from(settled.outcome.keep);
            assert!(settled.waited >= Duration::from_secs(1) || class == Class::Normal && !settled.outcome.keep);
        }
    }
    bench.store.drain(bench.now, &mut bench.out);
    bench.out.iter().for_each(|s| kept[usize::from(s.outcome.class == Class::Error)] += u64::from(s.outcome.keep));
    let [evicted, refused] = bench.store.pressure().counts();
    println!("most {most} bytes, {evicted} evicted, {refused} refused");
    // One part and one reservation may be on top of it.
    assert!(most <= bound + 1_000 + RESERVED, "{most}");
    assert!(evicted > 10_000 && bench.store.pressure().short_wait());
    assert_eq!(refused, 0);
    assert!(promoted > 0);
    assert_eq!(kept, [heads, promoted]);
    assert!(bench.is_empty());
}

/// What was dropped for room and turns out to be wanted is counted; what was dropped at the end of its time is not.
#[test]
fn a_promotion_after_an_eviction_is_counted() {
    let mut bench = Bench::new(100_000);
    for n in 0..400 {
        let live = bench.watch(id(n, false));
        bench.end(id(n, false), &live, "part");
    }
    let [evicted, _] = bench.store.pressure().counts();
    assert!(evicted > 0);
    assert_eq!(bench.hear(id(0, false), ERROR), Heard::Late, "the oldest went first");
    assert_eq!(bench.store.pressure().promoted(), 1);
    assert_eq!(bench.hear(id(399, false), ERROR), Heard::Applied, "the newest is still there");
    bench.pass(20_000);
    assert_eq!(bench.hear(id(398, false), ERROR), Heard::Late);
    assert_eq!(bench.store.pressure().promoted(), 1);
}

/// Nothing evictable: new roots that the head does not want are not recorded, those it wants stand for a hundred even
/// when they fail; and with the load goes the stress.
#[test]
fn stress_mode_records_what_the_head_wants() {
    let bound = 100_000;
    let mut bench = Bench::new(bound);
    let lives: Vec<_> = (0..60).map(|n| (id(n, true), bench.watch(id(n, true)))).collect();
    assert!(bench.store.pressure().stress());
    let admit = |bench: &Bench, trace: RequestId, caller| bench.store.admit(trace.randomness(), caller);
    assert_eq!(admit(&bench, id(1, true), Threshold::NEVER), None, "beyond the bound nothing is");
    assert_eq!(bench.store.pressure().counts(), [0, 1]);
    for (trace, live) in &lives[..20] {
        bench.end_as(*trace, live, "part", End::Trace);
    }
    assert_eq!(admit(&bench, id(100, false), Threshold::NEVER), None);
    let floor = admit(&bench, id(101, true), Threshold::NEVER).unwrap();
    assert_eq!(floor.to_string(), "fd70a4");
    assert_eq!(admit(&bench, id(102, false), Threshold::ALWAYS), Some(Threshold::ALWAYS), "promoted by its caller");
    bench.settled();
    let live = bench.watch(id(101, true));
    live.learn(ERROR);
    let failed = Spans { floor, ..part("failed", id(101, true)) };
    bench.store.end(id(101, true), &live, ERROR, failed, End::Call, bench.now, &mut bench.out);
    assert_eq!(bench.settled(), [("failed", "fd70a4".into(), true)]);
    for (trace, live) in &lives[20..] {
        bench.end_as(*trace, live, "part", End::Trace);
    }
    bench.pass(50);
    assert!(!bench.store.pressure().stress() && !bench.store.pressure().short_wait());
    assert_eq!(admit(&bench, id(100, false), Threshold::NEVER), Some(Threshold::ALWAYS));
}

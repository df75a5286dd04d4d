//! The load generator: prebuilt requests over keep-alive connections, in a closed loop or at a fixed rate.
//!
//! At a fixed rate a request's time runs from when it was due, not from when a connection was free for it, so that a
//! server that stalls is charged for everybody who would have come meanwhile.

use super::stats::quantile;
use anyhow::{Context as _, bail};
use clap::Args;
use serde::{Deserialize, Serialize};
use std::cell::{Cell, RefCell};
use std::io::Write as _;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;

#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    #[arg(long)]
    pub(crate) address: String,
    /// A JSON array of whole requests, sent in turn
    #[arg(long)]
    pub(crate) requests: PathBuf,
    #[arg(long)]
    pub(crate) connections: usize,
    #[arg(long)]
    pub(crate) seconds: f64,
    /// Requests a second; a closed loop without it
    #[arg(long)]
    pub(crate) rate: Option<f64>,
}

/// What a load came to. Times are microseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Loaded {
    pub(crate) answers: u64,
    /// Answers that were not 200.
    pub(crate) refused: u64,
    /// Answers from the edge's own hand, and answers that nothing was taken from.
    pub(crate) hits: u64,
    pub(crate) at_level_0: u64,
    pub(crate) seconds: f64,
    pub(crate) bytes: u64,
    pub(crate) p50: u32,
    pub(crate) p90: u32,
    pub(crate) p99: u32,
    pub(crate) max: u32,
}

#[derive(Default)]
struct Tally {
    times: Vec<u32>,
    refused: u64,
    hits: u64,
    at_level_0: u64,
    bytes: u64,
}

struct Plan {
    requests: Vec<Vec<u8>>,
    begun: Instant,
    ends: Instant,
    rate: Option<f64>,
    next: Cell<u64>,
    /// Requests that are due and nobody has taken.
    due: Cell<u64>,
    woken: Notify,
    tally: RefCell<Tally>,
}

impl Plan {
    /// The next request and when its time begins; `None` when the load is over.
    async fn take(&self) -> Option<(u64, Instant)> {
        let Some(rate) = self.rate else {
            let now = Instant::now();
            return (now < self.ends).then(|| (self.next.replace(self.next.get() + 1), now));
        };
        loop {
            if self.due.get() > 0 {
                self.due.set(self.due.get() - 1);
                let number = self.next.replace(self.next.get() + 1);
                return Some((number, self.begun + Duration::from_secs_f64(number as f64 / rate)));
            }
            if Instant::now() >= self.ends {
                return None;
            }
            self.woken.notified().await;
        }
    }
}

pub(crate) fn run(args: &LoadArgs) -> anyhow::Result<()> {
    let text = std::fs::read(&args.requests).with_context(|| format!("read {}", args.requests.display()))?;
    let requests: Vec<String> = serde_json::from_slice(&text).context("read the requests")?;
    if requests.is_empty() {
        bail!("no requests to send");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let loaded = tokio::task::LocalSet::new().block_on(&runtime, send_all(args, requests))?;
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, &loaded)?;
    writeln!(out)?;
    Ok(())
}

async fn send_all(args: &LoadArgs, requests: Vec<String>) -> anyhow::Result<Loaded> {
    let mut streams = Vec::new();
    for _ in 0..args.connections {
        let stream = TcpStream::connect(&args.address).await.with_context(|| format!("connect to {}", args.address))?;
        stream.set_nodelay(true)?;
        streams.push(stream);
    }
    let begun = Instant::now();
    let plan = Rc::new(Plan {
        requests: requests.into_iter().map(String::into_bytes).collect(),
        begun,
        ends: begun + Duration::from_secs_f64(args.seconds),
        rate: args.rate,
        next: Cell::default(),
        due: Cell::default(),
        woken: Notify::new(),
        tally: RefCell::default(),
    });
    let sending: Vec<_> =
        streams.into_iter().map(|stream| tokio::task::spawn_local(connection(Rc::clone(&plan), stream))).collect();
    match args.rate {
        Some(rate) => pace(&plan, rate).await,
        None => spin(&plan).await,
    }
    for task in sending {
        task.await??;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let mut tally = plan.tally.take();
    tally.times.sort_unstable();
    let at = |q| quantile(&tally.times, q);
    Ok(Loaded {
        answers: tally.times.len() as u64,
        refused: tally.refused,
        hits: tally.hits,
        at_level_0: tally.at_level_0,
        seconds,
        bytes: tally.bytes,
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        max: at(1.0),
    })
}

/// Says when requests are due. Spins: a timer is a thousand times coarser than an answer, and the core is ours.
async fn pace(plan: &Plan, rate: f64) {
    let mut released = 0;
    loop {
        let now = Instant::now();
        if now >= plan.ends {
            break;
        }
        // The first is due at once.
        let should = ((now - plan.begun).as_secs_f64() * rate) as u64 + 1;
        for _ in released..should {
            plan.due.set(plan.due.get() + 1);
            plan.woken.notify_one();
        }
        released = released.max(should);
        tokio::task::yield_now().await;
    }
    while plan.due.get() > 0 {
        plan.woken.notify_waiters();
        tokio::task::yield_now().await;
    }
    plan.woken.notify_waiters();
}

/// Keeps the core from going to sleep, or a slow server would be charged for waking it with every answer.
async fn spin(plan: &Plan) {
    while Instant::now() < plan.ends {
        tokio::task::yield_now().await;
    }
}

async fn connection(plan: Rc<Plan>, mut stream: TcpStream) -> anyhow::Result<()> {
    let mut buffer = Vec::with_capacity(64 * 1024);
    while let Some((number, since)) = plan.take().await {
        stream.write_all(&plan.requests[(number % plan.requests.len() as u64) as usize]).await?;
        buffer.clear();
        let length = loop {
            if stream.read_buf(&mut buffer).await? == 0 {
                bail!("the server closed a connection");
            }
            if let Some(length) = answer_length(&buffer).filter(|&length| buffer.len() >= length) {
                break length;
            }
        };
        let mut tally = plan.tally.borrow_mut();
        tally.times.push(u32::try_from(since.elapsed().as_micros()).unwrap_or(u32::MAX));
        tally.refused += u64::from(!buffer.starts_with(b"HTTP/1.1 200"));
        tally.hits += u64::from(holds(&buffer, b"attune-edge; hit"));
        tally.at_level_0 += u64::from(holds(&buffer, b"\"level\":0,"));
        tally.bytes += length as u64;
    }
    Ok(())
}

fn holds(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// Bytes of an answer, head and body, as soon as its head is whole. An answer without a length counts its head.
pub(crate) fn answer_length(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let length = bytes[..head]
        .split(|&b| b == b'\n')
        .filter(|line| line.len() > 15 && line[..15].eq_ignore_ascii_case(b"content-length:"))
        .find_map(|line| std::str::from_utf8(&line[15..]).ok()?.trim().parse::<usize>().ok());
    Some(head + length.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_length_says_so() {
        assert_eq!(answer_length(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"), Some(43));
        assert_eq!(answer_length(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n"), None);
        assert_eq!(answer_length(b"HTTP/1.1 204 No Content\r\n\r\n"), Some(27));
    }

    /// A server that answers at once, asked 20 times a second: nobody waits for the next one's turn.
    #[test]
    fn a_request_is_sent_when_it_is_due() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            while std::io::Read::read(&mut stream, &mut request).is_ok_and(|n| n > 0) {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
            }
        });
        let args = LoadArgs { address, requests: PathBuf::new(), connections: 1, seconds: 0.45, rate: Some(20.0) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let request = "GET / HTTP/1.1\r\n\r\n".to_owned();
        let loaded = tokio::task::LocalSet::new().block_on(&runtime, send_all(&args, vec![request])).unwrap();
        assert!(loaded.p50 < 40_000, "far less than the 50 ms between two: {loaded:?}");
    }

    /// A server that takes 20 ms an answer, one at a time, asked 100 times a second: the queue must show.
    #[test]
    fn a_stalled_server_is_charged_for_the_queue() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            while std::io::Read::read(&mut stream, &mut request).is_ok_and(|n| n > 0) {
                std::thread::sleep(Duration::from_millis(20));
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
            }
        });
        let args = LoadArgs { address, requests: PathBuf::new(), connections: 1, seconds: 0.3, rate: Some(100.0) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let request = "GET / HTTP/1.1\r\n\r\n".to_owned();
        let loaded = tokio::task::LocalSet::new().block_on(&runtime, send_all(&args, vec![request])).unwrap();
        assert!((25..=31).contains(&loaded.answers), "every due request is sent: {loaded:?}");
        assert!(loaded.max > 150_000, "the last waited for all before it: {loaded:?}");
    }
}

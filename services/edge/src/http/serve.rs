//! Accepting connections: bounded in number, in the time a client may take, and in what one client may ask.

use super::head::{TimedHeads, Turn};
use super::{discard, handle, respond};
use crate::problem::ProblemKind;
use crate::{Edge, Parts};
use attune_domain::{RequestId, UnixMillis};
use attune_runtime::Shutdown;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use parking_lot::Mutex;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

const MAX_HEAD_BYTES: usize = 32 * 1024;
/// Clients whose rate is remembered.
const MAX_CLIENTS: usize = 100_000;

thread_local! {
    static IDS: RefCell<ChaCha12Rng> = RefCell::new(seeded());
}

/// A generator of its own for each thread, seeded by the system.
fn seeded() -> ChaCha12Rng {
    let mut seed = [0; 32];
    if getrandom::fill(&mut seed).is_err() {
        // Without a source of entropy the address of a fresh allocation still tells threads and runs apart.
        let here = Box::new(0u8);
        seed[..8].copy_from_slice(&(std::ptr::from_ref(&*here) as u64).to_le_bytes());
    }
    ChaCha12Rng::from_seed(seed)
}

pub(crate) fn new_request_id(now: UnixMillis) -> RequestId {
    let mut random = [0; 10];
    IDS.with_borrow_mut(|rng| rng.fill_bytes(&mut random));
    RequestId::new(now, random)
}

/// An edge whose port is open.
pub struct BoundEdge {
    edge: Edge,
    listener: TcpListener,
    pub address: SocketAddr,
}

/// Opens the visitors' port.
pub async fn bind(edge: Edge) -> io::Result<BoundEdge> {
    let listen = edge.parts.config.listen;
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{listen}: {error}"));
    let listener = TcpListener::bind(listen).await.map_err(named)?;
    let address = listener.local_addr()?;
    Ok(BoundEdge { edge, listener, address })
}

impl BoundEdge {
    /// Serves until told to stop; then answers what was begun, at most for `drain`.
    pub async fn serve(self, shutdown: Shutdown, drain: Duration) {
        let parts = self.edge.parts;
        let limits = &parts.config.limits;
        let slots = Arc::new(Semaphore::new(limits.connections));
        let clients = Arc::new(Clients::new(limits.client_rate, limits.client_burst));
        let graceful = GracefulShutdown::new();
        loop {
            let accepted = tokio::select! {
                () = shutdown.wait() => break,
                accepted = self.listener.accept() => accepted,
            };
            let Ok((stream, peer)) = accepted else {
                // Out of file descriptors, mostly: wait for some to come back.
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            let _nodelay = stream.set_nodelay(true).is_ok();
            match Arc::clone(&slots).try_acquire_owned() {
                Ok(slot) => connection(&parts, &clients, &graceful, stream, peer.ip(), Some(slot)),
                Err(_) => connection(&parts, &clients, &graceful, stream, peer.ip(), None),
            }
        }
        drop(self.listener);
        let _finished = tokio::time::timeout(drain, graceful.shutdown()).await.is_ok();
    }
}

fn connection(
    parts: &Arc<Parts>,
    clients: &Arc<Clients>,
    graceful: &GracefulShutdown,
    stream: TcpStream,
    client: IpAddr,
    slot: Option<OwnedSemaphorePermit>,
) {
    let has_slot = slot.is_some();
    let limits = &parts.config.limits;
    let receive = limits.receive.get();
    let idle = if has_slot { limits.idle.get() } else { receive };
    let turn = Turn::default();
    let stream = TimedHeads::new(stream, receive, turn.clone());
    let handler = {
        let parts = Arc::clone(parts);
        let clients = Arc::clone(clients);
        service_fn(move |request: Request<Incoming>| {
            turn.next();
            let turn = turn.clone();
            let parts = Arc::clone(&parts);
            let is_admitted = has_slot && clients.admits(client);
            async move {
                let refuse = |kind: ProblemKind| respond::problem(&kind.into(), new_request_id((parts.clock)()));
                let response = if is_admitted {
                    handle(parts, client, request).await
                } else if has_slot {
                    Box::pin(discard(request, receive)).await;
                    refuse(ProblemKind::TooManyRequests)
                } else {
                    let mut response = refuse(ProblemKind::Unavailable);
                    response.headers_mut().insert(http::header::CONNECTION, http::HeaderValue::from_static("close"));
                    response
                };
                turn.next();
                Ok::<_, Infallible>(response)
            }
        })
    };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(idle)
        .max_buf_size(MAX_HEAD_BYTES.max(8192))
        .keep_alive(has_slot)
        .pipeline_flush(true)
        .serve_connection(TokioIo::new(stream), handler);
    let watched = graceful.watch(connection);
    tokio::spawn(async move {
        // A connection that breaks is the client's affair.
        let _closed = watched.await.is_ok();
        drop(slot);
    });
}

/// A token bucket for each client address.
struct Clients {
    rate: f64,
    burst: f64,
    buckets: Mutex<HashMap<IpAddr, (f64, Instant)>>,
}

impl Clients {
    fn new(rate: u32, burst: u32) -> Self {
        Self { rate: rate.into(), burst: f64::from(burst.max(1)), buckets: Mutex::default() }
    }

    fn admits(&self, client: IpAddr) -> bool {
        if self.rate == 0.0 {
            return true;
        }
        let now = Instant::now();
        let mut buckets = self.buckets.lock();
        if buckets.len() >= MAX_CLIENTS && !buckets.contains_key(&client) {
            let (rate, burst) = (self.rate, self.burst);
            buckets.retain(|_, (left, at)| *left + now.duration_since(*at).as_secs_f64() * rate < burst);
        }
        let (left, at) = buckets.entry(client).or_insert((self.burst, now));
        *left = (*left + now.duration_since(*at).as_secs_f64() * self.rate).min(self.burst);
        *at = now;
        if *left < 1.0 {
            return false;
        }
        *left -= 1.0;
        true
    }
}

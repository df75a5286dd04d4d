//! A client's time for the head of a request: of the first from the connection's beginning on, of others from their
//! first byte.
//!
//! hyper has one limit for that and for a connection without a request, and proxies keep connections for a minute: with
//! one limit they would send requests into closed ones, or slow heads would hold connections for as long.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// Moves on when the head of a request is read, and again when its answer begins.
#[derive(Clone, Default)]
pub(super) struct Turn(Arc<AtomicUsize>);

impl Turn {
    pub(super) fn next(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

fn is_answering(turn: usize) -> bool {
    turn % 2 == 1
}

/// A connection on which a head that takes longer than the limit is an error.
pub(super) struct TimedHeads<S> {
    stream: S,
    limit: Duration,
    turn: Turn,
    /// The turn that `begun` is of.
    seen: usize,
    /// When the time of the head that is awaited began.
    begun: Option<Instant>,
    end: Option<Pin<Box<Sleep>>>,
}

impl<S> TimedHeads<S> {
    pub(super) fn new(stream: S, limit: Duration, turn: Turn) -> Self {
        Self { stream, limit, turn, seen: 0, begun: Some(Instant::now()), end: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimedHeads<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let turn = this.turn.get();
        if turn != this.seen {
            (this.seen, this.begun, this.end) = (turn, None, None);
        }
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        if is_answering(turn) {
            return read;
        }
        if read.is_ready() {
            this.begun.get_or_insert_with(Instant::now);
            return read;
        }
        let Some(begun) = this.begun else { return Poll::Pending };
        let end = this.end.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(begun + this.limit)));
        ready!(end.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TimedHeads<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

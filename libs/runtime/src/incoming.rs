//! Listening on TCP or a Unix socket, and never holding more connections than allowed.

use crate::Shutdown;
use futures::future::{BoxFuture, Fuse, FusedFuture as _};
use futures::{FutureExt as _, Stream};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::{fmt, io};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::transport::server::Connected;

/// Where a server really listens. Its text is an address that a client's channel takes: `http://127.0.0.1:9000` or
/// `unix:/run/x.sock`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bound {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => write!(f, "http://{addr}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// `host:port` (port 0 lets the system choose) or `unix:/path`. A socket file that nobody answers on is replaced.
pub(crate) async fn bind(address: &str) -> io::Result<(Listener, Bound)> {
    let Some(path) = address.strip_prefix("unix:") else {
        let listener = TcpListener::bind(address).await?;
        let bound = Bound::Tcp(listener.local_addr()?);
        return Ok((Listener::Tcp(listener), bound));
    };
    let path = PathBuf::from(path);
    let listener = match UnixListener::bind(&path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            match UnixStream::connect(&path).await {
                Err(refused) if refused.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(&path)?,
                _ => return Err(error),
            }
            UnixListener::bind(&path)?
        }
        other => other?,
    };
    Ok((Listener::Unix(listener), Bound::Unix(path)))
}

/// Accepted connections; the next is accepted only when there is room for it, the rest wait in the kernel's queue.
/// All of them break off at `cut`.
pub(crate) fn connections(
    listener: Listener,
    most: usize,
    cut: Shutdown,
) -> impl Stream<Item = io::Result<Connection>> {
    let room = Arc::new(Semaphore::new(most));
    futures::stream::unfold((listener, room, cut), |(listener, room, cut)| async move {
        let permit = room.clone().acquire_owned().await.ok()?;
        let accepted = match &listener {
            Listener::Tcp(tcp) => tcp.accept().await.map(|(stream, _)| {
                // Only latency is lost if it fails.
                let _ = stream.set_nodelay(true);
                Io::Tcp(stream)
            }),
            Listener::Unix(unix) => unix.accept().await.map(|(stream, _)| Io::Unix(stream)),
        };
        if accepted.is_err() {
            // Out of descriptors or the like: do not spin.
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        let breaks = cut.clone();
        let cut_off: BoxFuture<'static, ()> = Box::pin(async move { breaks.wait().await });
        let connection = accepted.map(|io| Connection { io, cut_off: cut_off.fuse(), _permit: permit });
        Some((connection, (listener, room, cut)))
    })
}

/// One accepted connection and its place under the cap.
pub(crate) struct Connection {
    io: Io,
    cut_off: Fuse<BoxFuture<'static, ()>>,
    _permit: OwnedSemaphorePermit,
}

enum Io {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // A connection always waits to read, so this is where it learns that it is over.
        if self.cut_off.is_terminated() || self.cut_off.poll_unpin(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        match &mut self.io {
            Io::Tcp(io) => Pin::new(io).poll_read(cx, buf),
            Io::Unix(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Tcp(io) => Pin::new(io).poll_write(cx, buf),
            Io::Unix(io) => Pin::new(io).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Tcp(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            Io::Unix(io) => Pin::new(io).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Tcp(io) => Pin::new(io).poll_flush(cx),
            Io::Unix(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Tcp(io) => Pin::new(io).poll_shutdown(cx),
            Io::Unix(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}

//! A free port that stays ours while the server on it is away.
//!
//! A socket is bound to it and never listens. The kernel then gives the port to nobody who asks for any port: neither to
//! another server, nor to a client that keeps calling the dead one and would otherwise, sooner or later, meet itself
//! there. The server may take it, because both sockets allow reuse; until it does, callers are refused.

use anyhow::Context as _;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with, sockopt};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

/// A port of this machine that only a server told of it takes, until this is dropped.
#[derive(Debug)]
pub struct ReservedPort {
    address: SocketAddr,
    _reserved: OwnedFd,
}

impl ReservedPort {
    /// # Errors
    /// `ip` is not of this machine, or it has no free port left.
    pub fn reserve(ip: IpAddr) -> anyhow::Result<Self> {
        let family = if ip.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let reserved = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .context("open a socket to reserve a port")?;
        sockopt::set_socket_reuseaddr(&reserved, true).context("let a server use the reserved port")?;
        bind(&reserved, &SocketAddr::new(ip, 0)).with_context(|| format!("reserve a port of {ip}"))?;
        let address = getsockname(&reserved).context("read the reserved port")?;
        let address = SocketAddr::try_from(address).context("read the reserved port")?;
        Ok(Self { address, _reserved: reserved })
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn a_server_may_come_and_go_on_a_reserved_port() {
        let port = ReservedPort::reserve(LOOPBACK).unwrap();
        assert!(TcpStream::connect(port.address()).is_err());
        for _ in 0..2 {
            let server = TcpListener::bind(port.address()).unwrap();
            let client = TcpStream::connect(port.address()).unwrap();
            drop((server, client));
        }
    }

    #[test]
    fn who_asks_for_any_port_gets_no_reserved_one() {
        let kept: Vec<_> = (0..200).map(|_| ReservedPort::reserve(LOOPBACK).unwrap()).collect();
        let others: Vec<_> = (0..200).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        for other in others {
            let other = other.local_addr().unwrap().port();
            assert!(kept.iter().all(|port| port.address().port() != other), "port {other} was given away");
        }
    }
}

//! A free port that stays ours while the server on it is away.
//!
//! A socket is bound to it and never listens. The kernel then gives the port to nobody who asks for any port: neither to another
//! server, nor to a client that keeps calling the dead one and would otherwise, sooner or later, meet itself there. The server
//! may take it, because both sockets allow reuse; until it does, callers are refused.

use anyhow::Context as _;
use rustix::net::{AddressFamily, SocketAddrV4, SocketFlags, SocketType, bind, getsockname, socket_with, sockopt};
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    _reserved: OwnedFd,
}

impl Port {
    pub(crate) fn reserve() -> anyhow::Result<Self> {
        let reserved = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .context("open a socket to reserve a port")?;
        sockopt::set_socket_reuseaddr(&reserved, true).context("let a server use the reserved port")?;
        bind(&reserved, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).context("reserve a port")?;
        let address = getsockname(&reserved).context("read the reserved port")?;
        let address = SocketAddrV4::try_from(address).context("read the reserved port")?;
        Ok(Self { number: address.port(), _reserved: reserved })
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_server_may_come_and_go_on_a_reserved_port() {
        let port = Port::reserve().unwrap();
        assert!(TcpStream::connect(port.address()).is_err());
        for _ in 0..2 {
            let server = TcpListener::bind(port.address()).unwrap();
            let client = TcpStream::connect(port.address()).unwrap();
            drop((server, client));
        }
    }

    #[test]
    fn who_asks_for_any_port_gets_no_reserved_one() {
        let kept: Vec<_> = (0..200).map(|_| Port::reserve().unwrap()).collect();
        let others: Vec<_> = (0..200).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        for other in others {
            let other = other.local_addr().unwrap().port();
            assert!(kept.iter().all(|port| port.number() != other), "port {other} was given away");
        }
    }
}

//! Ports of loopback for tests that run side by side, also in several processes.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use socket2::{Domain, Socket, Type};

/// They keep their ports until the process ends.
static RESERVED: Mutex<Vec<Socket>> = Mutex::new(Vec::new());

/// An address of loopback that belongs to this test: nobody listens there, so connections are refused until the test or its gateway
/// listens, and the kernel gives its port to nobody else for as long as this process lives.
///
/// It is bound here without listening, in the way that lets others bind it too if they name it (`SO_REUSEADDR` and
/// `SO_REUSEPORT`, as the gateway does).
///
/// # Panics
/// When loopback has no free port.
#[must_use]
pub fn free_address() -> SocketAddr {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_reuse_address(true).expect("sockets can share their address");
    socket.set_reuse_port(true).expect("sockets can share their port");
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a free port on loopback");
    let address = socket.local_addr().ok().and_then(|address| address.as_socket());
    RESERVED.lock().unwrap_or_else(PoisonError::into_inner).push(socket);
    address.expect("a bound socket has an address")
}

/// The port of a [`free_address`]. Resource files need numbers, so the kernel cannot choose later.
#[must_use]
pub fn free_port() -> u16 {
    free_address().port()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn connections_are_refused_until_somebody_listens() {
        let address = free_address();
        assert_eq!(TcpStream::connect(address).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
        for wildcard in [false, true] {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_reuse_address(true).unwrap();
            socket.set_reuse_port(true).unwrap();
            let ip = if wildcard { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
            socket.bind(&SocketAddr::from((ip, address.port())).into()).unwrap();
            socket.listen(1).unwrap();
            TcpStream::connect(address).unwrap();
        }
        // As servers in other languages do: std sets SO_REUSEADDR and nothing else.
        TcpListener::bind(address).unwrap();
    }

    #[test]
    fn every_test_has_its_own() {
        let addresses: std::collections::BTreeSet<_> = (0..2_000).map(|_| free_address()).collect();
        assert_eq!(addresses.len(), 2_000);
        let chosen = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert!(!addresses.contains(&chosen.local_addr().unwrap()));
    }
}

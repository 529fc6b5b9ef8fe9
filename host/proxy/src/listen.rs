//! Binding sockets: one for each worker on the same address (`SO_REUSEPORT`), so that the kernel spreads connections and workers share
//! nothing.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use penstock_core::listener::{Socket, SocketProtocol};
use socket2::{Domain, Protocol, TcpKeepalive, Type};

/// Identity of a socket. Another protocol, or another port for clients, on the same address is another socket, opened beside the old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SocketKey {
    pub(crate) address: SocketAddr,
    pub(crate) protocol: SocketProtocol,
    exposed: Option<u16>,
}

impl SocketKey {
    /// The port that clients see.
    pub(crate) fn port(self) -> u16 {
        self.exposed.unwrap_or(self.address.port())
    }
}

impl From<&Socket> for SocketKey {
    fn from(socket: &Socket) -> Self {
        Self { address: socket.address, protocol: socket.protocol, exposed: socket.exposed }
    }
}

/// Connections that wait for a worker. The kernel lowers it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Listen on an address, once for each worker: all of them, or none.
pub(crate) fn bind(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    (0..count)
        .map(|_| {
            let socket = socket(address)?;
            socket.set_reuse_port(true)?;
            socket.bind(&address.into())?;
            socket.listen(BACKLOG)?;
            Ok(socket.into())
        })
        .collect()
}

/// Whether nobody else listens on the address. `SO_REUSEPORT` would not tell: another process of the same user that sets it too (a second
/// gateway, started by mistake) would silently take its share of the connections.
pub(crate) fn probe(address: SocketAddr) -> io::Result<()> {
    socket(address)?.bind(&address.into())
}

/// Silence after which the other end must show that it is there; not so long that connections pile up, not so short that it costs anything.
pub(crate) fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new().with_time(Duration::from_mins(1)).with_interval(Duration::from_secs(15)).with_retries(4)
}

fn socket(address: SocketAddr) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // `[::]` and `0.0.0.0` may be asked for side by side.
        socket.set_only_v6(true)?;
    }
    // Connections of a process before this one may linger.
    socket.set_reuse_address(true)?;
    // Accepted connections have it too. A client that vanished without a word is noticed while nothing is written to it.
    socket.set_tcp_keepalive(&keepalive())?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// What an operator reads in the status of a listener.
pub(crate) fn explain(address: SocketAddr, error: &io::Error) -> String {
    let port = address.port();
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("port {port} is in use by another process: {error}; stop that process, or choose another port")
        }
        io::ErrorKind::PermissionDenied => format!(
            "no permission to listen on port {port}: {error}; ports below {} need CAP_NET_BIND_SERVICE",
            first_unprivileged_port()
        ),
        io::ErrorKind::AddrNotAvailable => format!("{} is not an address of this machine: {error}", address.ip()),
        _ => format!("cannot listen on {address}: {error}"),
    }
}

fn first_unprivileged_port() -> u16 {
    let setting = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    setting.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1024)
}

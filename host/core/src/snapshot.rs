//! The configuration in effect, as one immutable value.

use std::{net::SocketAddr, sync::Arc};

use arc_swap::ArcSwap;
use serde::Serialize;

use crate::listener::Socket;

/// Everything that a worker needs to answer requests. Built whole, swapped atomically, shared by all workers.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Snapshot {
    /// Sorted by address.
    pub sockets: Vec<Arc<Socket>>,
}

impl Snapshot {
    /// The socket on this address, if the snapshot still has it.
    pub fn socket(&self, address: SocketAddr) -> Option<&Arc<Socket>> {
        self.sockets.binary_search_by_key(&address, |socket| socket.address).ok().map(|at| &self.sockets[at])
    }
}

/// Where the current snapshot is published. A request loads it once and keeps what it loaded to its end.
pub type SnapshotCell = ArcSwap<Snapshot>;

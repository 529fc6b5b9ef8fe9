//! Endpoints: which one takes a request, and the connections to them.
//!
//! ```text
//! Backend ─► Upstream (per BackendKey: turn of the endpoints) ─► Pool (per address + protocol + TLS identity) ─► connections
//! ```
//!
//! Everything belongs to one worker. Both registries are keyed by value, so that a new snapshot, or the same backend deleted and created
//! again, finds connections warm.

mod connect;
mod http1;
mod paced;
mod pool;
mod replay;
mod send;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
};

use penstock_core::backend::{BackendKey, Endpoint, EndpointCell, EndpointSet};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

pub(crate) use self::{
    connect::{ConnectContext, connect_for_upgrade},
    http1::Http1,
    pool::{Lease, Pool, PoolKey},
    send::{Job, send, source_chain},
};
use crate::{settings::UpstreamSettings, tls::client::ClientTls};

/// All endpoints that one worker knows.
#[derive(Debug, Default)]
pub(crate) struct Upstreams {
    by_backend: RefCell<FxHashMap<BackendKey, Rc<Upstream>>>,
    pools: RefCell<FxHashMap<PoolKey, Rc<Pool>>>,
    pub(crate) tls: ClientTls,
}

/// Whose turn it is among the endpoints of a backend.
#[derive(Debug)]
pub(crate) struct Upstream {
    key: BackendKey,
    turn: Cell<usize>,
    members: RefCell<Members>,
}

/// The endpoints of a backend at one moment, with their pools.
#[derive(Debug)]
struct Members {
    set: Arc<EndpointSet>,
    pools: Rc<[Rc<Pool>]>,
}

impl Upstreams {
    pub(crate) fn upstream(&self, key: &BackendKey) -> Rc<Upstream> {
        if let Some(known) = self.by_backend.borrow().get(key) {
            return known.clone();
        }
        let members = Members { set: Arc::default(), pools: Rc::new([]) };
        // Workers begin at different endpoints, so that few requests spread as well as many.
        let turn = Cell::new(fastrand::usize(..1 << 16));
        let upstream = Rc::new(Upstream { key: key.clone(), turn, members: RefCell::new(members) });
        self.by_backend.borrow_mut().insert(key.clone(), upstream.clone());
        upstream
    }

    fn pool(&self, backend: &BackendKey, endpoint: &Endpoint) -> Rc<Pool> {
        let key = PoolKey { endpoint: endpoint.clone(), protocol: backend.protocol, tls: backend.tls.clone() };
        self.pools.borrow_mut().entry(key).or_insert_with_key(|key| Rc::new(Pool::new(key.clone()))).clone()
    }

    /// Close what was idle for too long, and forget what nobody refers to.
    pub(crate) fn sweep(&self, now: u64, idle_ticks: u64) {
        self.by_backend.borrow_mut().retain(|_, upstream| Rc::strong_count(upstream) > 1 || upstream.is_in_use());
        self.pools.borrow_mut().retain(|_, pool| {
            pool.sweep(now, idle_ticks);
            Rc::strong_count(pool) > 1 || !pool.is_empty()
        });
    }

    /// Close all idle connections.
    pub(crate) fn close_idle(&self) {
        self.pools.borrow().values().for_each(|pool| pool.close_idle());
    }
}

impl Upstream {
    /// Its pools would otherwise be forgotten while they hold warm connections.
    fn is_in_use(&self) -> bool {
        self.members.borrow().pools.iter().any(|pool| !pool.is_empty())
    }

    /// The pools of the current endpoints. Looked up again only when the endpoints changed.
    pub(crate) fn pools(&self, upstreams: &Upstreams, cell: &EndpointCell) -> Rc<[Rc<Pool>]> {
        let current = cell.load();
        let mut members = self.members.borrow_mut();
        if !Arc::ptr_eq(&current, &members.set) {
            let pools = current.endpoints.iter().map(|endpoint| upstreams.pool(&self.key, endpoint)).collect();
            *members = Members { set: current.clone(), pools };
        }
        members.pools.clone()
    }

    /// The next endpoint in turn. Those that refused a connection lately come last, those that were tried not at all.
    pub(crate) fn pick(&self, pools: &[Rc<Pool>], tried: &Tried, now: u64) -> Option<usize> {
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        let in_turn =
            || (0..pools.len()).map(|step| turn.wrapping_add(step) % pools.len()).filter(|at| !tried.contains(at));
        in_turn().find(|at| !pools[*at].is_cooling(now)).or_else(|| in_turn().next())
    }
}

/// Endpoints that a request has tried.
pub(crate) type Tried = SmallVec<[usize; 4]>;

/// What connecting needs to know.
pub(crate) fn cooldown_ticks(settings: &UpstreamSettings) -> u64 {
    u64::try_from(settings.cooldown.as_nanos() / crate::clock::TICK.as_nanos()).unwrap_or(u64::MAX)
}

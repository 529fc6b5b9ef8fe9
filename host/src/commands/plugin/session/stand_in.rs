//! Backends that are not there: what plugins call gets the answer that the exchange at hand gives it.

use std::{
    collections::BTreeMap,
    future,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::Response;
use penstock_core::{
    backend::{Backend, BackendKey, BackendProtocol},
    plugin::{Outbound, OutboundBackend, OutboundClient, OutboundFailure, OutboundGrant, OutboundRequest},
    route::Target,
};

/// What a backend answers, each time.
pub(crate) type Answer = Result<Response<Bytes>, OutboundFailure>;

/// The answers of all backends, by the names of their grants. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct StandIns(Arc<Mutex<BTreeMap<String, Answer>>>);

impl StandIns {
    /// From now on these answer, and no others.
    pub(crate) fn answer(&self, answers: BTreeMap<String, Answer>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = answers;
    }
}

impl OutboundClient for StandIns {
    fn send(&self, request: OutboundRequest) -> Outbound {
        let answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let name = &*request.backend.key.name;
        let answer = match answers.get(name) {
            Some(Ok(answer)) if answer.body().len() as u64 > request.max_response => {
                Err(OutboundFailure::TooLarge(request.max_response))
            }
            Some(answer) => answer.clone(),
            None => Err(OutboundFailure::Connect(format!("nothing stands in for `{name}`"))),
        };
        Box::pin(future::ready(answer))
    }
}

/// What grants lead to where there is no gateway: a backend with the name of the grant.
pub(super) fn backends(grants: &[OutboundGrant]) -> Arc<[OutboundBackend]> {
    let backend = |OutboundGrant { name, timeout, max_response, .. }: &OutboundGrant| {
        let key = BackendKey { name: Arc::clone(name), port: 80, protocol: BackendProtocol::Http1, tls: None };
        let backend = Backend { key, endpoints: Arc::new(ArcSwap::default()) };
        OutboundBackend {
            name: Arc::clone(name),
            target: Target::Backend(Arc::new(backend)),
            timeout: *timeout,
            max_response: *max_response,
        }
    };
    grants.iter().map(backend).collect()
}

//! Plugins that call backends. The client is one that answers when the test says so, and the test polls: nothing here depends on time.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Response, request};
use penstock_core::{
    backend::{Backend, BackendKey, BackendProtocol},
    plugin::{
        Called, Outbound, OutboundBackend, OutboundClient, OutboundFailure, OutboundGrant, OutboundReference,
        OutboundRequest, PluginFault, PluginSpec, PolicyCall, PolicyWorker, Verdict,
    },
    route::Target,
};

use super::{
    exchange::{facts, rule},
    facts::{Host, call},
};

pub type Answer = Result<Response<Bytes>, OutboundFailure>;

/// Keeps what is asked until it is answered.
#[derive(Clone, Default)]
pub struct Client(Arc<Mutex<Asked>>);

#[derive(Default)]
struct Asked {
    requests: Vec<OutboundRequest>,
    answers: VecDeque<Answer>,
}

impl OutboundClient for Client {
    fn send(&self, request: OutboundRequest) -> Outbound {
        let shared = Arc::clone(&self.0);
        shared.lock().unwrap().requests.push(request);
        Box::pin(poll_fn(move |_| match shared.lock().unwrap().answers.pop_front() {
            Some(answer) => Poll::Ready(answer),
            None => Poll::Pending,
        }))
    }
}

impl Client {
    pub fn asked(&self) -> usize {
        self.0.lock().unwrap().requests.len()
    }

    /// The next one that looks gets this.
    pub fn answer(&self, answer: Answer) {
        self.0.lock().unwrap().answers.push_back(answer);
    }

    /// Look at the last request.
    pub fn last<T>(&self, look: impl FnOnce(&OutboundRequest) -> T) -> T {
        look(self.0.lock().unwrap().requests.last().expect("something was asked"))
    }
}

pub fn status(status: u16) -> Answer {
    Ok(Response::builder().status(status).body(Bytes::new()).unwrap())
}

pub fn granted(name: &str) -> OutboundGrant {
    let backend = OutboundReference::service("default", name, 80);
    OutboundGrant { name: name.into(), backend, timeout: Duration::from_secs(2), max_response: 1000 }
}

pub fn backend(name: &str) -> OutboundBackend {
    let key =
        BackendKey { name: format!("default/{name}").into(), port: 80, protocol: BackendProtocol::Http1, tls: None };
    OutboundBackend {
        name: name.into(),
        target: Target::Backend(Arc::new(Backend { key, endpoints: Arc::new(ArcSwap::default()) })),
        timeout: Duration::from_secs(2),
        max_response: 1000,
    }
}

/// A worker with a plugin that may call the backend `auth`.
pub struct World {
    pub host: Host,
    pub call: PolicyCall,
    pub client: Client,
    pub worker: Box<dyn PolicyWorker>,
}

impl World {
    pub fn new(spec: &PluginSpec) -> Self {
        let host = Host::start();
        let active = host.activate(spec);
        assert_eq!(*active.outbound, *spec.capabilities.outbound);
        let (client, worker) = (Client::default(), host.host.runtime().worker());
        worker.connect(Arc::new(client.clone()));
        let call = PolicyCall { outbound: Arc::new([backend("auth")]), ..call(&active) };
        Self { host, call, client, worker }
    }

    /// The request hook, which waits for no answer that is not there yet.
    #[track_caller]
    pub fn at_once(&self, head: &mut request::Parts) -> Result<Verdict, PluginFault> {
        let rule = rule();
        let facts = facts(&rule);
        let mut waiting = waiting(self.worker.on_request(&self.call, &facts, head));
        let Poll::Ready(verdict) = poll(&mut waiting) else { panic!("it waits") };
        verdict
    }
}

pub type Waiting<'a, T = Verdict> = Pin<Box<dyn Future<Output = Result<T, PluginFault>> + 'a>>;

pub fn waiting<'a, T: std::fmt::Debug>(called: Called<'a, T>) -> Waiting<'a, T> {
    match called {
        Called::Waiting(waiting) => waiting,
        Called::Answered(answer) => panic!("{answer:?}"),
    }
}

pub fn poll<T>(waiting: &mut Waiting<'_, T>) -> Poll<Result<T, PluginFault>> {
    waiting.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

//! One exchange in one instance.
//!
//! ```text
//! Home::Shared ──► an instance of the shelf                       hooks answer at once
//! Home::Own    ──► an instance for this one, lent by the pool      hooks may wait; both directions take turns; nobody else's fault ends it
//! ```

use std::{
    cell::{Cell, OnceCell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use http::{HeaderMap, Version, request, response};
use penstock_core::{
    plugin::{
        BodyMode, BodyVerdict, Called, Carried, Chunk, Direction, ExchangeFacts, FaultKind, HeldHead, OutboundBackend,
        PluginFault, PolicyCall, PolicyExchange, Proceed, RedisBucket, Summary, TrailersVerdict, Verdict,
    },
    route::RuleId,
};
use tokio::sync::Mutex;

use super::{
    Instances, called, fault, lost,
    shelf::Live,
    waiting::{Allowance, Lent},
};
use crate::{
    hooks::{self, Behind, BodyCall, HookContext, Known},
    instance::{ExchangeHandle, Instance, at_once},
    metrics::Hook,
    revision::Loaded,
};

/// Where the state of an exchange lives.
pub(super) enum Home {
    /// In an instance that may have to keep others as well: its hooks answer at once.
    Shared(Rc<Live>),
    /// In one for itself, because its hooks may wait, or because the resource wants it so. While one waits, a hook of the other direction
    /// waits for its turn.
    Own(Box<Mutex<Lent>>),
}

impl Home {
    pub(super) fn own(lent: Lent) -> Self {
        Self::Own(Box::new(Mutex::new(lent)))
    }
}

/// An exchange whose state is a resource of the instance. It keeps the revision loaded and the instance alive.
pub(super) struct OpenExchange {
    instances: Rc<Instances>,
    revision: Arc<Loaded>,
    home: Home,
    /// None once it has ended.
    handle: Cell<Option<ExchangeHandle>>,
    carried: OnceCell<Carried>,
    /// For components that import `exchange-info` and look at the response after its head.
    response: RefCell<Option<Arc<HeaderMap>>>,
    behind: [Cell<Behind>; 2],
    /// The plugin has said that it need not hear of the end.
    skips_end: Cell<bool>,
    /// CPU time of its hooks so far.
    cpu_time: Cell<Duration>,
    /// Backends that it may call, and how often it has.
    outbound: Arc<[OutboundBackend]>,
    calls: Cell<u32>,
    redis: Arc<[RedisBucket]>,
}

impl OpenExchange {
    pub(super) fn begin(
        instances: &Rc<Instances>,
        revision: Arc<Loaded>,
        home: Home,
        call: &PolicyCall,
    ) -> Result<Self, PluginFault> {
        if let Home::Shared(live) = &home {
            live.enter();
        }
        let exchange = Self {
            instances: Rc::clone(instances),
            revision,
            home,
            handle: Cell::new(None),
            carried: OnceCell::new(),
            response: RefCell::default(),
            behind: Default::default(),
            skips_end: Cell::new(false),
            cpu_time: Cell::default(),
            outbound: Arc::clone(&call.outbound),
            calls: Cell::default(),
            redis: Arc::clone(&call.redis),
        };
        // A constructor does not wait: there is no network.
        let construct = async |instance: &mut Instance, hook: HookContext<'_>| instance.exchange(hook.limits.hook_time);
        let handle = at_once(exchange.run_at_home(Hook::Begin, construct))?;
        exchange.handle.set(Some(handle));
        Ok(exchange)
    }

    /// Run a hook of this exchange, if its state is still there.
    async fn run<T>(
        &self,
        hook: Hook,
        run: impl AsyncFnOnce(&mut Instance, HookContext<'_>, ExchangeHandle) -> Result<T, PluginFault>,
    ) -> Result<T, PluginFault> {
        let handle = self.handle.get().ok_or_else(|| fault(FaultKind::Unavailable, "the exchange has ended"));
        let handle = self.instances.counted(&self.revision, hook, handle)?;
        self.run_at_home(hook, async |instance, context| run(instance, context, handle).await).await
    }

    async fn run_at_home<T>(
        &self,
        hook: Hook,
        run: impl AsyncFnOnce(&mut Instance, HookContext<'_>) -> Result<T, PluginFault>,
    ) -> Result<T, PluginFault> {
        let run = async |instance: &mut Instance, context: HookContext<'_>| {
            let result = run(instance, context).await;
            self.cpu_time.set(self.cpu_time.get() + instance.state().cpu_time());
            result
        };
        match &self.home {
            Home::Shared(live) => {
                self.instances.counted(&self.revision, hook, self.goes_on(live.is_spent()))?;
                self.instances.run(&self.revision, live, hook, |instance, context| at_once(run(instance, context)))
            }
            Home::Own(lent) => {
                let mut lent = lent.lock().await;
                self.instances.counted(&self.revision, hook, self.goes_on(lent.is_spent()))?;
                let (used, redis) = (self.calls.get(), &self.redis);
                let allowance = Allowance { backends: &self.outbound, redis, used };
                let has_network = !matches!(hook, Hook::Begin | Hook::End);
                let network = has_network.then(|| self.instances.network(&self.revision, &allowance));
                let (result, used) = self.instances.run_waiting(&self.revision, &mut lent, hook, network, run).await;
                self.calls.set(used.unwrap_or(allowance.used));
                result
            }
        }
    }

    /// Whether another hook may run.
    fn goes_on(&self, is_spent: bool) -> Result<(), PluginFault> {
        if is_spent {
            return Err(lost());
        }
        let limit = self.revision.limits().exchange_time;
        if self.cpu_time.get() >= limit {
            let message =
                format!("its hooks used more than limits.exchangeTime ({limit:?}) of CPU time in this exchange");
            return Err(fault(FaultKind::Deadline, &message));
        }
        Ok(())
    }

    async fn request(&self, exchange: &ExchangeFacts<'_>, head: &mut request::Parts) -> Result<Verdict, PluginFault> {
        // There is one request.
        let _ = self.carried.set(hooks::carry(&self.revision.plan, exchange, head));
        if !self.revision.plan.hooks().request {
            return Ok(Verdict::Proceed(Proceed::default()));
        }
        let verdict = self.run(Hook::Request, async |instance, hook, handle| {
            hooks::on_exchange_request(instance, hook, handle, exchange, head).await
        });
        self.settle(verdict.await?, Direction::Request)
    }

    async fn response(&self, exchange: &ExchangeFacts<'_>, head: &mut response::Parts) -> Result<Verdict, PluginFault> {
        self.keep_response(&head.headers);
        if !self.revision.plan.hooks().response {
            return Ok(Verdict::Proceed(Proceed::default()));
        }
        let verdict = self.run(Hook::Response, async |instance, hook, handle| {
            hooks::on_exchange_response(instance, hook, self.known(handle, exchange), head).await
        });
        self.settle(verdict.await?, Direction::Response)
    }

    async fn body(
        &self,
        exchange: &ExchangeFacts<'_>,
        direction: Direction,
        chunk: Chunk,
        held: Option<HeldHead>,
    ) -> Result<BodyVerdict, PluginFault> {
        let hook = match direction {
            Direction::Request => Hook::RequestBody,
            Direction::Response => Hook::ResponseBody,
        };
        self.revision.metrics.saw(direction, chunk.bytes.len());
        let verdict = self.run(hook, async |instance, hook, handle| {
            let call = BodyCall { direction, chunk: &chunk, held: held.as_ref() };
            let place = &self.behind[direction as usize];
            let mut behind = place.take();
            let verdict = hooks::on_body(instance, hook, self.known(handle, exchange), call, &mut behind).await;
            place.set(behind);
            verdict
        });
        verdict.await
    }

    async fn trailers(
        &self,
        exchange: &ExchangeFacts<'_>,
        direction: Direction,
        trailers: HeaderMap,
    ) -> Result<TrailersVerdict, PluginFault> {
        let hook = match direction {
            Direction::Request => Hook::RequestTrailers,
            Direction::Response => Hook::ResponseTrailers,
        };
        let verdict = self.run(hook, async |instance, hook, handle| {
            hooks::on_trailers(instance, hook, self.known(handle, exchange), direction, trailers).await
        });
        verdict.await
    }

    fn carried(&self) -> &Carried {
        self.carried.get_or_init(Carried::default)
    }

    fn known<'a>(&'a self, handle: ExchangeHandle, facts: &'a ExchangeFacts<'a>) -> Known<'a> {
        Known { handle, facts, carried: self.carried(), response: self.response.borrow().clone() }
    }

    /// The response's headers are kept only for who can ask for them later.
    fn keep_response(&self, headers: &HeaderMap) {
        let hooks = self.revision.plan.hooks().streaming.unwrap_or_default();
        let later = hooks.response_trailers || hooks.response_body != BodyMode::None;
        if later && self.revision.imports.exchange_info {
            *self.response.borrow_mut() = Some(Arc::new(headers.clone()));
        }
    }

    /// A hold needs the body, and whoever skips the end is not told of it.
    fn settle(&self, verdict: Verdict, direction: Direction) -> Result<Verdict, PluginFault> {
        if let Verdict::Proceed(proceed) = &verdict
            && proceed.skip.end
        {
            self.skips_end.set(true);
        }
        hooks::allow_hold(&self.revision.plan, verdict, direction)
    }

    /// Whether there is nobody left who could be told of the end.
    fn is_gone(&self) -> bool {
        if self.handle.get().is_none() {
            return true;
        }
        let is_spent = match &self.home {
            Home::Shared(live) => live.is_spent(),
            // A call that still waits when its exchange is over was given up.
            Home::Own(lent) => lent.try_lock().map_or(true, |lent| lent.is_spent()),
        };
        self.goes_on(is_spent).is_err()
    }

    /// Give the resource back without its end hook. A destructor that faults is counted, and nobody is left whom it concerns.
    fn forget(&self) {
        let Some(handle) = self.handle.take() else { return };
        match &self.home {
            Home::Shared(live) if !live.is_spent() => {
                let _ = self.instances.guarded(&self.revision, live, Hook::End, |instance, hook| {
                    instance.forget(handle, hook.limits.hook_time)
                });
            }
            Home::Own(lent) => {
                let Ok(mut lent) = lent.try_lock() else { return };
                let drop = async |instance: &mut Instance, hook: HookContext<'_>| {
                    instance.forget(handle, hook.limits.hook_time)
                };
                if !lent.is_spent() {
                    let dropped = self.instances.run_waiting(&self.revision, &mut lent, Hook::End, None, drop);
                    let _ = at_once(async { dropped.await.0 });
                }
            }
            Home::Shared(_) => {}
        }
    }
}

impl PolicyExchange for OpenExchange {
    fn on_request<'a>(&'a self, exchange: &'a ExchangeFacts<'a>, head: &'a mut request::Parts) -> Called<'a, Verdict> {
        called(self.revision.waits(), self.request(exchange, head))
    }

    fn on_response<'a>(
        &'a self,
        exchange: &'a ExchangeFacts<'a>,
        head: &'a mut response::Parts,
    ) -> Called<'a, Verdict> {
        called(self.revision.waits(), self.response(exchange, head))
    }

    fn on_body(
        self: Rc<Self>,
        exchange: &ExchangeFacts<'_>,
        direction: Direction,
        chunk: Chunk,
        held: Option<HeldHead>,
    ) -> Called<'static, BodyVerdict> {
        if !self.revision.waits() {
            return at_once(self.body(exchange, direction, chunk, held)).into();
        }
        let facts = KeptFacts::of(exchange);
        Called::Waiting(Box::pin(async move { self.body(&facts.view(), direction, chunk, held).await }))
    }

    fn on_trailers(
        self: Rc<Self>,
        exchange: &ExchangeFacts<'_>,
        direction: Direction,
        trailers: HeaderMap,
    ) -> Called<'static, TrailersVerdict> {
        if !self.revision.waits() {
            return at_once(self.trailers(exchange, direction, trailers)).into();
        }
        let facts = KeptFacts::of(exchange);
        Called::Waiting(Box::pin(async move { self.trailers(&facts.view(), direction, trailers).await }))
    }

    fn end(&self, exchange: &ExchangeFacts<'_>, summary: &Summary) {
        let is_told = self.revision.plan.hooks().streaming.is_some_and(|hooks| hooks.end) && !self.skips_end.get();
        if !is_told || self.is_gone() {
            return self.forget();
        }
        // A fault is counted; the exchange is over, so it concerns nobody any more.
        let _ = at_once(self.run(Hook::End, async |instance, hook, handle| {
            self.handle.set(None);
            hooks::end_exchange(instance, hook, self.known(handle, exchange), summary).await
        }));
    }
}

impl Drop for OpenExchange {
    fn drop(&mut self) {
        self.forget();
        if let Home::Shared(live) = &self.home {
            live.leave();
        }
    }
}

/// [`ExchangeFacts`] with its values, for a hook that waits longer than its caller.
struct KeptFacts {
    client: SocketAddr,
    version: Version,
    scheme: Box<str>,
    server_name: Option<Box<str>>,
    tls_version: Option<&'static str>,
    rule: RuleId,
    request_id: Box<str>,
}

impl KeptFacts {
    fn of(facts: &ExchangeFacts<'_>) -> Self {
        Self {
            client: facts.client,
            version: facts.version,
            scheme: facts.scheme.into(),
            server_name: facts.server_name.map(Box::from),
            tls_version: facts.tls_version,
            rule: facts.rule.clone(),
            request_id: facts.request_id.into(),
        }
    }

    fn view(&self) -> ExchangeFacts<'_> {
        ExchangeFacts {
            client: self.client,
            version: self.version,
            scheme: &self.scheme,
            server_name: self.server_name.as_deref(),
            tls_version: self.tls_version,
            rule: &self.rule,
            request_id: &self.request_id,
        }
    }
}

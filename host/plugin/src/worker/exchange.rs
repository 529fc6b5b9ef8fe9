//! One exchange in one instance.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
};

use http::{HeaderMap, request, response};
use penstock_core::plugin::{
    BodyVerdict, Called, Carried, Chunk, Direction, ExchangeFacts, FaultKind, HeldHead, PluginFault, PolicyExchange,
    Proceed, Summary, TrailersVerdict, Verdict,
};

use super::{Instances, Live, fault};
use crate::{
    hooks::{self, Behind, BodyCall, HookContext, Known},
    instance::{ExchangeHandle, Instance},
    metrics::Hook,
    revision::Loaded,
};

/// An exchange whose state is a resource of the instance. It keeps the revision loaded and the instance alive.
pub(super) struct OpenExchange {
    instances: Rc<Instances>,
    revision: Arc<Loaded>,
    live: Rc<Live>,
    /// None once it has ended.
    handle: Cell<Option<ExchangeHandle>>,
    carried: RefCell<Carried>,
    /// For components that import `exchange-info` and look at the response after its head.
    response: RefCell<Option<Arc<HeaderMap>>>,
    behind: [RefCell<Behind>; 2],
    /// The plugin has said that it need not hear of the end.
    skips_end: Cell<bool>,
}

impl OpenExchange {
    pub(super) fn begin(instances: &Rc<Instances>, revision: Arc<Loaded>, live: Rc<Live>) -> Result<Self, PluginFault> {
        let handle =
            instances.run(&revision, &live, Hook::Begin, |instance, hook| instance.exchange(hook.limits.hook_time))?;
        live.exchanges.set(live.exchanges.get() + 1);
        Ok(Self {
            instances: Rc::clone(instances),
            revision,
            live,
            handle: Cell::new(Some(handle)),
            carried: RefCell::default(),
            response: RefCell::default(),
            behind: Default::default(),
            skips_end: Cell::new(false),
        })
    }

    /// Run a hook of this exchange, if its state is still there.
    fn run<T>(
        &self,
        hook: Hook,
        run: impl FnOnce(&mut Instance, HookContext<'_>, ExchangeHandle) -> Result<T, PluginFault>,
    ) -> Result<T, PluginFault> {
        let handle = self.instances.counted(&self.revision, hook, self.state())?;
        self.instances.run(&self.revision, &self.live, hook, |instance, context| run(instance, context, handle))
    }

    fn state(&self) -> Result<ExchangeHandle, PluginFault> {
        if self.live.is_spent() {
            return Err(fault(FaultKind::Lost, "the instance that kept this exchange has ended by a fault"));
        }
        self.handle.get().ok_or_else(|| fault(FaultKind::Unavailable, "the exchange has ended"))
    }

    fn known<'a>(&self, handle: ExchangeHandle, facts: &'a ExchangeFacts<'a>, carried: &'a Carried) -> Known<'a> {
        Known { handle, facts, carried, response: self.response.borrow().clone() }
    }

    /// The response's headers are kept only for who can ask for them later.
    fn keep_response(&self, headers: &HeaderMap) {
        let hooks = self.revision.plan.hooks().streaming.unwrap_or_default();
        let later = hooks.response_trailers || hooks.response_body != penstock_core::plugin::BodyMode::None;
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

    /// Give the resource back without its end hook.
    fn forget(&self) {
        if let Some(handle) = self.handle.take()
            && !self.live.is_spent()
        {
            // A destructor that faults is counted, and nobody is left whom it concerns.
            let _ = self.instances.guarded(&self.revision, &self.live, Hook::End, |instance, hook| {
                instance.forget(handle, hook.limits.hook_time)
            });
        }
    }
}

impl PolicyExchange for OpenExchange {
    fn on_request<'a>(&'a self, exchange: &'a ExchangeFacts<'a>, head: &'a mut request::Parts) -> Called<'a, Verdict> {
        *self.carried.borrow_mut() = hooks::carry(&self.revision.plan, exchange, head);
        if !self.revision.plan.hooks().request {
            return Ok(Verdict::Proceed(Proceed::default())).into();
        }
        let verdict = self.run(Hook::Request, |instance, hook, handle| {
            let limit = hook.limits.hook_time;
            hooks::on_request(instance, hook, exchange, head, |instance, fields| {
                instance.exchange_on_request(handle, fields, limit)
            })
        });
        verdict.and_then(|verdict| self.settle(verdict, Direction::Request)).into()
    }

    fn on_response<'a>(
        &'a self,
        exchange: &'a ExchangeFacts<'a>,
        head: &'a mut response::Parts,
    ) -> Called<'a, Verdict> {
        self.keep_response(&head.headers);
        if !self.revision.plan.hooks().response {
            return Ok(Verdict::Proceed(Proceed::default())).into();
        }
        let verdict = self.run(Hook::Response, |instance, hook, handle| {
            let limit = hook.limits.hook_time;
            let carried = self.carried.borrow();
            hooks::on_response(instance, hook, &carried, exchange, head, |instance, status, fields| {
                instance.exchange_on_response(handle, status, fields, limit)
            })
        });
        verdict.and_then(|verdict| self.settle(verdict, Direction::Response)).into()
    }

    fn on_body(
        self: Rc<Self>,
        exchange: &ExchangeFacts<'_>,
        direction: Direction,
        chunk: Chunk,
        held: Option<HeldHead>,
    ) -> Called<'static, BodyVerdict> {
        let hook = match direction {
            Direction::Request => Hook::RequestBody,
            Direction::Response => Hook::ResponseBody,
        };
        self.revision.metrics.saw(direction, chunk.bytes.len());
        let verdict = self.run(hook, |instance, hook, handle| {
            let carried = self.carried.borrow();
            let call = BodyCall { direction, chunk: &chunk, held: held.as_ref() };
            let mut behind = self.behind[direction as usize].borrow_mut();
            hooks::on_body(instance, hook, self.known(handle, exchange, &carried), call, &mut behind)
        });
        verdict.into()
    }

    fn on_trailers(
        self: Rc<Self>,
        exchange: &ExchangeFacts<'_>,
        direction: Direction,
        trailers: HeaderMap,
    ) -> Called<'static, TrailersVerdict> {
        let hook = match direction {
            Direction::Request => Hook::RequestTrailers,
            Direction::Response => Hook::ResponseTrailers,
        };
        let verdict = self.run(hook, |instance, hook, handle| {
            let carried = self.carried.borrow();
            hooks::on_trailers(instance, hook, self.known(handle, exchange, &carried), direction, trailers)
        });
        verdict.into()
    }

    fn end(&self, exchange: &ExchangeFacts<'_>, summary: &Summary) {
        let is_told = self.revision.plan.hooks().streaming.is_some_and(|hooks| hooks.end) && !self.skips_end.get();
        if !is_told || self.state().is_err() {
            return self.forget();
        }
        // A fault is counted; the exchange is over, so it concerns nobody any more.
        let _ = self.run(Hook::End, |instance, hook, handle| {
            self.handle.set(None);
            let carried = self.carried.borrow();
            hooks::end_exchange(instance, hook, self.known(handle, exchange, &carried), summary)
        });
    }
}

impl Drop for OpenExchange {
    fn drop(&mut self) {
        self.forget();
        self.live.exchanges.set(self.live.exchanges.get().saturating_sub(1));
    }
}

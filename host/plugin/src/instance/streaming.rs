//! Calls into a component of the world `streaming-policy`.

use std::{
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::Duration,
};

use penstock_core::plugin::{Direction, PluginFault};
use wasmtime::component::ResourceAny;

use super::{
    Instance, answered, begin, call,
    exports::{Hooks, StreamingExports, index},
    fault, not_of_this_world,
};
use crate::contract::types::{BodyVerdict, Field, HeaderRef, Summary, TrailersVerdict, Verdict};

/// The resource of one exchange, in the instance that made it. Must be given back by [`Instance::end`] or [`Instance::forget`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct ExchangeHandle(ResourceAny);

impl Instance {
    /// An exchange begins.
    pub(crate) fn exchange(&mut self, limit: Duration) -> Result<ExchangeHandle, PluginFault> {
        let exports = streaming(&self.exports.hooks)?;
        call((&mut self.store, &mut self.spent, self.waits), &exports.constructor, (), limit).map(ExchangeHandle)
    }

    pub(crate) async fn exchange_on_request(
        &mut self,
        exchange: ExchangeHandle,
        fields: &[Field<'_>],
        limit: Duration,
    ) -> Result<Verdict, PluginFault> {
        let exports = streaming(&self.exports.hooks)?;
        answered((&mut self.store, &mut self.spent, self.waits), &exports.on_request, (exchange.0, fields), limit).await
    }

    pub(crate) async fn exchange_on_response(
        &mut self,
        exchange: ExchangeHandle,
        status: u16,
        fields: &[Field<'_>],
        limit: Duration,
    ) -> Result<Verdict, PluginFault> {
        let exports = streaming(&self.exports.hooks)?;
        answered(
            (&mut self.store, &mut self.spent, self.waits),
            &exports.on_response,
            (exchange.0, status, fields),
            limit,
        )
        .await
    }

    pub(crate) async fn exchange_on_body(
        &mut self,
        exchange: ExchangeHandle,
        direction: Direction,
        bytes: &[u8],
        end: bool,
        limit: Duration,
    ) -> Result<BodyVerdict, PluginFault> {
        let exports = streaming(&self.exports.hooks)?;
        answered(
            (&mut self.store, &mut self.spent, self.waits),
            &exports.body[index(direction)],
            (exchange.0, bytes, end),
            limit,
        )
        .await
    }

    pub(crate) async fn exchange_on_trailers(
        &mut self,
        exchange: ExchangeHandle,
        direction: Direction,
        trailers: &[HeaderRef<'_>],
        limit: Duration,
    ) -> Result<TrailersVerdict, PluginFault> {
        let exports = streaming(&self.exports.hooks)?;
        answered(
            (&mut self.store, &mut self.spent, self.waits),
            &exports.trailers[index(direction)],
            (exchange.0, trailers),
            limit,
        )
        .await
    }

    /// The end hook, which takes the exchange.
    pub(crate) fn end(
        &mut self,
        exchange: ExchangeHandle,
        summary: Summary<'_>,
        limit: Duration,
    ) -> Result<(), PluginFault> {
        let exports = streaming(&self.exports.hooks)?;
        begin(&mut self.store, limit);
        let ended = match self.waits {
            false => exports.end.call(&mut self.store, (exchange.0, summary)),
            true => {
                let ended = pin!(exports.end.call_async(&mut self.store, (exchange.0, summary)));
                now(ended)
            }
        };
        ended.map_err(|error| {
            self.spent = true;
            fault(&mut self.store, &error)
        })
    }

    /// Drop an exchange without the end hook. Its destructor is the guest's code too.
    pub(crate) fn forget(&mut self, exchange: ExchangeHandle, limit: Duration) -> Result<(), PluginFault> {
        begin(&mut self.store, limit);
        let dropped = match self.waits {
            false => exchange.0.resource_drop(&mut self.store),
            true => now(pin!(exchange.0.resource_drop_async(&mut self.store))),
        };
        dropped.map_err(|error| {
            self.spent = true;
            fault(&mut self.store, &error)
        })
    }
}

fn streaming(hooks: &Hooks) -> Result<&StreamingExports, PluginFault> {
    match hooks {
        Hooks::Streaming(exports) => Ok(exports),
        Hooks::Header { .. } | Hooks::Route { .. } => Err(not_of_this_world()),
    }
}

/// What is there at once: without a network nothing waits.
fn now<T>(call: Pin<&mut impl Future<Output = wasmtime::Result<T>>>) -> wasmtime::Result<T> {
    match call.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => Err(wasmtime::Error::msg("it waits where nobody can")),
    }
}

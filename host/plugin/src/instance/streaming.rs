//! Calls into a component of the world `streaming-policy`.

use std::time::Duration;

use penstock_core::plugin::{Direction, PluginFault};
use wasmtime::component::ResourceAny;

use super::{
    Instance,
    exports::{Hooks, StreamingExports, index},
    not_of_this_world,
};
use crate::contract::types::{BodyVerdict, Field, HeaderRef, Summary, TrailersVerdict, Verdict};

/// The resource of one exchange, in the instance that made it. Must be given back by [`Instance::end`] or [`Instance::forget`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct ExchangeHandle(ResourceAny);

impl Instance {
    /// An exchange begins.
    pub(crate) fn exchange(&mut self, limit: Duration) -> Result<ExchangeHandle, PluginFault> {
        let exports = streaming(&self.exports.hooks)?;
        self.caller.call_at_once(&exports.constructor, (), limit).map(ExchangeHandle)
    }

    pub(crate) async fn exchange_on_request(
        &mut self,
        exchange: ExchangeHandle,
        fields: &[Field<'_>],
        limit: Duration,
    ) -> Result<Verdict, PluginFault> {
        let exports = streaming(&self.exports.hooks)?;
        self.caller.call(&exports.on_request, (exchange.0, fields), limit).await
    }

    pub(crate) async fn exchange_on_response(
        &mut self,
        exchange: ExchangeHandle,
        status: u16,
        fields: &[Field<'_>],
        limit: Duration,
    ) -> Result<Verdict, PluginFault> {
        let exports = streaming(&self.exports.hooks)?;
        self.caller.call(&exports.on_response, (exchange.0, status, fields), limit).await
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
        self.caller.with_body().call(&exports.body[index(direction)], (exchange.0, bytes, end), limit).await
    }

    pub(crate) async fn exchange_on_trailers(
        &mut self,
        exchange: ExchangeHandle,
        direction: Direction,
        trailers: &[HeaderRef<'_>],
        limit: Duration,
    ) -> Result<TrailersVerdict, PluginFault> {
        let exports = streaming(&self.exports.hooks)?;
        self.caller.with_body().call(&exports.trailers[index(direction)], (exchange.0, trailers), limit).await
    }

    /// The end hook, which takes the exchange.
    pub(crate) fn end(
        &mut self,
        exchange: ExchangeHandle,
        summary: Summary<'_>,
        limit: Duration,
    ) -> Result<(), PluginFault> {
        let exports = streaming(&self.exports.hooks)?;
        self.caller.call_at_once(&exports.end, (exchange.0, summary), limit)
    }

    /// Drop an exchange without the end hook. Its destructor is the guest's code too.
    pub(crate) fn forget(&mut self, exchange: ExchangeHandle, limit: Duration) -> Result<(), PluginFault> {
        self.caller.drop_resource(exchange.0, limit)
    }
}

fn streaming(hooks: &Hooks) -> Result<&StreamingExports, PluginFault> {
    match hooks {
        Hooks::Streaming(exports) => Ok(exports),
        Hooks::Header { .. } | Hooks::Route { .. } => Err(not_of_this_world()),
    }
}

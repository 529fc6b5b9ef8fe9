//! Where the capabilities come from: the gateway on WebAssembly, the test harness elsewhere. Both have the same functions and types.

#[cfg(target_arch = "wasm32")]
pub(crate) use crate::bindings::imports::{
    clock, counters, exchange_info, key_value, log, metrics, outbound_http, random, rate_limit,
};

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use crate::testing::fakes::{
    clock, counters, exchange_info, key_value, log, metrics, outbound_http, random, rate_limit,
};

//! `counters`: integers of the plugin.

use wasmtime::{
    StoreContextMut,
    component::{Linker, WasmStr},
};

use super::{LONGEST_KEY, check_key};
use crate::{capability::Nanos, contract::COUNTERS, instance::InstanceState};

pub(super) fn link(linker: &mut Linker<InstanceState>) -> wasmtime::Result<()> {
    type Add = (WasmStr, i64, Option<u64>);
    let mut instance = linker.instance(COUNTERS)?;
    instance.func_wrap("add", |store: StoreContextMut<'_, InstanceState>, (key, delta, ttl): Add| {
        let key = key.to_str(&store)?;
        check_key(key.as_bytes(), LONGEST_KEY)?;
        Ok((store.data().stores.counters().add(&key, delta, ttl, Nanos::now()),))
    })?;
    instance.func_wrap("get", |store: StoreContextMut<'_, InstanceState>, (key,): (WasmStr,)| {
        let key = key.to_str(&store)?;
        check_key(key.as_bytes(), LONGEST_KEY)?;
        Ok((store.data().stores.counters().get(&key, Nanos::now()),))
    })
}

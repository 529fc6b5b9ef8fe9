//! `key-value`: bytes of the plugin.

use wasmtime::{
    StoreContextMut,
    component::{Linker, WasmList, WasmStr},
};

use crate::{
    capability::{Nanos, key_value},
    contract::{KEY_VALUE, types::KeyValueError},
    instance::InstanceState,
};

type Store<'a> = StoreContextMut<'a, InstanceState>;

pub(super) fn link(linker: &mut Linker<InstanceState>) -> wasmtime::Result<()> {
    type Set = (WasmStr, WasmList<u8>, Option<u64>);
    type CompareAndSet = (WasmStr, Option<WasmList<u8>>, WasmList<u8>, Option<u64>);
    let mut instance = linker.instance(KEY_VALUE)?;
    instance.func_wrap("get", |store: Store<'_>, (key,): (WasmStr,)| {
        let (values, _) = store.data().stores.key_value();
        Ok((values.get(&key.to_str(&store)?, Nanos::now()),))
    })?;
    instance.func_wrap("set", |store: Store<'_>, (key, value, ttl): Set| {
        let (values, quota) = store.data().stores.key_value();
        let set = values.set(&key.to_str(&store)?, value.as_le_slice(&store), ttl, quota, Nanos::now());
        Ok((set.map_err(KeyValueError::from),))
    })?;
    instance.func_wrap("delete", |store: Store<'_>, (key,): (WasmStr,)| {
        let (values, _) = store.data().stores.key_value();
        values.delete(&key.to_str(&store)?);
        Ok(())
    })?;
    instance.func_wrap("compare-and-set", |store: Store<'_>, (key, expected, value, ttl): CompareAndSet| {
        let (values, quota) = store.data().stores.key_value();
        let key = key.to_str(&store)?;
        let expected = expected.as_ref().map(|expected| expected.as_le_slice(&store));
        let set = values.compare_and_set(&key, expected, value.as_le_slice(&store), ttl, quota, Nanos::now());
        Ok((set.map_err(KeyValueError::from),))
    })
}

impl From<key_value::KeyValueError> for KeyValueError {
    fn from(error: key_value::KeyValueError) -> Self {
        match error {
            key_value::KeyValueError::Full => Self::Full,
            key_value::KeyValueError::TooLarge => Self::TooLarge,
        }
    }
}

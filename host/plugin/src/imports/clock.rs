//! `clock`: read at most once a hook, so that time does not move while a plugin decides.

use std::{
    sync::OnceLock,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use wasmtime::{StoreContextMut, component::Linker};

use crate::{contract::CLOCK, instance::InstanceState};

/// Both clocks, read together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    /// Milliseconds since the Unix epoch.
    now: u64,
    /// Nanoseconds since the gateway first looked.
    monotonic: u64,
}

impl Reading {
    fn take() -> Self {
        static START: OnceLock<Instant> = OnceLock::new();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let monotonic = START.get_or_init(Instant::now).elapsed();
        Self {
            now: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            monotonic: u64::try_from(monotonic.as_nanos()).unwrap_or(u64::MAX),
        }
    }
}

pub(super) fn link(linker: &mut Linker<InstanceState>) -> wasmtime::Result<()> {
    let mut instance = linker.instance(CLOCK)?;
    instance.func_wrap("now", |store: StoreContextMut<'_, InstanceState>, (): ()| Ok((reading(store).now,)))?;
    instance.func_wrap("monotonic", |store: StoreContextMut<'_, InstanceState>, (): ()| Ok((reading(store).monotonic,)))
}

fn reading(mut store: StoreContextMut<'_, InstanceState>) -> Reading {
    *store.data_mut().clock.get_or_insert_with(Reading::take)
}

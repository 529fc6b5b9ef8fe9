//! Steps in this process, where thousands of candidates take no time.

use std::sync::Arc;

use bytes::Bytes;
use penstock_core::{
    Kind, ResourceRef,
    plugin::{Capabilities, ModuleSource, PluginLimits},
};

use super::*;
use crate::{engine::compiling_engine, guest};

fn spec() -> PluginSpec {
    PluginSpec {
        plugin: ResourceRef::new(Kind::WasmPlugin, "default", "a"),
        generation: 1,
        source: ModuleSource::Inline(Bytes::new()),
        config: Arc::new(serde_json::Value::Null),
        capabilities: Capabilities::default(),
        limits: PluginLimits::default(),
        secrets: Vec::new(),
        rollout: Default::default(),
    }
}

/// At a boundary of sections a prefix is well-formed, and misses something; custom sections at the end are not missed.
#[test]
fn a_component_may_be_cut_off_anywhere() {
    let (compiling, running) = (compiling_engine().unwrap(), TickingEngine::start().unwrap());
    let (whole, spec) = (guest::Guest::default().build(), spec());
    let passes = |bytes: &[u8]| {
        let code = compile(&compiling, bytes, &spec)?;
        examine_artifact(&running, bytes, &code, &spec, "{}", false).map(drop)
    };
    passes(&whole).unwrap();
    let mut accepted = Vec::new();
    for len in 0..whole.len() {
        match passes(&whole[..len]) {
            Ok(()) => accepted.push(len),
            Err(rejection) => {
                assert!(["InvalidModule", "NotAPlugin"].contains(&rejection.reason), "{len}: {rejection:?}");
            }
        }
    }
    assert!(
        accepted.len() <= 2 && accepted.iter().all(|len| *len > whole.len() / 2),
        "{accepted:?} of {}",
        whole.len()
    );
}

/// Whether it is any good was found out when it was new.
#[test]
fn what_has_served_before_is_asked_what_it_is_and_no_more() {
    let (compiling, running) = (compiling_engine().unwrap(), TickingEngine::start().unwrap());
    let guest = guest::Guest { on_request: guest::Answer::Code("unreachable".into()), ..guest::Guest::default() };
    let (bytes, spec) = (guest.build(), spec());
    let code = compile(&compiling, &bytes, &spec).unwrap();
    let reason =
        |has_served| examine_artifact(&running, &bytes, &code, &spec, "{}", has_served).map_err(|it| it.reason).err();
    assert_eq!((reason(false), reason(true)), (Some("SampleTrapped"), None));
}

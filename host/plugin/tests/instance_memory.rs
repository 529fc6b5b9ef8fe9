//! What an instance takes of the process. A test of its own: nothing else may run in its process.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::fs;

use penstock_core::plugin::PluginSpec;
use penstock_testing::guests::{self, CALLER};
use support::{
    exchange::{facts, request, rule},
    facts::spec,
    outbound::{World, granted, poll, waiting},
};

/// At the same time, each in an instance for itself.
const INSTANCES: usize = 256;
const MEBIBYTE: usize = 1 << 20;

/// Bytes of the process that are in memory.
fn resident() -> usize {
    let sizes = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = sizes.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// Its linear memory counts only as far as it was touched, so with all of it an instance takes less than that and a mebibyte.
#[test]
fn an_instance_takes_its_linear_memory_and_less_than_a_mebibyte() {
    let mut caller: PluginSpec = spec("caller", guests::bytes(CALLER));
    caller.config = serde_json::json!({ "backend": "auth" }).into();
    caller.capabilities.outbound = vec![granted("auth")];
    caller.limits.waiting = u32::try_from(INSTANCES).unwrap();
    let world = World::new(&caller);
    let rule = rule();
    let mut heads: Vec<_> = (0..INSTANCES).map(|_| request()).collect();
    let facts = facts(&rule);
    let mut asking = Vec::with_capacity(INSTANCES);
    let before = resident();
    for head in &mut heads {
        let mut one = waiting(world.worker.on_request(&world.call, &facts, head));
        assert!(poll(&mut one).is_pending());
        asking.push(one);
    }
    let alive = world.host.metric(r#"penstock_plugin_instances{plugin="default/caller"}"#);
    assert!(alive >= 256.0, "{alive}");
    let each = resident().saturating_sub(before) / INSTANCES;
    eprintln!("{each} bytes an instance, with what it touched of its linear memory");
    assert!(each <= MEBIBYTE, "{each}");
}

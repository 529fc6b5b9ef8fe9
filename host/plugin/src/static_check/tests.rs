use std::num::NonZeroU32;

use penstock_core::plugin::{OutboundGrant, OutboundReference, RateAlgorithm, RateLimit, RateWindow};

use super::*;

const POLICY: [&str; 2] = ["lifecycle@0.1.0", "header-policy@0.1.0"];

fn component(imports: &[&str], exports: &[&str]) -> Vec<u8> {
    let full = |name: &&str| if name.contains('/') { (*name).to_string() } else { format!("penstock:plugin/{name}") };
    let imports: String = imports.iter().map(|name| format!("(import \"{}\" (instance))", full(name))).collect();
    let own = imports.matches("(import").count();
    let exports: String = exports.iter().map(|name| format!("(export \"{}\" (instance {own}))", full(name))).collect();
    wat::parse_str(format!("(component {imports} (instance) {exports})")).unwrap()
}

fn all() -> Capabilities {
    Capabilities {
        log: true,
        clock: true,
        random: true,
        metrics: true,
        counters: true,
        key_value: true,
        ..Capabilities::default()
    }
}

#[track_caller]
fn refused(bytes: &[u8], granted: &Capabilities, reason: &str, message: &str) {
    let rejection = check(bytes, granted).unwrap_err();
    assert_eq!((rejection.reason, &*rejection.message), (reason, message));
}

#[test]
fn a_policy_may_import_what_is_granted() {
    let none = Capabilities::default();
    assert_eq!(check(&component(&[], &POLICY), &none), Ok(Imports::default()));
    let imports = ["types@0.1.0", "exchange-info@0.1.0"];
    assert_eq!(check(&component(&imports, &POLICY), &none), Ok(Imports { exchange_info: true, ..Imports::default() }));
    let imports = ["log@0.1.0", "clock@0.1.0", "random@0.1.0", "metrics@0.1.0", "counters@0.1.0", "key-value@0.1.0"];
    assert_eq!(check(&component(&imports, &POLICY), &all()), Ok(Imports { log: true, ..Imports::default() }));
}

#[test]
fn every_import_that_is_not_granted_is_named_with_what_grants_it() {
    let bytes = component(&["clock@0.1.0", "log@0.1.0", "random@0.1.0"], &POLICY);
    refused(
        &bytes,
        &Capabilities { clock: true, ..Capabilities::default() },
        "ImportNotGranted",
        "the component imports what the resource does not grant: `penstock:plugin/log@0.1.0` (granted by \
         `spec.capabilities.log: true`), `penstock:plugin/random@0.1.0` (granted by `spec.capabilities.random: true`)",
    );
}

#[test]
fn buckets_are_granted_by_declaring_one() {
    let bytes = component(&["rate-limit@0.1.0"], &POLICY);
    let message = "the component imports what the resource does not grant: `penstock:plugin/rate-limit@0.1.0` (granted by \
                   `spec.capabilities.rateLimits: [{name: …}]`)";
    refused(&bytes, &all(), "ImportNotGranted", message);
    let bucket = RateLimit {
        name: "a".into(),
        algorithm: RateAlgorithm::SlidingWindow,
        limit: NonZeroU32::MIN,
        window: RateWindow::new(RateWindow::SHORTEST).unwrap(),
        max_keys: RateLimit::USUAL_KEYS,
        redis: None,
    };
    let granted = Capabilities { rate_limits: vec![bucket], ..Capabilities::default() };
    assert_eq!(check(&bytes, &granted), Ok(Imports::default()));
}

#[test]
fn outbound_calls_are_granted_by_naming_a_backend() {
    let bytes = component(&["outbound-http@0.1.0"], &POLICY);
    let message = "the component imports what the resource does not grant: `penstock:plugin/outbound-http@0.1.0` (granted by \
                   `spec.capabilities.outbound: [{name: …, backendRef: …}]`)";
    refused(&bytes, &all(), "ImportNotGranted", message);
    let backend = OutboundReference::service("default", "auth", 80);
    let grant = OutboundGrant {
        name: "auth".into(),
        backend,
        timeout: OutboundGrant::USUAL_TIMEOUT,
        max_response: OutboundGrant::USUAL_RESPONSE,
    };
    let granted = Capabilities { outbound: vec![grant], ..Capabilities::default() };
    assert_eq!(check(&bytes, &granted), Ok(Imports { outbound: true, ..Imports::default() }));
}

#[test]
fn imports_that_nobody_can_grant() {
    refused(
        &component(&["teleport@0.1.0"], &POLICY),
        &all(),
        "UnknownImport",
        "the component imports `penstock:plugin/teleport@0.1.0`, which no plugin can have",
    );
    refused(
        &component(&["acme:log/log"], &POLICY),
        &all(),
        "UnknownImport",
        "the component imports `acme:log/log`: plugins may import interfaces of the package penstock:plugin only",
    );
}

#[test]
fn wasi_is_granted_as_a_whole() {
    let imports = ["wasi:cli/environment@0.2.3", "wasi:sockets/tcp@0.2.0"];
    let bytes = component(&imports, &POLICY);
    refused(
        &bytes,
        &all(),
        "ImportNotGranted",
        "the component imports what the resource does not grant: `wasi:cli/environment@0.2.3` and 1 more of WASI (granted by \
         `spec.capabilities.wasi: true`; plugins in Rust need none of it, built for the target wasm32-unknown-unknown)",
    );
    let granted = Capabilities { wasi: true, ..Capabilities::default() };
    assert_eq!(check(&bytes, &granted), Ok(Imports::default()));
    assert_eq!(check(&bytes, &Capabilities { wasi: true, ..all() }), Ok(Imports { log: true, ..Imports::default() }));
    for name in [
        "wasi:http/outgoing-handler@0.2.3",
        "wasi:cli/environment@0.3.0",
        "wasi:cli/environment",
        "wasi:nn/tensor@0.2.0",
    ] {
        let message = format!(
            "the component imports `{name}`: of WASI a plugin can have wasi:cli, wasi:clocks, wasi:filesystem, wasi:io, \
             wasi:random, wasi:sockets in version 0.2, and nothing behind them but clocks, random numbers and its log; for HTTP \
             there is `penstock:plugin/outbound-http`"
        );
        refused(&component(&[name], &POLICY), &granted, "UnknownImport", &message);
    }
}

#[test]
fn other_versions_of_the_contract() {
    let newer = |name: &str| {
        format!(
            "`penstock:plugin/{name}` is of a newer plugin contract than this version of Penstock implements (0.1.0): update \
             the gateway, or build the plugin with an older SDK"
        )
    };
    refused(&component(&["log@0.2.0"], &POLICY), &all(), "NewerContract", &newer("log@0.2.0"));
    refused(&component(&["log@0.1.1"], &POLICY), &all(), "NewerContract", &newer("log@0.1.1"));
    refused(&component(&[], &["lifecycle@1.0.0"]), &all(), "NewerContract", &newer("lifecycle@1.0.0"));
    refused(
        &component(&["log@0.0.9"], &POLICY),
        &all(),
        "ContractMismatch",
        "`penstock:plugin/log@0.0.9` is of a plugin contract that was never published; this version of Penstock implements 0.1.0",
    );
}

#[test]
fn other_worlds() {
    assert!(check(&component(&[], &["lifecycle@0.1.0", "exchange-policy@0.1.0"]), &all()).is_ok());
    assert!(check(&component(&[], &["lifecycle@0.1.0", "route-policy@0.1.0"]), &all()).is_ok());
    refused(
        &component(&[], &["lifecycle@0.1.0", "header-policy@0.1.0", "route-policy@0.1.0"]),
        &all(),
        "NotAPlugin",
        "the component exports both `header-policy` and `route-policy`: a plugin is either a policy or a route plugin; make \
         two of it",
    );
    let missing = |interface: &str| {
        format!(
            "the component does not export `penstock:plugin/{interface}@0.1.0`: a plugin is a component of the world \
             `penstock:plugin/policy@0.1.0`"
        )
    };
    refused(&component(&[], &[]), &all(), "NotAPlugin", &missing("lifecycle"));
    refused(&component(&[], &["header-policy@0.1.0"]), &all(), "NotAPlugin", &missing("lifecycle"));
    refused(&component(&[], &["lifecycle@0.1.0"]), &all(), "NotAPlugin", &missing("header-policy"));
    refused(&component(&[], &["wasi:http/incoming-handler@0.2.0"]), &all(), "NotAPlugin", &missing("lifecycle"));
}

#[test]
fn what_is_no_component() {
    refused(
        &wat::parse_str("(module)").unwrap(),
        &all(),
        "NotAComponent",
        "this is a core module, not a component. Crates that use penstock-plugin carry what is missing: make a component of \
         it with `wasm-tools component new module.wasm -o plugin.wasm`",
    );
    refused(b"0123456789", &all(), "InvalidModule", "the 10 bytes are no WebAssembly: they do not start with `\\0asm`");
    refused(b"", &all(), "InvalidModule", "the 0 bytes are no WebAssembly: they do not start with `\\0asm`");
}

#[test]
fn names_of_nested_components_do_not_count() {
    let nested = "(component (component (import \"wasi:io/streams@0.2.0\" (instance))) (core module) (instance $empty)
        (export \"penstock:plugin/lifecycle@0.1.0\" (instance $empty))
        (export \"penstock:plugin/header-policy@0.1.0\" (instance $empty)))";
    assert_eq!(check(&wat::parse_str(nested).unwrap(), &Capabilities::default()), Ok(Imports::default()));
}

/// Every prefix of a component is refused, with a reason and without a panic.
#[test]
fn a_module_may_be_cut_off_anywhere() {
    let whole = component(&["types@0.1.0"], &POLICY);
    for end in 0..whole.len() {
        assert!(check(&whole[..end], &all()).is_err(), "cut off at {end}");
    }
}

#[test]
fn precompiled_modules_are_refused() {
    let engine = crate::engine::compiling_engine().unwrap();
    let artifact = engine.precompile_component(&component(&[], &[])).unwrap();
    let rejection = check(&artifact, &all()).unwrap_err();
    assert_eq!(rejection.reason, "PrecompiledModule");
}

/// A policy beside core modules with `fields`, of which it makes `instances`.
fn with_core(fields: &str, instances: usize) -> Vec<u8> {
    let instances = "(core instance (instantiate $m))".repeat(instances);
    let exports: String =
        POLICY.iter().map(|name| format!("(export \"penstock:plugin/{name}\" (instance 0))")).collect();
    wat::parse_str(format!("(component (core module $m {fields}) {instances} (instance) {exports})")).unwrap()
}

#[test]
fn what_instances_take_besides_memory_is_bounded() {
    let none = Capabilities::default();
    let globals = |count: usize| "(global i32 (i32.const 0))".repeat(count);
    assert!(check(&with_core(&globals(20_000), 10), &none).is_ok());
    refused(
        &with_core(&globals(20_001), 10),
        &none,
        "ModuleTooLarge",
        "its core modules have 20001 globals together, and it makes 10 instances of them: that may be 200000 in all",
    );
    let functions = |count: usize| format!("(type $t (func)) {}", "(func (type $t))".repeat(count));
    assert!(check(&with_core(&functions(100_000), 10), &none).is_ok());
    let message =
        "its core modules have 50000 functions together, and it makes 32 instances of them: that may be 1000000 in all";
    refused(&with_core(&functions(50_000), 40), &none, "ModuleTooLarge", message);
}

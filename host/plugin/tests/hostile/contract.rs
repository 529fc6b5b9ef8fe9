//! Components that do not fit the contract, or want what they were not granted.

use crate::{Case, EMPTY_EXPORTS, component, guest, refuses, support::guest::Guest};

#[test]
fn components_that_are_no_plugin() {
    let exports = |name: &str| format!("(instance $e) (export \"{name}\" (instance $e))");
    refuses(vec![
        component("nothing", "", "NotAPlugin", "`penstock:plugin/lifecycle@0.1.0`"),
        component("only the life cycle", &exports("penstock:plugin/lifecycle@0.1.0"), "NotAPlugin", ""),
        component("another world", &exports("wasi:http/incoming-handler@0.2.0"), "NotAPlugin", ""),
        component(
            "a newer contract",
            &exports("penstock:plugin/lifecycle@0.2.0"),
            "NewerContract",
            "update the gateway",
        ),
        component("a much newer one", &exports("penstock:plugin/lifecycle@9.9.9"), "NewerContract", ""),
        component(
            "one that never was",
            &exports("penstock:plugin/lifecycle@0.0.7"),
            "ContractMismatch",
            "never published",
        ),
        component("exports without functions", EMPTY_EXPORTS, "ContractMismatch", "no function `describe`"),
    ]);
}

#[test]
fn imports_that_nobody_has() {
    let import = |name: &str, import: &str, reason, part| {
        component(name, &format!("(import {import}) {EMPTY_EXPORTS}"), reason, part)
    };
    refuses(vec![
        import("files", "\"wasi:filesystem/types@0.2.0\" (instance)", "ImportNotGranted", "capabilities.wasi"),
        import(
            "sockets",
            "\"wasi:http/outgoing-handler@0.2.0\" (instance)",
            "UnknownImport",
            "of WASI a plugin can have",
        ),
        import("a stranger's interface", "\"evil:corp/everything@1.0.0\" (instance)", "UnknownImport", "evil:corp"),
        import("a function", "\"system\" (func)", "UnknownImport", "`system`"),
        import(
            "an interface that does not exist",
            "\"penstock:plugin/shell@0.1.0\" (instance)",
            "UnknownImport",
            "shell",
        ),
        import("a newer interface", "\"penstock:plugin/log@0.3.0\" (instance)", "NewerContract", "log@0.3.0"),
        import(
            "a function of another type",
            "\"penstock:plugin/exchange-info@0.1.0\" (instance (export \"client\" (func (result u32))))",
            "ContractMismatch",
            "client",
        ),
        import(
            "a function that is not there",
            "\"penstock:plugin/exchange-info@0.1.0\" (instance (export \"password\" (func (result u32))))",
            "ContractMismatch",
            "password",
        ),
    ]);
}

#[test]
fn capabilities_that_were_not_granted() {
    let import = |interface: &str, function: &str, part| -> Case {
        let imports = format!("(import \"penstock:plugin/{interface}@0.1.0\" {function})");
        guest(interface, &Guest { imports, ..Guest::default() }, "ImportNotGranted", part)
    };
    refuses(vec![
        import("log", "\"enabled\" (func (param i32) (result i32))", "(granted by `spec.capabilities.log: true`)"),
        import("clock", "\"now\" (func (result i64))", "(granted by `spec.capabilities.clock: true`)"),
        import("random", "\"next\" (func (result i64))", "(granted by `spec.capabilities.random: true`)"),
        import(
            "counters",
            "\"get\" (func (param i32 i32) (result i64))",
            "(granted by `spec.capabilities.counters: true`)",
        ),
        import("key-value", "\"delete\" (func (param i32 i32))", "(granted by `spec.capabilities.keyValue: true`)"),
        import(
            "rate-limit",
            "\"take\" (func (param i32 i32 i32 i32 i32 i32))",
            "(granted by `spec.capabilities.rateLimits: [{name: …}]`)",
        ),
    ]);
}

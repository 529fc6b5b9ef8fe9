//! Candidates that must be refused: each with its reason, and with nothing else changed.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use penstock_core::plugin::{ActiveRevision, PluginSpec};
use support::{
    exchange::works,
    facts::{Host, spec},
    guest::{Answer, Edit, Guest, set},
};

/// A host that serves a neighbour and the last good revision of the plugin that is about to be broken.
struct World {
    host: Host,
    neighbour: PluginSpec,
    neighbour_active: ActiveRevision,
    generation: i64,
}

impl World {
    fn new() -> Self {
        let host = Host::start();
        let neighbour = spec("neighbour", Guest::default().build());
        let neighbour_active = host.activate(&neighbour);
        Self { host, neighbour, neighbour_active, generation: 0 }
    }

    /// `bad` replaces a good revision, is refused for `reason` with a message that has `part`, and harms nobody.
    #[track_caller]
    fn refuses(&mut self, mut bad: PluginSpec, reason: &str, part: &str) {
        let mut good = spec("victim", Guest::default().build());
        good.generation = self.generation + 1;
        bad.generation = self.generation + 2;
        self.generation += 2;
        self.host.apply(&[&self.neighbour, &good]);
        let active = self.host.active(&good);
        self.host.apply(&[&self.neighbour, &bad]);
        let (rejection, serving) = self.host.rejected(&bad);
        assert_eq!(rejection.reason, reason, "{}", rejection.message);
        assert!(rejection.message.contains(part), "{part:?} is not in {:?}", rejection.message);
        assert_eq!(serving, Some(active.clone()), "the last good revision serves");
        assert_eq!(self.host.host.validate(&bad).unwrap_err(), rejection, "the check says the same");
        let worker = self.host.host.runtime().worker();
        works(&*worker, &active);
        works(&*worker, &self.neighbour_active);
    }

    #[track_caller]
    fn refuses_guest(&mut self, guest: &Guest, reason: &str, part: &str) {
        self.refuses(spec("victim", guest.build()), reason, part);
    }
}

#[test]
fn bytes_that_are_no_component() {
    let mut world = World::new();
    world.refuses(spec("victim", b"0123456789".to_vec()), "InvalidModule", "the 10 bytes are no WebAssembly");
    let whole = Guest::default().build();
    world.refuses(spec("victim", whole[..100].to_vec()), "InvalidModule", "cut off or malformed at byte");
    world.refuses(spec("victim", Guest::default().module()), "NotAComponent", "wasm-tools component new");
    let mut large = spec("victim", whole.clone());
    large.limits.module_size = 100;
    world.refuses(large, "ModuleTooLarge", "limits.moduleSize allows 100");
    // A valid outline around an invalid body: only the compiler sees it.
    let body = "(component (core module (func (result i32))) (instance $e)
        (export \"penstock:plugin/lifecycle@0.1.0\" (instance $e)) (export \"penstock:plugin/header-policy@0.1.0\" (instance $e)))";
    world.refuses(spec("victim", wat::parse_str(body).unwrap()), "CompileFailed", "type mismatch");
}

#[test]
fn components_that_are_no_plugin_for_this_host() {
    let mut world = World::new();
    let component = |text: &str| wat::parse_str(format!("(component {text})")).unwrap();
    world.refuses(spec("victim", component("")), "NotAPlugin", "`penstock:plugin/lifecycle@0.1.0`");
    let empty_exports = "(instance $e) (export \"penstock:plugin/lifecycle@0.1.0\" (instance $e))
        (export \"penstock:plugin/header-policy@0.1.0\" (instance $e))";
    world.refuses(spec("victim", component(empty_exports)), "ContractMismatch", "no function `describe`");
    let log = Guest {
        imports: "(import \"penstock:plugin/log@0.1.0\" \"enabled\" (func (param i32) (result i32)))".into(),
        ..Guest::default()
    };
    world.refuses_guest(&log, "ImportNotGranted", "(granted by `spec.capabilities.log: true`)");
    let counters = Guest {
        imports: "(import \"penstock:plugin/counters@0.1.0\" \"get\" (func (param i32 i32) (result i64)))".into(),
        ..Guest::default()
    };
    world.refuses_guest(&counters, "ImportNotGranted", "(granted by `spec.capabilities.counters: true`)");
    // The name is right, the type is not.
    let wrong_type =
        "(import \"penstock:plugin/exchange-info@0.1.0\" (instance (export \"client\" (func (result u32)))))
        (instance $e) (export \"penstock:plugin/lifecycle@0.1.0\" (instance $e))
        (export \"penstock:plugin/header-policy@0.1.0\" (instance $e))";
    world.refuses(spec("victim", component(wrong_type)), "ContractMismatch", "client");
}

#[test]
fn code_that_does_not_come_to_an_end_or_traps_before_traffic() {
    let mut world = World::new();
    let spin = "(loop $again (br $again))";
    let start = |body: &str| Guest { fields: format!("(func $start {body}) (start $start)"), ..Guest::default() };
    let limit = "more than 200ms of CPU time";
    world.refuses_guest(&start(spin), "TimeLimitExceeded", &format!("the start code: it used {limit}"));
    world.refuses_guest(
        &start("unreachable"),
        "StartTrapped",
        "the start code: wasm trap: wasm `unreachable` instruction executed",
    );
    let describe = |code: &str| Guest { describe: code.into(), ..Guest::default() };
    world.refuses_guest(&describe(spin), "TimeLimitExceeded", &format!("describe: it used {limit}"));
    world.refuses_guest(&describe("unreachable"), "DescribeTrapped", "unreachable");
    let configure = |code: &str| Guest { configure: code.into(), ..Guest::default() };
    world.refuses_guest(&configure(spin), "TimeLimitExceeded", &format!("configure: it used {limit}"));
    world.refuses_guest(&configure("unreachable"), "ConfigureTrapped", "unreachable");
    world.refuses_guest(
        &configure("(i32.load (i32.const -1)) drop"),
        "ConfigureTrapped",
        "out of bounds memory access",
    );
    world.refuses_guest(
        &configure("(i32.div_u (i32.const 1) (i32.const 0)) drop"),
        "ConfigureTrapped",
        "integer divide by zero",
    );
    let deep =
        Guest { configure: "(call $deep)".into(), fields: "(func $deep (call $deep))".into(), ..Guest::default() };
    world.refuses_guest(&deep, "ConfigureTrapped", "call stack exhausted");
    let self_test = |code: &str| Guest { self_test_code: code.into(), ..Guest::default() };
    world.refuses_guest(&self_test("unreachable"), "SelfTestTrapped", "unreachable");
    let failing = Guest { self_test: Err("two and two is five".into()), ..Guest::default() };
    world.refuses_guest(&failing, "SelfTestFailed", "two and two is five");
}

#[test]
fn more_memory_than_the_limit() {
    let mut world = World::new();
    let hungry = Guest {
        configure: "(loop $again (br_if $again (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable"
            .into(),
        ..Guest::default()
    };
    world.refuses_guest(&hungry, "MemoryLimitExceeded", "limits.memory allows 16777216");
    let born_large = Guest { pages: 257, ..Guest::default() };
    world.refuses_guest(&born_large, "MemoryLimitExceeded", "the start code: it asked for 16842752 bytes of memory");
    let four_gib = Guest { pages: 65536, ..Guest::default() };
    world.refuses_guest(&four_gib, "MemoryLimitExceeded", "it asked for 4294967296 bytes of memory");
    let table = Guest { fields: "(table 1000000 funcref)".into(), ..Guest::default() };
    world.refuses_guest(&table, "MemoryLimitExceeded", "it asked for 1000000 table elements; 20000 are allowed");
    // What copes with being denied is welcome.
    let modest = Guest { configure: "(memory.grow (i32.const 10000)) drop".into(), ..Guest::default() };
    let modest = spec("modest", modest.build());
    world.host.apply(&[&modest]);
    world.host.active(&modest);
}

#[test]
fn answers_that_break_the_contract_before_traffic() {
    let mut world = World::new();
    let named = |name: &str| Guest { name: name.into(), ..Guest::default() };
    world.refuses_guest(&named("Not A Name"), "InvalidManifest", "\"Not A Name\" is not 1–63 lower case letters");
    world.refuses_guest(&named(""), "InvalidManifest", "\"\" is not");
    let version = |version: &str| Guest { version: version.into(), ..Guest::default() };
    world.refuses_guest(&version("latest"), "InvalidManifest", "\"latest\" is no semantic version, such as 1.2.3");
    world.refuses_guest(&version("1.2"), "InvalidManifest", "\"1.2\"");
    let schema = |schema: &str| Guest { schema: schema.into(), ..Guest::default() };
    world.refuses_guest(&schema("{"), "InvalidManifest", "config-schema is no JSON");
    world.refuses_guest(&schema(r#"{"type": 3}"#), "InvalidManifest", "config-schema is no JSON Schema");
    world.refuses_guest(
        &schema(r#"{"$ref": "https://a.example/"}"#),
        "InvalidManifest",
        "config-schema is no JSON Schema",
    );
    let plan = |change: fn(&mut support::guest::Plan)| {
        let mut guest = Guest::default();
        change(&mut guest.plan);
        guest
    };
    world.refuses_guest(
        &plan(|plan| plan.request_reads = vec!["X-Upper".into()]),
        "InvalidPlan",
        "request-reads[0]: `X-Upper`",
    );
    world.refuses_guest(
        &plan(|plan| plan.request_writes = vec!["te".into()]),
        "InvalidPlan",
        "request-writes[0]: `te`",
    );
    world.refuses_guest(
        &plan(|plan| plan.hooks = 1 << 6),
        "InvalidPlan",
        "hooks: `end` needs the interface exchange-policy",
    );
    world.refuses_guest(
        &plan(|plan| plan.hooks = 1 << 7),
        "InvalidPlan",
        "hooks: `choose` needs the interface route-policy",
    );
    let problem = Guest { problems: vec![("/rules/0".into(), "there is no rule".into())], ..Guest::default() };
    world.refuses_guest(&problem, "InvalidConfig", "spec.config: /rules/0: there is no rule");
}

#[test]
fn hooks_that_fail_on_sample_exchanges() {
    let mut world = World::new();
    let request = |on_request| Guest { on_request, ..Guest::default() };
    let response = |on_response| Guest { on_response, ..Guest::default() };
    world.refuses_guest(
        &request(Answer::Code("unreachable".into())),
        "SampleTrapped",
        "the sample exchange `empty request`: wasm trap: wasm `unreachable` instruction executed",
    );
    world.refuses_guest(&response(Answer::Code("unreachable".into())), "SampleTrapped", "`empty request`");
    world.refuses_guest(
        &request(Answer::Code("(loop $again (br $again)) unreachable".into())),
        "TimeLimitExceeded",
        "it used more than 2ms of CPU time",
    );
    world.refuses_guest(&request(Answer::Hold), "InvalidAnswer", "invalid-hold");
    world.refuses_guest(&request(Answer::Reply(99, vec![], vec![])), "InvalidAnswer", "status 99");
    world.refuses_guest(
        &request(Answer::Proceed(vec![set("x-other", "1")], 0)),
        "InvalidAnswer",
        "undeclared-write: `x-other`",
    );
    world.refuses_guest(&response(Answer::Proceed(vec![Edit::RemoveKnown(9)], 0)), "InvalidAnswer", "index 9");
    // Fails only when there is a value, and only when it is no UTF-8 or very long.
    let mut careless = request(Answer::Code(
        "(if (i32.ge_u (i32.load8_u (i32.load offset=4 (local.get $fields))) (i32.const 128)) (then unreachable))
         (i32.const 0)"
            .into(),
    ));
    careless.plan.request_reads = vec!["x-name".into()];
    world.refuses_guest(&careless, "SampleTrapped", "`headers that are not UTF-8`");
    let mut short = request(Answer::Code(
        "(if (i32.eq (i32.load8_u (local.get $fields)) (i32.const 2)) (then unreachable)) (i32.const 0)".into(),
    ));
    short.plan.request_reads = vec!["x-name".into()];
    world.refuses_guest(&short, "SampleTrapped", "`large headers`");
}

#[test]
fn a_configuration_against_the_schema() {
    let mut world = World::new();
    let schema = r#"{"type": "object", "properties": {"header": {"type": "string"}, "mode": {"enum": ["a", "b"]}},
        "required": ["header"], "additionalProperties": false}"#;
    let module = Guest { schema: schema.into(), ..Guest::default() }.build();
    let configured = |config: serde_json::Value| PluginSpec { config: config.into(), ..spec("victim", module.clone()) };
    world.refuses(
        configured(serde_json::Value::Null),
        "InvalidConfig",
        "spec.config: /: the field `header` is missing",
    );
    world.refuses(
        configured(serde_json::json!({"header": 1, "mode": "c", "extra": true})),
        "InvalidConfig",
        "/extra: unknown field `extra`; known fields: header, mode",
    );
    let good = PluginSpec { generation: 100, ..configured(serde_json::json!({"header": "a", "mode": "b"})) };
    world.host.apply(&[&good]);
    world.host.active(&good);
}

//! Manifests, plans and answers to sample exchanges that break the contract.

use penstock_core::plugin::PluginSpec;
use serde_json::json;

use crate::{
    Case, guest, refuses,
    support::{
        facts::{Host, spec},
        guest::{Answer, Edit, Guest, Plan, set},
    },
};

#[test]
fn manifests() {
    let named =
        |name: &str, part| guest(name, &Guest { name: name.into(), ..Guest::default() }, "InvalidManifest", part);
    let version = |version: &str| {
        guest(version, &Guest { version: version.into(), ..Guest::default() }, "InvalidManifest", "no semantic version")
    };
    let schema = |name: &str, schema: &str, part| {
        guest(name, &Guest { schema: schema.into(), ..Guest::default() }, "InvalidManifest", part)
    };
    let long = "a".repeat(64);
    let deep = format!("{}{}", "{\"items\":".repeat(10_000), "}".repeat(10_000));
    refuses(vec![
        named("Not A Name", "\"Not A Name\" is not 1–63 lower case letters"),
        named("", "\"\" is not"),
        named(&long, "is not 1–63"),
        named("a\r\nb", "is not 1–63"),
        named("\u{202e}evil", "is not 1–63"),
        version("latest"),
        version("1.2"),
        version("1.2.3-\u{7f}"),
        schema("no JSON", "{", "config-schema is no JSON"),
        schema("no schema", r#"{"type": 3}"#, "config-schema is no JSON Schema"),
        schema("a schema from elsewhere", r#"{"$ref": "https://a.example/"}"#, "config-schema is no JSON Schema"),
        schema("a schema from a file", r#"{"$ref": "file:///etc/passwd"}"#, "config-schema is no JSON Schema"),
        schema("a deep schema", &deep, "config-schema"),
        guest(
            "a schema of 1 MiB",
            &Guest { schema: "x".repeat(1 << 20), pages: 80, ..Guest::default() },
            "InvalidManifest",
            "config-schema is no JSON",
        ),
        guest(
            "a schema of 3 MiB",
            &Guest { schema: "x".repeat(3 << 20), pages: 80, ..Guest::default() },
            "ContractMismatch",
            "too much data is being copied between the host and the guest",
        ),
    ]);
}

#[test]
fn plans() {
    let plan = |name: &str, change: &dyn Fn(&mut Plan), part| -> Case {
        let mut guest = Guest::default();
        change(&mut guest.plan);
        crate::guest(name, &guest, "InvalidPlan", part)
    };
    let many: Vec<String> = (0..257).map(|number| format!("x-{number}")).collect();
    let problem = Guest { problems: vec![("/rules/0".into(), "there is no rule".into())], ..Guest::default() };
    refuses(vec![
        plan("reads upper case", &|plan| plan.request_reads = vec!["X-Upper".into()], "request-reads[0]: `X-Upper`"),
        plan("reads a line break", &|plan| plan.response_reads = vec!["a\r\nb".into()], "response-reads[0]"),
        plan("writes te", &|plan| plan.request_writes = vec!["te".into()], "request-writes[0]: `te`"),
        plan("writes the length", &|plan| plan.response_writes = vec!["content-length".into()], "response-writes[0]"),
        plan("writes the scheme", &|plan| plan.request_writes = vec![":scheme".into()], "request-writes[0]"),
        plan("257 names", &|plan| plan.request_reads.clone_from(&many), "request-reads has 257 names; 256 are allowed"),
        plan(
            "a name twice",
            &|plan| plan.request_reads = vec!["x-a".into(); 2],
            "request-reads[1]: `x-a` is there already",
        ),
        plan("an end hook", &|plan| plan.hooks = 1 << 6, "`end`"),
        plan("a body hook", &|plan| plan.hooks = 1 << 1, "`request-body`"),
        plan("a choice", &|plan| plan.hooks = 1 << 7, "`choose`"),
        guest("a problem", &problem, "InvalidConfig", "spec.config: /rules/0: there is no rule"),
        guest(
            "a self-test that fails",
            &Guest { self_test: Err("two and two is five".into()), ..Guest::default() },
            "SelfTestFailed",
            "two and two is five",
        ),
        guest(
            "a terminal's control characters",
            &Guest { self_test: Err("\u{1b}[2J\u{7}".into()), ..Guest::default() },
            "SelfTestFailed",
            "the plugin's self-test failed",
        ),
    ]);
}

#[test]
fn hooks_on_sample_exchanges() {
    let request =
        |name: &str, on_request, reason, part| guest(name, &Guest { on_request, ..Guest::default() }, reason, part);
    let response =
        |name: &str, on_response, reason, part| guest(name, &Guest { on_response, ..Guest::default() }, reason, part);
    let code = |code: &str| Answer::Code(code.into());
    let proceed = |edits| Answer::Proceed(edits, 0);
    let reading = |name: &str, on_request, part| {
        let mut careless = Guest { on_request, ..Guest::default() };
        careless.plan.request_reads = vec!["x-name".into()];
        guest(name, &careless, "SampleTrapped", part)
    };
    refuses(vec![
        request("traps", code("unreachable"), "SampleTrapped", "the sample exchange `empty request`: wasm trap"),
        response("traps on the way back", code("unreachable"), "SampleTrapped", "`empty request`"),
        request("loops", code("(loop $again (br $again)) unreachable"), "TimeLimitExceeded", "more than 200ms of CPU time"),
        request("holds", Answer::Hold, "InvalidAnswer", "invalid-hold"),
        request("status 99", Answer::Reply(99, vec![], vec![]), "InvalidAnswer", "status 99"),
        response("status 1000", Answer::Reply(1000, vec![], vec![]), "InvalidAnswer", "status 1000"),
        request("undeclared", proceed(vec![set("x-other", "1")]), "InvalidAnswer", "undeclared-write: `x-other`"),
        response("beyond the plan", proceed(vec![Edit::RemoveKnown(9)]), "InvalidAnswer", "index 9"),
        request("a pointer out of bounds", code("i32.const -16"), "InvalidAnswer", "out of bounds"),
        request("a pointer that is odd", code("i32.const 1"), "InvalidAnswer", "not aligned"),
        guest(
            "expects few headers",
            &Guest {
                imports: "(import \"penstock:plugin/exchange-info@0.1.0\" \"request-headers\" (func $all (param i32)))".into(),
                on_request: code(
                    "(call $all (i32.const 256))
                     (if (i32.gt_u (i32.load (i32.const 260)) (i32.const 64)) (then unreachable))
                     (i64.store (i32.const 64) (i64.const 0)) (i64.store (i32.const 72) (i64.const 0)) (i32.const 64)",
                ),
                ..Guest::default()
            },
            "SampleTrapped",
            "`large headers`",
        ),
        // Fails only when there is a value, and only when it is no UTF-8 or very long.
        reading(
            "expects UTF-8",
            code(
                "(if (i32.ge_u (i32.load8_u (i32.load offset=4 (local.get $fields))) (i32.const 128)) (then unreachable))
                 (i32.const 0)",
            ),
            "`headers that are not UTF-8`",
        ),
        reading(
            "expects one value",
            code("(if (i32.eq (i32.load8_u (local.get $fields)) (i32.const 2)) (then unreachable)) (i32.const 0)"),
            "`large headers`",
        ),
    ]);
}

#[test]
fn configurations_against_the_schema() {
    let schema = r#"{"type": "object", "properties": {"header": {"type": "string"}, "mode": {"enum": ["a", "b"]}},
        "required": ["header"], "additionalProperties": false}"#;
    let module = Guest { schema: schema.into(), ..Guest::default() }.build();
    let configured = |config: serde_json::Value| PluginSpec { config: config.into(), ..spec("victim", module.clone()) };
    let case =
        |name: &str, config, part| Case { name: name.into(), spec: configured(config), reason: "InvalidConfig", part };
    refuses(vec![
        case("none", serde_json::Value::Null, "spec.config: /: the field `header` is missing"),
        case(
            "a field too many",
            json!({"header": 1, "mode": "c", "extra": true}),
            "/extra: unknown field `extra`; known fields: header, mode",
        ),
        case("a list", json!([1, 2, 3]), "spec.config: /"),
    ]);
    Host::start().activate(&configured(json!({"header": "a", "mode": "b"})));
}

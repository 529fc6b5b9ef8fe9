//! Code that loops, traps or takes all there is, before there is traffic.

use crate::{
    bytes, guest, refuses,
    support::{
        facts::{Host, spec},
        guest::Guest,
    },
};

const SPIN: &str = "(loop $again (br $again))";
const GROW: &str = "(loop $again (br_if $again (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable";
const LIMIT: &str = "it used more than 200ms of CPU time";

fn start(body: &str) -> Guest {
    Guest { fields: format!("(func $start {body}) (start $start)"), ..Guest::default() }
}

fn describe(code: &str) -> Guest {
    Guest { describe: code.into(), ..Guest::default() }
}

fn configure(code: &str) -> Guest {
    Guest { configure: code.into(), ..Guest::default() }
}

fn self_test(code: &str) -> Guest {
    Guest { self_test_code: code.into(), ..Guest::default() }
}

#[test]
fn loops() {
    refuses(vec![
        guest("start", &start(SPIN), "TimeLimitExceeded", "the start code: it used more than 200ms of CPU time"),
        guest("describe", &describe(SPIN), "TimeLimitExceeded", LIMIT),
        guest("configure", &configure(SPIN), "TimeLimitExceeded", LIMIT),
        guest("self-test", &self_test(SPIN), "TimeLimitExceeded", LIMIT),
    ]);
}

#[test]
fn traps() {
    let with = |code: &str, fields: &str| Guest { fields: fields.into(), ..configure(code) };
    refuses(vec![
        guest("start", &start("unreachable"), "StartTrapped", "the start code: wasm trap: wasm `unreachable`"),
        guest("describe", &describe("unreachable"), "DescribeTrapped", "unreachable"),
        guest("configure", &configure("unreachable"), "ConfigureTrapped", "unreachable"),
        guest("self-test", &self_test("unreachable"), "SelfTestTrapped", "unreachable"),
        guest(
            "out of bounds",
            &configure("(i32.load (i32.const -1)) drop"),
            "ConfigureTrapped",
            "out of bounds memory",
        ),
        guest(
            "copied out of bounds",
            &configure("(memory.copy (i32.const 0) (i32.const 0) (i32.const -1))"),
            "ConfigureTrapped",
            "out of bounds memory",
        ),
        guest(
            "divided by zero",
            &configure("(i32.div_u (i32.const 1) (i32.const 0)) drop"),
            "ConfigureTrapped",
            "integer divide by zero",
        ),
        guest(
            "an overflow",
            &configure("(i32.div_s (i32.const 0x80000000) (i32.const -1)) drop"),
            "ConfigureTrapped",
            "integer overflow",
        ),
        guest(
            "not a number",
            &configure("(i32.trunc_f32_s (f32.const nan)) drop"),
            "ConfigureTrapped",
            "invalid conversion to integer",
        ),
        guest(
            "recursion",
            &with("(call $deep)", "(func $deep (call $deep))"),
            "ConfigureTrapped",
            "call stack exhausted",
        ),
        guest(
            "a function that is not there",
            &with("(call_indirect (i32.const 0))", "(table 1 funcref)"),
            "ConfigureTrapped",
            "uninitialized element",
        ),
        guest(
            "beyond the table",
            &with("(call_indirect (i32.const 7))", "(table 1 funcref)"),
            "ConfigureTrapped",
            "out of bounds",
        ),
        guest(
            "a function of another type",
            &with(
                "(call_indirect (i32.const 0))",
                "(table 1 funcref) (func $other (result i32) (i32.const 0)) (elem (i32.const 0) $other)",
            ),
            "ConfigureTrapped",
            "indirect call type mismatch",
        ),
    ]);
}

#[test]
fn memory_and_tables() {
    let table = |fields: &str| Guest { fields: fields.into(), ..Guest::default() };
    let (tables, one) = ("(table 1000 funcref)".repeat(30), Guest::default());
    let grown = Guest {
        fields: "(table $t 0 funcref)".into(),
        ..configure(
            "(table.grow $t (ref.null func) (i32.const 10000000)) (i32.const -1) (i32.eq) (if (then unreachable))",
        )
    };
    refuses(vec![
        guest("grows", &configure(GROW), "MemoryLimitExceeded", "limits.memory allows 16777216"),
        guest("grows at start", &start(GROW), "MemoryLimitExceeded", "limits.memory allows 16777216"),
        guest(
            "born large",
            &Guest { pages: 257, ..Guest::default() },
            "MemoryLimitExceeded",
            "asked for 16842752 bytes",
        ),
        guest(
            "born with 4 GiB",
            &Guest { pages: 65536, ..Guest::default() },
            "MemoryLimitExceeded",
            "4294967296 bytes",
        ),
        guest("33 tables", &table(&"(table 1 funcref)".repeat(33)), "ContractMismatch", "33"),
        bytes("5 memories", one.build_with(4, "(module (memory 1))"), "ContractMismatch", "memory count too high at 5"),
        bytes("33 instances", one.build_with(32, "(module)"), "ContractMismatch", "instance count too high at"),
        guest("a large table", &table("(table 1000000 funcref)"), "MemoryLimitExceeded", "20000 are allowed"),
        guest("many tables", &table(&tables), "MemoryLimitExceeded", "20000 are allowed"),
        guest("a table that grows", &grown, "MemoryLimitExceeded", "20000 are allowed"),
    ]);
}

/// What was composed of several components has a few more parts.
#[test]
fn a_few_parts_more_are_welcome() {
    let host = Host::start();
    host.activate(&spec("memories", Guest::default().build_with(3, "(module (memory 1))")));
    host.activate(&spec("instances", Guest::default().build_with(20, "(module)")));
}

/// Being denied is no fault: what copes with it is welcome.
#[test]
fn who_copes_with_being_denied_is_welcome() {
    let modest = configure("(memory.grow (i32.const 10000)) drop");
    Host::start().activate(&spec("modest", modest.build()));
}

/// Handles of resources are in the gateway's memory: the same metric, registered again and again.
#[test]
fn handles() {
    let guest_of_metrics = Guest {
        imports: "(import \"penstock:plugin/metrics@0.1.0\" \"[static]counter.register\"
            (func $register (param i32 i32 i32 i32 i32 i32 i32)))"
            .into(),
        fields: "(data (i32.const 0) \"a\")".into(),
        ..configure(
            "(loop $again
               (call $register (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 64))
               (br_if $again (i32.eqz (i32.load8_u (i32.const 64)))))",
        )
    };
    let mut case =
        guest("a metric again and again", &guest_of_metrics, "ContractMismatch", "store handle limit exceeded");
    case.spec.capabilities.metrics = true;
    refuses(vec![case]);
}

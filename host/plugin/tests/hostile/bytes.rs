//! Bytes that are no component, or one that no compiler should get.

use std::time::Duration;

use penstock_plugin_host::validator::ValidationLimits;
use wasmparser::{Parser, Payload};

use crate::{
    EMPTY_EXPORTS, bytes, component, refuses, refuses_with,
    support::{facts::settings, guest::Guest},
};

const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

#[test]
fn bytes_that_are_no_component() {
    let with = |tail: &[u8]| [COMPONENT, tail].concat();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    })
    .take(100_000)
    .collect();
    let mut too_large = bytes("too large", Guest::default().build(), "ModuleTooLarge", "limits.moduleSize allows 100");
    too_large.spec.limits.module_size = 100;
    refuses(vec![
        bytes("nothing", b"", "InvalidModule", "the 0 bytes are no WebAssembly"),
        bytes("text", b"0123456789", "InvalidModule", "the 10 bytes are no WebAssembly"),
        bytes("a page of HTML", b"<!doctype html><title>404</title>", "InvalidModule", "are no WebAssembly"),
        bytes("only the magic", b"\0asm", "InvalidModule", "cut off or malformed"),
        bytes("an unknown version", b"\0asm\x63\0\x01\0", "InvalidModule", "cut off or malformed"),
        bytes("an unknown layer", b"\0asm\x0d\0\x07\0", "InvalidModule", "cut off or malformed"),
        bytes("noise", noise.clone(), "InvalidModule", "are no WebAssembly"),
        bytes("noise behind a header", with(&noise), "InvalidModule", "cut off or malformed"),
        bytes("an unknown section", with(&[0x7f, 0]), "NotAPlugin", ""),
        bytes("a section of 4 GiB", with(&[1, 0xff, 0xff, 0xff, 0xff, 0x0f]), "InvalidModule", "cut off or malformed"),
        bytes("a length that does not end", with(&[1, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80]), "InvalidModule", ""),
        bytes("sections for ever", with(&[4, 0].repeat(500_000)), "InvalidModule", ""),
        bytes("components in components", nested(1000), "NotAPlugin", ""),
        bytes("a core module", Guest::default().module(), "NotAComponent", "wasm-tools component new"),
        bytes("machine code", machine_code(), "PrecompiledModule", "give the component it was made from"),
        too_large,
    ]);
}

/// A component in a component in a component.
fn nested(times: usize) -> Vec<u8> {
    (0..times).fold(COMPONENT.to_vec(), |inner, _| {
        let mut len = inner.len();
        let mut outer = [COMPONENT, &[4]].concat();
        while len > 0x7f {
            outer.push(u8::try_from(len & 0x7f).unwrap() | 0x80);
            len >>= 7;
        }
        outer.push(u8::try_from(len).unwrap());
        [outer, inner].concat()
    })
}

/// What an attacker would like to have loaded as it is.
fn machine_code() -> Vec<u8> {
    let engine = wasmtime::Engine::default();
    engine.precompile_component(&Guest::default().build()).unwrap()
}

#[test]
fn cut_off_at_every_boundary_of_sections() {
    let whole = Guest::default().build();
    let mut cases = Vec::new();
    let mut promised_code = false;
    for payload in Parser::new(0).parse_all(&whole) {
        let payload = payload.unwrap();
        match &payload {
            Payload::FunctionSection(functions) => promised_code = functions.count() > 0,
            Payload::CodeSectionStart { .. } | Payload::End(_) => promised_code = false,
            _ => {}
        }
        let section = payload.as_section().map(|(_, range)| range.end);
        let Some(end) = section.filter(|end| *end < whole.len() / 2) else { continue };
        let cut = |name: &str, len, reason, part| bytes(&format!("{name} {len}"), &whole[..len], reason, part);
        cases.push(cut("before", end - 1, "InvalidModule", "malformed at byte"));
        cases.push(cut("behind", end + 1, "InvalidModule", "malformed at byte"));
        // At a boundary, also of a module within, what is there is well-formed; what exports is missing.
        // Unless functions were announced whose code does not follow.
        let (reason, part) =
            if promised_code { ("InvalidModule", "code section is absent") } else { ("NotAPlugin", "does not export") };
        cases.push(cut("at", end, reason, part));
    }
    assert!(cases.len() >= 30, "{}", cases.len());
    refuses(cases);
}

/// What instances take that is no linear memory, and that no limit of memory counts.
#[test]
fn parts_without_end() {
    let core = |name: &str, fields: &str, instances: usize, part| {
        let instances = "(core instance (instantiate $m))".repeat(instances);
        component(name, &format!("(core module $m {fields}) {instances} {EMPTY_EXPORTS}"), "ModuleTooLarge", part)
    };
    let globals = "(global i32 (i32.const 0))".repeat(100_000);
    let functions = format!("(type (func)) {}", "(func (type 0))".repeat(1_000_001));
    refuses(vec![
        core("100,000 globals, 32 times", &globals, 32, "100000 globals"),
        core("1,000,001 functions", &functions, 1, "1000001 functions"),
    ]);
}

#[test]
fn what_the_compiler_refuses() {
    let core = |name: &str, fields: &str, part| {
        component(name, &format!("(core module {fields}) {EMPTY_EXPORTS}"), "CompileFailed", part)
    };
    let many = |text: &str, times: usize| text.repeat(times);
    refuses(vec![
        core("an invalid body", "(func (result i32))", "type mismatch"),
        core("memory of 64 bits", "(memory i64 1)", "memory64"),
        core("two memories", "(memory 1) (memory 1)", "multi"),
        core("shared memory", "(memory 1 1 shared)", ""),
        core("a page size of its own", "(memory 1 (pagesize 1))", "page size"),
        core("tail calls", "(func $f (return_call $f))", "tail calls"),
        core(
            "relaxed instructions",
            "(func (param v128) (result v128) (i32x4.relaxed_trunc_f32x4_s (local.get 0)))",
            "relaxed",
        ),
        core("more memory than there is", "(memory 65537)", ""),
        core("50,001 locals", &format!("(func {})", many("(local i32)", 50_001)), "locals"),
        core("1,001 parameters", &format!("(func (param {}))", many("i32 ", 1_001)), "param"),
        core("an export twice", "(func (export \"a\")) (func (export \"a\"))", "duplicate export"),
        core("a start that takes parameters", "(func $f (param i32)) (start $f)", ""),
    ]);
}

/// Within what is valid, there is more than validation should pay for.
#[test]
fn what_takes_too_much_to_compile() {
    let function = "(func (global.set 0 (i32.mul (global.get 0) (i32.const 7))))";
    let functions = format!("(global (mut i32) (i32.const 1)) {}", function.repeat(100_000));
    let module = wat::parse_str(format!("(component (core module {functions}) {EMPTY_EXPORTS})")).unwrap();
    assert!(module.len() < 16 << 20, "{}", module.len());
    let refused = |limits: ValidationLimits, reason, part| {
        let mut settings = settings();
        settings.validator.limits = limits;
        refuses_with(settings, vec![bytes("100,000 functions", module.clone(), reason, part)]);
    };
    let usual = ValidationLimits::default;
    let hurried = ValidationLimits { cpu_time: Duration::from_secs(1), ..usual() };
    refused(hurried, "ValidationTimeLimitExceeded", "more than 1s of CPU time");
    refused(ValidationLimits { memory: 48 << 20, ..usual() }, "ValidationMemoryLimitExceeded", "memory");
}

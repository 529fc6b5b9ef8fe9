//! What can be said of a module without running any of it: whether it is a component, which world it belongs to, what it imports.
//!
//! wasmtime would refuse most of this as well. It is said here first because it can be said better: by the name of the import, with the
//! field of the resource that grants it.

use penstock_core::plugin::{Capabilities, Rejection};
use serde::{Deserialize, Serialize};
use wasmparser::{ComponentInstance, Encoding, Instance, Parser, Payload};
use wasmtime::Engine;

use crate::{
    contract::{self, InterfaceName, VERSION, Version, WASI},
    instance::MOST_INSTANCES,
    reason::{self, rejection},
};

/// What a component imports, as far as it changes how it is called.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Imports {
    /// The exchange must be lent to the store for each call.
    pub(crate) exchange_info: bool,
    /// The request id must be known to the store for each call.
    pub(crate) log: bool,
    /// It may wait: its stores are called on fibers.
    pub(crate) outbound: bool,
}

/// Refuse what cannot be a plugin with these capabilities.
pub(crate) fn check(bytes: &[u8], granted: &Capabilities) -> Result<Imports, Rejection> {
    if Engine::detect_precompiled(bytes).is_some() {
        return Err(rejection(
            reason::PRECOMPILED_MODULE,
            "this is a precompiled artifact of wasmtime, which cannot be verified; give the component it was made from",
        ));
    }
    let outline = Outline::parse(bytes)?;
    outline.check_exports()?;
    outline.size.check()?;
    outline.check_imports(granted)
}

/// Functions and globals of all core modules of a component, times the instances that it may make of them. Each can take some bytes of an
/// instance that belong to no linear memory. A Python interpreter in thirty parts counts 500,000 and 28,000; a plugin in Rust some hundred.
const MOST_FUNCTIONS: u64 = 1_000_000;
const MOST_GLOBALS: u64 = 200_000;

/// Imports and exports of the outermost component, and what its instances take besides memory.
pub(crate) struct Outline<'a> {
    pub(crate) imports: Vec<&'a str>,
    pub(crate) exports: Vec<&'a str>,
    size: Size,
}

/// Of all core modules, and how often something is instantiated.
#[derive(Default)]
struct Size {
    functions: u64,
    globals: u64,
    core_instances: u64,
    component_instances: u64,
}

impl<'a> Outline<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, Rejection> {
        let mut outline = Self { imports: Vec::new(), exports: Vec::new(), size: Size::default() };
        let mut depth = 0_usize;
        for payload in Parser::new(0).parse_all(bytes) {
            let payload = payload.map_err(|error| malformed(bytes, &error))?;
            outline.size.add(&payload).map_err(|error| malformed(bytes, &error))?;
            match payload {
                Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => return Err(core_module()),
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentImportSection(section) if depth == 0 => {
                    for import in section {
                        outline.imports.push(import.map_err(|error| malformed(bytes, &error))?.name.name);
                    }
                }
                Payload::ComponentExportSection(section) if depth == 0 => {
                    for export in section {
                        outline.exports.push(export.map_err(|error| malformed(bytes, &error))?.name.name);
                    }
                }
                _ => {}
            }
        }
        Ok(outline)
    }

    fn check_exports(&self) -> Result<(), Rejection> {
        let exports = |interface| self.exports.contains(&interface);
        let is_policy = exports(contract::HEADER_POLICY) || exports(contract::EXCHANGE_POLICY);
        let is_route = exports(contract::ROUTE_POLICY);
        if exports(contract::LIFECYCLE) && is_policy && is_route {
            return Err(two_kinds());
        }
        if exports(contract::LIFECYCLE) && (is_policy || is_route) {
            return Ok(());
        }
        for name in &self.exports {
            check_version(name)?;
        }
        let missing = if exports(contract::LIFECYCLE) { contract::HEADER_POLICY } else { contract::LIFECYCLE };
        Err(rejection(
            reason::NOT_A_PLUGIN,
            format!(
                "the component does not export `{missing}`: a plugin is a component of the world `{}/policy@{VERSION}`",
                contract::PACKAGE
            ),
        ))
    }

    fn check_imports(&self, granted: &Capabilities) -> Result<Imports, Rejection> {
        let mut imports = Imports::default();
        let (mut refused, mut wasi) = (Vec::new(), Vec::new());
        for name in &self.imports {
            match judge(name, granted)? {
                Import::Fine => {}
                Import::ExchangeInfo => imports.exchange_info = true,
                Import::Log => imports.log = true,
                Import::Outbound => imports.outbound = true,
                Import::Wasi => wasi.push(*name),
                Import::NotGranted(field) => refused.push(format!("`{name}` (granted by `{field}`)")),
            }
        }
        // What it prints is logged.
        imports.log |= granted.log && !wasi.is_empty();
        if let ([first, others @ ..], false) = (wasi.as_slice(), granted.wasi) {
            refused.push(wasi_not_granted(first, others.len()));
        }
        if refused.is_empty() {
            return Ok(imports);
        }
        let message = format!("the component imports what the resource does not grant: {}", refused.join(", "));
        Err(rejection(reason::IMPORT_NOT_GRANTED, message))
    }
}

impl Size {
    fn add(&mut self, payload: &Payload<'_>) -> wasmparser::Result<()> {
        match payload {
            Payload::FunctionSection(section) => self.functions += u64::from(section.count()),
            Payload::ImportSection(section) => self.functions += u64::from(section.count()),
            Payload::GlobalSection(section) => self.globals += u64::from(section.count()),
            Payload::InstanceSection(section) => {
                for instance in section.clone() {
                    self.core_instances += u64::from(matches!(instance?, Instance::Instantiate { .. }));
                }
            }
            Payload::ComponentInstanceSection(section) => {
                for instance in section.clone() {
                    self.component_instances += u64::from(matches!(instance?, ComponentInstance::Instantiate { .. }));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Nested components are taken to make all instances each time that one of them is instantiated: an upper bound, and an exact one for what
    /// `wit-component` makes.
    fn check(&self) -> Result<(), Rejection> {
        let instances = self.core_instances.saturating_mul(self.component_instances.max(1)).clamp(1, MOST_INSTANCES);
        let too_many = |what: &str, count: u64, most: u64| {
            let message = format!(
                "its core modules have {count} {what} together, and it makes {instances} instances of them: that may be \
                 {most} in all"
            );
            Err(rejection(reason::MODULE_TOO_LARGE, message))
        };
        if self.functions.saturating_mul(instances) > MOST_FUNCTIONS {
            return too_many("functions", self.functions, MOST_FUNCTIONS);
        }
        if self.globals.saturating_mul(instances) > MOST_GLOBALS {
            return too_many("globals", self.globals, MOST_GLOBALS);
        }
        Ok(())
    }
}

enum Import {
    Fine,
    ExchangeInfo,
    Log,
    Outbound,
    /// A part of the slice that there is.
    Wasi,
    NotGranted(&'static str),
}

fn judge(name: &str, granted: &Capabilities) -> Result<Import, Rejection> {
    if name.starts_with(WASI) {
        return if is_wasi_slice(name) { Ok(Import::Wasi) } else { Err(not_in_slice(name)) };
    }
    let Some(interface) = ours(name) else { return Err(foreign(name)) };
    check_version(name)?;
    let grant = |granted: bool, import, field| if granted { import } else { Import::NotGranted(field) };
    match interface.interface {
        // Types alone, which need nobody behind them.
        "types" => Ok(Import::Fine),
        "exchange-info" => Ok(Import::ExchangeInfo),
        "log" => Ok(grant(granted.log, Import::Log, "spec.capabilities.log: true")),
        "clock" => Ok(grant(granted.clock, Import::Fine, "spec.capabilities.clock: true")),
        "random" => Ok(grant(granted.random, Import::Fine, "spec.capabilities.random: true")),
        "metrics" => Ok(grant(granted.metrics, Import::Fine, "spec.capabilities.metrics: true")),
        "counters" => Ok(grant(granted.counters, Import::Fine, "spec.capabilities.counters: true")),
        "key-value" => Ok(grant(granted.key_value, Import::Fine, "spec.capabilities.keyValue: true")),
        "rate-limit" => {
            Ok(grant(!granted.rate_limits.is_empty(), Import::Fine, "spec.capabilities.rateLimits: [{name: …}]"))
        }
        "outbound-http" => Ok(grant(
            !granted.outbound.is_empty(),
            Import::Outbound,
            "spec.capabilities.outbound: [{name: …, backendRef: …}]",
        )),
        _ => {
            Err(rejection(reason::UNKNOWN_IMPORT, format!("the component imports `{name}`, which no plugin can have")))
        }
    }
}

/// The name, if it belongs to the contract.
fn ours(name: &str) -> Option<InterfaceName<'_>> {
    InterfaceName::parse(name).filter(|name| name.package == contract::PACKAGE)
}

fn foreign(name: &str) -> Rejection {
    let message = format!(
        "the component imports `{name}`: plugins may import interfaces of the package {} only",
        contract::PACKAGE
    );
    rejection(reason::UNKNOWN_IMPORT, message)
}

/// Packages of WASI that a plugin may be granted.
const SLICE: [&str; 6] = ["wasi:cli", "wasi:clocks", "wasi:filesystem", "wasi:io", "wasi:random", "wasi:sockets"];

/// Whether `capabilities.wasi` grants the import. Patch levels of WASI 0.2 are compatible with each other.
#[must_use]
pub fn is_wasi_slice(name: &str) -> bool {
    let parts = InterfaceName::parse(name).and_then(|name| Some((name.package, Version::parse(name.version?)?)));
    parts.is_some_and(|(package, version)| SLICE.contains(&package) && (version.major, version.minor) == (0, 2))
}

fn not_in_slice(name: &str) -> Rejection {
    let message = format!(
        "the component imports `{name}`: of WASI a plugin can have {} in version 0.2, and nothing behind them but clocks, random \
         numbers and its log; for HTTP there is `penstock:plugin/outbound-http`",
        SLICE.join(", ")
    );
    rejection(reason::UNKNOWN_IMPORT, message)
}

fn wasi_not_granted(first: &str, others: usize) -> String {
    let others = if others == 0 { String::new() } else { format!(" and {others} more of WASI") };
    format!(
        "`{first}`{others} (granted by `spec.capabilities.wasi: true`; plugins in Rust need none of it, built for the target \
         wasm32-unknown-unknown)"
    )
}

/// Refuse names of the contract from a version that this host does not implement.
fn check_version(name: &str) -> Result<(), Rejection> {
    let Some(InterfaceName { version: Some(text), .. }) = ours(name) else { return Ok(()) };
    match Version::parse(text) {
        Some(version) if version > VERSION => Err(rejection(
            reason::NEWER_CONTRACT,
            format!(
                "`{name}` is of a newer plugin contract than this version of Penstock implements ({VERSION}): update the \
                 gateway, or build the plugin with an older SDK"
            ),
        )),
        Some(version) if version == VERSION => Ok(()),
        _ => Err(rejection(
            reason::CONTRACT_MISMATCH,
            format!(
                "`{name}` is of a plugin contract that was never published; this version of Penstock implements {VERSION}"
            ),
        )),
    }
}

/// When it would be called, and where it may be attached, depends on the kind.
fn two_kinds() -> Rejection {
    rejection(
        reason::NOT_A_PLUGIN,
        "the component exports both `header-policy` and `route-policy`: a plugin is either a policy or a route plugin; make two of it",
    )
}

fn core_module() -> Rejection {
    rejection(
        reason::NOT_A_COMPONENT,
        "this is a core module, not a component. Crates that use penstock-plugin carry what is missing: make a component of \
         it with `wasm-tools component new module.wasm -o plugin.wasm`",
    )
}

fn malformed(bytes: &[u8], error: &wasmparser::BinaryReaderError) -> Rejection {
    let message = if bytes.starts_with(b"\0asm") {
        format!("the module is cut off or malformed at byte {}: {}", error.offset(), error.message())
    } else {
        format!("the {} bytes are no WebAssembly: they do not start with `\\0asm`", bytes.len())
    };
    rejection(reason::INVALID_MODULE, message)
}

#[cfg(test)]
mod tests;

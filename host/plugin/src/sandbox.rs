//! What keeps the process that validates candidates from doing harm, whatever the candidate does to it.
//!
//! Compilers and interpreters of what strangers wrote have had holes. So the process gets nothing but its three pipes, and gives up the
//! rest by itself before it looks at the first byte of a candidate:
//!
//! | what | how | bound | why that much |
//! |---|---|---|---|
//! | inherited descriptors | closed | the three pipes | a descriptor is a right |
//! | environment | the parent passes none | | it may hold credentials |
//! | privileges | no capabilities, `no_new_privs` | none | nothing here needs one, and nothing it could start may have more |
//! | CPU time | `RLIMIT_CPU` | [`ValidationLimits::cpu_time`] | see there |
//! | time | the parent kills | [`ValidationLimits::time`] | see there |
//! | memory | `RLIMIT_DATA` | [`ValidationLimits::memory`] | see there |
//! | address space | `RLIMIT_AS` | 192 GiB more | each linear memory reserves 4 GiB of it, so that code need not check bounds; it is no memory |
//! | files | `RLIMIT_NOFILE`, `RLIMIT_FSIZE` | none | there is nothing to read or to write |
//! | processes, threads | `RLIMIT_NPROC` | none more | the one that ticks runs already |
//! | core dumps, debuggers | `RLIMIT_CORE`, not dumpable | none | its memory holds the secrets of the configuration |
//! | system calls | [`seccomp`] | what memory and clocks need | the kernel is the largest target |
//! | priority | niceness, `oom_score_adj` | a tenth; first to go | traffic comes first |
//! | orphans | `PR_SET_PDEATHSIG` | | who would read the answer? |
//!
//! **Where the kernel has no seccomp**, the rest still holds, with one difference: a few descriptors can be opened, because loading a module
//! needs some in memory. The answer says so, and the gateway warns of it once.

mod seccomp;

use std::{fs, io, os::fd::RawFd, time::Duration};

use rustix::{
    process::{
        DumpableBehavior, Resource, Rlimit, Signal, getppid, getrlimit, nice, set_dumpable_behavior,
        set_parent_process_death_signal, setrlimit,
    },
    thread::{CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs},
};
use serde::{Deserialize, Serialize};

use self::seccomp::Filters;

/// Reservations beyond [`ValidationLimits::memory`]: linear memories of 4 GiB with their guards, of which a component may have a few and
/// validation has a few instances, and as much again for the program itself.
const RESERVATIONS: u64 = 192 << 30;

/// Without seccomp: descriptors for the images of linear memories, which the engine keeps in memory files, and the size of one.
const IMAGES: u64 = 64;
const IMAGE_SIZE: u64 = 64 << 20;

/// A process of this niceness has a tenth of the weight of a usual one.
const NICENESS: i32 = 10;

/// What validating one candidate may use. Its own limits (`spec.limits`) hold within these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValidationLimits {
    /// CPU time of the process, in whole seconds. A first-party plugin needs half a second, the largest component that
    /// `limits.moduleSize` allows about twenty.
    pub cpu_time: Duration,
    /// Time from start to answer. Much more than the CPU time, because a container that is throttled waits more than it runs.
    pub time: Duration,
    /// Bytes of memory beside the candidate's own `limits.memory`. Compilers need some fifty times the size of what they compile.
    pub memory: u64,
}

impl Default for ValidationLimits {
    fn default() -> Self {
        Self { cpu_time: Duration::from_secs(30), time: Duration::from_secs(120), memory: 1 << 30 }
    }
}

/// How well the process is confined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Confinement {
    /// Everything above.
    Full,
    /// All but the filter of system calls, which the kernel does not have.
    WithoutSeccomp,
}

/// Why the process is not confined. It must not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SandboxError {
    #[error("cannot give up {what}: {source}")]
    GiveUp { what: &'static str, source: io::Error },
    #[error("the parent is gone")]
    Orphan,
}

/// The first thing that the process does: give up what needs no limit. `parent` is the process that asked.
pub(crate) fn give_up() -> Result<(), SandboxError> {
    let failed = |what| move |source: rustix::io::Errno| SandboxError::GiveUp { what, source: source.into() };
    close_inherited();
    yield_to_traffic();
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    set_capabilities(None, sets).map_err(failed("capabilities"))?;
    set_no_new_privs(true).map_err(failed("new privileges"))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(failed("core dumps"))?;
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(failed("life without the parent"))
}

/// Whoever validates must not be what traffic waits for: it gets a tenth of the processor where there is not enough for both, and so still
/// ends within its time; and when memory runs out it is what the kernel ends, and not the gateway. Where the system grants neither, nothing
/// of what protects the gateway from the candidate is lost.
fn yield_to_traffic() {
    let _ = nice(NICENESS);
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
}

/// The parent may have gone before its death could be told.
pub(crate) fn still_child_of(parent: u32) -> Result<(), SandboxError> {
    let now = getppid().map(|pid| pid.as_raw_nonzero().get());
    if now == i32::try_from(parent).ok() { Ok(()) } else { Err(SandboxError::Orphan) }
}

/// From here on the process can compute, and write its answer; `guest` is the memory that the candidate itself may use. Threads that it
/// needs must run already.
pub(crate) fn enter(limits: &ValidationLimits, guest: u64) -> Result<Confinement, SandboxError> {
    enter_with(limits, guest, Filters::new())
}

fn enter_with(limits: &ValidationLimits, guest: u64, filters: Option<Filters>) -> Result<Confinement, SandboxError> {
    // Whether there is seccomp shows when it is used. The limits come between the two filters: they depend on it, and could not be
    // set any more behind the second.
    let Some(filters) = filters.filter(|filters| filters.forbid_deadly().is_ok()) else {
        bound(limits, guest, (IMAGES, IMAGE_SIZE))?;
        return Ok(Confinement::WithoutSeccomp);
    };
    bound(limits, guest, (0, 0))?;
    filters
        .allow_existing()
        .map_err(|error| SandboxError::GiveUp { what: "system calls", source: io::Error::other(error) })?;
    Ok(Confinement::Full)
}

fn bound(limits: &ValidationLimits, guest: u64, (files, file_size): (u64, u64)) -> Result<(), SandboxError> {
    let seconds = limits.cpu_time.as_secs().max(1);
    let memory = limits.memory.saturating_add(guest);
    for (resource, what, most, beyond) in [
        // Beyond the soft limit comes SIGXCPU, which tells what happened; beyond the hard one SIGKILL, which cannot be caught.
        (Resource::Cpu, "CPU time", seconds, 1),
        (Resource::Data, "memory", memory, 0),
        (Resource::As, "address space", memory.saturating_add(RESERVATIONS), 0),
        (Resource::Fsize, "writing files", file_size, 0),
        (Resource::Nofile, "opening files", files, 0),
        (Resource::Nproc, "starting processes", 0, 0),
        (Resource::Core, "core dumps", 0, 0),
    ] {
        // A limit that is stricter already cannot be raised, and need not be.
        let strict = |wanted: u64, have: Option<u64>| Some(have.map_or(wanted, |have| have.min(wanted)));
        let have = getrlimit(resource);
        let limit = Rlimit { current: strict(most, have.maximum), maximum: strict(most + beyond, have.maximum) };
        setrlimit(resource, limit).map_err(|source| SandboxError::GiveUp { what, source: source.into() })?;
    }
    Ok(())
}

/// Close what the parent's parent left open. The parent's own descriptors are all closed on `exec`.
fn close_inherited() {
    let open: Vec<RawFd> = match fs::read_dir("/proc/self/fd") {
        Ok(entries) => entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect(),
        Err(_) => (0..1024).collect(),
    };
    for descriptor in open.into_iter().filter(|descriptor| *descriptor > 2) {
        // The one that listed them is closed already.
        let _ = nix::unistd::close(descriptor);
    }
}

#[cfg(test)]
mod tests;

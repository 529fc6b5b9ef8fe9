//! The system calls of validation: memory, clocks, its pipes and its own end.
//!
//! Two filters. What is not on the list of the first does not exist (`ENOSYS`), which is what libraries are prepared for: a newer libc that
//! tries a newer call falls back. What is on the list of the second ends the process at once, because no library tries it by itself: it
//! is the sign of a process that somebody else runs now, and it should be seen.

use std::{collections::BTreeMap, env, process};

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter_all_threads,
};

/// What validation needs.
const ALLOWED: &[c_long] = &[
    // Memory.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    // Clocks, random numbers.
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_getrandom,
    libc::SYS_nanosleep,
    // Threads that run already.
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    // Traps are signals.
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    // The pipes; nothing else is open.
    libc::SYS_close,
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_writev,
    // The end.
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// What nobody calls by accident.
const DEADLY: &[c_long] = &[
    libc::SYS_bpf,
    libc::SYS_connect,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_io_uring_setup,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_socket,
    libc::SYS_userfaultfd,
];

/// Both filters as the kernel takes them.
pub(super) struct Filters {
    existing: BpfProgram,
    deadly: BpfProgram,
}

impl Filters {
    /// None on architectures for which the library makes none.
    pub(super) fn new() -> Option<Self> {
        let arch = TargetArch::try_from(env::consts::ARCH).ok()?;
        let missing = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
        let mut existing: BTreeMap<c_long, Vec<SeccompRule>> = ALLOWED.iter().map(|call| (*call, Vec::new())).collect();
        existing.insert(libc::SYS_tgkill, vec![to_itself()?]);
        let deadly = DEADLY.iter().map(|call| (*call, Vec::new())).collect();
        Some(Self {
            existing: compile(existing, missing, SeccompAction::Allow, arch)?,
            deadly: compile(deadly, SeccompAction::Allow, SeccompAction::KillProcess, arch)?,
        })
    }

    /// From here on what is deadly is deadly, for all threads and for ever. An error means that the kernel has no seccomp.
    pub(super) fn forbid_deadly(&self) -> Result<(), seccompiler::Error> {
        apply_filter_all_threads(&self.deadly)
    }

    /// From here on nothing else exists, for all threads and for ever.
    pub(super) fn allow_existing(&self) -> Result<(), seccompiler::Error> {
        apply_filter_all_threads(&self.existing)
    }
}

/// `abort` sends a signal to the process that calls it.
fn to_itself() -> Option<SeccompRule> {
    let pid = process::id().into();
    let condition = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, pid).ok()?;
    SeccompRule::new(vec![condition]).ok()
}

fn compile(
    rules: BTreeMap<c_long, Vec<SeccompRule>>,
    mismatch: SeccompAction,
    matched: SeccompAction,
    arch: TargetArch,
) -> Option<BpfProgram> {
    SeccompFilter::new(rules, mismatch, matched, arch).ok()?.try_into().ok()
}

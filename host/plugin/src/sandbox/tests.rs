//! Each probe runs in a process of its own: this very test, executed again with the name of the probe in its environment. It enters the
//! sandbox, tries what it must not be able to do, and ends with [`HELD`] or [`BROKEN`].

use std::{
    env, fs,
    hint::black_box,
    io::{Seek as _, SeekFrom, Write as _},
    net::TcpStream,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::process::{CommandExt as _, ExitStatusExt as _},
    },
    process::{Command, Output, exit},
    sync::Arc,
    thread,
    time::Instant,
};

use bytes::Bytes;
use penstock_core::{
    Kind, ResourceRef,
    plugin::{Capabilities, ModuleSource, PluginLimits, PluginSpec},
};

use super::*;
use crate::{
    config,
    engine::{TickingEngine, compiling_engine},
    examine, guest,
};

const HELD: i32 = 40;
const BROKEN: i32 = 41;
const PROBE: &str = "PENSTOCK_TEST_PROBE";
const DESCRIPTOR: &str = "PENSTOCK_TEST_DESCRIPTOR";

type Probe = (&'static str, fn() -> bool);

/// What a process tries in the sandbox; whether it was kept from it. Those that the kernel ends never answer.
const PROBES: [Probe; 19] = [
    ("works", works),
    ("priority", yields_to_traffic),
    ("open", opens_nothing),
    ("thread", || in_full(|| thread::Builder::new().spawn(|| ()).is_err())),
    ("signal others", signals_nobody),
    ("memory", || in_full(memory_ends)),
    ("socket", || in_full(|| TcpStream::connect("127.0.0.1:9").is_ok())),
    ("execute", || in_full(|| Command::new("/bin/true").exec().raw_os_error().is_none())),
    ("abort", || in_full(|| std::process::abort())),
    ("cpu", || in_full(spin)),
    ("inherited", inherits_nothing),
    ("privileges", has_no_privileges),
    ("orphan", knows_its_parent),
    ("bounds", || in_fallback(is_bounded)),
    ("address space", || in_fallback(|| reserves(100 << 30) && !reserves(300 << 30))),
    ("file size", writes_little),
    ("descriptors", || in_fallback(opens_little)),
    ("fallback memory", || in_fallback(memory_ends)),
    ("fallback works", validates_in_fallback),
];

/// Where probes live: in the process that [`probe`] starts.
#[test]
fn a_probe() {
    let Ok(name) = env::var(PROBE) else { return };
    let (_, probe) = PROBES.iter().find(|(known, _)| *known == name).unwrap();
    exit(if probe() { HELD } else { BROKEN })
}

fn limits() -> ValidationLimits {
    ValidationLimits { cpu_time: Duration::from_secs(1), ..ValidationLimits::default() }
}

fn in_full(probe: impl FnOnce() -> bool) -> bool {
    give_up().unwrap();
    assert_eq!(enter(&limits(), 0).unwrap(), Confinement::Full);
    probe()
}

fn in_fallback(probe: impl FnOnce() -> bool) -> bool {
    give_up().unwrap();
    assert_eq!(enter_with(&limits(), 0, None).unwrap(), Confinement::WithoutSeccomp);
    probe()
}

fn works() -> bool {
    in_full(|| {
        let before = Instant::now();
        thread::sleep(Duration::from_millis(1));
        let words: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
        before.elapsed() >= Duration::from_millis(1) && words.concat().len() == 2890
    })
}

/// Without seccomp a real module is compiled and examined all the same, within what little is left.
fn validates_in_fallback() -> bool {
    let spec = PluginSpec {
        plugin: ResourceRef::new(Kind::WasmPlugin, "default", "a"),
        generation: 1,
        source: ModuleSource::Inline(Bytes::new()),
        config: Arc::default(),
        capabilities: Capabilities::default(),
        limits: PluginLimits { hook_time: Duration::from_millis(200), ..PluginLimits::default() },
        secrets: Vec::new(),
        rollout: Default::default(),
    };
    let module = guest::Guest::default().build();
    // Two processes in truth.
    let (compiling, running) = (compiling_engine().unwrap(), TickingEngine::start().unwrap());
    config::prepare();
    give_up().unwrap();
    let confinement = enter_with(&ValidationLimits::default(), spec.limits.memory, None).unwrap();
    let code = examine::compile(&compiling, &module, &spec).unwrap();
    let findings = examine::examine_artifact(&running, &module, &code, &spec, "{}", false).unwrap();
    confinement == Confinement::WithoutSeccomp && findings.manifest.name == "test"
}

fn opens_nothing() -> bool {
    in_full(|| fs::read("/proc/self/status").is_err() && fs::File::create("/tmp/penstock-probe").is_err())
}

fn signals_nobody() -> bool {
    let parent = getppid().unwrap();
    in_full(|| rustix::process::kill_process(parent, Signal::CONT).is_err())
}

fn memory_ends() -> bool {
    let allocate = |bytes: usize| Vec::<u8>::new().try_reserve_exact(black_box(bytes)).is_ok();
    allocate(1 << 20) && !allocate(2 << 30)
}

fn spin() -> bool {
    loop {
        black_box(());
    }
}

fn inherits_nothing() -> bool {
    let path = format!("/proc/self/fd/{}", env::var(DESCRIPTOR).unwrap());
    let before = fs::read_link(&path).is_ok();
    give_up().unwrap();
    before && fs::read_link(&path).is_err()
}

fn yields_to_traffic() -> bool {
    let niceness = || nice(0).unwrap();
    let before = niceness();
    give_up().unwrap();
    let score = fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    niceness() == (before + NICENESS).min(19) && score.trim() == "1000"
}

fn has_no_privileges() -> bool {
    give_up().unwrap();
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let has = |line: &str| status.lines().any(|known| known == line);
    has("NoNewPrivs:\t1")
        && has("CapEff:\t0000000000000000")
        && has("CapPrm:\t0000000000000000")
        && rustix::process::dumpable_behavior().unwrap() == DumpableBehavior::NotDumpable
        && rustix::process::parent_process_death_signal().unwrap() == Some(Signal::KILL)
}

fn knows_its_parent() -> bool {
    let parent = getppid().unwrap().as_raw_nonzero().get().unsigned_abs();
    still_child_of(parent).is_ok() && still_child_of(1 << 30).is_err()
}

fn is_bounded() -> bool {
    let soft = |resource| getrlimit(resource).current;
    soft(Resource::Cpu) == Some(1)
        && soft(Resource::Data) == Some(1 << 30)
        && soft(Resource::As) == Some((1 << 30) + RESERVATIONS)
        && soft(Resource::Nproc) == Some(0)
        && soft(Resource::Core) == Some(0)
        && soft(Resource::Nofile) == Some(IMAGES)
        && soft(Resource::Fsize) == Some(IMAGE_SIZE)
}

fn writes_little() -> bool {
    give_up().unwrap();
    let mut file = tempfile::tempfile().unwrap();
    enter_with(&limits(), 0, None).unwrap();
    file.seek(SeekFrom::Start(IMAGE_SIZE)).unwrap();
    file.write_all(b"beyond").is_ok()
}

fn opens_little() -> bool {
    let files: Vec<_> = (0..2 * IMAGES).map_while(|_| fs::File::open("/dev/null").ok()).collect();
    files.len() < usize::try_from(IMAGES).unwrap()
}

/// Reserve without using, as linear memories do.
fn reserves(bytes: u64) -> bool {
    let mut config = wasmtime::Config::new();
    config.memory_reservation(bytes).memory_guard_size(0).enable_compiler(false);
    let engine = wasmtime::Engine::new(&config).unwrap();
    let mut store = wasmtime::Store::new(&engine, ());
    wasmtime::Memory::new(&mut store, wasmtime::MemoryType::new(1, None)).is_ok()
}

fn probe(name: &str, with: &[(&str, String)]) -> Output {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "sandbox::tests::a_probe", "--nocapture"]).env_clear().env(PROBE, name);
    command.envs(with.iter().map(|(name, value)| (*name, value))).output().unwrap()
}

#[track_caller]
fn holds(name: &str) {
    let output = probe(name, &[]);
    assert_eq!(output.status.code(), Some(HELD), "{name}: {output:?}");
}

#[track_caller]
fn ends(name: &str, signal: i32) {
    let output = probe(name, &[]);
    assert_eq!(output.status.signal(), Some(signal), "{name}: {output:?}");
}

#[test]
fn computing_goes_on_and_nothing_else_does() {
    for name in ["works", "open", "thread", "signal others", "memory"] {
        holds(name);
    }
}

#[test]
fn what_only_an_intruder_does_ends_the_process() {
    for name in ["socket", "execute"] {
        ends(name, libc::SIGSYS);
    }
}

#[test]
fn a_crash_is_told_as_what_it_is() {
    ends("abort", libc::SIGABRT);
}

#[test]
fn cpu_time_ends() {
    ends("cpu", libc::SIGXCPU);
}

#[test]
fn what_needs_no_limit_is_given_up_first() {
    for name in ["priority", "privileges", "orphan"] {
        holds(name);
    }
    // Opened such that it survives `exec`, as a careless parent's parent leaves it.
    let file = fs::File::open("/dev/null").unwrap();
    let kept: OwnedFd = rustix::io::dup(&file).unwrap();
    let output = probe("inherited", &[(DESCRIPTOR, kept.as_raw_fd().to_string())]);
    assert_eq!(output.status.code(), Some(HELD), "{output:?}");
}

#[test]
fn without_seccomp_the_limits_hold() {
    for name in ["bounds", "address space", "descriptors", "fallback memory", "fallback works"] {
        holds(name);
    }
    ends("file size", libc::SIGXFSZ);
}

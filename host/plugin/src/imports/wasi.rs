//! `wasi:*@0.2`: an empty slice of it, for languages whose runtimes cannot do without.
//!
//! Clocks and random numbers work, and what is printed becomes lines of the plugin's log. There are no files, no sockets, no arguments and
//! no environment: a guest that asks finds nothing, or is refused. Nothing waits: a hook decides, so a guest that wants to sleep faults.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::{
    WasiCtx, WasiCtxView, WasiView, async_trait,
    cli::{IsTerminal, StdoutStream},
    p2::{
        DynPollable, OutputStream, Pollable, StreamResult, bindings::clocks::monotonic_clock, pipe::MemoryInputPipe,
        subscribe,
    },
};

use crate::{capability::Nanos, contract::types::Level, imports::log::LogGate, instance::InstanceState};

/// Streams, timers and the like that one instance may hold: they live in the gateway's memory.
const MOST_RESOURCES: usize = 1024;

/// Lines of one call that are looked at; the rest is dropped.
const MOST_LINES: usize = 256;
/// Random bytes of one call.
const MOST_RANDOM: u64 = 64 << 10;

/// Bytes that one call of the plugin may print; the rest is dropped.
const MOST_PRINTED: usize = 64 << 10;

/// What one instance sees of WASI.
pub(crate) struct Wasi {
    context: WasiCtx,
    resources: ResourceTable,
    printed: Printed,
    /// What it prints goes to the log, which is granted too.
    logs: bool,
}

impl Wasi {
    pub(crate) fn new(logs: bool) -> Self {
        let printed = Printed::default();
        let mut resources = ResourceTable::new();
        resources.set_max_capacity(MOST_RESOURCES);
        let context = WasiCtx::builder()
            .stdin(MemoryInputPipe::new(Bytes::new()))
            .stdout(printed.clone())
            .stderr(printed.clone())
            .max_random_size(MOST_RANDOM)
            .allow_tcp(false)
            .allow_udp(false)
            .build();
        Self { context, resources, printed, logs }
    }

    /// Log what was printed since the last time, line by line, or drop it.
    pub(crate) fn drain(&self, log: &mut LogGate) {
        let printed = self.printed.take();
        let lines = printed.split(|byte| *byte == b'\n').filter(|line| self.logs && !line.is_empty());
        // Nobody's CPU time: a call that prints a line with each byte must not cost more than its log may.
        for line in lines.take(MOST_LINES) {
            log.write(Level::Info, &String::from_utf8_lossy(line), &[]);
        }
    }
}

/// Do once what later contexts need the system for: the seed of random numbers of this thread. A program that is linked statically reads it from
/// a device, which the sandbox does not let it open.
pub(crate) fn prepare() {
    drop(wasmtime_wasi::thread_rng());
}

impl WasiView for InstanceState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let wasi = self.wasi.as_mut().expect("it is linked only where it is granted, and whoever it is granted has it");
        WasiCtxView { ctx: &mut wasi.context, table: &mut wasi.resources }
    }
}

/// Some of its functions are asynchronous, so stores that have it are called on fibers; but whatever they would wait for is there.
pub(super) fn link(linker: &mut Linker<InstanceState>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    linker.allow_shadowing(true);
    monotonic_clock::add_to_linker::<_, Clocks>(linker, |state| Clock(state.ctx().table))?;
    linker.allow_shadowing(false);
    Ok(())
}

/// A clock that can be read, and not waited for.
struct Clock<'a>(&'a mut ResourceTable);

/// Says that there is one in each store.
struct Clocks;

impl HasData for Clocks {
    type Data<'a> = Clock<'a>;
}

impl monotonic_clock::Host for Clock<'_> {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(Nanos::now().0)
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(1)
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.subscribe_duration(when.saturating_sub(Nanos::now().0))
    }

    fn subscribe_duration(&mut self, nanos: u64) -> wasmtime::Result<Resource<DynPollable>> {
        if nanos > 0 {
            let time = Duration::from_nanos(nanos);
            return Err(wasmtime::Error::msg(format!("it wants to wait for {time:?}, but a hook decides at once")));
        }
        let now = self.0.push(Now)?;
        subscribe(self.0, now)
    }
}

/// A time that has come.
struct Now;

#[async_trait]
impl Pollable for Now {
    async fn ready(&mut self) {}
}

/// Standard output and standard error, which are the same here.
#[derive(Clone, Default)]
struct Printed(Arc<Mutex<Vec<u8>>>);

impl Printed {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl IsTerminal for Printed {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Printed {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }

    /// Of WASI 0.3, which is not linked.
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }
}

#[async_trait]
impl Pollable for Printed {
    async fn ready(&mut self) {}
}

impl OutputStream for Printed {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let mut printed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = MOST_PRINTED.saturating_sub(printed.len());
        printed.extend_from_slice(&bytes[..bytes.len().min(room)]);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(MOST_PRINTED)
    }
}

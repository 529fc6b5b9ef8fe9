//! One wasmtime engine for the process, and the thread that advances its epoch.
//!
//! What is on is what plugins need and no more: every proposal that is off is code that an attacker cannot reach. The gateway itself never
//! compiles: its engine has no compiler. The process that does has one thread, because it runs beside workers that serve traffic.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use wasmtime::{Config, Engine, Strategy};

/// How often the epoch advances: the resolution of all limits of time.
pub(crate) const TICK: Duration = Duration::from_millis(1);

/// Stack of a guest. Deep recursion ends here, in a trap, long before the worker's own stack does.
const WASM_STACK: usize = 512 << 10;

/// What all engines have in common: one loads what the other compiled.
fn config() -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .max_wasm_stack(WASM_STACK)
        .wasm_component_model(true)
        .wasm_tail_call(false)
        .wasm_relaxed_simd(false)
        .wasm_multi_memory(false)
        .wasm_memory64(false)
        .wasm_custom_page_sizes(false)
        .wasm_wide_arithmetic(false)
        .generate_address_map(false)
        .wasm_backtrace_max_frames(None);
    config
}

/// An engine that compiles, and runs nothing.
pub(crate) fn compiling_engine() -> Result<Engine, EngineError> {
    let mut config = config();
    Engine::new(config.strategy(Strategy::Cranelift).parallel_compilation(false)).map_err(EngineError::Engine)
}

/// An engine that loads what was compiled, and has no compiler.
pub(crate) fn running_engine() -> Result<Engine, EngineError> {
    Engine::new(config().enable_compiler(false)).map_err(EngineError::Engine)
}

/// The engine with its ticker. Dropping the last clone ends the ticker.
#[derive(Clone)]
pub(crate) struct TickingEngine {
    engine: Engine,
    ticker: Arc<Ticker>,
}

impl TickingEngine {
    /// Make the engine and start its ticker.
    pub(crate) fn start() -> Result<Self, EngineError> {
        let engine = running_engine()?;
        let ticker = Arc::new(Ticker::start(engine.clone()).map_err(EngineError::Thread)?);
        Ok(Self { engine, ticker })
    }

    /// The engine itself.
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Keep the epoch moving for as long as the guard lives. Without any the ticker sleeps, so an idle gateway is idle.
    pub(crate) fn tick(&self) -> Ticking {
        self.ticker.acquire();
        Ticking(self.clone())
    }
}

/// Somebody needs the epoch to move.
pub(crate) struct Ticking(TickingEngine);

impl Drop for Ticking {
    fn drop(&mut self) {
        self.0.ticker.release();
    }
}

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// wasmtime does not support this machine or configuration.
    #[error("the WebAssembly engine cannot be made")]
    Engine(#[source] wasmtime::Error),
    /// No thread for the ticker.
    #[error("the thread that bounds the time of plugins cannot be started")]
    Thread(#[source] io::Error),
}

/// A thread of its own and not a timer of some runtime: a guest that spins may be what keeps that runtime from its timers.
struct Ticker {
    state: Arc<TickerState>,
    thread: thread::Thread,
}

#[derive(Default)]
struct TickerState {
    needed: AtomicUsize,
    stopped: AtomicBool,
}

impl Ticker {
    fn start(engine: Engine) -> io::Result<Self> {
        let state = Arc::new(TickerState::default());
        let shared = Arc::clone(&state);
        let handle = thread::Builder::new().name("plugin-epoch".into()).spawn(move || shared.run(&engine))?;
        Ok(Self { state, thread: handle.thread().clone() })
    }

    fn acquire(&self) {
        // The thread reads `needed` again after each wake-up, and an unpark that comes before its park is kept: in no order of the two
        // is a wake-up lost.
        if self.state.needed.fetch_add(1, Ordering::AcqRel) == 0 {
            self.thread.unpark();
        }
    }

    fn release(&self) {
        self.state.needed.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

impl TickerState {
    fn run(&self, engine: &Engine) {
        while !self.stopped.load(Ordering::Acquire) {
            if self.needed.load(Ordering::Acquire) == 0 {
                thread::park();
            } else {
                thread::sleep(TICK);
                engine.increment_epoch();
            }
        }
    }
}

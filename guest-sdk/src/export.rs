//! From the traits of this crate to the exports of a component, and what the native harness shares with it.

use std::{
    cell::{OnceCell, RefCell},
    marker::PhantomData,
};

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::{
    Choice, Direction, Exchange, HeadVerdict, Hooks, Plan, Policy, Problems, Request, Response, Route, RouteRequest,
    StreamingPolicy, Trailers, Verdict,
    bindings::{exchange, header, life, routing},
    problem,
    streaming::Chunk,
    wire,
};

pub use crate::wire::Manifest;

/// Exports a type as the plugin of this crate: `plugin!(policy: T)`, `plugin!(streaming: T)` or `plugin!(route: T)`, for types that implement
/// [`Policy`](crate::Policy), [`StreamingPolicy`](crate::StreamingPolicy) or [`Route`](crate::Route).
///
/// `plugin!(policy: T, schema: include_str!("schema.json"))` publishes this text in place of one made at run time, which makes the component
/// smaller by a third: [`testing::check_schema`](crate::testing::check_schema) keeps it true.
///
/// `plugin!(policy: T, panics: log)` lets the log, and the fault that the gateway reports, say where and why the plugin has panicked, which otherwise
/// nobody learns. The plugin then imports the log, and needs `capabilities: {log: true}`. It costs 10 KiB. With a schema, it stands behind that.
///
/// Name, version and description of the plugin are those of its `Cargo.toml`. On other targets than WebAssembly the macro exports nothing,
/// so that the crate can be tested with [`testing`](crate::testing).
#[macro_export]
macro_rules! plugin {
    (policy: $type:ty $(, schema: $schema:expr)? $(, panics: $log:ident)? $(,)?) => {
        $crate::plugin!(@export $type, Header, header_policy, export_header_policy, [$($schema)?], [$($log)?]);
    };
    (streaming: $type:ty $(, schema: $schema:expr)? $(, panics: $log:ident)? $(,)?) => {
        $crate::plugin!(@export $type, Streaming, exchange_policy, export_exchange_policy, [$($schema)?], [$($log)?]);
    };
    (route: $type:ty $(, schema: $schema:expr)? $(, panics: $log:ident)? $(,)?) => {
        $crate::plugin!(@export $type, Routing, route_policy, export_route_policy, [$($schema)?], [$($log)?]);
    };
    (@export $type:ty, $kind:ident, $module:ident, $export:ident, [$($schema:expr)?], [$($log:ident)?]) => {
        impl $crate::export::Singleton for $type {
            const NAME: &'static str = env!("CARGO_PKG_NAME");
            const VERSION: &'static str = env!("CARGO_PKG_VERSION");
            const DESCRIPTION: &'static str = env!("CARGO_PKG_DESCRIPTION");
            $(const SCHEMA: Option<&'static str> = Some($schema);)?

            $(
                #[cfg(target_arch = "wasm32")]
                fn prepare() {
                    $crate::capability::$log::report_panics();
                }
            )?

            fn with<R>(f: impl FnOnce(&$crate::export::Cell<Self>) -> R) -> R {
                ::std::thread_local! {
                    static CELL: $crate::export::Cell<$type> = const { ::std::cell::OnceCell::new() };
                }
                CELL.with(f)
            }
        }

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            type Hooks = $crate::export::$kind<$type>;
            $crate::bindings::lifecycle::export_lifecycle!(Hooks with_types_in $crate::bindings::lifecycle);
            $crate::bindings::$module::$export!(Hooks with_types_in $crate::bindings::$module);
        };

        // Elsewhere nothing is exported, and the plugin would seem to be dead code.
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn() -> $crate::export::Manifest = $crate::export::describe::<$crate::export::$kind<$type>>;
    };
}

/// Where the one value of a plugin lives. An instance has one thread.
pub type Cell<P> = OnceCell<Loaded<P>>;

/// Implemented by [`plugin!`].
pub trait Singleton: Sized + 'static {
    /// Of the manifest.
    const NAME: &'static str;
    /// Of the manifest.
    const VERSION: &'static str;
    /// Of the manifest.
    const DESCRIPTION: &'static str;
    /// Of the manifest. None: made from the type of the configuration.
    const SCHEMA: Option<&'static str> = None;

    /// Called before anything else of the plugin.
    fn prepare() {}

    /// Lends the place of the plugin's value.
    fn with<R>(f: impl FnOnce(&Cell<Self>) -> R) -> R;
}

/// A configured plugin.
pub struct Loaded<P> {
    pub(crate) plugin: P,
    pub(crate) plan: Plan,
}

/// What the three kinds of plugin have in common.
pub trait Kind: 'static {
    /// The plugin.
    type Plugin: 'static;
    /// Its configuration.
    type Config: DeserializeOwned + JsonSchema;
    /// The hooks that its world has.
    const HOOKS: Hooks;

    /// As in the trait of this kind.
    ///
    /// # Errors
    /// As in the trait of this kind.
    fn configure(config: Self::Config) -> Result<Self::Plugin, Problems>;
    /// As in the trait of this kind.
    fn plan(plugin: &Self::Plugin) -> Plan;
    /// As in the trait of this kind.
    ///
    /// # Errors
    /// As in the trait of this kind.
    fn self_test(plugin: &Self::Plugin) -> Result<(), String>;
}

/// Makes a plugin from the text of its configuration.
pub(crate) fn load<K: Kind>(config: &str) -> Result<Loaded<K::Plugin>, Problems> {
    let plugin = K::configure(problem::parse(config)?)?;
    let plan = K::plan(&plugin);
    plan.check(K::HOOKS)?;
    Ok(Loaded { plugin, plan })
}

/// A [`Policy`].
pub struct Header<P>(PhantomData<P>);
/// A [`StreamingPolicy`].
pub struct Streaming<P>(PhantomData<P>);
/// A [`Route`].
pub struct Routing<P>(PhantomData<P>);

macro_rules! kind {
    ($kind:ident, $trait:ident, $hooks:expr, |$plan:ident| $finish:expr) => {
        impl<P: $trait> Kind for $kind<P> {
            type Plugin = P;
            type Config = P::Config;
            const HOOKS: Hooks = $hooks;

            fn configure(config: P::Config) -> Result<P, Problems> {
                P::configure(config)
            }

            fn plan(plugin: &P) -> Plan {
                let $plan = plugin.plan();
                $finish
            }

            fn self_test(plugin: &P) -> Result<(), String> {
                plugin.self_test()
            }
        }

        impl<P: $trait + Singleton> life::Guest for $kind<P> {
            fn describe() -> wire::Manifest {
                P::prepare();
                wire::Manifest {
                    name: P::NAME.to_ascii_lowercase().replace('_', "-"),
                    version: P::VERSION.to_owned(),
                    description: P::DESCRIPTION.to_owned(),
                    config_schema: match P::SCHEMA {
                        Some(schema) => schema.to_owned(),
                        None => problem::schema::<P::Config>().to_string(),
                    },
                }
            }

            fn configure(config: String) -> Result<wire::Plan, Vec<wire::Problem>> {
                P::prepare();
                let loaded = load::<Self>(&config).map_err(wire_problems)?;
                let plan = loaded.plan.wire().clone();
                let fresh = P::with(|cell| cell.set(loaded).is_ok());
                fresh.then_some(plan).ok_or_else(|| wire_problems("this instance is configured already".into()))
            }

            fn self_test() -> Result<(), String> {
                with(|loaded: &Loaded<P>| loaded.plugin.self_test())
            }
        }
    };
}

kind!(Header, Policy, Hooks::REQUEST_HEADERS.union(Hooks::RESPONSE_HEADERS), |plan| plan);
kind!(Streaming, StreamingPolicy, Hooks::all().difference(Hooks::CHOOSE), |plan| plan);
kind!(Routing, Route, Hooks::CHOOSE, |plan| plan.route());

/// What the plugin is.
pub fn describe<K: life::Guest>() -> Manifest {
    K::describe()
}

fn with<P: Singleton, R>(f: impl FnOnce(&Loaded<P>) -> R) -> R {
    P::with(|cell| f(cell.get().expect("the gateway configures an instance before it calls hooks")))
}

fn wire_problems(problems: Problems) -> Vec<wire::Problem> {
    problems
        .into_iter()
        .map(|problem| wire::Problem { pointer: problem.pointer.to_string(), message: problem.message })
        .collect()
}

impl<P: Policy + Singleton> header::Guest for Header<P> {
    fn on_request(fields: Vec<wire::Field>) -> wire::Verdict {
        with(|loaded: &Loaded<P>| loaded.on_request(fields))
    }

    fn on_response(token: u64, status: u16, fields: Vec<wire::Field>) -> wire::Verdict {
        with(|loaded: &Loaded<P>| loaded.on_response(token, status, fields))
    }
}

impl<P: Policy> Loaded<P> {
    pub(crate) fn on_request(&self, fields: Vec<wire::Field>) -> wire::Verdict {
        let request = Request::new(&self.plan, fields);
        match self.plugin.on_request(&request) {
            Verdict::Proceed => wire::Verdict::Proceed(request.into_proceed(0)),
            Verdict::ProceedWith(token) => wire::Verdict::Proceed(request.into_proceed(token)),
            Verdict::Reply(reply) => wire::Verdict::Reply(reply.into_wire()),
        }
    }

    pub(crate) fn on_response(&self, token: u64, status: u16, fields: Vec<wire::Field>) -> wire::Verdict {
        let response = Response::new(&self.plan, token, status, fields);
        match self.plugin.on_response(&response) {
            // Nothing comes behind the response hook that a token could reach.
            Verdict::Proceed | Verdict::ProceedWith(_) => wire::Verdict::Proceed(response.into_proceed()),
            Verdict::Reply(reply) => wire::Verdict::Reply(reply.into_wire()),
        }
    }
}

impl<P: Route + Singleton> routing::Guest for Routing<P> {
    fn choose(rule: u64, fields: Vec<wire::Field>) -> routing::Choice {
        with(|loaded: &Loaded<P>| loaded.choose(rule, fields))
    }
}

impl<P: Route> Loaded<P> {
    pub(crate) fn choose(&self, rule: u64, fields: Vec<wire::Field>) -> routing::Choice {
        match self.plugin.choose(&RouteRequest::new(rule, Request::new(&self.plan, fields))) {
            Choice::Default => routing::Choice::Default,
            Choice::Candidate { index, response_edits } => {
                routing::Choice::Candidate(routing::Pick { index, response_edits: response_edits.into_wire() })
            }
            Choice::Reply(reply) => routing::Choice::Reply(reply.into_wire()),
        }
    }
}

impl<P: StreamingPolicy + Singleton> exchange::Guest for Streaming<P> {
    type Exchange = ExchangeCell<P>;
}

/// The exported resource: one exchange.
pub struct ExchangeCell<P: StreamingPolicy>(RefCell<P::Exchange>);

impl<P: StreamingPolicy + Singleton> exchange::GuestExchange for ExchangeCell<P> {
    fn new() -> Self {
        with(|loaded: &Loaded<P>| Self(RefCell::new(loaded.plugin.exchange())))
    }

    fn on_request(&self, fields: Vec<wire::Field>) -> wire::Verdict {
        with(|loaded: &Loaded<P>| loaded.head_request(&mut self.0.borrow_mut(), fields))
    }

    fn on_request_body(&self, bytes: Vec<u8>, end: bool) -> wire::BodyVerdict {
        with(|loaded: &Loaded<P>| {
            let chunk = Chunk { bytes: &bytes, end };
            self.0.borrow_mut().on_request_body(&loaded.plugin, chunk).into_wire()
        })
    }

    fn on_request_trailers(&self, trailers: Vec<wire::Header>) -> wire::TrailersVerdict {
        with(|loaded: &Loaded<P>| {
            let trailers = Trailers::new(&loaded.plan, Direction::Request, trailers);
            self.0.borrow_mut().on_request_trailers(&loaded.plugin, &trailers);
            trailers.into_verdict()
        })
    }

    fn on_response(&self, status: u16, fields: Vec<wire::Field>) -> wire::Verdict {
        with(|loaded: &Loaded<P>| loaded.head_response(&mut self.0.borrow_mut(), status, fields))
    }

    fn on_response_body(&self, bytes: Vec<u8>, end: bool) -> wire::BodyVerdict {
        with(|loaded: &Loaded<P>| {
            let chunk = Chunk { bytes: &bytes, end };
            self.0.borrow_mut().on_response_body(&loaded.plugin, chunk).into_wire()
        })
    }

    fn on_response_trailers(&self, trailers: Vec<wire::Header>) -> wire::TrailersVerdict {
        with(|loaded: &Loaded<P>| {
            let trailers = Trailers::new(&loaded.plan, Direction::Response, trailers);
            self.0.borrow_mut().on_response_trailers(&loaded.plugin, &trailers);
            trailers.into_verdict()
        })
    }

    fn end(this: exchange::Exchange, summary: wire::Summary) {
        let Self(exchange) = this.into_inner();
        with(|loaded: &Loaded<P>| exchange.into_inner().end(&loaded.plugin, &summary));
    }
}

impl<P: StreamingPolicy> Loaded<P> {
    pub(crate) fn head_request(&self, exchange: &mut P::Exchange, fields: Vec<wire::Field>) -> wire::Verdict {
        let request = Request::new(&self.plan, fields);
        let verdict = exchange.on_request(&self.plugin, &request);
        head_verdict(verdict, || request.into_proceed(0))
    }

    pub(crate) fn head_response(
        &self,
        exchange: &mut P::Exchange,
        status: u16,
        fields: Vec<wire::Field>,
    ) -> wire::Verdict {
        let response = Response::new(&self.plan, 0, status, fields);
        let verdict = exchange.on_response(&self.plugin, &response);
        head_verdict(verdict, || response.into_proceed())
    }
}

fn head_verdict(verdict: HeadVerdict, proceed: impl FnOnce() -> wire::Proceed) -> wire::Verdict {
    match verdict {
        HeadVerdict::Proceed => wire::Verdict::Proceed(proceed()),
        HeadVerdict::Reply(reply) => wire::Verdict::Reply(reply.into_wire()),
        HeadVerdict::Hold => wire::Verdict::Hold,
    }
}

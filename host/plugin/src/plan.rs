//! The plan of a configuration, checked and made ready: names are parsed once, here, and never on the request path.

use std::collections::HashSet;

use penstock_core::plugin::{BodyMode, Direction, Hooks, PluginLimits, StreamingHooks};

use crate::{
    contract::types as wit,
    fields::Read,
    instance::World,
    names::{self, InvalidName, Target},
};

/// Names in one list of a plan. Reads are copied for every exchange, and a list of writes is searched for every edit by name.
const MOST_NAMES: usize = 256;

/// What a revision needs of every exchange.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) request: MessagePlan,
    pub(crate) response: MessagePlan,
    /// Of the request, passed to the response hook.
    pub(crate) carried: Vec<Read>,
    hooks: Hooks,
    raw: wit::Plan,
}

/// What a hook receives and may change.
#[derive(Debug)]
pub(crate) struct MessagePlan {
    pub(crate) reads: Vec<Read>,
    pub(crate) writes: Writes,
}

/// Why a plan is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidPlan {
    #[error("{list}[{index}]: {source}")]
    Write { list: &'static str, index: usize, source: InvalidName },
    #[error("{list}[{index}]: `{name}` cannot be read; {allowed}")]
    Read { list: &'static str, index: usize, name: String, allowed: &'static str },
    #[error("{list} has {found} names; {MOST_NAMES} are allowed")]
    TooMany { list: &'static str, found: usize },
    #[error("{list}[{index}]: `{name}` is there already; name it once")]
    Twice { list: &'static str, index: usize, name: String },
    #[error("hooks: `{0}` needs the interface exchange-policy, which this component does not export")]
    BodyHook(&'static str),
    #[error("hooks: `choose` needs the interface route-policy, which this component does not export")]
    RouteHook,
    #[error("hooks: a route plugin has `choose` alone; it cannot have `{0}`")]
    PolicyHook(&'static str),
    #[error("{0}: a body can only be seen through the interface exchange-policy, which this component does not export")]
    Body(&'static str),
    #[error("hooks and {body} disagree: a body hook needs a body mode, and a body mode its hook")]
    BodyMode { body: &'static str },
    #[error("{body}: buffer({wanted}) is more than the resource allows; spec.limits.bodyBuffer is {limit} bytes")]
    Buffer { body: &'static str, wanted: u32, limit: u64 },
}

const REQUEST_NAMES: &str =
    "lower case header names and `:method`, `:scheme`, `:authority`, `:path`, `:client-address` can";
const RESPONSE_NAMES: &str = "lower case header names can (the status is an argument)";

/// Hooks that all policies have.
const HEADER_HOOKS: [(wit::Hooks, &str); 2] =
    [(wit::Hooks::REQUEST_HEADERS, "request-headers"), (wit::Hooks::RESPONSE_HEADERS, "response-headers")];

/// Hooks that header policies do not have.
const BODY_HOOKS: [(wit::Hooks, &str); 5] = [
    (wit::Hooks::REQUEST_BODY, "request-body"),
    (wit::Hooks::REQUEST_TRAILERS, "request-trailers"),
    (wit::Hooks::RESPONSE_BODY, "response-body"),
    (wit::Hooks::RESPONSE_TRAILERS, "response-trailers"),
    (wit::Hooks::END, "end"),
];

impl Plan {
    /// Check a plan of a component of `world`.
    pub(crate) fn check(raw: wit::Plan, world: World, limits: &PluginLimits) -> Result<Self, InvalidPlan> {
        let streaming = match world {
            World::Header => {
                check_header_hooks(&raw)?;
                None
            }
            World::Streaming => Some(streaming_hooks(&raw, limits.body_buffer)?),
            World::Route => {
                check_route_hooks(&raw)?;
                None
            }
        };
        let request = MessagePlan {
            reads: reads("request-reads", &raw.request_reads, Direction::Request)?,
            writes: Writes::parse("request-writes", &raw.request_writes, Direction::Request)?,
        };
        let response = MessagePlan {
            reads: reads("response-reads", &raw.response_reads, Direction::Response)?,
            writes: Writes::parse("response-writes", &raw.response_writes, Direction::Response)?,
        };
        let carried = reads("carried-reads", &raw.carried_reads, Direction::Request)?;
        let hooks = Hooks {
            request: has(&raw, wit::Hooks::REQUEST_HEADERS),
            response: has(&raw, wit::Hooks::RESPONSE_HEADERS),
            // Without a later hook nobody would look at it.
            carries: !carried.is_empty() && (has(&raw, wit::Hooks::RESPONSE_HEADERS) || streaming.is_some()),
            streaming,
            choose: world == World::Route && has(&raw, wit::Hooks::CHOOSE),
        };
        Ok(Self { request, response, carried, hooks, raw })
    }

    /// As the other crates see it.
    pub(crate) fn hooks(&self) -> Hooks {
        self.hooks
    }

    /// What a message of this direction lets a hook read and change.
    pub(crate) fn message(&self, direction: Direction) -> &MessagePlan {
        match direction {
            Direction::Request => &self.request,
            Direction::Response => &self.response,
        }
    }

    /// How the plugin sees the bodies of this direction; none if not at all.
    pub(crate) fn body_mode(&self, direction: Direction) -> Option<BodyMode> {
        let streaming = self.hooks.streaming?;
        let mode = match direction {
            Direction::Request => streaming.request_body,
            Direction::Response => streaming.response_body,
        };
        (mode != BodyMode::None).then_some(mode)
    }

    /// As the plugin answered it.
    pub(crate) fn raw(&self) -> &wit::Plan {
        &self.raw
    }

    /// Whether another instance answered the same.
    pub(crate) fn is(&self, raw: &wit::Plan) -> bool {
        self.raw == *raw
    }
}

fn has(raw: &wit::Plan, hook: wit::Hooks) -> bool {
    raw.hooks & hook == hook
}

/// A policy on headers has two hooks, and sees nothing else.
fn check_header_hooks(raw: &wit::Plan) -> Result<(), InvalidPlan> {
    for (hook, name) in BODY_HOOKS {
        if has(raw, hook) {
            return Err(InvalidPlan::BodyHook(name));
        }
    }
    if has(raw, wit::Hooks::CHOOSE) {
        return Err(InvalidPlan::RouteHook);
    }
    check_no_body(raw)
}

/// A route plugin has one hook, and sees no body.
fn check_route_hooks(raw: &wit::Plan) -> Result<(), InvalidPlan> {
    match HEADER_HOOKS.iter().chain(&BODY_HOOKS).find(|(hook, _)| has(raw, *hook)) {
        Some((_, name)) => Err(InvalidPlan::PolicyHook(name)),
        None => check_no_body(raw),
    }
}

fn check_no_body(raw: &wit::Plan) -> Result<(), InvalidPlan> {
    match (raw.request_body, raw.response_body) {
        (wit::BodyMode::None, wit::BodyMode::None) => Ok(()),
        (wit::BodyMode::None, _) => Err(InvalidPlan::Body("response-body")),
        _ => Err(InvalidPlan::Body("request-body")),
    }
}

fn streaming_hooks(raw: &wit::Plan, limit: u64) -> Result<StreamingHooks, InvalidPlan> {
    if has(raw, wit::Hooks::CHOOSE) {
        return Err(InvalidPlan::RouteHook);
    }
    let body = |body, hook, mode| body_mode(body, has(raw, hook), mode, limit);
    Ok(StreamingHooks {
        request_body: body("request-body", wit::Hooks::REQUEST_BODY, raw.request_body)?,
        request_trailers: has(raw, wit::Hooks::REQUEST_TRAILERS),
        response_body: body("response-body", wit::Hooks::RESPONSE_BODY, raw.response_body)?,
        response_trailers: has(raw, wit::Hooks::RESPONSE_TRAILERS),
        end: has(raw, wit::Hooks::END),
    })
}

fn body_mode(body: &'static str, hook: bool, mode: wit::BodyMode, limit: u64) -> Result<BodyMode, InvalidPlan> {
    match (hook, mode) {
        (false, wit::BodyMode::None) => Ok(BodyMode::None),
        (true, wit::BodyMode::Stream) => Ok(BodyMode::Stream),
        (true, wit::BodyMode::Buffer(wanted)) if u64::from(wanted) > limit => {
            Err(InvalidPlan::Buffer { body, wanted, limit })
        }
        (true, wit::BodyMode::Buffer(max)) => Ok(BodyMode::Buffer(max)),
        (true, wit::BodyMode::None) | (false, _) => Err(InvalidPlan::BodyMode { body }),
    }
}

fn reads(list: &'static str, names: &[String], direction: Direction) -> Result<Vec<Read>, InvalidPlan> {
    count(list, names)?;
    let (parse, allowed): (fn(&str) -> Option<Read>, _) = match direction {
        Direction::Request => (Read::parse_request, REQUEST_NAMES),
        Direction::Response => (Read::parse_response, RESPONSE_NAMES),
    };
    let read = |(index, name): (usize, &String)| {
        parse(name).ok_or_else(|| InvalidPlan::Read { list, index, name: names::shorten(name), allowed })
    };
    names.iter().enumerate().map(read).collect()
}

/// Not too many, and each once: a header that is read is copied for each time that it is named.
fn count(list: &'static str, names: &[String]) -> Result<(), InvalidPlan> {
    if names.len() > MOST_NAMES {
        return Err(InvalidPlan::TooMany { list, found: names.len() });
    }
    let mut seen = HashSet::with_capacity(names.len());
    match names.iter().enumerate().find(|(_, name)| !seen.insert(name.as_str())) {
        Some((index, name)) => Err(InvalidPlan::Twice { list, index, name: names::shorten(name) }),
        None => Ok(()),
    }
}

/// The writes of a plan for one direction.
#[derive(Debug)]
pub(crate) struct Writes {
    direction: Direction,
    entries: Vec<Write>,
}

#[derive(Debug)]
enum Write {
    Name(Box<str>, Target),
    Prefix(Box<str>),
}

/// Why an edit has no target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidTarget {
    #[error("undeclared-write: `{0}` is not covered by the plan's writes")]
    Undeclared(String),
    #[error("index {index} is beyond the plan's {len} writes")]
    Index { index: u32, len: usize },
    #[error("index {0} of the plan's writes is a prefix, which cannot be used as an index")]
    Prefix(u32),
    #[error(transparent)]
    Name(#[from] InvalidName),
}

impl Writes {
    fn parse(list: &'static str, names: &[String], direction: Direction) -> Result<Self, InvalidPlan> {
        count(list, names)?;
        let write = |name: &String| match name.strip_suffix('*') {
            Some(prefix) => names::prefix(prefix).map(Write::Prefix),
            None => Target::parse(name, direction).map(|target| Write::Name(name.as_str().into(), target)),
        };
        let entries = names
            .iter()
            .enumerate()
            .map(|(index, name)| write(name).map_err(|source| InvalidPlan::Write { list, index, source }));
        Ok(Self { direction, entries: entries.collect::<Result<_, _>>()? })
    }

    /// The target of an edit by index.
    pub(crate) fn known(&self, index: u32) -> Result<&Target, InvalidTarget> {
        match self.entries.get(index as usize) {
            Some(Write::Name(_, target)) => Ok(target),
            Some(Write::Prefix(_)) => Err(InvalidTarget::Prefix(index)),
            None => Err(InvalidTarget::Index { index, len: self.entries.len() }),
        }
    }

    /// The target of an edit by name.
    pub(crate) fn named(&self, name: &str) -> Result<Target, InvalidTarget> {
        let exact = self.entries.iter().find_map(|entry| match entry {
            Write::Name(entry, target) if **entry == *name => Some(target.clone()),
            _ => None,
        });
        if let Some(target) = exact {
            return Ok(target);
        }
        // The name itself is judged first: a forbidden one is a clearer message than an undeclared one.
        let target = Target::parse(name, self.direction)?;
        let covered = matches!(target, Target::Header(_))
            && self.entries.iter().any(|entry| matches!(entry, Write::Prefix(prefix) if name.starts_with(&**prefix)));
        if covered { Ok(target) } else { Err(InvalidTarget::Undeclared(names::shorten(name))) }
    }
}

#[cfg(test)]
mod tests;

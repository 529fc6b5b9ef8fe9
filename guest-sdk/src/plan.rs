//! What a configuration needs of every exchange.

use crate::{
    header::{self, Direction, InvalidName},
    problem::{Pointer, Problems},
    wire,
};

pub use wire::{BodyMode, Hooks};

/// Names in one list of a plan.
pub const MOST_NAMES: usize = 256;

/// What this configuration needs of every exchange. The gateway does nothing that the plan does not name: a header that is not read is not
/// copied, a hook without purpose is not called.
///
/// Naming headers implies the hook that sees them. Names may be given in any case; `host` means `:authority`.
///
/// ```
/// # use penstock_plugin::Plan;
/// Plan::new().request_reads([":path", "x-tenant"]).request_writes(["x-route"]).response_writes(["server"]);
/// ```
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct Plan(wire::Plan);

impl Default for Plan {
    fn default() -> Self {
        Self::new()
    }
}

impl Plan {
    /// Nothing at all: no hook is called.
    pub fn new() -> Self {
        Self(wire::Plan {
            hooks: Hooks::empty(),
            request_reads: Vec::new(),
            response_reads: Vec::new(),
            carried_reads: Vec::new(),
            request_writes: Vec::new(),
            response_writes: Vec::new(),
            request_body: BodyMode::None,
            response_body: BodyMode::None,
        })
    }

    /// Call the request hook even if it declares no header.
    pub fn on_request(mut self) -> Self {
        self.0.hooks |= Hooks::REQUEST_HEADERS;
        self
    }

    /// Call the response hook even if it declares no header.
    pub fn on_response(mut self) -> Self {
        self.0.hooks |= Hooks::RESPONSE_HEADERS;
        self
    }

    /// Headers and pseudo-headers (`:method`, `:scheme`, `:authority`, `:path`, `:client-address`) that the request hook receives. Others
    /// can still be read, at three times the price.
    pub fn request_reads(mut self, names: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        declare(&mut self.0.request_reads, names);
        self.on_request()
    }

    /// Headers that the response hook receives.
    pub fn response_reads(mut self, names: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        declare(&mut self.0.response_reads, names);
        self.on_response()
    }

    /// Headers and pseudo-headers of the *request* that the response hook receives, as they were when the request reached this plugin.
    /// Nothing else of the request can be read there.
    pub fn carried_reads(mut self, names: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        declare(&mut self.0.carried_reads, names);
        self.on_response()
    }

    /// Headers that the request hook may edit. `x-tenant-*` covers every name that starts so.
    pub fn request_writes(mut self, names: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        declare(&mut self.0.request_writes, names);
        self.on_request()
    }

    /// Headers that the response hook may edit.
    pub fn response_writes(mut self, names: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        declare(&mut self.0.response_writes, names);
        self.on_response()
    }

    /// As a route plugin means it: `choose` takes the place of the header hooks.
    pub(crate) fn route(mut self) -> Self {
        self.0.hooks -= Hooks::REQUEST_HEADERS | Hooks::RESPONSE_HEADERS;
        self.0.hooks |= Hooks::CHOOSE;
        self
    }

    /// See the request's body. Only streaming policies.
    pub fn request_body(mut self, mode: BodyMode) -> Self {
        self.0.hooks.set(Hooks::REQUEST_BODY, mode != BodyMode::None);
        self.0.request_body = mode;
        self
    }

    /// See the response's body. Only streaming policies.
    pub fn response_body(mut self, mode: BodyMode) -> Self {
        self.0.hooks.set(Hooks::RESPONSE_BODY, mode != BodyMode::None);
        self.0.response_body = mode;
        self
    }

    /// See the request's trailers. Only streaming policies.
    pub fn request_trailers(mut self) -> Self {
        self.0.hooks |= Hooks::REQUEST_TRAILERS;
        self
    }

    /// See the response's trailers. Only streaming policies.
    pub fn response_trailers(mut self) -> Self {
        self.0.hooks |= Hooks::RESPONSE_TRAILERS;
        self
    }

    /// Hear how the exchange ended. Only streaming policies.
    pub fn on_end(mut self) -> Self {
        self.0.hooks |= Hooks::END;
        self
    }

    /// The hooks that will be called.
    #[must_use]
    pub fn hooks(&self) -> Hooks {
        self.0.hooks
    }

    /// The plan as it crosses the boundary.
    #[must_use]
    pub fn wire(&self) -> &wire::Plan {
        &self.0
    }

    /// What may be edited in this direction.
    #[must_use]
    pub fn writes(&self, direction: Direction) -> &[String] {
        match direction {
            Direction::Request => &self.0.request_writes,
            Direction::Response => &self.0.response_writes,
        }
    }

    /// The lists of names, and what they are called in messages.
    fn lists(&self) -> [(&'static str, &[String]); 5] {
        [
            ("request reads", &self.0.request_reads),
            ("response reads", &self.0.response_reads),
            ("carried reads", &self.0.carried_reads),
            ("request writes", &self.0.request_writes),
            ("response writes", &self.0.response_writes),
        ]
    }

    /// What the gateway would refuse of this plan.
    pub(crate) fn check(&self, allowed: Hooks) -> Result<(), Problems> {
        let mut problems = Problems::new();
        let mut refuse = |what: &str, name: &str, reason: InvalidName| {
            problems.push(&Pointer::root(), format!("the plan {what} `{name}`, which {reason}"));
        };
        for name in self.0.request_reads.iter().chain(&self.0.carried_reads) {
            header::check_read(name).unwrap_or_else(|reason| refuse("reads", name, reason));
        }
        for name in &self.0.response_reads {
            let pseudo = name.starts_with(':').then_some(Err(InvalidName::Pseudo));
            pseudo.unwrap_or_else(|| header::check_read(name)).unwrap_or_else(|reason| refuse("reads", name, reason));
        }
        for direction in [Direction::Request, Direction::Response] {
            for name in self.writes(direction) {
                check_declared(name, direction).unwrap_or_else(|reason| refuse("writes", name, reason));
            }
        }
        for (list, names) in self.lists() {
            if names.len() > MOST_NAMES {
                let count = names.len();
                problems
                    .push(&Pointer::root(), format!("the plan has {count} {list}, at most {MOST_NAMES} are allowed"));
            }
        }
        let surplus = self.0.hooks - allowed;
        if !surplus.is_empty() {
            problems.push(
                &Pointer::root(),
                format!("the plan asks for hooks that this kind of plugin has not: {surplus:?}"),
            );
        }
        problems.into_result(())
    }
}

/// A declared write is a name, or a prefix followed by `*`.
fn check_declared(name: &str, direction: Direction) -> Result<(), InvalidName> {
    match name.strip_suffix('*') {
        // What remains need not be writable itself: `te*` covers `test`, and an edit of `te` is refused when it comes.
        Some(prefix) if prefix.is_empty() || !prefix.contains(':') && header::check_read(prefix).is_ok() => Ok(()),
        _ => header::check_write(name, direction),
    }
}

fn declare(list: &mut Vec<String>, names: impl IntoIterator<Item = impl AsRef<str>>) {
    for name in names {
        let name = header::canonical(name.as_ref());
        if !list.iter().any(|known| *known == name) {
            list.push(name.into_owned());
        }
    }
}

/// Where a name stands in a list of canonical names.
pub(crate) fn position(names: &[String], name: &str) -> Option<usize> {
    let found = names.iter().position(|known| known.eq_ignore_ascii_case(name));
    if found.is_none() && name.eq_ignore_ascii_case("host") { position(names, ":authority") } else { found }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_canonical_and_kept_in_order() {
        let plan = Plan::new().request_reads(["X-B", "x-a", "Host", "x-b"]);
        assert_eq!(plan.wire().request_reads, ["x-b", "x-a", ":authority"]);
        assert_eq!(position(&plan.wire().request_reads, "HOST"), Some(2));
        assert_eq!(position(&plan.wire().request_reads, "X-A"), Some(1));
    }

    #[test]
    fn names_imply_their_hook() {
        assert_eq!(Plan::new().hooks(), Hooks::empty());
        assert_eq!(Plan::new().request_writes(["a"]).hooks(), Hooks::REQUEST_HEADERS);
        assert_eq!(Plan::new().carried_reads(["a"]).hooks(), Hooks::RESPONSE_HEADERS);
        assert_eq!(Plan::new().request_reads(["a"]).route().hooks(), Hooks::CHOOSE);
    }

    #[test]
    fn a_plan_that_the_gateway_would_refuse_is_a_problem() {
        let check =
            |plan: Plan| plan.check(Hooks::REQUEST_HEADERS | Hooks::RESPONSE_HEADERS).map_err(|e| e.to_string());
        assert_eq!(check(Plan::new().request_writes(["x-*", "*", ":path", "Host"])), Ok(()));
        assert!(check(Plan::new().request_writes(["upgrade"])).unwrap_err().contains("`upgrade`, which belongs to"));
        assert!(check(Plan::new().request_writes([":p*"])).is_err());
        assert!(check(Plan::new().request_reads([":status"])).is_err());
        assert!(check(Plan::new().response_reads([":path"])).is_err());
        assert_eq!(check(Plan::new().request_reads((0..256).map(|i| i.to_string()))), Ok(()));
        assert!(
            check(Plan::new().request_reads((0..257).map(|i| i.to_string())))
                .unwrap_err()
                .contains("257 request reads")
        );
        assert!(check(Plan::new().on_end()).unwrap_err().contains("hooks that this kind of plugin has not"));
    }
}

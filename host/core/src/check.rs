//! Sample exchanges with what must come of them, as `spec.checks` of a WasmPlugin and files of `penstock plugin test` have them: one
//! vocabulary, one reader, one comparison. Who runs them is the plugin host.
//!
//! ```text
//! text ──► Check ──(the plugin host)──► Outcome
//!            └──────── compare ────────────┘ ──► differences: field, expected, found
//! ```

mod compare;
mod outcome;
mod set;
mod values;

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use http::{HeaderValue, Request, Response, header::HOST, request, response};
use schemars::JsonSchema;
use serde::Deserialize;

pub use self::{
    compare::{Difference, compare, compare_rejection},
    outcome::{End, Outcome, Passed},
    set::{Checks, InvalidCheck},
    values::{BodyGiven, BodyWanted, HeadersGiven, HeadersWanted, Pattern, ValuesWanted},
};

/// One exchange, and what must come of it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// What it shows, in a few words.
    pub name: String,
    /// How often it happens; each time the same must come of it. Once, if not given.
    #[serde(default = "once")]
    #[schemars(range(min = 1, max = 100_000))]
    pub repeat: u32,
    /// As it reaches the plugin.
    #[serde(default)]
    pub request: RequestGiven,
    /// What the backend answers: 200 without headers if not given.
    #[serde(default)]
    pub response: ResponseGiven,
    /// The backends that a route plugin chooses from.
    #[serde(default)]
    pub candidates: Vec<CandidateGiven>,
    /// What must come of it. Nothing given: that it ends without a fault and the plugin does not reply.
    #[serde(default)]
    pub expect: Expected,
}

fn once() -> u32 {
    1
}

/// A request.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RequestGiven {
    /// `GET` if not given.
    pub method: String,
    /// With query; `/` if not given.
    pub path: String,
    /// `gateway.test` if not given.
    pub authority: String,
    /// `http` if not given.
    pub scheme: String,
    /// Address of the client, with or without port; 192.0.2.1 if not given.
    pub client: String,
    /// Name to one value or a list of them.
    pub headers: HeadersGiven,
    /// Text, a list of pieces, `{base64: …}`, `{file: …}` or `{size: …}`.
    pub body: BodyGiven,
    /// Behind the body.
    pub trailers: HeadersGiven,
}

impl Default for RequestGiven {
    fn default() -> Self {
        Self {
            method: "GET".into(),
            path: "/".into(),
            authority: "gateway.test".into(),
            scheme: "http".into(),
            client: "192.0.2.1".into(),
            headers: HeadersGiven::default(),
            body: BodyGiven::default(),
            trailers: HeadersGiven::default(),
        }
    }
}

/// A response of the backend.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ResponseGiven {
    /// 200 if not given.
    #[schemars(range(min = 200, max = 599))]
    pub status: u16,
    /// Name to one value or a list of them.
    pub headers: HeadersGiven,
    /// As of requests.
    pub body: BodyGiven,
    /// Behind the body.
    pub trailers: HeadersGiven,
}

impl Default for ResponseGiven {
    fn default() -> Self {
        Self {
            status: 200,
            headers: HeadersGiven::default(),
            body: BodyGiven::default(),
            trailers: HeadersGiven::default(),
        }
    }
}

/// A backend of the rule.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CandidateGiven {
    /// `namespace/name:port`.
    pub name: String,
    /// 1 if not given.
    #[serde(default = "once")]
    pub weight: u32,
    /// 1 if not given.
    #[serde(default = "once")]
    pub ready_endpoints: u32,
}

/// What must come of an exchange. Everything that is given must hold; what is not given may be anything.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Expected {
    /// As it reaches the backend.
    pub request: Option<RequestWanted>,
    /// As it reaches the client, when the backend was asked.
    pub response: Option<ResponseWanted>,
    /// The plugin answers itself, in place of the backend or of its response.
    pub reply: Option<ResponseWanted>,
    /// The plugin gives the exchange up, or the gateway does because of a body that is too large: a part of the reason.
    pub aborted: Option<String>,
    /// A hook does not answer properly: `trap`, `deadline`, `memory`, `invalid_answer`, or `any`.
    pub fault: Option<Refusal>,
    /// The configuration is refused: a reason such as `InvalidConfig`, or `any`.
    pub rejected: Option<Refusal>,
    /// Name of the backend that a route plugin chooses, or `default` for the weights of the rule.
    pub candidate: Option<String>,
}

/// A request that is wanted.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RequestWanted {
    /// The method.
    pub method: Option<String>,
    /// With query.
    pub path: Option<String>,
    /// Host, and the port if it was named.
    pub authority: Option<String>,
    /// Name to one value, a list of all values, `{contains: …}`, `{matches: …}` or `{present: true}`.
    pub headers: HeadersWanted,
    /// Headers that must not be there.
    pub absent: Vec<String>,
    /// Text, `{contains: …}`, `{matches: …}`, `{base64: …}` or `{size: …}`.
    pub body: Option<BodyWanted>,
    /// As headers.
    pub trailers: HeadersWanted,
}

/// A response that is wanted.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ResponseWanted {
    /// The status.
    pub status: Option<u16>,
    /// Name to one value, a list of all values, `{contains: …}`, `{matches: …}` or `{present: true}`.
    pub headers: HeadersWanted,
    /// Headers that must not be there.
    pub absent: Vec<String>,
    /// Text, `{contains: …}`, `{matches: …}`, `{base64: …}` or `{size: …}`.
    pub body: Option<BodyWanted>,
    /// As headers.
    pub trailers: HeadersWanted,
}

/// A fault or rejection that is wanted: its kind, or its kind and a part of its message.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Refusal {
    /// The kind alone.
    Kind(String),
    /// With a part of the message.
    Detailed {
        /// Of a fault: its kind.
        #[serde(default)]
        kind: Option<String>,
        /// Of a rejection: its reason.
        #[serde(default)]
        reason: Option<String>,
        /// A part of the message.
        #[serde(default)]
        message: Option<String>,
    },
}

impl Refusal {
    /// The kind that is wanted; none for any.
    #[must_use]
    pub fn kind(&self) -> Option<&str> {
        let kind = match self {
            Self::Kind(kind) => Some(kind),
            Self::Detailed { kind, reason, .. } => kind.as_ref().or(reason.as_ref()),
        };
        kind.map(String::as_str).filter(|kind| *kind != "any")
    }

    /// What its message must contain.
    #[must_use]
    pub fn message(&self) -> &str {
        match self {
            Self::Kind(_) => "",
            Self::Detailed { message, .. } => message.as_deref().unwrap_or_default(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind().unwrap_or("any"))?;
        if self.message().is_empty() { Ok(()) } else { write!(f, " with `{}` in its message", self.message()) }
    }
}

/// The kinds of faults.
const FAULTS: [&str; 5] = ["trap", "deadline", "memory", "invalid_answer", "unavailable"];

/// What is wrong with an exchange: the field within it, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct InvalidExchange {
    /// Such as `request.path`.
    pub field: &'static str,
    /// What is wrong and what would be right.
    pub message: String,
}

fn wrong(field: &'static str, message: impl Into<String>) -> InvalidExchange {
    InvalidExchange { field, message: message.into() }
}

impl RequestGiven {
    /// Its head.
    ///
    /// # Errors
    /// When HTTP has no such request.
    pub fn head(&self) -> Result<request::Parts, InvalidExchange> {
        if !self.path.starts_with('/') {
            return Err(wrong("request.path", format!("`{}` does not begin with `/`", self.path)));
        }
        let method = self
            .method
            .parse::<http::Method>()
            .map_err(|_| wrong("request.method", format!("`{}` is no method, such as GET", self.method)))?;
        let uri = self
            .path
            .parse::<http::Uri>()
            .map_err(|error| wrong("request.path", format!("`{}` is no path: {error}", self.path)))?;
        let (mut head, ()) = Request::new(()).into_parts();
        (head.method, head.uri, head.headers) = (method, uri, self.headers.0.clone());
        if !head.headers.contains_key(HOST) {
            let host = HeaderValue::try_from(&self.authority)
                .map_err(|_| wrong("request.authority", format!("`{}` is no host", self.authority)))?;
            head.headers.insert(HOST, host);
        }
        Ok(head)
    }

    /// Address and port of the client.
    ///
    /// # Errors
    /// When it is no address.
    pub fn address(&self) -> Result<SocketAddr, InvalidExchange> {
        let with_port = self.client.parse::<SocketAddr>();
        let alone = self.client.parse::<IpAddr>().map(|address| SocketAddr::new(address, 49152));
        with_port
            .or(alone)
            .map_err(|_| wrong("request.client", format!("`{}` is no address, such as 192.0.2.1", self.client)))
    }
}

impl ResponseGiven {
    /// Its head.
    ///
    /// # Errors
    /// When HTTP has no such response.
    pub fn head(&self) -> Result<response::Parts, InvalidExchange> {
        let status = http::StatusCode::from_u16(self.status).ok().filter(|status| *status >= http::StatusCode::OK);
        let status =
            status.ok_or_else(|| wrong("response.status", format!("{} is no status from 200 to 599", self.status)))?;
        let (mut head, ()) = Response::new(()).into_parts();
        (head.status, head.headers) = (status, self.headers.0.clone());
        Ok(head)
    }
}

impl Check {
    /// What contradicts itself, or cannot be sent.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn problem(&self) -> Result<(), InvalidExchange> {
        self.request.head()?;
        self.request.address()?;
        self.response.head()?;
        if self.repeat == 0 {
            return Err(wrong("repeat", "an exchange that never happens checks nothing"));
        }
        let names = || self.candidates.iter().map(|candidate| candidate.name.as_str());
        let wanted = self.expect.candidate.as_deref();
        if let Some(wanted) = wanted.filter(|it| *it != "default" && !names().any(|name| name == *it)) {
            let known = names().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            let known = if known.is_empty() { "there are none".to_owned() } else { format!("there are {known}") };
            let message = format!("`{wanted}` is none of the candidates; {known}, and `default`");
            return Err(wrong("expect.candidate", message));
        }
        self.expect.problem()
    }
}

impl Expected {
    fn problem(&self) -> Result<(), InvalidExchange> {
        let Self { request, response, reply, aborted, fault, rejected, .. } = self;
        let ends = [response.is_some(), reply.is_some(), aborted.is_some(), fault.is_some(), rejected.is_some()];
        if ends.iter().filter(|given| **given).count() > 1 {
            let message = "an exchange ends in one way: `response`, `reply`, `aborted`, `fault` or `rejected`";
            return Err(wrong("expect", message));
        }
        if rejected.is_some() && request.is_some() {
            return Err(wrong("expect", "where the configuration is rejected no request is made"));
        }
        match fault.as_ref().and_then(Refusal::kind).filter(|kind| !FAULTS.contains(kind)) {
            None => Ok(()),
            Some(kind) => {
                let message = format!("there is no fault `{kind}`; there are {}, and `any`", FAULTS.join(", "));
                Err(wrong("expect.fault", message))
            }
        }
    }
}

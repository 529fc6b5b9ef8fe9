//! CORS (the Fetch standard, §3.2), as far as gRPC-Web needs it.

use penstock_plugin::{
    Plan, Pointer, Problems, Recorder, Reply, Request,
    header::{check_read, check_value},
};

use crate::config::{CorsConfig, Preflights};

/// What clients of gRPC-Web send, and no list need name.
const USUAL: [&str; 6] = ["content-type", "x-grpc-web", "x-user-agent", "grpc-timeout", "accept", "authorization"];
/// What they read.
const EXPOSED: [&str; 3] = ["grpc-status", "grpc-message", "grpc-status-details-bin"];

pub(crate) const READS: [&str; 3] = ["origin", "access-control-request-method", "access-control-request-headers"];
const ALLOW_ORIGIN: &str = "access-control-allow-origin";
const ALLOW_CREDENTIALS: &str = "access-control-allow-credentials";
const EXPOSE_HEADERS: &str = "access-control-expose-headers";

/// Bytes of an origin: a scheme, a name of the DNS and a port are less. Each of many origins may look at all of it.
const LONGEST_ORIGIN: usize = 320;

/// A configuration, ready for requests.
#[derive(Debug)]
pub(crate) struct Cors {
    origins: Vec<Origin>,
    /// None: whatever a preflight asks for.
    allow_headers: Option<String>,
    expose_headers: String,
    credentials: bool,
    max_age: Option<u32>,
    preflights: Preflights,
}

#[derive(Debug, PartialEq, Eq)]
enum Origin {
    Any,
    Exact(Vec<u8>),
    /// What stands before and behind the labels that an asterisk stands for.
    Subdomains {
        scheme: Vec<u8>,
        domain: Vec<u8>,
    },
}

/// How a response is opened to the page that asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Opened {
    ToAll,
    To(Vec<u8>),
}

impl Cors {
    pub(crate) fn compile(config: &CorsConfig, at: &Pointer, problems: &mut Problems) -> Self {
        let origins = config.allow_origins.iter().enumerate();
        let origins: Vec<_> = origins
            .filter_map(|(index, origin)| {
                let at = at.at("allowOrigins").at(index);
                Origin::parse(origin).map_err(|message| problems.push(&at, message)).ok()
            })
            .collect();
        if config.allow_origins.is_empty() {
            problems.push(&at.at("allowOrigins"), "there is no origin: add one, such as https://shop.example or *");
        }
        if config.allow_credentials && origins.contains(&Origin::Any) {
            problems.push(&at.at("allowCredentials"), "browsers refuse `*` with credentials: name the origins");
        }
        let mut names = |names: &[String], field: &str, usual: &[&str]| {
            for (index, name) in names.iter().enumerate() {
                if let Err(reason) = check_read(&name.to_ascii_lowercase()) {
                    problems.push(&at.at(field).at(index), format!("`{name}` {reason}"));
                }
            }
            let names: Vec<_> = usual.iter().copied().chain(names.iter().map(String::as_str)).collect();
            names.join(", ")
        };
        Self {
            allow_headers: config.allow_headers.as_ref().map(|headers| names(headers, "allowHeaders", &USUAL)),
            expose_headers: names(&config.expose_headers, "exposeHeaders", &EXPOSED),
            origins,
            credentials: config.allow_credentials,
            max_age: config.max_age,
            preflights: config.preflights,
        }
    }

    pub(crate) fn plan(plan: Plan) -> Plan {
        plan.request_reads(READS).response_writes([ALLOW_ORIGIN, ALLOW_CREDENTIALS, EXPOSE_HEADERS, "vary"])
    }

    /// How the response to a request may be read; none if it may not, or if no page asks.
    pub(crate) fn open(&self, request: &Request) -> Option<Opened> {
        let origin = request.header("origin");
        let origin = origin.first().filter(|origin| origin.len() <= LONGEST_ORIGIN)?;
        let allowed = self.origins.iter().find(|allowed| allowed.covers(origin))?;
        Some(if *allowed == Origin::Any { Opened::ToAll } else { Opened::To(origin.to_vec()) })
    }

    /// The answer to a preflight for a call of gRPC-Web; none for any other request.
    pub(crate) fn preflight(&self, request: &Request) -> Option<Reply> {
        let method = request.header("access-control-request-method");
        let asked = request.header("access-control-request-headers");
        let asked = asked.joined().unwrap_or_default();
        if request.header("origin").is_empty() || method.is_empty() {
            return None;
        }
        let names_grpc_web =
            || asked.split(|byte| *byte == b',').any(|name| name.trim_ascii().eq_ignore_ascii_case(b"x-grpc-web"));
        if self.preflights == Preflights::GrpcWeb && !(method.first() == Some(b"POST") && names_grpc_web()) {
            return None;
        }
        let Some(opened) = self.open(request) else {
            return Some(Reply::new(403).header("vary", "origin").text("this origin may not call from a page\n"));
        };
        let mut reply = self.head(&opened, Reply::new(204)).header("access-control-allow-methods", "POST");
        match &self.allow_headers {
            Some(headers) => reply = reply.header("access-control-allow-headers", headers),
            None if !asked.is_empty() && check_value("", &asked).is_ok() => {
                reply = reply.header("access-control-allow-headers", asked);
            }
            None => {}
        }
        if let Some(seconds) = self.max_age {
            reply = reply.header("access-control-max-age", seconds);
        }
        Some(reply)
    }

    /// Into a response of a backend.
    pub(crate) fn write(&self, opened: &Opened, response: &Recorder<'_>) {
        response.set(ALLOW_ORIGIN, opened.origin());
        if self.credentials {
            response.set(ALLOW_CREDENTIALS, "true");
        }
        response.set(EXPOSE_HEADERS, &self.expose_headers);
        if opened.varies() {
            response.append("vary", "origin");
        }
    }

    /// Into an answer of the plugin itself.
    pub(crate) fn open_reply(&self, opened: &Opened, reply: Reply) -> Reply {
        self.head(opened, reply).header(EXPOSE_HEADERS, &self.expose_headers)
    }

    fn head(&self, opened: &Opened, mut reply: Reply) -> Reply {
        reply = reply.header(ALLOW_ORIGIN, opened.origin());
        if self.credentials {
            reply = reply.header(ALLOW_CREDENTIALS, "true");
        }
        if opened.varies() { reply.header("vary", "origin") } else { reply }
    }
}

impl Opened {
    fn origin(&self) -> &[u8] {
        match self {
            Self::ToAll => b"*",
            Self::To(origin) => origin,
        }
    }

    /// Whether caches must keep the response apart from those to other origins.
    fn varies(&self) -> bool {
        matches!(self, Self::To(_))
    }
}

impl Origin {
    fn parse(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let wrong = || {
            format!(
                "`{text}` is no origin: write scheme, host, and the port if it is not the usual one, such as \
                 https://shop.example, https://*.shop.example, or `*`"
            )
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let host = rest.strip_prefix("*.").unwrap_or(rest);
        let plain = |part: &str, and: &[u8]| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || and.contains(&b))
        };
        if !plain(scheme, b"+-.") || !plain(host, b"-.:[]") {
            return Err(wrong());
        }
        if host.len() == rest.len() {
            return Ok(Self::Exact(text.as_bytes().to_vec()));
        }
        Ok(Self::Subdomains { scheme: format!("{scheme}://").into_bytes(), domain: format!(".{host}").into_bytes() })
    }

    fn covers(&self, origin: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => exact == origin,
            Self::Subdomains { scheme, domain } => {
                let labels = origin.strip_prefix(&**scheme).and_then(|rest| rest.strip_suffix(&**domain));
                labels.is_some_and(|labels| {
                    !labels.is_empty() && labels.iter().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(b))
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(allowed: &str, covered: &[&str], others: &[&str]) {
        let parsed = Origin::parse(allowed).unwrap();
        for origin in covered {
            assert!(parsed.covers(origin.as_bytes()), "{origin} by {allowed}");
        }
        for origin in others {
            assert!(!parsed.covers(origin.as_bytes()), "{origin} not by {allowed}");
        }
    }

    #[test]
    fn origins_are_compared_whole() {
        check(
            "https://a.example",
            &["https://a.example"],
            &["http://a.example", "https://a.example:8443", "https://b.a.example", "null"],
        );
        check("http://localhost:3000", &["http://localhost:3000"], &["http://localhost"]);
        check("*", &["https://a.example", "null"], &[]);
        check(
            "https://*.a.example",
            &["https://b.a.example", "https://c.b.a.example"],
            &[
                "https://a.example",
                "https://.a.example",
                "https://evil.example/.a.example",
                "https://xa.example",
                "http://b.a.example",
            ],
        );
    }

    #[test]
    fn what_is_no_origin_says_so() {
        for text in [
            "shop.example",
            "https://",
            "https://shop.example/",
            "https://Shop.example",
            "https://*",
            "https://a.*.b",
            "",
        ] {
            assert!(Origin::parse(text).unwrap_err().contains("is no origin: write scheme, host"), "{text}");
        }
    }
}

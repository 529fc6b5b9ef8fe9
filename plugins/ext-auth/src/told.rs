//! What the service is told: headers of the client, what the gateway knows about it, and what it asked for.

use std::borrow::Cow;

use penstock_plugin::{
    Direction, Request, Values,
    capability::{exchange, outbound::Call},
    header::{self, InvalidName},
};

/// What the gateway tells every backend about the client. It has replaced what strangers said under these names.
pub(crate) const BY_GATEWAY: [&str; 6] =
    ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto", "x-request-id"];

/// Headers of a client with which it is asked about at all: a question has 256 at most, and over HTTP/2 a client can send two thousand.
const MOST_SENT: usize = 512;

/// What is asked of the service: the headers that go with every question.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) headers: Headers,
    pub(crate) constants: Vec<(String, Vec<u8>)>,
    pub(crate) target: Target,
}

/// Which headers of the client.
#[derive(Debug)]
pub(crate) enum Headers {
    /// All for which [`check`] has nothing to say. They come in one call, and [`BY_GATEWAY`] with them.
    All,
    /// These and [`BY_GATEWAY`], with their places in the plan's `request_reads`.
    Named(Vec<(String, usize)>),
}

/// What the client asked for: places in the plan's `request_reads`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    pub(crate) method: usize,
    pub(crate) scheme: usize,
    pub(crate) authority: usize,
    pub(crate) path: usize,
}

/// Why a header of the client is not for the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotForService {
    #[error(transparent)]
    Invalid(InvalidName),
    #[error("is what `service.host` says")]
    Host,
    #[error("describes the body, which is never sent to the service")]
    Body,
    #[error(
        "makes the answer depend on what the client has cached, and an answer about the request would be taken for one to it"
    )]
    Conditional,
    #[error("is written by the gateway: clients that could send it would choose who they are")]
    Ours,
}

/// Whether the service may get the header as the client sent it.
pub(crate) fn check(name: &str) -> Result<(), NotForService> {
    // Pseudo-headers are no headers, though edits may write them.
    if name.starts_with(':') {
        return Err(NotForService::Invalid(InvalidName::Pseudo));
    }
    if name == "host" {
        return Err(NotForService::Host);
    }
    header::check_write(name, Direction::Request).map_err(NotForService::Invalid)?;
    match name {
        "expect" => Err(NotForService::Body),
        "if-match" | "if-none-match" | "if-modified-since" | "if-unmodified-since" | "if-range" | "range" => {
            Err(NotForService::Conditional)
        }
        "x-real-ip" | "x-rewrite-url" => Err(NotForService::Ours),
        _ if name.starts_with("content-") => Err(NotForService::Body),
        _ if BY_GATEWAY.contains(&name) => Err(NotForService::Ours),
        _ if ["x-forwarded-", "x-original-"].iter().any(|prefix| name.starts_with(prefix)) => Err(NotForService::Ours),
        _ => Ok(()),
    }
}

impl Told {
    /// The question, with its headers. None: there are more than a question can have.
    pub(crate) fn tell(&self, call: Call, request: &Request) -> Option<Call> {
        let (mut call, origin) = match &self.headers {
            Headers::Named(names) => named(call, names, request),
            Headers::All => self.all(call)?,
        };
        call = self.target.tell(call, request, &origin);
        for (name, value) in &self.constants {
            call = call.header(name, value);
        }
        Some(call)
    }

    fn all(&self, mut call: Call) -> Option<(Call, Origin)> {
        let (mut cookies, mut origin) = (Vec::new(), Origin::default());
        let sent = exchange::request_headers();
        if sent.len() > MOST_SENT {
            return None;
        }
        for (name, value) in sent {
            origin.note(&name, &value);
            if name == "cookie" && !self.is_constant(&name) {
                cookies.push(value);
            } else if BY_GATEWAY.contains(&name.as_str()) || self.may_pass(&name) {
                call = call.header(&name, value);
            }
        }
        Some((add(call, "cookie", &Values::from(cookies.as_slice())), origin))
    }

    /// Whether the service may get the header as the client sent it, whichever name its server takes it for.
    fn may_pass(&self, name: &str) -> bool {
        if check(name).is_err() || self.is_constant(name) {
            return false;
        }
        let taken_for = name.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        taken_for == name || check(&taken_for).is_ok() && !self.is_constant(&taken_for)
    }

    fn is_constant(&self, name: &str) -> bool {
        self.constants.iter().any(|(known, _)| known == name)
    }
}

fn named(mut call: Call, names: &[(String, usize)], request: &Request) -> (Call, Origin) {
    let mut origin = Origin::default();
    for (name, place) in names {
        let values = request.read(*place);
        if let Some(value) = values.first() {
            origin.note(name, value);
        }
        call = add(call, name, &values);
    }
    (call, origin)
}

/// Where the client asked, as far as the gateway has said it: a trusted proxy may know better than the request.
#[derive(Debug, Default)]
struct Origin {
    scheme: Option<Vec<u8>>,
    authority: Option<Vec<u8>>,
}

impl Origin {
    fn note(&mut self, name: &str, value: &[u8]) {
        match name {
            "x-forwarded-proto" => self.scheme = Some(value.to_vec()),
            "x-forwarded-host" => self.authority = Some(value.to_vec()),
            _ => {}
        }
    }
}

/// All values of a header. HTTP/2 may split cookies, and HTTP/1.1 knows one field of them (RFC 9113 §8.2.3).
fn add(call: Call, name: &str, values: &Values<'_>) -> Call {
    if name == "cookie" && values.len() > 1 {
        return call.header(name, values.iter().collect::<Vec<_>>().join(&b"; "[..]));
    }
    values.iter().fold(call, |call, value| call.header(name, value))
}

impl Target {
    /// As Traefik says it, and as ingress-nginx does: services know one or the other.
    fn tell(self, call: Call, request: &Request, origin: &Origin) -> Call {
        let first = |place: usize| request.read(place).first().unwrap_or_default().to_vec();
        let (method, path) = (first(self.method), first(self.path));
        let mut url = origin.scheme.clone().unwrap_or_else(|| first(self.scheme));
        url.extend_from_slice(b"://");
        url.extend(origin.authority.clone().unwrap_or_else(|| first(self.authority)));
        url.extend_from_slice(&path);
        call.header("x-forwarded-method", &method)
            .header("x-forwarded-uri", path)
            .header("x-original-method", method)
            .header("x-original-url", url)
    }

    pub(crate) fn path(self, request: &Request) -> Vec<u8> {
        request.read(self.path).first().unwrap_or_default().to_vec()
    }
}

/// The target of a request as another request can ask for it: what no target may hold is percent-encoded.
pub(crate) fn encoded(target: &[u8]) -> Cow<'_, str> {
    let plain = |byte: &u8| byte.is_ascii_graphic() && !b"#<>`\"".contains(byte);
    if target.iter().all(plain) {
        return String::from_utf8_lossy(target);
    }
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut encoded = String::with_capacity(target.len() + target.len() / 2);
    for byte in target {
        if plain(byte) {
            encoded.push(char::from(*byte));
        } else {
            encoded.extend([b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]].map(char::from));
        }
    }
    encoded.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_the_body_of_conditions_and_of_the_gateway_stay() {
        for (name, expected) in [
            ("authorization", Ok(())),
            ("cookie", Ok(())),
            ("x-user", Ok(())),
            ("content-type", Err(NotForService::Body)),
            ("expect", Err(NotForService::Body)),
            ("range", Err(NotForService::Conditional)),
            ("if-none-match", Err(NotForService::Conditional)),
            ("x-forwarded-for", Err(NotForService::Ours)),
            ("x-forwarded-user", Err(NotForService::Ours)),
            ("x-original-url", Err(NotForService::Ours)),
            ("forwarded", Err(NotForService::Ours)),
            ("te", Err(NotForService::Invalid(InvalidName::Connection))),
            ("host", Err(NotForService::Host)),
            ("content-length", Err(NotForService::Invalid(InvalidName::ContentLength))),
            (":path", Err(NotForService::Invalid(InvalidName::Pseudo))),
        ] {
            assert_eq!(check(name), expected, "{name}");
        }
    }

    #[test]
    fn targets_are_encoded() {
        assert_eq!(encoded(b"/a%20b?c=%2F&d"), "/a%20b?c=%2F&d");
        assert_eq!(encoded("/?q=é \"x\"".as_bytes()), "/?q=%C3%A9%20%22x%22");
    }
}

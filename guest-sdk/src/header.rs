//! What the gateway accepts as names and values of headers. The same rules hold for plans, for edits and for replies, on the gateway and
//! in [`crate::testing`]; plugins use them to check names that come from their configuration.

use std::borrow::Cow;

use crate::{Pointer, Problems};

/// Which message is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the client to the backend.
    Request,
    /// From the backend to the client.
    Response,
}

/// Why no edit may name a header so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// RFC 9110 §5.6.2.
    #[error("is not a header name: use letters, digits and any of !#$%&'*+-.^_`|~")]
    NotAToken,
    /// Names cross the boundary in lower case.
    #[error("must be lower case")]
    UpperCase,
    /// RFC 9110 §7.6.1.
    #[error("belongs to the connection, which the gateway manages itself")]
    Connection,
    /// Said by `:authority` in every version of HTTP.
    #[error("is said by `:authority`: name that instead")]
    Host,
    /// The gateway knows how long the body is.
    #[error("follows from the body, which the gateway counts itself")]
    ContentLength,
    /// No such pseudo-header in this direction.
    #[error("is a pseudo-header that plugins cannot write")]
    Pseudo,
    /// There is nothing of that name to read.
    #[error(
        "is no pseudo-header that can be read: there are `:method`, `:scheme`, `:authority`, `:path` and `:client-address`"
    )]
    UnknownPseudo,
}

/// Why a header cannot have a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidValue {
    /// RFC 9110 §5.5.
    #[error("has the control character 0x{0:02x}, which no header value may have")]
    Control(u8),
    /// Where HTTP has no room for such a value, as in `:path`.
    #[error("is not a valid {0}")]
    Pseudo(&'static str),
}

/// Names of the connection and not of the message; in the order of the contract.
const CONNECTION: [&str; 7] =
    ["connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"];

/// Checks that `name` can be read: a lower case token, or a pseudo-header.
///
/// # Errors
/// When the name is neither.
pub fn check_read(name: &str) -> Result<(), InvalidName> {
    match name {
        ":method" | ":scheme" | ":authority" | ":path" | ":client-address" => Ok(()),
        _ if name.starts_with(':') => Err(InvalidName::UnknownPseudo),
        _ => check_token(name),
    }
}

/// Checks that edits of this direction may name `name`.
///
/// # Errors
/// When the gateway would refuse the edit.
pub fn check_write(name: &str, direction: Direction) -> Result<(), InvalidName> {
    match (name, direction) {
        (":method" | ":authority" | ":path", Direction::Request) | (":status", Direction::Response) => Ok(()),
        ("host", _) => Err(InvalidName::Host),
        ("content-length", _) => Err(InvalidName::ContentLength),
        _ if name.starts_with(':') => Err(InvalidName::Pseudo),
        _ if CONNECTION.contains(&name) => Err(InvalidName::Connection),
        _ => check_token(name),
    }
}

/// Checks that `name` may have `value`.
///
/// # Errors
/// When the gateway would refuse the edit.
pub fn check_value(name: &str, value: &[u8]) -> Result<(), InvalidValue> {
    if let Some(byte) = value.iter().find(|byte| (**byte < 0x20 && **byte != b'\t') || **byte == 0x7f) {
        return Err(InvalidValue::Control(*byte));
    }
    let fits = match name {
        ":path" => is_target(value),
        ":authority" => is_authority(value),
        // `CONNECT` would turn the request into a tunnel.
        ":method" => !value.is_empty() && value != b"CONNECT" && value.iter().all(|byte| is_token(*byte)),
        ":status" => value.len() == 3 && matches!(value[0], b'2'..=b'5') && value.iter().all(u8::is_ascii_digit),
        _ => return Ok(()),
    };
    let what = match name {
        ":path" => {
            "path: it starts with `/`, has no segments `.` and `..`, and what a URI cannot hold is percent-encoded"
        }
        ":authority" => "authority: write host or host:port",
        ":method" => "method that a plugin can set",
        _ => "status: write 200 to 599",
    };
    if fits { Ok(()) } else { Err(InvalidValue::Pseudo(what)) }
}

/// The name as it crosses the boundary: lower case, and `:authority` for `host`.
#[must_use]
pub fn canonical(name: &str) -> Cow<'_, str> {
    if name.eq_ignore_ascii_case("host") {
        Cow::Borrowed(":authority")
    } else if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

/// Whether the name means the authority of a request, of which [`host`](crate::extract::target::host) is what routes compare.
#[must_use]
pub fn is_host(name: &str) -> bool {
    canonical(name) == ":authority"
}

/// The headers and pseudo-headers that a configuration needs, each once: collected while it is compiled, then given to the plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reads(Vec<String>);

impl Reads {
    /// The place of a name among the fields that the hook gets, in any spelling of it.
    pub fn place(&mut self, name: &str) -> usize {
        let name = canonical(name);
        self.0.iter().position(|known| *known == name).unwrap_or_else(|| {
            self.0.push(name.into_owned());
            self.0.len() - 1
        })
    }

    /// As [`Reads::place`], for a name that the configuration gives: one that cannot be read is a problem at `at`.
    pub fn given(&mut self, name: &str, at: &Pointer, problems: &mut Problems) -> usize {
        let name = canonical(name);
        if let Err(reason) = check_read(&name) {
            problems.push(at, format!("`{name}` {reason}"));
        }
        self.place(&name)
    }

    /// For `Plan::request_reads`.
    #[must_use]
    pub fn into_names(self) -> Vec<String> {
        self.0
    }
}

fn check_token(name: &str) -> Result<(), InvalidName> {
    if name.is_empty() || !name.bytes().all(is_token) {
        Err(InvalidName::NotAToken)
    } else if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Err(InvalidName::UpperCase)
    } else {
        Ok(())
    }
}

/// Path and query, as far as every part of the gateway agrees on them. A fragment would be cut off in silence.
fn is_target(target: &[u8]) -> bool {
    let (path, query) = match target.iter().position(|byte| *byte == b'?') {
        Some(mark) => target.split_at(mark),
        None => (target, &[][..]),
    };
    let visible = |part: &[u8], not: u8| part.iter().all(|b| b.is_ascii_graphic() && !b"#<>".contains(b) && *b != not);
    // The gateway percent-encodes what a path cannot hold, and then it has to fit.
    let encoded = |b: &u8| if b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/%".contains(b) { 1 } else { 3 };
    let length = path.iter().map(encoded).sum::<usize>() + query.len();
    path.first() == Some(&b'/')
        && visible(path, b'`')
        && visible(query, b'"')
        && leads_nowhere_else(path)
        && length < usize::from(u16::MAX)
}

/// Whether a path has no segment `.` or `..`, neither in another spelling nor between what some servers take for separators, and nothing else that
/// the gateway refuses. It resolves such segments itself as far as they lead nowhere above the root.
fn leads_nowhere_else(path: &[u8]) -> bool {
    let mut decoded = Vec::with_capacity(path.len());
    let mut bytes = path.iter();
    while let Some(byte) = bytes.next() {
        let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
        match byte {
            b'\\' => return false,
            b'%' => match digit(bytes.next()).zip(digit(bytes.next())).map(|(high, low)| u8::try_from(high << 4 | low))
            {
                Some(Ok(byte)) if !byte.is_ascii_control() => decoded.push(byte),
                _ => return false,
            },
            byte => decoded.push(*byte),
        }
    }
    decoded.split(|byte| b"/\\;".contains(byte)).all(|segment| !matches!(segment, b"." | b".."))
}

/// A host, or a host and a port. No user information (RFC 9110 §4.2.4).
fn is_authority(authority: &[u8]) -> bool {
    let port = authority.iter().rposition(|byte| !byte.is_ascii_digit()).filter(|colon| authority[*colon] == b':');
    let host = port.map_or(authority, |colon| &authority[..colon]);
    match host.strip_prefix(b"[").and_then(|host| host.strip_suffix(b"]")) {
        Some(ip) => !ip.is_empty() && ip.iter().all(|byte| byte.is_ascii_hexdigit() || b":.".contains(byte)),
        None => {
            let name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(byte);
            !host.is_empty() && host.iter().all(name)
        }
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// What can become the value of a header.
pub trait IntoValue {
    /// Its bytes.
    fn into_value(self) -> Vec<u8>;
}

macro_rules! into_value {
    ($($type:ty => |$value:ident| $bytes:expr),* $(,)?) => {
        $(impl IntoValue for $type {
            fn into_value(self) -> Vec<u8> {
                let $value = self;
                $bytes
            }
        })*
    };
}

into_value! {
    &str => |value| value.as_bytes().to_vec(),
    &String => |value| value.as_bytes().to_vec(),
    String => |value| value.into_bytes(),
    Cow<'_, str> => |value| value.into_owned().into_bytes(),
    &[u8] => |value| value.to_vec(),
    &Vec<u8> => |value| value.clone(),
    Vec<u8> => |value| value,
    Cow<'_, [u8]> => |value| value.into_owned(),
    u16 => |value| value.to_string().into_bytes(),
    u32 => |value| value.to_string().into_bytes(),
    u64 => |value| value.to_string().into_bytes(),
    usize => |value| value.to_string().into_bytes(),
}

impl<const N: usize> IntoValue for &[u8; N] {
    fn into_value(self) -> Vec<u8> {
        self.to_vec()
    }
}

/// The values of one header, in the order of the message: none, one or several.
#[derive(Debug, Clone)]
pub struct Values<'a>(Repr<'a>);

#[derive(Debug, Clone)]
enum Repr<'a> {
    None,
    One(&'a [u8]),
    Many(&'a [Vec<u8>]),
    Owned(Vec<Vec<u8>>),
}

impl<'a> Values<'a> {
    pub(crate) fn owned(values: Vec<Vec<u8>>) -> Self {
        Self(Repr::Owned(values))
    }

    /// Whether the message has no such header.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.0 {
            Repr::None => 0,
            Repr::One(_) => 1,
            Repr::Many(values) => values.len(),
            Repr::Owned(values) => values.len(),
        }
    }

    /// The value at this place.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        match &self.0 {
            Repr::None => None,
            Repr::One(value) => (index == 0).then_some(*value),
            Repr::Many(values) => values.get(index).map(Vec::as_slice),
            Repr::Owned(values) => values.get(index).map(Vec::as_slice),
        }
    }

    /// The first value.
    #[must_use]
    pub fn first(&self) -> Option<&[u8]> {
        self.get(0)
    }

    /// The first value, if it is UTF-8.
    #[must_use]
    pub fn to_str(&self) -> Option<&str> {
        self.first().and_then(|value| std::str::from_utf8(value).ok())
    }

    /// All values, in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// All values as one, joined by `, ` as RFC 9110 §5.3 allows. None when there is no value.
    #[must_use]
    pub fn joined(&self) -> Option<Cow<'_, [u8]>> {
        let first = self.first()?;
        if self.len() == 1 {
            return Some(Cow::Borrowed(first));
        }
        let mut joined = first.to_vec();
        for value in self.iter().skip(1) {
            joined.extend_from_slice(b", ");
            joined.extend_from_slice(value);
        }
        Some(Cow::Owned(joined))
    }
}

impl<'a> From<&'a crate::wire::Field> for Values<'a> {
    fn from(field: &'a crate::wire::Field) -> Self {
        Self(match field {
            crate::wire::Field::Absent => Repr::None,
            crate::wire::Field::One(value) => Repr::One(value),
            crate::wire::Field::Many(values) => Repr::Many(values),
        })
    }
}

impl<'a> From<&'a [Vec<u8>]> for Values<'a> {
    fn from(values: &'a [Vec<u8>]) -> Self {
        Self(Repr::Many(values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_limited_to_what_the_message_owns() {
        use Direction::{Request, Response};
        for (name, direction, want) in [
            ("x-a", Request, Ok(())),
            ("", Request, Err(InvalidName::NotAToken)),
            ("x a", Request, Err(InvalidName::NotAToken)),
            ("X-A", Request, Err(InvalidName::UpperCase)),
            ("host", Request, Err(InvalidName::Host)),
            ("upgrade", Response, Err(InvalidName::Connection)),
            ("content-length", Response, Err(InvalidName::ContentLength)),
            (":path", Request, Ok(())),
            (":path", Response, Err(InvalidName::Pseudo)),
            (":status", Response, Ok(())),
            (":scheme", Request, Err(InvalidName::Pseudo)),
        ] {
            assert_eq!(check_write(name, direction), want, "{name} in a {direction:?}");
        }
    }

    #[test]
    fn values_are_any_bytes_but_controls() {
        assert_eq!(check_value("x-a", b"tab\there, \xff\xfe and \xc3\xa4"), Ok(()));
        for byte in [0, b'\r', b'\n', 0x1f, 0x7f] {
            assert_eq!(check_value("x-a", &[b'a', byte]), Err(InvalidValue::Control(byte)));
        }
    }

    #[test]
    fn pseudo_headers_have_a_grammar() {
        for (name, value, fits) in [
            (":path", "/a?b", true),
            (":path", "a", false),
            (":path", "/a b", false),
            (":path", "", false),
            (":authority", "a.example:80", true),
            (":authority", "", false),
            (":authority", "user@a", false),
            (":authority", "a b", false),
            (":authority", ":80", false),
            (":authority", "a:b:80", false),
            (":authority", "127.0.0.1", true),
            (":authority", "[::1]:8080", true),
            (":authority", "[::1", false),
            (":path", "/a#b", false),
            (":path", "/{\"a\"}", true),
            (":path", "/?\"", false),
            (":path", "/.well-known/..a/a%2Fb;v=1.2/?../x", true),
            (":path", "/../a", false),
            (":path", "/a/%2e%2E/b", false),
            (":path", "/a/..;x/b", false),
            (":path", "/a%2f..%5Cb", false),
            (":path", "/a\\b", false),
            (":path", "/%", false),
            (":path", "/%4", false),
            (":path", "/%0a", false),
            (":method", "CONNECT", false),
            (":method", "PATCH", true),
            (":method", "GE T", false),
            (":status", "204", true),
            (":status", "101", false),
            (":status", "20", false),
        ] {
            assert_eq!(check_value(name, value.as_bytes()).is_ok(), fits, "{name} {value}");
        }
    }

    #[test]
    fn a_path_fits_as_the_gateway_writes_it() {
        let path =
            |byte: &str, length: usize| check_value(":path", format!("/{}", byte.repeat(length)).as_bytes()).is_ok();
        assert!(path("a", 65_533) && !path("a", 65_534));
        assert!(path("{", 21_844) && !path("{", 21_845));
        assert!(path("?", 65_533), "a query is passed on as it is");
    }

    #[test]
    fn values_join_in_order() {
        let values = Values::owned(vec![b"a".to_vec(), b"b".to_vec()]);
        assert_eq!(values.joined().as_deref(), Some(&b"a, b"[..]));
        assert_eq!(values.to_str(), Some("a"));
        assert_eq!(Values(Repr::None).joined(), None);
    }
}

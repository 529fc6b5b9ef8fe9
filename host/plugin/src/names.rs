//! Which header names a plugin may write. One table for plans, edits and replies, so that they cannot disagree.

use http::HeaderName;
use penstock_core::plugin::Direction;

use crate::fields::lower_case_name;

/// What an edit changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// A header.
    Header(HeaderName),
    /// A pseudo-header, which can only be set.
    Pseudo(Pseudo),
}

/// Pseudo-headers that can be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pseudo {
    /// `:method`.
    Method,
    /// `:authority`.
    Authority,
    /// `:path`, with query.
    Path,
    /// `:status`.
    Status,
}

/// Why a name cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidName {
    /// No token, or upper case.
    #[error("`{0}` is no header name: lower case letters, digits and !#$%&'*+-.^_`|~ are allowed")]
    NotAToken(String),
    /// RFC 9110 §7.6.1.
    #[error("`{0}` belongs to the connection, not to the message")]
    Connection(String),
    /// Follows the body.
    #[error("`content-length` is set by the gateway")]
    ContentLength,
    /// Has a pseudo-header.
    #[error("`host` cannot be written; `:authority` can")]
    Host,
    /// A pseudo-header that does not exist, or not in this direction.
    #[error("`{name}` cannot be set; {allowed}")]
    Pseudo { name: String, allowed: &'static str },
}

/// Headers that describe the connection they arrive on.
const CONNECTION: [&str; 7] =
    ["connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"];

impl Target {
    /// The name in an edit or in the writes of a plan.
    pub(crate) fn parse(name: &str, direction: Direction) -> Result<Self, InvalidName> {
        if name.starts_with(':') {
            return Pseudo::parse(name, direction).map(Self::Pseudo);
        }
        writable(name).map(Self::Header)
    }
}

impl Pseudo {
    fn parse(name: &str, direction: Direction) -> Result<Self, InvalidName> {
        match (name, direction) {
            (":method", Direction::Request) => Ok(Self::Method),
            (":authority", Direction::Request) => Ok(Self::Authority),
            (":path", Direction::Request) => Ok(Self::Path),
            (":status", Direction::Response) => Ok(Self::Status),
            (_, Direction::Request) => Err(InvalidName::Pseudo {
                name: name.into(),
                allowed: "`:method`, `:authority` and `:path` can, in requests",
            }),
            (_, Direction::Response) => {
                Err(InvalidName::Pseudo { name: name.into(), allowed: "`:status` can, in responses" })
            }
        }
    }
}

/// A header that plugins may write.
pub(crate) fn writable(name: &str) -> Result<HeaderName, InvalidName> {
    if CONNECTION.contains(&name) {
        return Err(InvalidName::Connection(name.into()));
    }
    match name {
        "content-length" => Err(InvalidName::ContentLength),
        "host" => Err(InvalidName::Host),
        _ => lower_case_name(name).ok_or_else(|| InvalidName::NotAToken(shorten(name))),
    }
}

/// A prefix in the writes of a plan, without its `*`. Empty covers every name.
pub(crate) fn prefix(prefix: &str) -> Result<Box<str>, InvalidName> {
    if prefix.is_empty() || lower_case_name(prefix).is_some() {
        Ok(prefix.into())
    } else {
        Err(InvalidName::NotAToken(format!("{}*", shorten(prefix))))
    }
}

/// Names in messages come from plugins: keep them short and printable.
pub(crate) fn shorten(name: &str) -> String {
    name.chars().take(64).flat_map(char::escape_default).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, direction: Direction, expected: &Result<Target, &str>) {
        let target = Target::parse(name, direction);
        assert_eq!(
            target.as_ref().map_err(ToString::to_string),
            expected.as_ref().map_err(ToString::to_string),
            "{name}"
        );
    }

    #[test]
    fn what_can_be_written() {
        use Direction::{Request, Response};
        check("x-a", Request, &Ok(Target::Header(HeaderName::from_static("x-a"))));
        check(":path", Request, &Ok(Target::Pseudo(Pseudo::Path)));
        check(":status", Response, &Ok(Target::Pseudo(Pseudo::Status)));
        check(
            ":status",
            Request,
            &Err("`:status` cannot be set; `:method`, `:authority` and `:path` can, in requests"),
        );
        check(":path", Response, &Err("`:path` cannot be set; `:status` can, in responses"));
        check(
            ":scheme",
            Request,
            &Err("`:scheme` cannot be set; `:method`, `:authority` and `:path` can, in requests"),
        );
        check("host", Request, &Err("`host` cannot be written; `:authority` can"));
        check("content-length", Response, &Err("`content-length` is set by the gateway"));
        for name in CONNECTION {
            check(name, Response, &Err(&format!("`{name}` belongs to the connection, not to the message")));
        }
        for (name, shown) in [("X-A", "X-A"), ("", ""), ("a\r\nb", "a\\r\\nb"), ("a b", "a b"), ("a\0", "a\\u{0}")] {
            let message =
                format!("`{shown}` is no header name: lower case letters, digits and !#$%&'*+-.^_`|~ are allowed");
            check(name, Request, &Err(&message));
        }
    }

    #[test]
    fn prefixes_are_lower_case_too() {
        assert_eq!(prefix("x-").as_deref(), Ok("x-"));
        assert_eq!(prefix("").as_deref(), Ok(""));
        assert!(prefix("X-").is_err());
        assert!(prefix(":").is_err());
    }
}

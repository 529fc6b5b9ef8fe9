//! Media types of gRPC and gRPC-Web.

/// How the bytes of a message look on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// As they are.
    Binary,
    /// In base64, for clients that can only read text while it arrives.
    Text,
}

/// The encoding of messages, behind the `+` of a media type: `proto`. Empty: not said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Format<'v>(&'v [u8]);

/// The mode and format of a gRPC-Web media type; none for any other.
pub(crate) fn grpc_web(value: &[u8]) -> Option<(Mode, Format<'_>)> {
    let rest = strip(essence(value), b"application/grpc-web")?;
    // `-base64` says what is the default anyway.
    let text = strip(rest, b"-text-base64").or_else(|| strip(rest, b"-text"));
    let (mode, rest) = text.map_or((Mode::Binary, rest), |rest| (Mode::Text, rest));
    Some((mode, format(rest)?))
}

/// The format of a gRPC media type; none for any other.
pub(crate) fn grpc(value: &[u8]) -> Option<Format<'_>> {
    format(strip(essence(value), b"application/grpc")?)
}

/// What the client wants the response to be: what it accepts, else what it has sent.
pub(crate) fn wanted<'v>(mut accept: impl Iterator<Item = &'v [u8]>, sent: Mode) -> Mode {
    let found = accept.find_map(|value| value.split(|byte| *byte == b',').find_map(|item| grpc_web(item.trim_ascii())));
    found.map_or(sent, |(mode, _)| mode)
}

impl Format<'_> {
    /// The media type by which servers know messages of this format.
    pub(crate) fn to_grpc(self) -> Vec<u8> {
        let plus: &[u8] = if self.0.is_empty() { b"" } else { b"+" };
        [b"application/grpc", plus, self.0].concat()
    }

    /// The media type by which browsers know messages of this format. One that is not said is `proto`: clients insist on it.
    pub(crate) fn to_grpc_web(self, mode: Mode) -> Vec<u8> {
        let name: &[u8] = match mode {
            Mode::Binary => b"application/grpc-web+",
            Mode::Text => b"application/grpc-web-text+",
        };
        [name, if self.0.is_empty() { b"proto" } else { self.0 }].concat()
    }
}

/// Without parameters.
fn essence(value: &[u8]) -> &[u8] {
    value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii()
}

/// Media types have any case (RFC 9110 §8.3.1).
fn strip<'v>(value: &'v [u8], prefix: &[u8]) -> Option<&'v [u8]> {
    value.split_at_checked(prefix.len()).filter(|(start, _)| start.eq_ignore_ascii_case(prefix)).map(|(_, rest)| rest)
}

fn format(rest: &[u8]) -> Option<Format<'_>> {
    match rest {
        [] => Some(Format(b"")),
        [b'+', format @ ..] if !format.is_empty() => Some(Format(format)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &str, expected: Option<(Mode, &str)>) {
        let found = grpc_web(value.as_bytes());
        assert_eq!(found, expected.map(|(mode, format)| (mode, Format(format.as_bytes()))), "{value}");
    }

    #[test]
    fn media_types_of_grpc_web_have_a_mode_and_a_format() {
        check("application/grpc-web", Some((Mode::Binary, "")));
        check("application/grpc-web+proto", Some((Mode::Binary, "proto")));
        check("Application/gRPC-Web-Text+json; charset=utf-8", Some((Mode::Text, "json")));
        check("application/grpc-web-text", Some((Mode::Text, "")));
        check("application/grpc-web-text-base64", Some((Mode::Text, "")));
        for other in ["application/grpc", "application/grpc-webx", "application/grpc-web+", "application/json", "", "x"]
        {
            check(other, None);
        }
    }

    #[test]
    fn grpc_is_not_grpc_web() {
        assert_eq!(grpc(b"application/grpc"), Some(Format(b"")));
        assert_eq!(grpc(b"application/grpc+proto;x=y"), Some(Format(b"proto")));
        assert_eq!(grpc(b"application/grpc-web"), None);
        assert_eq!(grpc(b"text/html"), None);
    }

    #[test]
    fn what_is_accepted_decides_over_what_was_sent() {
        let wanted = |accept: &[&str], sent| wanted(accept.iter().map(|value| value.as_bytes()), sent);
        assert_eq!(wanted(&["application/grpc-web-text"], Mode::Binary), Mode::Text);
        assert_eq!(wanted(&["*/*", "x, application/grpc-web+proto"], Mode::Text), Mode::Binary);
        assert_eq!(wanted(&["*/*"], Mode::Text), Mode::Text);
        assert_eq!(wanted(&[], Mode::Binary), Mode::Binary);
    }
}

//! What the guard refuses.

use std::fmt;

/// Why bytes of a client were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Violation {
    RequestLine = 1,
    Connect,
    UriTooLong,
    HeadTooLarge,
    TooManyHeaders,
    BareLineFeed,
    BareCarriageReturn,
    ObsoleteFold,
    HeaderName,
    SpaceBeforeColon,
    HeaderValue,
    Length,
    DuplicateLength,
    TransferEncoding,
    LengthAndEncoding,
    HostMissing,
    HostDuplicate,
    ChunkSize,
    ChunkExtension,
    Timeout,
}

impl Violation {
    const ALL: [Self; 20] = [
        Self::RequestLine,
        Self::Connect,
        Self::UriTooLong,
        Self::HeadTooLarge,
        Self::TooManyHeaders,
        Self::BareLineFeed,
        Self::BareCarriageReturn,
        Self::ObsoleteFold,
        Self::HeaderName,
        Self::SpaceBeforeColon,
        Self::HeaderValue,
        Self::Length,
        Self::DuplicateLength,
        Self::TransferEncoding,
        Self::LengthAndEncoding,
        Self::HostMissing,
        Self::HostDuplicate,
        Self::ChunkSize,
        Self::ChunkExtension,
        Self::Timeout,
    ];

    /// The inverse of `as u8`.
    pub(crate) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code).checked_sub(1)?).copied()
    }

    /// For the access log.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::RequestLine => "the request line is malformed",
            Self::Connect => "CONNECT is not supported",
            Self::UriTooLong => "the request target is too long",
            Self::HeadTooLarge => "the head or the trailers are too large",
            Self::TooManyHeaders => "there are too many header lines",
            Self::BareLineFeed => "a line ends without CR",
            Self::BareCarriageReturn => "a CR is not followed by LF",
            Self::ObsoleteFold => "a header line is folded",
            Self::HeaderName => "a header name is malformed",
            Self::SpaceBeforeColon => "there is white space before a colon",
            Self::HeaderValue => "a header value has a control character",
            Self::Length => "Content-Length is not a number",
            Self::DuplicateLength => "there are two Content-Length",
            Self::TransferEncoding => "Transfer-Encoding is not exactly 'chunked'",
            Self::LengthAndEncoding => "there are both Content-Length and Transfer-Encoding",
            Self::HostMissing => "Host is missing",
            Self::HostDuplicate => "there are two Host",
            Self::ChunkSize => "a chunk is malformed",
            Self::ChunkExtension => "a chunk has an extension",
            Self::Timeout => "the request did not arrive in time",
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for Violation {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_reversible() {
        for (index, violation) in Violation::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(violation as u8), index + 1);
            assert_eq!(Violation::from_code(violation as u8), Some(violation));
        }
        assert_eq!(Violation::from_code(0), None);
    }
}

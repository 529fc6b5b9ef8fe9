//! Replies of plugins in place of the upstream's response.

use bytes::Bytes;
use http::{Response, StatusCode};

use crate::{
    contract::types::Reply,
    edits::{InvalidEdit, header_value},
    names,
};

/// Bytes of a reply's body. Replies are error pages, redirects and small documents; they are held in memory.
const LONGEST_BODY: usize = 1 << 20;
/// Headers of a reply.
const MOST_HEADERS: usize = 256;

/// Why a reply is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidReply {
    #[error("invalid-reply: status {0} is not between 200 and 599")]
    Status(u16),
    #[error("invalid-reply: {0}")]
    Header(#[from] InvalidEdit),
    #[error("invalid-reply: {0} headers; {MOST_HEADERS} are allowed")]
    TooManyHeaders(usize),
    #[error("invalid-reply: a body of {0} bytes; {LONGEST_BODY} are allowed")]
    Body(usize),
}

/// Judge a reply. It carries no `content-length`: whoever sends it knows the body.
pub(crate) fn check(reply: Reply) -> Result<Response<Bytes>, InvalidReply> {
    let status = match StatusCode::from_u16(reply.status) {
        Ok(status) if (200..=599).contains(&reply.status) => status,
        _ => return Err(InvalidReply::Status(reply.status)),
    };
    if reply.headers.len() > MOST_HEADERS {
        return Err(InvalidReply::TooManyHeaders(reply.headers.len()));
    }
    if reply.body.len() > LONGEST_BODY {
        return Err(InvalidReply::Body(reply.body.len()));
    }
    let mut response = Response::new(Bytes::from(reply.body));
    *response.status_mut() = status;
    for header in reply.headers {
        let name = names::writable(&header.name).map_err(InvalidEdit::from)?;
        let value = header_value(&name, header.value)?;
        response.headers_mut().append(name, value);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::types::Header;

    fn reply(status: u16, headers: &[(&str, &[u8])], body: usize) -> Result<Response<Bytes>, String> {
        let headers =
            headers.iter().map(|(name, value)| Header { name: (*name).into(), value: value.to_vec() }).collect();
        check(Reply { status, headers, body: vec![b'a'; body] }).map_err(|error| error.to_string())
    }

    #[test]
    fn a_reply_is_passed_on() {
        let response = reply(429, &[("retry-after", b"1"), ("set-cookie", b"a"), ("set-cookie", b"\xff")], 3).unwrap();
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()["retry-after"], "1");
        assert_eq!(response.headers().get_all("set-cookie").iter().count(), 2);
        assert_eq!(response.body().as_ref(), b"aaa");
    }

    #[test]
    fn replies_that_http_cannot_carry_are_refused() {
        for status in [0, 99, 100, 199, 600, 1000, u16::MAX] {
            assert_eq!(
                reply(status, &[], 0).unwrap_err(),
                format!("invalid-reply: status {status} is not between 200 and 599")
            );
        }
        assert_eq!(
            reply(200, &[("x-a", b"a\r\nb: c")], 0).unwrap_err(),
            "invalid-reply: the value of `x-a` has control characters"
        );
        assert!(reply(200, &[("transfer-encoding", b"chunked")], 0).is_err());
        assert!(reply(200, &[("content-length", b"1")], 0).is_err());
        assert!(reply(200, &[(":status", b"200")], 0).is_err());
        assert!(reply(200, &[("x-a", &b"1"[..]); 257], 0).is_err());
        assert!(reply(200, &[], LONGEST_BODY).is_ok());
        assert!(reply(200, &[], LONGEST_BODY + 1).is_err());
    }
}

//! RESP, version 2, as far as scripts need it, with a limit on everything that a server may say: whoever may write a WasmPlugin chooses the
//! server.

use bytes::BytesMut;

use crate::printable::remark;

/// Bytes of one text. Errors of Redis are sentences.
const LONGEST: usize = 4096;
/// Items of one list. Scripts answer four.
const MOST: usize = 8;

/// What a server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    Text(String),
    /// Fit for logs.
    Error(String),
    Number(i64),
    List(Vec<i64>),
}

/// It does not speak RESP, or says what nobody asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// Write a command.
pub(super) fn write(into: &mut BytesMut, command: &[&[u8]]) {
    into.extend_from_slice(format!("*{}\r\n", command.len()).as_bytes());
    for part in command {
        into.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
        into.extend_from_slice(part);
        into.extend_from_slice(b"\r\n");
    }
}

/// The first reply in `bytes` and its length; none if it is not complete.
pub(super) fn read(bytes: &[u8]) -> Result<Option<(Reply, usize)>, Malformed> {
    let Some(Line { kind, text: line, length }) = Line::read(bytes)? else { return Ok(None) };
    let text = || String::from_utf8_lossy(line).into_owned();
    let reply = match kind {
        b'+' => Reply::Text(text()),
        b'-' => Reply::Error(remark(&text())),
        b':' => Reply::Number(number(line)?),
        b'$' => return bulk(bytes, number(line)?, length),
        b'*' => return list(bytes, number(line)?, length),
        _ => return Err(Malformed),
    };
    Ok(Some((reply, length)))
}

/// A line: what it is, what it says, and how many bytes that takes with its end.
struct Line<'a> {
    kind: u8,
    text: &'a [u8],
    length: usize,
}

impl<'a> Line<'a> {
    fn read(bytes: &'a [u8]) -> Result<Option<Self>, Malformed> {
        let Some(end) = bytes.iter().take(LONGEST).position(|byte| *byte == b'\n') else {
            return if bytes.len() < LONGEST { Ok(None) } else { Err(Malformed) };
        };
        match &bytes[..end] {
            [kind, text @ .., b'\r'] => Ok(Some(Self { kind: *kind, text, length: end + 1 })),
            _ => Err(Malformed),
        }
    }
}

fn number(line: &[u8]) -> Result<i64, Malformed> {
    str::from_utf8(line).ok().and_then(|text| text.parse().ok()).ok_or(Malformed)
}

fn bulk(bytes: &[u8], length: i64, at: usize) -> Result<Option<(Reply, usize)>, Malformed> {
    let length = usize::try_from(length).ok().filter(|length| *length <= LONGEST).ok_or(Malformed)?;
    let end = at + length;
    match bytes.get(end..end + 2) {
        None => Ok(None),
        Some(b"\r\n") => Ok(Some((Reply::Text(String::from_utf8_lossy(&bytes[at..end]).into_owned()), end + 2))),
        Some(_) => Err(Malformed),
    }
}

fn list(bytes: &[u8], items: i64, mut at: usize) -> Result<Option<(Reply, usize)>, Malformed> {
    let items = usize::try_from(items).ok().filter(|items| *items <= MOST).ok_or(Malformed)?;
    let mut numbers = Vec::with_capacity(items);
    for _ in 0..items {
        match Line::read(&bytes[at..])? {
            None => return Ok(None),
            Some(Line { kind: b':', text, length }) => {
                numbers.push(number(text)?);
                at += length;
            }
            Some(_) => return Err(Malformed),
        }
    }
    Ok(Some((Reply::List(numbers), at)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_lists_of_texts() {
        let mut bytes = BytesMut::new();
        write(&mut bytes, &[b"GET", b"a\r\nb"]);
        assert_eq!(&bytes[..], b"*2\r\n$3\r\nGET\r\n$4\r\na\r\nb\r\n");
    }

    #[test]
    fn replies_are_read_when_they_are_complete() {
        #[track_caller]
        fn check(bytes: &str, expected: Reply) {
            for end in 0..bytes.len() {
                assert_eq!(read(&bytes.as_bytes()[..end]), Ok(None), "{end} bytes");
            }
            let more = format!("{bytes}+more");
            assert_eq!(read(more.as_bytes()), Ok(Some((expected, bytes.len()))));
        }
        check("+OK\r\n", Reply::Text("OK".into()));
        check("-ERR no\u{7}\r\n", Reply::Error("ERR no\u{fffd}".into()));
        check(":-7\r\n", Reply::Number(-7));
        check("$4\r\na\r\nb\r\n", Reply::Text("a\r\nb".into()));
        check("*3\r\n:1\r\n:22\r\n:-3\r\n", Reply::List(vec![1, 22, -3]));
    }

    #[test]
    fn what_nobody_asked_for_is_refused_before_it_is_kept() {
        #[track_caller]
        fn check(bytes: &str) {
            assert_eq!(read(bytes.as_bytes()), Err(Malformed), "{bytes:.40}");
        }
        check("HTTP/1.1 400 Bad Request\r\n");
        check("+OK\n");
        check("\n");
        check(":1e3\r\n");
        check("$-1\r\n");
        check("$4097\r\n");
        check("$99999999999999999999\r\n");
        check("$1\r\nabc");
        check("*9\r\n");
        check("*1\r\n*1\r\n:1\r\n");
        check(&format!("+{}", "a".repeat(LONGEST)));
    }
}

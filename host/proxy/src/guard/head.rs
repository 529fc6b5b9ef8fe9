//! Follows a request head line by line and learns how the message is framed.
//!
//! HTTP libraries are lenient in ways that differ from those of the servers behind them, and every difference is a way to smuggle a
//! request past one of them. hyper takes a bare LF for a line end, drops `Content-Length` beside `Transfer-Encoding`, merges equal
//! lengths. Here none of it passes (RFC 9112 §2.2, §5, §6.1, §6.3).

use memchr::memchr;

use super::Violation;
use crate::settings::Limits;

/// What follows the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// The next message.
    None,
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
}

/// A head that is complete and has nothing wrong with its framing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// Its length in bytes, with the empty line.
    pub(crate) length: usize,
    /// What follows it.
    pub(crate) framing: Framing,
    /// It asks for an upgrade, so what follows may not be HTTP.
    pub(crate) upgrade: bool,
}

/// Where a scan stands. A head that arrives in pieces is scanned once, not once for each piece.
#[derive(Debug, Default)]
pub(crate) struct HeadScan {
    /// Start of the first line that is not scanned.
    line: usize,
    /// Up to here there is no line feed.
    searched: usize,
    began: bool,
    is_http_10: bool,
    headers: usize,
    hosts: usize,
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
}

impl HeadScan {
    /// `bytes` begins where the head begins, and has grown since the last call. `None`: not complete yet.
    pub(crate) fn scan(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<Head>, Violation> {
        while let Some(at) = memchr(b'\n', &bytes[self.searched..]) {
            let end = self.searched + at;
            let line = bytes[self.line..end].strip_suffix(b"\r").ok_or(Violation::BareLineFeed)?;
            self.line = end + 1;
            self.searched = self.line;
            if self.line > limits.head_size {
                return Err(Violation::HeadTooLarge);
            }
            if line.is_empty() {
                // RFC 9112 §2.2: an empty line before the request line is ignored. The limit on sizes bounds how many.
                if self.began {
                    return self.finish().map(Some);
                }
            } else if self.began {
                self.header(line, limits)?;
            } else {
                self.request_line(line, limits)?;
            }
        }
        self.searched = bytes.len();
        if !self.began && bytes.len() - self.line > limits.uri_length + LONGEST_REQUEST_LINE_REST {
            return Err(Violation::UriTooLong);
        }
        if bytes.len() > limits.head_size { Err(Violation::HeadTooLarge) } else { Ok(None) }
    }

    fn request_line(&mut self, line: &[u8], limits: &Limits) -> Result<(), Violation> {
        self.began = true;
        let method_end = memchr(b' ', line).ok_or(Violation::RequestLine)?;
        let (method, rest) = (&line[..method_end], &line[method_end + 1..]);
        let target_end = memchr(b' ', rest).ok_or(Violation::RequestLine)?;
        let (target, version) = (&rest[..target_end], &rest[target_end + 1..]);
        if !is_token(method) || target.is_empty() || target.iter().any(|byte| *byte <= b' ' || *byte == 0x7f) {
            return Err(Violation::RequestLine);
        }
        if target.len() > limits.uri_length {
            return Err(Violation::UriTooLong);
        }
        self.is_http_10 = match version {
            b"HTTP/1.1" => false,
            b"HTTP/1.0" => true,
            _ => return Err(Violation::RequestLine),
        };
        // A gateway has nowhere to tunnel to.
        if method == b"CONNECT" { Err(Violation::Connect) } else { Ok(()) }
    }

    fn header(&mut self, line: &[u8], limits: &Limits) -> Result<(), Violation> {
        self.headers += 1;
        if self.headers > limits.headers {
            return Err(Violation::TooManyHeaders);
        }
        if matches!(line[0], b' ' | b'\t') {
            return Err(Violation::ObsoleteFold);
        }
        let colon = memchr(b':', line).ok_or(Violation::HeaderName)?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if !is_token(name) {
            let blank = name.last().is_some_and(|last| matches!(last, b' ' | b'\t'));
            return Err(if blank { Violation::SpaceBeforeColon } else { Violation::HeaderName });
        }
        if has_control(value) {
            return Err(Violation::HeaderValue);
        }
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => self.hosts += 1,
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.upgrade = true,
            14 if name.eq_ignore_ascii_case(b"content-length") => self.content_length(value)?,
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.transfer_encoding(value)?,
            _ => {}
        }
        Ok(())
    }

    fn content_length(&mut self, value: &[u8]) -> Result<(), Violation> {
        if self.length.is_some() {
            return Err(Violation::DuplicateLength);
        }
        let digits = value.trim_ascii();
        // 18 digits cannot overflow, and are an exabyte.
        if digits.is_empty() || digits.len() > 18 || !digits.iter().all(u8::is_ascii_digit) {
            return Err(Violation::Length);
        }
        self.length = Some(digits.iter().fold(0, |length, digit| length * 10 + u64::from(digit - b'0')));
        Ok(())
    }

    fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), Violation> {
        if self.chunked || !value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
            return Err(Violation::TransferEncoding);
        }
        self.chunked = true;
        Ok(())
    }

    fn finish(&self) -> Result<Head, Violation> {
        let framing = match (self.length, self.chunked) {
            (Some(_), true) => return Err(Violation::LengthAndEncoding),
            (None, true) if self.is_http_10 => return Err(Violation::TransferEncoding),
            (None, true) => Framing::Chunked,
            (None | Some(0), false) => Framing::None,
            (Some(length), false) => Framing::Length(length),
        };
        match self.hosts {
            1 => {}
            0 if self.is_http_10 => {}
            0 => return Err(Violation::HostMissing),
            _ => return Err(Violation::HostDuplicate),
        }
        Ok(Head { length: self.line, framing, upgrade: self.upgrade && !self.is_http_10 })
    }
}

/// A long method, two spaces and the version: what a request line may have beside its target.
const LONGEST_REQUEST_LINE_REST: usize = 64;

/// Control characters other than tab. CR and NUL are among them.
fn has_control(bytes: &[u8]) -> bool {
    // No early exit: so it is compiled to vector instructions.
    bytes.iter().fold(false, |found, &byte| found | (byte < b' ' && byte != b'\t') | (byte == 0x7f))
}

fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| TOKEN[byte as usize])
}

/// RFC 9110 §5.6.2.
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut character = 0u8;
    while character < 128 {
        table[character as usize] = character.is_ascii_alphanumeric()
            || matches!(
                character,
                b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
            );
        character += 1;
    }
    table
};

#[cfg(test)]
mod tests;

//! Path normalisation: matching, plugins and backends all see one and the same spelling of a path.
//!
//! A gateway that matches one spelling and forwards another is a way around its own policies. So a path is brought into normal
//! form once, when the request arrives, and the normal form is what is matched and what is forwarded:
//!
//! | in the request | normal form | why |
//! |---|---|---|
//! | `%41`, `%7e` (unreserved characters) | `A`, `~` | RFC 3986 §6.2.2.2: the same path |
//! | `%c3%a9`, `%3a` (all others) | `%C3%A9`, `%3A` | §6.2.2.1: the case of the digits means nothing; reserved characters stay encoded |
//! | `é`, `{`, <code>\|</code>, `"`, … raw | percent-encoded | never valid in a URL, yet sent by clients |
//! | `//` | `/` | most backends merge them; `//admin` must not slip past a rule for `/admin`. Merged before dot segments are removed |
//! | `.`, `..` as a segment, encoded or not | removed | RFC 3986 §5.2.4 |
//! | `..` above the root | refused | no honest client sends it |
//! | `%2F`, `%5C` | kept, in upper case | part of a segment, as in `/projects/group%2Fname`; never a separator here |
//! | `..%2F`, `%2F..`, `..;x` | refused | a dot segment to backends that decode `%2F` and `%5C` or drop `;x` |
//! | `\` raw | refused | a separator to some backends, data to others |
//! | `%`, `%2`, `%zz` | refused | means different things to different readers |
//! | `%00`–`%1F`, `%7F`, raw control characters | refused | cut strings short, break logs |
//! | a path that does not begin with `/` | refused | `*` and authority form have no path; the caller treats them before |
//!
//! Everything refused is answered by 400.

use std::borrow::Cow;

use bytes::Bytes;
use http::{Uri, uri::PathAndQuery};
use thiserror::Error;

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum InvalidPath {
    /// Does not begin with `/`.
    #[error("the path does not begin with '/'")]
    NotAbsolute,
    /// `%` without two hexadecimal digits.
    #[error("the path has a '%' without two hexadecimal digits")]
    MalformedEscape,
    /// A control character, raw or encoded.
    #[error("the path has a control character")]
    ControlCharacter,
    /// A raw `\`.
    #[error("the path has a backslash")]
    Backslash,
    /// A raw space, `?` or `#`: whoever split the request target did not do it well.
    #[error("the path has a character that ends it")]
    Delimiter,
    /// More `..` than segments before them.
    #[error("the path leads above the root")]
    AboveRoot,
    /// `..%2F`, `..;x` and the like.
    #[error("the path hides a dot segment")]
    HiddenDotSegment,
}

/// A request target that became longer than the 64 KiB that a URI may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the request target is too long")]
pub struct TargetTooLong;

/// What a byte of a path means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Stands for itself.
    Plain,
    Slash,
    Percent,
    /// Has to be percent-encoded.
    Encode,
    Control,
    Backslash,
    Delimiter,
}

const CLASSES: [Class; 256] = {
    let mut classes = [Class::Encode; 256];
    let mut byte = 0u8;
    loop {
        classes[byte as usize] = class(byte);
        if byte == u8::MAX {
            break classes;
        }
        byte += 1;
    }
};

const fn class(byte: u8) -> Class {
    match byte {
        b'/' => Class::Slash,
        b'%' => Class::Percent,
        b'\\' => Class::Backslash,
        b' ' | b'?' | b'#' => Class::Delimiter,
        0..0x20 | 0x7f => Class::Control,
        // The `pchar` of RFC 3986.
        _ if is_unreserved(byte) || is_sub_delim(byte) || matches!(byte, b':' | b'@') => Class::Plain,
        _ => Class::Encode,
    }
}

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

const fn is_sub_delim(byte: u8) -> bool {
    matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=')
}

/// The normal form of a path, without its query. Borrowed, and nothing allocated, if the path is normal already.
///
/// # Errors
/// See the table above; the request gets a 400.
pub fn normalize(path: &str) -> Result<Cow<'_, str>, InvalidPath> {
    if !path.starts_with('/') {
        return Err(InvalidPath::NotAbsolute);
    }
    if is_plainly_normal(path.as_bytes()) {
        return Ok(Cow::Borrowed(path));
    }
    rewrite(path).map(Cow::Owned)
}

/// One pass, no memory. `false` also where a closer look may find that nothing has to change (an encoded slash).
fn is_plainly_normal(path: &[u8]) -> bool {
    let mut at = 0;
    while let Some(&byte) = path.get(at) {
        at += match CLASSES[usize::from(byte)] {
            Class::Plain => 1,
            Class::Slash if !matches!(path.get(at + 1), Some(b'/' | b'.')) => 1,
            Class::Slash if path[at + 1] == b'.' && !begins_with_dot_segment(&path[at + 1..]) => 1,
            Class::Percent => match triplet(&path[at..]) {
                Some(Triplet { byte, upper: true }) if stays_encoded(byte) && !matches!(byte, b'/' | b'\\') => 3,
                _ => return false,
            },
            _ => return false,
        };
    }
    true
}

/// Whether the first segment is `.` or `..`, also with parameters (`..;x`).
fn begins_with_dot_segment(rest: &[u8]) -> bool {
    let segment = rest.split(|byte| matches!(byte, b'/' | b';')).next().unwrap_or_default();
    is_dots(segment)
}

fn is_dots(segment: &[u8]) -> bool {
    matches!(segment, b"." | b"..")
}

fn rewrite(path: &str) -> Result<String, InvalidPath> {
    let mut out = Vec::with_capacity(path.len() + 16);
    let mut ends_with_slash = false;
    for segment in path.as_bytes()[1..].split(|byte| *byte == b'/') {
        let start = out.len();
        out.push(b'/');
        push_segment(&mut out, segment)?;
        ends_with_slash = true;
        match &out[start + 1..] {
            b"" | b"." => out.truncate(start),
            b".." => {
                out.truncate(start);
                let parent = out.iter().rposition(|byte| *byte == b'/').ok_or(InvalidPath::AboveRoot)?;
                out.truncate(parent);
            }
            segment if hides_dot_segment(segment) => return Err(InvalidPath::HiddenDotSegment),
            _ => ends_with_slash = false,
        }
    }
    if ends_with_slash {
        out.push(b'/');
    }
    Ok(String::from_utf8(out).expect("only ASCII was written"))
}

/// Segments in normal form only.
fn hides_dot_segment(segment: &[u8]) -> bool {
    let mut rest = segment;
    loop {
        let end = rest.windows(3).position(|window| matches!(window, b"%2F" | b"%5C"));
        let piece = &rest[..end.unwrap_or(rest.len())];
        if begins_with_dot_segment(piece) {
            return true;
        }
        match end {
            Some(end) => rest = &rest[end + 3..],
            None => return false,
        }
    }
}

fn push_segment(out: &mut Vec<u8>, segment: &[u8]) -> Result<(), InvalidPath> {
    let mut at = 0;
    while let Some(&byte) = segment.get(at) {
        at += 1;
        match CLASSES[usize::from(byte)] {
            Class::Plain | Class::Slash => out.push(byte),
            Class::Encode => push_encoded(out, byte),
            Class::Percent => {
                let Triplet { byte, .. } = triplet(&segment[at - 1..]).ok_or(InvalidPath::MalformedEscape)?;
                at += 2;
                match byte {
                    0..0x20 | 0x7f => return Err(InvalidPath::ControlCharacter),
                    byte if stays_encoded(byte) => push_encoded(out, byte),
                    byte => out.push(byte),
                }
            }
            Class::Control => return Err(InvalidPath::ControlCharacter),
            Class::Backslash => return Err(InvalidPath::Backslash),
            Class::Delimiter => return Err(InvalidPath::Delimiter),
        }
    }
    Ok(())
}

/// `%XX`.
struct Triplet {
    byte: u8,
    /// Whether its digits are in upper case.
    upper: bool,
}

fn triplet(text: &[u8]) -> Option<Triplet> {
    let [b'%', high, low, ..] = *text else { return None };
    let byte = hex(high)? << 4 | hex(low)?;
    Some(Triplet { byte, upper: !high.is_ascii_lowercase() && !low.is_ascii_lowercase() })
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Encoded control characters do not stay: they are refused.
fn stays_encoded(byte: u8) -> bool {
    !is_unreserved(byte) && !byte.is_ascii_control()
}

fn push_encoded(out: &mut Vec<u8>, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.extend([b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
}

/// Append text to a URL: everything that does not stand for itself in a path is percent-encoded, but for the bytes in `keep` and
/// what is encoded already.
pub(crate) fn push_escaped(out: &mut Vec<u8>, text: &str, keep: &[u8]) {
    for byte in text.bytes() {
        match CLASSES[usize::from(byte)] {
            Class::Plain | Class::Slash | Class::Percent => out.push(byte),
            _ if keep.contains(&byte) => out.push(byte),
            _ => push_encoded(out, byte),
        }
    }
}

/// The byte that a text begins with in the form `%XX`, if it does.
pub(crate) fn decode_triplet(text: &[u8]) -> Option<u8> {
    triplet(text).map(|triplet| triplet.byte)
}

/// The URI with another path: scheme, authority and query stay. The way to put a normalised path into the request that is sent on.
///
/// # Errors
/// The target became too long; 414.
pub fn replace(uri: Uri, path: &str) -> Result<Uri, TargetTooLong> {
    let query = uri.query();
    let mut target = Vec::with_capacity(path.len() + query.map_or(0, |query| query.len() + 1));
    push_escaped(&mut target, path, b"");
    if let Some(query) = query {
        target.push(b'?');
        target.extend_from_slice(query.as_bytes());
    }
    let target = PathAndQuery::from_maybe_shared(Bytes::from(target)).map_err(|_| TargetTooLong)?;
    let mut parts = uri.into_parts();
    parts.path_and_query = Some(target);
    // An authority without a scheme has no path in `Uri`'s eyes; the path is what matters here.
    if parts.scheme.is_none() {
        parts.authority = None;
    }
    Uri::from_parts(parts).map_err(|_| TargetTooLong)
}

#[cfg(test)]
mod tests;

//! What stands in the target of a request, `:path`: path and query; and in its cookies.

use std::borrow::Cow;

use super::LONGEST;

/// The path of `:path`, without the query.
#[must_use]
pub fn path(target: &[u8]) -> &[u8] {
    split(target).0
}

/// The first value of a query parameter, decoded: clients must not become someone else by writing `%61` for `a`. What begins behind the first
/// [`LONGEST`] bytes of the query, or ends there, is not found.
#[must_use]
pub fn query<'t>(target: &'t [u8], name: &str) -> Option<Cow<'t, [u8]>> {
    let pairs = whole_items(split(target).1?, b'&', LONGEST).split(|byte| *byte == b'&');
    pairs
        .map(|pair| match pair.iter().position(|byte| *byte == b'=') {
            Some(equals) => (&pair[..equals], &pair[equals + 1..]),
            None => (pair, &[][..]),
        })
        .find(|(found, _)| Decoded(found).eq(name.bytes()))
        .map(|(_, value)| decode(value))
}

/// The value of a cookie, from all `cookie` headers of the request (HTTP/2 may split them). What stands behind the first [`LONGEST`] bytes of
/// them is not found.
pub fn cookie<'h>(headers: impl Iterator<Item = &'h [u8]>, name: &str) -> Option<&'h [u8]> {
    let mut left = LONGEST;
    let seen = headers.map_while(|header| {
        let seen = (left > 0).then(|| whole_items(header, b';', left));
        left = left.saturating_sub(header.len().max(1));
        seen
    });
    seen.flat_map(|header| header.split(|byte| *byte == b';')).find_map(|pair| {
        let pair = pair.trim_ascii();
        let value = pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        // RFC 6265 §4.1.1: the quotes are no part of the value.
        let unquoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
        Some(unquoted.unwrap_or(value))
    })
}

/// Path and query, which begins behind the first `?`.
#[must_use]
pub fn split(target: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(b'?', target) {
        Some(mark) => (&target[..mark], Some(&target[mark + 1..])),
        None => (target, None),
    }
}

/// As many of the items of a list as fit into so many bytes, none of them cut.
fn whole_items(list: &[u8], separator: u8, bytes: usize) -> &[u8] {
    if list.len() <= bytes {
        return list;
    }
    &list[..memchr::memrchr(separator, &list[..=bytes]).unwrap_or(0)]
}

/// Percent signs and `+` as forms write them. What is no escape stays as it is.
fn decode(text: &[u8]) -> Cow<'_, [u8]> {
    match memchr::memchr2(b'%', b'+', text) {
        None => Cow::Borrowed(text),
        Some(_) => Cow::Owned(Decoded(text).collect()),
    }
}

/// What is left to decode.
struct Decoded<'t>(&'t [u8]);

impl Iterator for Decoded<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let (first, after) = self.0.split_first()?;
        let (byte, after) = match (first, after) {
            (b'+', _) => (b' ', after),
            (b'%', [high, low, behind @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, behind),
                _ => (b'%', after),
            },
            _ => (*first, after),
        };
        self.0 = after;
        Some(byte)
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_query(target: &str, name: &str, expected: Option<&str>) {
        let found = query(target.as_bytes(), name);
        assert_eq!(found.as_deref(), expected.map(str::as_bytes), "{name} in {target}");
    }

    #[test]
    fn queries_are_decoded() {
        check_query("/a?k=1&k=2", "k", Some("1"));
        check_query("/a?b=1&%6b=x%20y+z", "k", Some("x y z"));
        check_query("/a?k", "k", Some(""));
        check_query("/a?k=%zz%4", "k", Some("%zz%4"));
        check_query("/a?kk=1", "k", None);
        check_query("/k=1", "k", None);
        check_query("/a?k=1?2=3", "k", Some("1?2=3"));
    }

    #[test]
    fn cookies_are_found_in_all_headers() {
        let headers = ["a=1; session=x", "session=\"y\";b=2"];
        let cookie = |name| cookie(headers.iter().map(|header| header.as_bytes()), name);
        assert_eq!(cookie("session"), Some(&b"x"[..]));
        assert_eq!(cookie("b"), Some(&b"2"[..]));
        assert_eq!(cookie("sess"), None);
    }

    #[test]
    fn quotes_are_no_part_of_a_cookie() {
        assert_eq!(cookie([&b"s=\"y\""[..]].into_iter(), "s"), Some(&b"y"[..]));
        assert_eq!(cookie([&b"s=\""[..]].into_iter(), "s"), Some(&b"\""[..]));
    }

    #[test]
    fn what_is_too_far_behind_is_not_found() {
        let far = "x=".to_owned() + &"x".repeat(LONGEST - 6);
        check_query(&format!("/?{far}&k=1"), "k", Some("1"));
        check_query(&format!("/?{far}&k=12"), "k", None);
        let pairs = format!("{far}; k=1; l=2");
        let cookie = |name| cookie([&b"a=1"[..], pairs.as_bytes()].into_iter(), name);
        assert_eq!((cookie("a"), cookie("k"), cookie("l")), (Some(&b"1"[..]), None, None));
        let many = vec![&b""[..]; LONGEST];
        assert_eq!(super::cookie(many.into_iter().chain([&b"k=1"[..]]), "k"), None, "empty values count as well");
    }

    #[test]
    fn a_path_has_no_query() {
        assert_eq!(path(b"/a/b?c"), b"/a/b");
        assert_eq!(path(b"*"), b"*");
    }
}

//! What stands in the target of a request, host, path and query, and in its cookies.

use std::borrow::Cow;

use super::LONGEST;
use crate::header::Values;

/// The path of `:path`, without the query.
#[must_use]
pub fn path(target: &[u8]) -> &[u8] {
    split(target).0
}

/// The host of an authority as routes compare it: in lower case, without the port and without a last dot. A client can write one host in many ways,
/// and names any port it likes; backends are told what it wrote, so who decides or counts by it settles it first.
#[must_use]
pub fn host(authority: &[u8]) -> Cow<'_, [u8]> {
    let end = match authority.first() {
        Some(b'[') => memchr::memchr(b']', authority).map(|bracket| bracket + 1),
        _ => memchr::memchr(b':', authority),
    };
    let host = &authority[..end.unwrap_or(authority.len())];
    let host = host.strip_suffix(b".").unwrap_or(host);
    if host.iter().any(u8::is_ascii_uppercase) { host.to_ascii_lowercase().into() } else { host.into() }
}

/// Whether a configuration writes a host as [`host`] has it: no other one would ever be equal.
///
/// # Errors
/// A sentence on what to write.
pub fn check_host(text: &str) -> Result<(), String> {
    let settled = host(text.as_bytes());
    if *settled == *text.as_bytes() {
        return Ok(());
    }
    let settled = String::from_utf8_lossy(&settled);
    Err(format!("hosts are compared in lower case, without a port and a last dot: write `{settled}` for `{text}`"))
}

/// What is longer than [`LONGEST`]: nobody has looked at all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

/// The first value of a query parameter, decoded: clients must not become someone else by writing `%61` for `a`. What begins behind the first
/// [`LONGEST`] bytes of the query, or ends there, is not found.
#[must_use]
pub fn query<'t>(target: &'t [u8], name: &str) -> Option<Cow<'t, [u8]>> {
    parameters(whole_items(split(target).1?, b'&', LONGEST), name).next()
}

/// All values of a query parameter, decoded: some backends take the first, others the last, so whoever limits must see each.
///
/// # Errors
/// The query has more than [`LONGEST`] bytes.
pub fn queries<'t>(target: &'t [u8], name: &'t str) -> Result<impl Iterator<Item = Cow<'t, [u8]>>, TooLong> {
    let query = split(target).1.unwrap_or_default();
    if query.len() > LONGEST { Err(TooLong) } else { Ok(parameters(query, name)) }
}

fn parameters<'t, 'n>(query: &'t [u8], name: &'n str) -> impl Iterator<Item = Cow<'t, [u8]>> + use<'t, 'n> {
    let pairs = query.split(|byte| *byte == b'&').map(|pair| match memchr::memchr(b'=', pair) {
        Some(equals) => (&pair[..equals], &pair[equals + 1..]),
        None => (pair, &[][..]),
    });
    pairs.filter(move |(found, _)| Decoded(found).eq(name.bytes())).map(|(_, value)| decode(value))
}

/// The first value of a cookie, from all `cookie` headers of the request (HTTP/2 may split them). What stands behind the first [`LONGEST`] bytes of
/// them is not found.
pub fn cookie<'h>(headers: impl Iterator<Item = &'h [u8]>, name: &str) -> Option<&'h [u8]> {
    let mut left = LONGEST;
    let mut seen = headers.map_while(|header| {
        let seen = (left > 0).then(|| whole_items(header, b';', left));
        left = left.saturating_sub(header.len().max(1));
        seen
    });
    seen.find_map(|header| named(header, name).next())
}

/// All values of a cookie, as [`queries`].
///
/// # Errors
/// The cookies have more than [`LONGEST`] bytes.
pub fn cookies<'h>(headers: &'h Values<'_>, name: &'h str) -> Result<impl Iterator<Item = &'h [u8]>, TooLong> {
    let length: usize = headers.iter().map(|header| header.len().max(1)).sum();
    if length > LONGEST { Err(TooLong) } else { Ok(headers.iter().flat_map(move |header| named(header, name))) }
}

fn named<'h, 'n>(cookies: &'h [u8], name: &'n str) -> impl Iterator<Item = &'h [u8]> + use<'h, 'n> {
    cookies.split(|byte| *byte == b';').filter_map(move |pair| {
        let equals = memchr::memchr(b'=', pair)?;
        // Servers forgive white space on both sides.
        let (found, value) = (pair[..equals].trim_ascii(), pair[equals + 1..].trim_ascii());
        // RFC 6265 §4.1.1: the quotes are no part of the value.
        let unquoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
        (found == name.as_bytes()).then_some(unquoted.unwrap_or(value))
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
    fn a_host_has_one_form() {
        for (authority, expected) in [
            ("api.example", "api.example"),
            ("API.Example", "api.example"),
            ("api.example:8080", "api.example"),
            ("api.example:", "api.example"),
            ("api.example.", "api.example"),
            ("Api.Example.:443", "api.example"),
            ("[2001:DB8::1]:80", "[2001:db8::1]"),
            ("", ""),
        ] {
            assert_eq!(&*host(authority.as_bytes()), expected.as_bytes(), "{authority}");
            assert_eq!(check_host(authority).is_ok(), authority == expected, "{authority}");
        }
    }

    #[test]
    fn all_values_of_a_name_can_be_seen() {
        let all = |target: &str| {
            let found = queries(target.as_bytes(), "k").unwrap();
            found.map(|value| String::from_utf8(value.into_owned()).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(all("/a?k=1&b=2&%6b=3&k"), ["1", "3", ""]);
        assert_eq!(all("/a"), [""; 0]);
        let (long, longer) = ("x".repeat(LONGEST), "x".repeat(LONGEST + 1));
        assert_eq!(all(&format!("/{longer}?{long}")), [""; 0]);
        assert_eq!(queries(format!("/?{longer}").as_bytes(), "k").err(), Some(TooLong));

        let headers = [b"k=1; b=2".to_vec(), b"k=\"3\";k=".to_vec()];
        let values = Values::from(&headers[..]);
        assert_eq!(cookies(&values, "k").unwrap().collect::<Vec<_>>(), [&b"1"[..], b"3", b""]);
        let headers = [long.into_bytes(), b"k=1".to_vec()];
        assert_eq!(cookies(&Values::from(&headers[..]), "k").err(), Some(TooLong));
    }

    #[test]
    fn white_space_around_a_cookie_is_forgiven() {
        assert_eq!(cookie([&b"a=1;\t s = x y "[..]].into_iter(), "s"), Some(&b"x y"[..]));
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

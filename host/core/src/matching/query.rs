//! Parameters in a query, as HTML forms encode them: `+` is a space, `%XX` a byte, anything malformed stands for itself.

use std::borrow::Cow;

use crate::path;

/// The value of a parameter, still encoded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Value<'a>(&'a str);

/// The first parameter of that name. One without `=` has an empty value.
pub(super) fn first<'a>(query: &'a str, name: &str) -> Option<Value<'a>> {
    let parameters = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    parameters.into_iter().find(|(key, _)| Value(key).is(name.as_bytes())).map(|(_, value)| Value(value))
}

impl<'a> Value<'a> {
    /// Whether it decodes to these bytes.
    pub(super) fn is(self, bytes: &[u8]) -> bool {
        if self.is_plain() { self.0.as_bytes() == bytes } else { self.bytes().eq(bytes.iter().copied()) }
    }

    /// Decoded. `None` if that is not UTF-8.
    pub(super) fn decode(self) -> Option<Cow<'a, str>> {
        if self.is_plain() {
            return Some(Cow::Borrowed(self.0));
        }
        String::from_utf8(self.bytes().collect()).ok().map(Cow::Owned)
    }

    fn is_plain(self) -> bool {
        !self.0.bytes().any(|byte| matches!(byte, b'%' | b'+'))
    }

    fn bytes(self) -> impl Iterator<Item = u8> {
        let mut rest = self.0.as_bytes();
        std::iter::from_fn(move || {
            let (&first, tail) = rest.split_first()?;
            if let Some(byte) = path::decode_triplet(rest) {
                rest = &rest[3..];
                return Some(byte);
            }
            rest = tail;
            Some(if first == b'+' { b' ' } else { first })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(query: &str, name: &str, expected: Option<&str>) {
        let found = first(query, name);
        assert_eq!(found.and_then(Value::decode).as_deref(), expected, "{query} {name}");
        if let (Some(found), Some(expected)) = (found, expected) {
            assert!(found.is(expected.as_bytes()));
            assert!(!found.is(format!("{expected}x").as_bytes()));
        }
    }

    #[test]
    fn parameters() {
        check("a=1&b=2", "b", Some("2"));
        check("a=1&a=2", "a", Some("1"));
        check("a=1", "b", None);
        check("", "a", None);
        check("a", "a", Some(""));
        check("a&b=", "b", Some(""));
        check("a=b=c", "a", Some("b=c"));
        check("&&a=1&", "a", Some("1"));
        check("A=1", "a", None);
        check("aa=1", "a", None);
    }

    #[test]
    fn decoding() {
        check("%61=%31", "a", Some("1"));
        check("a=x+y%20z%2Bw", "a", Some("x y z+w"));
        check("a+b=1", "a b", Some("1"));
        check("a%3D=1", "a=", Some("1"));
        check("a=%26b=2", "b", None);
        check("a=%C3%A9", "a", Some("é"));
        check("a=é", "a", Some("é"));
        check("a=%e9", "a", None);
        assert!(first("a=%e9", "a").unwrap().is(b"\xe9"));
        check("a=100%&b=%2", "a", Some("100%"));
        check("a=%2", "a", Some("%2"));
        check("a=%zz", "a", Some("%zz"));
    }
}

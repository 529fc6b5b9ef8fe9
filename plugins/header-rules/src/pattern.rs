//! Regular expressions on bytes.
//!
//! `regex-lite` is a sixth of the size of `regex` in a component, but works on `str`. Header values are bytes, so pattern and value are
//! both seen as Latin-1: one character for each byte. ASCII values, nearly all, are matched as they are.

use std::borrow::Cow;

use regex_lite::{Regex, RegexBuilder};

/// A pattern that compiles to more is a mistake, or an attack on the gateway's memory.
const MAX_BYTES: usize = 256 * 1024;

/// A regular expression on bytes: `.` is one byte, classes and case are ASCII. Time is linear in pattern and value.
#[derive(Debug)]
pub(crate) struct Pattern(Regex);

impl Pattern {
    /// # Errors
    /// A sentence on what is wrong.
    pub(crate) fn new(pattern: &str) -> Result<Self, String> {
        if pattern.is_empty() {
            return Err("the pattern is empty, so it would be found everywhere".to_owned());
        }
        let latin = latin(pattern.as_bytes());
        let regex = RegexBuilder::new(&latin).size_limit(MAX_BYTES).build();
        regex.map(Self).map_err(|reason| format!("`{pattern}` is no regular expression: {reason}"))
    }

    pub(crate) fn is_match(&self, value: &[u8]) -> bool {
        self.0.is_match(&latin(value))
    }

    /// How many groups there are, with the match itself as group 0.
    pub(crate) fn groups(&self) -> usize {
        self.0.captures_len()
    }

    /// The names of groups, by their index.
    pub(crate) fn group_names(&self) -> impl Iterator<Item = Option<&str>> {
        self.0.capture_names()
    }

    /// Replaces every match by what `replacement` adds to the output for it. None: it was not found, or `replacement` gave up.
    pub(crate) fn replace(
        &self,
        value: &[u8],
        mut replacement: impl FnMut(&mut Vec<u8>, &Groups) -> Option<()>,
    ) -> Option<Vec<u8>> {
        let haystack = latin(value);
        let mut output = None;
        let mut copied = 0;
        for captures in self.0.captures_iter(&haystack) {
            let output = output.get_or_insert_with(|| Vec::with_capacity(value.len()));
            let found = captures.get(0)?;
            push_bytes(output, &haystack[copied..found.start()]);
            replacement(output, &Groups(captures))?;
            copied = found.end();
        }
        let mut output = output?;
        push_bytes(&mut output, &haystack[copied..]);
        Some(output)
    }
}

/// What the groups of a match have found.
pub(crate) struct Groups<'h>(regex_lite::Captures<'h>);

impl Groups<'_> {
    /// Adds what the group has found. A group that took no part in the match has found nothing.
    pub(crate) fn push(&self, group: usize, output: &mut Vec<u8>) {
        push_bytes(output, self.0.get(group).map_or("", |found| found.as_str()));
    }
}

/// One character for each byte.
fn latin(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.is_ascii() => Cow::Borrowed(text),
        _ => bytes.iter().map(|byte| char::from(*byte)).collect::<String>().into(),
    }
}

/// The way back. Every character stands for a byte, because [`latin`] made it.
fn push_bytes(output: &mut Vec<u8>, text: &str) {
    if text.is_ascii() {
        output.extend_from_slice(text.as_bytes());
    } else {
        output.extend(text.chars().map(|c| u8::try_from(c).unwrap_or(b'?')));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replace(pattern: &str, value: &[u8]) -> Option<Vec<u8>> {
        Pattern::new(pattern).unwrap().replace(value, |output, groups| {
            output.push(b'<');
            groups.push(groups.0.len() - 1, output);
            output.push(b'>');
            Some(())
        })
    }

    #[test]
    fn every_match_is_replaced_and_bytes_survive() {
        assert_eq!(replace("b+", b"abba").as_deref(), Some(&b"a<bb>a"[..]));
        assert_eq!(replace("(b)", b"b\xff\xfeb").as_deref(), Some(&b"<b>\xff\xfe<b>"[..]));
        assert_eq!(replace("(a.)", b"a\xff").as_deref(), Some(&b"<a\xff>"[..]), "a dot is one byte");
        assert_eq!(replace("ü", "süß".as_bytes()).as_deref(), Some("s<ü>ß".as_bytes()), "patterns are bytes too");
        assert_eq!(replace("x", b"abc"), None);
        assert_eq!(replace("$", b"a").as_deref(), Some(&b"a<>"[..]));
        assert_eq!(replace("a(b)?", b"a").as_deref(), Some(&b"<>"[..]), "a group without a match is empty");
    }

    #[test]
    fn case_and_classes_are_ascii() {
        assert!(Pattern::new("(?i)^server$").unwrap().is_match(b"SERVER"));
        assert!(!Pattern::new(r"^\w$").unwrap().is_match(b"\xe4"));
    }

    #[test]
    fn bad_patterns_say_why() {
        assert!(Pattern::new("(").unwrap_err().starts_with("`(` is no regular expression: "));
        assert!(Pattern::new("").is_err());
        assert!(Pattern::new("(?:a{1000}){1000}").is_err(), "patterns cannot eat the memory");
    }
}

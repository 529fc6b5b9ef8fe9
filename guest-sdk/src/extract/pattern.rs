//! Regular expressions on bytes.
//!
//! `regex-lite` is a sixth of the size of `regex` in a component, but works on `str`. Header values are bytes, so pattern and value are
//! both seen as Latin-1: one character for each byte. ASCII values, nearly all, are matched as they are.

use std::borrow::Cow;

use regex_lite::{Captures, Regex, RegexBuilder};

/// A pattern that compiles to more is a mistake, or an attack on the gateway's memory.
const MAX_BYTES: usize = 256 * 1024;

/// A regular expression on bytes: `.` is one byte, classes and case are ASCII. Time is linear in pattern and value.
#[derive(Debug)]
pub struct Pattern {
    regex: Regex,
    /// Every match begins with it. Looking for it is twenty times faster than the expression, which then has little left to do.
    prefix: String,
}

impl Pattern {
    /// Compiles a pattern. It is searched for, so anchor it with `^` and `$` where the whole value is meant.
    ///
    /// # Errors
    /// A sentence on what is wrong.
    pub fn new(pattern: &str) -> Result<Self, String> {
        if pattern.is_empty() {
            return Err("the pattern is empty, so it would be found everywhere".to_owned());
        }
        let latin = latin(pattern.as_bytes());
        let regex = RegexBuilder::new(&latin).size_limit(MAX_BYTES).build();
        let regex = regex.map_err(|reason| format!("`{pattern}` is no regular expression: {reason}"))?;
        Ok(Self { regex, prefix: literal_prefix(&latin).to_owned() })
    }

    /// Whether the value has a match.
    #[must_use]
    pub fn is_match(&self, value: &[u8]) -> bool {
        let haystack = latin(value);
        haystack.find(&self.prefix).is_some_and(|start| self.regex.is_match_at(&haystack, start))
    }

    /// How many groups there are, with the match itself as group 0.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.regex.captures_len()
    }

    /// The names of groups, by their index.
    pub fn group_names(&self) -> impl Iterator<Item = Option<&str>> {
        self.regex.capture_names()
    }

    /// Replaces every match by what `replacement` adds to the output for it. None: it was not found, or `replacement` gave up.
    pub fn replace(
        &self,
        value: &[u8],
        mut replacement: impl FnMut(&mut Vec<u8>, &Groups) -> Option<()>,
    ) -> Option<Vec<u8>> {
        let haystack = latin(value);
        let mut output = None;
        let (mut copied, mut start) = (0, 0);
        while let Some(captures) = self.captures_at(&haystack, start) {
            let found = captures.get(0)?.range();
            if found.is_empty() && output.is_some() && found.start == copied {
                // Nothing behind a match is no match of its own: go on with the next character.
                let Some(next) = haystack[start..].chars().next() else { break };
                start += next.len_utf8();
                continue;
            }
            let output = output.get_or_insert_with(|| Vec::with_capacity(value.len()));
            push_bytes(output, &haystack[copied..found.start]);
            replacement(output, &Groups(captures))?;
            copied = found.end;
            start = found.end;
        }
        let mut output = output?;
        push_bytes(&mut output, &haystack[copied..]);
        Some(output)
    }

    fn captures_at<'h>(&self, haystack: &'h str, start: usize) -> Option<Captures<'h>> {
        let start = start + haystack[start..].find(&self.prefix)?;
        self.regex.captures_at(haystack, start)
    }
}

/// What the groups of a match have found.
pub struct Groups<'h>(Captures<'h>);

impl Groups<'_> {
    /// Adds what the group has found. A group that took no part in the match has found nothing.
    pub fn push(&self, group: usize, output: &mut Vec<u8>) {
        push_bytes(output, self.0.get(group).map_or("", |found| found.as_str()));
    }
}

/// What every match surely begins with; empty when that takes more than a look.
fn literal_prefix(pattern: &str) -> &str {
    if pattern.contains('|') {
        return "";
    }
    let end = pattern.find(['\\', '.', '+', '*', '?', '(', ')', '[', ']', '{', '}', '^', '$']).unwrap_or(pattern.len());
    let (prefix, rest) = pattern.split_at(end);
    match prefix.char_indices().next_back() {
        // The last character is wanted only perhaps.
        Some((last, _)) if rest.starts_with(['*', '?', '{']) => &prefix[..last],
        _ => prefix,
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
    fn empty_matches_follow_no_other_match() {
        assert_eq!(replace("b*", b"abbc").as_deref(), Some(&b"<>a<bb>c<>"[..]));
        assert_eq!(replace("b*", b"bb").as_deref(), Some(&b"<bb>"[..]));
        assert_eq!(replace("^", b"ab").as_deref(), Some(&b"<>ab"[..]));
        assert_eq!(replace("b*", b"\xff\xfe").as_deref(), Some(&b"<>\xff<>\xfe<>"[..]));
    }

    #[test]
    fn a_prefix_is_what_every_match_begins_with() {
        for (pattern, prefix) in [
            ("Chrome/([0-9]+)", "Chrome/"),
            ("http://", "http://"),
            ("ab+", "ab"),
            ("ab?", "a"),
            ("ab*c", "a"),
            ("ab{0,2}", "a"),
            ("a?", ""),
            ("ab|c", ""),
            ("^a", ""),
            ("(?i)a", ""),
            (r"\d", ""),
        ] {
            assert_eq!(literal_prefix(pattern), prefix, "{pattern}");
        }
        assert_eq!(replace("a(b)", b"aab-ab").as_deref(), Some(&b"a<b>-<b>"[..]));
        assert_eq!(replace("b\\b", b"bb b").as_deref(), Some(&b"b<b> <b>"[..]), "what stands before still counts");
        assert_eq!(replace("a$", b"aa").as_deref(), Some(&b"a<a>"[..]));
        assert!(Pattern::new("ab?c").unwrap().is_match(b"xac"));
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

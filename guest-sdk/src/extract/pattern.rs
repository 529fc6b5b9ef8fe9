//! Regular expressions on bytes.
//!
//! `regex-lite` is a sixth of the size of `regex` in a component, but works on `str`. Header values are bytes, so pattern and value are
//! both seen as Latin-1: one character for each byte. ASCII values, nearly all, are matched as they are.

use std::{borrow::Cow, cell::Cell};

use regex_lite::{Captures, Regex, RegexBuilder};

/// A pattern that compiles to more is a mistake, or an attack on the gateway's memory.
const MAX_BYTES: usize = 256 * 1024;

/// Work that one hook may have with patterns: bytes that are searched, each as often as the expression is large. Measured: half of the 2 ms that a
/// hook has.
const MOST_WORK: usize = 24 << 10;

/// An expression of so many bytes, compiled, costs one unit of work for each byte; a larger one costs in proportion.
const LIGHT: usize = 512;

/// What a search takes, however short the value: clients may send two thousand of them.
const SEARCH: usize = 64;

/// What is left of the work that one hook may have with patterns: see [`Request::effort`](crate::Request::effort). Once it is spent, nothing
/// matches any more, and what a plugin decided by it may be wrong: it looks at [`Effort::is_spent`] before it acts.
#[derive(Debug)]
pub struct Effort(Cell<Option<usize>>);

impl Default for Effort {
    fn default() -> Self {
        Self(Cell::new(Some(MOST_WORK)))
    }
}

impl Effort {
    /// Whether something was not looked at, because it would have taken too long.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.0.get().is_none()
    }

    /// Whether there was so much left.
    fn take(&self, work: usize) -> bool {
        let left = self.0.get().and_then(|left| left.checked_sub(work));
        self.0.set(left);
        left.is_some()
    }
}

/// A regular expression on bytes: `.` is one byte, classes and case are ASCII. A search takes time linear in pattern and value, and all searches
/// of a hook together have an end: [`Effort`].
#[derive(Debug)]
pub struct Pattern {
    regex: Regex,
    /// Units of work for each byte that is searched.
    weight: usize,
    /// A match may make the search look at bytes behind it, up to the end of the value.
    is_open: bool,
    /// Every match begins with it. Looking for it is twenty times faster than the expression, which then has little left to do.
    prefix: String,
    /// Every match begins where the value does.
    is_anchored: bool,
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
        // Nothing else says how large it has become.
        let mut weight = 1;
        let regex = loop {
            let size = LIGHT * weight;
            match RegexBuilder::new(&latin).size_limit(size).build() {
                Err(_) if size < MAX_BYTES => weight *= 2,
                result => break result,
            }
        };
        let regex = regex.map_err(|reason| format!("`{pattern}` is no regular expression: {reason}"))?;
        let is_open = latin.contains(['*', '+', '{']);
        let (is_anchored, prefix) = literal_prefix(&latin);
        Ok(Self { regex, weight, is_open, prefix: prefix.to_owned(), is_anchored })
    }

    /// Whether the value has a match, as far as there is effort left.
    #[must_use]
    pub fn is_match(&self, value: &[u8], effort: &Effort) -> bool {
        if !effort.take(look(value)) {
            return false;
        }
        let haystack = latin(value);
        let start = self.candidate(&haystack, 0).filter(|start| effort.take(self.work(haystack.len() - start)));
        start.is_some_and(|start| self.regex.is_match_at(&haystack, start))
    }

    /// Where a match could begin, not before `start`.
    fn candidate(&self, haystack: &str, start: usize) -> Option<usize> {
        if self.is_anchored {
            return (start == 0 && haystack.starts_with(&self.prefix)).then_some(0);
        }
        haystack[start..].find(&self.prefix).map(|found| start + found)
    }

    fn work(&self, bytes: usize) -> usize {
        SEARCH + bytes.saturating_mul(self.weight)
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

    /// Replaces every match by what `replacement` adds to the output for it. None: it was not found, `replacement` gave up, or the effort is spent.
    pub fn replace(
        &self,
        value: &[u8],
        effort: &Effort,
        mut replacement: impl FnMut(&mut Vec<u8>, &Groups) -> Option<()>,
    ) -> Option<Vec<u8>> {
        if !effort.take(look(value)) {
            return None;
        }
        let haystack = latin(value);
        let mut output = None;
        let (mut copied, mut start) = (0, 0);
        while let Some(captures) = self.captures_at(&haystack, start, effort) {
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
        let mut output = output.filter(|_| !effort.is_spent())?;
        push_bytes(&mut output, &haystack[copied..]);
        Some(output)
    }

    /// An expression such as `a.*b|a` looks at everything behind each match, and a value may have as many matches as bytes: each search counts for what
    /// it may have looked at, so that all of them together stay linear.
    fn captures_at<'h>(&self, haystack: &'h str, start: usize, effort: &Effort) -> Option<Captures<'h>> {
        let start = self.candidate(haystack, start)?;
        if self.is_open && !effort.take(self.work(haystack.len() - start)) {
            return None;
        }
        let captures = self.regex.captures_at(haystack, start);
        let end = captures.as_ref().and_then(|captures| captures.get(0)).map_or(haystack.len(), |found| found.end());
        (self.is_open || effort.take(self.work(end - start + 1))).then_some(captures).flatten()
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

/// The work of making characters of bytes, and of looking for a prefix.
fn look(value: &[u8]) -> usize {
    1 + value.len() / 16
}

/// What every match surely begins with, and whether the value surely begins with that; empty when that takes more than a look.
fn literal_prefix(pattern: &str) -> (bool, &str) {
    if pattern.contains('|') {
        return (false, "");
    }
    // An anchor may be wanted only perhaps, too.
    let anchored = pattern.strip_prefix('^').filter(|rest| !rest.starts_with(['*', '?', '{']));
    let (is_anchored, pattern) = anchored.map_or((false, pattern), |rest| (true, rest));
    let end = pattern.find(['\\', '.', '+', '*', '?', '(', ')', '[', ']', '{', '}', '^', '$']).unwrap_or(pattern.len());
    let (prefix, rest) = pattern.split_at(end);
    match prefix.char_indices().next_back() {
        // The last character is wanted only perhaps.
        Some((last, _)) if rest.starts_with(['*', '?', '{']) => (is_anchored, &prefix[..last]),
        _ => (is_anchored, prefix),
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
        Pattern::new(pattern).unwrap().replace(value, &Effort::default(), |output, groups| {
            output.push(b'<');
            groups.push(groups.0.len() - 1, output);
            output.push(b'>');
            Some(())
        })
    }

    fn is_match(pattern: &str, value: &[u8]) -> bool {
        Pattern::new(pattern).unwrap().is_match(value, &Effort::default())
    }

    /// Of searching, the work that is left over.
    fn left(pattern: &str, value: &[u8], times: usize) -> Option<usize> {
        let (pattern, effort) = (Pattern::new(pattern).unwrap(), Effort::default());
        for _ in 0..times {
            let _ = pattern.is_match(value, &effort);
        }
        effort.0.get()
    }

    #[test]
    fn what_clients_send_takes_a_bounded_effort() {
        let long = [b'a'; 60_000];
        assert!(left("b$", &long, 1).is_some_and(|left| left > 20_000), "looking for a prefix is nearly for nothing");
        assert!(left(r"\d", &long[..8000], 1).is_some_and(|left| left < MOST_WORK - 8000));
        assert_eq!(left(r"\d", &long, 1), None, "a long value");
        assert_eq!(left(r"\d", b"1", 1000), None, "many values");
        assert_eq!(left("(?:a?b){1,90}c", &long[..2000], 1), None, "a large pattern");
        assert!(left(r"^Mozilla/[\d.]+ ", &[b'M'; 200], 64).is_some(), "64 rules on usual values");
        assert!(left("[0-9]+$", &[b'M'; 100], 64).is_some(), "and such as have to look at all of them");
        // Nothing matches any more.
        let effort = Effort::default();
        assert!(Pattern::new("a").unwrap().is_match(b"a", &effort) && !effort.is_spent());
        assert!(!effort.take(MOST_WORK) && effort.is_spent());
        assert!(!Pattern::new("a").unwrap().is_match(b"a", &effort));
    }

    #[test]
    fn replacing_stays_linear() {
        let searches = |pattern: &str, value: &[u8]| {
            let (effort, mut searches) = (Effort::default(), 0);
            let result = Pattern::new(pattern).unwrap().replace(value, &effort, |_, _| {
                searches += 1;
                Some(())
            });
            (searches, result.is_some(), effort.is_spent())
        };
        // Each search would look at all that is left: 200 million bytes in all.
        let (count, found, spent) = searches("a.*b|a", &[b'a'; 20_000]);
        assert!(count < 10 && !found && spent, "{count}");
        // Such patterns end with their match, so that every one is found.
        assert_eq!(searches("a", &[b'a'; 200]), (200, true, false));
        assert_eq!(searches("%2f|%2F", &b"%2f/".repeat(200)), (200, true, false));
        assert!(searches("a", &[b'a'; 20_000]).2, "each search has its price");
        assert_eq!(searches("a+", &b"aab".repeat(20)), (20, true, false));
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
            ("(?i)a", ""),
            (r"\d", ""),
        ] {
            assert_eq!(literal_prefix(pattern), (false, prefix), "{pattern}");
            if !pattern.contains('|') {
                assert_eq!(literal_prefix(&format!("^{pattern}")), (true, prefix), "^{pattern}");
            }
        }
        assert!(
            is_match("^ab*$", b"abb") && !is_match("^b", b"ab") && is_match("^a?b", b"b") && is_match("^(?i)A", b"a")
        );
        assert_eq!(replace("^(a)", b"aa").as_deref(), Some(&b"<a>a"[..]));
        assert_eq!(replace("a(b)", b"aab-ab").as_deref(), Some(&b"a<b>-<b>"[..]));
        assert_eq!(replace("b\\b", b"bb b").as_deref(), Some(&b"b<b> <b>"[..]), "what stands before still counts");
        assert_eq!(replace("a$", b"aa").as_deref(), Some(&b"a<a>"[..]));
        assert!(is_match("ab?c", b"xac"));
    }

    #[test]
    fn case_and_classes_are_ascii() {
        assert!(is_match("(?i)^server$", b"SERVER"));
        assert!(!is_match(r"^\w$", b"\xe4"));
    }

    #[test]
    fn bad_patterns_say_why() {
        assert!(Pattern::new("(").unwrap_err().starts_with("`(` is no regular expression: "));
        assert!(Pattern::new("").is_err());
        assert!(Pattern::new("(?:a{1000}){1000}").is_err(), "patterns cannot eat the memory");
    }
}

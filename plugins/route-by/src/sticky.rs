//! Cookies that remember a backend.
//!
//! The value holds a number for each backend that the client was given, made from the backend's name: it says nothing about the inside of the
//! cluster, and stays true while backends come and go. A client may meet several rules with different backends under one cookie, so the value
//! remembers the last few; numbers of backends that a rule does not have are left alone.

use std::fmt::Write as _;

use penstock_plugin::RouteRequest;

use crate::{
    config::Secure,
    source::{Part, Source},
    table::Table,
    target::{Pick, ready},
};

/// Backends that one cookie remembers.
const MOST_REMEMBERED: usize = 4;

#[derive(Debug)]
pub(crate) struct Sticky {
    source: Source,
    name: String,
    /// What follows the value, but for `Secure`.
    attributes: String,
    secure: Secure,
    /// Of `:scheme` among the plan's `request_reads`.
    scheme: usize,
}

/// Numbers of backends, the newest first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Remembered {
    backends: [u64; MOST_REMEMBERED],
    len: usize,
}

impl Sticky {
    pub(crate) fn new(name: &str, attributes: String, secure: Secure, cookie: usize, scheme: usize) -> Self {
        let source = Source { place: cookie, part: Part::Cookie(name.to_owned()) };
        Self { source, name: name.to_owned(), attributes, secure, scheme }
    }

    pub(crate) fn pick(&self, request: &RouteRequest, table: &Table) -> Pick {
        let remembered = self.source.find(request, |value| Some(Remembered::parse(value))).unwrap_or_default();
        let sticks = |index: &u32| table.may_stick(*index) && ready(request, *index);
        let known = remembered.iter().find_map(|seed| table.with_seed(seed).filter(sticks));
        if let Some(index) = known {
            return Pick::Backend(index);
        }
        match table.next(|index| ready(request, index)) {
            Some(index) => Pick::Sticking { index, cookie: self.cookie(request, remembered, table, index) },
            None => Pick::NotReady,
        }
    }

    /// `name=value; attributes` for a backend that was chosen anew. What the rule knows besides is forgotten, for it was not ready.
    fn cookie(&self, request: &RouteRequest, remembered: Remembered, table: &Table, index: u32) -> String {
        let mut cookie = format!("{}={:016x}", self.name, table.seed(index));
        let others = remembered.iter().filter(|seed| table.with_seed(*seed).is_none());
        for seed in others.take(MOST_REMEMBERED - 1) {
            // Writing to a string does not fail.
            let _ = write!(cookie, ".{seed:016x}");
        }
        cookie.push_str(&self.attributes);
        let secure = match self.secure {
            Secure::Auto => request.read(self.scheme).first() == Some(b"https"),
            Secure::Always => true,
            Secure::Never => false,
        };
        if secure {
            cookie.push_str("; Secure");
        }
        cookie
    }
}

impl Remembered {
    /// What is no number is passed over: anyone can write a cookie.
    fn parse(value: &[u8]) -> Self {
        let mut remembered = Self::default();
        let seeds = value.split(|byte| *byte == b'.').filter_map(seed);
        for (place, seed) in remembered.backends.iter_mut().zip(seeds) {
            *place = seed;
            remembered.len += 1;
        }
        remembered
    }

    fn iter(&self) -> impl Iterator<Item = u64> {
        self.backends.iter().copied().take(self.len)
    }
}

fn seed(text: &[u8]) -> Option<u64> {
    let digits = text.len() == 16 && text.iter().all(u8::is_ascii_hexdigit);
    u64::from_str_radix(std::str::from_utf8(text).ok().filter(|_| digits)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_numbers_and_nothing_else() {
        let parse = |text: &str| Remembered::parse(text.as_bytes()).iter().collect::<Vec<_>>();
        assert_eq!(parse("00000000000000ff"), [255]);
        assert_eq!(parse("00000000000000ff.000000000000000a"), [255, 10]);
        assert_eq!(parse("ff.000000000000000a.+00000000000000a..zzzzzzzzzzzzzzzz"), [10]);
        assert_eq!(parse(""), [0; 0]);
        assert_eq!(parse(&["0000000000000001"; 9].join(".")).len(), MOST_REMEMBERED);
    }
}

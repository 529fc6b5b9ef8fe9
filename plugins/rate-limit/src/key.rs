//! Keys: what is counted separately.

use penstock_plugin::{
    Request, Values,
    extract::{
        address::{self, Lengths},
        claim::Claim,
        target,
        template::{self, Template},
    },
};

/// The parts of a key, and the name that keeps it apart from the keys of other policies.
#[derive(Debug)]
pub(crate) struct KeyShape {
    policy: String,
    parts: Vec<(usize, Part)>,
}

/// One part. It is read at a place of the plan's `request_reads`.
#[derive(Debug)]
pub(crate) enum Part {
    /// `:client-address`.
    Client(Lengths),
    /// A header, or `:method`.
    Whole,
    /// In `cookie`.
    Cookie(String),
    /// In `:path`.
    Query(String),
    /// Of `:path`, with the places of the segments that are kept.
    Path(Vec<(Template, Vec<usize>)>),
    Claim(Claim),
}

/// A key under construction. Every part is preceded by its length, so that no two lists of parts give the same bytes.
#[derive(Debug)]
struct Key {
    bytes: Vec<u8>,
    missing: bool,
}

impl KeyShape {
    pub(crate) fn new(policy: &str, parts: Vec<(usize, Part)>) -> Self {
        Self { policy: policy.to_owned(), parts }
    }

    /// The key of a request, and whether one of its parts is missing.
    pub(crate) fn of(&self, request: &Request) -> (Vec<u8>, bool) {
        let mut key = Key { bytes: Vec::with_capacity(64), missing: false };
        key.push(Some(self.policy.as_bytes()));
        for (place, part) in &self.parts {
            part.push(&request.read(*place), &mut key);
        }
        (key.bytes, key.missing)
    }
}

impl Part {
    fn push(&self, values: &Values<'_>, key: &mut Key) {
        let first = values.first();
        match self {
            Self::Client(lengths) => match first.and_then(address::parse) {
                Some(address) => key.push(Some(address::prefix(address, *lengths).bytes())),
                None => key.push(None),
            },
            Self::Whole => key.push_all(values),
            Self::Cookie(name) => key.push(target::cookie(values.iter(), name)),
            Self::Query(name) => key.push(first.and_then(|target| target::query(target, name)).as_deref()),
            Self::Path(templates) => push_path(templates, target::path(first.unwrap_or_default()), key),
            Self::Claim(claim) => key.push(first.and_then(|header| claim.of(header)).as_deref().map(str::as_bytes)),
        }
    }
}

fn push_path(templates: &[(Template, Vec<usize>)], path: &[u8], key: &mut Key) {
    let Some((template, kept)) = templates.iter().find(|(template, _)| template.fits(path)) else {
        return key.push(None);
    };
    // The text and not the place, so that counts stay with their template when others are added before it.
    key.push(Some(template.text().as_bytes()));
    for position in kept {
        key.push(Some(template::segment(path, *position)));
    }
}

impl Key {
    fn push(&mut self, part: Option<&[u8]>) {
        match part {
            Some(part) => {
                self.length(part.len());
                self.bytes.extend_from_slice(part);
            }
            None => {
                self.bytes.extend_from_slice(&u32::MAX.to_le_bytes());
                self.missing = true;
            }
        }
    }

    /// All values of a header: a client that repeats one must not hide behind the first.
    fn push_all(&mut self, values: &Values<'_>) {
        match values.len() {
            0 => self.push(None),
            1 => self.push(values.first()),
            // A NUL, which no value has, keeps `a` and `b` apart from `a, b`.
            _ => self.push(Some(&values.iter().collect::<Vec<_>>().join(&0))),
        }
    }

    /// No part of a request is as long as 4 GiB.
    fn length(&mut self, length: usize) {
        self.bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX - 1).to_le_bytes());
    }
}

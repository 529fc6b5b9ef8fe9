//! Keys: what is counted separately.

use std::{
    cell::RefCell,
    hash::{DefaultHasher, Hasher as _},
};

use penstock_plugin::{
    Request, Values,
    extract::{
        address::{self, Lengths},
        claim::Claim,
        target::{self, TooLong},
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
    /// Of `:authority`.
    Host,
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
    pub(crate) fn of(&self, request: &Request, digests: &Digests) -> (Vec<u8>, bool) {
        let mut key = Key { bytes: Vec::with_capacity(64), missing: false };
        key.push(Some(self.policy.as_bytes()));
        for (place, part) in &self.parts {
            part.push(request, *place, digests, &mut key);
        }
        (key.bytes, key.missing)
    }
}

impl Part {
    fn push(&self, request: &Request, place: usize, digests: &Digests, key: &mut Key) {
        let values = request.read(place);
        let first = values.first();
        match self {
            Self::Client(lengths) => match first.and_then(address::parse) {
                Some(address) => key.push(Some(address::prefix(address, *lengths).bytes())),
                None => key.push(None),
            },
            Self::Whole => key.push_all(&values, digests.of(place, &values)),
            Self::Host => key.push(first.map(target::host).as_deref()),
            Self::Cookie(name) => key.push_each(target::cookies(&values, name)),
            Self::Query(name) => key.push_each(target::queries(first.unwrap_or_default(), name)),
            Self::Path(templates) => push_path(templates, target::path(first.unwrap_or_default()), key),
            Self::Claim(claim) => {
                let claims = request.claims(place);
                // Which of two tokens an earlier filter has verified, and which of them the backend takes, nobody here knows.
                if claims.are_unseen() || values.len() > 1 {
                    return key.push_unseen();
                }
                key.push(claim.of(&claims).as_deref().map(str::as_bytes));
            }
        }
    }
}

fn push_path(templates: &[(Template, Vec<usize>)], path: &[u8], key: &mut Key) {
    let Some((template, kept)) = templates.iter().find(|(template, _)| template.catches(path)) else {
        return key.push(None);
    };
    // The text and not the place, so that counts stay with their template when others are added before it.
    key.push(Some(template.text().as_bytes()));
    for position in kept {
        key.push(Some(template::segment(path, *position)));
    }
}

/// Bytes of a part that are kept as they are. Clients choose how long a part is, and several policies may count by it: a longer one is kept as its
/// beginning and what [`digest`] makes of the whole.
const LONGEST_PART: usize = 256;
const BEGINNING: usize = LONGEST_PART - 8;

/// Values of one name that are looked at: no client means so many, and each policy reads them anew.
const MOST_VALUES: usize = 32;

/// In the place of the length of a part that is not there, and of one at which nobody has looked.
const MISSING: u32 = u32::MAX;
const UNSEEN: u32 = u32::MAX - 1;

/// What is known of the headers of one request that are too long for a key, by their places: a header may be 64 KiB, and a part of each policy.
#[derive(Debug, Default)]
pub(crate) struct Digests(RefCell<Vec<(usize, Whole)>>);

/// A header with all its values: how many bytes, and what stands for them if they are too many.
#[derive(Debug, Clone, Copy)]
struct Whole {
    length: usize,
    digest: Option<u64>,
}

impl Digests {
    fn of(&self, place: usize, values: &Values<'_>) -> Whole {
        let mut known = self.0.borrow_mut();
        if let Some((_, whole)) = known.iter().find(|(known, _)| *known == place) {
            return *whole;
        }
        let length = values.iter().map(|value| value.len() + 1).sum::<usize>().saturating_sub(1);
        let digest = (length > LONGEST_PART).then(|| digest(values.iter(), length));
        let whole = Whole { length, digest };
        known.push((place, whole));
        whole
    }
}

/// Whoever finds two values with one digest shares one count between them, and could have sent one value twice.
fn digest<'v>(values: impl Iterator<Item = &'v [u8]>, length: usize) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write_u64(length as u64);
    for value in values {
        hasher.write(value);
        hasher.write_u8(0);
    }
    hasher.finish()
}

impl Key {
    fn push(&mut self, part: Option<&[u8]>) {
        match part {
            Some(part) if part.len() > LONGEST_PART => {
                self.length(part.len());
                self.bytes.extend_from_slice(&part[..BEGINNING]);
                self.bytes.extend_from_slice(&digest([part].into_iter(), part.len()).to_le_bytes());
            }
            Some(part) => {
                self.length(part.len());
                self.bytes.extend_from_slice(part);
            }
            None => {
                self.bytes.extend_from_slice(&MISSING.to_le_bytes());
                self.missing = true;
            }
        }
    }

    /// All values of a name: some backends take the first, others the last, and a client must not hide behind the one that its backend ignores. A NUL
    /// keeps them apart; one within a decoded value gains nothing that sending several values would not.
    fn push_each<V: AsRef<[u8]>>(&mut self, values: Result<impl Iterator<Item = V>, TooLong>) {
        let Ok(mut values) = values else { return self.push_unseen() };
        let Some(first) = values.next() else { return self.push(None) };
        let Some(second) = values.next() else { return self.push(Some(first.as_ref())) };
        let mut joined = first.as_ref().to_vec();
        for (count, value) in (2..).zip([second].into_iter().chain(values)) {
            if count > MOST_VALUES {
                return self.push_unseen();
            }
            joined.push(0);
            joined.extend_from_slice(value.as_ref());
        }
        self.push(Some(&joined));
    }

    /// A part that may be there, in what is too long to be looked at. Not missing: where requests without the part are not counted, hiding it would be
    /// a way not to be counted.
    fn push_unseen(&mut self) {
        self.bytes.extend_from_slice(&UNSEEN.to_le_bytes());
    }

    /// All values of a header: a client that repeats one must not hide behind the first.
    fn push_all(&mut self, values: &Values<'_>, Whole { length, digest }: Whole) {
        let Some(first) = values.first() else { return self.push(None) };
        self.length(length);
        // A NUL, which no value has, keeps `a` and `b` apart from `a, b`.
        let others = values.iter().skip(1).flat_map(|value| [&b"\0"[..], value]);
        let mut left = if digest.is_some() { BEGINNING } else { length };
        let mut pieces = [first].into_iter().chain(others);
        while left > 0
            && let Some(piece) = pieces.next()
        {
            let kept = piece.len().min(left);
            self.bytes.extend_from_slice(&piece[..kept]);
            left -= kept;
        }
        self.bytes.extend(digest.into_iter().flat_map(u64::to_le_bytes));
    }

    /// No part of a request is as long as 4 GiB.
    fn length(&mut self, length: usize) {
        self.bytes.extend_from_slice(&u32::try_from(length).unwrap_or(UNSEEN - 1).to_le_bytes());
    }
}

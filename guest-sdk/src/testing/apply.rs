//! Applies answers as the gateway does, and refuses what it refuses.

use super::{Fault, Message};
use crate::{
    Plan,
    header::{Direction, check_value, check_write},
    wire,
};

/// A change to a message, whichever way the plugin has named the header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// All values were replaced by this one.
    Set(String, Vec<u8>),
    /// A value was added.
    Append(String, Vec<u8>),
    /// All values were removed.
    Remove(String),
}

/// Whether names start with `:` where an edit applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Head,
    Trailers,
}

/// Edits in one answer.
const MOST_EDITS: usize = 1024;
/// Bytes of all values in one answer.
const MOST_BYTES: usize = 256 * 1024;
/// Headers of a reply.
const MOST_REPLY_HEADERS: usize = 256;
/// Bytes of a reply's body.
const LONGEST_REPLY: usize = 1024 * 1024;

/// Applies all edits or none.
pub(super) fn apply(
    message: &mut Message,
    edits: Vec<wire::Edit>,
    plan: &Plan,
    direction: Direction,
    part: Part,
) -> Result<Vec<Edit>, Fault> {
    let writes = plan.writes(direction);
    at_most(MOST_EDITS, edits.len())?;
    let bytes = edits.iter().map(value_len).sum();
    if bytes > MOST_BYTES {
        return Err(Fault::TooLarge { found: bytes, most: MOST_BYTES });
    }
    let edits: Vec<_> =
        edits.into_iter().map(|edit| resolve(edit, writes, direction, part)).collect::<Result<_, _>>()?;
    for edit in &edits {
        match edit.clone() {
            Edit::Set(name, value) => message.set(&name, value),
            Edit::Append(name, value) => message.append(&name, value),
            Edit::Remove(name) => message.remove(&name),
        }
    }
    Ok(edits)
}

/// The answer in place of the backend, as a message and its body.
pub(super) fn reply(reply: wire::Reply) -> Result<(Message, Vec<u8>), Fault> {
    if !(200..=599).contains(&reply.status) {
        return Err(Fault::InvalidReply(reply.status));
    }
    at_most(MOST_REPLY_HEADERS, reply.headers.len())?;
    if reply.body.len() > LONGEST_REPLY {
        return Err(Fault::TooLarge { found: reply.body.len(), most: LONGEST_REPLY });
    }
    let mut message = Message::response(reply.status);
    for header in reply.headers {
        check_name(&header.name, Direction::Response)?;
        if header.name.starts_with(':') {
            return Err(Fault::OnlySet(header.name));
        }
        check(&header.name, &header.value)?;
        message.append(&header.name, header.value);
    }
    Ok((message, reply.body))
}

fn at_most(most: usize, found: usize) -> Result<(), Fault> {
    if found > most { Err(Fault::TooMany { found, most }) } else { Ok(()) }
}

fn value_len(edit: &wire::Edit) -> usize {
    match edit {
        wire::Edit::Set(header) | wire::Edit::Append(header) => header.value.len(),
        wire::Edit::SetKnown(known) | wire::Edit::AppendKnown(known) => known.value.len(),
        wire::Edit::Remove(_) | wire::Edit::RemoveKnown(_) => 0,
    }
}

fn resolve(edit: wire::Edit, writes: &[String], direction: Direction, part: Part) -> Result<Edit, Fault> {
    let edit = match edit {
        wire::Edit::Set(header) => Edit::Set(declared(header.name, writes)?, header.value),
        wire::Edit::Append(header) => Edit::Append(declared(header.name, writes)?, header.value),
        wire::Edit::Remove(name) => Edit::Remove(declared(name, writes)?),
        wire::Edit::SetKnown(known) => Edit::Set(indexed(known.index, writes)?, known.value),
        wire::Edit::AppendKnown(known) => Edit::Append(indexed(known.index, writes)?, known.value),
        wire::Edit::RemoveKnown(index) => Edit::Remove(indexed(index, writes)?),
    };
    match &edit {
        Edit::Set(name, value) => {
            check_name(name, direction)?;
            check(name, value)?;
            if part == Part::Trailers && name.starts_with(':') {
                return Err(Fault::InvalidName { name: name.clone(), reason: crate::header::InvalidName::Pseudo });
            }
        }
        Edit::Append(name, value) => {
            check_name(name, direction)?;
            check(name, value)?;
            only_set(name)?;
        }
        Edit::Remove(name) => {
            check_name(name, direction)?;
            only_set(name)?;
        }
    }
    Ok(edit)
}

fn declared(name: String, writes: &[String]) -> Result<String, Fault> {
    let covers = |declared: &String| match declared.strip_suffix('*') {
        // `*` is a token character: a prefix is a prefix, not a name that ends so.
        Some(prefix) => name.starts_with(prefix) && !name.starts_with(':'),
        None => *declared == name,
    };
    if writes.iter().any(covers) { Ok(name) } else { Err(Fault::UndeclaredWrite { name, declared: writes.to_vec() }) }
}

fn indexed(index: u32, writes: &[String]) -> Result<String, Fault> {
    writes
        .get(index as usize)
        .filter(|name| !name.ends_with('*'))
        .cloned()
        .ok_or(Fault::UnknownIndex { index, declared: writes.len() })
}

fn check_name(name: &str, direction: Direction) -> Result<(), Fault> {
    check_write(name, direction).map_err(|reason| Fault::InvalidName { name: name.to_owned(), reason })
}

fn check(name: &str, value: &[u8]) -> Result<(), Fault> {
    check_value(name, value).map_err(|reason| Fault::InvalidValue { name: name.to_owned(), reason })
}

fn only_set(name: &str) -> Result<(), Fault> {
    if name.starts_with(':') { Err(Fault::OnlySet(name.to_owned())) } else { Ok(()) }
}

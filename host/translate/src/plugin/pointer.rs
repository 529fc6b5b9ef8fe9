//! Putting a value at a JSON pointer (RFC 6901), making objects on the way.

use serde_json::{Map, Value};

/// Bytes of a pointer.
pub(crate) const LONGEST: usize = 1024;
/// Names in it. Each may make an object, and what is done to JSON later goes down into every one of them.
const DEEPEST: usize = 32;

/// Why there is no such place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidPointer {
    /// Too many bytes; not repeated for that reason.
    #[error("has {0} bytes; at most {LONGEST} are allowed")]
    Long(usize),
    /// Too many names, likewise.
    #[error("leads {0} levels deep; at most {DEEPEST} are allowed")]
    Deep(usize),
    /// It must begin with a slash.
    #[error("`{0}` is no JSON pointer; it must begin with `/`, such as `/auth/token`")]
    Syntax(String),
    /// Something other than an object or list is in the way.
    #[error("`{0}` leads through a value that is neither an object nor a list")]
    Blocked(String),
    /// Lists are not extended.
    #[error("`{0}` names a list item that does not exist")]
    NoItem(String),
}

/// Put `value` at `pointer` of `document`; null counts as an empty object.
pub(super) fn put(document: &mut Value, pointer: &str, value: Value) -> Result<(), InvalidPointer> {
    let depth = pointer.matches('/').count();
    if pointer.len() > LONGEST {
        return Err(InvalidPointer::Long(pointer.len()));
    }
    if depth > DEEPEST {
        return Err(InvalidPointer::Deep(depth));
    }
    let Some(path) = pointer.strip_prefix('/') else { return Err(InvalidPointer::Syntax(pointer.to_owned())) };
    let mut place = document;
    for token in path.split('/') {
        let token = token.replace("~1", "/").replace("~0", "~");
        if place.is_null() {
            *place = Value::Object(Map::new());
        }
        place = match place {
            Value::Object(fields) => fields.entry(token).or_insert(Value::Null),
            Value::Array(items) => {
                let item = token.parse::<usize>().ok().and_then(|at| items.get_mut(at));
                item.ok_or_else(|| InvalidPointer::NoItem(pointer.to_owned()))?
            }
            _ => return Err(InvalidPointer::Blocked(pointer.to_owned())),
        };
    }
    *place = value;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(mut document: Value, pointer: &str, expected: Result<Value, InvalidPointer>) {
        match (put(&mut document, pointer, json!("x")), expected) {
            (Ok(()), Ok(expected)) => assert_eq!(document, expected),
            (result, expected) => assert_eq!(result, expected.map(|_| ())),
        }
    }

    #[test]
    fn puts() {
        check(Value::Null, "/a/b", Ok(json!({"a": {"b": "x"}})));
        check(json!({"a": {"b": 1, "c": 2}}), "/a/b", Ok(json!({"a": {"b": "x", "c": 2}})));
        check(json!({"a": [1, 2]}), "/a/1", Ok(json!({"a": [1, "x"]})));
        check(json!({}), "/a~1b/~0c", Ok(json!({"a/b": {"~c": "x"}})));
        check(json!({}), "a", Err(InvalidPointer::Syntax("a".into())));
        check(json!({}), "", Err(InvalidPointer::Syntax(String::new())));
        check(json!({"a": 1}), "/a/b", Err(InvalidPointer::Blocked("/a/b".into())));
        check(json!({"a": []}), "/a/0", Err(InvalidPointer::NoItem("/a/0".into())));
    }

    #[test]
    fn nothing_is_made_that_is_too_deep() {
        assert_eq!(put(&mut Value::Null, &"/a".repeat(32), json!("x")), Ok(()));
        check(Value::Null, &"/a".repeat(33), Err(InvalidPointer::Deep(33)));
        check(Value::Null, &"/a".repeat(500_000), Err(InvalidPointer::Long(1_000_000)));
        let long = |bytes: usize| format!("/{}", "a".repeat(bytes - 1));
        assert_eq!(put(&mut Value::Null, &long(1024), json!("x")), Ok(()));
        check(Value::Null, &long(1025), Err(InvalidPointer::Long(1025)));
    }
}

//! How deep JSON may go that somebody else wrote.
//!
//! Comparing, writing and dropping a value goes down into it by recursion, and a stack that overflows ends the whole process. So what
//! tenants write is held to a depth where it comes in, long before that.

use serde_json::Value;

/// Lists and objects within each other: far more than people write, and half of what parsers of JSON accept.
pub const DEEPEST: usize = 64;

/// Whether more than [`DEEPEST`] lists and objects are within each other. Looks no deeper than that itself.
#[must_use]
pub fn is_too_deep(value: &Value) -> bool {
    goes_beyond(value, DEEPEST)
}

fn goes_beyond(value: &Value, levels: usize) -> bool {
    let below = |item: &Value| goes_beyond(item, levels - 1);
    match value {
        Value::Array(_) | Value::Object(_) if levels == 0 => true,
        Value::Array(items) => items.iter().any(below),
        Value::Object(fields) => fields.values().any(below),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn levels_are_counted() {
        let nested = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!([2, inner]));
        assert!(!is_too_deep(&json!("x")) && !is_too_deep(&nested(64)));
        assert!(is_too_deep(&nested(65)));
        assert!(is_too_deep(&json!({ "a": nested(64) })));
    }
}

//! What a server says about its refusal, made fit for a status.

use serde::Deserialize;

use crate::printable::printable;

/// Characters of it that are shown.
const LONGEST: usize = 160;

/// Errors of a registry (OCI distribution specification, "Error Codes").
#[derive(Deserialize)]
struct Envelope {
    errors: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// The errors of a registry, or the first line of a text; nothing for pages and other formats.
pub(super) fn explanation(body: &[u8]) -> String {
    let text = match serde_json::from_slice::<Envelope>(body) {
        Ok(Envelope { errors }) => {
            let all: Vec<String> = errors.iter().map(Entry::sentence).collect();
            all.join("; ")
        }
        Err(_) => first_line(body).to_owned(),
    };
    printable(&text, LONGEST)
}

impl Entry {
    fn sentence(&self) -> String {
        match (&*self.code, &*self.message) {
            ("", message) => message.to_owned(),
            (code, "") => code.to_owned(),
            (code, message) => format!("{code}: {message}"),
        }
    }
}

fn first_line(body: &[u8]) -> &str {
    let text = std::str::from_utf8(body).unwrap_or_default().trim();
    if text.starts_with(['<', '{', '[']) { "" } else { text.lines().next().unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn explanations() {
        let check = |body: &str, expected: &str| assert_eq!(explanation(body.as_bytes()), expected);
        check(r#"{"errors":[{"code":"DENIED","message":"no"},{"code":"X"}]}"#, "DENIED: no; X");
        check("gone away\nand more", "gone away");
        check("<html>", "");
        check(r#"{"error": 1}"#, "");
        assert_eq!(explanation(b"\xff"), "");
    }
}

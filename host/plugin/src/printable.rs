//! Text that comes from plugins, made fit for logs and status.

/// What a plugin says of one exchange: it becomes part of a line of the log, for each of as many exchanges as clients send.
pub(crate) fn remark(text: &str) -> String {
    printable(text, 1024)
}

/// At most `longest` bytes, without control characters: a plugin cannot forge lines of others, drive a terminal or flood a status.
pub(crate) fn printable(text: &str, longest: usize) -> String {
    let mut clean = String::with_capacity(text.len().min(longest));
    for character in text.chars() {
        if clean.len() + character.len_utf8() > longest {
            clean.push('…');
            break;
        }
        clean.push(if character.is_control() { '\u{fffd}' } else { character });
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_and_length() {
        assert_eq!(printable("a\nb\u{1b}[2J", 100), "a\u{fffd}b\u{fffd}[2J");
        assert_eq!(printable(&"é".repeat(5000), 101), format!("{}…", "é".repeat(50)));
        assert_eq!(printable("", 0), "");
    }
}

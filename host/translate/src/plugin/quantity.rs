//! Durations and sizes as Kubernetes writes them.

use std::time::Duration;

/// `2ms`, `1m30s`, `500us`: GEP-2257 with microseconds, because hooks take so little.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u32 = rest[..digits].parse().ok()?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| digits + at);
        let unit = match &rest[digits..unit_end] {
            "us" => Duration::from_micros(1),
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" => Duration::from_mins(1),
            "h" => Duration::from_hours(1),
            _ => return None,
        };
        total = total.checked_add(unit.checked_mul(number)?)?;
        rest = &rest[unit_end..];
    }
    (!text.is_empty()).then_some(total)
}

/// `16Mi`, `64M`, `1024`: whole bytes.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let unit: u64 = match &text[digits..] {
        "" => 1,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        _ => return None,
    };
    number.checked_mul(unit)
}

/// As [`bytes()`] reads it, in the largest unit in which it is a whole number.
pub(super) fn show_bytes(size: u64) -> String {
    let units = [("Gi", 30), ("Mi", 20), ("Ki", 10)];
    let whole = |&(_, shift): &(&str, u32)| size >> shift << shift == size && size > 0;
    units.into_iter().find(whole).map_or_else(|| size.to_string(), |(unit, shift)| format!("{}{unit}", size >> shift))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        #[track_caller]
        fn check(text: &str, expected: Option<u64>) {
            assert_eq!(duration(text), expected.map(Duration::from_micros), "{text}");
        }
        check("2ms", Some(2_000));
        check("500us", Some(500));
        check("1m30s", Some(90_000_000));
        check("0s", Some(0));
        for broken in ["", "2", "ms", "-1s", "1.5s", "2 ms", "99999999999s", "1d"] {
            check(broken, None);
        }
    }

    #[test]
    fn sizes() {
        #[track_caller]
        fn check(text: &str, expected: Option<u64>) {
            assert_eq!(bytes(text), expected, "{text}");
        }
        check("16Mi", Some(16 << 20));
        check("1024", Some(1024));
        check("2k", Some(2_000));
        for text in ["16Mi", "1Gi", "3Ki", "1025", "0"] {
            assert_eq!(show_bytes(bytes(text).unwrap()), text);
        }
        for broken in ["", "Mi", "1.5Mi", "16MB", "-1", "99999999999999999999"] {
            check(broken, None);
        }
    }
}

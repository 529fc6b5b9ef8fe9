//! Durations in configurations, as the Gateway API writes them (GEP-2257): `500ms`, `30s`, `1h30m`.

use std::time::Duration;

/// The duration that is meant; none if it is none.
#[must_use]
pub fn parse(text: &str) -> Option<Duration> {
    let mut duration = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..end].parse().ok()?;
        let (unit, length) = match rest.as_bytes()[end..] {
            [b'm', b's', ..] => (Duration::from_millis(1), 2),
            [b'h', ..] => (Duration::from_secs(3600), 1),
            [b'm', ..] => (Duration::from_secs(60), 1),
            [b's', ..] => (Duration::from_secs(1), 1),
            _ => return None,
        };
        let part = u32::try_from(number).ok().and_then(|number| unit.checked_mul(number))?;
        duration = duration.checked_add(part)?;
        rest = &rest[end + length..];
    }
    (!text.is_empty()).then_some(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_the_gateway_api() {
        for (text, millis) in [
            ("30s", Some(30_000)),
            ("1h30m", Some(5_400_000)),
            ("24h", Some(86_400_000)),
            ("500ms", Some(500)),
            ("1m500ms", Some(60_500)),
            ("1s5ms", Some(1005)),
            ("0s", Some(0)),
            ("", None),
            ("5", None),
            ("1d", None),
            ("-1s", None),
            ("1.5s", None),
            ("s", None),
            ("1 s", None),
            ("99999999999999999999h", None),
            ("5000000000s", None),
        ] {
            assert_eq!(parse(text), millis.map(Duration::from_millis), "{text}");
        }
    }
}

//! `log`: how many lines a plugin may write, over all its instances: a fresh instance, or one more worker, is no fresh allowance.

use std::sync::{Mutex, PoisonError};

use super::Nanos;

const SECOND: u64 = 1_000_000_000;

/// The lines of one plugin.
#[derive(Debug, Default)]
pub(crate) struct LogRate(Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    began: Option<Nanos>,
    written: u32,
    dropped: u64,
}

impl LogRate {
    /// Whether one more line is within the limit of `most` a second; if so, how many were dropped before it.
    pub(crate) fn admit(&self, most: u32, now: Nanos) -> Option<u64> {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if window.began.is_none_or(|began| now.since(began) >= SECOND) {
            *window = Window { began: Some(now), written: 0, dropped: window.dropped };
        }
        if window.written >= most {
            window.dropped += 1;
            return None;
        }
        window.written += 1;
        Some(std::mem::take(&mut window.dropped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_beyond_the_limit_are_counted() {
        let rate = LogRate::default();
        let start = Nanos(7);
        assert_eq!(rate.admit(2, start), Some(0));
        assert_eq!(rate.admit(2, start), Some(0));
        assert_eq!(rate.admit(2, start), None);
        assert_eq!(rate.admit(2, Nanos(6 + SECOND)), None);
        assert_eq!(rate.admit(2, Nanos(7 + SECOND)), Some(2));
        assert_eq!(rate.admit(2, Nanos(7 + SECOND)), Some(0));
    }

    #[test]
    fn a_limit_of_zero_keeps_nothing() {
        assert_eq!(LogRate::default().admit(0, Nanos(0)), None);
    }
}

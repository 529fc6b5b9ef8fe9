//! When to try again what could not be fetched: soon at first, then less and less often.

use std::time::{Duration, Instant};

use penstock_core::plugin::{ModuleSource, Phase, Rejection};

use super::jobs::Refused;
use crate::{module::is_local, reason};

const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// For files: looking costs nothing.
const LAST_PAUSE: Duration = Duration::from_secs(30);
/// For servers, some of which count how often they are asked.
const LAST_PAUSE_OF_SERVERS: Duration = Duration::from_secs(120);

/// A candidate on which the process that validates is killed so often is what kills it: it takes memory that the machine does not have.
const MOST_KILLS: u32 = 5;

/// A plugin whose last fetch failed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Retry {
    /// None while an attempt is under way.
    at: Option<Instant>,
    pause: Duration,
    /// That failed.
    attempts: u32,
}

impl Retry {
    /// Whether, and when, what was refused is tried again.
    pub(super) fn of(refused: &Refused, before: Option<Self>, source: &ModuleSource) -> Option<Self> {
        let retry = refused.retry.then(|| Self::after(before, source))?;
        let is_fatal = refused.rejection.reason == reason::VALIDATOR_KILLED && retry.attempts >= MOST_KILLS;
        (!is_fatal).then_some(retry)
    }

    /// One more attempt failed; `before` says what came of the earlier ones.
    fn after(before: Option<Self>, source: &ModuleSource) -> Self {
        let most = if is_local(source) { LAST_PAUSE } else { LAST_PAUSE_OF_SERVERS };
        let pause = before.map_or(FIRST_PAUSE, |retry| (retry.pause * 2).min(most));
        let attempts = before.map_or(0, |retry| retry.attempts).saturating_add(1);
        // A quarter more or less: what failed together, because a server did, does not come back all at once.
        let jittered = pause.mul_f64(0.75 + fastrand::f64() / 2.0);
        Self { at: Some(Instant::now() + jittered), pause, attempts }
    }

    /// When the next attempt is due.
    pub(super) fn at(&self) -> Option<Instant> {
        self.at
    }

    /// The next attempt is under way. What comes of it sets the time of the one after it.
    pub(super) fn begin(&mut self) {
        self.at = None;
    }

    pub(super) fn phase(&self, rejection: Rejection) -> Phase {
        Phase::Retrying { rejection, attempts: in_steps(self.attempts), pause: self.pause }
    }
}

/// 1 to 10, then 20, 50, 100, 200, …: a status that shows it is written ever more seldom.
fn in_steps(attempts: u32) -> u32 {
    let mut power: u32 = 10;
    if attempts <= power {
        return attempts;
    }
    while power.checked_mul(10).is_some_and(|next| next <= attempts) {
        power *= 10;
    }
    [5, 2].into_iter().filter_map(|step| power.checked_mul(step)).find(|step| *step <= attempts).unwrap_or(power)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn attempts_in_steps() {
        for (attempts, shown) in [(1, 1), (9, 9), (10, 10), (11, 10), (19, 10), (20, 20), (49, 20), (50, 50), (99, 50)]
        {
            assert_eq!(in_steps(attempts), shown, "{attempts}");
        }
        assert_eq!([in_steps(100), in_steps(250), in_steps(u32::MAX)], [100, 200, 2_000_000_000]);
    }

    #[test]
    fn what_kills_the_validator_again_and_again_is_given_up() {
        let attempts = |reason| {
            let refused = Refused::from(reason::rejection(reason, "why"));
            let source = ModuleSource::Inline(Bytes::new());
            let first = Retry::of(&refused, None, &source);
            std::iter::successors(first, |retry| Retry::of(&refused, Some(*retry), &source)).take(100).count()
        };
        assert_eq!(attempts(reason::INVALID_MODULE), 0);
        assert_eq!(attempts(reason::VALIDATOR_KILLED), 4, "the fifth is the last");
        assert_eq!(attempts(reason::VALIDATOR_UNAVAILABLE), 100);
    }

    #[test]
    fn pauses_grow_to_a_limit() {
        let source = ModuleSource::Inline(Bytes::new());
        let mut retry = Retry::after(None, &source);
        assert_eq!(retry.pause, FIRST_PAUSE);
        for _ in 0..20 {
            retry = Retry::after(Some(retry), &source);
        }
        assert_eq!((retry.pause, retry.attempts), (LAST_PAUSE, 21));
        let now = Instant::now();
        assert!(retry.at() > Some(now + LAST_PAUSE / 2) && retry.at() < Some(now + LAST_PAUSE * 2));
        retry.begin();
        assert_eq!(retry.at(), None);
    }
}

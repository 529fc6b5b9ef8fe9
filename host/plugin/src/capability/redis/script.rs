//! What runs in Redis: one decision is one script, which is one step for everybody who asks.

/// A script. All take one key, and the limit, the window in microseconds, the cost and whether to take it; the token bucket its burst, too.
/// All answer four whole numbers, of which the first says whether it is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Script {
    /// Answers what is spent afterwards: units, and the rest of one in 1/window.
    TokenBucket,
    /// Answers how far the current window has come in microseconds, what is taken in it and what was in the one before.
    SlidingWindow,
}

impl Script {
    pub(super) const ALL: [Self; 2] = [Self::TokenBucket, Self::SlidingWindow];

    /// With the server's clock.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::TokenBucket => {
                concat!(include_str!("clock.lua"), include_str!("exact.lua"), include_str!("token_bucket.lua"))
            }
            Self::SlidingWindow => {
                concat!(include_str!("clock.lua"), include_str!("exact.lua"), include_str!("sliding_window.lua"))
            }
        }
    }
}

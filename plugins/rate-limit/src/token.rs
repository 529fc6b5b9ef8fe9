//! What the request hook hands to the response hook: which policies counted the request, and how the tightest of them stands.

/// 16 bits of policies, 4 of the tightest one, 22 of what remains there, 22 of the seconds until there is more. What does not fit is
/// cut to the largest number that does: four million requests that are left say no less, and no window is as long as 48 days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token {
    /// Bit `n`: policy `n` counted the request.
    pub(crate) policies: u16,
    /// Index of the policy that has least left.
    pub(crate) tightest: u8,
    /// Units.
    pub(crate) remaining: u64,
    /// Seconds.
    pub(crate) reset: u64,
}

/// As many policies as the token has bits for.
pub(crate) const MOST_POLICIES: usize = 16;
const REMAINING: u64 = (1 << 22) - 1;
const RESET: u64 = (1 << 22) - 1;

impl Token {
    /// Never 0, because at least one policy counted.
    pub(crate) fn encode(self) -> u64 {
        u64::from(self.policies) << 48
            | u64::from(self.tightest & 15) << 44
            | self.remaining.min(REMAINING) << 22
            | self.reset.min(RESET)
    }

    pub(crate) fn decode(token: u64) -> Option<Self> {
        let policies = u16::try_from(token >> 48).unwrap_or_default();
        let tightest = u8::try_from(token >> 44 & 15).unwrap_or_default();
        (policies != 0).then_some(Self { policies, tightest, remaining: token >> 22 & REMAINING, reset: token & RESET })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        for token in [
            Token { policies: 1, tightest: 0, remaining: 0, reset: 0 },
            Token { policies: 0x8001, tightest: 15, remaining: REMAINING, reset: RESET },
            Token { policies: 6, tightest: 2, remaining: 42, reset: 60 },
            // The longest window: a client must not come too early.
            Token { policies: 1, tightest: 0, remaining: 1, reset: 31 * 24 * 3600 },
        ] {
            assert_eq!(Token::decode(token.encode()), Some(token));
        }
    }

    #[test]
    fn what_is_too_large_is_cut() {
        let large = Token { policies: 1, tightest: 0, remaining: u64::MAX, reset: u64::MAX };
        assert_eq!(Token::decode(large.encode()), Some(Token { remaining: REMAINING, reset: RESET, ..large }));
    }

    #[test]
    fn no_token_means_no_policy() {
        assert_eq!(Token::decode(0), None);
    }
}

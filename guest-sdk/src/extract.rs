//! What requests say in a form of their own: queries, cookies, claims, addresses; patterns on bytes, templates of paths, and conditions on all
//! of a request. All of it reads bytes as they arrived, and nothing of it can fail: what is malformed is not there.
//!
//! Clients choose how long all of this is: a head has up to 64 KiB, and a hook 2 ms. So the work is linear in the length, and there is a length
//! beyond which nothing is looked at: [`LONGEST`] for tokens, cookies and queries, an [`Effort`](pattern::Effort) for patterns.

pub mod address;
pub mod claim;
pub mod condition;
pub mod pattern;
pub mod target;
pub mod template;

/// Bytes of a token, of all cookies or the query of a request, and of a named segment of its path, that are looked at. What stands behind them is not
/// there: no browser and no common server takes longer ones, and the gateway refuses longer targets by default. Who limits must see all, and is told that
/// there is more: [`target::TooLong`], [`claim::Claims::are_unseen`].
pub const LONGEST: usize = 8 << 10;

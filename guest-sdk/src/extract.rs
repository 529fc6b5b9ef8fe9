//! What requests say in a form of their own: queries, cookies, claims, addresses; and patterns on bytes. All of it reads bytes as they arrived,
//! and nothing of it can fail: what is malformed is not there.

pub mod address;
pub mod claim;
pub mod pattern;
pub mod target;

//! What requests say in a form of their own: queries, cookies, claims, addresses; patterns on bytes, templates of paths, and conditions on all
//! of a request. All of it reads bytes as they arrived, and nothing of it can fail: what is malformed is not there.

pub mod address;
pub mod claim;
pub mod condition;
pub mod pattern;
pub mod target;
pub mod template;

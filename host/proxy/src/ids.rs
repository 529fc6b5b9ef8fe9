//! Request ids: 128 random bits in hexadecimal. Not secret, they only have to differ.

use std::cell::RefCell;

use bytes::Bytes;
use http::HeaderValue;

/// Makes the ids of one worker. Many at a time in one piece of memory, so that an id costs no allocation, and neither does its first copy.
#[derive(Debug, Default)]
pub(crate) struct RequestIds(RefCell<Bytes>);

/// Length of an id.
const LENGTH: usize = 32;

/// Ids in one piece of memory, which lives as long as the last of them.
const PIECE: usize = 64;

impl RequestIds {
    pub(crate) fn next(&self) -> HeaderValue {
        let mut piece = self.0.borrow_mut();
        if piece.is_empty() {
            *piece = new_piece();
        }
        HeaderValue::from_maybe_shared(piece.split_to(LENGTH)).expect("hexadecimal digits are visible ASCII")
    }
}

fn new_piece() -> Bytes {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = Vec::with_capacity(LENGTH * PIECE);
    for _ in 0..PIECE {
        for byte in fastrand::u128(..).to_ne_bytes() {
            text.extend([DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ() {
        let ids = RequestIds::default();
        let made: std::collections::HashSet<_> = (0..PIECE * 3).map(|_| ids.next()).collect();
        assert_eq!(made.len(), PIECE * 3);
        let is_id = |id: &HeaderValue| id.len() == LENGTH && id.as_bytes().iter().all(u8::is_ascii_hexdigit);
        assert!(made.iter().all(is_id));
    }
}

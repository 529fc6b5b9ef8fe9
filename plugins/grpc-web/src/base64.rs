//! Base64 that arrives and leaves in pieces.
//!
//! Senders of gRPC-Web text encode whatever they have when they send it, so padding may stand anywhere, and a piece may end anywhere. No library
//! reads that.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The value of each character; [`NONE`] for those that have none.
const VALUES: [u8; 256] = values();
const NONE: u8 = 0xff;

const fn values() -> [u8; 256] {
    let mut values = [NONE; 256];
    let mut value = 0;
    while value < 64 {
        values[ALPHABET[value as usize] as usize] = value;
        value += 1;
    }
    values
}

/// What was sent is not base64, or ends within a group of four.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Invalid;

/// Reads base64 in pieces.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    /// The group under way, six bits a character.
    group: u32,
    /// How many characters of it there are, with padding.
    seen: u8,
    padding: u8,
}

impl Decoder {
    /// What this piece completes.
    pub(crate) fn decode(&mut self, text: &[u8]) -> Result<Vec<u8>, Invalid> {
        let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 3);
        for character in text {
            self.take(*character)?;
            if self.seen == 4 {
                let group = self.group.to_be_bytes();
                bytes.extend_from_slice(&group[1..4 - usize::from(self.padding)]);
                *self = Self::default();
            }
        }
        Ok(bytes)
    }

    /// Whether nothing is missing at the end.
    pub(crate) fn is_complete(&self) -> bool {
        self.seen == 0
    }

    fn take(&mut self, character: u8) -> Result<(), Invalid> {
        let value = match VALUES[usize::from(character)] {
            // A group has at least two characters, and nothing but padding behind padding.
            NONE if character == b'=' && self.seen >= 2 => {
                self.padding += 1;
                0
            }
            NONE => return Err(Invalid),
            _ if self.padding > 0 => return Err(Invalid),
            value => value,
        };
        self.group = self.group << 6 | u32::from(value);
        self.seen += 1;
        Ok(())
    }
}

/// Writes base64 in pieces.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    /// At most two bytes that do not fill a group yet.
    rest: Vec<u8>,
}

impl Encoder {
    /// Whole groups of what there is; one or two bytes may be kept.
    pub(crate) fn encode(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut text = Vec::with_capacity((bytes.len() + 4) / 3 * 4 + 4);
        let mut bytes = bytes;
        if !self.rest.is_empty() {
            let (start, after) = bytes.split_at(bytes.len().min(3 - self.rest.len()));
            self.rest.extend_from_slice(start);
            bytes = after;
            if self.rest.len() == 3 {
                push_group(&mut text, &self.rest);
                self.rest.clear();
            }
        }
        let groups = bytes.chunks_exact(3);
        self.rest.extend_from_slice(groups.remainder());
        groups.for_each(|group| push_group(&mut text, group));
        text
    }

    /// What was kept, with padding: a reader must not wait for it.
    pub(crate) fn flush(&mut self, text: &mut Vec<u8>) {
        if !self.rest.is_empty() {
            push_group(text, &self.rest);
            self.rest.clear();
        }
    }
}

/// One to three bytes as four characters.
fn push_group(text: &mut Vec<u8>, bytes: &[u8]) {
    let byte = |index: usize| u32::from(bytes.get(index).copied().unwrap_or(0));
    let group = byte(0) << 16 | byte(1) << 8 | byte(2);
    for (index, shift) in [18, 12, 6, 0].into_iter().enumerate() {
        let character = if index <= bytes.len() { ALPHABET[(group >> shift & 63) as usize] } else { b'=' };
        text.push(character);
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine, prelude::BASE64_STANDARD};

    use super::*;

    fn decode(pieces: &[&[u8]]) -> Result<Vec<u8>, Invalid> {
        let mut decoder = Decoder::default();
        let mut bytes = Vec::new();
        for piece in pieces {
            bytes.extend(decoder.decode(piece)?);
        }
        decoder.is_complete().then_some(bytes).ok_or(Invalid)
    }

    #[test]
    fn both_ways_agree_with_the_library_wherever_pieces_end() {
        for len in 0..40_u8 {
            let bytes: Vec<u8> = (0..len).map(|index| index.wrapping_mul(83) ^ 0xa5).collect();
            let text = BASE64_STANDARD.encode(&bytes).into_bytes();
            for split in 0..=text.len() {
                let (a, b) = text.split_at(split);
                assert_eq!(decode(&[a, b]).as_deref(), Ok(&*bytes), "{len} bytes, text split at {split}");
            }
            for split in 0..=bytes.len() {
                let mut encoder = Encoder::default();
                let mut found = encoder.encode(&bytes[..split]);
                found.extend(encoder.encode(&bytes[split..]));
                encoder.flush(&mut found);
                assert_eq!(found, text, "{len} bytes split at {split}");
            }
        }
    }

    #[test]
    fn padding_may_stand_within() {
        assert_eq!(decode(&[b"YQ==YmM=ZGVm"]).as_deref(), Ok(&b"abcdef"[..]));
        assert_eq!(decode(&[b"YQ", b"=", b"=Ym", b"M=Z", b"GVm"]).as_deref(), Ok(&b"abcdef"[..]));
    }

    #[test]
    fn what_is_not_base64_is_refused() {
        for text in ["a", "ab", "abc", "=", "a===", "ab=c", "ab!c", "ab\n=", "abc=d", "-_-_"] {
            assert_eq!(decode(&[text.as_bytes()]), Err(Invalid), "{text}");
        }
    }
}

//! Frames: a flag, a length of four bytes, and as many bytes.

use std::collections::BTreeSet;

use penstock_plugin::{
    Trailers,
    header::{Direction, check_write},
};

use crate::base64::Encoder;

/// Flag of the frame that holds the trailers.
const TRAILERS: u8 = 0x80;
const HEADER: usize = 5;
/// Names of trailers that are removed where they were.
const MOST_MOVED: usize = 1000;

/// Where in a stream of frames we are.
#[derive(Debug, Default)]
struct Position {
    header: [u8; HEADER],
    /// Bytes of the header so far.
    seen: usize,
    /// Bytes of the frame that are still to come.
    missing: usize,
}

impl Position {
    fn advance(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.missing > 0 {
                let taken = self.missing.min(bytes.len());
                self.missing -= taken;
                bytes = &bytes[taken..];
                continue;
            }
            let taken = (HEADER - self.seen).min(bytes.len());
            self.header[self.seen..self.seen + taken].copy_from_slice(&bytes[..taken]);
            self.seen += taken;
            bytes = &bytes[taken..];
            if self.seen == HEADER {
                let [_, length @ ..] = self.header;
                self.seen = 0;
                self.missing = u32::from_be_bytes(length) as usize;
            }
        }
    }

    fn is_between_frames(&self) -> bool {
        self.seen == 0 && self.missing == 0
    }
}

/// Writes frames as text. Padding stands at the end of frames only, as most clients have it; and what ends a frame is never kept, because the
/// client waits for it.
#[derive(Debug, Default)]
pub(crate) struct TextWriter {
    encoder: Encoder,
    position: Position,
}

impl TextWriter {
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.position.advance(bytes);
        let mut text = self.encoder.encode(bytes);
        if self.position.is_between_frames() {
            self.encoder.flush(&mut text);
        }
        text
    }

    /// The last frame. It stands for itself, even if a backend has ended within another.
    pub(crate) fn finish(&mut self, frame: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        self.encoder.flush(&mut text);
        text.extend(self.encoder.encode(frame));
        self.encoder.flush(&mut text);
        text
    }
}

/// The trailers of a response as a frame, and no longer as trailers.
pub(crate) fn move_trailers(trailers: &Trailers) -> Vec<u8> {
    let mut names = BTreeSet::new();
    let mut block = Vec::new();
    // What no plugin may name is no trailer of gRPC either.
    for (name, value) in trailers.iter().filter(|(name, _)| check_write(name, Direction::Response).is_ok()) {
        push_field(&mut block, name, value);
        // The client has read them in the frame: what stays where it is does no harm, and the gateway takes 1024 edits.
        if names.len() < MOST_MOVED && names.insert(name) {
            trailers.remove(name);
        }
    }
    frame(&block)
}

/// A frame that ends a response with this status.
pub(crate) fn status(code: u8, message: &str) -> Vec<u8> {
    let mut block = Vec::new();
    push_field(&mut block, "grpc-status", code.to_string().as_bytes());
    push_field(&mut block, "grpc-message", message.as_bytes());
    frame(&block)
}

/// Without a space, as other gateways write it: not every client takes it off.
fn push_field(block: &mut Vec<u8>, name: &str, value: &[u8]) {
    block.extend_from_slice(name.as_bytes());
    block.push(b':');
    block.extend_from_slice(value);
    block.extend_from_slice(b"\r\n");
}

fn frame(block: &[u8]) -> Vec<u8> {
    // The gateway takes no trailers as large as that.
    let length = u32::try_from(block.len()).unwrap_or(u32::MAX);
    [&[TRAILERS][..], &length.to_be_bytes(), block].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_frames_are_found_wherever_pieces_end() {
        let stream = b"\0\0\0\0\x02ab\0\0\0\0\0\x80\0\0\0\x01c";
        let ends = [0, 7, 12, 18];
        for split in 0..=stream.len() {
            let mut position = Position::default();
            position.advance(&stream[..split]);
            assert_eq!(position.is_between_frames(), ends.contains(&split), "{split}");
            position.advance(&stream[split..]);
            assert!(position.is_between_frames(), "{split}");
        }
    }
}

//! Whatever the sizes of the pieces in which bodies arrive, the same comes out.

#![allow(clippy::unwrap_used, reason = "a test may, and so may what it is made of")]

mod support;

use base64::Engine;
use fastrand::Rng;
use support::{BASE64, BINARY, TEXT, Translating, call, decode, framed, harness, trailers};

/// Messages of sizes around those at which groups of base64 and headers of frames end.
const MESSAGES: [&[u8]; 5] = [b"", b"a", b"bc", b"def", b"a longer one \x00\xff\x80"];

fn stream() -> Vec<u8> {
    MESSAGES.iter().flat_map(|message| framed(message)).collect()
}

/// As a client writes it that encodes each message for itself: with padding between.
fn padded() -> Vec<u8> {
    MESSAGES.iter().flat_map(|message| BASE64.encode(framed(message)).into_bytes()).collect()
}

/// What goes to the backend for these pieces, and what comes back when it sends them.
fn translate(harness: &Translating, content_type: &str, sent: &[&[u8]], received: &[&[u8]]) -> (Vec<u8>, Vec<u8>) {
    let mut live = call(harness, content_type);
    for piece in sent {
        live.send(piece, false).unwrap();
    }
    live.send(b"", true).unwrap();
    live.respond(200, &[("content-type", "application/grpc")]).unwrap();
    for piece in received {
        live.receive(piece, false).unwrap();
    }
    live.receive(b"", true).unwrap();
    live.receive_trailers(&[("grpc-status", "0")]).unwrap();
    (live.request_body().to_vec(), live.response_body().to_vec())
}

fn end() -> Vec<u8> {
    trailers("grpc-status:0\r\n")
}

#[test]
fn text_may_be_split_anywhere() {
    let harness = harness();
    for text in [BASE64.encode(stream()).into_bytes(), padded()] {
        for first in 0..=text.len() {
            for second in first..=text.len() {
                let pieces = [&text[..first], &text[first..second], &text[second..]];
                let (sent, _) = translate(&harness, TEXT, &pieces, &[]);
                assert_eq!(sent, stream(), "split at {first} and {second}");
            }
        }
    }
}

#[test]
fn frames_may_be_split_anywhere() {
    let harness = harness();
    let bytes = stream();
    let whole = [bytes.clone(), end()].concat();
    for first in 0..=bytes.len() {
        for second in first..=bytes.len() {
            let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]];
            let (_, text) = translate(&harness, TEXT, &[], &pieces);
            assert_eq!(decode(&text), whole, "split at {first} and {second}");
            let (_, binary) = translate(&harness, BINARY, &[], &pieces);
            assert_eq!(binary, whole);
        }
    }
}

#[test]
fn every_message_is_there_when_its_last_byte_is() {
    let harness = harness();
    let bytes = stream();
    let ends: Vec<usize> = MESSAGES
        .iter()
        .scan(0, |end, message| {
            *end += 5 + message.len();
            Some(*end)
        })
        .collect();
    for split in 0..=bytes.len() {
        let mut live = call(&harness, TEXT);
        live.respond(200, &[("content-type", "application/grpc")]).unwrap();
        live.receive(&bytes[..split], false).unwrap();
        let arrived = decode(live.response_body()).len();
        let complete = ends.iter().copied().filter(|end| *end <= split).max().unwrap_or(0);
        assert!(arrived >= complete, "{arrived} of {complete} bytes are there after {split}");
        let padded = live.response_body().contains(&b'=');
        assert!(!padded || ends.contains(&split), "no padding within a message: it was split at {split}");
    }
}

#[test]
fn random_streams_in_random_pieces_survive() {
    let mut random = Rng::with_seed(7);
    let harness = harness();
    for round in 0..300 {
        let count = random.usize(0..6);
        let messages: Vec<Vec<u8>> = (0..count)
            .map(|_| {
                let length = random.usize(0..400);
                std::iter::repeat_with(|| random.u8(..)).take(length).collect()
            })
            .collect();
        let bytes: Vec<u8> = messages.iter().flat_map(|message| framed(message)).collect();
        let text: Vec<u8> = messages.iter().flat_map(|message| BASE64.encode(framed(message)).into_bytes()).collect();
        let (sent, received) = (cut(&mut random, &text), cut(&mut random, &bytes));
        let (request, response) = translate(&harness, TEXT, &sent, &received);
        assert_eq!(request, bytes, "round {round}");
        assert_eq!(decode(&response), [bytes, end()].concat(), "round {round}");
    }
}

/// Pieces of 0 to 50 bytes.
fn cut<'b>(random: &mut Rng, mut bytes: &'b [u8]) -> Vec<&'b [u8]> {
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at(random.usize(0..=50).min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

#[test]
fn a_backend_that_ends_within_a_message_still_ends_with_a_status() {
    let harness = harness();
    let bytes = framed(b"abcdefg");
    for split in 1..bytes.len() {
        let (_, text) = translate(&harness, TEXT, &[], &[&bytes[..split]]);
        assert!(decode(&text).ends_with(&end()), "{split}");
    }
}

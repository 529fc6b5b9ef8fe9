//! What the tests of this crate share.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test may")]
#![allow(clippy::needless_pass_by_value, reason = "tests hand over what `json!` makes")]

use base64::{Engine, engine::GeneralPurpose, prelude::BASE64_STANDARD};
use grpc_web::GrpcWeb;
use penstock_plugin::testing::{Live, StreamingHarness};
use serde_json::{Value, json};

pub type Translating = StreamingHarness<GrpcWeb>;

pub const BASE64: GeneralPurpose = BASE64_STANDARD;
pub const BINARY: &str = "application/grpc-web+proto";
pub const TEXT: &str = "application/grpc-web-text";

pub fn harness() -> Translating {
    Translating::new(json!({}))
}

pub fn with_cors(cors: Value) -> Translating {
    Translating::new(json!({ "cors": cors }))
}

/// A call with this content type.
pub fn call<'h>(harness: &'h Translating, content_type: &str) -> Live<'h, GrpcWeb> {
    harness.request("POST", "/shop.Shop/Buy").header("content-type", content_type).start().unwrap()
}

/// A message as gRPC frames it.
pub fn framed(message: &[u8]) -> Vec<u8> {
    [&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}

/// The frame that ends a response of gRPC-Web.
pub fn trailers(block: &str) -> Vec<u8> {
    [&[0x80][..], &u32::try_from(block.len()).unwrap().to_be_bytes(), block.as_bytes()].concat()
}

/// Text as clients read it: each group of four for itself, so that padding may stand within.
pub fn decode(text: &[u8]) -> Vec<u8> {
    assert!(text.len().is_multiple_of(4), "{} characters", text.len());
    text.chunks(4).flat_map(|group| BASE64.decode(group).unwrap()).collect()
}

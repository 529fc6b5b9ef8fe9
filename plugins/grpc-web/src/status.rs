//! Statuses of gRPC for what is no answer of gRPC.

/// The request cannot be understood.
pub(crate) const INVALID_ARGUMENT: u8 = 3;
/// An invariant of the protocol was broken.
pub(crate) const INTERNAL: u8 = 13;

/// What a status of HTTP means, as the protocol has it (`http-grpc-status-mapping.md`).
pub(crate) fn from_http(status: u16) -> u8 {
    match status {
        400 => INTERNAL,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

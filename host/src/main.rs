//! Penstock: the gateway binary.
fn main() {}

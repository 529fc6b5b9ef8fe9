//! Sources of resources. Each yields the same events, so everything after them is one product.

pub mod cluster;
pub mod files;

//! Hostnames as Gateway API means them: exact, `*.suffix`, or none for any.

use std::{fmt, sync::Arc};

use serde::{Serialize, Serializer};

/// What a listener or a route says about hosts. Always lower case, without a trailing dot.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostPattern {
    /// Every host, also a missing one.
    Any,
    /// `*.example.com`, kept as `.example.com`: one or more labels before the suffix.
    Wildcard(Arc<str>),
    /// One host.
    Exact(Arc<str>),
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Wildcard(suffix) => write!(f, "*{suffix}"),
            Self::Exact(host) => f.write_str(host),
        }
    }
}

impl Serialize for HostPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

//! The client's address behind trusted hops.

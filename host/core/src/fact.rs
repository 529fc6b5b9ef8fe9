//! What is observed to be so. Facts travel back to the controller as events and become status; they are never configuration.

use std::{net::SocketAddr, sync::Arc};

use crate::{ResourceRef, plugin::PluginState};

/// Something that the proxy or the plugin host found out.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    /// The state of a socket changed.
    Socket(SocketAddr, SocketState),
    /// The state of a plugin changed.
    Plugin(ResourceRef, Arc<PluginState>),
}

/// Whether the proxy accepts on an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SocketState {
    /// All workers accept.
    Bound,
    /// It could not be bound; the text of the operating system, with what to do about it.
    Failed(Arc<str>),
    /// No longer wanted, and closed.
    Closed,
}

/// Where facts are sent. Never blocks; the receiver coalesces.
pub trait FactSink: Send + Sync {
    /// Report a fact. The latest one about the same thing wins.
    fn report(&self, fact: Fact);

    /// Report facts that belong together: where they are acted upon, whoever acts on one of them knows all of them.
    fn report_all(&self, facts: Vec<Fact>) {
        facts.into_iter().for_each(|fact| self.report(fact));
    }
}

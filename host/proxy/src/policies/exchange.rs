//! What the plugins that take part in an exchange share: who they are, the facts, and how it ended.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
};

use http::HeaderValue;
use penstock_core::{
    plugin::{ExchangeFacts, PluginFault, PolicyCall, PolicyExchange, Skip, Summary},
    route::Rule,
};
use smallvec::SmallVec;

use super::{
    Break, Stop,
    ends::{Ending, Ends},
    room::Rooms,
    weigh,
};
use crate::connection::Connection;

/// An exchange that plugins take part in. The record holds it, and so does each body that has a stage: the end hooks run when the last of
/// them is gone, so that every plugin hears of the end once, and behind everything else, whichever way the exchange ends.
pub(crate) struct Exchange {
    connection: Rc<Connection>,
    rule: Arc<Rule>,
    client: SocketAddr,
    request_id: Option<HeaderValue>,
    participants: RefCell<Participants>,
    /// A plugin broke the request's body off while it was sent.
    interruption: RefCell<Option<(usize, Stop)>>,
    summary: RefCell<Summary>,
}

/// In the order in which they came.
pub(super) type Participants = SmallVec<[Rc<Participant>; 2]>;

/// A plugin that takes part.
pub(crate) struct Participant {
    /// Its place in the rule.
    pub(super) at: usize,
    pub(super) policy: Rc<dyn PolicyExchange>,
    /// It faulted, or has answered: of its hooks only that on the end is left.
    left: Cell<bool>,
    /// What it does not need of this exchange.
    skip: Cell<Skip>,
}

impl Participant {
    pub(super) fn skip(&self, skip: Skip) {
        self.skip.set(self.skip.get().and(skip));
    }

    pub(super) fn skipped(&self) -> Skip {
        self.skip.get()
    }

    pub(super) fn leave(&self) {
        self.left.set(true);
    }

    pub(super) fn has_left(&self) -> bool {
        self.left.get()
    }
}

impl Exchange {
    pub(super) fn new(
        connection: Rc<Connection>,
        rule: Arc<Rule>,
        client: SocketAddr,
        request_id: Option<HeaderValue>,
    ) -> Self {
        let (participants, interruption, summary) = (RefCell::default(), RefCell::default(), RefCell::default());
        Self { connection, rule, client, request_id, participants, interruption, summary }
    }

    pub(super) fn join(&self, at: usize, policy: Rc<dyn PolicyExchange>) -> Rc<Participant> {
        let participant = Rc::new(Participant { at, policy, left: Cell::new(false), skip: Cell::default() });
        self.participants.borrow_mut().push(participant.clone());
        participant
    }

    pub(super) fn facts(&self) -> ExchangeFacts<'_> {
        super::facts(&self.connection, &self.rule, self.client, self.request_id.as_ref())
    }

    /// For what waits of its bodies.
    pub(super) fn rooms(&self) -> &Arc<Rooms> {
        &self.connection.worker.shared.rooms
    }

    /// Whether a hook took so long that others should get their turn before the next.
    pub(super) fn wants_break(&self) -> bool {
        self.connection.worker.policies.wants_break()
    }

    pub(super) fn call(&self, at: usize) -> &PolicyCall {
        &self.rule.policies[at]
    }

    /// A fault costs the exchange what the plugin's failure policy says.
    pub(super) fn judge(&self, at: usize, fault: PluginFault) -> Option<Break> {
        let call = self.call(at);
        weigh(call.failure_policy, fault).map(|rejection| Break::Plugin { at, stop: rejection.into() })
    }

    /// The request's body ends here, and its sender will hear only that it broke.
    pub(crate) fn interrupt(&self, at: usize, stop: Stop) {
        self.interruption.borrow_mut().get_or_insert((at, stop));
    }

    pub(super) fn take_interruption(&self) -> Option<(usize, Stop)> {
        self.interruption.take()
    }

    /// How it ended, for the end hooks.
    pub(crate) fn conclude(&self, summary: Summary) {
        self.summary.replace(summary);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        Ends::end(Ending {
            connection: self.connection.clone(),
            rule: self.rule.clone(),
            client: self.client,
            request_id: self.request_id.take(),
            participants: self.participants.take(),
            summary: self.summary.take(),
        });
    }
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exchange").field("rule", &self.rule.id).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Participant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Participant").field("at", &self.at).finish_non_exhaustive()
    }
}

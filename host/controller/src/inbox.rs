//! Where events wait for the loop.
//!
//! A queue would have to be bounded, and a bounded queue blocks or drops. This is no queue: it holds at most one state for each thing that
//! events are about (a resource, a socket, a plugin, a file, a source), and a later one takes the place of an earlier one. However slow a
//! translation, memory is bounded by the world, and the next batch is the newest state of everything.
//!
//! What leaves a cluster may be back in a moment: who replaces an object by force deletes and creates it. So it stays for that moment, and if it is back
//! by then it was never away.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use penstock_core::{
    ResourceRef,
    fact::{Fact, FactSink},
};
use penstock_translate::Change;

use crate::{
    event::{Event, SourceId},
    sources::files::Problem,
};

/// Between the end of an object and another one of its name lie two requests of whoever replaces it. Nobody notices that what is really gone goes later.
pub(crate) const GRACE: Duration = Duration::from_millis(200);

/// The end that sources and observers hold. Clones lead to the same place.
#[derive(Debug, Clone, Default)]
pub struct Inbox(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Batch,
    /// Gone, unless they are back by then.
    leaving: BTreeMap<ResourceRef, Instant>,
    closed: bool,
}

impl State {
    fn add(&mut self, event: Event) {
        if let Event::Changed(changes) = &event {
            for change in changes {
                match change {
                    Change::Upsert(object) => drop(self.leaving.remove(&object.reference())),
                    Change::Delete(reference) => drop(self.leaving.remove(reference)),
                    Change::Observe(_) | Change::File(..) | Change::Bundle(..) => {}
                }
            }
        }
        self.waiting.add(event);
    }

    /// What has not come back by now is gone.
    fn let_go(&mut self, now: Instant) {
        let gone: Vec<_> = self.leaving.extract_if(.., |_, due| *due <= now).collect();
        if !gone.is_empty() {
            self.waiting.add(Event::Changed(gone.into_iter().map(|(id, _)| Change::Delete(id)).collect()));
        }
    }
}

/// The newest state of everything that changed since the last batch.
#[derive(Debug, Default)]
pub struct Batch {
    changes: BTreeMap<Subject, Change>,
    /// What is wrong with the documents of a source.
    pub(crate) problems: BTreeMap<SourceId, Vec<Problem>>,
    /// Sources that became complete with this batch.
    pub(crate) complete: BTreeSet<SourceId>,
    /// Which of the objects that were referred to are at hand now.
    pub(crate) answered: Option<Arc<BTreeSet<ResourceRef>>>,
    /// Whether to try again what failed.
    pub(crate) retry: bool,
}

/// What a change is about.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Resource(ResourceRef),
    Socket(SocketAddr),
    Plugin(ResourceRef),
    File(PathBuf),
    Bundle(Arc<str>),
}

impl Subject {
    fn of(change: &Change) -> Self {
        match change {
            Change::Upsert(object) => Self::Resource(object.reference()),
            Change::Delete(reference) => Self::Resource(reference.clone()),
            Change::Observe(Fact::Socket(address, _)) => Self::Socket(*address),
            Change::Observe(Fact::Plugin(plugin, _)) => Self::Plugin(plugin.clone()),
            Change::File(path, _) => Self::File(path.clone()),
            Change::Bundle(definition, _) => Self::Bundle(Arc::clone(definition)),
        }
    }
}

impl Batch {
    /// Nothing happened.
    pub fn is_empty(&self) -> bool {
        let Self { changes, problems, complete, answered, retry } = self;
        changes.is_empty() && problems.is_empty() && complete.is_empty() && answered.is_none() && !retry
    }

    /// One change for each thing that changed, in an order that depends on nothing but the things.
    pub fn take_changes(&mut self) -> impl Iterator<Item = Change> + use<> {
        std::mem::take(&mut self.changes).into_values()
    }

    fn add(&mut self, event: Event) {
        match event {
            Event::Changed(changes) => {
                self.changes.extend(changes.into_iter().map(|change| (Subject::of(&change), change)));
            }
            Event::Problems(source, problems) => {
                self.problems.insert(source, problems);
            }
            Event::Complete(source) => {
                self.complete.insert(source);
            }
            Event::Answered(objects) => self.answered = Some(objects),
            Event::Retry => self.retry = true,
        }
    }
}

/// Events as a batch, without an inbox.
impl FromIterator<Event> for Batch {
    fn from_iter<T: IntoIterator<Item = Event>>(events: T) -> Self {
        let mut batch = Self::default();
        events.into_iter().for_each(|event| batch.add(event));
        batch
    }
}

impl Inbox {
    /// An empty inbox.
    pub fn new() -> Self {
        Self::default()
    }

    /// Leave events that belong together: they are in the same batch. Never blocks for longer than it takes to store them.
    pub fn send(&self, events: impl IntoIterator<Item = Event>) {
        let mut state = self.lock();
        for event in events {
            state.add(event);
        }
        drop(state);
        self.0.arrived.notify_one();
    }

    /// An object is not there any more. If it is back within [`GRACE`], it only changed.
    pub(crate) fn leave(&self, id: ResourceRef) {
        self.lock().leaving.insert(id, Instant::now() + GRACE);
        self.0.arrived.notify_one();
    }

    /// End the loop once it has taken what waits.
    pub fn close(&self) {
        self.lock().closed = true;
        self.0.arrived.notify_one();
    }

    /// Wait for something to happen; none when the inbox is closed and empty. For the one owner of the loop.
    pub fn next(&self) -> Option<Batch> {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            state.let_go(now);
            if !state.waiting.is_empty() || state.closed {
                break;
            }
            let due = state.leaving.values().min().map(|due| due.saturating_duration_since(now));
            state = match due {
                None => self.0.arrived.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(pause) => self.0.arrived.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
        let batch = std::mem::take(&mut state.waiting);
        (!batch.is_empty()).then_some(batch)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FactSink for Inbox {
    fn report(&self, fact: Fact) {
        self.send([Event::Changed(vec![Change::Observe(fact)])]);
    }

    fn report_all(&self, facts: Vec<Fact>) {
        self.send([Event::Changed(facts.into_iter().map(Change::Observe).collect())]);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use penstock_core::fact::SocketState;
    use penstock_translate::resources::Object;
    use serde_json::json;

    use super::*;

    fn socket(port: u16, state: SocketState) -> Event {
        Event::Changed(vec![Change::Observe(Fact::Socket(([127, 0, 0, 1], port).into(), state))])
    }

    #[test]
    fn the_latest_state_of_each_thing_is_in_the_batch() {
        let inbox = Inbox::new();
        inbox.send([socket(2, SocketState::Bound), socket(1, SocketState::Bound)]);
        inbox.send([socket(2, SocketState::Failed("in use".into()))]);
        inbox.send([socket(2, SocketState::Closed)]);

        let changes: Vec<_> = inbox.next().unwrap().take_changes().collect();

        let fact = |port, state| Change::Observe(Fact::Socket(([127, 0, 0, 1], port).into(), state));
        assert_eq!(changes, [fact(1, SocketState::Bound), fact(2, SocketState::Closed)]);
    }

    fn service(name: &str) -> Object {
        let metadata = json!({ "name": name, "namespace": "default" });
        Object::parse("v1", "Service", json!({ "metadata": metadata })).unwrap()
    }

    fn changes(state: &mut State) -> Vec<Change> {
        std::mem::take(&mut state.waiting).take_changes().collect()
    }

    #[test]
    fn what_is_back_in_a_moment_was_never_away() {
        let (mut state, start) = (State::default(), Instant::now());
        let [back, gone, deleted] = ["back", "gone", "deleted"].map(service);
        for object in [&back, &gone, &deleted] {
            state.leaving.insert(object.reference(), start + GRACE);
        }
        state.let_go(start);
        assert_eq!(changes(&mut state), []);
        state.add(Event::Changed(vec![Change::Upsert(back.clone()), Change::Delete(deleted.reference())]));
        state.let_go(start + GRACE);
        let expected = [Change::Upsert(back), Change::Delete(deleted.reference()), Change::Delete(gone.reference())];
        assert_eq!(changes(&mut state), expected);
        state.let_go(start + 2 * GRACE);
        assert!(state.waiting.is_empty() && state.leaving.is_empty());
    }

    #[test]
    fn what_leaves_is_gone_without_another_event() {
        let inbox = Inbox::new();
        let id = service("gone").reference();
        inbox.leave(id.clone());
        assert_eq!(inbox.next().unwrap().take_changes().collect::<Vec<_>>(), [Change::Delete(id)]);
    }

    #[test]
    fn a_closed_inbox_still_gives_what_waits_and_then_ends() {
        let inbox = Inbox::new();
        inbox.send([socket(1, SocketState::Bound)]);
        inbox.close();
        assert!(inbox.next().is_some());
        assert!(inbox.next().is_none());
    }

    #[test]
    fn the_loop_wakes_up_for_an_event_of_another_thread() {
        let inbox = Inbox::new();
        let sender = inbox.clone();
        let sending = thread::spawn(move || sender.send([Event::Complete(SourceId::new("files"))]));
        assert_eq!(inbox.next().unwrap().complete.len(), 1);
        sending.join().unwrap();
    }
}

//! Which kinds are installed: the CustomResourceDefinitions, by name.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures_util::StreamExt as _;
use kube::{
    Api, Client, ResourceExt,
    core::{ApiResource, DynamicObject, GroupVersionKind, PartialObjectMeta},
    runtime::{WatchStreamExt as _, watcher},
};
use penstock_core::Kind;
use tokio::{
    sync::mpsc::{self, UnboundedReceiver},
    time::Instant,
};

use super::{Bounded, watch};

/// By this annotation a definition says of which version of Gateway API it is.
const BUNDLE: &str = "gateway.networking.k8s.io/bundle-version";

/// When the API server is asked again whether it serves a kind that is defined, and how long it is left alone at most.
const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(60);

/// What still is not served when it is time for such a pause will not be soon.
const PATIENCE: Duration = Duration::from_secs(16);

/// What the watch of definitions says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Definition {
    /// One is there; and the version of Gateway API that it says to be of.
    There(String, Option<Arc<str>>),
    /// One is gone.
    Gone(String),
    /// All that are there have been named.
    Listed,
}

/// Turns what a watch shows into what it means.
#[derive(Debug, Default)]
struct Reader {
    known: BTreeSet<String>,
    /// What a list that is under way has shown so far.
    listing: BTreeSet<String>,
}

impl Reader {
    fn read<K: ResourceExt>(&mut self, event: watcher::Event<K>) -> Vec<Definition> {
        match event {
            watcher::Event::Init => {
                self.listing.clear();
                Vec::new()
            }
            watcher::Event::InitApply(it) => {
                self.listing.insert(it.name_any());
                vec![self.there(&it)]
            }
            watcher::Event::InitDone => {
                let gone: Vec<_> = self.known.difference(&self.listing).cloned().collect();
                self.known = std::mem::take(&mut self.listing);
                gone.into_iter().map(Definition::Gone).chain([Definition::Listed]).collect()
            }
            watcher::Event::Apply(it) => vec![self.there(&it)],
            watcher::Event::Delete(it) => {
                self.known.remove(&it.name_any());
                vec![Definition::Gone(it.name_any())]
            }
        }
    }

    fn there(&mut self, definition: &impl ResourceExt) -> Definition {
        let bundle = definition.annotations().get(BUNDLE).map(|version| version.as_str().into());
        self.known.insert(definition.name_any());
        Definition::There(definition.name_any(), bundle)
    }
}

/// Follow the definitions of custom kinds.
pub(super) fn follow(client: Client) -> UnboundedReceiver<Definition> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let kind = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let resource = ApiResource::from_gvk_with_plural(&kind, "customresourcedefinitions");
    let api: Api<Bounded<PartialObjectMeta<DynamicObject>>> = Api::all_with(client, &resource);
    tokio::spawn(async move {
        let mut events = std::pin::pin!(watcher(api, watch::settings()).default_backoff());
        let mut reader = Reader::default();
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    for definition in reader.read(event) {
                        if sender.send(definition).is_err() {
                            return; // the source ended
                        }
                    }
                }
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "cannot follow definitions; trying again");
                }
            }
        }
    });
    receiver
}

/// Kinds that are defined and not served. Mostly that is a matter of milliseconds: a definition is seen before the API server acts on it, and no
/// event tells when it does.
#[derive(Debug, Default)]
pub(super) struct Unserved(BTreeMap<Kind, (Instant, Duration)>);

impl Unserved {
    /// The API server says that it does not serve this kind. Whether it has said so for long.
    pub(super) fn insert(&mut self, kind: Kind, now: Instant) -> bool {
        let pause = self.0.get(&kind).map_or(FIRST, |(_, pause)| (2 * *pause).min(LONGEST));
        self.0.insert(kind, (now + pause, pause));
        pause >= PATIENCE
    }

    /// It does, or there is no such definition any more.
    pub(super) fn remove(&mut self, kind: Kind) {
        self.0.remove(&kind);
    }

    /// When to ask next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.values().map(|(at, _)| *at).min()
    }

    /// Kinds to ask for now.
    pub(super) fn due(&self, now: Instant) -> Vec<Kind> {
        self.0.iter().filter(|(_, (at, _))| *at <= now).map(|(kind, _)| *kind).collect()
    }
}

#[cfg(test)]
mod tests {
    use kube::core::{ObjectMeta, TypeMeta};

    use super::*;

    fn definition(name: &str) -> PartialObjectMeta<DynamicObject> {
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        PartialObjectMeta { types: None::<TypeMeta>, metadata, _phantom: std::marker::PhantomData }
    }

    #[test]
    fn what_a_later_list_does_not_show_is_gone() {
        use watcher::Event::{Apply, Delete, Init, InitApply, InitDone};
        let mut reader = Reader::default();
        let mut read = |event| reader.read(event);
        let there = |name: &str| vec![Definition::There(name.to_owned(), None)];
        let gone = |name: &str| Definition::Gone(name.to_owned());
        assert_eq!(read(Init), []);
        assert_eq!(read(InitApply(definition("a"))), there("a"));
        assert_eq!(read(InitApply(definition("b"))), there("b"));
        assert_eq!(read(InitDone), [Definition::Listed]);
        assert_eq!(read(Apply(definition("c"))), there("c"));
        assert_eq!(read(Delete(definition("b"))), [gone("b")]);
        // The watch was interrupted for long.
        assert_eq!(read(Init), []);
        assert_eq!(read(InitApply(definition("c"))), there("c"));
        assert_eq!(read(InitDone), [gone("a"), Definition::Listed]);
    }

    #[test]
    fn what_is_not_served_yet_is_asked_for_again_and_less_and_less_often() {
        let (mut unserved, start) = (Unserved::default(), Instant::now());
        assert_eq!(unserved.next(), None);
        assert!(!unserved.insert(Kind::WasmPlugin, start));
        assert_eq!((unserved.next(), unserved.due(start)), (Some(start + FIRST), vec![]));
        assert_eq!(unserved.due(start + FIRST), [Kind::WasmPlugin]);
        unserved.insert(Kind::WasmPlugin, start);
        assert_eq!(unserved.next(), Some(start + 2 * FIRST));
        let long: Vec<bool> = (0..7).map(|_| unserved.insert(Kind::WasmPlugin, start)).collect();
        assert_eq!(long, [false, false, false, false, true, true, true]);
        assert_eq!(unserved.next(), Some(start + LONGEST));
        unserved.remove(Kind::WasmPlugin);
        assert_eq!(unserved.next(), None);
    }
}

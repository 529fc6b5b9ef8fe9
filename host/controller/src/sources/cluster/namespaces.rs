//! Which namespaces exist for this installation. What is in the others is neither served nor written, as if it were not there.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use penstock_core::{Kind, ResourceRef};
use penstock_translate::LabelSelector;
use tokio::sync::watch;

/// By name or by label; either will do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WatchedNamespaces {
    /// These.
    pub names: BTreeSet<String>,
    /// Those with such labels.
    pub labels: Option<LabelSelector>,
}

impl WatchedNamespaces {
    fn select(&self, name: &str, labels: Option<&BTreeMap<String, String>>) -> bool {
        self.names.contains(name) || self.labels.as_ref().is_some_and(|selector| selector.selects(labels))
    }
}

/// The namespaces that are there and selected.
pub(super) type Selection = Arc<BTreeSet<Arc<str>>>;

/// Kept up to date by whoever follows namespaces, for those who follow what is in them.
#[derive(Debug, Clone)]
pub(crate) struct Namespaces {
    /// None: all are selected.
    rule: Option<Arc<WatchedNamespaces>>,
    /// None until all have been read.
    selection: Arc<watch::Sender<Option<Selection>>>,
    /// Those that are there and not selected: what is in them may be another installation's.
    left_out: Arc<Mutex<BTreeSet<Arc<str>>>>,
}

impl Namespaces {
    pub(crate) fn new(rule: Option<WatchedNamespaces>) -> Self {
        Self { rule: rule.map(Arc::new), selection: Arc::new(watch::channel(None).0), left_out: Arc::default() }
    }

    /// Whether the objects of a kind may be left out for their namespace.
    pub(super) fn restrict(&self, kind: Kind) -> bool {
        self.rule.is_some() && !matches!(kind, Kind::GatewayClass | Kind::IngressClass | Kind::Namespace)
    }

    /// By which watches the objects of a kind are found: one of all namespaces, or one of each where their names are known, which asks for no permission in
    /// any other.
    pub(super) fn parts(&self, kind: Kind) -> Vec<Option<Arc<str>>> {
        match self.rule.as_deref().filter(|_| self.restrict(kind)) {
            Some(WatchedNamespaces { names, labels: None }) => {
                names.iter().map(|name| Some(name.as_str().into())).collect()
            }
            _ => vec![None],
        }
    }

    /// Whether an object is where something may be written: in a namespace that exists, or in none.
    pub(crate) fn has(&self, id: &ResourceRef) -> bool {
        let selected = |selection: &Selection| selection.contains(&id.namespace);
        self.rule.is_none() || id.namespace.is_empty() || self.selection.borrow().as_ref().is_some_and(selected)
    }

    /// Whether a namespace exists for us. It is there.
    pub(crate) fn select(&self, name: &Arc<str>, labels: Option<&BTreeMap<String, String>>) -> bool {
        let selected = self.rule.as_ref().is_none_or(|rule| rule.select(name, labels));
        if selected {
            self.left_out().remove(name)
        } else {
            self.left_out().insert(Arc::clone(name))
        };
        selected
    }

    /// Whether a namespace is there, and does not exist for us.
    pub(crate) fn leaves_out(&self, namespace: &str) -> bool {
        self.left_out().contains(namespace)
    }

    /// A namespace is gone.
    pub(super) fn forget(&self, name: &str) {
        self.left_out().remove(name);
    }

    /// Of those that are left out only these are there still.
    pub(super) fn forget_all_but(&self, is_there: impl Fn(&Arc<str>) -> bool) {
        self.left_out().retain(is_there);
    }

    fn left_out(&self) -> MutexGuard<'_, BTreeSet<Arc<str>>> {
        self.left_out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These exist.
    pub(super) fn publish(&self, selected: impl Iterator<Item = Arc<str>>) {
        if self.rule.is_some() {
            let now = Some(Arc::new(selected.collect()));
            self.selection.send_if_modified(|before| {
                let changed = *before != now;
                *before = now;
                changed
            });
        }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Option<Selection>> {
        self.selection.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(receiver: &mut watch::Receiver<Option<Selection>>) -> Option<Vec<String>> {
        let selection = receiver.borrow_and_update().clone();
        selection.map(|selection| selection.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_namespace_is_selected_by_name_or_by_label() {
        let labels = |text: &str| Some(BTreeMap::from([("team".to_owned(), text.to_owned())]));
        let check = |rule: Option<&WatchedNamespaces>, expected: [bool; 3]| {
            let namespaces = Namespaces::new(rule.cloned());
            let found = [("a", None), ("b", labels("shop")), ("c", labels("other"))]
                .map(|(name, labels)| namespaces.select(&name.into(), labels.as_ref()));
            assert_eq!(found, expected, "{rule:?}");
            assert_eq!(["a", "b", "c"].map(|name| !namespaces.leaves_out(name)), expected, "{rule:?}");
            namespaces.forget("c");
            assert!(!namespaces.leaves_out("c") && !namespaces.leaves_out("never-seen"));
        };
        let rule = |names: &[&str], labels: Option<&str>| WatchedNamespaces {
            names: names.iter().map(ToString::to_string).collect(),
            labels: labels.map(|labels| labels.parse().unwrap()),
        };
        check(None, [true, true, true]);
        check(Some(&rule(&["a", "x"], None)), [true, false, false]);
        check(Some(&rule(&[], Some("team=shop"))), [false, true, false]);
        check(Some(&rule(&["a"], Some("team=shop"))), [true, true, false]);
    }

    #[test]
    fn namespaces_whose_names_are_known_are_watched_one_by_one() {
        let parts = |names: &[&str], labels: Option<&str>, kind: Kind| {
            let names = names.iter().map(ToString::to_string).collect();
            let rule = WatchedNamespaces { names, labels: labels.map(|labels| labels.parse().unwrap()) };
            Namespaces::new(Some(rule)).parts(kind)
        };
        assert_eq!(Namespaces::new(None).parts(Kind::Gateway), [None]);
        assert_eq!(parts(&["a", "b"], None, Kind::Secret), [Some("a".into()), Some("b".into())]);
        for kind in [Kind::Namespace, Kind::GatewayClass, Kind::IngressClass] {
            assert_eq!(parts(&["a", "b"], None, kind), [None], "{kind}");
        }
        assert_eq!(parts(&["a"], Some("team"), Kind::Secret), [None], "any may come to have such a label");
    }

    #[test]
    fn only_another_selection_is_news() {
        let namespaces = Namespaces::new(Some(WatchedNamespaces::default()));
        assert!(namespaces.restrict(Kind::HTTPRoute) && !namespaces.restrict(Kind::GatewayClass));
        let mut receiver = namespaces.subscribe();
        assert_eq!(selected(&mut receiver), None, "nothing is known yet");
        let publish = |names: &[&str]| namespaces.publish(names.iter().map(|name| Arc::from(*name)));
        publish(&["a"]);
        assert!(receiver.has_changed().unwrap());
        assert_eq!(selected(&mut receiver), Some(vec!["a".to_owned()]));
        let has = |namespace| namespaces.has(&ResourceRef::new(Kind::Gateway, namespace, "web"));
        assert!(has("a") && has("") && !has("b"));
        publish(&["a"]);
        assert!(!receiver.has_changed().unwrap());
        publish(&[]);
        assert_eq!(selected(&mut receiver), Some(vec![]));
        assert!(!namespaces.select(&"b".into(), None) && !namespaces.select(&"c".into(), None));
        namespaces.forget_all_but(|name| **name == *"c");
        assert!(!namespaces.leaves_out("b") && namespaces.leaves_out("c"));
    }
}

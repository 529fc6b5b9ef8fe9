//! What came and what went between two lists of routes.
//!
//! Routes are immutable, so the pointer tells them apart. Both lists are alive while they are compared: no address is reused.

use std::sync::Arc;

use rustc_hash::{FxBuildHasher, FxHashMap, FxHashSet};
use smallvec::SmallVec;

use crate::{hostname::HostPattern, route::Route};

/// Routes that came and went.
#[derive(Default)]
pub(super) struct Differences<'a> {
    removed: Vec<&'a Arc<Route>>,
    added: Vec<&'a Arc<Route>>,
}

/// Routes that came to and went from one hostname.
#[derive(Default)]
pub(super) struct Change<'a> {
    pub(super) removed: SmallVec<[&'a Arc<Route>; 1]>,
    pub(super) added: SmallVec<[&'a Arc<Route>; 1]>,
}

/// The list without repetitions.
pub(super) fn distinct(routes: &[Arc<Route>]) -> Vec<Arc<Route>> {
    let mut seen = set_for(routes.len());
    routes.iter().filter(|route| seen.insert(Arc::as_ptr(route))).cloned().collect()
}

fn set_for(len: usize) -> FxHashSet<*const Route> {
    FxHashSet::with_capacity_and_hasher(len, FxBuildHasher)
}

impl<'a> Differences<'a> {
    /// Both lists without repetitions. Order does not matter to the result; equal order makes it cheap to get.
    pub(super) fn between(before: &'a [Arc<Route>], after: &'a [Arc<Route>]) -> Self {
        let same = |(a, b): &(&Arc<Route>, &Arc<Route>)| Arc::ptr_eq(a, b);
        let head = before.iter().zip(after).take_while(same).count();
        let (before, after) = (&before[head..], &after[head..]);
        let tail = before.iter().rev().zip(after.iter().rev()).take_while(same).count();
        let (before, after) = (&before[..before.len() - tail], &after[..after.len() - tail]);
        Self { removed: missing(before, after), added: missing(after, before) }
    }

    /// The same by hostname.
    pub(super) fn by_hostname(&self) -> FxHashMap<&'a HostPattern, Change<'a>> {
        let mut hosts = FxHashMap::<_, Change<'a>>::default();
        for route in &self.removed {
            for hostname in &route.hostnames {
                hosts.entry(hostname).or_default().removed.push(*route);
            }
        }
        for route in &self.added {
            for hostname in &route.hostnames {
                hosts.entry(hostname).or_default().added.push(*route);
            }
        }
        hosts
    }
}

/// What is in `these` and not in `those`.
fn missing<'a>(these: &'a [Arc<Route>], those: &[Arc<Route>]) -> Vec<&'a Arc<Route>> {
    let mut others = set_for(those.len());
    others.extend(those.iter().map(Arc::as_ptr));
    these.iter().filter(|route| !others.contains(&Arc::as_ptr(route))).collect()
}

//! When an instance may take traffic: everything is read, published, bound, and plugins had their first verdict, or time enough for it.

use std::{fmt, net::SocketAddr};

use penstock_core::{ResourceRef, plugin::Phase};
use penstock_translate::{Facts, Needs};

use crate::event::SourceId;

/// Why an instance is not ready: what it waits for before it is so for the first time, or that its end has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unready {
    /// The loop has not begun.
    Starting,
    /// Sources that have not said everything yet.
    Sources(Vec<SourceId>),
    /// Secrets and ConfigMaps that are referred to, by kind and name.
    Objects(Vec<String>),
    /// Sockets that are neither bound nor refused yet.
    Sockets(Vec<SocketAddr>),
    /// Plugins of which no revision serves and the first one is still being validated.
    Plugins(Vec<ResourceRef>),
    /// Nothing: the instance is about to end.
    Draining,
}

impl fmt::Display for Unready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, things) = match self {
            Self::Starting => return f.write_str("starting"),
            Self::Draining => return f.write_str("draining"),
            Self::Sources(sources) => ("reading", join(sources)),
            Self::Objects(objects) => ("reading", join(objects)),
            Self::Sockets(addresses) => ("binding", join(addresses)),
            Self::Plugins(plugins) => ("validating", join(plugins)),
        };
        write!(f, "{what} {things}")
    }
}

fn join(things: &[impl fmt::Display]) -> String {
    things.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// What is still to wait for after a publication. A socket that cannot be bound is settled: waiting would not help, and status says so.
pub(crate) fn unready(needs: &Needs, facts: &Facts) -> Option<Unready> {
    let unsettled = needs.sockets.iter().filter(|address| !facts.sockets.contains_key(address));
    let sockets: Vec<_> = unsettled.copied().collect();
    if !sockets.is_empty() {
        return Some(Unready::Sockets(sockets));
    }
    let undecided = |plugin: &ResourceRef| match facts.plugins.get(plugin) {
        None => true,
        Some(state) => {
            let pending = state.candidate.as_ref().is_none_or(|candidate| !is_verdict(&candidate.phase));
            state.active.is_none() && (pending || state.last_good.recalling)
        }
    };
    let plugins = needs.plugins.iter().map(|spec| spec.plugin.clone()).filter(undecided);
    let plugins: Vec<_> = plugins.chain(recalled(needs, facts)).collect();
    (!plugins.is_empty()).then_some(Unready::Plugins(plugins))
}

/// Plugins that do not say what to run, and of which what is on record may serve in a moment.
fn recalled(needs: &Needs, facts: &Facts) -> impl Iterator<Item = ResourceRef> {
    let recorded = needs.recorded_plugins.iter().map(|recorded| recorded.spec.plugin.clone());
    recorded.filter(|plugin| needs.kept_plugins.contains(plugin)).filter(|plugin| {
        let state = facts.plugins.get(plugin);
        state.is_none_or(|state| state.active.is_none() && state.last_good.recalling)
    })
}

/// Plugins whose newest generation has no verdict yet, whatever serves meanwhile.
pub(crate) fn undecided(needs: &Needs, facts: &Facts) -> impl Iterator<Item = ResourceRef> {
    let plugins = needs.plugins.iter().map(|spec| spec.plugin.clone());
    let specified = plugins.filter(|plugin| match facts.plugins.get(plugin) {
        None => true,
        Some(state) if state.last_good.recalling && state.active.is_none() => true,
        Some(state) => match &state.candidate {
            None => state.active.is_none(),
            Some(candidate) => !is_verdict(&candidate.phase),
        },
    });
    specified.chain(recalled(needs, facts))
}

/// One that is ready and waits for others of its group has its verdict; those others are waited for on their own account.
fn is_verdict(phase: &Phase) -> bool {
    phase.rejection().is_some() || matches!(phase, Phase::Waiting(_))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use penstock_core::{
        Kind,
        fact::SocketState,
        plugin::{ActiveRevision, Candidate, Hooks, ModuleSource, PluginSpec, PluginState, Rejection, Revision},
    };

    use super::*;

    fn plugin() -> ResourceRef {
        ResourceRef::new(Kind::WasmPlugin, "default", "p")
    }

    fn needs() -> Needs {
        let spec = PluginSpec {
            plugin: plugin(),
            generation: 1,
            source: ModuleSource::Inline(Default::default()),
            config: Arc::default(),
            secrets: vec![],
            capabilities: Default::default(),
            limits: Default::default(),
            rollout: Default::default(),
        };
        Needs { plugins: vec![Arc::new(spec)], sockets: vec![([127, 0, 0, 1], 80).into()], ..Needs::default() }
    }

    /// What is waited for when the socket and the plugin are in these states.
    fn check(socket: Option<SocketState>, state: Option<PluginState>, expected: Option<&Unready>) {
        let mut facts = Facts::default();
        facts.sockets.extend(socket.map(|state| (([127, 0, 0, 1], 80).into(), state)));
        facts.plugins.extend(state.map(|state| (plugin(), Arc::new(state))));
        assert_eq!(unready(&needs(), &facts).as_ref(), expected);
    }

    fn state(serves: bool, candidate: Option<Phase>) -> PluginState {
        let active = ActiveRevision {
            revision: Revision::new(1, Arc::new(())),
            generation: 1,
            digest: "".into(),
            name: "".into(),
            version: "".into(),
            outbound: Arc::default(),
            redis: Arc::default(),
            hooks: Hooks::default(),
            artifact: None,
        };
        let candidate = candidate.map(|phase| Candidate { generation: 1, digest: None, artifact: None, phase });
        PluginState { active: serves.then_some(active), candidate, ..PluginState::default() }
    }

    #[test]
    fn sockets_are_waited_for_until_they_are_bound_or_refused() {
        let serving = || Some(state(true, None));
        check(None, serving(), Some(&Unready::Sockets(vec![([127, 0, 0, 1], 80).into()])));
        check(Some(SocketState::Bound), serving(), None);
        check(Some(SocketState::Failed("in use".into())), serving(), None);
    }

    #[test]
    fn plugins_are_waited_for_until_their_first_verdict() {
        let bound = || Some(SocketState::Bound);
        let waiting = Unready::Plugins(vec![plugin()]);
        check(bound(), None, Some(&waiting));
        check(bound(), Some(state(false, Some(Phase::Fetching))), Some(&waiting));
        check(bound(), Some(state(false, Some(Phase::Validating))), Some(&waiting));
        check(bound(), Some(state(true, Some(Phase::Validating))), None);
        let rejection = Rejection { reason: "InvalidModule", message: String::new() };
        let (attempts, pause) = (1, std::time::Duration::from_secs(1));
        check(
            bound(),
            Some(state(false, Some(Phase::Retrying { rejection: rejection.clone(), attempts, pause }))),
            None,
        );
        check(bound(), Some(state(false, Some(Phase::Rejected(rejection)))), None);
        check(bound(), Some(state(false, Some(Phase::Waiting(vec![])))), None);
    }

    #[test]
    fn what_is_on_its_way_is_undecided_even_while_something_serves() {
        let check = |state: Option<PluginState>, expected: bool| {
            let mut facts = Facts::default();
            facts.plugins.extend(state.map(|state| (plugin(), Arc::new(state))));
            assert_eq!(undecided(&needs(), &facts).count(), usize::from(expected));
        };
        check(None, true);
        check(Some(state(false, None)), true);
        check(Some(state(false, Some(Phase::Validating))), true);
        check(Some(state(true, Some(Phase::Validating))), true);
        check(Some(state(true, None)), false);
        check(Some(state(true, Some(Phase::Waiting(vec![])))), false);
        let rejection = Rejection { reason: "InvalidModule", message: String::new() };
        check(Some(state(false, Some(Phase::Rejected(rejection)))), false);
    }
}

//! WasmPlugins: what should run, where it applies, what its status says.

mod limits;
mod outbound;
mod pointer;
mod quantity;
mod rate_limits;
mod record;
mod redis;
mod rollout;
mod route;
mod source;
mod spec;
mod status;
mod targets;

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use penstock_core::{
    ResourceRef,
    backend::BackendKey,
    plugin::{
        BodyOverflow, Candidate, FailurePolicy, Hooks, OutboundBackend, Phase, PluginSpec, PolicyCall, RedisBucket,
        Revision, RouteCall,
    },
    reason::Reason,
    route::{Action, Failure, RuleId, WeightedBackend, WeightedBackends},
};

use self::record::Recorded;
pub use self::{
    limits::{InvalidCeiling, PluginCeilings},
    record::{installation, record_selector},
};
pub(crate) use self::{
    pointer::LONGEST as LONGEST_POINTER,
    record::upkeep as record_upkeep,
    rollout::{name_unspecified, named_group},
    route::{RouteShare, RouteUse},
    status::status,
    targets::{TARGETS, attach, may_name},
};
use crate::{
    Facts,
    endpoints::BackendRegistry,
    problem::{Conditions, Problem, sentences},
    resources::{ControllerRevision, WasmPlugin, wasm_plugin},
    view::{Changed, Inputs, Reads, View},
};

/// A plugin as rules see it: whether and how to call it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PluginModel {
    pub(crate) id: ResourceRef,
    pub(crate) priority: i32,
    failure_policy: FailurePolicy,
    body_overflow: BodyOverflow,
    active: Option<ActiveModel>,
    /// Nothing serves yet, and there is no verdict either.
    pending: bool,
}

/// What serves.
#[derive(Debug, Clone, PartialEq)]
struct ActiveModel {
    revision: Revision,
    hooks: Hooks,
    outbound: Arc<[OutboundBackend]>,
    redis: Arc<[RedisBucket]>,
}

impl PluginModel {
    /// Whether what serves is a route plugin. Which kind a plugin is, is known once it was examined.
    pub(crate) fn is_route(&self) -> bool {
        self.active.as_ref().is_some_and(|active| active.hooks.choose)
    }

    /// Whether nothing is known of it yet: what it has a say in stays as it was said before.
    pub(crate) fn is_pending(&self) -> bool {
        self.pending
    }

    /// Why requests are refused that it takes part in, if they are and it is not just on its way. In words that stay the same, whatever is tried:
    /// what is wrong with it is for its own status to say.
    fn refuses(&self) -> Option<Problem> {
        let refuses = self.active.is_none() && !self.pending && self.failure_policy == FailurePolicy::Closed;
        let message = || {
            format!(
                "requests that WasmPlugin `{}` takes part in get 503, because it has no revision that can run and its failurePolicy is Closed; \
                 its status says why",
                self.id.full_name()
            )
        };
        refuses.then(|| Problem::new("PluginUnavailable", message()))
    }
}

/// The condition of whoever has plugins that let no request through; none if it has none.
pub(crate) fn degraded<'a>(plugins: impl IntoIterator<Item = &'a Arc<PluginModel>>, conditions: &mut Conditions) {
    let mut problems: Vec<Problem> = plugins.into_iter().filter_map(|plugin| plugin.refuses()).collect();
    problems.sort_by(|one, other| one.message.cmp(&other.message));
    problems.dedup();
    if let Some(first) = problems.first() {
        conditions.yes("Degraded", first.reason, sentences(&problems));
    }
}

/// The plugins whose `targetRefs` name one resource.
pub(crate) type AttachedPlugins = Vec<AttachedPlugin>;

/// A plugin and the part of the target it applies to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AttachedPlugin {
    /// A listener or a rule; all of the target if none.
    pub(crate) section: Option<String>,
    pub(crate) plugin: Arc<PluginModel>,
}

/// What the resource alone says, with what it refers to.
#[derive(Debug)]
pub(crate) struct PluginEvaluation {
    /// What should run; none if the resource does not say it properly.
    pub(crate) spec: Option<Arc<PluginSpec>>,
    pub(crate) refused: Option<Problem>,
    pub(crate) unresolved: Option<Problem>,
    /// Backends that calls of the plugin cannot reach. It runs all the same.
    pub(crate) lost: Option<Problem>,
    /// What the cluster has on record.
    pub(crate) recorded: Recorded,
}

/// Evaluations by plugin, as long as what they read stays the same.
#[derive(Debug, Default)]
pub(crate) struct PluginCache(BTreeMap<ResourceRef, Entry>);

#[derive(Debug)]
struct Entry {
    object: Arc<WasmPlugin>,
    stamp: Option<Arc<str>>,
    /// On record, the newest first.
    records: Vec<Arc<ControllerRevision>>,
    reads: Reads,
    evaluation: Arc<PluginEvaluation>,
}

impl PluginCache {
    /// Evaluate all plugins.
    pub(crate) fn refresh(&mut self, inputs: &Inputs<'_>, changed: &Changed) {
        let mut previous = std::mem::take(&mut self.0);
        let all_records = record::by_owner(inputs.resources, inputs.settings);
        for (id, object) in inputs.resources.wasm_plugins.iter() {
            let uid = object.metadata.uid.as_deref().unwrap_or_default();
            let owner: record::Owner<'_> = (&id.namespace, &id.name, uid);
            let records = all_records.get(&owner).map(Vec::as_slice).unwrap_or_default();
            let stamp = source::file(object).and_then(|path| inputs.resources.facts.file(&path).cloned());
            let before = previous.remove(id);
            let entry = match before {
                Some(entry)
                    if Arc::ptr_eq(&entry.object, object)
                        && entry.stamp == stamp
                        && entry.has(records)
                        && entry.reads.hold(inputs, changed) =>
                {
                    entry
                }
                before => {
                    let view = inputs.view();
                    let mut evaluation = spec::evaluate(&view, id, object, stamp.as_ref());
                    let records: Vec<_> = records.iter().map(|record| Arc::clone(record)).collect();
                    evaluation.recorded = record::evaluate(&view, id, object, &records);
                    keep_equal(&mut evaluation, before.as_ref());
                    let (object, reads) = (object.clone(), view.into_reads());
                    Entry { object, stamp, records, reads, evaluation: Arc::new(evaluation) }
                }
            };
            self.0.insert(id.clone(), entry);
        }
    }

    /// Secrets and ConfigMaps that were looked for.
    pub(crate) fn contents(&self) -> impl Iterator<Item = &ResourceRef> {
        self.0.values().flat_map(|entry| entry.reads.contents())
    }

    /// Whether it is still open what will serve: it is fetched, validated, or looked for where it was on record.
    fn awaits(&self, facts: &Facts, id: &ResourceRef) -> bool {
        let evaluation = self.0.get(id).map(|entry| &entry.evaluation);
        let specified = evaluation.is_some_and(|it| it.spec.is_some());
        let recorded = evaluation.is_some_and(|it| it.recorded.revision.is_some());
        let Some(state) = facts.plugins.get(id) else { return specified || recorded };
        let undecided = |candidate: &Candidate| matches!(candidate.phase, Phase::Fetching | Phase::Validating);
        state.last_good.recalling || specified && state.candidate.as_ref().is_none_or(undecided)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ResourceRef, &Arc<WasmPlugin>, &Arc<PluginEvaluation>)> {
        self.0.iter().map(|(id, entry)| (id, &entry.object, &entry.evaluation))
    }
}

impl Entry {
    fn has(&self, records: &[&Arc<ControllerRevision>]) -> bool {
        self.records.len() == records.len() && self.records.iter().zip(records).all(|(own, it)| Arc::ptr_eq(own, it))
    }
}

fn keep_equal(evaluation: &mut PluginEvaluation, before: Option<&Entry>) {
    fn keep<T: PartialEq>(now: Option<&mut Arc<T>>, before: Option<&Arc<T>>) {
        if let (Some(now), Some(before)) = (now, before)
            && now == before
        {
            *now = Arc::clone(before);
        }
    }
    let before = before.map(|entry| &entry.evaluation);
    keep(evaluation.spec.as_mut(), before.and_then(|before| before.spec.as_ref()));
    keep(evaluation.recorded.revision.as_mut(), before.and_then(|before| before.recorded.revision.as_ref()));
}

/// All plugins as rules see them.
///
/// `backends` gets each backend that they may call. Answers what was read for it, too.
pub(crate) fn models(
    inputs: &Inputs<'_>,
    evaluations: &PluginCache,
    registry: &mut BackendRegistry,
    backends: &mut Vec<BackendKey>,
) -> (Vec<(ResourceRef, PluginModel)>, Reads) {
    // Few plugins call backends, so all of it is asked again each time.
    let view = inputs.view();
    let plugins = inputs.resources.wasm_plugins.iter();
    let model = |(id, object): (&ResourceRef, &Arc<WasmPlugin>)| {
        let pending = evaluations.awaits(view.facts(), id);
        (id.clone(), model(&view, id, object, pending, registry, backends))
    };
    let models = plugins.map(model).collect();
    (models, view.into_reads())
}

fn model(
    view: &View<'_>,
    id: &ResourceRef,
    object: &WasmPlugin,
    pending: bool,
    registry: &mut BackendRegistry,
    backends: &mut Vec<BackendKey>,
) -> PluginModel {
    let active = view.facts().plugins.get(id).and_then(|state| state.active.as_ref());
    PluginModel {
        id: id.clone(),
        priority: object.spec.priority.unwrap_or_default(),
        failure_policy: match object.spec.failure_policy {
            Some(wasm_plugin::FailurePolicy::Open) => FailurePolicy::Open,
            _ => FailurePolicy::Closed,
        },
        body_overflow: match object.spec.body_overflow {
            Some(wasm_plugin::BodyOverflow::Pass) => BodyOverflow::Pass,
            _ => BodyOverflow::Reject,
        },
        pending: active.is_none() && pending,
        active: active.map(|active| ActiveModel {
            revision: active.revision.clone(),
            hooks: active.hooks,
            outbound: outbound::resolve(view, id, &active.outbound, registry, backends),
            redis: redis::resolve(view, id, &active.redis, registry, backends),
        }),
    }
}

/// The plugins of a rule, ready to be called.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    /// In the order of their request hooks.
    pub(crate) policies: Vec<PolicyCall>,
    /// Of several route plugins the first.
    pub(crate) route: Option<RouteCall>,
}

/// The plugins of a rule in order.
///
/// Higher priority first. Among equals, attached plugins go by namespace and name, then those that the rule itself names, in its order. A
/// plugin that is there in several ways counts once.
pub(crate) fn ordered<'a>(
    attached: impl IntoIterator<Item = &'a Arc<PluginModel>>,
    named: impl IntoIterator<Item = &'a Arc<PluginModel>>,
) -> Vec<&'a Arc<PluginModel>> {
    let mut plugins: Vec<&Arc<PluginModel>> = attached.into_iter().collect();
    plugins.sort_by(|a, b| a.id.cmp(&b.id));
    plugins.extend(named);
    plugins.sort_by_key(|plugin| std::cmp::Reverse(plugin.priority)); // stable
    let mut seen = HashSet::with_capacity(plugins.len());
    plugins.retain(|plugin| seen.insert(&plugin.id));
    plugins
}

/// What a rule does that forwards to these backends: its plugins, and the action.
pub(crate) fn forward(id: &RuleId, plugins: &[&Arc<PluginModel>], backends: Vec<WeightedBackend>) -> (Chain, Action) {
    let all = WeightedBackends::all(backends);
    match chain(plugins, || all.identity(id)) {
        Ok(chain) if chain.route.is_some() => (chain, Action::Forward(all)),
        Ok(chain) => (chain, Action::Forward(WeightedBackends::new(all.backends))),
        Err(failure) => (Chain::default(), Action::Fail(failure)),
    }
}

/// The calls of a rule, from its plugins in order. `rule` answers what a route plugin is told of it.
pub(crate) fn chain(plugins: &[&Arc<PluginModel>], rule: impl Fn() -> u64) -> Result<Chain, Failure> {
    let mut chain = Chain::default();
    for plugin in plugins {
        let id = &plugin.id;
        match (&plugin.active, plugin.failure_policy) {
            (Some(ActiveModel { revision, hooks, outbound, redis }), failure_policy) => {
                let (plugin, revision, hooks, body_overflow) =
                    (id.clone(), revision.clone(), *hooks, plugin.body_overflow);
                let (outbound, redis) = (Arc::clone(outbound), Arc::clone(redis));
                if hooks.choose {
                    chain.route.get_or_insert_with(|| RouteCall {
                        plugin,
                        revision,
                        failure_policy,
                        rule: rule(),
                        outbound,
                        redis,
                    });
                } else {
                    chain.policies.push(PolicyCall {
                        plugin,
                        revision,
                        failure_policy,
                        body_overflow,
                        hooks,
                        outbound,
                        redis,
                    });
                }
            }
            (None, FailurePolicy::Open) => {}
            (None, FailurePolicy::Closed) => {
                let message = format!("{id} has no revision that can run, and its failurePolicy is Closed");
                return Err(Failure { reason: Reason::PluginUnavailable, message: message.into() });
            }
        }
    }
    chain.policies.retain(|call| call.hooks.any());
    Ok(chain)
}

//! The entry: passes over the world in order, with a memory of the last result.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use penstock_core::{
    ResourceRef, Snapshot,
    backend::BackendKey,
    plugin::{ModuleSource, PluginSpec},
};
use rustc_hash::FxHashSet;

use crate::{
    Change, Needs, Resources, Settings, Status, Statuses, Table, Translation,
    backend_tls::{self, PolicyCache, ServiceGateways, StatusInputs, TlsTargets},
    class,
    concern::Concern,
    endpoints::BackendRegistry,
    front,
    gateway::{self, GatewayModel, GatewayState, certificates::CertificateCache},
    ingress::{self, IngressCache, IngressTls, Place, PlaceModel},
    ownership::Ownership,
    plugin::{self, AttachedPlugins, PluginCache, PluginModel, RouteShare, RouteUse},
    route::{RouteCache, StatusChange},
    sockets::{Attached, SnapshotCache},
    upkeep::{self, Upkeep},
    view::{Changed, Inputs, Reads, Stamps},
};

/// Gateways whose traffic a plugin sees, by plugin.
type Ancestors = BTreeMap<ResourceRef, BTreeSet<ResourceRef>>;

/// Translates one state of the world after the other, and remembers what it may reuse.
#[derive(Debug, Default)]
pub struct Translator {
    settings: Option<Settings>,
    stamps: Option<Stamps>,
    certificates: CertificateCache,
    plugins: PluginCache,
    policies: PolicyCache,
    ingress: IngressCache,
    /// What was last required of plugins.
    required: Vec<Arc<PluginSpec>>,
    derived: Derived,
    routes: RouteCache,
    backends: BackendRegistry,
    /// Those that plugins may call.
    plugin_backends: Vec<BackendKey>,
    /// What was read to find them.
    plugin_reads: Reads,
    snapshot: SnapshotCache,
    statuses: Arc<Statuses>,
    /// Those in `statuses` that are no routes.
    not_routes: Vec<ResourceRef>,
    others: Arc<BTreeSet<ResourceRef>>,
    upkeep: Arc<Upkeep>,
    /// Secrets and ConfigMaps that are referred to.
    objects: Arc<BTreeSet<ResourceRef>>,
}

/// What routes see of Gateways and plugins.
#[derive(Debug, Default)]
struct Derived {
    gateways: Table<GatewayModel>,
    plugins: Table<PluginModel>,
    attached: Table<AttachedPlugins>,
    tls: TlsTargets,
    ingress_tls: Table<IngressTls>,
    ingress_place: Table<PlaceModel>,
}

impl Derived {
    fn inputs<'a>(&'a self, ownership: Ownership<'a>) -> Inputs<'a> {
        let Ownership { resources, settings } = ownership;
        Inputs {
            resources,
            settings,
            gateways: &self.gateways,
            plugins: &self.plugins,
            attached: &self.attached,
            service_tls: &self.tls.services,
            ingress_tls: &self.ingress_tls,
            ingress_place: &self.ingress_place,
        }
    }
}

impl Translator {
    /// Whether a change that is about to be applied can make a difference to the next translation. What belongs to other controllers cannot.
    pub fn concerns(&self, change: &Change, resources: &Resources, settings: &Settings) -> bool {
        let concern = Concern { ownership: Ownership { resources, settings }, gateways: &self.derived.gateways };
        self.settings.as_ref() != Some(settings) || concern.has(change)
    }

    /// Translate. The result equals that of [`translate`]; unchanged parts keep their allocation.
    pub fn translate(&mut self, resources: &Resources, settings: &Settings) -> Translation {
        if self.settings.as_ref() != Some(settings) {
            *self = Self { settings: Some(settings.clone()), ..Self::default() };
        }
        let ownership = Ownership { resources, settings };
        self.refresh_policies(ownership);
        self.ingress.refresh(ownership);
        self.certificates.begin();
        let (gateways, place) = gateway::evaluate(ownership, &mut self.certificates, self.ingress.demand());
        self.certificates.finish();
        self.refresh_gateways(ownership, &gateways, place.as_ref());
        let changes = self.refresh_routes(ownership);

        let attached = Attached::collect(&self.derived.gateways, &self.routes);
        let snapshot = self.snapshot.refresh(&gateways, &self.derived.gateways, place.as_ref(), &attached);
        let endpoints = self.backends.refresh(resources);
        let ancestors = self.ancestors();
        let others = self.other_statuses(ownership, &gateways, &attached, &ancestors);
        self.refresh_statuses(changes, others);
        let needs = self.needs(ownership, &snapshot, &ancestors);
        self.required.clone_from(&needs.plugins);
        let others = gateway::others(ownership);
        if *self.others != others {
            self.others = Arc::new(others);
        }
        let mut upkeep = upkeep::upkeep(ownership, &gateways);
        for part in self.plugins.iter().filter(|(id, ..)| ancestors.contains_key(id)) {
            plugin::record_upkeep(resources, settings, part, &mut upkeep);
        }
        if *self.upkeep != upkeep {
            self.upkeep = Arc::new(upkeep);
        }
        let (statuses, others, upkeep) = (self.statuses.clone(), self.others.clone(), self.upkeep.clone());
        Translation { snapshot, endpoints, statuses, awaiting: self.awaiting(), others, upkeep, needs }
    }

    /// What has a plugin of which nothing is known yet, by `targetRefs` or by a reference of its own.
    fn awaiting(&self) -> BTreeSet<ResourceRef> {
        if !self.derived.plugins.iter().any(|(_, plugin)| plugin.is_pending()) {
            return BTreeSet::new(); // mostly
        }
        let is_pending = |plugin: &PluginModel| plugin.is_pending();
        let targets = self.derived.attached.iter();
        let targets =
            targets.filter(|(_, attached)| attached.iter().any(|it| is_pending(&it.plugin))).map(|(id, _)| id);
        let routes = self.routes.iter();
        let routes = routes.filter(|(_, output)| output.plugins.iter().any(|(plugin, _)| is_pending(plugin)));
        targets.chain(routes.map(|(id, _)| id)).cloned().collect()
    }

    /// What routes and Ingresses see of where they are served.
    fn refresh_gateways(&mut self, ownership: Ownership<'_>, gateways: &[GatewayState<'_>], place: Option<&Place>) {
        let models = gateways.iter().map(|state| (state.id.clone(), state.model.clone()));
        let port = ownership.settings.ingress.http;
        let classes = self.ingress.demand().into_iter().flat_map(|demand| demand.models(port));
        self.derived.gateways.replace(models.chain(classes));
        self.derived.ingress_tls.replace(self.ingress.tls(place));
        let facts = &ownership.resources.facts;
        let place = place.map(|place| (ingress::place_id(), place.model(facts, front::shared(ownership))));
        self.derived.ingress_place.replace(place);
    }

    fn refresh_policies(&mut self, ownership: Ownership<'_>) {
        let inputs = self.derived.inputs(ownership);
        let changed = Changed::between(self.stamps, inputs.stamps());
        self.policies.refresh(&inputs, &changed);
        self.derived.tls.refresh(&self.policies);
        // Plugins call Services, so they read what the policies have just come to.
        let inputs = self.derived.inputs(ownership);
        let changed = Changed::between(self.stamps, inputs.stamps());
        self.plugins.refresh(&inputs, &changed);
        let mut backends = Vec::new();
        let inputs = self.derived.inputs(ownership);
        let (models, reads) = plugin::models(&inputs, &self.plugins, &mut self.backends, &mut backends);
        self.plugin_reads = reads;
        // In this order: what is still used is never let go in between.
        self.backends.retain(&backends);
        self.backends.release(&std::mem::replace(&mut self.plugin_backends, backends));
        self.derived.plugins.replace(models);
        self.derived.attached.replace(plugin::attach(ownership.resources, &self.derived.plugins));
    }

    fn refresh_routes(&mut self, ownership: Ownership<'_>) -> Vec<StatusChange> {
        let inputs = self.derived.inputs(ownership);
        let stamps = inputs.stamps();
        let changed = Changed::between(self.stamps.replace(stamps), stamps);
        self.routes.refresh(&inputs, &changed, &mut self.backends)
    }

    fn ancestors(&self) -> Ancestors {
        let mut ancestors = Ancestors::new();
        for (target, attached) in self.derived.attached.iter() {
            let Some(gateway) = self.derived.gateways.get(target) else { continue };
            let applies =
                |it: &&plugin::AttachedPlugin| gateway.has_section(it.section.as_deref()) && !it.plugin.is_route();
            for it in attached.iter().filter(applies) {
                ancestors.entry(it.plugin.id.clone()).or_default().insert(target.clone());
            }
        }
        let mut seen = FxHashSet::default();
        for (plugin, gateway) in self.routes.outputs().flat_map(|output| &output.plugins) {
            // Thousands of routes name few plugins: names are compared once for each pair.
            if seen.insert((Arc::as_ptr(plugin), Arc::as_ptr(gateway))) {
                ancestors.entry(plugin.id.clone()).or_default().insert(gateway.gateway.clone());
            }
        }
        ancestors
    }

    fn route_shares(&self) -> BTreeMap<&ResourceRef, RouteShare> {
        let mut shares = BTreeMap::<&ResourceRef, RouteShare>::new();
        for (plugin, lost) in self.routes.outputs().flat_map(|output| &output.route_plugins).flat_map(RouteUse::shares)
        {
            shares.entry(plugin).or_default().add(lost);
        }
        shares
    }

    /// Statuses of all that is no route: few enough to be made anew each time.
    fn other_statuses(
        &self,
        ownership: Ownership<'_>,
        gateways: &[GatewayState<'_>],
        attached: &Attached<'_>,
        ancestors: &Ancestors,
    ) -> Statuses {
        let Ownership { resources, settings } = ownership;
        let mut statuses = Statuses::new();
        class::translate(ownership, &mut statuses);
        for state in gateways {
            let counts = self.derived.gateways.get(&state.id).map(|model| attached.counts(model)).unwrap_or_default();
            let sets = || gateways.iter().filter(|set| set.is_attached_to(&state.id)).count();
            let status = match state.set {
                Some(_) => Status::ListenerSet(gateway::listener_set_status(ownership, state, counts)),
                None => {
                    let attached = self.derived.attached.get(&state.id).map(|it| it.as_slice()).unwrap_or_default();
                    Status::Gateway(gateway::status(ownership, state, counts, sets(), attached))
                }
            };
            statuses.insert(state.id.clone(), Arc::new(status));
        }
        gateway::lost(ownership, &mut statuses);
        self.policy_statuses(ownership, &mut statuses);
        let (none, unshared) = (BTreeSet::new(), RouteShare::default());
        let shares = self.route_shares();
        for (id, object, evaluation) in self.plugins.iter() {
            let gateways = ancestors.get(id).unwrap_or(&none);
            if !gateways.is_empty() || ownership.alone() {
                let status = plugin::status(
                    resources,
                    settings,
                    id,
                    object,
                    evaluation,
                    gateways,
                    shares.get(id).unwrap_or(&unshared),
                );
                statuses.insert(id.clone(), Arc::new(Status::WasmPlugin(status)));
            }
        }
        statuses
    }

    fn policy_statuses(&self, ownership: Ownership<'_>, statuses: &mut Statuses) {
        let Ownership { resources, settings } = ownership;
        let mut gateways = ServiceGateways::new();
        let mut seen = FxHashSet::default();
        for (service, gateway) in self.routes.outputs().flat_map(|output| &output.tls) {
            if seen.insert((Arc::as_ptr(service), Arc::as_ptr(gateway))) {
                backend_tls::note(&mut gateways, service, &gateway.gateway);
            }
        }
        let inputs = StatusInputs { resources, settings, targets: &self.derived.tls, gateways: &gateways };
        for (id, policy, evaluation) in self.policies.iter() {
            if let Some(status) = backend_tls::status(&inputs, id, policy, evaluation) {
                statuses.insert(id.clone(), Arc::new(Status::Policy(status)));
            }
        }
    }

    /// Bring the statuses up to date, keeping the allocation of what is equal.
    fn refresh_statuses(&mut self, routes: Vec<StatusChange>, others: Statuses) {
        let before = std::mem::replace(&mut self.not_routes, others.keys().cloned().collect());
        let gone = before.into_iter().filter(|id| !others.contains_key(id)).map(|id| (id, None)).collect::<Vec<_>>();
        let others = others.into_iter().map(|(id, status)| (id, Some(status)));
        for (id, status) in gone.into_iter().chain(routes).chain(others) {
            if self.statuses.get(&id) == status.as_ref() {
                continue; // whoever has the whole keeps it as long as nothing changes
            }
            let statuses = Arc::make_mut(&mut self.statuses);
            match status {
                None => drop(statuses.remove(&id)),
                Some(status) => drop(statuses.insert(id, status)),
            }
        }
    }

    fn needs(&mut self, ownership: Ownership<'_>, snapshot: &Snapshot, ancestors: &Ancestors) -> Needs {
        let mut needs = Needs::default();
        let mut unspecified = Vec::new();
        for (id, object, evaluation) in self.plugins.iter() {
            // Without a cluster every plugin is validated, used or not: that is what its author wants to know.
            if !ancestors.contains_key(id) && !ownership.alone() {
                continue;
            }
            needs.recorded_plugins.extend(evaluation.recorded.revision.clone());
            match &evaluation.spec {
                Some(spec) => {
                    if let ModuleSource::File { path, .. } = &spec.source {
                        needs.files.push(path.clone());
                    }
                    needs.plugins.push(spec.clone());
                }
                None => {
                    unspecified.extend(plugin::named_group(object).map(|group| (id.clone(), group)));
                    needs.kept_plugins.push(id.clone());
                }
            }
        }
        plugin::name_unspecified(&mut needs.plugins, &unspecified, &self.required);
        // What serves may be older than the resource, and need what that no longer names.
        let contents = self
            .plugins
            .contents()
            .chain(self.plugin_reads.contents())
            .chain(self.policies.contents())
            .chain(self.certificates.wanted());
        let contents =
            contents.chain(self.ingress.contents()).chain(self.routes.outputs().flat_map(|output| &output.contents));
        let objects: BTreeSet<ResourceRef> = contents.cloned().collect();
        if *self.objects != objects {
            self.objects = Arc::new(objects);
        }
        needs.objects = self.objects.clone();
        needs.files.sort_unstable();
        needs.files.dedup();
        needs.sockets = snapshot.sockets.iter().map(|socket| socket.address).collect();
        needs
    }
}

/// Translate without a memory.
pub fn translate(resources: &Resources, settings: &Settings) -> Translation {
    Translator::default().translate(resources, settings)
}

//! Reading with a memory: an evaluation notes which inputs it read, and is repeated only if one of them became another value.

use std::{any::Any, cell::RefCell, sync::Arc};

use penstock_core::ResourceRef;

use crate::{
    Facts, Resources, Settings, Stamp, Table,
    backend_tls::ServiceTls,
    gateway::GatewayModel,
    ingress::{IngressTls, PlaceModel},
    plugin::{AttachedPlugins, PluginModel},
    resources::{ConfigMap, Gateway, IngressClass, ListenerSet, Namespace, ReferenceGrant, Secret, Service, XBackend},
};

/// The tables that memorised evaluations read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Services,
    XBackends,
    Namespaces,
    Secrets,
    ConfigMaps,
    /// BackendTLSPolicies by Service.
    ServiceTls,
    ReferenceGrants,
    /// Every Gateway, also those of others.
    AllGateways,
    /// Every ListenerSet, also those of others.
    AllListenerSets,
    /// Ours, as routes see them.
    Gateways,
    Plugins,
    Attached,
    IngressClasses,
    /// What became of `spec.tls` of Ingresses.
    IngressTls,
    /// Where Ingresses are served.
    IngressPlace,
}

const SOURCES: usize = 15;

/// The present inputs of memorised evaluations.
#[derive(Clone, Copy)]
pub(crate) struct Inputs<'a> {
    pub(crate) resources: &'a Resources,
    pub(crate) settings: &'a Settings,
    pub(crate) gateways: &'a Table<GatewayModel>,
    pub(crate) plugins: &'a Table<PluginModel>,
    pub(crate) attached: &'a Table<AttachedPlugins>,
    pub(crate) service_tls: &'a Table<ServiceTls>,
    pub(crate) ingress_tls: &'a Table<IngressTls>,
    pub(crate) ingress_place: &'a Table<PlaceModel>,
}

/// One state of all sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamps([Stamp; SOURCES]);

impl<'a> Inputs<'a> {
    pub(crate) fn stamps(&self) -> Stamps {
        let resources = self.resources;
        Stamps([
            resources.services.stamp(),
            resources.x_backends.stamp(),
            resources.namespaces.stamp(),
            resources.secrets.stamp(),
            resources.config_maps.stamp(),
            self.service_tls.stamp(),
            resources.reference_grants.stamp(),
            resources.gateways.stamp(),
            resources.listener_sets.stamp(),
            self.gateways.stamp(),
            self.plugins.stamp(),
            self.attached.stamp(),
            resources.ingress_classes.stamp(),
            self.ingress_tls.stamp(),
            self.ingress_place.stamp(),
        ])
    }

    fn address(&self, source: Source, key: &ResourceRef) -> Option<*const ()> {
        fn of<T>(table: &Table<T>, key: &ResourceRef) -> Option<*const ()> {
            table.get(key).map(|value| Arc::as_ptr(value).cast())
        }
        let resources = self.resources;
        match source {
            Source::Services => of(&resources.services, key),
            Source::XBackends => of(&resources.x_backends, key),
            Source::Namespaces => of(&resources.namespaces, key),
            Source::Secrets => of(&resources.secrets, key),
            Source::ConfigMaps => of(&resources.config_maps, key),
            Source::ServiceTls => of(self.service_tls, key),
            Source::ReferenceGrants => of(&resources.reference_grants, key),
            Source::AllGateways => of(&resources.gateways, key),
            Source::AllListenerSets => of(&resources.listener_sets, key),
            Source::Gateways => of(self.gateways, key),
            Source::Plugins => of(self.plugins, key),
            Source::Attached => of(self.attached, key),
            Source::IngressClasses => of(&resources.ingress_classes, key),
            Source::IngressTls => of(self.ingress_tls, key),
            Source::IngressPlace => of(self.ingress_place, key),
        }
    }

    pub(crate) fn view(&'a self) -> View<'a> {
        View { inputs: self, reads: RefCell::default() }
    }
}

/// Which sources differ from those of the last translation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Changed([bool; SOURCES]);

impl Changed {
    pub(crate) fn between(before: Option<Stamps>, now: Stamps) -> Self {
        let Some(before) = before else { return Self([true; SOURCES]) };
        let mut changed = [false; SOURCES];
        for ((changed, before), now) in changed.iter_mut().zip(before.0).zip(now.0) {
            *changed = before != now;
        }
        Self(changed)
    }

    pub(crate) fn any(&self) -> bool {
        self.0.contains(&true)
    }

    fn has(&self, source: Source) -> bool {
        self.0[source as usize]
    }
}

/// What an evaluation read.
#[derive(Debug, Default)]
pub(crate) struct Reads(Vec<Read>);

#[derive(Debug)]
enum Read {
    /// One entry, or that there is none. Holding the value keeps its address from being used again.
    One(Source, ResourceRef, Option<Arc<dyn Any + Send + Sync>>),
    /// The table as a whole.
    All(Source),
}

impl Reads {
    /// Secrets and ConfigMaps that were looked for.
    pub(crate) fn contents(&self) -> impl Iterator<Item = &ResourceRef> {
        self.0.iter().filter_map(|read| match read {
            Read::One(Source::Secrets | Source::ConfigMaps, key, _) => Some(key),
            Read::One(..) | Read::All(_) => None,
        })
    }

    /// Whether all of it is still the same.
    pub(crate) fn hold(&self, inputs: &Inputs<'_>, changed: &Changed) -> bool {
        !changed.any()
            || self.0.iter().all(|read| match read {
                Read::All(source) => !changed.has(*source),
                Read::One(source, _, _) if !changed.has(*source) => true,
                Read::One(source, key, seen) => {
                    let seen = seen.as_ref().map(|value| Arc::as_ptr(value).cast());
                    inputs.address(*source, key) == seen
                }
            })
    }
}

/// The inputs, noting what is read.
pub(crate) struct View<'a> {
    inputs: &'a Inputs<'a>,
    reads: RefCell<Reads>,
}

impl<'a> View<'a> {
    fn one<T: Any + Send + Sync>(&self, source: Source, table: &'a Table<T>, key: &ResourceRef) -> Option<&'a Arc<T>> {
        let value = table.get(key);
        let seen = value.map(|value| value.clone() as Arc<dyn Any + Send + Sync>);
        self.reads.borrow_mut().0.push(Read::One(source, key.clone(), seen));
        value
    }

    fn all<T>(&self, source: Source, table: &'a Table<T>) -> &'a Table<T> {
        self.reads.borrow_mut().0.push(Read::All(source));
        table
    }

    /// Not remembered: who reads facts is evaluated each time.
    pub(crate) fn facts(&self) -> &'a Facts {
        &self.inputs.resources.facts
    }

    /// Constant between translations that share a memory.
    pub(crate) fn settings(&self) -> &'a Settings {
        self.inputs.settings
    }

    pub(crate) fn service(&self, key: &ResourceRef) -> Option<&'a Arc<Service>> {
        self.one(Source::Services, &self.inputs.resources.services, key)
    }

    pub(crate) fn services(&self) -> &'a Table<Service> {
        self.all(Source::Services, &self.inputs.resources.services)
    }

    pub(crate) fn x_backend(&self, key: &ResourceRef) -> Option<&'a Arc<XBackend>> {
        self.one(Source::XBackends, &self.inputs.resources.x_backends, key)
    }

    pub(crate) fn x_backends(&self) -> &'a Table<XBackend> {
        self.all(Source::XBackends, &self.inputs.resources.x_backends)
    }

    pub(crate) fn namespace(&self, key: &ResourceRef) -> Option<&'a Arc<Namespace>> {
        self.one(Source::Namespaces, &self.inputs.resources.namespaces, key)
    }

    pub(crate) fn secret(&self, key: &ResourceRef) -> Option<&'a Arc<Secret>> {
        self.one(Source::Secrets, &self.inputs.resources.secrets, key)
    }

    pub(crate) fn secrets(&self) -> &'a Table<Secret> {
        self.all(Source::Secrets, &self.inputs.resources.secrets)
    }

    pub(crate) fn config_map(&self, key: &ResourceRef) -> Option<&'a Arc<ConfigMap>> {
        self.one(Source::ConfigMaps, &self.inputs.resources.config_maps, key)
    }

    pub(crate) fn config_maps(&self) -> &'a Table<ConfigMap> {
        self.all(Source::ConfigMaps, &self.inputs.resources.config_maps)
    }

    pub(crate) fn service_tls(&self, key: &ResourceRef) -> Option<&'a Arc<ServiceTls>> {
        self.one(Source::ServiceTls, self.inputs.service_tls, key)
    }

    pub(crate) fn reference_grants(&self) -> &'a Table<ReferenceGrant> {
        self.all(Source::ReferenceGrants, &self.inputs.resources.reference_grants)
    }

    pub(crate) fn all_gateways(&self) -> &'a Table<Gateway> {
        self.all(Source::AllGateways, &self.inputs.resources.gateways)
    }

    pub(crate) fn all_listener_sets(&self) -> &'a Table<ListenerSet> {
        self.all(Source::AllListenerSets, &self.inputs.resources.listener_sets)
    }

    pub(crate) fn gateway(&self, key: &ResourceRef) -> Option<&'a Arc<GatewayModel>> {
        self.one(Source::Gateways, self.inputs.gateways, key)
    }

    pub(crate) fn plugin(&self, key: &ResourceRef) -> Option<&'a Arc<PluginModel>> {
        self.one(Source::Plugins, self.inputs.plugins, key)
    }

    pub(crate) fn plugins(&self) -> &'a Table<PluginModel> {
        self.all(Source::Plugins, self.inputs.plugins)
    }

    pub(crate) fn attached(&self, key: &ResourceRef) -> Option<&'a Arc<AttachedPlugins>> {
        self.one(Source::Attached, self.inputs.attached, key)
    }

    pub(crate) fn ingress_classes(&self) -> &'a Table<IngressClass> {
        self.all(Source::IngressClasses, &self.inputs.resources.ingress_classes)
    }

    pub(crate) fn ingress_tls(&self, key: &ResourceRef) -> Option<&'a Arc<IngressTls>> {
        self.one(Source::IngressTls, self.inputs.ingress_tls, key)
    }

    pub(crate) fn ingress_place(&self, key: &ResourceRef) -> Option<&'a Arc<PlaceModel>> {
        self.one(Source::IngressPlace, self.inputs.ingress_place, key)
    }

    pub(crate) fn into_reads(self) -> Reads {
        self.reads.into_inner()
    }
}

//! What all Ingresses together ask for: classes in use, and the hosts of `spec.tls` with their certificates.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::Arc,
};

use k8s_openapi::api::networking::v1::IngressTLS;
use penstock_core::{Kind, ResourceRef, hostname::HostPattern, listener::Certificate};

use super::{
    Place,
    class::{Owner, WantedClass, created, owner},
    class_id, place_id,
};
use crate::{
    Stamp,
    gateway::{AllowedNamespaces, GatewayModel, ListenerModel, addresses::Wish, certificates::CertificateCache},
    nearest::did_you_mean,
    ownership::Ownership,
    problem::Problem,
    resources::Ingress,
};

/// The demand, as long as what it follows from stays the same.
#[derive(Debug, Default)]
pub(crate) struct IngressCache {
    stamps: Option<[Stamp; 3]>,
    certificates: CertificateCache,
    demand: Option<Arc<Demand>>,
}

/// What our Ingresses need; there is none if there are no Ingresses.
#[derive(Debug)]
pub(crate) struct Demand {
    id: ResourceRef,
    /// The oldest class in use; 0 where the source has no time.
    pub(crate) created: i64,
    /// Each class in use.
    classes: BTreeSet<Arc<str>>,
    pub(super) hosts: BTreeMap<HostPattern, TlsHost>,
    /// By Ingress, where there is something to say.
    tls: BTreeMap<ResourceRef, IngressTls>,
}

/// A host of `spec.tls`.
#[derive(Debug, Clone)]
pub(crate) struct TlsHost {
    /// None if its Secret cannot be used: then nobody else's certificate stands in for it.
    pub(crate) certificate: Option<Arc<Certificate>>,
    /// The Ingress that has it, and where in it.
    pub(super) ingress: ResourceRef,
    pub(super) at: String,
}

/// What became of the `spec.tls` of one Ingress.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct IngressTls {
    /// Secrets that cannot be used.
    pub(super) unresolved: Vec<Problem>,
    /// Hosts that somebody else has.
    pub(super) conflicts: Vec<Problem>,
}

impl IngressCache {
    /// Find out what is needed now.
    pub(crate) fn refresh(&mut self, ownership: Ownership<'_>) {
        let resources = ownership.resources;
        let stamps = [resources.ingresses.stamp(), resources.ingress_classes.stamp(), resources.secrets.stamp()];
        if self.stamps.replace(stamps) == Some(stamps) {
            return;
        }
        self.certificates.begin();
        let mut demand = Demand {
            id: place_id(),
            created: i64::MAX,
            classes: BTreeSet::new(),
            hosts: BTreeMap::new(),
            tls: BTreeMap::new(),
        };
        let mut ours: Vec<(&ResourceRef, &Arc<Ingress>)> =
            resources.ingresses.iter().filter(|(_, ingress)| demand.counts(ownership, ingress)).collect();
        ours.sort_by(|(a, one), (b, other)| {
            created(&one.metadata).cmp(&created(&other.metadata)).then_with(|| a.by_full_name(b))
        });
        for (id, ingress) in &ours {
            let tls = ingress.spec.iter().flat_map(|spec| spec.tls.iter().flatten());
            for (index, tls) in tls.enumerate() {
                demand.read(ownership, &mut self.certificates, id, index, tls);
            }
        }
        self.certificates.finish();
        self.demand = (!ours.is_empty()).then(|| Arc::new(demand));
    }

    /// What is needed, if there is any Ingress of ours.
    pub(crate) fn demand(&self) -> Option<&Arc<Demand>> {
        self.demand.as_ref()
    }

    /// Secrets that are referred to.
    pub(crate) fn contents(&self) -> impl Iterator<Item = &ResourceRef> {
        self.certificates.wanted()
    }

    /// What became of `spec.tls` of those Ingresses about which there is something to say, once Gateways have their hosts.
    pub(crate) fn tls(&self, place: Option<&Place>) -> BTreeMap<ResourceRef, IngressTls> {
        let mut all = self.demand.as_ref().map(|demand| demand.tls.clone()).unwrap_or_default();
        for (ingress, problem) in place.iter().flat_map(|place| place.lost()) {
            all.entry(ingress.clone()).or_default().conflicts.push(problem);
        }
        all
    }
}

impl Demand {
    /// Where addresses come from, as for a Gateway that asks for none in particular.
    pub(crate) fn wish(&self) -> Wish<'_> {
        Wish { id: &self.id, addresses: &[] }
    }

    /// The classes in use as Gateways, each with one listener for all hosts.
    pub(crate) fn models(&self, port: u16) -> impl Iterator<Item = (ResourceRef, GatewayModel)> {
        self.classes.iter().map(move |name| {
            let id = class_id(name);
            // No route names it as its parent; Ingresses are put here by their class.
            let everything = ListenerModel {
                name: "all".into(),
                port: i32::from(port),
                hostname: Some(HostPattern::Any),
                kinds: Vec::new(),
                namespaces: AllowedNamespaces::Nobody,
            };
            (id.clone(), GatewayModel { id: place_id(), gateway: id, listeners: vec![everything] })
        })
    }

    /// Whether the Ingress is ours. If so, its class is in use.
    fn counts(&mut self, ownership: Ownership<'_>, ingress: &Ingress) -> bool {
        let Ownership { resources, settings } = ownership;
        let Owner::Ours(name) = owner(&resources.ingress_classes, settings, &WantedClass::of(ingress)) else {
            return false;
        };
        let class = resources.ingress_classes.get(&class_id(&name));
        self.created = self.created.min(class.map_or(0, |class| created(&class.metadata)));
        self.classes.insert(name);
        true
    }

    /// One entry of `spec.tls`. Of two Ingresses that name the same host the older one, which comes first here, has it.
    fn read(
        &mut self,
        ownership: Ownership<'_>,
        cache: &mut CertificateCache,
        id: &ResourceRef,
        index: usize,
        tls: &IngressTLS,
    ) {
        let at = format!("spec.tls[{index}]");
        let certificate = certificate(ownership, cache, id, &at, tls);
        let mut outcome = IngressTls::default();
        outcome.unresolved.extend(certificate.as_ref().err().cloned());
        let certificate = certificate.ok();
        let hosts = tls.hosts.as_deref().unwrap_or_default();
        // Without hosts the certificate is for whatever host has no other one.
        let everything = hosts.is_empty().then_some(String::new());
        for (position, text) in hosts.iter().chain(&everything).enumerate() {
            let at = if hosts.is_empty() { at.clone() } else { format!("{at}.hosts[{position}]") };
            let hostname = match HostPattern::parse(text) {
                Ok(hostname) => hostname,
                Err(error) => {
                    outcome.unresolved.push(Problem::unsupported(format!("{at}: `{text}` {error}")));
                    continue;
                }
            };
            match self.hosts.entry(hostname) {
                Entry::Vacant(free) => {
                    free.insert(TlsHost { certificate: certificate.clone(), ingress: id.clone(), at });
                }
                Entry::Occupied(taken) if taken.get().is_as_good(id, certificate.as_ref()) => {}
                Entry::Occupied(taken) => {
                    let (hostname, winner) = (taken.key(), taken.get().ingress.full_name());
                    let message = format!(
                        "{at}: the certificate for `{hostname}` is that of Ingress `{winner}`, which is older, or first by name"
                    );
                    outcome.conflicts.push(Problem::new("HostnameConflict", message));
                }
            }
        }
        if outcome != IngressTls::default() {
            let there = self.tls.entry(id.clone()).or_default();
            there.unresolved.extend(outcome.unresolved);
            there.conflicts.extend(outcome.conflicts);
        }
    }
}

impl TlsHost {
    /// Whether another entry loses nothing by coming second: the same Ingress says it twice, or it has the same certificate.
    fn is_as_good(&self, ingress: &ResourceRef, certificate: Option<&Arc<Certificate>>) -> bool {
        self.ingress == *ingress
            || match (&self.certificate, certificate) {
                (Some(own), Some(other)) => own.chain == other.chain,
                // Its own status says that the Secret cannot be used.
                (_, None) => true,
                (None, Some(_)) => false,
            }
    }
}

fn certificate(
    ownership: Ownership<'_>,
    cache: &mut CertificateCache,
    id: &ResourceRef,
    at: &str,
    tls: &IngressTLS,
) -> Result<Arc<Certificate>, Problem> {
    let invalid = |message: String| Problem::new("InvalidCertificateRef", format!("{at}.secretName: {message}"));
    let Some(name) = tls.secret_name.as_deref().filter(|name| !name.is_empty()) else {
        return Err(invalid("is required; there is no certificate that could stand in for it".to_owned()));
    };
    let key = ResourceRef::new(Kind::Secret, id.namespace.clone(), name);
    cache.want(&key);
    let secrets = &ownership.resources.secrets;
    let Some(secret) = secrets.get(&key) else {
        let hint = did_you_mean(name, secrets.names_in(Kind::Secret, &key.namespace));
        return Err(invalid(format!("there is no Secret `{}`{hint}", key.full_name())));
    };
    cache.get(&key, secret).map_err(|error| invalid(format!("Secret `{}` {error}", key.full_name())))
}

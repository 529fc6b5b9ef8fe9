//! BackendTLSPolicy: which Services are reached over TLS, how their certificates are verified, and what the policies' statuses say.
//!
//! A Service for which somebody demands TLS never gets a request in clear: a policy that cannot work makes its requests fail.

mod status;
mod validation;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use penstock_core::{Kind, ResourceRef, backend::BackendTls};

pub(crate) use self::{
    status::{StatusInputs, status},
    validation::{InvalidValidation, read},
};
use crate::{
    Table,
    problem::Problem,
    resources::{BackendTLSPolicy, common::PolicyTargetReference},
    view::{Changed, Inputs, Reads, View},
};

/// One policy by itself.
#[derive(Debug)]
pub(crate) struct PolicyEvaluation {
    /// What is done towards its targets; requests fail if it cannot be done.
    tls: Result<Arc<BackendTls>, Problem>,
    /// It cannot be accepted.
    refused: Option<Problem>,
    /// A reference leads nowhere.
    unresolved: Option<Problem>,
}

/// Evaluations by policy, as long as what they read stays the same.
#[derive(Debug, Default)]
pub(crate) struct PolicyCache(BTreeMap<ResourceRef, Entry>);

#[derive(Debug)]
struct Entry {
    object: Arc<BackendTLSPolicy>,
    reads: Reads,
    evaluation: PolicyEvaluation,
}

impl PolicyCache {
    /// Evaluate all policies.
    pub(crate) fn refresh(&mut self, inputs: &Inputs<'_>, changed: &Changed) {
        let mut previous = std::mem::take(&mut self.0);
        for (id, object) in inputs.resources.backend_tls_policies.iter() {
            let entry = match previous.remove(id) {
                Some(entry) if Arc::ptr_eq(&entry.object, object) && entry.reads.hold(inputs, changed) => entry,
                _ => {
                    let view = inputs.view();
                    let evaluation = evaluate(&view, id, object);
                    Entry { object: object.clone(), reads: view.into_reads(), evaluation }
                }
            };
            self.0.insert(id.clone(), entry);
        }
    }

    /// ConfigMaps that were looked for.
    pub(crate) fn contents(&self) -> impl Iterator<Item = &ResourceRef> {
        self.0.values().flat_map(|entry| entry.reads.contents())
    }

    /// Policies with their evaluations, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ResourceRef, &BackendTLSPolicy, &PolicyEvaluation)> {
        self.0.iter().map(|(id, entry)| (id, &*entry.object, &entry.evaluation))
    }
}

fn evaluate(view: &View<'_>, id: &ResourceRef, policy: &BackendTLSPolicy) -> PolicyEvaluation {
    let validation = read(view, &id.namespace, &policy.spec.validation, "spec.validation");
    match validation {
        Ok(read) => PolicyEvaluation { tls: Ok(Arc::new(read.tls)), refused: None, unresolved: read.unresolved },
        Err(InvalidValidation::Field(message)) => {
            let problem = Problem::invalid(message);
            PolicyEvaluation { tls: Err(problem.clone()), refused: Some(problem), unresolved: None }
        }
        Err(InvalidValidation::NoAuthority(problem)) => {
            let refused = Problem::new("NoValidCACertificate", problem.message.clone());
            PolicyEvaluation { tls: Err(refused.clone()), refused: Some(refused), unresolved: Some(problem) }
        }
    }
}

/// The policies of one Service, as routes see them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ServiceTls {
    service: ResourceRef,
    /// By the name of the port; none for all ports that have no policy of their own.
    sections: BTreeMap<Option<String>, PortTls>,
}

/// The policy of a port.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PortTls {
    pub(crate) policy: ResourceRef,
    pub(crate) tls: Result<Arc<BackendTls>, Problem>,
}

impl ServiceTls {
    /// The policy that applies to a port. One for the very port goes before one for the whole Service.
    pub(crate) fn port(&self, name: Option<&str>) -> Option<&PortTls> {
        let own = name.and_then(|name| self.sections.get(&Some(name.to_owned())));
        own.or_else(|| self.sections.get(&None))
    }
}

/// Who decides over which Service.
#[derive(Debug, Default)]
pub(crate) struct TlsTargets {
    /// Services with policies.
    pub(crate) services: Table<ServiceTls>,
}

impl TlsTargets {
    /// Bring up to date. Of several policies for one target the oldest applies, then the first by `namespace/name`.
    pub(crate) fn refresh(&mut self, policies: &PolicyCache) {
        let mut by_age: Vec<_> = policies.iter().collect();
        by_age.sort_by(|(a, one, _), (b, other, _)| created(one).cmp(&created(other)).then_with(|| a.by_full_name(b)));
        let mut services = BTreeMap::<ResourceRef, ServiceTls>::new();
        for (id, policy, evaluation) in by_age {
            for target in policy.spec.target_refs.iter().filter(|target| is_service(target)) {
                let service = service_of(id, target);
                let entry = services.entry(service.clone());
                let sections = &mut entry.or_insert_with(|| ServiceTls { service, sections: BTreeMap::new() }).sections;
                let port = || PortTls { policy: id.clone(), tls: evaluation.tls.clone() };
                sections.entry(target.section_name.clone()).or_insert_with(port);
            }
        }
        self.services.replace(services);
    }

    /// Who applies to the target in place of this policy.
    fn winner(&self, policy: &ResourceRef, target: &PolicyTargetReference) -> Option<&ResourceRef> {
        let service = self.services.get(&service_of(policy, target))?;
        let winner = &service.sections.get(&target.section_name)?.policy;
        (winner != policy).then_some(winner)
    }
}

/// Gateways that send requests to a Service, by Service.
pub(crate) type ServiceGateways = BTreeMap<ResourceRef, BTreeSet<ResourceRef>>;

/// Note that a Gateway sends requests to a Service.
pub(crate) fn note(gateways: &mut ServiceGateways, service: &ServiceTls, gateway: &ResourceRef) {
    gateways.entry(service.service.clone()).or_default().insert(gateway.clone());
}

fn is_service(target: &PolicyTargetReference) -> bool {
    target.group.is_empty() && target.kind == "Service"
}

fn service_of(policy: &ResourceRef, target: &PolicyTargetReference) -> ResourceRef {
    ResourceRef::new(Kind::Service, policy.namespace.clone(), target.name.as_str())
}

/// Seconds since the epoch; 0 where the source has no time.
fn created(policy: &BackendTLSPolicy) -> i64 {
    policy.metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second())
}

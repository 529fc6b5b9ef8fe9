//! The status of an Ingress: the addresses for whoever makes DNS records of them, and conditions, which the resource itself has no place for.

use penstock_core::hostname::HostPattern;

use super::{IngressDraft, IngressTls, PlaceModel, place_id};
use crate::{
    problem::{Conditions, Problem, sentences},
    status::{IngressStatus, LoadBalancer},
    view::View,
};

/// What became of the rules of an Ingress.
pub(super) struct Evaluation<'a> {
    pub(super) class: &'a str,
    pub(super) draft: &'a IngressDraft,
    /// Why rules answer in place of their backends, each reason once.
    pub(super) failed: Vec<Problem>,
    pub(super) unresolved: Vec<Problem>,
    /// Whether any rule forwards. One whose Service is missing does too: no DNS record should go because a Service is replaced.
    pub(super) works: bool,
}

/// Nobody serves it, and without a cluster nobody else could.
pub(super) fn lost(draft: &IngressDraft, problem: &Problem) -> IngressStatus {
    let mut conditions = Conditions::new(draft.generation);
    conditions.no("Accepted", problem);
    IngressStatus { conditions: conditions.finish(), load_balancer: LoadBalancer::default() }
}

impl Evaluation<'_> {
    pub(super) fn status(&self, view: &View<'_>) -> IngressStatus {
        let nothing = IngressTls::default();
        let tls = view.ingress_tls(&self.draft.id).map_or(&nothing, |tls| &**tls);
        let place = view.ingress_place(&place_id());
        let mut conditions = Conditions::new(self.draft.generation);
        self.accepted(&mut conditions, view);
        let unresolved: Vec<&Problem> = self.unresolved.iter().chain(&tls.unresolved).collect();
        let first = unresolved.first().map(|first| Problem::new(first.reason, sentences(unresolved.iter().copied())));
        conditions.holds_unless("ResolvedRefs", first.as_ref(), "all references are resolved");
        if let Some(place) = place {
            match self.programmed(place) {
                Ok(()) => conditions.yes("Programmed", "Programmed", "takes requests"),
                Err(problem) => conditions.no("Programmed", &problem),
            }
        }
        let elsewhere = place.map(|place| self.elsewhere(place)).unwrap_or_default();
        let conflicts: Vec<&Problem> = tls.conflicts.iter().chain(&elsewhere).collect();
        if let Some(first) = conflicts.first() {
            conditions.yes("Conflicted", first.reason, sentences(conflicts.iter().copied()));
        }
        let problems = self.problems();
        if self.works && !problems.is_empty() {
            conditions.yes("PartiallyInvalid", problems[0].reason, sentences(problems));
        }
        let reachable = place.filter(|place| self.works && (place.http.is_ok() || place.https.is_ok()));
        let addresses = reachable.and_then(|place| place.addresses.as_ref().ok());
        let load_balancer = LoadBalancer { ingress: addresses.cloned().unwrap_or_default() };
        IngressStatus { conditions: conditions.finish(), load_balancer }
    }

    /// What is wrong with the Ingress itself, and with its plugins.
    fn problems(&self) -> Vec<&Problem> {
        let failed = self.failed.iter().filter(|problem| !self.draft.problems.contains(problem));
        self.draft.problems.iter().chain(failed).collect()
    }

    fn accepted(&self, conditions: &mut Conditions, view: &View<'_>) {
        let problems = self.problems();
        if self.works {
            let class = view.ingress_classes().get(&super::class_id(self.class));
            let parameters = class.and_then(|class| class.spec.as_ref()?.parameters.as_ref());
            let note = match parameters {
                Some(_) => "; spec.parameters of the class have no meaning here and are ignored",
                None => "",
            };
            conditions.yes("Accepted", "Accepted", format!("served by class `{}`{note}", self.class));
        } else {
            let reason = problems.first().map_or("UnsupportedValue", |first| first.reason);
            let message = format!("no rule can take requests: {}", sentences(problems));
            conditions.no("Accepted", &Problem::new(reason, message));
        }
    }

    fn programmed(&self, place: &PlaceModel) -> Result<(), Problem> {
        if !self.works {
            return Err(Problem::invalid("no rule can take requests"));
        }
        place.http.clone()?;
        if self.draft.tls {
            place.https.clone()?;
        }
        place.addresses.as_ref().map(drop).map_err(Clone::clone)
    }

    /// Hosts whose requests in clear go to a Gateway with a more specific hostname than that of the place.
    fn elsewhere(&self, place: &PlaceModel) -> Vec<Problem> {
        let hosts = self.draft.hosts.iter().filter(|host| host.hostname != HostPattern::Any);
        let theirs = hosts.filter_map(|host| {
            let (pattern, holder) =
                place.elsewhere.iter().find(|(theirs, _)| theirs.intersect(&host.hostname) == Some(&host.hostname))?;
            let message = format!(
                "{}: requests for `{}` go to {holder}, which has the hostname `{pattern}` on this port",
                host.at, host.hostname
            );
            Some(Problem::new("HostnameConflict", message))
        });
        theirs.collect()
    }
}

//! Who writes: of several instances the one that holds the Lease.
//!
//! Everyone serves; only the leader writes. An instance that cannot renew gives up leading before another one may take over, by its own clock:
//! clocks of different machines are never compared.

use std::time::Duration;

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client, api::PostParams};
use tokio::{sync::watch, time::Instant};

use crate::{metrics::ClusterMetrics, status::Clock, writer::FIELD_MANAGER};

/// A lease that was not renewed for so long is free.
const DURATION: Duration = Duration::from_secs(15);

/// Who could not renew for so long stops writing: well before others may begin.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often the leader renews and others look.
const PERIOD: Duration = Duration::from_secs(3);

/// Takes part in the election.
pub(crate) struct Candidate {
    client: Client,
    namespace: String,
    name: String,
    identity: String,
    clock: Clock,
    leading: watch::Sender<bool>,
    metrics: ClusterMetrics,
    /// The lease as it was last seen to change, and when that was.
    observed: Option<(LeaseSpec, Instant)>,
    renewed: Option<Instant>,
}

/// What a look at the lease leads to.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    Create,
    Take,
    Renew,
    Wait,
}

impl Candidate {
    pub(crate) fn new(
        client: Client,
        (namespace, name): (String, String),
        identity: String,
        clock: Clock,
        leading: watch::Sender<bool>,
        metrics: ClusterMetrics,
    ) -> Self {
        Self { client, namespace, name, identity, clock, leading, metrics, observed: None, renewed: None }
    }

    /// Take part until the task ends, or `end` says that it should; then the lease is given back.
    pub(crate) async fn run(mut self, mut end: watch::Receiver<bool>) {
        let api: Api<Lease> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut turns = tokio::time::interval(PERIOD);
        loop {
            tokio::select! {
                _ = turns.tick() => {}
                _ = end.wait_for(|end| *end) => return self.resign(&api).await,
            }
            match tokio::time::timeout(PERIOD, self.turn(&api)).await {
                Ok(Ok(leading)) => self.set_leading(leading),
                Ok(Err(kube::Error::Api(status))) if status.is_conflict() => {} // somebody was quicker; the next turn tells who
                Ok(Err(error)) => self.lost_sight(&error.to_string()),
                Err(_) => self.lost_sight("the API server does not answer"),
            }
        }
    }

    async fn turn(&mut self, api: &Api<Lease>) -> Result<bool, kube::Error> {
        let lease = api.get_opt(&self.name).await?;
        let now = Instant::now();
        let spec = lease.as_ref().map(|lease| lease.spec.clone().unwrap_or_default());
        self.observe(spec.as_ref(), now);
        let written = match (decide(self.observed.as_ref(), &self.identity, now), lease) {
            (Decision::Wait, _) => return Ok(false),
            (Decision::Create, _) | (_, None) => api.create(&parameters(), &self.lease(None)).await?,
            (Decision::Take | Decision::Renew, Some(lease)) => {
                api.replace(&self.name, &parameters(), &self.lease(Some(lease))).await?
            }
        };
        self.observe(written.spec.as_ref(), now);
        self.renewed = Some(now);
        Ok(true)
    }

    fn observe(&mut self, spec: Option<&LeaseSpec>, now: Instant) {
        match (spec, &self.observed) {
            (None, _) => self.observed = None,
            (Some(spec), Some((known, _))) if spec == known => {}
            (Some(spec), _) => self.observed = Some((spec.clone(), now)),
        }
    }

    /// The lease as it is when we hold it.
    fn lease(&self, before: Option<Lease>) -> Lease {
        let now = MicroTime((self.clock)());
        let mut lease = before.unwrap_or_else(|| Lease {
            metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
            ..Lease::default()
        });
        let before = lease.spec.take().unwrap_or_default();
        let ours = before.holder_identity.as_deref() == Some(&self.identity);
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: if ours { before.acquire_time } else { Some(now.clone()) },
            lease_transitions: Some(before.lease_transitions.unwrap_or_default() + i32::from(!ours)),
            renew_time: Some(now),
            ..LeaseSpec::default()
        });
        lease
    }

    fn set_leading(&self, leading: bool) {
        let changed = self.leading.send_if_modified(|now| std::mem::replace(now, leading) != leading);
        if changed {
            self.metrics.leading(leading);
            let identity = &self.identity;
            tracing::info!(identity, leading, "who writes statuses changed");
        }
    }

    fn lost_sight(&mut self, error: &str) {
        let out_of_date = self.renewed.is_none_or(|renewed| renewed.elapsed() > PATIENCE);
        if out_of_date && *self.leading.borrow() {
            tracing::warn!(error, "cannot renew the lease: statuses are left to others");
            self.set_leading(false);
        }
    }

    /// Let another one lead at once. If that fails, the lease runs out.
    async fn resign(self, api: &Api<Lease>) {
        if !*self.leading.borrow() {
            return;
        }
        self.set_leading(false);
        let resigned = async {
            let mut lease = api.get(&self.name).await?;
            if let Some(spec) = lease.spec.as_mut().filter(|spec| spec.holder_identity.as_ref() == Some(&self.identity))
            {
                spec.holder_identity = None;
                api.replace(&self.name, &parameters(), &lease).await?;
            }
            Ok::<_, kube::Error>(())
        };
        if let Ok(Err(error)) = tokio::time::timeout(PERIOD, resigned).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "cannot give the lease back; it runs out");
        }
    }
}

fn decide(observed: Option<&(LeaseSpec, Instant)>, identity: &str, now: Instant) -> Decision {
    let Some((spec, since)) = observed else { return Decision::Create };
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let duration = seconds.map_or(DURATION, Duration::from_secs);
    match spec.holder_identity.as_deref().unwrap_or_default() {
        "" => Decision::Take,
        holder if holder == identity => Decision::Renew,
        _ if now.duration_since(*since) > duration => Decision::Take,
        _ => Decision::Wait,
    }
}

fn parameters() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_lead() {
        let now = Instant::now();
        let check = |holder: Option<&str>, age: u64, expected: Decision| {
            let spec = LeaseSpec {
                holder_identity: holder.map(ToOwned::to_owned),
                lease_duration_seconds: Some(15),
                ..LeaseSpec::default()
            };
            let observed = (spec, now);
            assert_eq!(decide(Some(&observed), "me", now + Duration::from_secs(age)), expected, "{holder:?} {age}");
        };
        assert_eq!(decide(None, "me", now), Decision::Create);
        check(None, 0, Decision::Take);
        check(Some(""), 0, Decision::Take);
        check(Some("me"), 100, Decision::Renew);
        check(Some("other"), 15, Decision::Wait);
        check(Some("other"), 16, Decision::Take);
    }
}

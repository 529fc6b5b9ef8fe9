//! `spec.checks`: sample exchanges of the resource, which a candidate must pass before it may serve. They run in the process that validates,
//! through the same worker that calls hooks for traffic.

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use penstock_core::{
    check::{Check, Difference, End, compare},
    plugin::{
        BodyOverflow, FailurePolicy, FaultKind, PluginSpec, PolicyCall, PolicyRuntime as _, PolicyWorker, Rejection,
    },
};
use prometheus_client::registry::Registry;

use crate::{
    capability::Stores,
    examine::{Examined, SAMPLE_ATTEMPTS},
    instance::thread_cpu_time,
    metrics::PluginMetrics,
    reason::{self, Step, faulted, rejection},
    rehearsal::Rehearsal,
    revision::{Loaded, RevisionKey},
    worker::Runtime,
};

/// Run all checks of `spec` one after the other, in the same instance as long as none faults; the first that fails refuses the candidate. As
/// with the samples, a hook that takes too long is given another chance, with everything anew.
pub(crate) fn run(
    spec: &PluginSpec,
    key: &RevisionKey,
    examined: impl Fn() -> Result<Examined, Rejection>,
) -> Result<(), Rejection> {
    let checks = spec.rollout.checks.parse();
    let checks = checks.map_err(|error| rejection(reason::CHECK_FAILED, format!("spec.checks: {error}")))?;
    for attempt in 1.. {
        match run_once(&checks, spec, key.clone(), examined()?) {
            Ok(()) => break,
            Err(failed) if failed.is_slow && attempt < SAMPLE_ATTEMPTS => {}
            Err(failed) => return Err(failed.rejection),
        }
    }
    Ok(())
}

/// A check that failed.
struct Failed {
    rejection: Rejection,
    /// A hook took too long, which may be chance.
    is_slow: bool,
}

fn run_once(checks: &[Check], spec: &PluginSpec, key: RevisionKey, examined: Examined) -> Result<(), Failed> {
    let hooks = examined.plan.hooks();
    let metrics = PluginMetrics::register(&mut Registry::default()).plugin(&spec.plugin);
    // Nobody listens: there is no host that could prepare instances.
    let (host, _) = mpsc::channel();
    let runtime = Runtime { host, unloaded: Arc::default() };
    let stores = Stores::scratch(spec);
    let loaded = Arc::new(Loaded::new(key, examined, metrics, stores, Arc::clone(&runtime.unloaded), None));
    let call = PolicyCall {
        plugin: spec.plugin.clone(),
        revision: loaded.revision(),
        failure_policy: FailurePolicy::Closed,
        body_overflow: BodyOverflow::Reject,
        hooks,
        outbound: Arc::default(),
        redis: Arc::default(),
    };
    let limit = spec.limits.configure_time;
    let time = Remaining { end: thread_cpu_time() + limit, limit };
    let worker = runtime.worker();
    checks.iter().try_for_each(|check| {
        // As on traffic: what takes long to configure has a spare instance.
        let stocked = loaded.stock(1).map_err(|fault| faulted(Step::Configure, &fault));
        stocked.map_err(|rejection| Failed { rejection, is_slow: false })?;
        run_check(check, &*worker, &call, &time)
    })
}

fn run_check(check: &Check, worker: &dyn PolicyWorker, call: &PolicyCall, time: &Remaining) -> Result<(), Failed> {
    let failed = |why: String, is_slow| {
        let message = format!("the check `{}` failed: {why}", check.name);
        Failed { rejection: rejection(reason::CHECK_FAILED, message), is_slow }
    };
    let rehearsal = Rehearsal::new(check).map_err(|error| failed(error.to_string(), false))?;
    for round in 1..=check.repeat {
        let outcome = rehearsal.run(worker, call);
        let differences = compare(&check.expect, &outcome);
        if !differences.is_empty() {
            let times = if check.repeat == 1 { String::new() } else { format!(" (time {round} of {})", check.repeat) };
            let is_slow = matches!(&outcome.end, End::Fault(_, fault) if fault.kind == FaultKind::Deadline);
            return Err(failed(explain(&differences) + &times, is_slow));
        }
        time.check().map_err(|why| failed(why, false))?;
    }
    Ok(())
}

fn explain(differences: &[Difference]) -> String {
    let one =
        |Difference { field, wanted, found }: &Difference| format!("expect.{field}: expected {wanted}, found {found}");
    differences.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// CPU time of all checks together.
struct Remaining {
    end: Duration,
    limit: Duration,
}

impl Remaining {
    fn check(&self) -> Result<(), String> {
        if thread_cpu_time() < self.end {
            return Ok(());
        }
        Err(format!("by its end the checks had used more than limits.configureTime ({:?}) of CPU time", self.limit))
    }
}

//! `metrics`: handles are indices into what the instance has registered.

use std::sync::Arc;

use wasmtime::{
    StoreContextMut, bail,
    component::{Linker, LinkerInstance, Resource, ResourceType},
};

use crate::{
    capability::metrics::{self, Metric, MetricKind, WrongLabels},
    contract::{METRICS, types::InvalidMetric},
    instance::InstanceState,
};

type Store<'a> = StoreContextMut<'a, InstanceState>;

/// Types of the resources, which exist as indices only.
enum Counter {}
enum Gauge {}
enum Histogram {}

pub(super) fn link(linker: &mut Linker<InstanceState>) -> wasmtime::Result<()> {
    type Registered<T> = (Result<Resource<T>, InvalidMetric>,);
    let mut instance = linker.instance(METRICS)?;
    resource::<Counter>(&mut instance, "counter")?;
    resource::<Gauge>(&mut instance, "gauge")?;
    resource::<Histogram>(&mut instance, "histogram")?;
    instance.func_wrap(
        "[static]counter.register",
        |mut store: Store<'_>, (name, help, labels): (String, String, Vec<String>)| {
            let registered = register(&mut store, MetricKind::Counter, &name, &help, labels, Vec::new())?;
            Ok::<Registered<Counter>, _>((registered.map(Resource::new_own),))
        },
    )?;
    instance.func_wrap(
        "[static]gauge.register",
        |mut store: Store<'_>, (name, help, labels): (String, String, Vec<String>)| {
            let registered = register(&mut store, MetricKind::Gauge, &name, &help, labels, Vec::new())?;
            Ok::<Registered<Gauge>, _>((registered.map(Resource::new_own),))
        },
    )?;
    instance.func_wrap(
        "[static]histogram.register",
        |mut store: Store<'_>, (name, help, labels, bounds): (String, String, Vec<String>, Vec<f64>)| {
            let registered = register(&mut store, MetricKind::Histogram, &name, &help, labels, bounds)?;
            Ok::<Registered<Histogram>, _>((registered.map(Resource::new_own),))
        },
    )?;
    instance.func_wrap(
        "[method]counter.add",
        |store: Store<'_>, (this, amount, labels): (Resource<Counter>, u64, Vec<String>)| {
            call(&store, this.rep(), |metric| metric.add(amount, &labels))
        },
    )?;
    instance.func_wrap(
        "[method]gauge.set",
        |store: Store<'_>, (this, value, labels): (Resource<Gauge>, f64, Vec<String>)| {
            call(&store, this.rep(), |metric| metric.set(value, &labels))
        },
    )?;
    instance.func_wrap(
        "[method]histogram.observe",
        |store: Store<'_>, (this, value, labels): (Resource<Histogram>, f64, Vec<String>)| {
            call(&store, this.rep(), |metric| metric.observe(value, &labels))
        },
    )
}

/// Metrics stay registered when their handle is dropped: another instance may have the same.
fn resource<T: 'static>(instance: &mut LinkerInstance<'_, InstanceState>, name: &str) -> wasmtime::Result<()> {
    instance.resource(name, ResourceType::host::<T>(), |_, _| Ok(()))
}

/// The index of the metric among those of the instance.
fn register(
    store: &mut Store<'_>,
    kind: MetricKind,
    name: &str,
    help: &str,
    labels: Vec<String>,
    bounds: Vec<f64>,
) -> wasmtime::Result<Result<u32, InvalidMetric>> {
    let state = store.data_mut();
    if !state.configuring {
        bail!("it registered the metric {name:?} outside `configure`");
    }
    let metric = match state.stores.metrics().register(kind, name, help, labels, bounds) {
        Ok(metric) => metric,
        Err(error) => return Ok(Err(error.into())),
    };
    let known = state.metrics.iter().position(|known| Arc::ptr_eq(known, &metric));
    let index = known.unwrap_or_else(|| {
        state.metrics.push(metric);
        state.metrics.len() - 1
    });
    Ok(Ok(u32::try_from(index)?))
}

fn call(
    store: &Store<'_>,
    index: u32,
    change: impl FnOnce(&Metric) -> Result<(), WrongLabels>,
) -> wasmtime::Result<()> {
    let metric = usize::try_from(index).ok().and_then(|index| store.data().metrics.get(index));
    match metric {
        Some(metric) => Ok(change(metric)?),
        None => bail!("it used a metric that it has not registered"),
    }
}

impl From<metrics::InvalidMetric> for InvalidMetric {
    fn from(error: metrics::InvalidMetric) -> Self {
        match error {
            metrics::InvalidMetric::InvalidName(name) => Self::InvalidName(name),
            metrics::InvalidMetric::Conflict(name) => Self::Conflict(name),
            metrics::InvalidMetric::TooMany => Self::TooMany,
        }
    }
}

//! What a scrape sees.

use std::fmt;

use penstock_core::reason::Reason;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabel as _, EncodeLabelSet, LabelSetEncoder, NoLabelSet},
    metrics::MetricType,
};

use super::{BOUNDS, Cell, ProxyMetrics, RouteKey, RouteSeries, RouteShard, WorkerShard};

const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// Picks a cell of a shard.
type CellOf<T> = fn(&T) -> &Cell;

/// Label names and values.
#[derive(Debug)]
struct Labels<const N: usize>([(&'static str, String); N]);

impl<const N: usize> EncodeLabelSet for Labels<N> {
    fn encode(&self, encoder: &mut LabelSetEncoder) -> fmt::Result {
        for (name, value) in &self.0 {
            (*name, value.as_str()).encode(encoder.encode_label())?;
        }
        Ok(())
    }
}

impl Collector for ProxyMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        self.routes(&mut encoder)?;
        self.connections(&mut encoder)?;
        self.upstream(&mut encoder)?;
        self.failures(&mut encoder)
    }
}

impl ProxyMetrics {
    fn routes(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let routes = self.series();
        let mut requests = encoder.encode_descriptor(
            "penstock_requests",
            "Requests by the class of their status; 'none' if the client left before there was one",
            None,
            MetricType::Counter,
        )?;
        for (key, series) in &*routes {
            for (class, name) in CLASSES.into_iter().enumerate() {
                let count = sum(series, |shard| &shard.classes[class]);
                if count > 0 {
                    let labels = with_class(key, name);
                    requests.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
                }
            }
        }
        let mut durations = encoder.encode_descriptor(
            "penstock_request_duration_seconds",
            "From the head of the request to the end of the response",
            None,
            MetricType::Histogram,
        )?;
        for (key, series) in &*routes {
            let buckets: Vec<(f64, u64)> = BOUNDS
                .into_iter()
                .chain([f64::MAX])
                .enumerate()
                .map(|(bucket, bound)| (bound, sum(series, |shard| &shard.buckets[bucket])))
                .collect();
            let count = buckets.iter().map(|(_, count)| count).sum();
            #[expect(clippy::cast_precision_loss, reason = "a histogram's sum is a float")]
            let seconds = sum(series, |shard| &shard.nanoseconds) as f64 / 1e9;
            durations.encode_family(&labels(key))?.encode_histogram::<NoLabelSet>(seconds, count, &buckets, None)?;
        }
        let directions: [(&str, &str, CellOf<RouteShard>); 2] = [
            ("penstock_request_body_bytes", "Bytes of request bodies", |shard| &shard.received),
            ("penstock_response_body_bytes", "Bytes of response bodies", |shard| &shard.sent),
        ];
        for (name, help, cell) in directions {
            let mut bytes = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (key, series) in &*routes {
                let count = sum(series, cell);
                bytes.encode_family(&labels(key))?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
            }
        }
        Ok(())
    }

    fn connections(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let opened = self.total(|worker| &worker.connections_opened);
        let closed = self.total(|worker| &worker.connections_closed);
        let open = i64::try_from(opened.saturating_sub(closed)).unwrap_or(i64::MAX);
        encoder
            .encode_descriptor(
                "penstock_connections_open",
                "Client connections that are open",
                None,
                MetricType::Gauge,
            )?
            .encode_gauge(&open)?;
        counter(encoder, "penstock_connections", "Client connections accepted", opened)?;
        let failed = self.total(|worker| &worker.handshakes_failed);
        counter(encoder, "penstock_tls_handshake_failures", "TLS handshakes with clients that failed", failed)
    }

    fn upstream(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let cells: [(&str, &str, CellOf<WorkerShard>); 5] = [
            ("penstock_upstream_connects", "Connections made to endpoints", |worker| &worker.upstream_connected),
            ("penstock_upstream_connect_failures", "Connections to endpoints that failed", |worker| {
                &worker.upstream_failed
            }),
            ("penstock_upstream_reuses", "Requests sent over a connection that was there", |worker| {
                &worker.upstream_reused
            }),
            ("penstock_upstream_retries", "Requests sent again after a failure", |worker| &worker.retries),
            ("penstock_access_log_dropped", "Access records lost because the writer was slow", |worker| {
                &worker.log_dropped
            }),
        ];
        cells.into_iter().try_for_each(|(name, help, cell)| counter(encoder, name, help, self.total(cell)))
    }

    fn failures(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let mut refused = encoder.encode_descriptor(
            "penstock_gateway_answers",
            "Requests that the gateway answered itself, or that failed, by reason",
            None,
            MetricType::Counter,
        )?;
        for reason in Reason::all() {
            let count = self.total(|worker| &worker.reasons[reason as usize]);
            if count > 0 {
                let labels = Labels([("reason", reason.code().to_owned())]);
                refused.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
            }
        }
        Ok(())
    }

    fn total(&self, cell: impl Fn(&WorkerShard) -> &Cell) -> u64 {
        self.workers.iter().map(|worker| cell(worker).get()).sum()
    }
}

fn counter(encoder: &mut DescriptorEncoder, name: &str, help: &str, count: u64) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    metric.encode_counter::<NoLabelSet, _, u64>(&count, None)
}

fn sum(series: &RouteSeries, cell: impl Fn(&RouteShard) -> &Cell) -> u64 {
    series.shards.iter().map(|shard| cell(shard).get()).sum()
}

fn labels(key: &RouteKey) -> Labels<3> {
    let (gateway, listener) = match &key.listener {
        Some((gateway, listener)) => (gateway.to_string(), listener.to_string()),
        None => (String::new(), String::new()),
    };
    let route = key.route.as_ref().map(ToString::to_string).unwrap_or_default();
    Labels([("gateway", gateway), ("listener", listener), ("route", route)])
}

fn with_class(key: &RouteKey, class: &str) -> Labels<4> {
    let Labels([gateway, listener, route]) = labels(key);
    Labels([gateway, listener, route, ("code_class", class.to_owned())])
}

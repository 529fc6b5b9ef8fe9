//! Where resources come from: files, or a cluster; and what follows from it.

use std::{collections::BTreeSet, num::NonZeroU32, path::PathBuf, sync::Arc};

use anyhow::Context as _;
use jiff::Timestamp;
use penstock_controller::{
    Cluster, ClusterMetrics, ClusterSettings, ControllerMetrics, Inbox, SourceId,
    sources::{
        cluster::{ClusterAccess, WatchedNamespaces},
        files::{FileSource, RunningFiles},
    },
};
use penstock_core::{Kind, ResourceRef, client_address::Network};
use penstock_plugin_host::SourceAddresses;
use penstock_translate::{GatewayServices, LabelSelector, ServiceType, Settings, installation, record_selector};
use prometheus_client::registry::Registry;

use crate::commands::{Ingress, Ownership, PluginLimits};

/// Characters of the name of a Lease.
const LONGEST_NAME: usize = 253;

/// Where resources come from.
#[derive(Debug, clap::Args)]
pub(super) struct Sources {
    /// A YAML or JSON file with resources, or a directory of such files (not its subdirectories); repeat it for several
    #[arg(short = 'f', long = "filename", value_name = "PATH", required_unless_present_any = ["kubeconfig", "in_cluster"])]
    filename: Vec<PathBuf>,

    /// Follow the cluster of this file, with its credentials
    #[arg(long, value_name = "FILE", conflicts_with_all = ["filename", "in_cluster"], help_heading = "Kubernetes")]
    kubeconfig: Option<PathBuf>,

    /// The context of the kubeconfig; its current one unless said otherwise
    // `requires` alone says nothing where the kubeconfig could not be given.
    #[arg(
        long,
        value_name = "NAME",
        requires = "kubeconfig",
        conflicts_with = "in_cluster",
        help_heading = "Kubernetes"
    )]
    context: Option<String>,

    /// Follow the cluster in which this process runs as a pod, with the pod's ServiceAccount
    #[arg(long, conflicts_with = "filename", help_heading = "Kubernetes")]
    in_cluster: bool,

    #[command(flatten)]
    ownership: Ownership,

    /// Only what is in these namespaces exists for this installation; all namespaces unless it is given
    #[arg(long, value_name = "NAMES", value_delimiter = ',', conflicts_with = "filename", help_heading = "Kubernetes")]
    watch_namespaces: Vec<String>,

    /// What is in namespaces with such labels exists, for instance team=shop; beside those of --watch-namespaces
    #[arg(long, value_name = "LABELS", conflicts_with = "filename", help_heading = "Kubernetes")]
    namespace_selector: Option<LabelSelector>,

    #[command(flatten)]
    ingress: Ingress,

    #[command(flatten)]
    limits: PluginLimits,

    /// Modules of plugins are fetched from these addresses too, for instance 127.0.0.0/8; otherwise not from loopback, link-local, unspecified and
    /// multicast addresses. Files may name any
    #[arg(long, value_name = "CIDR", conflicts_with = "filename", help_heading = "Kubernetes")]
    plugin_sources_allow: Vec<Network>,

    /// Each Gateway gets a Service of its own, in its namespace and with its ports: ClusterIP, NodePort or LoadBalancer
    #[arg(long, value_name = "TYPE", conflicts_with_all = ["filename", "address_pool"], help_heading = "Kubernetes")]
    gateway_service: Option<ServiceType>,

    /// The Service before the instances: its addresses are those of all Gateways and Ingresses; with --gateway-service, its endpoints become
    /// those of all Gateways. `penstock` in the namespace of the Lease unless said otherwise, for instances in the cluster
    #[arg(
        long,
        value_name = "NAMESPACE/NAME",
        conflicts_with_all = ["filename", "address_pool"],
        value_parser = GatewayServices::named,
        help_heading = "Kubernetes"
    )]
    instances_service: Option<ResourceRef>,

    /// Namespace of the Lease by which instances agree who writes statuses; that of the credentials unless said otherwise
    #[arg(long, value_name = "NAMESPACE", env = "POD_NAMESPACE", help_heading = "Kubernetes")]
    lease_namespace: Option<String>,

    /// Write no more statuses a second than this, all resources together; as many as there are unless it is given, 16 at a time
    #[arg(long, value_name = "NUMBER", conflicts_with = "filename", help_heading = "Kubernetes")]
    status_writes_per_second: Option<NonZeroU32>,

    /// Name of this instance in the Lease; the name of the host and the process unless said otherwise
    #[arg(long, value_name = "NAME", env = "POD_NAME", help_heading = "Kubernetes")]
    identity: Option<String>,
}

/// A source that runs.
pub(super) enum Running {
    Files(RunningFiles),
    Cluster(Arc<Cluster>),
}

impl Sources {
    /// What can be found wrong before anything is started.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        for path in self.filename.iter().chain(&self.kubeconfig) {
            path.metadata().with_context(|| format!("cannot read {}", path.display()))?;
        }
        self.ingress.ports().map(drop)
    }

    pub(super) fn settings(&self) -> Settings {
        let standalone = self.ownership.standalone();
        Settings {
            implied_class: if self.access().is_none() { standalone.implied_class.clone() } else { None },
            services: self.services(),
            plugin_limits: self.limits.plugin_limits.clone(),
            // Checked before.
            ingress: self.ingress.ports().unwrap_or_default(),
            ..standalone
        }
    }

    /// From where modules may come. Who writes files owns the machine; who writes into a cluster does not.
    pub(super) fn addresses(&self) -> SourceAddresses {
        match self.access() {
            None => SourceAddresses::Any,
            Some(_) => SourceAddresses::Elsewhere { allowed: self.plugin_sources_allow.clone() },
        }
    }

    fn services(&self) -> GatewayServices {
        let namespace = self.lease_namespace.as_deref().unwrap_or("penstock-system");
        let usual = || ResourceRef::new(Kind::Service, namespace, "penstock");
        match (self.gateway_service, self.instances_service.clone()) {
            (Some(type_), given) => GatewayServices::Each { type_, instances: given.unwrap_or_else(usual) },
            (None, Some(given)) => GatewayServices::Shared(given),
            (None, None) if self.in_cluster && self.ownership.address_pool.is_empty() => {
                GatewayServices::Shared(usual())
            }
            // The Service of a process beside the cluster, if it has one, is not that of the pods.
            (None, None) => GatewayServices::Absent,
        }
    }

    /// The source to wait for.
    pub(super) fn id(&self) -> SourceId {
        if self.access().is_none() { FileSource::id() } else { Cluster::id() }
    }

    /// The cluster, if it is one. It is connected to before anything else is started, because statuses go there too.
    pub(super) fn cluster(&self, inbox: &Inbox, registry: &mut Registry) -> anyhow::Result<Option<Arc<Cluster>>> {
        let Some(access) = self.access() else { return Ok(None) };
        let settings = ClusterSettings {
            access,
            controller_name: self.ownership.controller_name.as_str().into(),
            namespaces: self.watched(),
            manager: format!("penstock-{}", installation(&self.settings())).into(),
            records: record_selector(&self.settings()).into(),
            lease: (self.lease_namespace.clone(), self.lease_name()),
            identity: self.identity.clone().unwrap_or_else(identity),
            status_writes: self.status_writes_per_second,
            clock: Timestamp::now,
        };
        let cluster = Cluster::start(settings, inbox.clone(), ClusterMetrics::new(registry))?;
        Ok(Some(Arc::new(cluster)))
    }

    /// Begin to follow files, or go on following the cluster.
    pub(super) fn run(
        &self,
        cluster: Option<Arc<Cluster>>,
        inbox: Inbox,
        metrics: ControllerMetrics,
    ) -> anyhow::Result<Running> {
        match cluster {
            Some(cluster) => Ok(Running::Cluster(cluster)),
            None => {
                let files = FileSource::new(self.filename.iter().cloned());
                Ok(Running::Files(files.run(inbox, metrics)?))
            }
        }
    }

    fn access(&self) -> Option<ClusterAccess> {
        match (&self.kubeconfig, self.in_cluster) {
            (Some(file), _) => Some(ClusterAccess::Kubeconfig(file.clone(), self.context.clone())),
            (None, true) => Some(ClusterAccess::Pod),
            (None, false) => None,
        }
    }

    fn namespaces(&self) -> Option<WatchedNamespaces> {
        let names: BTreeSet<String> = self.watch_namespaces.iter().cloned().collect();
        let labels = self.namespace_selector.clone();
        (!names.is_empty() || labels.is_some()).then_some(WatchedNamespaces { names, labels })
    }

    /// With them the namespace of the Service before the instances, which is read whatever is served.
    fn watched(&self) -> Option<WatchedNamespaces> {
        let mut watched = self.namespaces()?;
        watched.names.extend(self.services().instances().map(|service| service.namespace.to_string()));
        Some(watched)
    }

    /// Installations that own different classes, or see different namespaces, must not wait for each other's Lease.
    fn lease_name(&self) -> String {
        let mut text = self.ownership.controller_name.clone();
        if let Some(selector) = &self.ownership.class_selector {
            text += &format!(" {selector}");
        }
        if let Some(WatchedNamespaces { names, labels }) = self.namespaces() {
            let labels = labels.map(|labels| labels.to_string());
            let namespaces: Vec<String> = names.into_iter().chain(labels).collect();
            text += &format!(" in {}", namespaces.join(" "));
        }
        let text = text.to_lowercase().replace('=', "-is-").replace('!', "-not-");
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
        let name: String = text.chars().take(LONGEST_NAME).map(|c| if allowed(c) { c } else { '-' }).collect();
        name.trim_matches(['-', '.']).to_owned()
    }
}

fn identity() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}-{}", host.trim(), std::process::id())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        sources: Sources,
    }

    fn sources(arguments: &[&str]) -> Result<Sources, clap::Error> {
        Command::try_parse_from(["run"].iter().chain(arguments)).map(|command| command.sources)
    }

    #[test]
    fn one_kind_of_source_at_a_time() {
        assert!(sources(&[]).is_err());
        assert!(sources(&["-f", "a", "--kubeconfig", "b"]).is_err());
        assert!(sources(&["--in-cluster", "--kubeconfig", "b"]).is_err());
        assert!(sources(&["--context", "a", "--in-cluster"]).is_err());
        let files = sources(&["-f", "a", "-f", "b", "--address-pool", "127.0.0.1,127.0.0.2"]).unwrap();
        assert!(files.access().is_none() && files.settings().implied_class.is_some());
        let cluster = sources(&["--kubeconfig", "a", "--context", "b"]).unwrap();
        assert_eq!(cluster.access(), Some(ClusterAccess::Kubeconfig("a".into(), Some("b".to_owned()))));
        assert_eq!(cluster.settings().implied_class, None);
        assert_eq!(sources(&["--in-cluster"]).unwrap().access(), Some(ClusterAccess::Pod));
    }

    #[test]
    fn services_before_the_instances() {
        #[track_caller]
        fn check(arguments: &[&str], expected: &GatewayServices) {
            let found = sources(arguments).map(|sources| sources.settings().services);
            assert_eq!(found.as_ref().ok(), Some(expected), "{arguments:?}");
        }
        let named = |namespace: &str, name: &str| ResourceRef::new(Kind::Service, namespace, name);
        let shared = |namespace: &str, name: &str| GatewayServices::Shared(named(namespace, name));
        let each = |type_, instances| GatewayServices::Each { type_, instances };
        check(&["--in-cluster"], &shared("penstock-system", "penstock"));
        check(&["--in-cluster", "--lease-namespace=gateways"], &shared("gateways", "penstock"));
        check(&["--in-cluster", "--instances-service=a/b"], &shared("a", "b"));
        check(&["--in-cluster", "--address-pool=10.0.0.0/24"], &GatewayServices::Absent);
        check(&["--kubeconfig=a"], &GatewayServices::Absent);
        check(&["--kubeconfig=a", "--instances-service=a/b"], &shared("a", "b"));
        check(&["-f", "a"], &GatewayServices::Absent);
        let node_ports = ["--in-cluster", "--lease-namespace=gateways", "--gateway-service=NodePort"];
        check(&node_ports, &each(ServiceType::NodePort, named("gateways", "penstock")));
        let cluster_ips = ["--in-cluster", "--gateway-service=ClusterIP", "--instances-service=a/b"];
        check(&cluster_ips, &each(ServiceType::ClusterIP, named("a", "b")));
        for wrong in [
            &["--in-cluster", "--gateway-service=nodeport"][..],
            &["--in-cluster", "--instances-service=b"],
            &["--in-cluster", "--instances-service=a/b", "--address-pool=10.0.0.0/24"],
            &["--in-cluster", "--gateway-service=ClusterIP", "--address-pool=10.0.0.0/24"],
            &["-f", "a", "--gateway-service=ClusterIP"],
            &["-f", "a", "--instances-service=a/b"],
        ] {
            assert!(sources(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn installations_that_own_different_classes_have_different_leases() {
        let name = |arguments: &[&str]| sources(&[&["--in-cluster"], arguments].concat()).unwrap().lease_name();
        assert_eq!(name(&[]), "penstock.dev-gateway-controller");
        assert_eq!(name(&["--class-selector", "lb=internal"]), "penstock.dev-gateway-controller-lb-is-internal");
        assert_ne!(name(&["--class-selector", "lb"]), name(&["--class-selector", "!lb"]));
        assert_eq!(name(&["--controller-name", "Example.com/A_b"]), "example.com-a-b");
        let named = name(&["--watch-namespaces=shop,blog", "--namespace-selector=team=web"]);
        assert_eq!(named, "penstock.dev-gateway-controller-in-blog-shop-team-is-web");
    }

    #[test]
    fn namespaces_by_name_and_by_label() {
        let namespaces =
            |arguments: &[&str]| sources(&[&["--in-cluster"], arguments].concat()).map(|sources| sources.namespaces());
        assert_eq!(namespaces(&[]).unwrap(), None);
        let found = namespaces(&["--watch-namespaces=a,b", "--namespace-selector=team"]).unwrap().unwrap();
        assert_eq!(found.names, BTreeSet::from(["a".to_owned(), "b".to_owned()]));
        assert_eq!(found.labels, Some("team".parse().unwrap()));
        let watched = sources(&["--in-cluster", "--watch-namespaces=a"]).unwrap().watched().unwrap();
        assert_eq!(watched.names, BTreeSet::from(["a".to_owned(), "penstock-system".to_owned()]));
        assert!(namespaces(&["--namespace-selector=a b"]).is_err());
        assert!(sources(&["-f", "a", "--watch-namespaces=a"]).is_err());
    }
}

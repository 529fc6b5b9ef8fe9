//! An installation of the gateway: a process beside the cluster, with a ServiceAccount and the roles that users give it.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU8, Ordering},
};

use penstock_testing::gateway::{Gateway, GatewayBuilder};
use serde_json::{Value, json};

use crate::{
    audit::{self, Write},
    cluster::{Namespace, class, gateway, kubectl, run},
};

/// Of each pool of addresses one installation, so that nobody's Gateways meet.
static POOLS: AtomicU8 = AtomicU8::new(1);

/// Who an installation is.
pub(crate) struct Install {
    user: String,
    kubeconfig: PathBuf,
    namespace: String,
    pub(crate) controller: String,
    /// How its addresses begin.
    pub(crate) pool: String,
    arguments: Vec<String>,
    _folder: penstock_testing::tempfile::TempDir,
}

impl Install {
    /// An installation of this name in the namespace, for classes of the controller `example.com/<namespace>`.
    pub(crate) fn new(namespace: &Namespace, name: &str) -> Self {
        let folder = penstock_testing::tempfile::tempdir().unwrap();
        let kubeconfig = folder.path().join("kubeconfig");
        authorize(namespace, name);
        let token = namespace.kubectl(&["create", "token", name, "--duration=2h"]);
        let mut config: Value =
            serde_json::from_str(&kubectl(&["config", "view", "--raw", "--minify", "--output=json"])).unwrap();
        config["users"][0]["user"] = json!({ "token": token.trim() });
        config["contexts"][0]["context"]["namespace"] = namespace.name.as_str().into();
        fs::write(&kubeconfig, config.to_string()).unwrap();
        Self {
            user: format!("system:serviceaccount:{}:{name}", namespace.name),
            kubeconfig,
            namespace: namespace.name.clone(),
            controller: format!("example.com/{}", namespace.name),
            pool: format!("10.250.{}.", POOLS.fetch_add(1, Ordering::Relaxed)),
            // Registries of tests are on loopback.
            arguments: vec!["--plugin-sources-allow".into(), "127.0.0.0/8".into()],
            _folder: folder,
        }
    }

    /// An installation for the classes of another controller name.
    pub(crate) fn controlling(mut self, controller: &str) -> Self {
        controller.clone_into(&mut self.controller);
        self
    }

    /// A further argument of `penstock run`.
    pub(crate) fn argument(mut self, name: &str, value: &str) -> Self {
        self.arguments.extend([name.to_owned(), value.to_owned()]);
        self
    }

    /// Ask an API server at another address.
    pub(crate) fn through(self, address: &str) -> Self {
        let mut config: Value = serde_json::from_str(&fs::read_to_string(&self.kubeconfig).unwrap()).unwrap();
        config["clusters"][0]["cluster"]["server"] = format!("https://{address}").into();
        config["clusters"][0]["cluster"]["tls-server-name"] = "kubernetes.default".into();
        fs::write(&self.kubeconfig, config.to_string()).unwrap();
        self
    }

    /// A token for it that ends when the Secret of this name goes, which is made for it.
    pub(crate) fn token_bound_to(&self, secret: &str) -> String {
        kubectl(&["--namespace", &self.namespace, "create", "secret", "generic", secret]);
        let name = self.user.rsplit(':').next().unwrap();
        let bound = ["--bound-object-kind=Secret", &format!("--bound-object-name={secret}")];
        kubectl(&[&["--namespace", &self.namespace, "create", "token", name][..], &bound].concat())
    }

    /// Its credentials are in a file, as those of a pod.
    pub(crate) fn with_token_file(self, file: &Path) -> Self {
        let mut config: Value = serde_json::from_str(&fs::read_to_string(&self.kubeconfig).unwrap()).unwrap();
        config["users"][0]["user"] = json!({ "tokenFile": file });
        fs::write(&self.kubeconfig, config.to_string()).unwrap();
        self
    }

    /// A process of it that is ready.
    pub(crate) async fn start(&self) -> Gateway {
        let gateway = self.replica("0").spawn();
        gateway.ready().await;
        gateway
    }

    /// One of several processes.
    pub(crate) fn replica(&self, identity: &str) -> GatewayBuilder {
        let builder = Gateway::builder(env!("CARGO_BIN_EXE_penstock")).cluster(&self.kubeconfig).data_dir();
        let arguments = [
            ["--controller-name", &self.controller],
            ["--address-pool", &format!("{}0/24", self.pool)],
            ["--lease-namespace", &self.namespace],
            ["--identity", &format!("{}-{identity}", self.user.replace(':', "-"))],
            ["--workers", "1"],
        ];
        let builder = arguments.as_flattened().iter().fold(builder, GatewayBuilder::argument);
        self.arguments.iter().fold(builder, GatewayBuilder::argument)
    }

    /// Which objects it has read one by one.
    pub(crate) fn reads(&self) -> Vec<String> {
        audit::reads(&self.user)
    }

    /// Everything that it has written so far.
    pub(crate) fn writes(&self) -> Vec<Write> {
        audit::writes(&self.user)
    }
}

impl Install {
    /// With permissions in its own namespace, and for what is in none: the component for namespaces.
    pub(crate) fn confined(self) -> Self {
        let roles = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/namespaces/rbac.yaml");
        let name = self.user.rsplit(':').next().unwrap();
        let (binding, account) =
            (format!("{}-{name}", self.namespace), format!("--serviceaccount={}:{name}", self.namespace));
        kubectl(&["apply", "-f", roles.to_str().unwrap()]);
        kubectl(&["delete", "clusterrolebinding", &binding]);
        kubectl(&["create", "clusterrolebinding", &binding, "--clusterrole=penstock-classes", &account]);
        let here =
            ["--namespace", &self.namespace, "create", "rolebinding", &binding, "--clusterrole=penstock", &account];
        kubectl(&here);
        let namespaces = self.namespace.clone();
        self.argument("--watch-namespaces", &namespaces)
    }

    /// Whether it may do this in all namespaces.
    pub(crate) fn may(&self, verb: &str, resource: &str) -> bool {
        let user = format!("--as={}", self.user);
        let answer = run(&["auth", "can-i", verb, resource, "--all-namespaces", &user], "");
        String::from_utf8_lossy(&answer.stdout).trim() == "yes"
    }
}

/// Two installations of different names, and in one namespace a Gateway of each: `one` and `two`.
pub(crate) struct Two {
    pub(crate) namespace: Namespace,
    _elsewhere: Namespace,
    pub(crate) one: Install,
    pub(crate) two: Install,
}

impl Two {
    /// With a backend `shop`, and what else there is to apply.
    pub(crate) fn new(name: &str, backend: SocketAddr, manifests: &str) -> Self {
        let (namespace, elsewhere) = (Namespace::new(name), Namespace::new(&format!("{name}-too")));
        namespace.backend("shop", backend);
        let (one, two) = (Install::new(&namespace, "one"), Install::new(&elsewhere, "two"));
        assert_ne!(one.controller, two.controller);
        let gateways = [("one", &one), ("two", &two)].map(|(name, install)| {
            class(&format!("$NS-{name}"), &install.controller, "") + &gateway(name, &format!("$NS-{name}"))
        });
        namespace.apply(&(gateways.concat() + manifests));
        Self { namespace, _elsewhere: elsewhere, one, two }
    }

    /// How often each of them has written an object. Who meets the other one's write tries again, which is no write.
    pub(crate) fn written(&self, object: &str) -> [usize; 2] {
        let is_taken = |write: &&Write| write.object == object && write.code == 200;
        [&self.one, &self.two].map(|install| install.writes().iter().filter(is_taken).count())
    }

    /// Wait until a route is what it should be at both.
    pub(crate) async fn until_routed(&self, route: &str) {
        for install in [&self.one, &self.two] {
            self.namespace.until_routed(route, &install.controller).await;
        }
    }
}

/// The ServiceAccount, with the roles of the manifests that users apply.
fn authorize(namespace: &Namespace, name: &str) {
    let roles = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/rbac.yaml");
    let (roles, account) = (roles.to_str().unwrap(), format!("--serviceaccount={}:{name}", namespace.name));
    namespace.kubectl(&["apply", "-f", roles]);
    namespace.kubectl(&["create", "serviceaccount", name]);
    namespace.kubectl(&["create", "rolebinding", &format!("{name}-leases"), "--role=penstock", &account]);
    let binding = format!("{}-{name}", namespace.name);
    kubectl(&["create", "clusterrolebinding", &binding, "--clusterrole=penstock", &account]);
}

/// Where a process listens.
pub(crate) async fn sockets(gateway: &Gateway) -> Vec<String> {
    let report = gateway.admin("/status").await.json();
    let sockets = report["sockets"].as_array().cloned().unwrap_or_default();
    sockets.iter().map(|socket| socket["address"].as_str().unwrap().to_owned()).collect()
}

/// How many statuses a process has written.
pub(crate) async fn written(gateway: &Gateway) -> u64 {
    let metrics = gateway.admin("/metrics").await;
    let lines = metrics.text().lines().filter(|line| line.starts_with("penstock_status_writes_total"));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

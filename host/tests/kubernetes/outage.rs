//! The API server goes, or the way to it: traffic goes on, what changed meanwhile takes effect afterwards, and nothing is written for it.

use std::{
    collections::BTreeSet,
    fs, io,
    net::SocketAddr,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use penstock_testing::{
    client::{fetch, get, post},
    eventually::eventually,
    gateway::Gateway,
    guests,
    origin::Origin,
    pressure::{Pressure, Protocol},
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::AbortHandle,
};

use crate::{
    audit::count,
    cluster::{NODE, Namespace, class, condition, folder, gateway, kubectl, origin, plugins_are_served, route},
    hot_load::{module, plugin},
    install::Install,
};

const API_SERVER: &str = "10.240.0.1:16443";
const ETCD: &str = "127.0.0.1:2379";

/// Between two requests of somebody who replaces an object by force; short beside the time for which the gateway takes one that went for one that comes
/// back, long beside the time that a request takes.
const A_MOMENT: Duration = Duration::from_millis(20);

struct World {
    namespace: Namespace,
    install: Install,
    process: Gateway,
    address: SocketAddr,
    _backend: Origin,
}

impl World {
    async fn start(name: &str, install: impl FnOnce(Install) -> Install) -> Self {
        let namespace = Namespace::new(name);
        let backend = origin("before");
        namespace.backend("shop", backend.address());
        let install = install(Install::new(&namespace, "gateway"));
        let manifests = class("$NS", &install.controller, "") + &gateway("web", "$NS");
        namespace.apply(&(manifests + &route("shop", &["web"], "/", "shop")));
        let process = install.start().await;
        let address = namespace.address("web").await;
        namespace.until_routed("shop", &install.controller).await;
        Self { namespace, install, process, address, _backend: backend }
    }

    async fn until_answer(&self, wanted: &str) {
        eventually(wanted, async || {
            let response = fetch(self.address, get("/")).await.ok();
            response.filter(|response| response.text() == wanted)
        })
        .await;
    }

    /// Change the backend and wait until traffic goes there, and until a new route has a status, however long that takes.
    async fn follows_and_writes(&self) -> Origin {
        let after = origin("after");
        self.namespace.backend("shop", after.address());
        self.namespace.apply(&route("fence", &["web"], "/fence", "shop"));
        patiently("what changed since", async || {
            fetch(self.address, get("/")).await.ok().filter(|response| response.text() == "after")
        })
        .await;
        patiently("a status", async || {
            let route = self.namespace.get("httproute/fence");
            let accepted = condition(&route["status"]["parents"][0]["conditions"], "Accepted")["status"].clone();
            (accepted == "True").then_some(())
        })
        .await;
        after
    }

    /// Beside the route that tells that writing works, nothing has been written since.
    fn has_written_nothing_else(&self, since: usize) {
        let writes = self.install.writes().split_off(since);
        let counts = count(&writes);
        assert!(counts.keys().all(|object| ["httproutes/fence", "gateways/web"].contains(object)), "{counts:?}");
        assert!(
            counts.values().all(|times| *times <= 2),
            "once, and once more where it is not known whether it was: {counts:?}"
        );
    }

    fn pressure(&self) -> Pressure {
        Pressure::start(self.address, Protocol::H1, 2, || get("/"), |response| response.status == 200)
    }
}

/// Whether the API server answers.
fn answers() -> bool {
    Command::new("kubectl").args(["get", "--raw=/readyz", "--request-timeout=2s"]).output().unwrap().status.success()
}

/// End the API server as if it had crashed, do something, and let it come back.
async fn without_api_server(meanwhile: impl AsyncFnOnce()) {
    let stopped = folder().join("stopped/kube-apiserver");
    fs::write(&stopped, "").unwrap();
    eventually("the API server is gone", async || (!answers()).then_some(())).await;
    meanwhile().await;
    fs::remove_file(&stopped).unwrap();
    patiently("the API server is back", async || answers().then_some(())).await;
}

/// Make etcd forget every state but the present one: whoever asks for what happened since an earlier one is told `410 Gone`.
async fn compact() {
    let etcd: SocketAddr = ETCD.parse().unwrap();
    let status: Value = fetch(etcd, post("/v3/maintenance/status", "{}")).await.unwrap().json();
    let revision = status["header"]["revision"].as_str().unwrap();
    let body = format!("{{\"revision\": \"{revision}\", \"physical\": true}}");
    let answer = fetch(etcd, post("/v3/kv/compaction", body)).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_crashes_and_has_forgotten_the_past() {
    let world = World::start("crash", |install| install).await;
    let since = world.install.writes().len();
    let pressure = world.pressure();
    pressure.progress(20).await;
    without_api_server(async || {
        pressure.progress(20).await;
        compact().await;
        let ready = world.process.admin("/readyz").await;
        assert_eq!(ready.status, 200, "{}", ready.text());
    })
    .await;
    // Who has asked in vain for long asks again after a while.
    let _after = world.follows_and_writes().await;
    pressure.progress(20).await;
    assert_eq!(pressure.stop().await.failures, [""; 0]);
    world.has_written_nothing_else(since);
}

/// Wait for what takes several times as long as anything else here.
pub(crate) async fn patiently<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..5 {
        let waited = std::panic::AssertUnwindSafe(eventually(what, &mut probe));
        if let Ok(found) = futures_util::FutureExt::catch_unwind(waited).await {
            return found;
        }
    }
    eventually(what, probe).await
}

/// Connections to the API server that a test can cut.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    /// Whether what the API server says is kept back.
    holding: watch::Sender<bool>,
    /// Those that there are, and where they come from.
    connections: Arc<Mutex<Vec<(SocketAddr, AbortHandle)>>>,
    forgotten: Mutex<Vec<u16>>,
}

impl Relay {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind((NODE, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::<Mutex<Vec<_>>>::default();
        let (holding, holds) = watch::channel(false);
        let all = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((client, from)) = listener.accept().await {
                let copying = tokio::spawn(relay(client, holds.clone()));
                all.lock().unwrap().push((from, copying.abort_handle()));
            }
        });
        Self { address, holding, connections, forgotten: Mutex::default() }
    }

    /// Keep back what the API server says for as long as something else happens. Then it comes: what it said first, and a moment later the rest.
    pub(crate) async fn late(&self, meanwhile: impl AsyncFnOnce()) {
        self.holding.send_replace(true);
        meanwhile().await;
        self.holding.send_replace(false);
    }

    /// End the connections that there are. New ones work.
    fn reset(&self) {
        self.connections.lock().unwrap().drain(..).for_each(|(_, connection)| connection.abort());
    }

    /// Lose every packet of the connections that there are, as a router does that was started anew: nobody is told. New ones work.
    fn forget(&self) {
        for (client, _) in self.connections.lock().unwrap().drain(..) {
            self.rule("--insert", client.port());
            self.forgotten.lock().unwrap().push(client.port());
        }
    }

    fn rule(&self, action: &str, client: u16) {
        let (client, server) = (client.to_string(), self.address.port().to_string());
        for (from, to) in [(&client, &server), (&server, &client)] {
            let mut iptables = Command::new("iptables");
            // kube-proxy holds the lock now and then.
            iptables.args(["--wait", action, "INPUT", "--protocol", "tcp", "--sport", from, "--dport", to]);
            iptables.args(["--jump", "DROP"]);
            assert!(iptables.status().unwrap().success());
        }
    }

    /// Lose every packet to and from it, or none.
    fn cut(&self, cut: bool) {
        for port in ["--dport", "--sport"] {
            let action = if cut { "--insert" } else { "--delete" };
            let port = [port, &self.address.port().to_string()].map(ToOwned::to_owned);
            let mut iptables = Command::new("iptables");
            iptables.args(["--wait", action, "INPUT", "--protocol", "tcp"]).args(port).args(["--jump", "DROP"]);
            assert!(iptables.status().unwrap().success());
        }
    }
}

/// Copy in both directions until one of them ends.
async fn relay(mut client: TcpStream, mut holding: watch::Receiver<bool>) -> io::Result<()> {
    let mut server = TcpStream::connect(API_SERVER).await?;
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) = (client.split(), server.split());
    let answers = async {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let length = from_server.read(&mut buffer).await?;
            let is_held = *holding.borrow();
            // Whoever holds it back is gone only at the end of everything.
            let _ = holding.wait_for(|holding| !holding).await;
            to_client.write_all(&buffer[..length]).await?;
            if length == 0 {
                return Ok(());
            }
            if is_held {
                tokio::time::sleep(A_MOMENT).await;
            }
        }
    };
    tokio::select! {
        copied = copy(&mut from_client, &mut to_server) => copied.map(drop),
        ended = answers => ended,
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let forgotten = self.forgotten.get_mut().map(std::mem::take).unwrap_or_default();
        forgotten.into_iter().for_each(|client| self.rule("--delete", client));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_to_the_api_server_are_forgotten_on_the_way() {
    let relay = Relay::start().await;
    let world = World::start("forgotten", |install| install.through(&relay.address.to_string())).await;
    let (since, pressure) = (world.install.writes().len(), world.pressure());
    relay.forget();
    // Nothing comes any more, and the gateway has to find out by itself.
    let _after = world.follows_and_writes().await;
    pressure.progress(20).await;
    assert_eq!(pressure.stop().await.failures, [""; 0]);
    world.has_written_nothing_else(since);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_replaced_in_its_file_and_the_old_one_expires() {
    let relay = Relay::start().await;
    let folder = penstock_testing::tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let write = |token: String| {
        fs::write(folder.path().join("new"), token).unwrap();
        fs::rename(folder.path().join("new"), &file).unwrap();
    };
    let through = relay.address.to_string();
    let world = World::start("token", |install| {
        // Tokens that end with a Secret each, because none expires within ten minutes.
        write(install.token_bound_to("first"));
        install.through(&through).with_token_file(&file)
    })
    .await;
    let (since, pressure) = (world.install.writes().len(), world.pressure());
    write(world.install.token_bound_to("second"));
    world.namespace.delete("secret/first");
    relay.reset();
    let _after = world.follows_and_writes().await;
    pressure.progress(20).await;
    assert_eq!(pressure.stop().await.failures, [""; 0]);
    world.has_written_nothing_else(since);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_network_to_the_api_server_is_cut() {
    let relay = Relay::start().await;
    let world = World::start("cut", |install| install.through(&relay.address.to_string())).await;
    let (since, pressure) = (world.install.writes().len(), world.pressure());
    relay.cut(true);
    let after = origin("after");
    world.namespace.backend("shop", after.address());
    pressure.progress(200).await;
    relay.cut(false);
    patiently("what changed meanwhile", async || {
        fetch(world.address, get("/")).await.ok().filter(|response| response.text() == "after")
    })
    .await;
    pressure.progress(20).await;
    assert_eq!(pressure.stop().await.failures, [""; 0]);
    let _after = world.follows_and_writes().await;
    world.has_written_nothing_else(since);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_that_is_installed_later_is_picked_up_and_given_up_again() {
    let definition = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/crds/wasmplugins.yaml");
    kubectl(&["delete", "crd", "wasmplugins.penstock.dev", "--ignore-not-found", "--wait"]);
    let world = World::start("later", |install| install).await;
    world.until_answer("before").await;
    kubectl(&["apply", "--server-side", "-f", definition.to_str().unwrap()]);
    plugins_are_served();
    module(&world.namespace, "rules", &guests::bytes(guests::HEADER_RULES));
    world.namespace.apply(&plugin("Gateway", "web", "late"));
    let until_header = async |value: &str| {
        eventually("the header", async || {
            fetch(world.address, get("/")).await.ok().filter(|response| response.header("x-rules") == value)
        })
        .await;
    };
    until_header("late").await;
    world.namespace.until_condition("wasmplugin/rules", "Programmed", "True").await;
    kubectl(&["delete", "crd", "wasmplugins.penstock.dev", "--wait"]);
    until_header("").await;
    kubectl(&["apply", "--server-side", "-f", definition.to_str().unwrap()]);
    plugins_are_served();
}

/// Somebody else holds the Lease while the API server is there: whoever held it writes no more, and serves on.
#[tokio::test(flavor = "multi_thread")]
async fn the_lease_goes_to_somebody_else() {
    let world = World::start("lease", |install| install).await;
    let leads = async |leads: &str| {
        let metrics = world.process.admin("/metrics").await;
        metrics.text().lines().any(|line| line == format!("penstock_leader {leads}")).then_some(())
    };
    patiently("it leads", async || leads("1").await).await;
    let lease = world.namespace.get("leases")["items"][0]["metadata"]["name"].as_str().unwrap().to_owned();
    let theirs = r#"{"spec": {"holderIdentity": "somebody-else"}}"#;
    // Whoever renews between the look and the change of kubectl wins; then it is done again.
    patiently("it leads no more", async || {
        world.namespace.kubectl(&["patch", "lease", &lease, "--type=merge", "--patch", theirs]);
        leads("0").await
    })
    .await;
    let since = world.install.writes().len();
    world.namespace.apply(&route("shop", &["web"], "/elsewhere", "shop"));
    eventually("it serves on, and follows", async || {
        let response = fetch(world.address, get("/elsewhere")).await.ok();
        response.filter(|response| response.text() == "before")
    })
    .await;
    let writes = world.install.writes().split_off(since);
    // If it does not lead by now, it did not lead until now.
    if leads("0").await.is_some() {
        assert_eq!(writes, []);
    }
    // Nobody renews it any more, so it is taken back, and what was not said meanwhile is.
    patiently("it leads again", async || leads("1").await).await;
    let is_current = |route: &Value| {
        let accepted = condition(&route["status"]["parents"][0]["conditions"], "Accepted");
        accepted["observedGeneration"] == route["metadata"]["generation"]
    };
    world.namespace.until("httproute/shop", is_current).await;
}

/// Of Secrets and ConfigMaps those are read that somebody refers to.
#[tokio::test(flavor = "multi_thread")]
async fn secrets_that_nobody_refers_to_are_not_read() {
    let namespace = Namespace::new("secrets");
    let install = Install::new(&namespace, "gateway");
    for name in ["referred-to", "another"] {
        namespace.kubectl(&["create", "secret", "generic", name, "--from-literal=tls.crt=x"]);
        namespace.kubectl(&["create", "configmap", name, "--from-literal=ca.crt=x"]);
    }
    let tls = "protocol: HTTPS, tls: { certificateRefs: [{ name: referred-to }] }";
    let manifests = class("$NS", &install.controller, "") + &gateway("web", "$NS").replace("protocol: HTTP", tls);
    namespace.apply(&manifests);
    let _process = install.start().await;
    namespace.until_condition("gateway/web", "Programmed", "False").await;
    let reads: BTreeSet<String> = install.reads().into_iter().collect();
    assert_eq!(reads, BTreeSet::from(["secrets/referred-to (None)".to_owned()]));
}

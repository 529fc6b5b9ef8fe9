//! The gateway's image and manifests, installed into a real cluster as users install them.
//!
//! Not a part of `cargo test`: it needs root, and builds Kubernetes the first time. `cargo xtask test --only deploy`

#![cfg(target_os = "linux")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use common::{Cluster, text};
use serde_json::Value;
use xtask::cluster::archive::Image;
use xtask::workspace::Workspace;

/// How long anything may take on a machine that does other things at the same time.
const PATIENCE: Duration = Duration::from_secs(300);

/// The same for kubectl.
const TIMEOUT: &str = "--timeout=300s";

/// A cluster with the gateway as the manifests install it.
struct Installed {
    cluster: Cluster,
    root: PathBuf,
}

/// Whether the image is the one that users get. Its build takes minutes, so usually it is that of the tests.
fn is_release() -> bool {
    std::env::var_os(xtask::checks::RELEASE).is_some()
}

/// The archive of the image, built once.
fn image() -> &'static Path {
    static IMAGE: OnceLock<PathBuf> = OnceLock::new();
    let arguments: &[_] = if is_release() { &["image"] } else { &["image", "--debug"] };
    IMAGE.get_or_init(|| PathBuf::from(xtask(arguments).trim()))
}

/// The program in it.
fn program() -> PathBuf {
    image().with_file_name(if is_release() { "release" } else { "dev" }).join("penstock")
}

fn xtask(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "cargo xtask {arguments:?}");
    text(&output.stdout)
}

fn header_rules() -> String {
    let guests = xtask(&["guests"]);
    guests.lines().find(|path| path.ends_with("header-rules.wasm")).unwrap().to_owned()
}

impl Installed {
    fn up(name: &str, options: &[&str]) -> Self {
        Self::up_as(name, options, "host/deploy")
    }

    /// As an overlay says.
    fn up_as(name: &str, options: &[&str], overlay: &str) -> Self {
        let image = image();
        let installed =
            Self { cluster: Cluster::up_with(name, options), root: Workspace::load().unwrap().root().to_owned() };
        installed.cluster.load_image(image);
        installed.kubectl(&["apply", "--server-side", "-k", &installed.file(overlay)]);
        installed.ready();
        installed
    }

    fn kubectl(&self, arguments: &[&str]) -> String {
        self.cluster.kubectl(arguments)
    }

    fn file(&self, path: &str) -> String {
        self.root.join(path).to_str().unwrap().to_owned()
    }

    fn apply(&self, file: &str) {
        self.kubectl(&["apply", "--filename", &self.file(file)]);
    }

    /// Wait until every instance is.
    fn ready(&self) {
        self.rollout("penstock-system", "penstock");
    }

    /// By pods with empty disks.
    fn replace_instances(&self) {
        self.kubectl(&["--namespace=penstock-system", "delete", "pods", "--all"]);
        self.ready();
    }

    fn rollout(&self, namespace: &str, deployment: &str) {
        let deployment = format!("deployment/{deployment}");
        self.kubectl(&["--namespace", namespace, "rollout", "status", &deployment, TIMEOUT]);
    }

    /// Wait for a condition (`condition=Type`) or for a value (`jsonpath={.path}=value`).
    fn wait(&self, object: &str, what: &str) {
        self.kubectl(&["wait", object, &format!("--for={what}"), TIMEOUT]);
    }

    /// Where a Gateway is reached, as soon as it is.
    fn address(&self, gateway: &str) -> String {
        self.wait(gateway, "condition=Programmed");
        self.get(gateway, "{.status.addresses[0].value}")
    }

    fn get(&self, object: &str, path: &str) -> String {
        self.kubectl(&["get", object, &format!("--output=jsonpath={path}")])
    }

    /// The first answer that is as expected; others may come until every instance knows.
    fn until(&self, what: &str, ask: impl Fn() -> Result<String, String>, expected: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = ask();
            match &answer {
                Ok(answer) if expected(answer) => return answer.clone(),
                _ => assert!(Instant::now() < deadline, "{what}: {answer:?}"),
            }
        }
    }

    /// Wait until the gateway has asked for everything that it may. What it asked for, none of which was refused.
    fn until_all_are_used(&self, granted: &BTreeSet<Permission>) -> BTreeSet<Permission> {
        self.until_all_are_used_since(0, granted)
    }

    /// The same, with what it asked for before left out.
    fn until_all_are_used_since(&self, since: usize, granted: &BTreeSet<Permission>) -> BTreeSet<Permission> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (used, forbidden) = requests(&self.audit_log()[since..]);
            assert_eq!(forbidden, BTreeSet::new(), "asked for, and not granted");
            let unused: BTreeSet<_> = granted.difference(&used).collect();
            if unused.is_empty() {
                return used;
            }
            assert!(Instant::now() < deadline, "granted, and not used: {unused:?}");
            self.kubectl(&["get", "--raw=/readyz"]);
        }
    }

    fn audit_log(&self) -> String {
        fs::read_to_string(self.cluster.folder().join("logs/audit.log")).unwrap()
    }

    /// What the application was asked, as it answers it, through the gateway.
    fn ask(&self, address: &str) -> Result<String, String> {
        // A client that is there on every machine which can build this.
        let server = format!("--server=http://{address}");
        let output = self.cluster.command(&["exec", "--", "kubectl", &server, "get", "--raw=/hello"]).output().unwrap();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }
}

fn has_revision(answer: &str, revision: &str) -> bool {
    answer.contains(&format!("\"x-revision\": \"{revision}\""))
}

/// The registry of Debian under the name of the one that the tutorial takes.
fn registry_image(archive: &Path) {
    let program = Path::new("/usr/bin/docker-registry");
    assert!(program.exists(), "apt-get install docker-registry");
    let config = b"version: 0.1\nstorage: {inmemory: {}}\nhttp: {addr: \":5000\"}\n";
    let image = Image::of(program).unwrap().with_program("bin/registry", &fs::read(program).unwrap());
    let image = image.with_file("etc/docker/registry/config.yml", config).with_libraries_of(program).unwrap();
    image.write(&["docker.io/library/registry:2"], archive).unwrap();
}

/// What `host/deploy/README.md` tells people to do.
#[test]
fn the_tutorial_can_be_walked() {
    let installed = Installed::up("tutorial", &[]);
    installed.apply("host/deploy/tutorial/shop.yaml");
    installed.rollout("default", "shop");
    let address = installed.address("gateway/web");
    let ask = || installed.ask(&address);
    installed.until("an answer", ask, |answer| answer.contains("\"name\": \"shop\""));

    let module = header_rules();
    installed.kubectl(&["create", "configmap", "header-rules", &format!("--from-file={module}")]);
    installed.apply("host/deploy/tutorial/plugin.yaml");
    installed.wait("wasmplugin/headers", "condition=Programmed");
    installed.until("the first revision", ask, |answer| has_revision(answer, "1"));
    // Both instances have it.
    installed.wait("wasmplugin/headers", "jsonpath={.status.active.generation}=1");

    installed.apply("host/deploy/tutorial/plugin-faulty.yaml");
    installed.wait("wasmplugin/headers", "jsonpath={.status.candidate.phase}=Rejected");
    let line = installed.kubectl(&["get", "wasmplugins", "--no-headers"]);
    let columns: Vec<_> = line.split_whitespace().collect();
    assert_eq!(columns[..7], ["headers", "True", "False", "0.1.0", "1", "Rejected", "InvalidConfig"], "{line}");
    let described = installed.kubectl(&["describe", "wasmplugin", "headers"]);
    assert!(described.contains("/rules/1/response/when/status/0"), "{described}");
    let events = || run(&installed.cluster, &["kubectl", "describe", "wasmplugin", "headers"]);
    let told = |described: &str| {
        let events = described.split("\nEvents:").nth(1).unwrap_or_default();
        events.contains("Rejected") && events.contains("generation 2 was refused")
    };
    installed.until("an event", events, told);
    installed.until("the last good revision", ask, |answer| has_revision(answer, "1"));

    // A crash of every instance, with the faulty revision in place: what was good is on the disk of the pod.
    let crash = "kill -KILL $(pgrep -f -- '^/penstock run')";
    installed.cluster.xtask(&["exec", "--", "sh", "-c", crash]);
    let restarts = "--output=jsonpath={.items[*].status.containerStatuses[0].restartCount}";
    let restarts = ["kubectl", "--namespace=penstock-system", "get", "pods", restarts];
    let all =
        |counts: &str| counts.split(' ').count() == 2 && counts.split(' ').all(|count| !matches!(count, "" | "0"));
    installed.until("restarted instances", || run(&installed.cluster, &restarts), all);
    installed.ready();
    installed.until("the last good revision after a crash", ask, |answer| has_revision(answer, "1"));

    // New pods have empty disks, and find in the cluster what was good.
    let records = ["kubectl", "get", "controllerrevisions", "--output=name"];
    installed.until("a record", || run(&installed.cluster, &records), |records| records.contains("/headers-"));
    installed.replace_instances();
    installed.until("the last good revision in new pods", ask, |answer| has_revision(answer, "1"));
    installed.wait("wasmplugin/headers", "jsonpath={.status.candidate.phase}=Rejected");

    let archive = std::env::temp_dir().join(format!("{}-registry.tar", installed.cluster.name));
    registry_image(&archive);
    installed.cluster.load_image(&archive);
    fs::remove_file(&archive).unwrap();
    installed.apply("host/deploy/tutorial/registry.yaml");
    installed.rollout("default", "registry");
    let registry = installed.get("service/registry", "{.spec.clusterIP}");
    let reference = format!("{registry}:5000/plugins/header-rules:1");
    let program = program();
    let push = ["exec", "--", program.to_str().unwrap(), "plugin", "push", &module, &reference, "--insecure"];
    installed.until("a registry", || run(&installed.cluster, &push), |_| true);
    installed.apply("host/deploy/tutorial/plugin-from-registry.yaml");
    installed.wait("wasmplugin/headers", "jsonpath={.status.active.generation}=3");
    installed.until("the revision from the registry", ask, |answer| has_revision(answer, "3"));

    installed.replace_instances();
    installed.until("an answer of new pods", ask, |answer| has_revision(answer, "3"));
}

fn run(cluster: &Cluster, arguments: &[&str]) -> Result<String, String> {
    let output = cluster.command(arguments).output().unwrap();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// Gateways are told apart by their Services, and the Services follow them.
#[test]
fn every_gateway_has_a_service_of_its_own() {
    let installed = Installed::up_as("services", &[], "host/xtask/tests/deploy/gateway-services");
    installed.apply("host/deploy/tutorial/shop.yaml");
    installed.apply("host/xtask/tests/deploy/second-gateway.yaml");
    installed.rollout("default", "shop");
    let (web, second) = (installed.address("gateway/web"), installed.address("gateway/second"));
    assert_eq!(installed.get("service/web-penstock", "{.status.loadBalancer.ingress[0].ip}"), web);
    assert_ne!(web, second);
    assert_eq!(installed.get("service/second-penstock", "{.metadata.labels.team}"), "shop");
    assert_eq!(installed.get("service/second-penstock", "{.metadata.annotations.example\\.org/size}"), "small");

    // Both have port 80 and no hostname, and each its own routes.
    installed.until("an answer", || installed.ask(&web), |answer| answer.contains("\"name\": \"shop\""));
    let refused = || match installed.ask(&second) {
        Ok(answer) => Err(answer),
        Err(refusal) => Ok(refusal),
    };
    installed
        .until("no route", refused, |refusal| refusal.contains("the server could not find the requested resource"));

    // Instances come and go.
    installed.kubectl(&["--namespace=penstock-system", "rollout", "restart", "deployment/penstock"]);
    installed.ready();
    installed.until("an answer of new instances", || installed.ask(&web), |answer| answer.contains("shop"));

    // A change of the Gateway reaches its Service, also one that takes something away.
    let patch = r#"[{"op": "remove", "path": "/spec/infrastructure/labels"}]"#;
    installed.kubectl(&["patch", "gateway", "second", "--type=json", "--patch", patch]);
    let labels = || run(&installed.cluster, &["kubectl", "get", "service", "second-penstock", "--show-labels"]);
    installed.until("no label", labels, |labels| !labels.contains("team=shop"));

    // What somebody deletes comes back, and what belongs to a Gateway goes with it.
    let uid = installed.get("service/web-penstock", "{.metadata.uid}");
    installed.kubectl(&["delete", "service", "web-penstock"]);
    let now =
        || run(&installed.cluster, &["kubectl", "get", "service", "web-penstock", "--output=jsonpath={.metadata.uid}"]);
    installed.until("the Service again", now, |now| !now.is_empty() && now != uid);
    installed.kubectl(&["delete", "gateway", "second"]);
    installed.kubectl(&["wait", "--for=delete", "service/second-penstock", TIMEOUT]);

    // So does what belongs to one that is somebody else's by now; and with that every permission of the component has been of use.
    let another = r#"{"spec": {"gatewayClassName": "another"}}"#;
    installed.kubectl(&["patch", "gateway", "web", "--type=merge", "--patch", another]);
    installed.kubectl(&["wait", "--for=delete", "service/web-penstock", TIMEOUT]);
    let role = installed.kubectl(&["get", "clusterrole/penstock-gateway-services", "--output=json"]);
    installed.until_all_are_used(&grants(&role));
}

/// What an operator grants is what the gateway uses, no more and no less, of the API server and of the system.
#[test]
fn every_permission_is_used_and_none_is_missing() {
    let installed = Installed::up("permissions", &["--crds=experimental"]);
    an_instance_can_do_little(&installed);
    let certificate = |kind: &str| installed.file(&format!("host/translate/tests/golden/pki/a.{kind}"));
    let (key, chain) = (format!("--key={}", certificate("key")), format!("--cert={}", certificate("crt")));
    installed.kubectl(&["create", "secret", "tls", "web", &key, &chain]);
    installed.kubectl(&["create", "configmap", "ca", &format!("--from-file=ca.crt={}", certificate("crt"))]);
    installed.kubectl(&["create", "configmap", "header-rules", &format!("--from-file={}", header_rules())]);
    installed.apply("host/deploy/tutorial/shop.yaml");
    installed.apply("host/deploy/tutorial/plugin.yaml");
    installed.apply("host/xtask/tests/deploy/every-kind.yaml");
    installed.wait("wasmplugin/headers", "condition=Programmed");
    // The record of another good revision takes the place of the first one's.
    let another = r#"{"spec": {"limits": {"logLines": 99}, "probation": {"for": "0s"}}}"#;
    installed.kubectl(&["patch", "wasmplugin", "headers", "--type=merge", "--patch", another]);
    let address = installed.address("gateway/secure");
    installed.wait("ingress/shop", &format!("jsonpath={{.status.loadBalancer.ingress[0].ip}}={address}"));

    let mut granted = grants(&installed.kubectl(&["get", "clusterrole/penstock", "--output=json"]));
    let role = ["--namespace=penstock-system", "get", "role/penstock", "--output=json"];
    granted.extend(grants(&installed.kubectl(&role)));
    assert!(granted.len() > 30, "{granted:?}");
    let used = installed.until_all_are_used(&granted);
    assert_eq!(used.difference(&granted).collect::<BTreeSet<_>>(), BTreeSet::new(), "granted by another role");
    some_namespaces_are_enough(&installed);
}

/// The component for namespaces, in place of what is installed: what it grants for the whole cluster, and for the Lease, is of use, and with what is
/// granted in the namespaces it is enough.
fn some_namespaces_are_enough(installed: &Installed) {
    let namespace = "--namespace=penstock-system";
    let replaced = ["deployment/penstock", "clusterrolebinding/penstock", "gatewayclass/penstock"];
    installed.kubectl(&[&[namespace, "delete"], &replaced[..]].concat());
    installed.kubectl(&[namespace, "wait", "pods", "--all", "--for=delete", TIMEOUT]);
    installed.kubectl(&[namespace, "delete", "leases", "--all"]);
    let since = installed.audit_log().len();
    let account = "--serviceaccount=penstock-system:penstock";
    installed.kubectl(&["create", "rolebinding", "penstock", "--clusterrole=penstock", account]);
    installed.kubectl(&["apply", "--server-side", "-k", &installed.file("host/xtask/tests/deploy/namespaces")]);
    let bindings = installed.kubectl(&["get", "clusterrolebindings", "--output=name"]);
    assert!(!bindings.lines().any(|binding| binding.ends_with("/penstock")), "{bindings}");
    installed.ready();
    // Something new to say.
    let hostnames = r#"{"spec": {"hostnames": ["secure.example"]}}"#;
    installed.kubectl(&["patch", "grpcroute", "shop", "--type=merge", "--patch", hostnames]);
    installed.wait("grpcroute/shop", "jsonpath={.status.parents[0].conditions[0].observedGeneration}=2");
    let mut granted = grants(&installed.kubectl(&["get", "clusterrole/penstock-classes", "--output=json"]));
    granted.extend(grants(&installed.kubectl(&[namespace, "get", "role/penstock", "--output=json"])));
    assert!(granted.len() > 10, "{granted:?}");
    installed.until_all_are_used_since(since, &granted);
}

/// Group, resource with subresource, verb.
type Permission = (String, String, String);

fn grants(role: &str) -> BTreeSet<Permission> {
    let role: Value = serde_json::from_str(role).unwrap();
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let mut grants = BTreeSet::new();
    for rule in role["rules"].as_array().unwrap() {
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                grants.extend(texts(&rule["verbs"]).into_iter().map(|verb| (group.clone(), resource.clone(), verb)));
            }
        }
    }
    grants
}

/// What the gateway asked for, and what of it was refused. Everybody may ask which kinds there are.
fn requests(log: &str) -> (BTreeSet<Permission>, BTreeSet<Permission>) {
    let (mut used, mut forbidden) = (BTreeSet::new(), BTreeSet::new());
    for line in log.lines() {
        // The last line may be in the making.
        let Ok(entry) = serde_json::from_str::<Value>(line) else { continue };
        let (user, object) = (entry["user"]["username"].as_str().unwrap_or_default(), &entry["objectRef"]);
        if user != "system:serviceaccount:penstock-system:penstock" || object.is_null() {
            continue;
        }
        let part = |name: &str| object[name].as_str().unwrap_or_default().to_owned();
        let resource = match object["subresource"].as_str() {
            Some(sub) => format!("{}/{sub}", part("resource")),
            None => part("resource"),
        };
        let (group, verb, code) = (part("apiGroup"), entry["verb"].as_str().unwrap(), &entry["responseStatus"]["code"]);
        let set = if *code == 403 { &mut forbidden } else { &mut used };
        // Who applies what is not there creates it, and must be allowed to.
        if verb == "patch" && *code == 201 {
            set.insert((group.clone(), resource.clone(), "create".to_owned()));
        }
        set.insert((group, resource, verb.to_owned()));
    }
    (used, forbidden)
}

/// What the manifests ask for is what the process gets.
fn an_instance_can_do_little(installed: &Installed) {
    let status = "cat /proc/$(pgrep -o -f -- '^/penstock run')/status";
    let status = installed.cluster.xtask(&["exec", "--", "sh", "-c", status]);
    let value = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_start_matches(':').split_whitespace().next().unwrap().to_owned()
    };
    assert_eq!((value("Uid"), value("Gid")), ("65532".to_owned(), "65532".to_owned()));
    assert_eq!((value("NoNewPrivs"), value("Seccomp")), ("1".to_owned(), "2".to_owned()));
    let bounding = u64::from_str_radix(&value("CapBnd"), 16).unwrap();
    assert_eq!(bounding, 1 << 10, "CAP_NET_BIND_SERVICE and no other");

    // One at a time may go.
    let budget = "--for=jsonpath={.status.disruptionsAllowed}=1";
    installed.kubectl(&["--namespace=penstock-system", "wait", "pdb/penstock", budget, TIMEOUT]);
    // A pod that asks for more is not let in beside it.
    let refused = ["kubectl", "--namespace=penstock-system", "run", "more", "--image=penstock:0.1.0", "--privileged"];
    let refused = run(&installed.cluster, &refused).unwrap_err();
    assert!(refused.contains("violates PodSecurity"), "{refused}");
}

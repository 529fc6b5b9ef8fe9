//! The test cluster is a real one, and leaves nothing behind.
//!
//! Not a part of `cargo test`: it needs root, and builds Kubernetes the first time. `cargo test --package xtask --test cluster`

#![cfg(target_os = "linux")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::{Cluster, text};
use xtask::cluster::archive;

/// How long anything may take on a machine that does other things at the same time.
const PATIENCE: Duration = Duration::from_secs(300);

/// The same for kubectl.
const TIMEOUT: &str = "--timeout=300s";

/// Processes by id whose namespace of that kind is the given one.
fn members(kind: &str, namespace: &Path) -> BTreeSet<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
        fs::read_link(entry.path().join("ns").join(kind)).is_ok_and(|of_process| of_process == namespace)
    });
    processes.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn namespace(pid: &str, kind: &str) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap()
}

/// The control group that these processes were told to use, in all hierarchies.
fn control_groups(processes: &BTreeSet<String>) -> Vec<PathBuf> {
    let flags = processes.iter().map(|pid| text(&fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()));
    let flags: String = flags.collect();
    let name = flags.split('\0').find_map(|flag| flag.strip_prefix("--cgroup-root=/")).unwrap();
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root).unwrap().flatten().map(|entry| entry.path()).chain([root.to_owned()]);
    hierarchies.map(|hierarchy| hierarchy.join(name)).filter(|group| group.exists()).collect()
}

fn mounts() -> String {
    fs::read_to_string("/proc/self/mounts").unwrap()
}

const ECHO: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: echo}
spec:
  replicas: 2
  selector: {matchLabels: {app: echo}}
  template:
    metadata: {labels: {app: echo}}
    spec:
      containers:
      - name: echo
        image: registry.k8s.io/gateway-api/conformance/echo-basic:v0.2.0
        env: [{name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}, {name: NAMESPACE, value: default}]
---
apiVersion: v1
kind: Service
metadata: {name: echo}
spec:
  type: LoadBalancer
  selector: {app: echo}
  ports: [{port: 80, targetPort: 3000}]
";

#[test]
fn pods_run_and_services_answer() {
    let cluster = Cluster::up("pods");
    cluster.apply(ECHO);
    cluster.kubectl(&["rollout", "status", "deployment/echo", TIMEOUT]);

    let slices = ["get", "endpointslices", "--selector=kubernetes.io/service-name=echo"];
    let ready = "--output=jsonpath={.items[*].endpoints[?(@.conditions.ready)].addresses[0]}";
    let endpoints = [&["kubectl"], &slices[..], &[ready]].concat();
    retried(&cluster, &endpoints, |text| text.split(' ').filter(|address| address.starts_with("10.244.")).count() == 2);

    // A container without a probe is ready once it is started, before it says anything.
    retried(&cluster, &["kubectl", "logs", "deployment/echo"], |text| text.contains("listening on port 3000"));

    // Found by name, through the DNS Service.
    let by_name = ["exec", "--", "getent", "hosts", "echo.default.svc.cluster.local"];
    retried(&cluster, &by_name, |address| address.starts_with("10.96."));

    // The API server itself is a Service too: its rule needs kube-proxy as much as any other.
    let answer = ["exec", "--", "kubectl", "--server=https://10.96.0.1", "get", "--raw=/readyz"];
    cluster.kubectl(&["wait", "--for=create", "endpointslice/kubernetes", TIMEOUT]);
    retried(&cluster, &answer, |text| text == "ok");
    let proxied = ["kubectl", "get", "--raw=/api/v1/namespaces/default/services/echo:80/proxy/some/path"];
    retried(&cluster, &proxied, |text| text.contains("/some/path"));
}

/// What a controller in a pod relies on: its token, the API server's Service, and the names of Services.
#[test]
fn a_pod_reaches_the_api_server_by_name() {
    let cluster = Cluster::up("inside");
    let kubectl = cluster.xtask(&["exec", "--", "which", "kubectl"]);
    let image = std::env::temp_dir().join(format!("{}.tar", cluster.name));
    archive::write(Path::new(kubectl.trim()), &["example.org/kubectl:1"], &image).unwrap();
    cluster.xtask(&["load-image", image.to_str().unwrap()]);
    fs::remove_file(image).unwrap();

    cluster.apply(
        "
apiVersion: v1
kind: ConfigMap
metadata: {name: by-name}
data:
  kubeconfig: |
    clusters:
    - name: here
      cluster:
        server: https://kubernetes.default.svc
        certificate-authority: /var/run/secrets/kubernetes.io/serviceaccount/ca.crt
    users:
    - {name: pod, user: {tokenFile: /var/run/secrets/kubernetes.io/serviceaccount/token}}
    contexts:
    - {name: here, context: {cluster: here, user: pod}}
    current-context: here
---
apiVersion: v1
kind: Pod
metadata: {name: asks}
spec:
  restartPolicy: OnFailure
  containers:
  - name: asks
    image: example.org/kubectl:1
    args: [--kubeconfig=/by-name/kubeconfig, get, --raw=/readyz]
    volumeMounts: [{name: by-name, mountPath: /by-name}]
  volumes: [{name: by-name, configMap: {name: by-name}}]
",
    );
    cluster.kubectl(&["wait", "pod/asks", "--for=jsonpath={.status.phase}=Succeeded", TIMEOUT]);
    retried(&cluster, &["kubectl", "logs", "asks"], |text| text == "ok");
}

#[test]
fn load_balancers_get_addresses_that_answer() {
    let cluster = Cluster::up("balancers");
    cluster.apply(ECHO);
    cluster.kubectl(&["rollout", "status", "deployment/echo", TIMEOUT]);
    let address = "jsonpath={.status.loadBalancer.ingress[0].ip}";
    cluster.kubectl(&["wait", "service/echo", &format!("--for={address}"), TIMEOUT]);
    let address = cluster.kubectl(&["get", "service", "echo", &format!("--output={address}")]);
    assert!(address.starts_with("10.251."), "{address}");
    // A client that is there on every machine which can build this. It expects Kubernetes, and shows what it gets.
    let get = ["exec", "--", "kubectl", &format!("--server=http://{address}"), "get", "--raw=/some/path"];
    retried(&cluster, &get, |text| text.contains("\"path\": \"/some/path\""));
}

/// Run until it succeeds with such an output: controllers, kube-proxy and the DNS server follow the API server at their own pace.
fn retried(cluster: &Cluster, command: &[&str], expected: impl Fn(&str) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let output = cluster.command(command).output().unwrap();
        if output.status.success() && expected(&text(&output.stdout)) {
            return;
        }
        assert!(Instant::now() < deadline, "{command:?}: {}{}", text(&output.stdout), text(&output.stderr));
    }
}

#[test]
fn the_gateway_api_is_installed_and_its_addresses_are_local() {
    let cluster = Cluster::up("gateways");
    cluster.apply(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: example}
spec: {controllerName: example.org/gateway}
",
    );
    let bundle = "--output=jsonpath={.metadata.annotations.gateway\\.networking\\.k8s\\.io/bundle-version}";
    let version = cluster.kubectl(&["get", "crd", "gateways.gateway.networking.k8s.io", bundle]);
    assert_eq!(version, "v1.7.0");
    let route = cluster.xtask(&["exec", "--", "ip", "route", "get", "10.250.12.34"]);
    assert!(route.starts_with("local 10.250.12.34 dev lo"), "{route}");
}

#[test]
fn a_process_can_crash_and_come_back() {
    let cluster = Cluster::up("crash");
    cluster.kubectl(&["create", "configmap", "kept"]);
    cluster.xtask(&["stop", "kube-apiserver"]);
    let is_down = || !cluster.command(&["kubectl", "get", "--raw=/readyz"]).output().unwrap().status.success();
    let deadline = Instant::now() + PATIENCE;
    while !is_down() {
        assert!(Instant::now() < deadline, "it still answers");
    }
    cluster.xtask(&["start", "kube-apiserver"]);
    cluster.xtask(&["up"]);
    assert!(cluster.kubectl(&["get", "configmap", "kept"]).contains("kept"));
}

#[test]
fn nothing_remains() {
    let mounts_before = mounts();
    let cluster = Cluster::up("remains");
    let pid = cluster.pid();
    let namespaces = ["net", "pid", "mnt"].map(|kind| (kind, namespace(&pid, kind)));
    cluster.apply(ECHO);
    cluster.kubectl(&["rollout", "status", "deployment/echo", TIMEOUT]);
    for (kind, namespace) in &namespaces {
        assert!(members(kind, namespace).contains(&pid), "this test sees its {kind} namespace");
    }
    let groups = control_groups(&members("pid", &namespaces[1].1));
    assert!(!groups.is_empty());

    cluster.xtask(&["down"]);

    for (kind, namespace) in &namespaces {
        assert_eq!(members(kind, namespace), BTreeSet::new(), "processes in the {kind} namespace");
    }
    assert!(!groups.iter().any(|group| group.exists()), "{groups:?}");
    assert_eq!(mounts(), mounts_before);
    assert!(!cluster.command(&["status"]).output().unwrap().status.success());
    // Again, and then from the start.
    cluster.xtask(&["down"]);
    cluster.xtask(&["up"]);
    cluster.xtask(&["up"]);
}

#[test]
fn without_root_it_says_what_to_do() {
    // In a user namespace without a map everybody is nobody.
    let mut command = Command::new("unshare");
    command.args(["--user", env!("CARGO_BIN_EXE_xtask"), "cluster", "--name", "nobody", "up"]);
    let output = command.output().unwrap();
    assert!(!output.status.success());
    let said = text(&output.stderr);
    assert!(said.contains("sudo") && said.contains("cargo xtask conformance --kubeconfig"), "{said}");
}

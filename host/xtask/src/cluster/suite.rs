//! The conformance suite's view of a cluster.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::processes::GATEWAY_POOL;
use super::programs::{CONFORMANCE, Programs};
use super::state::Cluster;
use crate::workspace::Workspace;

/// The suite's program and the cluster that it runs in.
#[derive(Debug)]
pub(crate) struct Suite<'w> {
    workspace: &'w Workspace,
    cluster: Cluster,
    programs: Programs,
}

/// Where to look for free and for impossible addresses: the last of the pool, and one that is reserved for documentation.
pub(crate) fn addresses() -> [String; 2] {
    ["-usable-address=10.250.255.254".to_owned(), "-unusable-address=192.0.2.1".to_owned()]
}

/// How the names of the suite's namespaces start, as kubectl prints them.
const NAMESPACES: [&str; 2] = ["namespace/gateway-conformance-", "namespace/gateway-api-"];

impl<'w> Suite<'w> {
    pub(crate) fn new(workspace: &'w Workspace, cluster: &str) -> Result<Self> {
        Ok(Self { workspace, cluster: Cluster::new(workspace, cluster)?, programs: Programs::new(workspace)? })
    }

    /// The suite as a program, built if need be.
    pub(crate) fn program(&self) -> Result<PathBuf> {
        Ok(self.programs.ensure_only(&CONFORMANCE, &["conformance.test"])?.join("conformance.test"))
    }

    /// A command inside the cluster, to be completed.
    pub(crate) fn enter(&self) -> Result<Command> {
        self.cluster.enter(&self.programs, self.workspace)
    }

    /// Remove the namespaces that an interrupted run left: the suite does not expect them half removed.
    pub(crate) fn sweep(&self) -> Result<()> {
        let output = self.enter()?.args(["kubectl", "get", "namespaces", "--output=name"]).output()?;
        ensure!(output.status.success(), "kubectl failed: {}", String::from_utf8_lossy(&output.stderr));
        let names = String::from_utf8(output.stdout)?;
        let is_of_suite = |name: &&str| NAMESPACES.iter().any(|prefix| name.starts_with(prefix));
        let left: Vec<_> = names.lines().filter(is_of_suite).collect();
        if left.is_empty() {
            return Ok(());
        }
        eprintln!("  removing what an earlier run left: {}", left.join(" "));
        let mut delete = self.enter()?;
        delete.args(["kubectl", "delete", "--wait", "--timeout=120s", "--ignore-not-found"]).args(left);
        ensure!(delete.stdout(Stdio::null()).status()?.success(), "kubectl failed: its message is above");
        Ok(())
    }

    /// The suite wants the GatewayClass to be there before it starts. One that exists is left as it is.
    pub(crate) fn ensure_class(&self, name: &str, controller: &str) -> Result<()> {
        let mut get = self.enter()?;
        get.args(["kubectl", "get", "gatewayclass", name]).stdout(Stdio::null()).stderr(Stdio::null());
        if get.stdin(Stdio::null()).status()?.success() {
            return Ok(());
        }
        eprintln!("  making GatewayClass {name} for {controller}");
        self.create_class(&json!({ "name": name }), &json!({ "controllerName": controller }))
    }

    /// Whether a gateway is there. What stands in the status of its class, another one may have written that is gone by now; and the suite would wait in vain
    /// for minutes. So somebody has to accept a class like it that has just been made.
    pub(crate) fn ensure_gateway(&self, name: &str) -> Result<()> {
        let output = self.enter()?.args(["kubectl", "get", "gatewayclass", name, "--output=json"]).output()?;
        ensure!(output.status.success(), "kubectl failed: {}", String::from_utf8_lossy(&output.stderr));
        let class: Value = serde_json::from_slice(&output.stdout)?;
        let probe = format!("{name}-probe-{}", std::process::id());
        self.create_class(&json!({ "name": probe, "labels": class["metadata"]["labels"] }), &class["spec"])?;
        let mut wait = self.enter()?;
        wait.args(["kubectl", "wait", "gatewayclass", &probe, "--for=condition=Accepted", "--timeout=60s"]);
        let accepted = wait.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null()).status();
        let mut delete = self.enter()?;
        delete.args(["kubectl", "delete", "gatewayclass", &probe]).stdin(Stdio::null()).stdout(Stdio::null());
        ensure!(delete.status()?.success(), "kubectl failed: its message is above");
        ensure!(
            accepted?.success(),
            "no gateway is running for GatewayClass {name} ({}): nobody accepts a new class like it. Start one, for instance\n  \
             cargo xtask cluster --name {} exec -- penstock run --kubeconfig {} --address-pool {GATEWAY_POOL}",
            class["spec"]["controllerName"].as_str().unwrap_or_default(),
            self.cluster.name,
            self.workspace.relative(&self.cluster.kubeconfig()).display(),
        );
        Ok(())
    }

    fn create_class(&self, metadata: &Value, spec: &Value) -> Result<()> {
        let class = json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": metadata, "spec": spec,
        });
        let mut create = self.enter()?;
        create.args(["kubectl", "create", "-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut create = create.spawn()?;
        create.stdin.take().context("a pipe")?.write_all(class.to_string().as_bytes())?;
        ensure!(create.wait()?.success(), "kubectl failed: its message is above");
        Ok(())
    }
}

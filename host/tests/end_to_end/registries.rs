//! Plugins from a registry, from `push` to traffic.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use penstock_testing::{
    guests,
    registry::{PASSWORD, Registry, USERNAME},
    tempfile::TempDir,
};

use crate::world::{PENSTOCK, World, condition, greeting, header_rules};

/// `penstock plugin …` with a home of its own.
fn plugin_command(home: &Path, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(PENSTOCK)
        .arg("plugin")
        .args(arguments)
        .env("HOME", home)
        .env_remove("DOCKER_CONFIG")
        .env_remove("REGISTRY_AUTH_FILE")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes()); // not every command reads it
    child.wait_with_output().unwrap()
}

#[track_caller]
fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap().trim().to_owned()
}

#[track_caller]
fn failed(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A folder with a plugin, and a home without logins.
fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("plugin.wasm"), header_rules()).unwrap();
    folder
}

fn plugin(source: &str) -> String {
    let config = greeting("hello");
    format!(
        "\
apiVersion: penstock.dev/v1alpha1
kind: WasmPlugin
metadata: {{name: headers}}
spec:
  source: {{oci: {source}}}
  targetRefs: [{{group: gateway.networking.k8s.io, kind: Gateway, name: gw}}]
  config: {config}
"
    )
}

#[tokio::test]
async fn what_was_pushed_serves_and_goes_on_when_the_registry_is_gone() {
    let registry = Registry::builder().with_login().start();
    let folder = folder();
    let module = folder.path().join("plugin.wasm");
    let reference = format!("{}/acme/headers:1", registry.address());
    let push = ["push", module.to_str().unwrap(), &reference];
    let pushed = plugin_command(
        folder.path(),
        &[&push[..], &["--username", USERNAME, "--password-stdin"]].concat(),
        &format!("{PASSWORD}\n"),
    );
    let by_digest = succeeded(&pushed);
    assert!(by_digest.starts_with(&format!("{}/acme/headers@sha256:", registry.address())), "{by_digest}");

    let secret = serde_json::json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "logins" },
        "type": "kubernetes.io/dockerconfigjson", "stringData": { ".dockerconfigjson": registry.docker_config() },
    });
    let source = format!("{{ref: '{reference}', pullSecretRef: {{name: logins}}}}");
    let data = folder.path().join("data");
    let world = || {
        World::builder()
            .argument("--data-dir")
            .argument(&data)
            .file("secret.yaml", secret.to_string())
            .file("plugin.yaml", plugin(&source))
    };
    let first = world().start().await;
    first.until_header("x-greeting", "hello").await;
    let status = first.until_status("WasmPlugin", "headers", |status| status["candidate"].is_null()).await;
    assert_eq!(status["active"]["artifact"], *by_digest, "{status:#}");
    for page in ["/status", "/config", "/metrics"] {
        assert!(!first.gateway.admin(page).await.text().contains(PASSWORD), "{page}");
    }
    assert!(!first.gateway.log().contains(PASSWORD));
    assert!(first.gateway.terminate().await.success());

    drop(registry);
    let second = world().start().await;
    second.until_header("x-greeting", "hello").await;
    assert!(second.gateway.terminate().await.success());
}

#[tokio::test]
async fn a_registry_that_refuses_is_told_in_the_status() {
    let registry = Registry::builder().with_login().start();
    let world = World::builder()
        .file("plugin.yaml", plugin(&format!("{{ref: '{}/acme/headers:1'}}", registry.address())))
        .start()
        .await;
    let refused = |status: &serde_json::Value| status["candidate"]["reason"] == "AccessRefused";
    let status = world.until_status("WasmPlugin", "headers", refused).await;
    assert_eq!(status["candidate"]["phase"], "Fetching");
    assert_eq!(condition(&status, "Programmed")["reason"], "AccessRefused");
    let said = status["candidate"]["message"].as_str().unwrap();
    assert!(said.contains("pullSecretRef"), "{said}");
    assert!(status["candidate"]["retry"]["attempts"].is_number(), "{status:#}");
}

#[test]
fn push_and_pull_use_the_login_that_docker_keeps() {
    let registry = Registry::builder().with_login().start();
    let folder = folder();
    let (module, copy) = (folder.path().join("plugin.wasm"), folder.path().join("copy.wasm"));
    let reference = format!("{}/acme/headers:1", registry.address());
    let push = || plugin_command(folder.path(), &["push", module.to_str().unwrap(), &reference], "");
    let said = failed(&push());
    assert!(said.contains("refused access (401") && said.contains("docker login"), "{said}");

    std::fs::create_dir(folder.path().join(".docker")).unwrap();
    std::fs::write(folder.path().join(".docker/config.json"), registry.docker_config()).unwrap();
    let pushed = succeeded(&push());
    assert_eq!(succeeded(&push()), pushed, "the same plugin has the same digest");
    let pull = |reference: &str| plugin_command(folder.path(), &["pull", reference, "-o", copy.to_str().unwrap()], "");
    assert_eq!(succeeded(&pull(&reference)), pushed);
    assert_eq!(std::fs::read(&copy).unwrap(), header_rules());
    std::fs::remove_file(&copy).unwrap();
    assert_eq!(succeeded(&pull(&pushed)), pushed);
    assert_eq!(std::fs::read(&copy).unwrap(), header_rules());

    // Another plugin under that tag is said to be meant.
    std::fs::copy(guests::RATE_LIMIT, &module).unwrap();
    let said = failed(&push());
    assert!(said.contains(&format!("{reference} was not pushed: the tag means sha256:")), "{said}");
    assert!(said.contains("--force"), "{said}");
    let force = ["push", module.to_str().unwrap(), &reference, "--force"];
    assert_ne!(succeeded(&plugin_command(folder.path(), &force, "")), pushed);
    std::fs::write(&module, header_rules()).unwrap();
    let force = ["push", module.to_str().unwrap(), &reference, "--force"];
    assert_eq!(succeeded(&plugin_command(folder.path(), &force, "")), pushed);

    let remote = format!("oci://{reference}");
    let rules = "{rules: [{response: {set: {x-a: b}}}]}";
    let said = succeeded(&plugin_command(folder.path(), &["check", &remote, "--config", rules], ""));
    assert!(said.starts_with(&format!("{remote}: accepted: header-rules")), "{said}");
    let said =
        succeeded(&plugin_command(folder.path(), &["bench", &remote, "--config", rules, "--iterations", "100"], ""));
    assert!(said.contains("header-rules"), "{said}");
    let exchanges = folder.path().join("exchanges.yaml");
    std::fs::write(&exchanges, format!("config: {rules}\nexchanges: [{{name: a}}]\n")).unwrap();
    let said =
        succeeded(&plugin_command(folder.path(), &["test", exchanges.to_str().unwrap(), "--module", &remote], ""));
    assert!(said.contains(&format!("1 of 1 exchange as expected ({remote})")), "{said}");

    let inspect = |what: &str| plugin_command(folder.path(), &["inspect", what, "-o", "json"], "");
    let inspected = succeeded(&inspect(&format!("oci://{reference}")));
    assert!(
        inspected.contains("\"name\": \"header-rules\"") && inspected.contains("\"kind\": \"policy\""),
        "{inspected}"
    );
    let said = failed(&inspect(&format!("oci://{}/acme/other:1", registry.address())));
    assert!(said.contains("acme/other:1 is not there"), "{said}");

    let said = failed(&pull(&format!("{}/acme/other:1", registry.address())));
    assert!(said.contains("acme/other:1 is not there"), "{said}");
    std::fs::write(folder.path().join(".docker/config.json"), r#"{"auths": {"a.io": "s3cret"}}"#).unwrap();
    let said = failed(&pull(&reference));
    assert!(said.contains(".docker/config.json cannot be used") && !said.contains("s3cret"), "{said}");
}

#[test]
fn what_is_no_plugin_is_not_pushed() {
    let registry = Registry::start();
    let folder = folder();
    let module = folder.path().join("text.wasm");
    std::fs::write(&module, "no module").unwrap();
    let reference = format!("{}/acme/text:1", registry.address());
    let said = failed(&plugin_command(folder.path(), &["push", module.to_str().unwrap(), &reference], ""));
    assert!(said.contains("was not pushed: InvalidModule") && said.contains("penstock plugin inspect"), "{said}");
    assert!(!registry.log().contains("PUT /v2/"), "{}", registry.log());
    let output = plugin_command(folder.path(), &["push", module.to_str().unwrap(), "acme/text:1"], "");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("names no registry"));
}

//! Secrets in the configuration of plugins: they get where they belong, and nowhere else.

use std::process::Command;

use penstock_testing::tempfile::TempDir;

use crate::world::{PENSTOCK, World, header_rules};

const VALUE: &str = "correct-horse-battery-staple";

/// A plugin that sets `x-greeting` to what stands under `token` of the Secret `creds`, at this place of its configuration.
fn plugin(secret: &str, key: &str, pointer: &str) -> String {
    format!(
        "\
apiVersion: penstock.dev/v1alpha1
kind: WasmPlugin
metadata: {{name: headers}}
spec:
  source: {{file: {{path: plugin.wasm}}}}
  targetRefs: [{{group: gateway.networking.k8s.io, kind: Gateway, name: gw}}]
  config: {{rules: [{{response: {{set: {{x-greeting: placeholder}}}}}}]}}
  secretRefs: [{{name: {secret}, key: {key}, as: {pointer}}}]
"
    )
}

fn secret() -> String {
    format!("{{apiVersion: v1, kind: Secret, metadata: {{name: creds}}, stringData: {{token: {VALUE}}}}}")
}

/// What `penstock check` says of a plugin beside that Secret.
fn check(plugin: &str) -> (Option<i32>, String) {
    let folder = TempDir::new().unwrap();
    let write = |name: &str, contents: &[u8]| std::fs::write(folder.path().join(name), contents).unwrap();
    write("plugin.wasm", &header_rules());
    write("plugin.yaml", plugin.as_bytes());
    write("secret.yaml", secret().as_bytes());
    let output = Command::new(PENSTOCK).args(["check", "-f"]).arg(folder.path()).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    assert!(!said.contains(VALUE), "{said}");
    (output.status.code(), said)
}

#[test]
fn check_names_what_is_missing_and_shows_no_value() {
    let refused = |plugin: String, parts: &[&str]| {
        let (code, said) = check(&plugin);
        assert_eq!(code, Some(1), "{said}");
        for part in parts {
            assert!(said.contains(part), "{part} in {said}");
        }
    };
    refused(plugin("cred", "token", "/x"), &["spec.secretRefs[0].name", "`default/cred`", "did you mean `creds`"]);
    refused(plugin("creds", "tokn", "/x"), &["spec.secretRefs[0].key", "`creds` has no `tokn`", "it has `token`"]);
    refused(plugin("creds", "token", "x"), &["spec.secretRefs[0].as", "no JSON pointer"]);
    // The schema of the plugin is asked with the value in its place.
    refused(plugin("creds", "token", "/rules"), &["InvalidConfig", "spec.config: /rules: ", "array"]);
    refused(
        plugin("creds", "token", "/rulez"),
        &["InvalidConfig", "/rulez: unknown field `rulez`", "did you mean `rules`?"],
    );
}

#[tokio::test]
async fn a_secret_reaches_the_plugin_and_nobody_else() {
    let world = World::builder()
        .file("plugin.wasm", header_rules())
        .file("secret.yaml", secret())
        .file("plugin.yaml", plugin("creds", "token", "/rules/0/response/set/x-greeting"))
        .start()
        .await;
    world.until_header("x-greeting", VALUE).await;
    // A refused one must not tell either.
    world.gateway.write("plugin.yaml", plugin("creds", "token", "/rules"));
    let refused = |status: &serde_json::Value| status["candidate"]["reason"] == "InvalidConfig";
    world.until_status("WasmPlugin", "headers", refused).await;
    for page in ["/status", "/config", "/metrics"] {
        assert!(!world.gateway.admin(page).await.text().contains(VALUE), "{page}");
    }
    assert!(!world.gateway.log().contains(VALUE), "{}", world.gateway.log());
    world.until_header("x-greeting", VALUE).await;
}

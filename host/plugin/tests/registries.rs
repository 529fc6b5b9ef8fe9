//! Modules from a real registry, and from one that misbehaves.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use penstock_core::{
    Kind, ResourceRef,
    plugin::{
        ActiveRevision, DockerConfig, ModuleSource, OciReference, OciSource, OciVersion, PluginSpec, PullSecret,
        RegistryLogin, Rejection, Sha256,
    },
};
use penstock_plugin_host::{Artifact, PluginSettings, RegistryClient};
use penstock_testing::{
    origin::{Answer, Origin, Recorded},
    registry::{PASSWORD, Registry, USERNAME},
};
use serde_json::json;
use sha2::Digest as _;
use support::{
    exchange::works,
    facts::{Host, plugin, settings, spec, until},
    guest::Guest,
};

fn digest(bytes: &[u8]) -> Sha256 {
    Sha256::new(sha2::Sha256::digest(bytes).into())
}

fn reference(text: &str) -> OciReference {
    text.parse().unwrap()
}

/// A module that differs from others of another version.
fn module(version: &str) -> Vec<u8> {
    Guest { version: version.into(), ..Guest::default() }.build()
}

fn push(reference: &OciReference, login: Option<RegistryLogin>, module: &[u8]) -> Result<Sha256, String> {
    let artifact = Artifact { reference: reference.clone(), login, insecure: false };
    let annotations = BTreeMap::from([("org.opencontainers.image.version", "1.0.0".to_owned())]);
    let client = RegistryClient::new().unwrap();
    client.push(&artifact, Bytes::copy_from_slice(module), annotations).map_err(|error| error.to_string())
}

fn source(reference: OciReference) -> OciSource {
    OciSource { reference, pull_secret: None, insecure: false, poll_interval: None }
}

fn oci(source: OciSource) -> PluginSpec {
    PluginSpec { source: ModuleSource::Oci(source), ..spec("a", vec![]) }
}

fn refused(source: OciSource) -> Rejection {
    let host = Host::start();
    let wanted = oci(source);
    host.apply(&[&wanted]);
    host.rejected(&wanted).0
}

fn at(reference: &OciReference, digest: Sha256) -> String {
    reference.at(OciVersion::Digest(digest)).to_string()
}

fn artifact(active: &ActiveRevision) -> &str {
    active.artifact.as_deref().unwrap()
}

#[test]
fn a_tag_is_resolved_once_and_survives_restart_and_registry() {
    let registry = Registry::start();
    let tagged = reference(&format!("{}/acme/headers:1", registry.address()));
    let first = push(&tagged, None, &module("1.0.0")).unwrap();
    assert_eq!(push(&tagged, None, &module("1.0.0")), Ok(first), "the same again");
    let directory = tempfile::tempdir().unwrap();
    let settings = || PluginSettings { downloads: Some(directory.path().join("downloads")), ..settings() };
    let wanted = oci(source(tagged.clone()));
    {
        let host = Host::with(settings());
        let active = host.activate(&wanted);
        assert_eq!((artifact(&active), &*active.version), (&*at(&tagged, first), "1.0.0"));
        works(&*host.host.runtime().worker(), &active);
    }
    // The tag moves; nothing that is there already follows it.
    let second = push(&tagged, None, &module("2.0.0")).unwrap();
    assert_ne!(first, second);
    let host = Host::with(settings());
    assert_eq!(artifact(&host.activate(&wanted)), at(&tagged, first));
    let stopped = registry.stop();
    let config = Arc::new(json!({ "n": 1 }));
    let changed = PluginSpec { generation: 2, config, ..wanted.clone() };
    assert_eq!(artifact(&host.activate(&changed)), at(&tagged, first), "another configuration, without a registry");
    // A plugin that is created anew looks anew; and a pinned digest never changes.
    let _registry = stopped.start();
    host.apply(&[]);
    host.facts.until(&plugin("a"), |state| state.active.is_none().then_some(()));
    assert_eq!(artifact(&host.activate(&PluginSpec { generation: 3, ..wanted })), at(&tagged, second));
    let pinned = PluginSpec { generation: 4, ..oci(source(tagged.at(OciVersion::Digest(first)))) };
    assert_eq!(&*host.activate(&pinned).version, "1.0.0");
}

#[test]
fn a_tag_that_moves_is_followed_where_that_is_wanted() {
    let registry = Registry::start();
    let tagged = reference(&format!("{}/acme/headers:edge", registry.address()));
    push(&tagged, None, &module("1.0.0")).unwrap();
    let host = Host::start();
    let poll_interval = Some(Duration::from_millis(20));
    let wanted = oci(OciSource { poll_interval, ..source(tagged.clone()) });
    let first = host.activate(&wanted);
    let told = host.facts.count();
    // Looking again finds the same, and says nothing.
    let polls = |least: usize| {
        let asked = || registry.log().matches("GET /v2/acme/headers/manifests/edge").count();
        let start = asked();
        until("the tag is looked up again", || asked() >= start + least);
    };
    polls(3);
    assert_eq!(host.facts.count(), told);
    // A module that is refused changes nothing but the candidate, once.
    push(&tagged, None, b"no module").unwrap();
    let (rejection, active) = host.rejected(&wanted);
    assert_eq!((rejection.reason, active.as_ref()), ("InvalidModule", Some(&first)));
    let told = host.facts.count();
    polls(3);
    assert_eq!(host.facts.count(), told);
    let second = push(&tagged, None, &module("2.0.0")).unwrap();
    let active = host.facts.until(&plugin("a"), |state| state.active.clone().filter(|it| &*it.version == "2.0.0"));
    assert_eq!(artifact(&active), at(&tagged, second));
    // While the registry is away, what serves stays, and status says nothing else.
    let told = host.facts.count();
    let address = registry.address();
    let failures = || host.metric(r#"penstock_plugin_fetches_total{source="oci",outcome="ConnectFailed"}"#);
    let stopped = registry.stop();
    until("looking up the tag fails", || failures() >= 2.0);
    assert_eq!(host.facts.count(), told);
    let registry = stopped.start();
    assert_eq!(registry.address(), address);
    push(&tagged, None, &module("3.0.0")).unwrap();
    host.facts.until(&plugin("a"), |state| state.active.clone().filter(|it| &*it.version == "3.0.0"));
}

#[test]
fn a_private_registry_wants_a_login() {
    let registry = Registry::builder().with_login().start();
    let tagged = reference(&format!("{}/acme/private:1", registry.address()));
    let logins = DockerConfig::parse(registry.docker_config().as_bytes()).unwrap();
    let login = logins.login(&tagged).unwrap().clone();
    let said = push(&tagged, None, &module("1.0.0")).unwrap_err();
    assert!(said.contains("refused access (401 Unauthorized") && said.contains("docker login"), "{said}");
    push(&tagged, Some(login.clone()), &module("1.0.0")).unwrap();

    let secret = ResourceRef::new(Kind::Secret, "default", "logins");
    let as_whom =
        |login| OciSource { pull_secret: Some(PullSecret { secret: secret.clone(), login }), ..source(tagged.clone()) };
    let host = Host::start();
    let private = oci(as_whom(login));
    let active = host.activate(&private);
    works(&*host.host.runtime().worker(), &active);

    // The digest stands in its status. Who knows it, and has no login, gets nothing by it.
    let stranger = PluginSpec {
        plugin: ResourceRef::new(Kind::WasmPlugin, "elsewhere", "a"),
        ..oci(source(reference(artifact(&active))))
    };
    host.apply(&[&private, &stranger]);
    assert_eq!(host.rejected(&stranger).0.reason, "AccessRefused");

    let rejection = refused(source(tagged.clone()));
    assert_eq!(rejection.reason, "AccessRefused");
    assert!(
        rejection.message.contains("without a login") && rejection.message.contains("pullSecretRef"),
        "{}",
        rejection.message
    );
    let wrong = RegistryLogin::Password { username: USERNAME.into(), password: "s3cret".into() };
    let rejection = refused(as_whom(wrong));
    assert_eq!(rejection.reason, "AccessRefused");
    assert!(rejection.message.contains("the login from Secret/default/logins may not"), "{}", rejection.message);
    assert!(!rejection.message.contains("s3cret") && !rejection.message.contains(PASSWORD), "{}", rejection.message);
}

#[test]
fn what_a_registry_does_not_have_is_named() {
    let registry = Registry::start();
    let tagged = reference(&format!("{}/acme/headers:1", registry.address()));
    let rejection = refused(source(tagged.clone()));
    assert_eq!(rejection.reason, "ModuleNotFound");
    assert!(rejection.message.starts_with(&format!("{tagged} is not there: ")), "{}", rejection.message);
    assert!(rejection.message.contains("MANIFEST_UNKNOWN"), "{}", rejection.message);
    push(&tagged, None, &vec![0; 17 << 20]).unwrap();
    let rejection = refused(source(tagged));
    assert_eq!(rejection.reason, "ModuleTooLarge");
    assert_eq!(rejection.message, "the module has 17825792 bytes; limits.moduleSize allows 16777216");
}

/// A registry that a test makes up: what it has, by path.
fn registry(contents: Vec<(String, Bytes)>) -> Origin {
    let contents: BTreeMap<String, Bytes> = contents.into_iter().collect();
    Origin::builder()
        .answer(move |request: &Recorded| match contents.get(&request.path) {
            Some(body) => Answer::new(200).body(body.clone()),
            None => Answer::new(404),
        })
        .start()
}

fn manifest(path: &str, value: &serde_json::Value) -> (String, Bytes) {
    (format!("/v2/a/manifests/{path}"), value.to_string().into())
}

fn layer(media_type: &str, bytes: &[u8]) -> serde_json::Value {
    json!({ "mediaType": media_type, "digest": digest(bytes).to_string(), "size": bytes.len() })
}

fn blob(bytes: &[u8]) -> (String, Bytes) {
    (format!("/v2/a/blobs/{}", digest(bytes)), Bytes::copy_from_slice(bytes))
}

fn of(registry: &Origin) -> OciSource {
    source(reference(&format!("{}/a:1", registry.address())))
}

#[test]
fn an_index_leads_to_the_manifest_for_wasm() {
    let module = module("1.0.0");
    let artifact =
        json!({ "schemaVersion": 2, "layers": [layer("application/vnd.wasm.content.layer.v1+wasm", &module)] });
    let bytes = artifact.to_string();
    let entry = |digest: Sha256, os: &str, architecture: &str| {
        let platform = json!({ "os": os, "architecture": architecture });
        json!({ "digest": digest.to_string(), "size": 1, "platform": platform })
    };
    let entries = [entry(digest(b"x"), "linux", "amd64"), entry(digest(bytes.as_bytes()), "wasip2", "wasm")];
    let index = json!({ "schemaVersion": 2, "manifests": entries });
    let origin = registry(vec![
        manifest("1", &index),
        manifest(&digest(bytes.as_bytes()).to_string(), &artifact),
        blob(&module),
    ]);
    let host = Host::start();
    let active = host.activate(&oci(of(&origin)));
    assert_eq!(*active.digest, *digest(&module).to_string());
    assert!(artifact_is(&active, digest(index.to_string().as_bytes())), "the index is what the tag means: {active:?}");
}

fn artifact_is(active: &ActiveRevision, digest: Sha256) -> bool {
    artifact(active).ends_with(&digest.to_string())
}

#[test]
fn what_is_no_plugin_is_refused_with_what_it_is() {
    let check = |contents: Vec<(String, Bytes)>, reason: &str, part: &str| {
        let rejection = refused(of(&registry(contents)));
        assert_eq!(rejection.reason, reason, "{}", rejection.message);
        assert!(rejection.message.contains(part), "{part} in {}", rejection.message);
    };
    let tar = "application/vnd.oci.image.layer.v1.tar+gzip";
    let image = json!({ "schemaVersion": 2, "layers": [layer(tar, b"tar")] });
    check(vec![manifest("1", &image)], "NotAWasmArtifact", tar);
    let index = json!({ "schemaVersion": 2, "manifests": [{ "digest": "x", "platform": { "os": "linux", "architecture": "arm64" } }] });
    check(vec![manifest("1", &index)], "NotAWasmArtifact", "linux/arm64");
    check(vec![("/v2/a/manifests/1".into(), "<html>".into())], "InvalidArtifact", "no JSON of a manifest");
    let huge = format!("{{\"schemaVersion\": 2, \"x\": \"{}\"}}", "x".repeat(1 << 20));
    check(vec![("/v2/a/manifests/1".into(), huge.into())], "InvalidArtifact", "more than 1048576 bytes");
    let wasm = json!({ "schemaVersion": 2, "layers": [layer("application/wasm", b"what was pushed")] });
    let other = ("application/wasm", format!("/v2/a/blobs/{}", digest(b"what was pushed")), Bytes::from("another"));
    check(vec![manifest("1", &wasm), (other.1, other.2)], "DigestMismatch", &digest(b"another").to_string());
    check(vec![manifest("1", &wasm)], "ModuleNotFound", "the layer sha256:");
    let lying = json!({ "schemaVersion": 2, "layers": [{ "mediaType": "application/wasm", "digest": digest(b"y").to_string(), "size": 1 }] });
    let endless = (format!("/v2/a/blobs/{}", digest(b"y")), Bytes::from(vec![0; (16 << 20) + 1]));
    check(vec![manifest("1", &lying), endless], "ModuleTooLarge", "limits.moduleSize allows 16777216");
}

#[test]
fn a_pinned_manifest_is_verified() {
    let origin = registry(vec![manifest(&digest(b"wanted").to_string(), &json!({ "schemaVersion": 2, "layers": [] }))]);
    let tagged = reference(&format!("{}/a:1", origin.address()));
    let rejection = refused(source(tagged.at(OciVersion::Digest(digest(b"wanted")))));
    assert_eq!(rejection.reason, "DigestMismatch");
    assert!(rejection.message.contains(&digest(b"wanted").to_string()), "{}", rejection.message);
}

/// A registry with a token server: tokens are for those who log in, and nobody else gets anything.
fn with_tokens(module: Vec<u8>, seen: Arc<std::sync::Mutex<Vec<Recorded>>>) -> Origin {
    let wasm = json!({ "schemaVersion": 2, "layers": [layer("application/wasm", &module)] });
    Origin::builder()
        .answer(move |request: &Recorded| {
            seen.lock().unwrap().push(request.clone());
            let authorization = request.headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
            let host = request.headers["host"].to_str().unwrap();
            let path = request.path.split('?').next().unwrap();
            match (path, authorization.as_deref()) {
                // `tester:correct-horse`
                ("/token", Some("Basic dGVzdGVyOmNvcnJlY3QtaG9yc2U=")) => {
                    Answer::new(200).body(r#"{"token": "t0ken"}"#)
                }
                ("/token", None) if request.body.starts_with(b"grant_type=refresh_token") => {
                    Answer::new(200).body(r#"{"access_token": "t0ken"}"#)
                }
                ("/token", _) => Answer::new(401).body(r#"{"errors": [{"code": "UNAUTHORIZED"}]}"#),
                ("/v2/a/manifests/1", Some("Bearer t0ken")) => Answer::new(200).body(wasm.to_string()),
                (blob, Some("Bearer t0ken")) if blob.starts_with("/v2/a/blobs/") => {
                    // As registries do that keep blobs elsewhere: another origin, which must not see the token.
                    Answer::new(307).header(
                        "location",
                        &format!("http://localhost:{}/storage?signed=1", host.rsplit(':').next().unwrap()),
                    )
                }
                ("/storage", None) => Answer::new(200).body(module.clone()),
                ("/storage", Some(_)) => Answer::new(400),
                _ => {
                    let challenge = format!(r#"Bearer realm="http://{host}/token",service="test registry",scope="x""#);
                    Answer::new(401).header("www-authenticate", &challenge)
                }
            }
        })
        .start()
}

#[test]
fn tokens_are_got_from_where_the_registry_says() {
    let seen = Arc::default();
    let origin = with_tokens(module("1.0.0"), Arc::clone(&seen));
    let as_whom = |login| {
        let secret = ResourceRef::new(Kind::Secret, "default", "logins");
        OciSource { pull_secret: Some(PullSecret { secret, login }), ..of(&origin) }
    };
    let password = |password: &str| RegistryLogin::Password { username: USERNAME.into(), password: password.into() };
    for login in
        [password(PASSWORD), RegistryLogin::RefreshToken("r".into()), RegistryLogin::BearerToken("t0ken".into())]
    {
        let host = Host::start();
        works(&*host.host.runtime().worker(), &host.activate(&oci(as_whom(login))));
    }
    let paths: Vec<String> = seen.lock().unwrap().iter().map(|request| request.path.clone()).collect();
    assert!(paths.contains(&"/token?service=test%20registry&scope=repository:a:pull".to_owned()), "{paths:?}");
    assert_eq!(refused(as_whom(password("wrong"))).reason, "AccessRefused");
    assert_eq!(refused(of(&origin)).reason, "AccessRefused");
}

//! Where a WasmPlugin's module comes from: exactly one of the fields of `spec.source`.

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use k8s_openapi::ByteString;
use penstock_core::{
    Kind, ResourceRef,
    plugin::{
        DockerConfig, HttpSource, InvalidDockerConfig, ModuleSource, OciReference, OciSource, OciVersion, PullSecret,
        Sha256,
    },
};

use super::quantity;
use crate::{
    grants::{self, End},
    nearest::{did_you_mean, list},
    problem::Problem,
    resources::{
        Secret, WasmPlugin,
        wasm_plugin::{self, ConfigMapKeyReference, PluginSource, PullSecretReference},
    },
    view::View,
};

/// Tags are not resolved more often than this: every time is a request to the registry.
const SHORTEST_POLL: Duration = Duration::from_secs(10);

/// Where logins stand in a Secret, and how they are written there.
const DOCKER_CONFIG: &str = ".dockerconfigjson";
const DOCKER_CONFIG_LEGACY: &str = ".dockercfg";

/// The file that a plugin names as its source.
pub(super) fn file(object: &WasmPlugin) -> Option<PathBuf> {
    object.spec.source.file.as_ref().map(|file| PathBuf::from(&file.path))
}

/// What is wrong with a source.
pub(super) enum SourceProblem {
    /// With the resource itself.
    Refused(Problem),
    /// With what it refers to.
    Unresolved(Problem),
}

use SourceProblem::{Refused, Unresolved};

/// The source; `stamp` identifies the content of the file, if one is named.
pub(super) fn evaluate(
    view: &View<'_>,
    id: &ResourceRef,
    source: &PluginSource,
    stamp: Option<&Arc<str>>,
) -> Result<ModuleSource, SourceProblem> {
    let PluginSource { file, config_map_ref, http, oci } = source;
    let given = [
        file.as_ref().map(|_| "file"),
        config_map_ref.as_ref().map(|_| "configMapRef"),
        http.as_ref().map(|_| "http"),
        oci.as_ref().map(|_| "oci"),
    ];
    let given: Vec<&str> = given.into_iter().flatten().collect();
    if given.len() > 1 {
        return Err(invalid(format!("spec.source: {} exclude each other", list(given))));
    }
    if let Some(file) = file {
        return from_file(view, file, stamp);
    }
    if let Some(reference) = config_map_ref {
        let module = module_of(view, id, reference).map(ModuleSource::Inline);
        return module.map_err(|problem| Unresolved(problem.within("spec.source.configMapRef")));
    }
    if let Some(http) = http {
        return from_http(http);
    }
    if let Some(oci) = oci {
        return from_registry(view, id, oci).map(ModuleSource::Oci);
    }
    Err(invalid("spec.source: needs one of `file`, `configMapRef`, `http` and `oci`"))
}

fn invalid(message: impl Into<String>) -> SourceProblem {
    Refused(Problem::invalid(message))
}

/// Whoever may write resources in a cluster has no say in what the gateway's pod reads.
fn from_file(
    view: &View<'_>,
    file: &wasm_plugin::FileSource,
    stamp: Option<&Arc<str>>,
) -> Result<ModuleSource, SourceProblem> {
    if view.settings().implied_class.is_none() {
        return Err(invalid(
            "spec.source.file: is for gateways without a cluster; use `configMapRef`, `http` or `oci`",
        ));
    }
    if file.path.is_empty() {
        return Err(invalid("spec.source.file.path: is empty"));
    }
    let stamp = stamp.cloned().unwrap_or_else(|| "".into());
    Ok(ModuleSource::File { path: PathBuf::from(&file.path), stamp })
}

fn from_http(http: &wasm_plugin::HttpSource) -> Result<ModuleSource, SourceProblem> {
    let url = http.url.parse().map_err(|error| invalid(format!("spec.source.http.url: {error}")))?;
    let sha256 = digest("spec.source.http.sha256", &http.sha256)?;
    Ok(ModuleSource::Http(HttpSource { url, sha256 }))
}

fn digest(field: &str, text: &str) -> Result<Sha256, SourceProblem> {
    text.parse().map_err(|error| invalid(format!("{field}: {error}")))
}

fn from_registry(view: &View<'_>, id: &ResourceRef, oci: &wasm_plugin::OciSource) -> Result<OciSource, SourceProblem> {
    let mut reference: OciReference =
        oci.reference.parse().map_err(|error| invalid(format!("spec.source.oci.ref: {error}")))?;
    if let Some(text) = &oci.digest {
        let digest = digest("spec.source.oci.digest", text)?;
        match &reference.version {
            OciVersion::Digest(other) if *other != digest => {
                return Err(invalid(format!("spec.source.oci.digest: is {digest}, but `ref` says {other}")));
            }
            OciVersion::Digest(_) | OciVersion::Tag(_) => reference = reference.at(OciVersion::Digest(digest)),
        }
    }
    let poll_interval = oci.poll_interval.as_deref().map(|text| poll_interval(text, &reference)).transpose()?;
    let pull_secret = oci.pull_secret_ref.as_ref().map(|secret| pull_secret(view, id, secret, &reference)).transpose();
    let pull_secret = pull_secret.map_err(|problem| Unresolved(problem.within("spec.source.oci.pullSecretRef")))?;
    Ok(OciSource { reference, pull_secret, insecure: oci.insecure, poll_interval })
}

fn poll_interval(text: &str, reference: &OciReference) -> Result<Duration, SourceProblem> {
    let field = "spec.source.oci.pollInterval";
    if let OciVersion::Digest(_) = reference.version {
        return Err(invalid(format!("{field}: a digest never means anything else; leave it out, or name a tag")));
    }
    let interval = quantity::duration(text).filter(|interval| *interval >= SHORTEST_POLL);
    interval.ok_or_else(|| invalid(format!("{field}: `{text}` is no duration of 10s or more, such as `5m`")))
}

fn pull_secret(
    view: &View<'_>,
    id: &ResourceRef,
    reference: &PullSecretReference,
    artifact: &OciReference,
) -> Result<PullSecret, Problem> {
    let name = reference.name.as_str();
    let namespace = reference.namespace.as_deref().unwrap_or(&id.namespace);
    let from = End { group: "penstock.dev", kind: "WasmPlugin", namespace: &id.namespace };
    let to = End { group: "", kind: "Secret", namespace };
    if !grants::permitted(view.reference_grants(), from, to, name) {
        let message = format!("namespace: Secret `{name}` {}", grants::advice(from, to, name));
        return Err(Problem::new("RefNotPermitted", message));
    }
    let key = ResourceRef::new(Kind::Secret, namespace, name);
    let Some(secret) = view.secret(&key) else {
        let hint = did_you_mean(name, view.secrets().names_in(Kind::Secret, namespace));
        return Err(Problem::new("SecretNotFound", format!("name: there is no Secret `{namespace}/{name}`{hint}")));
    };
    let unfit = |why: String| Problem::new("InvalidSecret", format!("name: Secret `{namespace}/{name}` {why}"));
    let logins = logins(secret).map_err(unfit)?;
    let Some(login) = logins.login(artifact) else {
        let known = list(logins.registries());
        return Err(unfit(format!("has no login for the registry `{}`; it has {known}", artifact.registry)));
    };
    Ok(PullSecret { secret: key, login: login.clone() })
}

fn logins(secret: &Secret) -> Result<DockerConfig, String> {
    let value =
        |key: &str| secret.data.iter().flatten().find(|(name, _)| *name == key).map(|(_, ByteString(value))| value);
    let named = |key: &'static str| move |error: InvalidDockerConfig| format!("has a `{key}` that {error}");
    if let Some(json) = value(DOCKER_CONFIG) {
        return DockerConfig::parse(json).map_err(named(DOCKER_CONFIG));
    }
    match value(DOCKER_CONFIG_LEGACY) {
        Some(json) => DockerConfig::parse_legacy(json).map_err(named(DOCKER_CONFIG_LEGACY)),
        None => Err(format!(
            "has neither `{DOCKER_CONFIG}` nor `{DOCKER_CONFIG_LEGACY}`; `kubectl create secret docker-registry` makes one that has"
        )),
    }
}

fn module_of(view: &View<'_>, id: &ResourceRef, reference: &ConfigMapKeyReference) -> Result<Bytes, Problem> {
    let missing = |message: String| Problem::new("ConfigMapNotFound", message);
    let name = &reference.name;
    let Some(map) = view.config_map(&ResourceRef::new(Kind::ConfigMap, id.namespace.clone(), name.as_str())) else {
        let hint = did_you_mean(name, view.config_maps().names_in(Kind::ConfigMap, &id.namespace));
        return Err(missing(format!("name: there is no ConfigMap `{}/{name}`{hint}", id.namespace)));
    };
    let entries = map.binary_data.iter().flatten();
    let found = match &reference.key {
        Some(key) => entries.clone().find(|(name, _)| *name == key),
        None => entries.clone().next().filter(|_| entries.clone().count() == 1),
    };
    found.map(|(_, ByteString(module))| Bytes::copy_from_slice(module)).ok_or_else(|| {
        let keys = list(entries.map(|(name, _)| name.as_str()));
        missing(match &reference.key {
            Some(key) => format!("key: ConfigMap `{name}` has no `{key}` in its binaryData; it has {keys}"),
            None => format!("key: is required unless binaryData of ConfigMap `{name}` has exactly one; it has {keys}"),
        })
    })
}

//! Modules into registries, as the CNCF's "Wasm OCI Artifact" has them: one layer, and a configuration that says what it is.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use penstock_core::plugin::{ModuleUrl, OciReference, OciVersion, Sha256};
use serde::Serialize;

use super::{
    FetchError,
    http::{Answer, Ask},
    manifest::{Descriptor, NewManifest, OCI_MANIFEST, WASM_CONFIG, WASM_LAYER},
    registry::{Repository, percent_encoded},
};
use crate::module::Digest;

/// Says that the layer is a component. The time is the same always, so that a module that is pushed again has the same digest.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WasmConfig {
    created: &'static str,
    architecture: &'static str,
    os: &'static str,
    layer_digests: [String; 1],
}

/// Push a module; answers with the digest of its manifest.
pub(super) async fn push(
    repository: &mut Repository<'_>,
    reference: &OciReference,
    module: Bytes,
    annotations: BTreeMap<&'static str, String>,
) -> Result<Sha256, FetchError> {
    let layer = descriptor(WASM_LAYER, &module);
    let config = WasmConfig {
        created: "1970-01-01T00:00:00Z",
        architecture: "wasm",
        os: "wasip2",
        layer_digests: [layer.digest.clone()],
    };
    let config = json(&config)?;
    let config_descriptor = descriptor(WASM_CONFIG, &config);
    push_blob(repository, module).await?;
    push_blob(repository, config).await?;
    let manifest = NewManifest {
        schema_version: 2,
        media_type: OCI_MANIFEST,
        config: config_descriptor,
        layers: vec![layer],
        annotations,
    };
    let manifest = json(&manifest)?;
    let digest = Sha256::from(Digest::of(&manifest));
    let version = match &reference.version {
        OciVersion::Digest(expected) if *expected != digest => {
            let (what, expected) = ("the manifest of this module".into(), *expected);
            return Err(FetchError::DigestMismatch { what, expected, actual: digest });
        }
        version => version,
    };
    let ask = with_body(Method::PUT, repository.url(&format!("manifests/{version}"))?, OCI_MANIFEST, manifest);
    let answer = repository.send(ask).await?;
    expect(repository, answer, StatusCode::CREATED).await?;
    Ok(digest)
}

fn descriptor(media_type: &str, bytes: &Bytes) -> Descriptor {
    Descriptor::new(media_type, Digest::of(bytes).into(), bytes.len() as u64)
}

fn json(value: &impl Serialize) -> Result<Bytes, FetchError> {
    let malformed =
        |error: serde_json::Error| FetchError::Malformed { what: "the manifest".into(), why: error.to_string() };
    serde_json::to_vec(value).map(Bytes::from).map_err(malformed)
}

/// Push a blob in one piece, unless it is there already.
async fn push_blob(repository: &mut Repository<'_>, blob: Bytes) -> Result<(), FetchError> {
    let digest = Sha256::from(Digest::of(&blob));
    let ask = Ask { method: Method::HEAD, ..Ask::get(repository.url(&format!("blobs/{digest}"))?) };
    if repository.send(ask).await?.status == StatusCode::OK {
        return Ok(());
    }
    let begin = with_body(Method::POST, repository.url("blobs/uploads/")?, "application/octet-stream", Bytes::new());
    let url = begin.url.clone();
    let answer = repository.send(begin).await?;
    let answer = expect(repository, answer, StatusCode::ACCEPTED).await?;
    let location = answer.headers.get(header::LOCATION).and_then(|location| location.to_str().ok()).unwrap_or_default();
    let to = upload(&url, location, digest).map_err(|source| FetchError::Location { url: url.to_string(), source })?;
    let answer = repository.send(with_body(Method::PUT, to, "application/octet-stream", blob)).await?;
    expect(repository, answer, StatusCode::CREATED).await.map(drop)
}

fn upload(from: &ModuleUrl, location: &str, digest: Sha256) -> Result<ModuleUrl, penstock_core::plugin::InvalidUrl> {
    let to = from.join(location)?;
    let separator = if to.uri().query().is_some() { '&' } else { '?' };
    format!("{}{separator}digest={}", to.uri(), percent_encoded(&digest.to_string())).parse()
}

fn with_body(method: Method, url: ModuleUrl, content_type: &'static str, body: Bytes) -> Ask {
    let mut ask = Ask { method, body, ..Ask::get(url) };
    ask.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    ask
}

async fn expect(repository: &Repository<'_>, answer: Answer, status: StatusCode) -> Result<Answer, FetchError> {
    if answer.status == status { Ok(answer) } else { Err(repository.refusal(answer).await) }
}

//! Any of the resources: parsing, schemas, identity.

use std::sync::{Arc, LazyLock};

use k8s_openapi::{Metadata, Resource, api::core::v1::ServiceStatus, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use penstock_core::{Kind, ResourceRef};
use schemars::{JsonSchema, generate::SchemaSettings};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{
    BackendTLSPolicy, ConfigMap, ControllerRevision, EndpointSlice, GRPCRoute, Gateway, GatewayClass, HTTPRoute,
    Ingress, IngressClass, ListenerSet, Namespace, ReferenceGrant, Secret, Service, WasmPlugin, XBackend,
};
use crate::nearest::did_you_mean;

/// Annotations that change without meaning anything, and would make equal objects look different.
const NOISE_ANNOTATIONS: [&str; 2] =
    ["kubectl.kubernetes.io/last-applied-configuration", "endpoints.kubernetes.io/last-change-trigger-time"];

/// Why a document is not a resource that Penstock can read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidObject {
    /// No such kind here.
    #[error("kind `{kind}` (apiVersion `{api_version}`) is not one that Penstock reads{hint}")]
    UnknownKind {
        /// As given.
        api_version: String,
        /// As given.
        kind: String,
        /// The nearest name, if there is one: `; did you mean …?`.
        hint: String,
    },
    /// The kind exists, but not in this group or version.
    #[error("apiVersion: `{found}` has no kind {kind}; use `{expected}`")]
    ApiVersion {
        /// The kind.
        kind: Kind,
        /// As given.
        found: String,
        /// What would be right.
        expected: &'static str,
    },
    /// A field has the wrong type or is missing.
    #[error("{path}: {message}")]
    Field {
        /// From the root of the object, such as `spec.listeners[0].port`.
        path: String,
        /// What is wrong.
        message: String,
    },
}

/// What every resource type offers to this module.
trait Readable: Resource + Metadata<Ty = ObjectMeta> + DeserializeOwned + JsonSchema {
    /// Drop what translation never reads, so that objects that mean the same are equal.
    fn normalise(&mut self) {
        normalise_metadata(self.metadata_mut());
    }
}

fn normalise_metadata(metadata: &mut ObjectMeta) {
    metadata.managed_fields = None;
    metadata.resource_version = None;
    metadata.self_link = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.retain(|name, _| !NOISE_ANNOTATIONS.contains(&name.as_str()));
        if annotations.is_empty() {
            metadata.annotations = None;
        }
    }
}

macro_rules! objects {
    ($( $name:ident: $scope:ident $versions:tt, )+) => {
        /// Any resource.
        #[derive(Debug, Clone, PartialEq)]
        #[expect(missing_docs, reason = "the names are those of the kinds")]
        pub enum Object {
            $( $name(Arc<$name>), )+
        }

        impl Object {
            /// The kinds that can be read.
            pub const KINDS: &'static [Kind] = &[$( Kind::$name ),+];

            /// Read a document. `api_version` and `kind` are those of the document itself.
            pub fn parse(api_version: &str, kind: &str, document: Value) -> Result<Self, InvalidObject> {
                match kind {
                    $( stringify!($name) => {
                        let versions: &[&'static str] = &$versions;
                        if !versions.contains(&api_version) {
                            let found = api_version.to_owned();
                            return Err(InvalidObject::ApiVersion { kind: Kind::$name, found, expected: versions[0] });
                        }
                        let namespaced = matches!(Scope::$scope, Scope::Namespaced);
                        read::<$name>(document, namespaced).map(Self::from)
                    } )+
                    _ => Err(unknown_kind(api_version, kind)),
                }
            }

            /// The JSON Schema of a whole object, metadata included, without `$ref`s. `Null` for kinds that cannot be read.
            pub fn schema(kind: Kind) -> &'static Value {
                match kind {
                    $( Kind::$name => {
                        static SCHEMA: LazyLock<Value> = LazyLock::new(schema_of::<$name>);
                        &SCHEMA
                    } )+
                    _ => &Value::Null,
                }
            }

            /// The `apiVersion` of a kind as users should write it; none for kinds that cannot be read.
            pub fn api_version(kind: Kind) -> Option<&'static str> {
                match kind {
                    $( Kind::$name => Some($versions[0]), )+
                    _ => None,
                }
            }

            /// Which resource it is.
            pub fn reference(&self) -> ResourceRef {
                match self {
                    $( Self::$name(object) => reference(Kind::$name, &object.metadata), )+
                }
            }

            /// Its metadata.
            pub fn metadata(&self) -> &ObjectMeta {
                match self {
                    $( Self::$name(object) => &object.metadata, )+
                }
            }
        }

        $(
            impl From<$name> for Object {
                fn from(mut object: $name) -> Self {
                    object.normalise();
                    Self::$name(Arc::new(object))
                }
            }
        )+
    };
}

/// Whether objects of a kind live in a namespace.
enum Scope {
    Namespaced,
    Cluster,
}

// The first version of each is the one that messages recommend.
objects! {
    GatewayClass: Cluster ["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"],
    Gateway: Namespaced ["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"],
    ListenerSet: Namespaced ["gateway.networking.k8s.io/v1"],
    HTTPRoute: Namespaced ["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"],
    GRPCRoute: Namespaced ["gateway.networking.k8s.io/v1"],
    BackendTLSPolicy: Namespaced ["gateway.networking.k8s.io/v1"],
    ReferenceGrant: Namespaced ["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"],
    XBackend: Namespaced ["gateway.networking.x-k8s.io/v1alpha1"],
    WasmPlugin: Namespaced ["penstock.dev/v1alpha1"],
    IngressClass: Cluster ["networking.k8s.io/v1"],
    Ingress: Namespaced ["networking.k8s.io/v1"],
    Service: Namespaced ["v1"],
    EndpointSlice: Namespaced ["discovery.k8s.io/v1"],
    Secret: Namespaced ["v1"],
    ConfigMap: Namespaced ["v1"],
    ControllerRevision: Namespaced ["apps/v1"],
    Namespace: Cluster ["v1"],
}

impl Readable for GatewayClass {}
impl Readable for Gateway {}
impl Readable for ListenerSet {}
impl Readable for HTTPRoute {}
impl Readable for GRPCRoute {}
impl Readable for BackendTLSPolicy {}
impl Readable for ReferenceGrant {}
impl Readable for XBackend {}
impl Readable for WasmPlugin {}
impl Readable for ConfigMap {}
impl Readable for ControllerRevision {}
impl Readable for EndpointSlice {}
impl Readable for IngressClass {}

impl Readable for Ingress {
    fn normalise(&mut self) {
        normalise_metadata(&mut self.metadata);
        self.status = None;
    }
}

impl Readable for Service {
    /// Of its status, which others write, only the addresses of the load balancer are read.
    fn normalise(&mut self) {
        normalise_metadata(&mut self.metadata);
        let balancer = self.status.take().and_then(|status| status.load_balancer);
        let balancer = balancer.filter(|balancer| balancer.ingress.as_ref().is_some_and(|ingress| !ingress.is_empty()));
        self.status = balancer.map(|balancer| ServiceStatus { load_balancer: Some(balancer), conditions: None });
    }
}

impl Readable for Namespace {
    fn normalise(&mut self) {
        normalise_metadata(&mut self.metadata);
        self.status = None;
    }
}

impl Readable for Secret {
    /// `stringData` is what people write in files; the API server does the same with it.
    fn normalise(&mut self) {
        normalise_metadata(&mut self.metadata);
        for (key, text) in self.string_data.take().unwrap_or_default() {
            self.data.get_or_insert_default().insert(key, k8s_openapi::ByteString(text.into_bytes()));
        }
    }
}

fn read<T: Readable>(mut document: Value, namespaced: bool) -> Result<T, InvalidObject> {
    drop_nulls(&mut document);
    if let Value::Object(fields) = &mut document {
        // k8s-openapi compares apiVersion with the newest one; which versions are read is decided above.
        fields.remove("apiVersion");
        fields.remove("kind");
    }
    let mut object: T = serde_path_to_error::deserialize(document).map_err(|error| {
        let path = match error.path().to_string().as_str() {
            "." | "" => "the document".to_owned(),
            path => path.to_owned(),
        };
        InvalidObject::Field { path, message: error.inner().to_string() }
    })?;
    let metadata = object.metadata_mut();
    if metadata.name.as_deref().is_none_or(str::is_empty) {
        return Err(InvalidObject::Field { path: "metadata.name".into(), message: "a name is required".into() });
    }
    match namespaced {
        true if metadata.namespace.as_deref().is_none_or(str::is_empty) => metadata.namespace = Some("default".into()),
        true => {}
        false => metadata.namespace = None,
    }
    Ok(object)
}

/// As the API server does: a field that is null is a field that is not there. Free-form configuration keeps its nulls.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.iter_mut().filter(|(name, _)| *name != "config").for_each(|(_, field)| drop_nulls(field));
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

fn schema_of<T: Readable>() -> Value {
    let generator = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true).into_generator();
    let mut schema = generator.into_root_schema_for::<T>().to_value();
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.entry("apiVersion").or_insert_with(|| json!({ "type": "string" }));
        properties.entry("kind").or_insert_with(|| json!({ "type": "string" }));
        // Status is written by controllers; who copies a whole object into a file must not be refused for it.
        properties.entry("status").or_insert_with(|| json!({ "type": "object", "additionalProperties": true }));
    }
    schema
}

fn unknown_kind(api_version: &str, kind: &str) -> InvalidObject {
    let known: Vec<String> = Object::KINDS.iter().map(ToString::to_string).collect();
    InvalidObject::UnknownKind {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        hint: did_you_mean(kind, known.iter().map(String::as_str)),
    }
}

/// The identity of an object with this metadata.
pub(crate) fn reference(kind: Kind, metadata: &ObjectMeta) -> ResourceRef {
    ResourceRef::new(
        kind,
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default(),
    )
}

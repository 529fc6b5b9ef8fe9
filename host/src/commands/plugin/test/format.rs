//! The file of exchanges: what happens, and what must come of it.
//!
//! It is read as strictly as resources are: an unknown field is an error with its place and the nearest valid name. What a WasmPlugin says
//! of configuration, capabilities and limits is said here in the same words.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use anyhow::bail;
use penstock_controller::sources::files::read_document;
use penstock_core::plugin;
use penstock_translate::resources::wasm_plugin::{BodyOverflow, PluginCapabilities, PluginLimits};
use schemars::{JsonSchema, generate::SchemaSettings};
use serde::Deserialize;
use serde_json::{Value, json};

use super::values::{BodyGiven, BodyWanted, HeadersGiven, HeadersWanted};

/// A file of exchanges.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ExchangeFile {
    /// The component, relative to this file; `--module` names another.
    #[serde(default)]
    pub(super) module: Option<PathBuf>,
    /// As `spec.config` of a WasmPlugin.
    #[serde(default)]
    pub(super) config: Option<Value>,
    /// As `spec.capabilities`.
    #[serde(default)]
    capabilities: Option<PluginCapabilities>,
    /// As `spec.limits`.
    #[serde(default)]
    limits: Option<PluginLimits>,
    /// As `spec.bodyOverflow`.
    #[serde(default)]
    body_overflow: Option<BodyOverflow>,
    /// One after the other, through the same instance as long as none faults.
    pub(super) exchanges: Vec<Exchange>,
}

/// One exchange, and what must come of it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::commands::plugin) struct Exchange {
    /// What it shows, in a few words.
    pub(super) name: String,
    /// In place of the file's.
    #[serde(default)]
    pub(super) config: Option<Value>,
    /// How often it happens; each time the same must come of it.
    #[serde(default = "once")]
    #[schemars(range(min = 1, max = 100_000))]
    pub(super) repeat: u32,
    /// As it reaches the plugin.
    #[serde(default)]
    pub(super) request: RequestGiven,
    /// What the backend answers: 200 without headers if not given.
    #[serde(default)]
    pub(super) response: ResponseGiven,
    /// The backends that a route plugin chooses from.
    #[serde(default)]
    pub(super) candidates: Vec<CandidateGiven>,
    /// What must come of it. Nothing given: that it ends without a fault and the plugin does not reply.
    #[serde(default)]
    pub(super) expect: Expected,
}

fn once() -> u32 {
    1
}

/// A request.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct RequestGiven {
    /// `GET` if not given.
    pub(super) method: String,
    /// With query; `/` if not given.
    pub(super) path: String,
    /// `gateway.test` if not given.
    pub(super) authority: String,
    /// `http` if not given.
    pub(super) scheme: String,
    /// Address of the client, with or without port; 192.0.2.1 if not given.
    pub(super) client: String,
    /// Name to one value or a list of them.
    pub(super) headers: HeadersGiven,
    /// Text, a list of pieces, `{base64: …}`, `{file: …}` or `{size: …}`.
    pub(super) body: BodyGiven,
    /// Behind the body.
    pub(super) trailers: HeadersGiven,
}

impl Default for RequestGiven {
    fn default() -> Self {
        Self {
            method: "GET".into(),
            path: "/".into(),
            authority: "gateway.test".into(),
            scheme: "http".into(),
            client: "192.0.2.1".into(),
            headers: HeadersGiven::default(),
            body: BodyGiven::default(),
            trailers: HeadersGiven::default(),
        }
    }
}

/// A response of the backend.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ResponseGiven {
    /// 200 if not given.
    #[schemars(range(min = 200, max = 599))]
    pub(super) status: u16,
    /// Name to one value or a list of them.
    pub(super) headers: HeadersGiven,
    /// As of requests.
    pub(super) body: BodyGiven,
    /// Behind the body.
    pub(super) trailers: HeadersGiven,
}

impl Default for ResponseGiven {
    fn default() -> Self {
        Self {
            status: 200,
            headers: HeadersGiven::default(),
            body: BodyGiven::default(),
            trailers: HeadersGiven::default(),
        }
    }
}

/// A backend of the rule.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct CandidateGiven {
    /// `namespace/name:port`.
    pub(super) name: String,
    /// 1 if not given.
    #[serde(default = "once")]
    pub(super) weight: u32,
    /// 1 if not given.
    #[serde(default = "once")]
    pub(super) ready_endpoints: u32,
}

/// What must come of an exchange. Everything that is given must hold; what is not given may be anything.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Expected {
    /// As it reaches the backend.
    pub(super) request: Option<RequestWanted>,
    /// As it reaches the client, when the backend was asked.
    pub(super) response: Option<ResponseWanted>,
    /// The plugin answers itself, in place of the backend or of its response.
    pub(super) reply: Option<ResponseWanted>,
    /// The plugin gives the exchange up, or the gateway does because of a body that is too large: a part of the reason.
    pub(super) aborted: Option<String>,
    /// A hook does not answer properly: `trap`, `deadline`, `memory`, `invalid_answer`, or `any`.
    pub(super) fault: Option<Refusal>,
    /// The configuration is refused: a reason such as `InvalidConfig`, or `any`.
    pub(super) rejected: Option<Refusal>,
    /// Name of the backend that a route plugin chooses, or `default` for the weights of the rule.
    pub(super) candidate: Option<String>,
}

/// A request that is wanted.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct RequestWanted {
    /// The method.
    pub(super) method: Option<String>,
    /// With query.
    pub(super) path: Option<String>,
    /// Host, and the port if it was named.
    pub(super) authority: Option<String>,
    /// Name to one value, a list of all values, `{contains: …}`, `{matches: …}` or `{present: true}`.
    pub(super) headers: HeadersWanted,
    /// Headers that must not be there.
    pub(super) absent: Vec<String>,
    /// Text, `{contains: …}`, `{matches: …}`, `{base64: …}` or `{size: …}`.
    pub(super) body: Option<BodyWanted>,
    /// As headers.
    pub(super) trailers: HeadersWanted,
}

/// A response that is wanted.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ResponseWanted {
    /// The status.
    pub(super) status: Option<u16>,
    /// Name to one value, a list of all values, `{contains: …}`, `{matches: …}` or `{present: true}`.
    pub(super) headers: HeadersWanted,
    /// Headers that must not be there.
    pub(super) absent: Vec<String>,
    /// Text, `{contains: …}`, `{matches: …}`, `{base64: …}` or `{size: …}`.
    pub(super) body: Option<BodyWanted>,
    /// As headers.
    pub(super) trailers: HeadersWanted,
}

/// A fault or rejection that is wanted: its kind, or its kind and a part of its message.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Refusal {
    /// The kind alone.
    Kind(String),
    /// With a part of the message.
    Detailed {
        /// Of a fault: its kind.
        #[serde(default)]
        kind: Option<String>,
        /// Of a rejection: its reason.
        #[serde(default)]
        reason: Option<String>,
        /// A part of the message.
        #[serde(default)]
        message: Option<String>,
    },
}

impl Refusal {
    /// The kind that is wanted; none for any.
    pub(super) fn kind(&self) -> Option<&str> {
        let kind = match self {
            Self::Kind(kind) => Some(kind),
            Self::Detailed { kind, reason, .. } => kind.as_ref().or(reason.as_ref()),
        };
        kind.map(String::as_str).filter(|kind| *kind != "any")
    }

    /// What its message must contain.
    pub(super) fn message(&self) -> &str {
        match self {
            Self::Kind(_) => "",
            Self::Detailed { message, .. } => message.as_deref().unwrap_or_default(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind().unwrap_or("any"))?;
        if self.message().is_empty() { Ok(()) } else { write!(f, " with `{}` in its message", self.message()) }
    }
}

/// The JSON Schema of the file.
pub(super) fn schema() -> &'static Value {
    static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
        let inline = |settings: &mut SchemaSettings| settings.inline_subschemas = true;
        SchemaSettings::draft2020_12().with(inline).into_generator().into_root_schema_for::<ExchangeFile>().to_value()
    });
    &SCHEMA
}

impl ExchangeFile {
    /// Read and check.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let name = path.display();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => bail!(
                "there is no file {name}; a project with one: penstock plugin new my-plugin. What may stand in it: \
                 penstock plugin test --help"
            ),
            Err(error) => bail!("cannot read {name}: {error}"),
        };
        let value = read_document(path, &text, schema()).map_err(|problems| {
            let line = |problem: &penstock_controller::sources::files::Problem| match problem.position {
                Some(place) => format!("{name}:{}:{}: {}", place.line, place.column, problem.message()),
                None => format!("{name}: {}", problem.message()),
            };
            anyhow::anyhow!("{}", problems.iter().map(line).collect::<Vec<_>>().join("\n"))
        })?;
        let file: Self = serde_json::from_value(value).map_err(|error| anyhow::anyhow!("{name}: {error}"))?;
        file.check(path)?;
        Ok(file)
    }

    fn check(&self, path: &Path) -> anyhow::Result<()> {
        let name = path.display();
        if self.exchanges.is_empty() {
            bail!("{name}: exchanges: there is none, so nothing would be tested");
        }
        for (index, exchange) in self.exchanges.iter().enumerate() {
            let place = format!("{name}: exchanges[{index}] ({})", exchange.name);
            let names = || exchange.candidates.iter().map(|candidate| candidate.name.as_str());
            if let Some(wanted) =
                exchange.expect.candidate.as_deref().filter(|it| *it != "default" && !names().any(|name| name == *it))
            {
                let hint = penstock_translate::nearest::did_you_mean(wanted, names());
                bail!("{place}.expect.candidate: `{wanted}` is none of the candidates{hint}");
            }
            let Expected { request, response, reply, aborted, fault, rejected, .. } = &exchange.expect;
            let ends = [response.is_some(), reply.is_some(), aborted.is_some(), fault.is_some(), rejected.is_some()];
            if ends.iter().filter(|given| **given).count() > 1 {
                bail!(
                    "{place}.expect: an exchange ends in one way: `response`, `reply`, `aborted`, `fault` or `rejected`"
                );
            }
            if rejected.is_some() && request.is_some() {
                bail!("{place}.expect: where the configuration is rejected no request is made");
            }
            if let Some(kind) = fault.as_ref().and_then(Refusal::kind).filter(|kind| !FAULTS.contains(kind)) {
                let hint = penstock_translate::nearest::did_you_mean(kind, FAULTS.into_iter());
                bail!(
                    "{place}.expect.fault: there is no fault `{kind}`{hint}; there are {}, and `any`",
                    FAULTS.join(", ")
                );
            }
        }
        Ok(())
    }

    /// What becomes of a body that is larger than the plugin buffers.
    pub(super) fn body_overflow(&self) -> plugin::BodyOverflow {
        match self.body_overflow {
            Some(BodyOverflow::Pass) => plugin::BodyOverflow::Pass,
            _ => plugin::BodyOverflow::Reject,
        }
    }

    /// What a WasmPlugin would say under `spec`, with the configuration of one exchange.
    pub(super) fn spec(&self, config: Option<&Value>) -> Value {
        let mut spec = json!({});
        if let Some(config) = config.or(self.config.as_ref()) {
            spec["config"] = config.clone();
        }
        if let Some(capabilities) = &self.capabilities {
            spec["capabilities"] = serde_json::to_value(capabilities).unwrap_or_default();
        }
        if let Some(limits) = &self.limits {
            spec["limits"] = serde_json::to_value(limits).unwrap_or_default();
        }
        spec
    }
}

/// The kinds of faults.
const FAULTS: [&str; 5] = ["trap", "deadline", "memory", "invalid_answer", "unavailable"];

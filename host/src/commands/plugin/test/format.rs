//! The file of exchanges: what happens, and what must come of it.
//!
//! It is read as strictly as resources are: an unknown field is an error with its place and the nearest valid name. What a WasmPlugin says
//! of configuration, capabilities and limits is said here in the same words.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::Response;
use penstock_controller::sources::files::read_document;
use penstock_core::{
    check::{BodyGiven, Check, HeadersGiven},
    plugin::{self, OutboundFailure, PluginSpec},
};
use penstock_translate::nearest::did_you_mean;
use penstock_translate::resources::wasm_plugin::{BodyOverflow, PluginCapabilities, PluginLimits};
use schemars::{JsonSchema, generate::SchemaSettings};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::commands::plugin::session::Answer;

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
pub(super) struct Exchange {
    /// In place of the file's.
    #[serde(default)]
    pub(super) config: Option<Value>,
    /// What backends answer that the plugin calls, each time, by their names in `capabilities.outbound`.
    #[serde(default)]
    outbound: BTreeMap<String, AnswerGiven>,
    #[serde(flatten)]
    pub(super) check: Check,
}

/// What a backend answers.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
struct AnswerGiven {
    /// 200 if not given.
    #[schemars(range(min = 200, max = 599))]
    status: Option<u16>,
    /// Name to one value or a list of them.
    headers: HeadersGiven,
    /// Text, a list of pieces, `{base64: …}`, `{file: …}` or `{size: …}`.
    body: BodyGiven,
    /// There is no answer, and this is why.
    failure: Option<FailureGiven>,
}

/// Why a backend does not answer.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
enum FailureGiven {
    /// It cannot be reached.
    Connect,
    /// It takes too long.
    Timeout,
    /// What it says is no HTTP.
    Protocol,
}

impl AnswerGiven {
    fn answer(&self) -> anyhow::Result<Answer> {
        match self.failure {
            Some(FailureGiven::Connect) => return Ok(Err(OutboundFailure::Connect("as the exchange says".into()))),
            Some(FailureGiven::Timeout) => return Ok(Err(OutboundFailure::Timeout)),
            Some(FailureGiven::Protocol) => return Ok(Err(OutboundFailure::Protocol("as the exchange says".into()))),
            None => {}
        }
        let pieces = self.body.pieces().context("the body is a file that nobody has read")?;
        let mut response = Response::new(Bytes::from(pieces.concat()));
        *response.status_mut() = self.status.unwrap_or(200).try_into()?;
        *response.headers_mut() = self.headers.0.clone();
        Ok(Ok(response))
    }
}

impl Exchange {
    /// What backends answer. Those that the plugin cannot call are a mistake.
    pub(super) fn answers(&self, spec: &PluginSpec) -> anyhow::Result<BTreeMap<String, Answer>> {
        let granted: Vec<_> = spec.capabilities.outbound.iter().map(|grant| &*grant.name).collect();
        let answer = |(name, given): (&String, &AnswerGiven)| {
            if !granted.contains(&name.as_str()) {
                let hint = did_you_mean(name, granted.iter().copied());
                bail!("outbound.{name}: capabilities.outbound has no backend of this name{hint}");
            }
            Ok((name.clone(), given.answer().with_context(|| format!("outbound.{name}"))?))
        };
        self.outbound.iter().map(answer).collect()
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
        let mut file: Self = serde_json::from_value(value).map_err(|error| anyhow::anyhow!("{name}: {error}"))?;
        file.check(path)?;
        file.read_bodies(path)?;
        Ok(file)
    }

    fn check(&self, path: &Path) -> anyhow::Result<()> {
        let name = path.display();
        if self.exchanges.is_empty() {
            bail!("{name}: exchanges: there is none, so nothing would be tested");
        }
        for (index, Exchange { check, .. }) in self.exchanges.iter().enumerate() {
            if let Err(problem) = check.problem() {
                bail!("{name}: exchanges[{index}] ({}).{problem}", check.name);
            }
        }
        Ok(())
    }

    /// Bodies in files, relative to this one.
    fn read_bodies(&mut self, path: &Path) -> anyhow::Result<()> {
        let folder = path.parent().unwrap_or(Path::new(""));
        for Exchange { check, outbound, .. } in &mut self.exchanges {
            let messages = [("request", &mut check.request.body), ("response", &mut check.response.body)];
            let answers = outbound.iter_mut().map(|(name, answer)| (name.as_str(), &mut answer.body));
            for (message, body) in messages.into_iter().chain(answers) {
                let BodyGiven::File(file) = body else { continue };
                let file = folder.join(file);
                let bytes = std::fs::read(&file).with_context(|| {
                    format!("{}: {}: {message}.body: cannot read {}", path.display(), check.name, file.display())
                })?;
                *body = BodyGiven::Pieces(vec![bytes.into()]);
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

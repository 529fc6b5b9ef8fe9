//! What plugins may import: how each interface is granted, and what granting it means.

use std::str::FromStr;

use penstock_plugin_host::is_wasi_slice;
use penstock_translate::nearest::{did_you_mean, list};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// The package whose interfaces may be granted.
const PACKAGE: &str = "penstock:plugin/";

/// An interface of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Capability {
    /// Its name in the contract, which is that of the argument too.
    pub(super) interface: &'static str,
    /// Under `spec.capabilities`; none: always there.
    pub(super) grant: Option<&'static str>,
    /// What granting it costs or opens, for the operator who decides.
    pub(super) cost: &'static str,
}

/// All of them.
const ALL: [Capability; 10] = [
    Capability {
        interface: "exchange-info",
        grant: None,
        cost: "lets it read of the exchange at hand what its plan does not declare, at three times the price",
    },
    Capability {
        interface: "log",
        grant: Some("log: true"),
        cost: "lines in the gateway's log: limits.logLines a second (100)",
    },
    Capability {
        interface: "clock",
        grant: Some("clock: true"),
        cost: "the time: a plugin can measure how long things take",
    },
    Capability {
        interface: "random",
        grant: Some("random: true"),
        cost: "random numbers: what it does can no longer be replayed",
    },
    Capability {
        interface: "metrics",
        grant: Some("metrics: true"),
        cost: "series in /metrics: limits.metricSeries for each metric (256)",
    },
    Capability {
        interface: "rate-limit",
        grant: Some("rateLimits: [{name: api, limit: 100, window: 1m}]"),
        cost: "memory of the gateway: about 100 bytes a key, maxKeys for each bucket (100000)",
    },
    Capability {
        interface: "counters",
        grant: Some("counters: true"),
        cost: "memory of the gateway: up to 65536 keys",
    },
    Capability {
        interface: "key-value",
        grant: Some("keyValue: true"),
        cost: "memory of the gateway: up to limits.keyValueBytes (4Mi)",
    },
    Capability {
        interface: "wasi",
        grant: Some("wasi: true"),
        cost: "more code around the plugin, and a stack of its own for each hook; clocks, random numbers and its log, but no files, sockets or environment",
    },
    Capability {
        interface: "outbound-http",
        grant: Some("outbound: [{name: auth, backendRef: {name: auth, port: 80}}]"),
        cost: "requests to the backends that are named; the exchange waits for them",
    },
];

/// The capability behind an import such as `penstock:plugin/log@0.1.0`.
pub(super) fn of_import(import: &str) -> Option<&'static Capability> {
    let interface = match import.strip_prefix(PACKAGE) {
        Some(rest) => rest.split('@').next()?,
        None if is_wasi_slice(import) => "wasi",
        None => return None,
    };
    ALL.iter().find(|capability| capability.interface == interface)
}

/// What `--grant` takes for an import.
pub(super) fn argument(import: &str) -> Option<&'static str> {
    let capability = of_import(import)?;
    match capability.interface {
        "rate-limit" => Some("rate-limit=api:100/1m"),
        "outbound-http" => Some("outbound=auth"),
        interface => is_plain(capability).then_some(interface),
    }
}

/// An import as `inspect` and `build` show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Import {
    /// As the component spells it.
    pub(super) name: String,
    /// The line under `spec.capabilities`; none if nothing needs to be granted, or nothing can be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) grant: Option<&'static str>,
    /// What that costs or opens.
    pub(super) cost: &'static str,
}

impl Import {
    /// Of a component's imports, those that are more than types.
    pub(super) fn all(imports: &[String]) -> Vec<Self> {
        let functions = imports.iter().filter(|name| !name.starts_with("penstock:plugin/types"));
        let import = |name: &String| match of_import(name) {
            Some(capability) => Self { name: name.clone(), grant: capability.grant, cost: capability.cost },
            None => {
                Self { name: name.clone(), grant: None, cost: "no gateway of this version has it: it will be refused" }
            }
        };
        functions.map(import).collect()
    }

    /// One row for what is granted together, with its name: WASI comes in two dozen interfaces.
    pub(super) fn rows(imports: &[Self]) -> Vec<(String, &Self)> {
        let is_wasi = |import: &&Self| is_wasi_slice(&import.name);
        let wasi = imports.iter().filter(is_wasi).count();
        let mut rows: Vec<_> =
            imports.iter().filter(|import| !is_wasi(import)).map(|it| (it.short().to_owned(), it)).collect();
        rows.extend(imports.iter().find(is_wasi).map(|first| match wasi {
            1 => (first.short().to_owned(), first),
            _ => (format!("wasi ({wasi} interfaces)"), first),
        }));
        rows
    }

    /// Without package and version.
    pub(super) fn short(&self) -> &str {
        let name = self.name.strip_prefix(PACKAGE).unwrap_or(&self.name);
        name.split('@').next().unwrap_or(name)
    }
}

/// `--grant`: one capability, or all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Grant {
    /// Everything that can be granted.
    All,
    /// One that is there or not.
    Plain(&'static Capability),
    /// `rate-limit=NAME:LIMIT/WINDOW`.
    Bucket { name: String, limit: u32, window: String },
    /// `outbound=NAME`: a Service of that name, on port 80.
    Backend { name: String },
}

/// The names that `--grant` takes.
fn names() -> impl Iterator<Item = &'static str> {
    let grantable = ALL.iter().filter(|capability| capability.grant.is_some());
    grantable.map(|it| if it.interface == "outbound-http" { "outbound" } else { it.interface })
}

fn is_plain(capability: &Capability) -> bool {
    capability.grant.is_some_and(|grant| grant.ends_with(": true"))
}

impl FromStr for Grant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "all" {
            return Ok(Self::All);
        }
        let bucket =
            || format!("`{text}` names no bucket; write rate-limit=NAME:LIMIT/WINDOW, such as rate-limit=api:100/1m");
        if let Some(rest) = text.strip_prefix("rate-limit") {
            let (name, amount) = rest.strip_prefix('=').and_then(|rest| rest.split_once(':')).ok_or_else(bucket)?;
            let (limit, window) = amount.split_once('/').ok_or_else(bucket)?;
            let limit = limit.parse().map_err(|_| bucket())?;
            return Ok(Self::Bucket { name: name.into(), limit, window: window.into() });
        }
        if let Some(rest) = text.strip_prefix("outbound") {
            let name = rest.strip_prefix('=').filter(|name| !name.is_empty());
            let name =
                name.ok_or_else(|| format!("`{text}` names no backend; write outbound=NAME, such as outbound=auth"))?;
            return Ok(Self::Backend { name: name.into() });
        }
        let known = ALL.iter().find(|capability| capability.interface == text && is_plain(capability));
        known.map(Self::Plain).ok_or_else(|| {
            format!("`{text}` cannot be granted{}; {} and `all` can", did_you_mean(text, names()), list(names()))
        })
    }
}

/// What a WasmPlugin would say under `spec.capabilities`.
pub(super) fn granted(grants: &[Grant]) -> Value {
    let mut fields = Map::new();
    let (mut buckets, mut backends) = (Vec::new(), Vec::new());
    for grant in grants {
        match grant {
            Grant::All => ALL.iter().filter(|it| is_plain(it)).for_each(|it| allow(&mut fields, it)),
            Grant::Plain(capability) => allow(&mut fields, capability),
            Grant::Bucket { name, limit, window } => {
                buckets.push(json!({ "name": name, "limit": limit, "window": window }));
            }
            Grant::Backend { name } => backends.push(backend(name)),
        }
    }
    if buckets.is_empty() && grants.contains(&Grant::All) {
        buckets.push(json!({ "name": "default", "limit": 100, "window": "1m" }));
    }
    if backends.is_empty() && grants.contains(&Grant::All) {
        backends.push(backend("default"));
    }
    if !backends.is_empty() {
        fields.insert("outbound".into(), backends.into());
    }
    if !buckets.is_empty() {
        fields.insert("rateLimits".into(), buckets.into());
    }
    Value::Object(fields)
}

/// Nobody is called by these tools; a gateway looks for the Service.
fn backend(name: &str) -> Value {
    json!({ "name": name, "backendRef": { "name": name, "port": 80 } })
}

fn allow(fields: &mut Map<String, Value>, capability: &Capability) {
    if let Some((field, _)) = capability.grant.and_then(|grant| grant.split_once(':')) {
        fields.insert(field.into(), true.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_become_what_a_resource_would_say() {
        let grants: Vec<Grant> = ["log", "key-value", "rate-limit=api:10/1s"].map(|text| text.parse().unwrap()).into();
        assert_eq!(
            granted(&grants),
            json!({ "log": true, "keyValue": true, "rateLimits": [{ "name": "api", "limit": 10, "window": "1s" }] })
        );
        assert_eq!(granted(&[Grant::All])["counters"], true);
        assert_eq!(granted(&[Grant::All])["outbound"][0]["name"], "default");
        let backend = granted(&["outbound=auth".parse().unwrap()]);
        assert_eq!(backend["outbound"], json!([{ "name": "auth", "backendRef": { "name": "auth", "port": 80 } }]));
        assert_eq!(granted(&[]), json!({}));
    }

    #[test]
    fn a_grant_that_does_not_exist_names_its_neighbour() {
        let error = "logs".parse::<Grant>().unwrap_err();
        assert!(error.starts_with("`logs` cannot be granted; did you mean `log`?"), "{error}");
        for text in ["rate-limit", "rate-limit=api", "rate-limit=api:x/1m", "rate-limit=api:10"] {
            assert!(text.parse::<Grant>().unwrap_err().contains("rate-limit=api:100/1m"), "{text}");
        }
        for text in ["outbound", "outbound=", "outbound-http"] {
            assert!(text.parse::<Grant>().unwrap_err().contains("outbound=auth"), "{text}");
        }
        assert!("exchange-info".parse::<Grant>().is_err(), "it is always there");
    }

    #[test]
    fn imports_are_known_by_name_and_types_are_not_shown() {
        let imports = [
            "penstock:plugin/types@0.1.0",
            "penstock:plugin/log@0.1.0",
            "wasi:io/error@0.2.0",
            "wasi:http/types@0.2.0",
        ];
        let imports = Import::all(&imports.map(String::from));
        assert_eq!(imports.iter().map(Import::short).collect::<Vec<_>>(), ["log", "wasi:io/error", "wasi:http/types"]);
        let grants: Vec<_> = imports.iter().map(|import| import.grant).collect();
        assert_eq!(grants, [Some("log: true"), Some("wasi: true"), None]);
        assert!(imports[2].cost.contains("refused"));
    }

    #[test]
    fn what_is_granted_together_is_one_row() {
        let names = ["wasi:io/error@0.2.0", "penstock:plugin/log@0.1.0", "wasi:io/poll@0.2.0", "wasi:cli/stdin@0.2.0"];
        let imports = Import::all(&names.map(String::from));
        let rows: Vec<_> = Import::rows(&imports).into_iter().map(|(name, import)| (name, import.grant)).collect();
        assert_eq!(rows, [("log".into(), Some("log: true")), ("wasi (3 interfaces)".into(), Some("wasi: true"))]);
    }
}

//! Sends requests to the backend that a header names.

use penstock_plugin::prelude::*;

/// What `spec.config` of the WasmPlugin holds. The gateway checks it against the schema that is made of this type, and
/// `penstock plugin inspect` shows these comments.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// Name of the header that names a Service of the rule.
    header: String,
}

/// The plugin, configured. One value serves all requests of one worker thread, one after the other.
pub struct Plugin {
    config: Config,
}

impl Route for Plugin {
    type Config = Config;

    /// Report every mistake with its place: all of them become the status of the WasmPlugin.
    fn configure(config: Config) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        if config.header.is_empty() || config.header.contains(|c: char| c.is_ascii_uppercase() || c.is_whitespace()) {
            problems.push(&Pointer::root().at("header"), "the name of a header in lower case, such as `x-backend`");
        }
        problems.into_result(Self { config })
    }

    /// What this configuration needs of every request. Its value arrives as an argument; everything else would cost a call.
    fn plan(&self) -> Plan {
        Plan::new().request_reads([&self.config.header])
    }

    fn choose(&self, request: &RouteRequest) -> Choice {
        let wanted = request.header(&self.config.header);
        let Some(wanted) = wanted.to_str() else { return Choice::Default };
        let candidates = request.candidates();
        match candidates.iter().position(|candidate| service(&candidate.name) == wanted) {
            Some(index) => u32::try_from(index).map_or(Choice::Default, Choice::candidate),
            None => Reply::new(404).text("there is no such backend\n").into(),
        }
    }
}

/// The name in `namespace/name:port`.
fn service(candidate: &str) -> &str {
    let name = candidate.rsplit('/').next().unwrap_or(candidate);
    name.split(':').next().unwrap_or(name)
}

plugin!(route: Plugin);

#[cfg(test)]
mod tests {
    use penstock_plugin::testing::{Chosen, RouteHarness};
    use serde_json::json;

    use super::*;

    const BACKENDS: [(&str, u32, u32); 2] = [("default/echo:80", 1, 1), ("default/echo-next:80", 0, 1)];

    fn choice(backend: Option<&str>) -> Chosen {
        let plugin = RouteHarness::<Plugin>::new(json!({ "header": "x-backend" }), &BACKENDS);
        let request = plugin.get("/");
        match backend {
            Some(name) => request.header("x-backend", name).run(),
            None => request.run(),
        }
    }

    #[test]
    fn the_header_decides() {
        let chosen = choice(Some("echo-next"));
        assert!(matches!(chosen, Chosen::Candidate { name, .. } if name == "default/echo-next:80"));
        assert!(matches!(choice(Some("gone")), Chosen::Reply(_)));
    }

    #[test]
    fn without_it_the_weights_decide() {
        assert_eq!(choice(None), Chosen::Default);
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        let problems = RouteHarness::<Plugin>::try_new(json!({ "header": "X Backend" })).err().unwrap();
        assert!(problems.to_string().contains("/header"), "{problems}");
    }
}

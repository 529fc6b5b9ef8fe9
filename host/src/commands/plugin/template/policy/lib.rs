//! Says on each response who served it, and keeps clients out of some paths.

use penstock_plugin::prelude::*;

/// What `spec.config` of the WasmPlugin holds. The gateway checks it against the schema that is made of this type, and
/// `penstock plugin inspect` shows these comments.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// Value of the response header `x-served-by`.
    served_by: String,
    /// Paths that are answered with 403, each with everything below it.
    #[serde(default)]
    forbidden: Vec<String>,
}

/// The plugin, configured. One value serves all exchanges of one worker thread, one after the other.
pub struct Plugin {
    config: Config,
}

impl Policy for Plugin {
    type Config = Config;

    /// Report every mistake with its place: all of them become the status of the WasmPlugin.
    fn configure(config: Config) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        for (index, path) in config.forbidden.iter().enumerate() {
            if !path.starts_with('/') || path.ends_with('/') {
                let place = Pointer::root().at("forbidden").at(index);
                problems.push(&place, "a path begins with `/` and does not end with it, such as `/admin`");
            }
        }
        problems.into_result(Self { config })
    }

    /// What this configuration needs of every exchange. The gateway does nothing else: without forbidden paths there is no request hook.
    fn plan(&self) -> Plan {
        let plan = Plan::new().response_writes(["x-served-by"]);
        if self.config.forbidden.is_empty() { plan } else { plan.request_reads([":path"]) }
    }

    fn on_request(&self, request: &Request) -> Verdict {
        let path = request.path();
        if self.config.forbidden.iter().any(|forbidden| is_below(&path, forbidden)) {
            return Reply::new(403).text("this path is not for you\n").into();
        }
        Verdict::Proceed
    }

    fn on_response(&self, response: &Response) -> Verdict {
        response.set("x-served-by", &self.config.served_by);
        Verdict::Proceed
    }
}

fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

plugin!(policy: Plugin);

#[cfg(test)]
mod tests {
    use penstock_plugin::testing::Harness;
    use serde_json::json;

    use super::*;

    fn plugin() -> Harness<Plugin> {
        Harness::new(json!({ "servedBy": "test", "forbidden": ["/admin"] }))
    }

    #[test]
    fn responses_say_who_served_them() {
        let plugin = plugin();
        let response = plugin.get("/hello").run().respond(200).run();
        assert_eq!(response.all("x-served-by"), ["test"]);
    }

    #[test]
    fn forbidden_paths_are_answered_here() {
        let plugin = plugin();
        let answered = |path: &str| plugin.get(path).run().reply().map(|reply| reply.status());
        assert_eq!(answered("/admin/users"), Some(403));
        assert_eq!(answered("/administrator"), None);
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        let problems = Harness::<Plugin>::try_new(json!({ "servedBy": "test", "forbidden": ["admin"] })).err().unwrap();
        assert!(problems.to_string().contains("/forbidden/0"), "{problems}");
    }
}

//! Puts a line behind every text response, and logs how large it was.

use penstock_plugin::{capability::log, prelude::*};

/// What `spec.config` of the WasmPlugin holds. The gateway checks it against the schema that is made of this type, and
/// `penstock plugin inspect` shows these comments.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// The line.
    footer: String,
}

/// The plugin, configured. One value serves all exchanges of one worker thread.
pub struct Plugin {
    config: Config,
}

/// The state of one exchange.
#[derive(Default)]
pub struct State {
    is_text: bool,
}

impl StreamingPolicy for Plugin {
    type Config = Config;
    type Exchange = State;

    /// Report every mistake with its place: all of them become the status of the WasmPlugin.
    fn configure(config: Config) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        if config.footer.contains('\n') {
            problems.push(&Pointer::root().at("footer"), "one line is allowed");
        }
        problems.into_result(Self { config })
    }

    /// What this configuration needs of every exchange. The gateway does nothing else: bodies of requests do not touch the plugin.
    fn plan(&self) -> Plan {
        Plan::new().response_reads(["content-type"]).response_body(BodyMode::Stream).on_end()
    }

    fn exchange(&self) -> State {
        State::default()
    }
}

impl Exchange<Plugin> for State {
    fn on_response(&mut self, _: &Plugin, response: &Response) -> HeadVerdict {
        let kind = response.header("content-type");
        self.is_text = kind.to_str().is_some_and(|kind| kind.starts_with("text/plain"));
        HeadVerdict::Proceed
    }

    /// Called for each piece as it arrives: nothing waits, and nothing is kept. The gateway takes care of `content-length`.
    fn on_response_body(&mut self, plugin: &Plugin, chunk: Chunk) -> BodyVerdict {
        if !self.is_text || !chunk.end {
            return BodyVerdict::Pass;
        }
        let mut last = chunk.bytes.to_vec();
        last.extend_from_slice(plugin.config.footer.as_bytes());
        last.push(b'\n');
        BodyVerdict::Replace(last)
    }

    fn end(self, _: &Plugin, summary: &Summary) {
        if self.is_text {
            log::info(&format!("a text of {} bytes", summary.response_bytes));
        }
    }
}

plugin!(streaming: Plugin);

#[cfg(test)]
mod tests {
    use penstock_plugin::testing::StreamingHarness;
    use serde_json::json;

    use super::*;

    fn body(content_type: &str) -> String {
        let plugin = StreamingHarness::<Plugin>::new(json!({ "footer": "-- penstock" }));
        let mut exchange = plugin.request("GET", "/").start().unwrap();
        exchange.respond(200, &[("content-type", content_type)]).unwrap();
        exchange.receive(b"hello\n", false).unwrap();
        exchange.receive(b"", true).unwrap();
        String::from_utf8(exchange.response_body().to_vec()).unwrap()
    }

    #[test]
    fn texts_get_a_footer() {
        assert_eq!(body("text/plain; charset=utf-8"), "hello\n-- penstock\n");
    }

    #[test]
    fn everything_else_passes() {
        assert_eq!(body("image/png"), "hello\n");
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        let problems = StreamingHarness::<Plugin>::try_new(json!({ "footer": "two\nlines" })).err().unwrap();
        assert!(problems.to_string().contains("/footer"), "{problems}");
    }
}

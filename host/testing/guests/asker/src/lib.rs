//! A guest that imports `outbound-http` and asks in every hook of an exchange: the head gets `x-called`, and each chunk of a body is replaced
//! by what was answered.

use penstock_plugin::capability::outbound::Call;
use penstock_plugin::prelude::*;

/// Which grant to call.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of the grant.
    backend: String,
}

/// The plugin.
pub struct Asker(Config);

impl Asker {
    /// The status of the answer, or why there is none.
    fn ask(&self, path: &str) -> String {
        let answer = Call::get(&self.0.backend, path).send();
        answer.map_or_else(|error| error.to_string(), |answer| answer.status().to_string())
    }
}

/// One exchange.
#[derive(Default)]
pub struct Asking {
    /// What it was told, in order.
    told: Vec<String>,
}

impl StreamingPolicy for Asker {
    type Config = Config;
    type Exchange = Asking;

    fn configure(config: Config) -> Result<Self, Problems> {
        Ok(Self(config))
    }

    fn plan(&self) -> Plan {
        let plan = Plan::new().request_writes(["x-called"]).response_writes(["x-called", "x-told"]);
        plan.request_body(BodyMode::Stream).response_body(BodyMode::Stream).response_trailers().on_end()
    }

    fn exchange(&self) -> Asking {
        // Where an exchange begins nobody can wait.
        Asking { told: vec![self.ask("/begin")] }
    }
}

impl Exchange<Asker> for Asking {
    fn on_request(&mut self, policy: &Asker, request: &Request) -> HeadVerdict {
        request.set("x-called", policy.ask("/request"));
        HeadVerdict::Proceed
    }

    fn on_request_body(&mut self, policy: &Asker, _: Chunk) -> BodyVerdict {
        let said = policy.ask("/request-body");
        self.told.push(said.clone());
        BodyVerdict::Replace(said.into_bytes())
    }

    fn on_response(&mut self, policy: &Asker, response: &Response) -> HeadVerdict {
        response.set("x-called", policy.ask("/response"));
        response.set("x-told", self.told.join(","));
        HeadVerdict::Proceed
    }

    fn on_response_body(&mut self, policy: &Asker, _: Chunk) -> BodyVerdict {
        BodyVerdict::Replace(policy.ask("/response-body").into_bytes())
    }

    fn on_response_trailers(&mut self, policy: &Asker, trailers: &Trailers) {
        trailers.set("x-called", policy.ask("/trailers"));
    }

    fn end(self, policy: &Asker, _: &Summary) {
        // Nobody waits for it, and nobody would know.
        policy.ask("/end");
    }
}

plugin!(streaming: Asker);

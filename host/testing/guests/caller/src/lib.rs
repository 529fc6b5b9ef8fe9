//! A guest that imports `outbound-http`: refused by name unless the resource grants it.

use penstock_plugin::capability::outbound::Call;
use penstock_plugin::prelude::*;

/// Which grant to call.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Caller {
    /// Name of the grant.
    backend: String,
}

impl Policy for Caller {
    type Config = Self;

    fn configure(config: Self) -> Result<Self, Problems> {
        Ok(config)
    }

    fn plan(&self) -> Plan {
        Plan::new().request_writes(["x-called"])
    }

    fn on_request(&self, request: &Request) -> Verdict {
        let called = Call::get(&self.backend, "/")
            .send()
            .map_or_else(|error| error.to_string(), |answer| answer.status().to_string());
        request.set("x-called", called.as_str());
        Verdict::Proceed
    }
}

plugin!(policy: Caller);

//! Tests without a gateway and without WebAssembly: the plugin runs as it is, and the harness plays the gateway.
//!
//! The harness holds a plugin to the rules of the gateway: it calls only the hooks of the plan, hands over only the headers that the plan
//! reads, and refuses edits and capabilities that the gateway would refuse. Time and memory it does not count: that is what `penstock plugin test` is
//! for, with the component itself.
//!
//! ```
//! use penstock_plugin::{prelude::*, testing::Harness};
//! use serde_json::json;
//!
//! #[derive(Deserialize, JsonSchema)]
//! struct Greet {
//!     greeting: String,
//! }
//!
//! impl Policy for Greet {
//!     type Config = Self;
//!     fn configure(config: Self) -> Result<Self, Problems> {
//!         Ok(config)
//!     }
//!     fn plan(&self) -> Plan {
//!         Plan::new().request_reads(["x-user"]).response_writes(["x-greeting"])
//!     }
//!     fn on_request(&self, request: &Request) -> Verdict {
//!         if request.header("x-user").is_empty() { Reply::new(401).text("who are you?").into() } else { Verdict::Proceed }
//!     }
//!     fn on_response(&self, response: &Response) -> Verdict {
//!         response.set("x-greeting", &self.greeting);
//!         Verdict::Proceed
//!     }
//! }
//!
//! let harness = Harness::<Greet>::new(json!({"greeting": "hello"}));
//!
//! let request = harness.get("/").header("x-user", "anna").run();
//! assert!(request.reply().is_none());
//! let response = request.respond(200).header("server", "origin").run();
//! assert_eq!(response.all("x-greeting"), ["hello"]);
//!
//! assert_eq!(harness.get("/").run().reply().unwrap().status(), 401);
//! ```

mod apply;
pub(crate) mod fakes;
mod fault;
mod gateway;
mod harness;
mod message;
mod route;
mod stage;
mod streaming;

pub use crate::{
    bindings::imports::outbound_http::{Request as OutboundRequest, Response as OutboundResponse},
    wire::Header as OutboundHeader,
};
pub use apply::Edit;
pub use fault::Fault;
pub use gateway::{Gateway, Line};
pub use harness::{Harness, Received, RequestBuilder, ResponseBuilder, Sent};
pub use message::Message;
pub use route::{Chosen, RouteBuilder, RouteHarness};
pub use stage::Stage;
pub use streaming::{ExchangeBuilder, Live, StreamingHarness};

/// Compares the schema of a configuration with the file that [`plugin!`](crate::plugin) publishes. With `UPDATE_GOLDEN=1` in the environment
/// it writes the file instead.
///
/// # Panics
/// When they differ, or the file cannot be read or written.
pub fn check_schema<C: schemars::JsonSchema>(path: impl AsRef<std::path::Path>) {
    let path = path.as_ref();
    let schema = format!("{:#}\n", crate::schema::<C>());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        return std::fs::write(path, schema).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
    }
    let published =
        std::fs::read_to_string(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    assert!(
        published == schema,
        "{} is out of date: run the test with UPDATE_GOLDEN=1. It should be\n{schema}",
        path.display()
    );
}

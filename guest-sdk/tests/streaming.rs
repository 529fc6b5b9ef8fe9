//! Streaming policies on the harness.

use penstock_plugin::{Edits, Release, prelude::*, testing::*};
use serde_json::json;

/// Does with bodies what the configuration says.
struct Transform(Config);

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Config {
    buffer: Option<u32>,
    hold: bool,
    reject: String,
    trailers: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { buffer: None, hold: false, reject: "\0".to_owned(), trailers: false }
    }
}

struct Counted {
    chunks: u32,
}

impl StreamingPolicy for Transform {
    type Config = Config;
    type Exchange = Counted;

    fn configure(config: Config) -> Result<Self, Problems> {
        Ok(Self(config))
    }

    fn plan(&self) -> Plan {
        let mode = self.0.buffer.map_or(BodyMode::Stream, BodyMode::Buffer);
        let plan = Plan::new().on_request().request_body(mode).response_body(mode).on_response();
        let plan = plan.request_writes(["x-chunks"]).response_writes(["x-*", "grpc-status"]).on_end();
        if self.0.trailers { plan.response_trailers() } else { plan }
    }

    fn exchange(&self) -> Counted {
        Counted { chunks: 0 }
    }
}

impl Exchange<Transform> for Counted {
    fn on_request(&mut self, policy: &Transform, request: &Request) -> HeadVerdict {
        request.set("x-chunks", "unknown");
        if policy.0.hold { HeadVerdict::Hold } else { HeadVerdict::Proceed }
    }

    fn on_request_body(&mut self, policy: &Transform, chunk: Chunk) -> BodyVerdict {
        self.chunks += 1;
        let text = String::from_utf8_lossy(chunk.bytes);
        if text.contains(&policy.0.reject) {
            return BodyVerdict::Reply(Reply::new(422).text("no"));
        }
        match (policy.0.hold, chunk.end) {
            (true, false) => BodyVerdict::Hold,
            (true, true) => {
                let edits = Edits::new().set("X-Chunks", self.chunks);
                BodyVerdict::Release(Release { edits, body: Some(text.to_uppercase().into_bytes()) })
            }
            (false, _) => BodyVerdict::Replace(text.to_uppercase().into_bytes()),
        }
    }

    fn on_response(&mut self, _: &Transform, response: &Response) -> HeadVerdict {
        response.set("x-seen", self.chunks);
        HeadVerdict::Proceed
    }

    fn on_response_body(&mut self, _: &Transform, chunk: Chunk) -> BodyVerdict {
        if chunk.bytes == b"broken" { BodyVerdict::Abort("broken".to_owned()) } else { BodyVerdict::Pass }
    }

    fn on_response_trailers(&mut self, _: &Transform, trailers: &Trailers) {
        for (name, value) in trailers.iter() {
            trailers.write_body(name.as_bytes());
            trailers.write_body(b": ");
            trailers.write_body(value);
        }
        trailers.remove("grpc-status");
        trailers.set("x-moved", "1");
    }

    fn end(self, _: &Transform, summary: &Summary) {
        penstock_plugin::capability::log::info(&format!("{} after {} chunks", summary.status, self.chunks));
    }
}

fn summary(status: u16) -> Summary {
    Summary {
        status,
        request_bytes: 0,
        response_bytes: 0,
        duration_us: 0,
        upstream: None,
        grpc_status: None,
        error: None,
    }
}

#[test]
fn chunks_stream_through() {
    let harness = StreamingHarness::<Transform>::new(json!({}));
    let mut live = harness.request("POST", "/").start().unwrap();
    assert_eq!(live.request().unwrap().all("x-chunks"), ["unknown"]);
    live.send(b"ab", false).unwrap();
    assert_eq!(live.request_body(), b"AB");
    live.send(b"", true).unwrap();
    live.respond(200, &[("server", "x")]).unwrap();
    assert_eq!(live.response().unwrap().all("x-seen"), ["2"]);
    live.receive(b"back", true).unwrap();
    assert_eq!(live.response_body(), b"back");
    live.end(&summary(200));
    assert_eq!(harness.gateway().log()[0].message, "200 after 2 chunks");
}

#[test]
fn a_chunk_is_at_most_64_kib() {
    let harness = StreamingHarness::<Transform>::new(json!({}));
    let mut live = harness.request("POST", "/").start().unwrap();
    live.send(&vec![b'a'; 200 * 1024], true).unwrap();
    live.respond(200, &[]).unwrap();
    assert_eq!(live.response().unwrap().all("x-seen"), ["4"]);
    assert_eq!(live.request_body().len(), 200 * 1024);
}

#[test]
fn held_headers_wait_for_the_body() {
    let harness = StreamingHarness::<Transform>::new(json!({"hold": true}));
    let mut live = harness.request("POST", "/").start().unwrap();
    live.send(b"a", false).unwrap();
    assert!(live.request().is_none() && live.request_body().is_empty());
    live.send(b"b", true).unwrap();
    assert_eq!(
        live.request().unwrap().all("x-chunks"),
        ["2"],
        "edits of the held hook are dropped, those of the release apply"
    );
    assert_eq!(live.request_body(), b"AB", "what was held is seen again");
}

#[test]
fn a_buffered_body_comes_whole() {
    let harness = StreamingHarness::<Transform>::new(json!({"buffer": 4}));
    let mut live = harness.request("POST", "/").start().unwrap();
    live.send(b"ab", false).unwrap();
    assert!(live.request_body().is_empty());
    live.send(b"cd", true).unwrap();
    assert_eq!(live.request_body(), b"ABCD");
    let mut live = harness.request("POST", "/").start().unwrap();
    assert_eq!(live.send(b"abcde", true), Err(Fault::BodyOverflow(4)));
}

#[test]
fn a_body_can_be_answered_and_given_up() {
    let harness = StreamingHarness::<Transform>::new(json!({"reject": "evil"}));
    let mut live = harness.request("POST", "/").start().unwrap();
    live.send(b"some evil", false).unwrap();
    assert_eq!(live.reply().unwrap().status(), 422);
    assert_eq!(live.reply().unwrap().body().unwrap(), b"no");

    let mut live = harness.request("POST", "/").start().unwrap();
    live.respond(200, &[]).unwrap();
    live.receive(b"broken", false).unwrap();
    assert_eq!(live.aborted(), Some("broken"));
}

#[test]
fn trailers_can_move_into_the_body() {
    let harness = StreamingHarness::<Transform>::new(json!({"trailers": true}));
    let mut live = harness.request("POST", "/").start().unwrap();
    live.respond(200, &[]).unwrap();
    live.receive(b"data|", true).unwrap();
    live.receive_trailers(&[("grpc-status", "0")]).unwrap();
    assert_eq!(live.response_body(), b"data|grpc-status: 0");
    assert!(!live.response_trailers().has("grpc-status"));
    assert_eq!(live.response_trailers().all("x-moved"), ["1"]);
}

#[test]
fn headers_that_nobody_releases_are_a_fault() {
    struct Forgetful;
    struct Held;

    impl StreamingPolicy for Forgetful {
        type Config = ();
        type Exchange = Held;

        fn configure((): ()) -> Result<Self, Problems> {
            Ok(Self)
        }

        fn plan(&self) -> Plan {
            Plan::new().on_request().request_body(BodyMode::Stream)
        }

        fn exchange(&self) -> Held {
            Held
        }
    }

    impl Exchange<Forgetful> for Held {
        fn on_request(&mut self, _: &Forgetful, _: &Request) -> HeadVerdict {
            HeadVerdict::Hold
        }
    }

    let harness = StreamingHarness::<Forgetful>::new(json!(null));
    let mut live = harness.request("POST", "/").start().unwrap();
    live.send(b"a", false).unwrap();
    assert_eq!(live.send(b"", true), Err(Fault::StillHeld));
}

//! A guest that sees bodies, trailers and the end, and does with them what its configuration says.
//!
//! ```text
//! { "response": { "mode": "stream", "upper": true } }      responses in upper case
//! { "request": { "mode": "stream", "hold": true } }        the head waits for the whole body, and says its length in `x-length`
//! { "trailers": true, "count": true }                      response trailers move behind the body; the end is counted in metrics
//! ```
//!
//! A chunk that contains `!trap`, `!abort`, `!reply`, `!grow` or `!spin` meets that fate, whatever the configuration.

use std::hint::black_box;

use penstock_plugin::{Edits, Release, capability::metrics::Counter, prelude::*};

/// What this guest is to do.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// With the request's body.
    request: Side,
    /// With the response's body.
    response: Side,
    /// Write response trailers behind the body, as text, and leave `x-moved` in their place.
    trailers: bool,
    /// Put `x-seen` into the request's trailers.
    request_trailers: bool,
    /// Reply 403 to requests with `x-refuse`.
    refuse: bool,
    /// Count how exchanges ended.
    count: bool,
}

/// What to do with one body.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Side {
    /// How to see it.
    mode: Mode,
    /// Bytes, when it is buffered.
    max: u32,
    /// Replace it by its upper case.
    upper: bool,
    /// Hold head and body back to the end.
    hold: bool,
}

/// How to see a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Not at all.
    #[default]
    None,
    /// Chunk by chunk.
    Stream,
    /// Whole.
    Buffer,
}

impl Side {
    fn mode(&self) -> BodyMode {
        match self.mode {
            Mode::None => BodyMode::None,
            Mode::Stream => BodyMode::Stream,
            Mode::Buffer => BodyMode::Buffer(self.max),
        }
    }

    fn head(&self) -> HeadVerdict {
        if self.hold { HeadVerdict::Hold } else { HeadVerdict::Proceed }
    }

    fn chunk(&self, chunk: Chunk) -> BodyVerdict {
        let has = |word: &str| chunk.bytes.windows(word.len()).any(|window| window == word.as_bytes());
        if chunk.bytes.contains(&b'!') {
            if has("!abort") {
                return BodyVerdict::Abort("as the body asked".into());
            }
            if has("!reply") {
                return BodyVerdict::Reply(Reply::new(422).text("as the body asked"));
            }
            misbehave(has);
        }
        let upper = || chunk.bytes.to_ascii_uppercase();
        match (self.hold, chunk.end) {
            (true, false) => BodyVerdict::Hold,
            (true, true) => {
                let edits = Edits::new().set("x-length", chunk.bytes.len().to_string());
                BodyVerdict::Release(Release { edits, body: self.upper.then(upper) })
            }
            (false, _) if self.upper => BodyVerdict::Replace(upper()),
            (false, _) => BodyVerdict::Pass,
        }
    }
}

fn misbehave(has: impl Fn(&str) -> bool) {
    assert!(!has("!trap"), "as the body asked");
    while has("!spin") {
        black_box(());
    }
    if has("!grow") {
        let mut kept = Vec::new();
        loop {
            kept.push(black_box(vec![1_u8; 1 << 20]));
        }
    }
}

/// The plugin.
pub struct Bodies {
    config: Config,
    counters: Option<Counters>,
}

struct Counters {
    ended: Counter,
    bytes: Counter,
}

/// One exchange.
#[derive(Default)]
pub struct Seen {
    request_bytes: usize,
    request_chunks: u32,
    carried: String,
}

impl StreamingPolicy for Bodies {
    type Config = Config;
    type Exchange = Seen;

    fn configure(config: Config) -> Result<Self, Problems> {
        let register =
            |name, help, labels: &[&str]| Counter::register(name, help, labels).expect("names that are valid");
        let counters = config.count.then(|| Counters {
            ended: register("ended", "Exchanges that ended", &["status", "error", "grpc"]),
            bytes: register("bytes", "Bytes of bodies", &["direction"]),
        });
        Ok(Self { config, counters })
    }

    fn plan(&self) -> Plan {
        let (request, response) = (&self.config.request, &self.config.response);
        let mut plan = Plan::new().request_writes(["x-*"]).response_writes(["x-*", "grpc-status"]);
        plan = plan.request_reads(["x-refuse"]).carried_reads(["x-mark"]);
        plan = plan.request_body(request.mode()).response_body(response.mode());
        if self.config.trailers {
            plan = plan.response_trailers();
        }
        if self.config.request_trailers {
            plan = plan.request_trailers();
        }
        if self.config.count { plan.on_end() } else { plan }
    }

    fn exchange(&self) -> Seen {
        Seen::default()
    }
}

impl Exchange<Bodies> for Seen {
    fn on_request(&mut self, policy: &Bodies, request: &Request) -> HeadVerdict {
        if policy.config.refuse && !request.read(0).is_empty() {
            return Reply::new(403).text("refused").into();
        }
        request.set("x-mark", "bodies");
        policy.config.request.head()
    }

    fn on_request_body(&mut self, policy: &Bodies, chunk: Chunk) -> BodyVerdict {
        self.request_chunks += 1;
        self.request_bytes = if policy.config.request.hold { 0 } else { self.request_bytes } + chunk.bytes.len();
        policy.config.request.chunk(chunk)
    }

    fn on_request_trailers(&mut self, _: &Bodies, trailers: &Trailers) {
        trailers.set("x-seen", trailers.iter().count().to_string());
    }

    fn on_response(&mut self, policy: &Bodies, response: &Response) -> HeadVerdict {
        response.set("x-request-bytes", self.request_bytes.to_string());
        response.set("x-request-chunks", self.request_chunks.to_string());
        let mark = response.request_header("x-mark");
        self.carried = mark.iter().next().map(|mark| String::from_utf8_lossy(mark).into_owned()).unwrap_or_default();
        response.set("x-carried", &self.carried);
        policy.config.response.head()
    }

    fn on_response_body(&mut self, policy: &Bodies, chunk: Chunk) -> BodyVerdict {
        policy.config.response.chunk(chunk)
    }

    fn on_response_trailers(&mut self, _: &Bodies, trailers: &Trailers) {
        for (name, value) in trailers.iter() {
            trailers.write_body(format!("{name}={}\n", String::from_utf8_lossy(value)).as_bytes());
            trailers.remove(name);
        }
        trailers.set("x-moved", "1");
    }

    fn end(self, policy: &Bodies, summary: &Summary) {
        let Some(counters) = &policy.counters else { return };
        let error = summary.error.as_deref().unwrap_or_default();
        let grpc = summary.grpc_status.map(|status| status.to_string()).unwrap_or_default();
        counters.ended.add(1, &[&summary.status.to_string(), error, &grpc]);
        counters.bytes.add(summary.request_bytes, &["request"]);
        counters.bytes.add(summary.response_bytes, &["response"]);
        assert!(summary.upstream.is_none() || summary.status != 0, "who answered, answered something");
    }
}

plugin!(streaming: Bodies);

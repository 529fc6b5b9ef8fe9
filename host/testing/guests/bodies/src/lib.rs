//! A guest that sees bodies, trailers and the end, and does with them what its configuration says.
//!
//! ```text
//! { "response": { "mode": "stream", "upper": true } }      responses in upper case
//! { "request": { "mode": "stream", "hold": true } }        the head waits for the whole body, and says its length in `x-length`
//! { "trailers": true, "count": true }                      response trailers move behind the body; the end is counted in metrics
//! ```
//!
//! A chunk that contains `!trap`, `!grow`, `!spin`, `!deep`, `!busy` (for some milliseconds), `!abort`, `!reply`, `!hold`, `!release`, `!edit` (of
//! what is not declared), `!last` (a trap in the destructor) or `!huge` meets that fate, whatever the configuration. So does a trailer `x-fate`, which may also be `!line` (a value
//! of two lines); and the end of an exchange with a status from `LAST_FATE` on.

use std::{cell::Cell, hint::black_box};

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
    /// Trap where an exchange begins, when this many have begun before it in the instance; never if 0.
    begins: u32,
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
                return BodyVerdict::Abort(String::from_utf8_lossy(chunk.bytes).into_owned());
            }
            if has("!reply") {
                return BodyVerdict::Reply(Reply::new(422).text("as the body asked"));
            }
            if has("!hold") {
                return BodyVerdict::Hold;
            }
            if has("!release") || has("!edit") {
                let edits = Edits::new().set(if has("!edit") { "undeclared" } else { "x-length" }, "1");
                return BodyVerdict::Release(Release { edits, body: None });
            }
            if has("!huge") {
                return BodyVerdict::Replace(vec![b'x'; 5 << 20]);
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

/// Statuses of exchanges whose end goes wrong, and how.
const LAST_FATE: u16 = 595;
const LAST_FATES: [&str; 4] = ["!trap", "!grow", "!spin", "!deep"];

/// Every level needs the result of the next one, so that no loop comes of it. There is no last one: no level is that long.
fn deeper(level: &[u8]) -> usize {
    if level.len() > 64 {
        return 0;
    }
    let mut next = [level[0].wrapping_add(1); 64];
    black_box(&mut next);
    1 + deeper(black_box(&next)) + usize::from(next[1])
}

fn misbehave(has: impl Fn(&str) -> bool) {
    if has("!busy") {
        for round in 0..3_000_000_u32 {
            black_box(round);
        }
    }
    if has("!deep") {
        black_box(deeper(&[1; 64]));
    }
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

fn meet_fate(trailers: &Trailers) {
    let Some((_, fate)) = trailers.iter().find(|(name, _)| *name == "x-fate") else { return };
    let fate = fate.to_owned();
    match &fate[..] {
        b"!edit" => trailers.set("undeclared", "1"),
        b"!line" => trailers.set("x-a", "1\r\nx-b: 2"),
        b"!huge" => trailers.write_body(&vec![b'x'; 5 << 20]),
        _ => misbehave(|word| word.as_bytes() == fate),
    }
}

/// The plugin.
pub struct Bodies {
    config: Config,
    begun: Cell<u32>,
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
    fatal: bool,
}

impl Drop for Seen {
    fn drop(&mut self) {
        assert!(!self.fatal, "as the body asked");
    }
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
        Ok(Self { config, begun: Cell::new(0), counters })
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
        let before = self.begun.replace(self.begun.get() + 1);
        assert!(self.config.begins == 0 || before < self.config.begins, "as the configuration asked");
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
        self.fatal |= chunk.bytes.windows(5).any(|window| window == b"!last");
        self.request_bytes = if policy.config.request.hold { 0 } else { self.request_bytes } + chunk.bytes.len();
        policy.config.request.chunk(chunk)
    }

    fn on_request_trailers(&mut self, _: &Bodies, trailers: &Trailers) {
        meet_fate(trailers);
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
        meet_fate(trailers);
        for (name, value) in trailers.iter() {
            trailers.write_body(format!("{name}={}\n", String::from_utf8_lossy(value)).as_bytes());
            trailers.remove(name);
        }
        trailers.set("x-moved", "1");
    }

    fn end(self, policy: &Bodies, summary: &Summary) {
        if let Some(fate) = summary.status.checked_sub(LAST_FATE).and_then(|it| LAST_FATES.get(usize::from(it))) {
            misbehave(|word| word == *fate);
        }
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

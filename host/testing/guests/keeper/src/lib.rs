//! A guest that counts in `counters` and keeps values in `key-value`. The query of a request says what to do, the request header `x-answer` what came
//! of it.

use std::time::Duration;

use penstock_plugin::capability::{counters, key_value};
use penstock_plugin::prelude::*;

/// Nothing to configure, but another value is another revision.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Keeper {
    /// Ignored.
    #[expect(dead_code, reason = "it only makes the configuration differ")]
    revision: Option<u32>,
}

impl Policy for Keeper {
    type Config = Self;

    fn configure(config: Self) -> Result<Self, Problems> {
        Ok(config)
    }

    fn plan(&self) -> Plan {
        Plan::new().request_reads([":path"]).request_writes(["x-answer"])
    }

    fn on_request(&self, request: &Request) -> Verdict {
        let query = request.query().unwrap_or_default();
        if let Some(answer) = answer(&query) {
            request.set("x-answer", answer);
        }
        Verdict::Proceed
    }
}

/// `add:key:delta[:ttl]`, `count:key`, `get:key`, `set:key:value[:ttl]`, `large:key:bytes`, `delete:key`, `panic:key`, `swap:key:expected:value` (`-` is absent).
fn answer(query: &str) -> Option<String> {
    let mut words = query.split(':');
    let (verb, key) = (words.next()?, words.next()?);
    let mut word = || words.next().unwrap_or_default();
    Some(match verb {
        "add" => counters::add(key, word().parse().ok()?, ttl(word())).to_string(),
        "count" => counters::get(key).to_string(),
        "get" => key_value::get(key).map_or("absent".to_owned(), |value| String::from_utf8_lossy(&value).into_owned()),
        "set" => format!("{:?}", key_value::set(key, word().as_bytes(), ttl(word()))),
        "large" => format!("{:?}", key_value::set(key, &vec![0; word().parse().ok()?], None)),
        "delete" => {
            key_value::delete(key);
            "deleted".to_owned()
        }
        "panic" => panic!("about {key}"),
        "swap" => {
            let expected = Some(word()).filter(|expected| *expected != "-");
            format!("{:?}", key_value::compare_and_set(key, expected.map(str::as_bytes), word().as_bytes(), None))
        }
        _ => return None,
    })
}

fn ttl(text: &str) -> Option<Duration> {
    text.parse().ok().map(Duration::from_millis)
}

plugin!(policy: Keeper, panics: log);

//! A guest that fails where and how its configuration says, and works otherwise.
//!
//! ```text
//! { "mark": "a" }                                    responses have `x-faulty: a`
//! { "at": "configure", "fault": "trap" }             never ready
//! { "at": "request", "fault": "loop" }               faults on requests that have `x-fault: 1`, and on no other
//! ```

use std::hint::black_box;

use penstock_plugin::prelude::*;

/// Requests with this header meet the fault; the neighbours do not.
const TRIGGER: &str = "x-fault";
/// With this value, which the validator's sample exchanges do not have: they would find the fault before there is traffic.
const NOW: &[u8] = b"1";

/// How to fail.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// Reach an instruction that traps.
    Trap,
    /// Never return.
    Loop,
    /// Take more memory than there is.
    Memory,
    /// Call itself for ever.
    Recursion,
    /// Answer with a header that the plan does not declare.
    UndeclaredWrite,
}

/// Where to fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum At {
    /// While it is configured.
    Configure,
    /// In the validator's test of its own.
    SelfTest,
    /// In the request hook.
    #[default]
    Request,
    /// In the response hook.
    Response,
}

/// What this guest is to do.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Faulty {
    /// Value of the response header `x-faulty`, to tell revisions apart.
    #[serde(default)]
    mark: String,
    /// No fault: it works.
    #[serde(default)]
    fault: Option<Fault>,
    /// Where the fault happens.
    #[serde(default)]
    at: At,
}

impl Faulty {
    fn fail_at(&self, at: At) -> Option<Fault> {
        self.fault.filter(|_| self.at == at).inspect(|fault| fault.happen())
    }
}

impl Fault {
    fn happen(self) {
        match self {
            Self::Trap => panic!("as configured"),
            Self::Loop => loop {
                black_box(());
            },
            Self::Memory => {
                let mut kept = Vec::new();
                loop {
                    kept.push(black_box(vec![1_u8; 1 << 20]));
                }
            }
            Self::Recursion => drop(black_box(deeper(&[1; 64]))),
            // The hook does it.
            Self::UndeclaredWrite => {}
        }
    }
}

/// Every level needs the result of the next one, so that no loop comes of it.
#[expect(unconditional_recursion, reason = "it is meant to exhaust the stack")]
fn deeper(seen: &[u64; 64]) -> [u64; 64] {
    let next = deeper(black_box(&seen.map(|number| number + 1)));
    seen.map(|number| number ^ next[0])
}

impl Policy for Faulty {
    type Config = Self;

    fn configure(config: Self) -> Result<Self, Problems> {
        config.fail_at(At::Configure);
        Ok(config)
    }

    fn plan(&self) -> Plan {
        Plan::new().request_reads([TRIGGER]).carried_reads([TRIGGER]).response_writes(["x-faulty"]).on_request()
    }

    fn on_request(&self, request: &Request) -> Verdict {
        if request.read(0).iter().any(|value| value == NOW) && self.fail_at(At::Request).is_some() {
            request.set("x-undeclared", "1");
        }
        Verdict::Proceed
    }

    fn on_response(&self, response: &Response) -> Verdict {
        if response.request_header(TRIGGER).iter().any(|value| value == NOW) && self.fail_at(At::Response).is_some() {
            response.set("x-undeclared", "1");
        }
        response.set("x-faulty", &self.mark);
        Verdict::Proceed
    }

    fn self_test(&self) -> Result<(), String> {
        self.fail_at(At::SelfTest).map_or(Ok(()), |_| Err("as configured".into()))
    }
}

plugin!(policy: Faulty);

//! From the configuration to what runs. Every mistake becomes a problem; none hides another.

mod parts;
mod sticky;

use penstock_plugin::{Plan, Pointer, Problems, RouteRequest, header::Reads};

use crate::{
    condition::Condition,
    config::{Config, IfNotReady, PercentagesConfig, RuleConfig, TargetConfig},
    hash::hash,
    table::{BackendName, NameId},
    target::{PARTS, Share, Target},
};

const MOST_RULES: usize = 64;

/// A configuration, ready for requests.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) rules: Vec<Rule>,
    /// Of the configuration.
    pub(crate) names: Vec<BackendName>,
    /// Of requests, in the order of the places that everything else names.
    reads: Vec<String>,
    sets_cookies: bool,
}

/// Some requests, and where they go.
#[derive(Debug)]
pub(crate) struct Rule {
    when: Vec<Condition>,
    pub(crate) target: Target,
    pub(crate) if_not_ready: IfNotReady,
}

impl Program {
    pub(crate) fn plan(&self) -> Plan {
        let plan = Plan::new().request_reads(&self.reads);
        if self.sets_cookies { plan.response_writes(["set-cookie"]) } else { plan }
    }
}

impl Rule {
    pub(crate) fn holds(&self, request: &RouteRequest) -> bool {
        self.when.iter().all(|condition| condition.holds(request))
    }
}

pub(crate) fn compile(config: &Config) -> Result<Program, Problems> {
    let mut compiler = Compiler::default();
    let at = Pointer::root().at("rules");
    if config.rules.is_empty() {
        compiler.problem(&at, "there is no rule: add one, or remove the plugin");
    }
    if config.rules.len() > MOST_RULES {
        compiler.problem(&at, format!("{} rules are too many: {MOST_RULES} are the most", config.rules.len()));
    }
    let rules = config.rules.iter().take(MOST_RULES).enumerate();
    let rules: Vec<_> = rules.filter_map(|(index, rule)| compiler.rule(rule, &at.at(index))).collect();
    let Compiler { problems, reads, names } = compiler;
    let sets_cookies = rules.iter().any(|rule| matches!(rule.target, Target::Sticky(_)));
    problems.into_result(Program { rules, names, reads: reads.into_names(), sets_cookies })
}

/// What is known so far.
#[derive(Default)]
struct Compiler {
    problems: Problems,
    reads: Reads,
    names: Vec<BackendName>,
}

impl Compiler {
    fn problem(&mut self, at: &Pointer, message: impl Into<String>) {
        self.problems.push(at, message);
    }

    /// The place of a header or pseudo-header among the plan's `request_reads`.
    fn read(&mut self, name: &str) -> usize {
        self.reads.place(name)
    }

    /// As [`Compiler::read`], for a name that the configuration gives.
    fn header(&mut self, name: &str, at: &Pointer) -> usize {
        self.reads.given(name, at, &mut self.problems)
    }

    fn rule(&mut self, config: &RuleConfig, at: &Pointer) -> Option<Rule> {
        let when = config.when.iter().enumerate();
        let when = when.filter_map(|(index, condition)| self.condition(condition, &at.at("when").at(index))).collect();
        let target = self.target(&config.to, &at.at("to"))?;
        Some(Rule { when, target, if_not_ready: config.if_not_ready })
    }

    fn target(&mut self, config: &TargetConfig, at: &Pointer) -> Option<Target> {
        let TargetConfig { backend, lookup, hash, percentages, sticky, weights } = config;
        let given = [
            backend.is_some(),
            lookup.is_some(),
            hash.is_some(),
            percentages.is_some(),
            sticky.is_some(),
            weights.is_some(),
        ];
        if given.iter().filter(|given| **given).count() != 1 {
            let message = "a target has exactly one of `backend`, `lookup`, `hash`, `percentages`, `sticky`, `weights`";
            self.problem(at, message);
            return None;
        }
        if let Some(name) = backend {
            return Some(Target::Backend(self.backend(name, &at.at("backend"))));
        }
        if let Some(lookup) = lookup {
            let at = at.at("lookup");
            if lookup.backends.is_empty() {
                self.problem(&at.at("backends"), "there is no backend: add one, such as `eu: shop-eu`");
            }
            let entry = |(value, name): (&String, &String)| {
                (value.clone().into_bytes(), self.backend(name, &at.at("backends").at(value)))
            };
            let backends = lookup.backends.iter().map(entry).collect();
            return Some(Target::Lookup { key: self.key(&lookup.key, &at.at("key")), backends });
        }
        if let Some(hash) = hash {
            return Some(Target::Hash(self.key(&hash.key, &at.at("hash").at("key"))));
        }
        if let Some(percentages) = percentages {
            return Some(self.percentages(percentages, &at.at("percentages")));
        }
        if let Some(sticky) = sticky {
            return Some(Target::Sticky(self.sticky(sticky, &at.at("sticky"))));
        }
        if *weights != Some(true) {
            self.problem(&at.at("weights"), "must be `true`, or left out");
        }
        Some(Target::Weights)
    }

    fn percentages(&mut self, config: &PercentagesConfig, at: &Pointer) -> Target {
        if config.shares.is_empty() {
            self.problem(&at.at("shares"), "there is no share: add one, such as `{backend: canary, percent: 5}`");
        }
        let mut end = 0;
        let mut shares = Vec::new();
        for (index, share) in config.shares.iter().enumerate() {
            let at = at.at("shares").at(index);
            end += self.parts(share.percent, &at.at("percent"));
            shares.push(Share { backend: self.backend(&share.backend, &at.at("backend")), end: end.min(PARTS) });
        }
        if end > PARTS {
            self.problem(
                &at.at("shares"),
                format!("the shares are {} % together: 100 are the most", f64::from(end) / 100.0),
            );
        }
        let names: Vec<_> = config.shares.iter().map(|share| share.backend.as_str()).collect();
        let salt = config.salt.clone().unwrap_or_else(|| names.join(" "));
        let key = self.key(&config.key, &at.at("key"));
        Target::Percentages { key, seed: hash(0, salt.as_bytes()), shares }
    }

    /// Hundredths of a percent. A share that is none is a problem, and counts for nothing.
    fn parts(&mut self, percent: f64, at: &Pointer) -> u16 {
        let parts = (percent * 100.0).round();
        if !(0.0..=f64::from(PARTS)).contains(&parts) || (parts - percent * 100.0).abs() > 1e-6 {
            self.problem(at, format!("{percent} is no share: write 0 to 100, with at most two decimals"));
            return 0;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a whole number of 0 to 10,000")]
        let parts = parts as u16;
        parts
    }

    fn backend(&mut self, name: &str, at: &Pointer) -> NameId {
        match BackendName::parse(name) {
            Ok(name) => NameId(self.names.iter().position(|known| *known == name).unwrap_or_else(|| {
                self.names.push(name);
                self.names.len() - 1
            })),
            Err(message) => {
                self.problem(at, message);
                NameId(usize::MAX)
            }
        }
    }
}

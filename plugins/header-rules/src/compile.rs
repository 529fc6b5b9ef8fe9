//! From the configuration to rules that are ready to run. Goes on after a mistake, so that all are reported at once.

mod conditions;
mod operations;

use std::borrow::Cow;

use penstock_plugin::{Direction, MOST_NAMES, Plan, Pointer, Problems, extract::pattern::Pattern, header};

use crate::{
    condition::{ResponsePart, When},
    config::{Config, ResponseOperations, Rule},
    operation::Operation,
    pass::Place,
    slot::Slots,
    template::Scope,
};

/// One bit for each rule must fit into the token that goes from request to response.
const MAX_RULES: usize = 64;

/// Changes in one direction. The gateway takes 1024 edits, and a change to a repeated header is an edit for each value.
const MAX_CHANGES: usize = 512;

/// What the policy does.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) rules: Vec<CompiledRule>,
    pub(crate) request: Slots,
    pub(crate) response: Slots,
    carried: Slots,
    /// Whether requests are looked at when they pass. If not, their conditions are asked when the response passes.
    pub(crate) request_hook: bool,
}

#[derive(Debug)]
pub(crate) struct CompiledRule {
    pub(crate) when: Option<When>,
    pub(crate) request: Vec<Operation>,
    pub(crate) response: Option<ResponsePart>,
}

impl Program {
    /// Exactly what the rules need.
    pub(crate) fn plan(&self) -> Plan {
        let mut plan = Plan::new();
        if self.request_hook {
            plan = plan.request_reads(self.request.reads()).request_writes(self.request.writes());
        }
        if self.rules.iter().any(|rule| rule.response.is_some()) {
            plan = plan.response_reads(self.response.reads()).response_writes(self.response.writes());
            plan = plan.carried_reads(self.carried.reads());
        }
        plan
    }
}

/// Understands the configuration.
///
/// # Errors
/// Every mistake in it.
pub(crate) fn compile(config: &Config) -> Result<Program, Problems> {
    let mut compiler = Compiler {
        problems: Problems::new(),
        request: Slots::default(),
        response: Slots::default(),
        carried: Slots::default(),
        request_hook: config.rules.iter().any(|rule| rule.request.is_some()),
    };
    let at = Pointer::root().at("rules");
    if config.rules.is_empty() {
        compiler.problem(&at, "there is no rule: add one, or remove the plugin");
    }
    if config.rules.len() > MAX_RULES {
        let count = config.rules.len();
        compiler.problem(&at, format!("there are {count} rules, at most {MAX_RULES} work: attach another plugin"));
    }
    let rules: Vec<_> =
        config.rules.iter().enumerate().map(|(index, rule)| compiler.rule(rule, &at.at(index))).collect();
    compiler.limits(&rules, &at);
    let Compiler { problems, request, response, carried, request_hook } = compiler;
    problems.into_result(Program { rules, request, response, carried, request_hook })
}

struct Compiler {
    problems: Problems,
    request: Slots,
    response: Slots,
    carried: Slots,
    request_hook: bool,
}

impl Compiler {
    /// Steps must be compiled in the order in which they run: [`Slots`] sees from it what is read after it was written.
    fn rule(&mut self, rule: &Rule, at: &Pointer) -> CompiledRule {
        if rule.request.is_none() && rule.response.is_none() {
            self.problem(at, "the rule does nothing: add `request` or `response`");
        }
        CompiledRule {
            when: rule.when.as_ref().map(|when| self.when(when, &at.at("when"))),
            request: rule.request.as_ref().map_or_else(Vec::new, |changes| {
                self.operations(&changes.into(), Direction::Request, &at.at("request"))
            }),
            response: rule.response.as_ref().map(|response| self.response_part(response, &at.at("response"))),
        }
    }

    fn response_part(&mut self, response: &ResponseOperations, at: &Pointer) -> ResponsePart {
        let mut part = ResponsePart { status: Vec::new(), headers: Vec::new(), operations: Vec::new() };
        if let Some(when) = &response.when {
            let at = at.at("when");
            part.status = self.statuses(&when.status, &at.at("status"));
            part.headers = self.headers(&when.headers, Direction::Response, Direction::Response, &at.at("headers"));
        }
        part.operations = self.operations(&response.into(), Direction::Response, at);
        part
    }

    /// What the gateway takes at most. It would refuse the plan, or fault the answer, without a word on what to do.
    fn limits(&mut self, rules: &[CompiledRule], at: &Pointer) {
        let names =
            [&self.request, &self.response, &self.carried].map(|slots| slots.reads().len().max(slots.writes().len()));
        if let Some(count) = names.into_iter().find(|count| *count > MOST_NAMES) {
            self.problem(
                at,
                format!("the rules name {count} headers, at most {MOST_NAMES} work: attach another plugin"),
            );
        }
        let request: usize = rules.iter().map(|rule| rule.request.len()).sum();
        let response: usize = rules.iter().flat_map(|rule| &rule.response).map(|part| part.operations.len()).sum();
        if let Some(count) = [request, response].into_iter().find(|count| *count > MAX_CHANGES) {
            self.problem(
                at,
                format!("the rules make {count} changes, at most {MAX_CHANGES} work: attach another plugin"),
            );
        }
    }

    fn problem(&mut self, at: &Pointer, message: impl Into<String>) {
        self.problems.push(at, message);
    }

    fn slots(&mut self, direction: Direction) -> &mut Slots {
        match direction {
            Direction::Request => &mut self.request,
            Direction::Response => &mut self.response,
        }
    }

    /// Where a step of `hook` finds a header of `message`.
    fn place(&mut self, hook: Direction, message: Direction, name: &str) -> Option<Place> {
        match (hook, message) {
            (Direction::Request, Direction::Request) => Some(Place::Own(self.request.read(name))),
            (Direction::Request, Direction::Response) => None,
            (Direction::Response, Direction::Request) => Some(Place::Carried(self.carried.read(name))),
            (Direction::Response, Direction::Response) => Some(Place::Own(self.response.read(name))),
        }
    }

    fn scope(&mut self, hook: Direction) -> impl Scope {
        CompilerScope { compiler: self, hook }
    }

    fn pattern(&mut self, pattern: &str, at: &Pointer) -> Option<Pattern> {
        Pattern::new(pattern).map_err(|message| self.problem(at, message)).ok()
    }
}

struct CompilerScope<'c> {
    compiler: &'c mut Compiler,
    hook: Direction,
}

impl Scope for CompilerScope<'_> {
    fn direction(&self) -> Direction {
        self.hook
    }

    fn place(&mut self, message: Direction, name: &str) -> Option<Place> {
        self.compiler.place(self.hook, message, name)
    }
}

/// The name as plans have it. `host` is `:authority` in requests, and in responses a header like any other.
pub(crate) fn canonical(name: &str, message: Direction) -> Cow<'_, str> {
    match message {
        Direction::Request => header::canonical(name),
        Direction::Response => name.to_ascii_lowercase().into(),
    }
}

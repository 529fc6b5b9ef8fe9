//! Keys and costs.

use penstock_plugin::{
    Pointer,
    extract::{
        address::Lengths,
        claim::Claim,
        condition::{check_method, parse_all},
        template::Template,
    },
    header,
};

use super::Compiler;
use crate::{
    config::{CostConfig, KeyPartConfig, PathTemplateConfig, PrefixLengths},
    cost::{Cost, CostHeader},
    key::Part,
};

impl Compiler {
    pub(super) fn part(&mut self, config: &KeyPartConfig, at: &Pointer) -> Option<(usize, Part)> {
        let KeyPartConfig {
            client_address,
            header,
            cookie,
            query,
            path_template,
            method,
            jwt_claim_verified_by_earlier_filter: claim,
        } = config;
        let given = [
            client_address.is_some(),
            header.is_some(),
            cookie.is_some(),
            query.is_some(),
            path_template.is_some(),
            method.is_some(),
            claim.is_some(),
        ];
        if given.iter().filter(|given| **given).count() != 1 {
            let message = "a part of a key has exactly one of `clientAddress`, `header`, `cookie`, `query`, `pathTemplate`, `method`, \
                           `jwtClaimVerifiedByEarlierFilter`";
            self.problem(at, message);
            return None;
        }
        if let Some(lengths) = client_address {
            let lengths = self.lengths(*lengths, &at.at("clientAddress"));
            return Some((self.read(":client-address"), Part::Client(lengths)));
        }
        if let Some(name) = header {
            let part = if header::is_host(name) { Part::Host } else { Part::Whole };
            return Some((self.header(name, &at.at("header")), part));
        }
        if let Some(name) = cookie {
            self.check_given(name, &at.at("cookie"));
            return Some((self.read("cookie"), Part::Cookie(name.clone())));
        }
        if let Some(name) = query {
            self.check_given(name, &at.at("query"));
            return Some((self.read(":path"), Part::Query(name.clone())));
        }
        if let Some(path) = path_template {
            let templates = self.templates(path, &at.at("pathTemplate"));
            return Some((self.read(":path"), Part::Path(templates)));
        }
        if let Some(claim) = claim {
            let at = at.at("jwtClaimVerifiedByEarlierFilter");
            self.check_given(&claim.claim, &at.at("claim"));
            let place = self.header(claim.header.as_deref().unwrap_or("authorization"), &at.at("header"));
            return Some((place, Part::Claim(Claim::new(&claim.claim))));
        }
        if *method != Some(true) {
            self.problem(&at.at("method"), "must be `true`, or left out");
        }
        Some((self.read(":method"), Part::Whole))
    }

    fn check_given(&mut self, name: &str, at: &Pointer) {
        if name.is_empty() {
            self.problem(at, "must not be empty");
        }
    }

    fn lengths(&mut self, config: PrefixLengths, at: &Pointer) -> Lengths {
        Lengths::given(config.ipv4_prefix_length, config.ipv6_prefix_length, at, &mut self.problems)
    }

    fn templates(&mut self, config: &PathTemplateConfig, at: &Pointer) -> Vec<(Template, Vec<usize>)> {
        if config.templates.is_empty() {
            self.problem(&at.at("templates"), "there is no template: add one, such as /users/{id}");
        }
        let templates: Vec<Template> = parse_all(&config.templates, &at.at("templates"), &mut self.problems);
        for (index, name) in config.keep.iter().enumerate() {
            if !templates.iter().any(|template| template.position(name).is_some()) {
                let mut names: Vec<_> = templates.iter().flat_map(Template::names).collect();
                names.dedup();
                let message = format!("no template has a segment `{{{name}}}`; there are: {}", names.join(", "));
                self.problem(&at.at("keep").at(index), message);
            }
        }
        let kept = |template: &Template| config.keep.iter().filter_map(|name| template.position(name)).collect();
        templates.into_iter().map(|template| (template.clone(), kept(&template))).collect()
    }

    pub(super) fn cost(&mut self, config: &CostConfig, at: &Pointer) -> Cost {
        for method in config.methods.keys() {
            check_method(method, &at.at("methods").at(method), &mut self.problems);
        }
        let methods = config.methods.iter().map(|(method, cost)| (method.clone(), *cost)).collect();
        let header = config.header.as_ref().map(|header| {
            let at = at.at("header");
            if header.max == 0 {
                self.problem(&at.at("max"), "must be at least 1");
            }
            CostHeader { place: self.header(&header.name, &at.at("name")), max: header.max }
        });
        Cost {
            default: config.default.unwrap_or(1),
            methods: (!config.methods.is_empty()).then(|| (self.read(":method"), methods)),
            header,
        }
    }
}

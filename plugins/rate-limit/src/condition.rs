//! Conditions on requests, ready to be asked.

use penstock_plugin::{
    Request,
    extract::{
        address::{self, Network},
        target,
    },
};

use crate::template::Template;

/// All parts must hold. Numbers are places in the plan's `request_reads`.
#[derive(Debug, Default)]
pub(crate) struct Condition {
    pub(crate) networks: Option<(usize, Vec<Network>)>,
    pub(crate) methods: Option<(usize, Vec<String>)>,
    pub(crate) paths: Option<(usize, Vec<Template>)>,
    pub(crate) headers: Vec<(usize, HeaderMatcher)>,
}

#[derive(Debug)]
pub(crate) enum HeaderMatcher {
    Present,
    Absent,
    Exact(Vec<u8>),
}

impl Condition {
    pub(crate) fn holds(&self, request: &Request) -> bool {
        self.methods.as_ref().is_none_or(|(place, methods)| {
            let found = request.read(*place);
            methods.iter().any(|method| found.first() == Some(method.as_bytes()))
        }) && self.networks.as_ref().is_none_or(|(place, networks)| {
            let client = request.read(*place).first().and_then(address::parse);
            client.is_some_and(|client| networks.iter().any(|network| network.contains(client)))
        }) && self.paths.as_ref().is_none_or(|(place, templates)| {
            let found = request.read(*place);
            let path = target::path(found.first().unwrap_or_default());
            templates.iter().any(|template| template.fits(path))
        }) && self.headers.iter().all(|(place, matcher)| {
            let values = request.read(*place);
            match matcher {
                HeaderMatcher::Present => !values.is_empty(),
                HeaderMatcher::Absent => values.is_empty(),
                HeaderMatcher::Exact(wanted) => values.iter().any(|value| value == wanted),
            }
        })
    }
}

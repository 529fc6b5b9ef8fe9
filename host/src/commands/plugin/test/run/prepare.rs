//! Everything of an exchange that can be made before it.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, Version, header::HOST, request, response};
use penstock_core::{
    Kind, ResourceRef,
    plugin::ExchangeFacts,
    route::{Rule, RuleId},
};

use super::{Passed, routing};
use crate::commands::plugin::test::{
    format::{Exchange, RequestGiven, ResponseGiven},
    values::BodyGiven,
};

/// An exchange that has not begun.
pub(in crate::commands::plugin) struct Prepared {
    pub(super) facts: Facts,
    /// What a route plugin chooses from.
    pub(super) rule: Arc<Rule>,
    pub(super) request: Given<request::Parts>,
    pub(super) response: Given<response::Parts>,
}

/// A message as it arrives.
pub(super) struct Given<H> {
    pub(super) head: H,
    pub(super) pieces: Vec<Bytes>,
    pub(super) trailers: HeaderMap,
}

impl<H: Clone> Given<H> {
    /// As it would come out if nobody touched it.
    pub(super) fn passed(&self) -> Passed<H> {
        Passed { head: self.head.clone(), body: self.pieces.concat().into(), trailers: self.trailers.clone() }
    }
}

/// [`ExchangeFacts`] with its values.
pub(super) struct Facts {
    client: SocketAddr,
    scheme: String,
    rule: RuleId,
}

impl Facts {
    pub(super) fn view(&self) -> ExchangeFacts<'_> {
        let is_tls = self.scheme == "https";
        ExchangeFacts {
            client: self.client,
            version: Version::HTTP_11,
            scheme: &self.scheme,
            server_name: is_tls.then_some("gateway.test"),
            tls_version: is_tls.then_some("TLSv1.3"),
            rule: &self.rule,
            request_id: "test",
        }
    }
}

impl Prepared {
    /// `folder` is where files are relative to.
    pub(in crate::commands::plugin) fn new(exchange: &Exchange, folder: &Path) -> anyhow::Result<Self> {
        let rule = RuleId { route: ResourceRef::new(Kind::HTTPRoute, "default", "test"), index: 0, name: None };
        let RequestGiven { client, scheme, .. } = &exchange.request;
        Ok(Self {
            rule: routing::rule(&rule, &exchange.candidates),
            facts: Facts { client: address(client)?, scheme: scheme.clone(), rule },
            request: request(&exchange.request, folder).context("request")?,
            response: response(&exchange.response, folder).context("response")?,
        })
    }
}

fn address(text: &str) -> anyhow::Result<SocketAddr> {
    let with_port = text.parse::<SocketAddr>();
    let alone = text.parse::<IpAddr>().map(|address| SocketAddr::new(address, 49152));
    with_port.or(alone).map_err(|_| anyhow::anyhow!("request.client: `{text}` is no address, such as 192.0.2.1"))
}

fn request(given: &RequestGiven, folder: &Path) -> anyhow::Result<Given<request::Parts>> {
    if !given.path.starts_with('/') {
        bail!("path: `{}` does not begin with `/`", given.path);
    }
    let request = Request::builder().method(given.method.as_str()).uri(given.path.as_str()).body(());
    let (mut head, ()) = request.context("method or path")?.into_parts();
    head.headers = given.headers.0.clone();
    if !head.headers.contains_key(HOST) {
        head.headers.insert(HOST, given.authority.parse().context("authority")?);
    }
    Ok(Given { head, pieces: pieces(&given.body, folder)?, trailers: given.trailers.0.clone() })
}

fn response(given: &ResponseGiven, folder: &Path) -> anyhow::Result<Given<response::Parts>> {
    let (mut head, ()) = Response::builder().status(given.status).body(())?.into_parts();
    head.headers = given.headers.0.clone();
    Ok(Given { head, pieces: pieces(&given.body, folder)?, trailers: given.trailers.0.clone() })
}

fn pieces(given: &BodyGiven, folder: &Path) -> anyhow::Result<Vec<Bytes>> {
    match given {
        BodyGiven::Empty => Ok(Vec::new()),
        BodyGiven::Pieces(pieces) => Ok(pieces.clone()),
        BodyGiven::File(path) => {
            let path = folder.join(path);
            let bytes = std::fs::read(&path).with_context(|| format!("body: cannot read {}", path.display()))?;
            Ok(vec![bytes.into()])
        }
    }
}

//! One exchange in a policy on bodies, trailers or the end.

use std::{cell::RefCell, rc::Rc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Response, request, response};

use super::{Called, ExchangeFacts, Verdict};

/// Towards which side a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// To the upstream.
    Request,
    /// To the client.
    Response,
}

/// A piece of a body, or all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The bytes; maybe none.
    pub bytes: Bytes,
    /// Whether this is the last one.
    pub end: bool,
}

/// The head of a message that a plugin keeps back.
#[derive(Debug)]
pub enum Message {
    /// To the upstream.
    Request(request::Parts),
    /// To the client.
    Response(response::Parts),
}

/// Shared with the body hook that may release it.
pub type HeldHead = Rc<RefCell<Message>>;

/// What a body hook decided. The edits of a release are applied already.
#[derive(Debug)]
pub enum BodyVerdict {
    /// Pass the chunk on as it is.
    Pass,
    /// Pass these bytes on in its place.
    Replace(Bytes),
    /// Keep the chunk back: the plugin sees it again in front of the next one.
    Hold,
    /// The held head goes on, and so does the chunk, or these bytes in its place.
    Release(Option<Bytes>),
    /// Answer with this in place of the rest.
    Reply(Response<Bytes>),
    /// Give the exchange up, with this text in the access record.
    Abort(String),
}

/// What a trailer hook decided.
#[derive(Debug, Default)]
pub struct TrailersVerdict {
    /// Passed on behind the body.
    pub body: Bytes,
    /// The trailers, edited.
    pub trailers: HeaderMap,
}

/// How an exchange ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// 0 when the client left before a response.
    pub status: u16,
    /// Bytes of the request's body, as they came from the client.
    pub request_bytes: u64,
    /// Bytes of the response's body, as they went to the client.
    pub response_bytes: u64,
    /// From the head of the request to the end of the response.
    pub duration: Duration,
    /// Address of the endpoint that answered.
    pub upstream: Option<String>,
    /// From trailers, or from the headers of a response that has nothing else.
    pub grpc_status: Option<u32>,
    /// A reason of the access record, when the exchange did not end well.
    pub error: Option<&'static str>,
}

/// One exchange in one plugin. Its state lives in an instance of the plugin: when that ends by a fault, every further call answers with one.
///
/// The caller keeps the order of the contract: head, body to its last chunk, trailers, for each direction; `end` once, behind all others.
pub trait PolicyExchange {
    /// The request reached the plugin: take down what it carries, run its hook if it has one, and apply its edits to `head`. After a
    /// fault `head` is as it was.
    fn on_request<'a>(&'a self, exchange: &'a ExchangeFacts<'a>, head: &'a mut request::Parts) -> Called<'a, Verdict>;

    /// Run the response hook and apply its edits to `head`. After a fault `head` is as it was.
    fn on_response<'a>(&'a self, exchange: &'a ExchangeFacts<'a>, head: &'a mut response::Parts)
    -> Called<'a, Verdict>;

    /// A chunk of a body. `held` is the head of the same message for as long as this plugin keeps it back; a release edits it.
    fn on_body(
        self: Rc<Self>,
        exchange: &ExchangeFacts<'_>,
        direction: Direction,
        chunk: Chunk,
        held: Option<HeldHead>,
    ) -> Called<'static, BodyVerdict>;

    /// The trailers of a message.
    fn on_trailers(
        self: Rc<Self>,
        exchange: &ExchangeFacts<'_>,
        direction: Direction,
        trailers: HeaderMap,
    ) -> Called<'static, TrailersVerdict>;

    /// The exchange is over. Does nothing if its state is gone, or was ended before.
    fn end(&self, exchange: &ExchangeFacts<'_>, summary: &Summary);
}

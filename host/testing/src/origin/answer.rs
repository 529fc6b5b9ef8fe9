//! What the origin answers: a status, headers, and a script for the body.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use hyper::body::{Body, Frame};
use serde_json::json;

use super::Recorded;
use crate::gate::Gate;

/// An answer and how it comes about, step by step.
#[derive(Clone, Debug)]
pub struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) before: Option<Before>,
    steps: Vec<Step>,
    // Known in advance: sent with `content-length` rather than in chunks.
    whole: Option<Bytes>,
}

/// What happens before the head of the answer.
#[derive(Clone, Debug)]
pub(super) enum Before {
    Wait(Gate),
    Reset,
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Chunk(Bytes),
    Wait(Gate),
    Trailers(HeaderMap),
    Reset,
}

impl Answer {
    /// An empty answer.
    ///
    /// # Panics
    /// When the status is not one.
    #[must_use]
    pub fn new(status: u16) -> Self {
        let status = StatusCode::from_u16(status).expect("a status has three digits");
        Self { status, headers: HeaderMap::new(), before: None, steps: Vec::new(), whole: None }
    }

    /// 200 with the request as JSON: `method`, `path`, `authority`, `version`, `headers` (an object of lists), `body`.
    #[must_use]
    pub fn echo(request: &Recorded) -> Self {
        let mut headers = serde_json::Map::new();
        for name in request.headers.keys() {
            let values = request.headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
            headers.insert(name.to_string(), values.collect());
        }
        let echo = json!({
            "method": request.method.as_str(),
            "path": request.path,
            "authority": request.authority,
            "version": format!("{:?}", request.version),
            "headers": headers,
            "body": String::from_utf8_lossy(&request.body),
        });
        Self::new(200).header("content-type", "application/json").body(echo.to_string())
    }

    /// No answer at all: the connection is closed (HTTP/1.1) or the stream reset (HTTP/2).
    #[must_use]
    pub fn reset() -> Self {
        Self { before: Some(Before::Reset), ..Self::new(200) }
    }

    /// Hold the head back until the gate opens.
    #[must_use]
    pub fn after(mut self, gate: &Gate) -> Self {
        self.before = Some(Before::Wait(gate.clone()));
        self
    }

    /// Add a header.
    ///
    /// # Panics
    /// When name or value are not valid.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::try_from(name).expect("a valid header name");
        self.headers.append(name, HeaderValue::try_from(value).expect("a valid header value"));
        self
    }

    /// The whole body, with its length.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.whole = Some(body.into());
        self
    }

    /// A piece of a streamed body.
    #[must_use]
    pub fn chunk(self, chunk: impl Into<Bytes>) -> Self {
        let chunk = chunk.into();
        self.step(Step::Chunk(chunk))
    }

    /// Hold the rest of the body back until the gate opens.
    #[must_use]
    pub fn wait(self, gate: &Gate) -> Self {
        self.step(Step::Wait(gate.clone()))
    }

    /// End the body with a trailer. Several calls make one trailer section.
    ///
    /// # Panics
    /// When name or value are not valid.
    #[must_use]
    pub fn trailer(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::try_from(name).expect("a valid trailer name");
        let value = HeaderValue::try_from(value).expect("a valid trailer value");
        if let Some(Step::Trailers(trailers)) = self.steps.last_mut() {
            trailers.append(name, value);
            return self;
        }
        self.step(Step::Trailers(HeaderMap::from_iter([(name, value)])))
    }

    /// Break off in the middle of the body: the connection is closed (HTTP/1.1) or the stream reset (HTTP/2).
    #[must_use]
    pub fn then_reset(self) -> Self {
        self.step(Step::Reset)
    }

    fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    pub(super) fn into_body(self) -> ScriptedBody {
        match self.whole {
            Some(whole) if self.steps.is_empty() => ScriptedBody::Whole(Some(whole)),
            Some(whole) => ScriptedBody::Steps {
                steps: [vec![Step::Chunk(whole)], self.steps].concat().into_iter(),
                waiting: None,
            },
            None if self.steps.is_empty() => ScriptedBody::Whole(None),
            None => ScriptedBody::Steps { steps: self.steps.into_iter(), waiting: None },
        }
    }
}

type Waiting = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A body that follows its script.
pub(super) enum ScriptedBody {
    Whole(Option<Bytes>),
    Steps { steps: std::vec::IntoIter<Step>, waiting: Option<Waiting> },
}

impl Body for ScriptedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let (steps, waiting) = match self.get_mut() {
            Self::Whole(whole) => return Poll::Ready(whole.take().map(|whole| Ok(Frame::data(whole)))),
            Self::Steps { steps, waiting } => (steps, waiting),
        };
        loop {
            if let Some(gate) = waiting {
                std::task::ready!(gate.as_mut().poll(context));
                *waiting = None;
            }
            return Poll::Ready(match steps.next() {
                None => None,
                Some(Step::Chunk(chunk)) => Some(Ok(Frame::data(chunk))),
                Some(Step::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
                Some(Step::Reset) => Some(Err(io::ErrorKind::ConnectionReset.into())),
                Some(Step::Wait(gate)) => {
                    *waiting = Some(Box::pin(async move { gate.wait().await }));
                    continue;
                }
            });
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        match self {
            Self::Whole(whole) => hyper::body::SizeHint::with_exact(whole.as_ref().map_or(0, Bytes::len) as u64),
            Self::Steps { .. } => hyper::body::SizeHint::default(),
        }
    }
}

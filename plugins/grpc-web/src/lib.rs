#![doc = include_str!("../README.md")]
//!
//! # Inside
//!
//! ```text
//! request of gRPC-Web ─► content-type: application/grpc ─► base64 off, in text mode        ─► backend
//!        response     ◄─ content-type: application/grpc-web… ◄─ base64 on ◄─ trailers frame ◄─
//! ```
//!
//! Invariants: an exchange that is not of gRPC-Web is skipped after one look at its headers; bodies of binary mode never enter the plugin; nothing
//! waits for more than the frame that it belongs to; every call ends with exactly one status, whatever the backend does.

mod base64;
pub mod config;
mod cors;
mod frame;
mod media;
mod status;

use penstock_plugin::prelude::*;

use crate::{
    base64::Decoder,
    config::Config,
    cors::{Cors, Opened},
    frame::TextWriter,
    media::Mode,
};

/// The policy: see the crate's documentation.
pub struct GrpcWeb {
    cors: Option<Cors>,
}

/// One exchange.
pub enum Call {
    /// Not of gRPC-Web, or not known yet.
    Other,
    /// Of gRPC-Web.
    Web(Web),
}

/// A call of gRPC-Web.
pub struct Web {
    /// Of a text request.
    decoder: Decoder,
    mode: Mode,
    opened: Option<Opened>,
    answer: Answer,
}

/// What comes back.
enum Answer {
    /// Messages, and then trailers, which are to be written so.
    Messages(Writer),
    /// A status in the headers. Whatever follows is dropped.
    Status,
}

enum Writer {
    Binary,
    Text(TextWriter),
}

impl StreamingPolicy for GrpcWeb {
    type Config = Config;
    type Exchange = Call;

    fn configure(config: Config) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        let at = Pointer::root().at("cors");
        let cors = config.cors.as_ref().map(|cors| Cors::compile(cors, &at, &mut problems));
        problems.into_result(Self { cors })
    }

    fn plan(&self) -> Plan {
        let plan = Plan::new()
            .request_reads([":method", "content-type", "accept"])
            .request_writes(["content-type"])
            .request_body(BodyMode::Stream)
            .response_reads(["content-type", "grpc-status"])
            .response_body(BodyMode::Stream)
            .response_trailers()
            // Trailers are moved whatever they are called.
            .response_writes(["content-type", ":status", "grpc-status", "grpc-message", "content-encoding", "*"]);
        if self.cors.is_some() { Cors::plan(plan) } else { plan }
    }

    fn exchange(&self) -> Call {
        Call::Other
    }
}

impl Exchange<GrpcWeb> for Call {
    fn on_request(&mut self, policy: &GrpcWeb, request: &Request) -> HeadVerdict {
        let method = request.read(0);
        if method.first() == Some(b"OPTIONS")
            && let Some(reply) = policy.cors.as_ref().and_then(|cors| cors.preflight(request))
        {
            return reply.into();
        }
        let content_type = request.read(1);
        let web = content_type.first().and_then(media::grpc_web).filter(|_| method.first() == Some(b"POST"));
        let Some((sent, format)) = web else {
            request.skip(Hooks::all());
            return HeadVerdict::Proceed;
        };
        request.set("content-type", format.to_grpc());
        if sent == Mode::Binary {
            request.skip(Hooks::REQUEST_BODY);
        }
        let accept = request.read(2);
        *self = Self::Web(Web {
            decoder: Decoder::default(),
            mode: media::wanted(accept.iter(), sent),
            opened: policy.cors.as_ref().and_then(|cors| cors.open(request)),
            answer: Answer::Status,
        });
        HeadVerdict::Proceed
    }

    fn on_request_body(&mut self, policy: &GrpcWeb, chunk: Chunk) -> BodyVerdict {
        let Self::Web(web) = self else { return BodyVerdict::Pass };
        match web.decoder.decode(chunk.bytes) {
            Ok(bytes) if !chunk.end || web.decoder.is_complete() => BodyVerdict::Replace(bytes),
            _ => BodyVerdict::Reply(web.refuse(policy)),
        }
    }

    fn on_response(&mut self, policy: &GrpcWeb, response: &Response) -> HeadVerdict {
        if let Self::Web(web) = self {
            web.on_response(policy, response);
        }
        HeadVerdict::Proceed
    }

    fn on_response_body(&mut self, _: &GrpcWeb, chunk: Chunk) -> BodyVerdict {
        let Self::Web(web) = self else { return BodyVerdict::Pass };
        match &mut web.answer {
            Answer::Messages(Writer::Binary) => BodyVerdict::Pass,
            Answer::Messages(Writer::Text(writer)) => BodyVerdict::Replace(writer.write(chunk.bytes)),
            Answer::Status => BodyVerdict::Replace(Vec::new()),
        }
    }

    fn on_response_trailers(&mut self, _: &GrpcWeb, trailers: &Trailers) {
        let Self::Web(web) = self else { return };
        let has_status = trailers.get("grpc-status").is_some();
        let mut last = frame::move_trailers(trailers);
        if !has_status {
            last = frame::status(status::INTERNAL, "the backend ended the response without a status");
        }
        match &mut web.answer {
            Answer::Messages(Writer::Binary) => trailers.write_body(&last),
            Answer::Messages(Writer::Text(writer)) => trailers.write_body(&writer.finish(&last)),
            Answer::Status => {}
        }
    }
}

impl Web {
    fn on_response(&mut self, policy: &GrpcWeb, response: &Response) {
        if let (Some(cors), Some(opened)) = (&policy.cors, &self.opened) {
            cors.write(opened, response);
        }
        let content_type = response.read(0);
        let format = content_type.first().and_then(media::grpc);
        let has_status = !response.read(1).is_empty();
        response.set("content-type", format.unwrap_or_default().to_grpc_web(self.mode));
        match format {
            Some(_) if response.status() == 200 && !has_status => {
                self.answer = Answer::Messages(match self.mode {
                    Mode::Binary => {
                        response.skip(Hooks::RESPONSE_BODY);
                        Writer::Binary
                    }
                    Mode::Text => Writer::Text(TextWriter::default()),
                });
            }
            // The gateway, another plugin or a proxy has answered, and knows nothing of gRPC; or the status is all there is.
            _ => {
                response.remove("content-encoding");
                response.set(":status", "200");
                if !has_status {
                    response.set("grpc-status", u16::from(status::from_http(response.status())));
                    response
                        .set("grpc-message", format!("the call was answered with HTTP status {}", response.status()));
                }
            }
        }
    }

    /// The answer to a request that is not what its headers say.
    fn refuse(&self, policy: &GrpcWeb) -> Reply {
        let reply = Reply::new(200)
            .header("content-type", media::Format::default().to_grpc_web(self.mode))
            .header("grpc-status", u16::from(status::INVALID_ARGUMENT))
            .header("grpc-message", "the body of the request is not base64");
        match (&policy.cors, &self.opened) {
            (Some(cors), Some(opened)) => cors.open_reply(opened, reply),
            _ => reply,
        }
    }
}

plugin!(streaming: GrpcWeb, schema: include_str!("../schema.json"));

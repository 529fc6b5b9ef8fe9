//! Bodies, trailers and the end through plugins that do what their tests say.

use std::{
    cell::Cell,
    rc::Rc,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, request, response};
use penstock_core::{
    Kind, ResourceRef,
    plugin::{
        BodyMode, BodyOverflow, BodyVerdict, Called, Chunk, Direction, ExchangeFacts, FailurePolicy, FaultKind,
        HeldHead, Hooks, Message, PluginFault, PolicyCall, PolicyExchange, PolicyRuntime, PolicyWorker, Proceed,
        Revision, StreamingHooks, Summary, TrailersVerdict, Verdict,
    },
    route::Rule,
};
use penstock_testing::{
    client::{Connection, Raw, get, next_chunk, post, request},
    eventually::eventually,
    gate::Gate,
    origin::{Answer, Origin},
};

use crate::support::{Gateway, settings, to, to_h2, with_policies};

type OnBody = dyn Fn(Direction, &Chunk, Option<&HeldHead>) -> Result<BodyVerdict, PluginFault> + Send + Sync;

/// Its hooks on bodies and on the end take long.
const SLOW: &str = "slow";

/// Its end hook takes a time that is no plugin's.
const HANGS: &str = "hangs";

const A_HOOK: &str = "a hook";
const SOMETHING_ELSE: &str = "something else";

/// A plugin of these tests.
struct Script {
    name: &'static str,
    /// Messages whose heads it keeps back.
    holds: &'static [Direction],
    on_body: Box<OnBody>,
    /// Its body hooks answer after a while.
    waits: bool,
    log: Log,
}

/// What was called, and how exchanges ended.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<(Vec<String>, Ends)>>);

type Ends = Vec<(&'static str, Summary)>;

impl Log {
    fn note(&self, what: String) {
        self.0.lock().unwrap().0.push(what);
    }

    fn calls(&self) -> Vec<String> {
        self.0.lock().unwrap().0.clone()
    }

    /// Wait for so many hooks that took long, and see that something else came after so many of them at most.
    async fn turns(&self, count: usize, in_a_row: usize) {
        let is_turn = |call: &&String| [A_HOOK, SOMETHING_ELSE].contains(&call.as_str());
        let turns = || self.calls().iter().filter(is_turn).cloned().collect::<Vec<_>>();
        let turns = eventually("the turns", async || Some(turns()).filter(|turns| turns.len() >= 2 * count)).await;
        let longest = turns.split(|turn| turn == SOMETHING_ELSE).map(<[_]>::len).max();
        assert!(longest <= Some(in_a_row), "{turns:?}");
    }

    /// Wait for so many ends, and see that there are no more.
    async fn ends(&self, count: usize) -> Vec<(&'static str, Summary)> {
        let ends = || self.0.lock().unwrap().1.clone();
        eventually("the end hooks", async || Some(ends()).filter(|ends| ends.len() >= count)).await;
        assert_eq!(ends().len(), count);
        ends()
    }
}

struct Runtime;

impl PolicyRuntime for Runtime {
    fn worker(&self) -> Box<dyn PolicyWorker> {
        Box::<Worker>::default()
    }
}

#[derive(Default)]
struct Worker {
    wants_break: Rc<Cell<bool>>,
}

impl PolicyWorker for Worker {
    fn on_request<'a>(
        &'a self,
        _: &'a PolicyCall,
        _: &'a ExchangeFacts<'a>,
        _: &'a mut request::Parts,
    ) -> Called<'a, Verdict> {
        unreachable!("no policy on headers here")
    }

    fn on_response<'a>(
        &'a self,
        _: &'a PolicyCall,
        _: &'a Proceed,
        _: &'a ExchangeFacts<'a>,
        _: &'a mut response::Parts,
    ) -> Called<'a, Verdict> {
        unreachable!("no policy on headers here")
    }

    fn begin(&self, call: &PolicyCall, _: &ExchangeFacts<'_>) -> Result<Rc<dyn PolicyExchange>, PluginFault> {
        let script = call.revision.loaded().clone().downcast::<Script>().unwrap();
        Ok(Rc::new(Open(script, self.wants_break.clone())))
    }

    fn wants_break(&self) -> bool {
        self.wants_break.replace(false)
    }
}

struct Open(Arc<Script>, Rc<Cell<bool>>);

impl Open {
    /// As if it did. Others want something meanwhile.
    fn take_long(&self) {
        if self.0.name == SLOW {
            self.1.set(true);
            self.0.log.note(A_HOOK.into());
            let log = self.0.log.clone();
            tokio::task::spawn_local(async move { log.note(SOMETHING_ELSE.into()) });
        }
    }

    fn head(&self, direction: Direction, headers: &mut HeaderMap) -> Result<Verdict, PluginFault> {
        self.0.log.note(format!("{direction:?} {}", self.0.name));
        headers.append("x-met", HeaderValue::from_static(self.0.name));
        let holds = self.0.holds.contains(&direction);
        Ok(if holds { Verdict::Hold } else { Verdict::Proceed(Proceed::default()) })
    }
}

impl PolicyExchange for Open {
    fn on_request<'a>(&'a self, _: &'a ExchangeFacts<'a>, head: &'a mut request::Parts) -> Called<'a, Verdict> {
        self.head(Direction::Request, &mut head.headers).into()
    }

    fn on_response<'a>(&'a self, _: &'a ExchangeFacts<'a>, head: &'a mut response::Parts) -> Called<'a, Verdict> {
        self.head(Direction::Response, &mut head.headers).into()
    }

    fn on_body(
        self: Rc<Self>,
        _: &ExchangeFacts<'_>,
        direction: Direction,
        chunk: Chunk,
        held: Option<HeldHead>,
    ) -> Called<'static, BodyVerdict> {
        self.0.log.note(format!("{direction:?} body {} {} {}", self.0.name, chunk.bytes.len(), chunk.end));
        self.take_long();
        let script = self.0.clone();
        let run = move || (script.on_body)(direction, &chunk, held.as_ref());
        if !self.0.waits {
            return run().into();
        }
        Called::Waiting(Box::pin(async move {
            tokio::task::yield_now().await;
            run()
        }))
    }

    fn on_trailers(
        self: Rc<Self>,
        _: &ExchangeFacts<'_>,
        direction: Direction,
        trailers: HeaderMap,
    ) -> Called<'static, TrailersVerdict> {
        self.0.log.note(format!("{direction:?} trailers {} {}", self.0.name, trailers.len()));
        let text = |(name, value): (&http::HeaderName, &HeaderValue)| format!("{name}={}\n", value.to_str().unwrap());
        let body: String = trailers.iter().map(text).collect();
        let moved = [("x-moved".parse().unwrap(), HeaderValue::from(trailers.len()))];
        Ok(TrailersVerdict { body: body.into(), trailers: moved.into_iter().collect() }).into()
    }

    fn end(&self, _: &ExchangeFacts<'_>, summary: &Summary) {
        if self.0.name == HANGS {
            std::thread::sleep(Duration::from_millis(400));
        }
        self.take_long();
        self.0.log.0.lock().unwrap().1.push((self.0.name, summary.clone()));
    }
}

/// A plugin that sees both bodies as a stream, and the end.
fn plugin(
    log: &Log,
    name: &'static str,
    on_body: impl Fn(Direction, &Chunk) -> BodyVerdict + Send + Sync + 'static,
) -> PolicyCall {
    judging(log, name, move |direction, chunk, _| Ok(on_body(direction, chunk)))
}

fn judging(
    log: &Log,
    name: &'static str,
    on_body: impl Fn(Direction, &Chunk, Option<&HeldHead>) -> Result<BodyVerdict, PluginFault> + Send + Sync + 'static,
) -> PolicyCall {
    scripted(Script { name, holds: &[], on_body: Box::new(on_body), waits: false, log: log.clone() })
}

fn scripted(script: Script) -> PolicyCall {
    let streaming = StreamingHooks {
        request_body: BodyMode::Stream,
        response_body: BodyMode::Stream,
        end: true,
        ..StreamingHooks::default()
    };
    PolicyCall {
        plugin: ResourceRef::new(Kind::WasmPlugin, "default", script.name),
        revision: Revision::new(0, Arc::new(script)),
        failure_policy: FailurePolicy::Closed,
        body_overflow: BodyOverflow::default(),
        hooks: Hooks { request: true, response: true, streaming: Some(streaming), ..Hooks::default() },
        outbound: Arc::default(),
        redis: Arc::default(),
    }
}

fn seeing(mut call: PolicyCall, change: impl FnOnce(&mut StreamingHooks)) -> PolicyCall {
    change(call.hooks.streaming.as_mut().unwrap());
    call
}

fn only(direction: Direction, mode: BodyMode, call: PolicyCall) -> PolicyCall {
    seeing(call, |hooks| {
        (hooks.request_body, hooks.response_body) = match direction {
            Direction::Request => (mode, BodyMode::None),
            Direction::Response => (BodyMode::None, mode),
        };
    })
}

fn upper(chunk: &Chunk) -> BodyVerdict {
    BodyVerdict::Replace(chunk.bytes.to_ascii_uppercase().into())
}

fn has(chunk: &Chunk, word: &str) -> bool {
    String::from_utf8_lossy(&chunk.bytes).contains(word)
}

fn fault(kind: FaultKind) -> PluginFault {
    PluginFault { kind, message: "on purpose".into() }
}

fn teapot() -> BodyVerdict {
    BodyVerdict::Reply(Response::builder().status(418).body(Bytes::from_static(b"teapot")).unwrap())
}

fn serve(rule: Rule, policies: Vec<PolicyCall>) -> (Gateway, std::net::SocketAddr) {
    let gateway = Gateway::start(settings(), Arc::new(Runtime));
    let address = gateway.publish(vec![with_policies(rule, policies)]);
    (gateway, address)
}

/// Each protocol towards the client with each towards the endpoint.
async fn all_combinations(origin: &Origin, policies: &[PolicyCall], check: impl AsyncFn(Connection, &str)) {
    for upstream_h2 in [false, true] {
        let rule = if upstream_h2 { to_h2(&[origin.address()]) } else { to(&[origin.address()]) };
        let (_gateway, address) = serve(rule, policies.to_vec());
        check(Connection::h1(address).await.unwrap(), &format!("h1 to h2 {upstream_h2}")).await;
        check(Connection::h2(address).await.unwrap(), &format!("h2 to h2 {upstream_h2}")).await;
    }
}

#[tokio::test]
async fn bodies_are_replaced_both_ways() {
    let (log, origin) = (Log::default(), Origin::answering(Answer::new(200).chunk("an").chunk("swer")));
    let policies = [plugin(&log, "a", |_, chunk| upper(chunk))];
    all_combinations(&origin, &policies, async |mut connection, what| {
        let before = origin.requests().len();
        let response = connection.send(post("/", "question")).await.unwrap();
        assert_eq!((response.status, response.text(), response.header("x-met")), (200, "ANSWER", "a"), "{what}");
        assert_eq!(origin.requests()[before].body, "QUESTION", "{what}");
        let (_, summary) = log.ends(before + 1).await.pop().unwrap();
        assert_eq!(
            (summary.status, summary.request_bytes, summary.response_bytes, summary.error),
            (200, 8, 6, None),
            "{what}"
        );
        assert_eq!(summary.upstream, Some(origin.address().to_string()), "{what}");
    })
    .await;
}

#[tokio::test]
async fn every_plugin_sees_what_the_one_before_it_left() {
    let (log, origin) = (Log::default(), Origin::answering(Answer::new(200).chunk("r")));
    let append = |name: &'static str| {
        move |_, chunk: &Chunk| {
            if chunk.bytes.is_empty() {
                BodyVerdict::Pass
            } else {
                BodyVerdict::Replace([&*chunk.bytes, name.as_bytes()].concat().into())
            }
        }
    };
    let (_gateway, address) =
        serve(to(&[origin.address()]), vec![plugin(&log, "a", append("a")), plugin(&log, "b", append("b"))]);
    let response = Connection::h1(address).await.unwrap().send(post("/", "q")).await.unwrap();
    assert_eq!((origin.requests()[0].body.as_ref(), response.text()), (&b"qab"[..], "rba"));
    let names: Vec<_> = log.ends(2).await.into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["a", "b"]);
}

#[tokio::test]
async fn a_body_is_handed_over_in_pieces_and_the_last_is_marked() {
    let (log, origin) = (Log::default(), Origin::start());
    let call = only(Direction::Request, BodyMode::Stream, plugin(&log, "a", |_, _| BodyVerdict::Pass));
    let (_gateway, address) = serve(to(&[origin.address()]), vec![call]);
    let body = Bytes::from(vec![b'x'; 300_000]);
    Connection::h1(address).await.unwrap().send(post("/", body.clone())).await.unwrap();
    assert_eq!(origin.requests()[0].body, body);
    let calls = log.calls();
    let sizes: Vec<(usize, bool)> = calls
        .iter()
        .filter_map(|call| call.strip_prefix("Request body a "))
        .map(|call| call.split_once(' ').unwrap())
        .map(|(size, end)| (size.parse().unwrap(), end == "true"))
        .collect();
    assert_eq!(sizes.iter().map(|(size, _)| size).sum::<usize>(), 300_000);
    assert!(sizes.iter().all(|(size, _)| *size <= 64 << 10), "{calls:?}");
    assert_eq!(sizes.iter().filter(|(_, end)| *end).count(), 1, "{calls:?}");
    assert!(sizes.last().unwrap().1, "{calls:?}");
}

#[tokio::test]
async fn a_held_head_goes_on_when_it_is_released_and_the_next_plugin_sees_it_then() {
    let (log, origin) = (Log::default(), Origin::answering(Answer::new(200).chunk("an").chunk("swer")));
    let on_body = |_, chunk: &Chunk, held: Option<&HeldHead>| {
        if !chunk.end {
            return Ok(BodyVerdict::Hold);
        }
        let length = HeaderValue::from(chunk.bytes.len());
        match &mut *held.unwrap().borrow_mut() {
            Message::Request(head) => head.headers.insert("x-length", length),
            Message::Response(head) => head.headers.insert("x-length", length),
        };
        Ok(BodyVerdict::Release(None))
    };
    let holds = &[Direction::Request, Direction::Response];
    let a = scripted(Script { name: "a", holds, on_body: Box::new(on_body), waits: false, log: log.clone() });
    let policies = [a, plugin(&log, "b", |_, chunk| upper(chunk))];
    all_combinations(&origin, &policies, async |mut connection, what| {
        let before = origin.requests().len();
        let response = connection.send(post("/", "question")).await.unwrap();
        assert_eq!((response.text(), response.header("x-length")), ("ANSWER", "6"), "{what}");
        let seen = &origin.requests()[before];
        assert_eq!((seen.body.as_ref(), seen.header("x-length")), (&b"QUESTION"[..], "8"), "{what}");
    })
    .await;
    let calls = log.calls();
    assert_eq!(calls[..4], ["Request a", "Request body a 8 true", "Request b", "Request body b 8 true"]);
    assert_eq!(calls[4..6], ["Response b", "Response a"]);
}

#[tokio::test]
async fn buffered_bodies_come_whole_and_keep_their_length() {
    let (log, origin) = (Log::default(), Origin::answering(Answer::new(200).chunk("an").chunk("swer")));
    let call = seeing(plugin(&log, "a", |_, chunk| upper(chunk)), |hooks| {
        (hooks.request_body, hooks.response_body) = (BodyMode::Buffer(8), BodyMode::Buffer(8));
    });
    all_combinations(&origin, &[call], async |mut connection, what| {
        let before = origin.requests().len();
        let response = connection.send(post("/", "question")).await.unwrap();
        assert_eq!((response.text(), response.header("content-length")), ("ANSWER", "6"), "{what}");
        let seen = &origin.requests()[before];
        assert_eq!((seen.body.as_ref(), seen.header("content-length")), (&b"QUESTION"[..], "8"), "{what}");
    })
    .await;
    assert_eq!(log.calls()[..4], ["Request a", "Request body a 8 true", "Response a", "Response body a 6 true"]);
}

#[tokio::test]
async fn bodies_beyond_what_is_buffered() {
    let (log, origin) = (Log::default(), Origin::answering(Answer::new(200).chunk("long ").chunk("answer")));
    let buffering = |direction| only(direction, BodyMode::Buffer(7), plugin(&log, "a", |_, chunk| upper(chunk)));
    let pass = |call| PolicyCall { body_overflow: BodyOverflow::Pass, ..call };
    for (call, status, text, asked) in [
        (buffering(Direction::Request), 413, "", 0),
        (pass(buffering(Direction::Request)), 200, "long answer", 1),
        (buffering(Direction::Response), 502, "", 1),
        (pass(buffering(Direction::Response)), 200, "long answer", 1),
    ] {
        let before = origin.requests().len();
        let (_gateway, address) = serve(to(&[origin.address()]), vec![call]);
        let response = Connection::h1(address).await.unwrap().send(post("/", "question")).await.unwrap();
        assert_eq!(response.status, status);
        if status == 200 {
            assert_eq!((response.text(), origin.requests()[before].body.as_ref()), (text, &b"question"[..]));
        }
        assert_eq!(origin.requests().len() - before, asked, "{status}");
    }
}

#[tokio::test]
async fn messages_without_a_body_are_one_empty_chunk() {
    let (log, origin) = (Log::default(), Origin::start());
    origin.answer(|request| Answer::new(if request.path == "/204" { 204 } else { 200 }));
    let add = |direction, chunk: &Chunk| {
        assert!(chunk.bytes.is_empty() && chunk.end);
        BodyVerdict::Replace(if direction == Direction::Request { "asked" } else { "added" }.into())
    };
    all_combinations(&origin, &[plugin(&log, "a", add)], async |mut connection, what| {
        let before = origin.requests().len();
        let response = connection.send(get("/")).await.unwrap();
        assert_eq!((response.status, response.text()), (200, "added"), "{what}");
        assert_eq!(origin.requests()[before].body, "asked", "{what}");
        let response = connection.send(get("/204")).await.unwrap();
        assert_eq!((response.status, response.text()), (204, ""), "{what}");
        let response = connection.send(request("HEAD", "/")).await.unwrap();
        assert_eq!((response.status, response.text()), (200, ""), "{what}");
        assert_eq!(origin.requests()[before + 2].method, Method::HEAD);
    })
    .await;
    log.ends(12).await;
}

#[tokio::test]
async fn trailers_move_behind_the_body() {
    let answer = Answer::new(200).header("trailer", "grpc-status").chunk("message").trailer("grpc-status", "7");
    let (log, origin) = (Log::default(), Origin::answering(answer));
    let call = seeing(plugin(&log, "a", |_, _| BodyVerdict::Pass), |hooks| {
        (hooks.request_trailers, hooks.response_trailers) = (true, true);
        (hooks.request_body, hooks.response_body) = (BodyMode::None, BodyMode::None);
    });
    all_combinations(&origin, &[call], async |mut connection, what| {
        let before = origin.requests().len();
        let upload = post("/", "body").trailer("x-check", "2").accepting_trailers();
        let response = connection.send(upload).await.unwrap();
        assert_eq!(response.text(), "messagegrpc-status=7\n", "{what}");
        let seen = &origin.requests()[before];
        assert_eq!(seen.body, "bodyx-check=2\n", "{what}");
        // On HTTP/1.1 only trailers that the head announced can follow.
        let moved = seen.trailers.as_ref().map(|trailers| trailers["x-moved"].clone());
        assert_eq!(moved, (seen.version == http::Version::HTTP_2).then(|| "1".parse().unwrap()), "{what}");
    })
    .await;
    assert!(log.ends(4).await.iter().all(|(_, summary)| summary.grpc_status == Some(7)));
    assert!(!log.calls().iter().any(|call| call.contains("body")), "bodies were not asked for");
}

#[tokio::test]
async fn a_response_without_trailers_may_get_some() {
    let (log, origin) = (Log::default(), Origin::answering(Answer::new(200).chunk("message")));
    let call = seeing(plugin(&log, "a", |_, _| BodyVerdict::Pass), |hooks| {
        (hooks.request_trailers, hooks.response_trailers) = (true, true);
    });
    let (_gateway, address) = serve(to_h2(&[origin.address()]), vec![call]);
    let response = Connection::h2(address).await.unwrap().send(post("/", "x").accepting_trailers()).await.unwrap();
    assert_eq!((response.text(), response.trailer("x-moved")), ("message", "0"));
    assert!(!log.calls().iter().any(|call| call.starts_with("Request trailers")), "the request has none");
}

/// What becomes of `stop` in a body when the second of three plugins replies to it.
async fn replying(direction: Direction, mode: BodyMode) -> (Option<(u16, String)>, Vec<String>) {
    let (log, origin) = (Log::default(), Origin::answering(Answer::new(200).body("stop")));
    let on_body = |_, chunk: &Chunk| if has(chunk, "stop") { teapot() } else { BodyVerdict::Pass };
    let policies = vec![
        only(Direction::Response, BodyMode::Stream, plugin(&log, "a", |_, chunk| upper(chunk))),
        only(direction, mode, plugin(&log, "b", on_body)),
        only(direction, mode, plugin(&log, "c", |_, _| BodyVerdict::Pass)),
    ];
    let (_gateway, address) = serve(to(&[origin.address()]), policies);
    let body = if direction == Direction::Request { "stop" } else { "ask" };
    let response = Connection::h1(address).await.unwrap().send(post("/", body)).await;
    // A head that waits for its body has not come to the third plugin yet.
    log.ends(if (direction, mode) == (Direction::Request, BodyMode::Buffer(100)) { 2 } else { 3 }).await;
    (response.ok().map(|response| (response.status, response.text().to_owned())), log.calls())
}

#[tokio::test]
async fn a_reply_to_a_body_passes_the_other_plugins_that_ran() {
    let heads = |calls: &[String]| {
        let responses = ["Response a", "Response b", "Response c"];
        responses.map(|head| calls.iter().filter(|call| *call == head).count())
    };
    for (mode, ran) in [(BodyMode::Stream, [1, 0, 1]), (BodyMode::Buffer(100), [1, 0, 0])] {
        let (response, calls) = replying(Direction::Request, mode).await;
        assert_eq!(response, Some((418, "TEAPOT".into())), "{mode:?}");
        assert_eq!(heads(&calls), ran, "not the one that replied: {calls:?}");
    }
    let (response, calls) = replying(Direction::Response, BodyMode::Buffer(100)).await;
    assert_eq!(response, Some((418, "TEAPOT".into())));
    assert_eq!(heads(&calls), [1, 1, 1], "{calls:?}");
    // Once the head is gone, all that is left is to break off.
    let (response, _) = replying(Direction::Response, BodyMode::Stream).await;
    assert_eq!(response, None);
}

#[tokio::test]
async fn an_exchange_that_is_given_up_is_reset() {
    for direction in [Direction::Request, Direction::Response] {
        for mode in [BodyMode::Stream, BodyMode::Buffer(100)] {
            let (log, origin) = (Log::default(), Origin::answering(Answer::new(200).chunk("stop")));
            let on_body = |_, chunk: &Chunk| {
                if has(chunk, "stop") { BodyVerdict::Abort("enough".into()) } else { BodyVerdict::Pass }
            };
            let call = only(direction, mode, plugin(&log, "a", on_body));
            let (gateway, address) = serve(to(&[origin.address()]), vec![call]);
            assert!(Connection::h1(address).await.unwrap().send(post("/", "stop")).await.is_err());
            let mut connection = Connection::h2(address).await.unwrap();
            assert!(connection.send(post("/", "stop")).await.is_err());
            assert!(!connection.is_closed(), "only the stream is");
            for (_, summary) in log.ends(2).await {
                assert_eq!(summary.error, Some("plugin_abort"), "{direction:?} {mode:?}");
            }
            assert!(gateway.metrics().contains("reason=\"plugin_abort\"} 2"));
        }
    }
}

/// The response to `POST one two` when the plugin faults at `two`, after it has done as told with `one`.
async fn faulting(
    direction: Direction,
    policy: FailurePolicy,
    first: fn(&Chunk) -> BodyVerdict,
) -> Result<(u16, String), ()> {
    let (log, gate) = (Log::default(), Gate::new());
    let origin = Origin::answering(Answer::new(200).chunk("one").wait(&gate).chunk("two"));
    let on_body = move |_, chunk: &Chunk, _: Option<&HeldHead>| {
        if has(chunk, "two") { Err(fault(FaultKind::Trap)) } else { Ok(first(chunk)) }
    };
    let call = only(direction, BodyMode::Stream, judging(&log, "a", on_body));
    let (_gateway, address) = serve(to(&[origin.address()]), vec![PolicyCall { failure_policy: policy, ..call }]);
    let mut connection = Connection::h2(address).await.unwrap();
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel::<Bytes>();
    let stream = futures_util::stream::unfold(receiver, async |mut receiver| {
        let frame = receiver.recv().await.map(http_body::Frame::data);
        frame.map(|frame| (Ok::<_, std::convert::Infallible>(frame), receiver))
    });
    sender.send("one".into()).unwrap();
    let upload = request("POST", "/").streaming(http_body_util::StreamBody::new(Box::pin(stream)));
    let calls = async {
        eventually("the first chunk", async || log.calls().iter().any(|call| call.contains("body")).then_some(()))
            .await;
        sender.send("two".into()).unwrap();
        drop(sender);
        gate.open();
    };
    let (response, ()) = if direction == Direction::Request {
        tokio::join!(connection.send(upload), calls)
    } else {
        tokio::join!(connection.send(post("/", "x")), calls)
    };
    log.ends(1).await;
    let response = response.map_err(|_| ())?;
    let text = if direction == Direction::Request {
        origin.requests().first().map(|seen| String::from_utf8_lossy(&seen.body).into_owned()).unwrap_or_default()
    } else {
        response.text().to_owned()
    };
    Ok((response.status, text))
}

#[tokio::test]
async fn faults_in_the_middle_of_a_body() {
    use Direction::{Request, Response};
    use FailurePolicy::{Closed, Open};
    let pass = |_: &Chunk| BodyVerdict::Pass;
    let hold = |_: &Chunk| BodyVerdict::Hold;
    for direction in [Request, Response] {
        let whole = Ok((200, "onetwo".to_owned()));
        assert_eq!(faulting(direction, Open, pass).await, whole, "{direction:?}: the rest passes unchanged");
        assert_eq!(faulting(direction, Open, hold).await, whole, "{direction:?}: what it held too");
    }
    assert_eq!(faulting(Request, Closed, pass).await.unwrap().0, 503);
    assert_eq!(faulting(Request, Open, upper).await.unwrap().0, 503, "what was replaced cannot go on unchanged");
    assert_eq!(faulting(Response, Closed, pass).await, Err(()));
    assert_eq!(faulting(Response, Open, upper).await, Err(()));
}

#[tokio::test]
async fn hooks_that_wait() {
    let (log, origin) = (Log::default(), Origin::answering(Answer::new(200).chunk("an").chunk("swer")));
    let on_body = |_, chunk: &Chunk, _: Option<&HeldHead>| Ok(upper(chunk));
    let waiting =
        |name| scripted(Script { name, holds: &[], on_body: Box::new(on_body), waits: true, log: log.clone() });
    let buffered = seeing(waiting("b"), |hooks| hooks.response_body = BodyMode::Buffer(100));
    all_combinations(&origin, &[waiting("a"), buffered], async |mut connection, what| {
        let before = origin.requests().len();
        let response = connection.send(post("/", "question")).await.unwrap();
        assert_eq!((response.status, response.text()), (200, "ANSWER"), "{what}");
        assert_eq!(origin.requests()[before].body, "QUESTION", "{what}");
    })
    .await;
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_exchange() {
    let (log, gate) = (Log::default(), Gate::new());
    let origin = Origin::answering(Answer::new(200).chunk("one").wait(&gate).chunk("two"));
    let (_gateway, address) = serve(to(&[origin.address()]), vec![plugin(&log, "a", |_, chunk| upper(chunk))]);
    let mut connection = Connection::h1(address).await.unwrap();
    let mut response = connection.open(get("/")).await.unwrap();
    assert_eq!(next_chunk(response.body_mut()).await.unwrap().unwrap(), "ONE");
    drop((response, connection));
    let (_, summary) = log.ends(1).await.pop().unwrap();
    assert_eq!((summary.status, summary.response_bytes, summary.error), (200, 3, Some("client_closed")));
}

#[tokio::test]
async fn web_sockets_are_left_alone() {
    let log = Log::default();
    let call = seeing(plugin(&log, "a", |_, chunk| upper(chunk)), |hooks| hooks.response_trailers = true);
    let (_gateway, address) = serve(to(&[crate::upgrades::echo().await]), vec![call]);
    let mut raw = Raw::connect(address).await.unwrap();
    raw.write(crate::upgrades::ASK).await.unwrap();
    assert!(raw.read_until("\r\n\r\n").await.unwrap().starts_with("HTTP/1.1 101 "));
    raw.read_until("hello ").await.unwrap();
    raw.write("lower case").await.unwrap();
    raw.read_until("lower case").await.unwrap();
    raw.shutdown().await.unwrap();
    assert_eq!(raw.read_to_end().await.unwrap(), " goodbye");
    let (_, summary) = log.ends(1).await.pop().unwrap();
    assert_eq!((summary.status, summary.error), (101, None));
}

#[tokio::test]
async fn errors_of_the_gateway_pass_the_bodies_of_plugins() {
    let log = Log::default();
    let (_gateway, address) =
        serve(to(&[crate::support::free_address()]), vec![plugin(&log, "a", |_, chunk| upper(chunk))]);
    let response = Connection::h1(address).await.unwrap().send(get("/")).await.unwrap();
    assert_eq!(response.status, 502);
    assert!(response.text().starts_with("THE SERVICE"), "{}", response.text());
    let (_, summary) = log.ends(1).await.pop().unwrap();
    assert_eq!((summary.status, summary.error), (502, Some("connect_failed")));
}

#[tokio::test]
async fn a_plugin_that_holds_the_head_asks_for_the_body_itself() {
    let (log, origin) = (Log::default(), Origin::start());
    let on_body = |_, chunk: &Chunk, _: Option<&HeldHead>| {
        Ok(if chunk.end { BodyVerdict::Release(None) } else { BodyVerdict::Hold })
    };
    let holds = &[Direction::Request];
    let script = Script { name: "a", holds, on_body: Box::new(on_body), waits: false, log: log.clone() };
    let call = only(Direction::Request, BodyMode::Stream, scripted(script));
    let (_gateway, address) = serve(to(&[origin.address()]), vec![call]);
    let mut raw = Raw::connect(address).await.unwrap();
    raw.write("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n").await.unwrap();
    assert!(raw.read_until("\r\n\r\n").await.unwrap().starts_with("HTTP/1.1 100"));
    raw.write("body").await.unwrap();
    assert!(raw.read_until("\r\n\r\n").await.unwrap().starts_with("HTTP/1.1 200"));
    let seen = &origin.requests()[0];
    assert_eq!((seen.body.as_ref(), seen.headers.contains_key("expect")), (&b"body"[..], false));
}

#[tokio::test]
async fn ends_that_take_long_let_others_go_first() {
    const EXCHANGES: usize = 8;
    let (log, gate) = (Log::default(), Gate::new());
    let origin = Origin::answering(Answer::new(200).chunk("begun").wait(&gate));
    let (_gateway, address) = serve(to(&[origin.address()]), vec![plugin(&log, SLOW, |_, _| BodyVerdict::Pass)]);
    let mut connection = Connection::h2(address).await.unwrap();
    let mut open = Vec::new();
    for _ in 0..EXCHANGES {
        open.push(connection.open(get("/")).await.unwrap());
    }
    drop((open, connection));
    log.ends(EXCHANGES).await;
    log.turns(EXCHANGES, 1).await;
}

#[tokio::test]
async fn a_worker_that_ends_does_not_wait_for_all_ends() {
    const EXCHANGES: usize = 8;
    let (log, gate) = (Log::default(), Gate::new());
    let origin = Origin::answering(Answer::new(200).chunk("begun").wait(&gate));
    let (gateway, address) = serve(to(&[origin.address()]), vec![plugin(&log, HANGS, |_, _| BodyVerdict::Pass)]);
    let mut connection = Connection::h2(address).await.unwrap();
    let mut open = Vec::new();
    for _ in 0..EXCHANGES {
        open.push(connection.open(get("/")).await.unwrap());
    }
    drop(gateway);
    let told = log.0.lock().unwrap().1.len();
    assert!((1..EXCHANGES).contains(&told), "{told} of {EXCHANGES}");
}

#[tokio::test]
async fn chunks_that_take_long_let_others_go_first() {
    let (log, origin) = (Log::default(), Origin::start());
    let hold = |_: Direction, chunk: &Chunk| if chunk.end { BodyVerdict::Pass } else { BodyVerdict::Hold };
    let policies = vec![plugin(&log, SLOW, hold), plugin(&log, SLOW, |_, _| BodyVerdict::Pass)];
    let (_gateway, address) = serve(to(&[origin.address()]), policies);
    for mut connection in [Connection::h1(address).await.unwrap(), Connection::h2(address).await.unwrap()] {
        assert_eq!(connection.send(post("/", "x".repeat(1 << 20))).await.unwrap().status, 200);
    }
    log.ends(4).await;
    // Each direction in each plugin has one call at least. Both may have one before it is somebody else's turn.
    log.turns(2 * (2 * 2 + 2), 2).await;
}

#[tokio::test]
async fn bodies_that_wait_have_an_end_together() {
    let (log, gate) = (Log::default(), Gate::new());
    let origin = Origin::answering(Answer::new(200).chunk("begun").wait(&gate));
    let hold = |_: Direction, chunk: &Chunk| if chunk.end { BodyVerdict::Pass } else { BodyVerdict::Hold };
    let policy = only(Direction::Request, BodyMode::Stream, plugin(&log, "a", hold));
    let mut settings = settings();
    settings.limits.waiting_bodies = 1000;
    let gateway = Gateway::start(settings, Arc::new(Runtime));
    let address = gateway.publish(vec![with_policies(to(&[origin.address()]), vec![policy])]);
    let begin = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n";
    let (mut first, mut second) = (Raw::connect(address).await.unwrap(), Raw::connect(address).await.unwrap());
    first.write(&format!("{begin}{}", "x".repeat(900))).await.unwrap();
    eventually("the first one waits", async || log.calls().contains(&"Request body a 900 false".into()).then_some(()))
        .await;
    second.write(&format!("{begin}{}", "x".repeat(200))).await.unwrap();
    assert!(second.read_response().await.unwrap().starts_with("HTTP/1.1 503 "));
    first.write(&"x".repeat(100)).await.unwrap();
    assert!(first.read_until("begun").await.unwrap().starts_with("HTTP/1.1 200 "));
    // What has gone on makes room, though its exchange is not over.
    let mut third = Raw::connect(address).await.unwrap();
    third.write(&format!("{begin}{}", "x".repeat(900))).await.unwrap();
    eventually("the third one waits", async || {
        let waits = |call: &&String| *call == "Request body a 900 false";
        (log.calls().iter().filter(waits).count() == 2).then_some(())
    })
    .await;
    third.write(&"x".repeat(100)).await.unwrap();
    assert!(third.read_until("begun").await.unwrap().starts_with("HTTP/1.1 200 "));
    gate.open();
}

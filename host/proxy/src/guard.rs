//! Looks at the bytes of client connections before hyper does.
//!
//! ```text
//! socket ─► Guard ─► hyper          heads: checked whole, handed on whole
//!             │                     bodies: counted, or followed chunk by chunk; never copied
//!             └─ Wire: violation, deadlines
//! ```
//!
//! * A head reaches hyper only when it is complete and its framing is beyond doubt, so hyper and the guard cannot disagree about where
//!   a message ends. In the usual case it is checked where it lies, in hyper's own buffer.
//! * A head that is refused is replaced by [`REFUSED`], a request that the request function answers with the violation on record. Thus the
//!   answer comes after those to earlier pipelined requests, with the usual headers and access record. Nothing is read after it.
//! * A body that is refused ends with an I/O error, which reaches the request function as an error of the body.
//! * Time limits on reading are kept here, because only here is known what is being waited for.

mod chunks;
mod head;
mod violation;

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub(crate) use self::violation::Violation;
use self::{
    chunks::{ChunkScan, Chunks},
    head::{Framing, HeadScan},
};
use crate::{
    connection::{Connection, Directive},
    stream::Stream,
    wire::{UpgradeState, Wire},
};

/// What stands in for a request that was refused. Its method is none that matters: a client that sends it itself gets a 400 too.
const REFUSED: &[u8] = b"REFUSED / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";

/// The method of the request that stands in for a refused one.
pub(crate) const REFUSED_METHOD: &str = "REFUSED";

/// What an HTTP/2 connection begins with (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How much of a request that is refused is read and thrown away before the connection is closed: closing with unread bytes resets the
/// connection, and the client might lose the answer.
const LINGER: usize = 256 << 10;

/// The bytes of a client connection, followed through their messages.
#[derive(Debug)]
pub(crate) struct Guard {
    stream: Stream,
    wire: Arc<Wire>,
    phase: Phase,
    /// Read, and not handed on yet: an incomplete head, or what follows a request that asked for an upgrade.
    held: BytesMut,
    /// To be handed on before anything else.
    released: Bytes,
    lingered: usize,
}

#[derive(Debug)]
enum Phase {
    Head(HeadScan),
    Body {
        left: u64,
    },
    Chunks(ChunkScan),
    /// A request asked for an upgrade, and there is no answer yet.
    Upgrade,
    /// HTTP/2, or whatever was upgraded to.
    Raw,
    /// Nothing more is read.
    Refused,
}

/// What became of bytes that were followed.
enum Followed {
    /// All may be handed on.
    All,
    /// Only so many; the others wait for more bytes, or for an answer.
    Hold(usize),
    /// Only so many; what follows breaks the protocol.
    Refuse(usize, Violation),
}

impl Guard {
    pub(crate) fn new(stream: Stream, wire: Arc<Wire>) -> Self {
        wire.await_read(wire.timeouts.head);
        let (held, released) = (BytesMut::new(), Bytes::new());
        Self { stream, wire, phase: Phase::Head(HeadScan::default()), held, released, lingered: 0 }
    }

    /// The bytes are HTTP/2.
    pub(crate) fn pass_everything(&mut self) {
        self.phase = Phase::Raw;
    }

    /// Whether the connection begins with the preface of HTTP/2. From then on everything passes.
    pub(crate) async fn sniff(&mut self, connection: &Connection) -> io::Result<bool> {
        std::future::poll_fn(|cx| match connection.attend(cx) {
            Directive::Serve => self.poll_sniff(cx),
            // Not a byte was received.
            Directive::Finish | Directive::Cut => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
        })
        .await
    }

    fn poll_sniff(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        loop {
            let seen = self.held.len().min(PREFACE.len());
            if self.held[..seen] != PREFACE[..seen] {
                return Poll::Ready(Ok(false));
            }
            if seen == PREFACE.len() {
                self.released = self.held.split().freeze();
                self.phase = Phase::Raw;
                self.wire.read.clear();
                return Poll::Ready(Ok(true));
            }
            if ready!(self.poll_hold(cx))? == 0 {
                return Poll::Ready(Ok(false));
            }
        }
    }

    /// Read into `held`.
    fn poll_hold(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        // Bytes are held where a client sends heads in pieces: so seldom that a copy does not matter.
        let mut space = [0; 4096];
        let mut buffer = ReadBuf::new(&mut space);
        match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
            Poll::Pending if self.wire.read_expired() => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => {
                let read = buffer.filled();
                self.held.extend_from_slice(read);
                Poll::Ready(Ok(read.len()))
            }
        }
    }

    /// Hand on what was released, as far as there is room.
    fn hand_on(&mut self, buffer: &mut ReadBuf<'_>) {
        let count = self.released.len().min(buffer.remaining());
        buffer.put_slice(&self.released[..count]);
        self.released.advance(count);
    }

    /// Look at what is held; whether something was released.
    fn follow_held(&mut self) -> io::Result<bool> {
        if self.held.is_empty() || matches!(self.phase, Phase::Refused) {
            return Ok(false);
        }
        let held = std::mem::take(&mut self.held);
        let followed = self.phase.follow(&held, &self.wire);
        self.held = held;
        match followed {
            Followed::All => self.released = self.held.split().freeze(),
            Followed::Hold(count) => self.released = self.held.split_to(count).freeze(),
            Followed::Refuse(0, violation) => self.refuse(violation)?,
            Followed::Refuse(count, _) => {
                // The same violation is found again when these bytes are gone.
                self.released = self.held.split_to(count).freeze();
                if let Phase::Head(scan) = &mut self.phase {
                    *scan = HeadScan::default();
                }
            }
        }
        if self.released.is_empty() {
            return Ok(false);
        }
        self.wire.read.clear();
        Ok(true)
    }

    /// The next message, or the rest of this one, is not for hyper.
    fn refuse(&mut self, violation: Violation) -> io::Result<()> {
        self.wire.set_violation(violation);
        self.wire.read.clear();
        self.held.clear();
        let is_head = matches!(self.phase, Phase::Head(_));
        self.phase = Phase::Refused;
        if is_head {
            self.released = Bytes::from_static(REFUSED);
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, violation))
    }

    /// Nothing came. Start the clock where a client is waited for, or see that it has run out.
    fn wait(&mut self) -> Poll<io::Result<()>> {
        if self.wire.read_expired() {
            self.wire.read.clear();
            return match &self.phase {
                // The deadline of an idle time that a pipelined request has ended since.
                Phase::Head(_) if self.wire.is_busy() => Poll::Pending,
                // Idle: as if the client had closed.
                Phase::Head(_) if self.held.is_empty() => Poll::Ready(Ok(())),
                Phase::Head(_) | Phase::Body { .. } | Phase::Chunks(_) => Poll::Ready(self.refuse(Violation::Timeout)),
                Phase::Upgrade | Phase::Raw | Phase::Refused => Poll::Pending,
            };
        }
        if matches!(self.phase, Phase::Body { .. } | Phase::Chunks(_)) && !self.wire.read.is_set() {
            self.wire.await_read(self.wire.timeouts.body);
        }
        Poll::Pending
    }

    /// Read into hyper's buffer and check there.
    fn poll_read_through(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let start = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(cx, buffer) {
            Poll::Pending => return self.wait(),
            Poll::Ready(outcome) => outcome?,
        }
        let new = &buffer.filled()[start..];
        if matches!(self.phase, Phase::Raw) || new.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.wire.read.clear();
        let (count, violation) = match self.phase.follow(new, &self.wire) {
            Followed::All => return Poll::Ready(Ok(())),
            Followed::Hold(count) => (count, None),
            Followed::Refuse(count, violation) => (count, Some(violation)),
        };
        if violation.is_none() || count > 0 {
            self.held.extend_from_slice(&new[count..]);
        }
        buffer.set_filled(start + count);
        match violation {
            Some(violation) if count == 0 => self.refuse(violation)?,
            Some(_) => {
                // Found again when the good bytes before it are gone.
                if let Phase::Head(scan) = &mut self.phase {
                    *scan = HeadScan::default();
                }
            }
            None if matches!(self.phase, Phase::Head(_)) => self.wire.await_read(self.wire.timeouts.head),
            None => {}
        }
        Poll::Ready(Ok(()))
    }

    /// The outcome of an upgrade, once there is one.
    fn settle_upgrade(&mut self, cx: &Context<'_>) {
        match self.wire.upgrade() {
            UpgradeState::Pending => self.wire.await_upgrade(cx.waker()),
            UpgradeState::Agreed => {
                self.released = self.held.split().freeze();
                self.phase = Phase::Raw;
            }
            UpgradeState::Declined => self.phase = Phase::Head(HeadScan::default()),
        }
    }
}

impl Phase {
    fn follow(&mut self, bytes: &[u8], wire: &Wire) -> Followed {
        let mut at = 0;
        loop {
            let rest = &bytes[at..];
            match self {
                Self::Head(_) if rest.is_empty() => return Followed::All,
                Self::Head(scan) => match scan.scan(rest, &wire.limits) {
                    Ok(None) => return Followed::Hold(at),
                    Err(violation) => return Followed::Refuse(at, violation),
                    Ok(Some(head)) => {
                        at += head.length;
                        *self = Self::after(head, wire);
                    }
                },
                Self::Body { left } => {
                    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    *left -= count as u64;
                    if *left > 0 {
                        return Followed::All;
                    }
                    at += count;
                    *self = Self::Head(HeadScan::default());
                }
                Self::Chunks(scan) => match scan.scan(rest, wire.limits.head_size) {
                    Chunks::More => return Followed::All,
                    Chunks::Violated(count, violation) => return Followed::Refuse(at + count, violation),
                    Chunks::Ended(count) => {
                        at += count;
                        *self = Self::Head(HeadScan::default());
                    }
                },
                Self::Upgrade | Self::Refused => {
                    return if rest.is_empty() { Followed::All } else { Followed::Hold(at) };
                }
                Self::Raw => return Followed::All,
            }
        }
    }

    fn after(head: head::Head, wire: &Wire) -> Self {
        match head.framing {
            // An upgrade with a body is not one that we would forward, so what follows is the body.
            Framing::Length(left) => Self::Body { left },
            Framing::Chunked => Self::Chunks(ChunkScan::START),
            Framing::None if head.upgrade => {
                wire.set_upgrade(UpgradeState::Pending);
                Self::Upgrade
            }
            Framing::None => Self::Head(HeadScan::default()),
        }
    }
}

impl AsyncRead for Guard {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let guard = self.get_mut();
        let start = buffer.filled().len();
        loop {
            if !guard.released.is_empty() {
                guard.hand_on(buffer);
                return Poll::Ready(Ok(()));
            }
            match guard.phase {
                // The answer is on its way, and closes the connection.
                Phase::Refused => return Poll::Pending,
                Phase::Upgrade => guard.settle_upgrade(cx),
                _ => {}
            }
            if !guard.released.is_empty() || guard.follow_held()? {
                continue;
            }
            if matches!(guard.phase, Phase::Upgrade) && guard.held.len() > guard.wire.limits.head_size {
                return Poll::Pending;
            }
            if guard.held.is_empty() {
                ready!(guard.poll_read_through(cx, buffer))?;
                // Only held bytes, or a refusal: go on. Nothing at all is the end of the stream.
                if buffer.filled().len() > start || (guard.held.is_empty() && guard.released.is_empty()) {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            match guard.poll_hold(cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::TimedOut => ready!(guard.wait())?,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl AsyncWrite for Guard {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let guard = self.get_mut();
        let written = Pin::new(&mut guard.stream).poll_write(cx, bytes);
        guard.written(written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let guard = self.get_mut();
        let written = Pin::new(&mut guard.stream).poll_write_vectored(cx, slices);
        guard.written(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let guard = self.get_mut();
        ready!(Pin::new(&mut guard.stream).poll_shutdown(cx))?;
        guard.poll_linger(cx)
    }
}

impl Guard {
    fn written(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Ready(Ok(_)) => self.wire.write.clear(),
            Poll::Pending if self.wire.write_expired() => return Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending if !self.wire.write.is_set() => self.wire.await_write(),
            _ => {}
        }
        written
    }

    /// After the end was sent: take what the client still sends, so that it can read the answer.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mid_body = matches!(self.phase, Phase::Body { .. } | Phase::Chunks(_));
        if !mid_body && !matches!(self.phase, Phase::Refused) {
            return Poll::Ready(Ok(()));
        }
        if self.lingered == 0 {
            self.lingered = 1;
            self.wire.await_read(self.wire.timeouts.body.min(LINGER_TIME));
        }
        let mut space = [0; 4096];
        while self.lingered < LINGER {
            let mut buffer = ReadBuf::new(&mut space);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Pending if self.wire.read_expired() => break,
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => self.lingered += buffer.filled().len(),
                Poll::Ready(_) => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// How long a closed connection waits for the client to stop.
const LINGER_TIME: std::time::Duration = std::time::Duration::from_secs(2);

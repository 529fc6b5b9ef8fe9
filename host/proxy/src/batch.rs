//! What an HTTP/2 connection writes during one poll of its task leaves in one piece.
//!
//! h2 hands over frame by frame, and wants each larger one written before it encodes the next. Ten small responses that became ready
//! together would be ten system calls (and ten TLS records); that was half of what a proxied request cost. So [`Batched`] takes what is
//! written, and whoever polls the connection sends it right afterwards, in the same turn: nothing waits for a timer or for more.
//!
//! ```text
//! task: poll hyper ──► frames ──► Batched (≤ 64 KiB) ──┐
//!       Batch::send ◄──────────────────────────────────┘ ──► one write
//! ```

use std::{
    cell::{Cell, RefCell},
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What waits at most. More would only wait in the socket's buffer; and a peer that does not read is noticed here as it is there.
const LIMIT: usize = 64 << 10;

thread_local! {
    /// The buffer of whichever connection writes next: connections that have nothing to send hold none.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A stream whose writes wait until its [`Batch`] is sent.
#[derive(Debug)]
pub(crate) struct Batched<S>(Rc<RefCell<Pending<S>>>);

/// Sends what was written to a [`Batched`].
#[derive(Debug)]
pub(crate) struct Batch<S>(Rc<RefCell<Pending<S>>>);

#[derive(Debug)]
struct Pending<S> {
    stream: S,
    bytes: Vec<u8>,
    /// How many of them are on their way already.
    sent: usize,
}

/// The stream for hyper, and the handle for the task that polls it.
pub(crate) fn batched<S>(stream: S) -> (Batched<S>, Batch<S>) {
    let pending = Rc::new(RefCell::new(Pending { stream, bytes: Vec::new(), sent: 0 }));
    (Batched(pending.clone()), Batch(pending))
}

impl<S: AsyncWrite + Unpin> Batch<S> {
    /// Send what waits. While the peer takes none the task is woken for the rest.
    pub(crate) fn send(&self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.0.borrow_mut().poll_send(cx) {
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
        }
    }
}

impl<S: AsyncWrite + Unpin> Pending<S> {
    fn waiting(&self) -> usize {
        self.bytes.len() - self.sent
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.bytes.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while self.waiting() > 0 {
            match Pin::new(&mut self.stream).poll_write(cx, &self.bytes[self.sent..])? {
                Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(written) => self.sent += written,
                Poll::Pending => {
                    self.forget_sent();
                    return Poll::Pending;
                }
            }
        }
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.bytes.clear();
        self.sent = 0;
        SPARE.set(std::mem::take(&mut self.bytes));
        Poll::Ready(Ok(()))
    }

    /// A peer that always takes a little must not make the buffer grow for ever.
    fn forget_sent(&mut self) {
        if self.sent >= LIMIT {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// Take what fits. When there is no room: send first.
    fn poll_take(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.waiting() >= LIMIT {
            let sent = self.poll_send(cx)?;
            if sent.is_pending() && self.waiting() >= LIMIT {
                return Poll::Pending;
            }
        }
        if self.bytes.is_empty() {
            self.bytes = SPARE.take();
        }
        let before = self.waiting();
        for slice in slices {
            let room = LIMIT - self.waiting();
            self.bytes.extend_from_slice(&slice[..slice.len().min(room)]);
        }
        Poll::Ready(Ok(self.waiting() - before))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Batched<S> {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Batched<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_take(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_take(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// The task sends when it has polled the connection; h2 asks after every larger frame.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut pending = self.0.borrow_mut();
        ready!(pending.poll_send(cx))?;
        Pin::new(&mut pending.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;

//! Bytes from an endpoint, a few at a time.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Reads without a pause. hyper reads interim responses (`100 Continue`) for as long as there are any, in one poll: an endpoint that sends them
/// without end would keep the worker from everybody else.
const READS: u8 = 4;

/// Takes a turn of other tasks after every few reads that had something to read.
#[derive(Debug)]
pub(crate) struct Paced<S> {
    stream: S,
    reads: u8,
}

impl<S> Paced<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, reads: 0 }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.reads == READS {
            self.reads = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.reads = if read.is_pending() { 0 } else { self.reads + 1 };
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, repeat};

    use super::*;

    #[tokio::test]
    async fn who_reads_without_end_lets_others_have_a_turn() {
        let mut endless = Paced::new(repeat(b'x'));
        let reading = tokio::spawn(async move {
            let mut space = [0; 16];
            while endless.read(&mut space).await.is_ok() {}
        });
        // On one thread: this returns only if the other task pauses.
        tokio::task::yield_now().await;
        reading.abort();
        assert!(reading.await.unwrap_err().is_cancelled());
    }

    #[tokio::test]
    async fn nothing_is_lost_in_a_pause() {
        let bytes: Vec<u8> = (0..=255).collect();
        let mut stream = Paced::new(&bytes[..]);
        let (mut space, mut read) = ([0; 10], Vec::new());
        loop {
            match stream.read(&mut space).await.unwrap() {
                0 => break,
                length => read.extend_from_slice(&space[..length]),
            }
        }
        assert_eq!(read, bytes);
    }
}

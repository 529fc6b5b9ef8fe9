//! The bytes of a connection, in clear or in TLS. One type, so that hyper is compiled once for both.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::TlsStream;

/// In clear or in TLS.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

macro_rules! each {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream.get_mut() {
            Stream::Plain($inner) => $call,
            Stream::Tls($inner) => $call,
        }
    };
}

impl AsyncRead for Stream {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, inner => Pin::new(inner).poll_read(cx, buffer))
    }
}

impl AsyncWrite for Stream {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, inner => Pin::new(inner).poll_write(cx, bytes))
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // One plain write is cheaper in the kernel than a gathering one, by more than copying a small message costs.
        let mut space = [0; GATHER];
        match self.get_mut() {
            Self::Tls(inner) => Pin::new(inner).poll_write_vectored(cx, slices),
            Self::Plain(inner) => match gather(slices, &mut space) {
                Some(bytes) => Pin::new(inner).poll_write(cx, bytes),
                None => Pin::new(inner).poll_write_vectored(cx, slices),
            },
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(inner) => inner.is_write_vectored(),
            Self::Tls(inner) => inner.is_write_vectored(),
        }
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, inner => Pin::new(inner).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, inner => Pin::new(inner).poll_shutdown(cx))
    }
}

/// Messages up to this size are copied into one piece.
const GATHER: usize = 2048;

/// The bytes of all slices in one piece, if that is cheap.
fn gather<'a>(slices: &'a [io::IoSlice<'_>], space: &'a mut [u8; GATHER]) -> Option<&'a [u8]> {
    if let [only] = slices {
        return Some(only);
    }
    let mut end = 0;
    for slice in slices {
        space.get_mut(end..end + slice.len())?.copy_from_slice(slice);
        end += slice.len();
    }
    Some(&space[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_messages_are_gathered() {
        let (large, mut space) = (vec![b'x'; GATHER], [0; GATHER]);
        let slices = |parts: &[&'static [u8]]| parts.iter().map(|part| io::IoSlice::new(part)).collect::<Vec<_>>();
        assert_eq!(gather(&slices(&[b"head", b"", b"body"]), &mut space), Some(&b"headbody"[..]));
        assert_eq!(gather(&[io::IoSlice::new(&large)], &mut space), Some(&large[..]));
        assert_eq!(gather(&[io::IoSlice::new(&large), io::IoSlice::new(b"x")], &mut space), None);
        assert_eq!(gather(&[], &mut space), Some(&b""[..]));
    }
}

use std::task::Waker;

use tokio::io::AsyncWriteExt as _;

use super::*;

/// Takes so many bytes in all, and counts the writes.
#[derive(Debug, Default)]
struct Sink {
    taken: Vec<u8>,
    writes: usize,
    room: usize,
    is_shut_down: bool,
}

impl AsyncWrite for Sink {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let taken = bytes.len().min(self.room);
        if taken == 0 {
            return Poll::Pending;
        }
        self.room -= taken;
        self.writes += 1;
        self.taken.extend_from_slice(&bytes[..taken]);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_shut_down = true;
        Poll::Ready(Ok(()))
    }
}

fn sink(room: usize) -> (Batched<Sink>, Batch<Sink>) {
    batched(Sink { room, ..Sink::default() })
}

fn write(batched: &mut Batched<Sink>, bytes: &[u8]) -> Poll<io::Result<usize>> {
    Pin::new(batched).poll_write(&mut Context::from_waker(Waker::noop()), bytes)
}

fn send(batch: &Batch<Sink>) {
    batch.send(&mut Context::from_waker(Waker::noop())).unwrap();
}

#[test]
fn frames_of_one_turn_leave_in_one_write() {
    let (mut batched, batch) = sink(usize::MAX);
    for frame in [&b"HEADERS"[..], b"DATA", b"HEADERS"] {
        assert!(write(&mut batched, frame).is_ready());
    }
    assert_eq!(batch.0.borrow().stream.writes, 0, "nothing leaves before the turn is over");
    send(&batch);
    send(&batch);
    let pending = batch.0.borrow();
    assert_eq!((pending.stream.writes, &*pending.stream.taken), (1, &b"HEADERSDATAHEADERS"[..]));
    assert_eq!(pending.bytes.capacity(), 0, "the buffer goes to whoever writes next");
}

#[test]
fn a_peer_that_does_not_read_stops_the_writer_and_loses_nothing() {
    let (mut batched, batch) = sink(10);
    let frame = vec![b'x'; LIMIT - 1];
    assert!(matches!(write(&mut batched, &frame), Poll::Ready(Ok(taken)) if taken == LIMIT - 1));
    assert!(matches!(write(&mut batched, b"abc"), Poll::Ready(Ok(1))), "only what fits");
    assert!(write(&mut batched, b"bc").is_ready(), "ten bytes had room in the socket");
    send(&batch);
    assert!(batch.0.borrow().waiting() <= LIMIT);
    batch.0.borrow_mut().stream.room = usize::MAX;
    send(&batch);
    let pending = batch.0.borrow();
    assert_eq!(pending.stream.taken, [&frame[..], b"abc"].concat());
}

#[test]
fn a_peer_that_always_takes_a_little_does_not_make_the_buffer_grow() {
    let (mut batched, batch) = sink(0);
    for _ in 0..1000 {
        batch.0.borrow_mut().stream.room = 1024;
        let _ = write(&mut batched, &[b'x'; 1024]);
        send(&batch);
    }
    let _ = write(&mut batched, &vec![b'x'; LIMIT]);
    for _ in 0..1000 {
        batch.0.borrow_mut().stream.room = 1024;
        let _ = write(&mut batched, &[b'x'; 1024]);
        assert!(batch.0.borrow().bytes.len() <= 2 * LIMIT);
    }
}

#[test]
fn a_full_batch_and_a_full_socket_make_the_writer_wait() {
    let (mut batched, _batch) = sink(0);
    assert!(write(&mut batched, &vec![b'x'; LIMIT]).is_ready());
    assert!(write(&mut batched, b"more").is_pending());
}

#[tokio::test(flavor = "current_thread")]
async fn shutting_down_sends_what_waits() {
    let (mut batched, batch) = sink(usize::MAX);
    batched.write_all(b"GOAWAY").await.unwrap();
    batched.shutdown().await.unwrap();
    let pending = batch.0.borrow();
    assert!(pending.stream.is_shut_down);
    assert_eq!(&*pending.stream.taken, b"GOAWAY");
}

//! Lines on their way to whoever reads them, who may stand still: a full pipe must stop neither a worker nor anybody else who has something
//! to say. So lines wait, up to a number; further ones are dropped, counted, and owned up to as soon as there is room again.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{self, Receiver, SyncSender},
    },
    thread,
    time::Duration,
};

use prometheus_client::metrics::counter::Counter;

/// Lines that wait. Some megabytes, and what a busy gateway says in a second.
const WAITING: usize = 4096;

/// Where lines are left. Leaving one never waits.
#[derive(Debug, Clone)]
pub(super) struct Queue {
    lines: SyncSender<Line>,
    /// How many are on their way.
    waiting: Arc<AtomicUsize>,
    dropped: Arc<Dropped>,
    /// How many may be there when one more comes.
    room: usize,
}

/// Lines for which there was no room.
#[derive(Debug, Default)]
struct Dropped {
    all: Counter,
    untold: AtomicU64,
}

#[derive(Debug)]
enum Line {
    Text(Vec<u8>),
    /// Say when everything before this is written.
    Flush(SyncSender<()>),
}

impl Queue {
    /// Lines go to `reader`, and how many were dropped in the words of `tell`.
    pub(super) fn start(reader: impl Write + Send + 'static, tell: fn(u64) -> String) -> io::Result<Self> {
        let (lines, waiting) = mpsc::sync_channel(WAITING);
        let dropped = Arc::new(Dropped::default());
        let number = Arc::new(AtomicUsize::new(0));
        let writer = Writer { reader, tell, waiting: Arc::clone(&number), dropped: Arc::clone(&dropped) };
        thread::Builder::new().name("log".into()).spawn(move || writer.run(&waiting))?;
        Ok(Self { lines, waiting: number, dropped, room: WAITING })
    }

    /// For those who may say much: half of the room is for others.
    pub(super) fn for_guests(&self) -> Self {
        Self { room: WAITING / 2, ..self.clone() }
    }

    /// How many were dropped so far.
    pub(super) fn dropped(&self) -> Counter {
        self.dropped.all.clone()
    }

    /// Wait until what was said is written, but not for a reader that stands still.
    pub(super) fn flush(&self, patience: Duration) {
        let (done, written) = mpsc::sync_channel(1);
        // If there is no room, nobody reads.
        if self.lines.try_send(Line::Flush(done)).is_ok() {
            let _ = written.recv_timeout(patience);
        }
    }
}

/// A line comes in one piece.
impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        if before >= self.room || self.lines.try_send(Line::Text(line.to_vec())).is_err() {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.dropped.all.inc();
            self.dropped.untold.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Writer<W> {
    reader: W,
    tell: fn(u64) -> String,
    waiting: Arc<AtomicUsize>,
    dropped: Arc<Dropped>,
}

impl<W: Write> Writer<W> {
    fn run(mut self, waiting: &Receiver<Line>) {
        for line in waiting {
            // A reader that is gone has nobody to whom that could be said.
            let _ = match line {
                Line::Text(text) => {
                    self.waiting.fetch_sub(1, Ordering::Relaxed);
                    self.reader.write_all(&text)
                }
                Line::Flush(done) => {
                    let _ = done.try_send(());
                    self.reader.flush()
                }
            };
            match self.dropped.untold.swap(0, Ordering::Relaxed) {
                0 => {}
                dropped => drop(self.reader.write_all((self.tell)(dropped).as_bytes())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::Sender;

    use super::*;

    /// Says when it is asked, takes nothing before it is let, and tells what it took.
    struct Slow {
        asked: Sender<()>,
        may: Receiver<()>,
        took: Sender<String>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.asked.send(());
            // An error means that it may take everything from now on.
            let _ = self.may.recv();
            self.took.send(String::from_utf8_lossy(bytes).into_owned()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_stands_still_holds_nobody_up() {
        const DROPPED: usize = 10;
        let ((let_it, may), (took, taken), (asked, is_asked)) = (mpsc::channel(), mpsc::channel(), mpsc::channel());
        let mut queue = Queue::start(Slow { asked, may, took }, |dropped| format!("{dropped} dropped")).unwrap();
        write!(queue, "first").unwrap();
        is_asked.recv().unwrap();
        for line in 0..WAITING + DROPPED {
            write!(queue, "{line}").unwrap();
        }
        queue.flush(Duration::from_secs(60));
        assert_eq!(queue.dropped().get(), DROPPED as u64);
        drop(let_it);
        let lines: Vec<String> = (0..WAITING + 2).map(|_| taken.recv().unwrap()).collect();
        assert_eq!([&*lines[0], &*lines[1], &*lines[2]], ["first", "10 dropped", "0"]);
        assert_eq!(lines[WAITING + 1], (WAITING - 1).to_string(), "the first ones are kept, in order");
        write!(queue, "again").unwrap();
        assert_eq!(taken.recv().unwrap(), "again");
    }

    #[test]
    fn plugins_leave_room_for_what_the_gateway_has_to_say() {
        let ((let_it, may), (took, taken), (asked, is_asked)) = (mpsc::channel(), mpsc::channel(), mpsc::channel());
        let mut queue = Queue::start(Slow { asked, may, took }, |_| "a note".to_owned()).unwrap();
        let mut plugin = queue.for_guests();
        write!(plugin, "first").unwrap();
        is_asked.recv().unwrap();
        for line in 0..WAITING {
            write!(plugin, "{line}").unwrap();
        }
        assert_eq!(queue.dropped().get(), (WAITING / 2) as u64);
        write!(queue, "a warning").unwrap();
        assert_eq!(queue.dropped().get(), (WAITING / 2) as u64);
        drop(let_it);
        // The first one, the note about those that were dropped, and half of all.
        let lines: Vec<String> = (0..WAITING / 2 + 3).map(|_| taken.recv().unwrap()).collect();
        assert_eq!(lines.last().map(String::as_str), Some("a warning"));
        write!(plugin, "again").unwrap();
        assert_eq!(taken.recv().unwrap(), "again", "what was written makes room");
    }

    #[test]
    fn what_was_said_is_written_at_the_end() {
        let ((let_it, may), (took, taken), (asked, _)) = (mpsc::channel(), mpsc::channel(), mpsc::channel());
        let mut queue = Queue::start(Slow { asked, may, took }, |_| String::new()).unwrap();
        drop(let_it);
        for line in 0..100 {
            write!(queue, "{line}").unwrap();
        }
        queue.flush(Duration::from_secs(60));
        assert_eq!(taken.try_iter().count(), 100);
    }
}

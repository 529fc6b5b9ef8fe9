//! A process as a function: bytes in, bytes out, within a time, whatever the process does.
//!
//! One thread serves all three pipes, so a process that neither reads nor writes holds nobody up, and one that writes for ever is
//! ended. Nothing is left behind: when this returns, the process is gone and has been waited for.

use std::{
    io::{self, ErrorKind, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::process::{CommandExt as _, ExitStatusExt as _},
    },
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Bytes of what the process complains about that are kept. A panic says what matters in its first lines.
const LONGEST_COMPLAINT: usize = 16 << 10;

/// What a process left when it was gone.
#[derive(Debug)]
pub(super) struct Remains {
    /// What it wrote to its standard output.
    pub(super) answer: Vec<u8>,
    /// What it wrote to its standard error, or the beginning of it.
    pub(super) complaint: String,
    /// How it ended.
    pub(super) end: End,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// With this code.
    Exit(i32),
    /// By this signal, which was not ours.
    Signal(i32),
    /// By us, because its time was over.
    TimedOut,
    /// By us, because its answer was longer than any.
    Endless,
    /// By us, because nobody waits for its answer.
    Unwanted,
}

/// How often it is asked whether an answer is still wanted.
const LOOK: Duration = Duration::from_millis(200);

/// What a process may use of ours.
#[derive(Clone, Copy)]
pub(super) struct Patience<'a> {
    /// From now to its end.
    pub(super) time: Duration,
    /// Bytes of its answer.
    pub(super) longest: usize,
    /// Whether anybody still waits for it.
    pub(super) is_wanted: &'a dyn Fn() -> bool,
}

/// Run `command` with `input` and nothing else: no environment, no working directory of ours.
pub(super) fn run(command: &mut Command, input: &[&[u8]], patience: Patience<'_>) -> io::Result<Remains> {
    let deadline = Instant::now() + patience.time;
    let mut child = Running(
        command
            .env_clear()
            .current_dir("/")
            // A signal to the gateway from its terminal is not for its children: they have their own end.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?,
    );
    let mut pipes = Pipes::of(&mut child.0, input)?;
    let stopped = pipes.serve(deadline, patience)?;
    // Who has closed its output has ended or never will: a signal changes nothing for the one and ends the other.
    let status = child.end()?;
    pipes.hear();
    let end = stopped.unwrap_or_else(|| End::of(status));
    Ok(Remains { answer: pipes.answer, complaint: String::from_utf8_lossy(&pipes.complaint).into_owned(), end })
}

impl End {
    fn of(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Exit(code),
            (None, signal) => Self::Signal(signal.unwrap_or_default()),
        }
    }
}

/// A process that must not outlive the call.
struct Running(Child);

impl Running {
    fn end(&mut self) -> io::Result<ExitStatus> {
        self.0.kill()?;
        self.0.wait()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both do nothing when it has been waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The ends of the pipes that are ours. What was closed is none.
struct Pipes<'a> {
    input: Vec<&'a [u8]>,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    answer: Vec<u8>,
    complaint: Vec<u8>,
}

impl<'a> Pipes<'a> {
    fn of(child: &mut Child, input: &[&'a [u8]]) -> io::Result<Self> {
        let pipes = Self {
            input: input.iter().rev().copied().collect(),
            stdin: child.stdin.take(),
            stdout: child.stdout.take(),
            stderr: child.stderr.take(),
            answer: Vec::new(),
            complaint: Vec::new(),
        };
        for pipe in pipes.open() {
            rustix::io::ioctl_fionbio(pipe.0, true)?;
        }
        Ok(pipes)
    }

    fn open(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        let stdin = self.stdin.as_ref().map(|pipe| (pipe.as_fd(), PollFlags::OUT));
        let stdout = self.stdout.as_ref().map(|pipe| (pipe.as_fd(), PollFlags::IN));
        let stderr = self.stderr.as_ref().map(|pipe| (pipe.as_fd(), PollFlags::IN));
        [stdin, stdout, stderr].into_iter().flatten()
    }

    /// Until the answer has an end. If we must make one: why.
    fn serve(&mut self, deadline: Instant, patience: Patience<'_>) -> io::Result<Option<End>> {
        while self.stdout.is_some() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Some(End::TimedOut));
            }
            if !(patience.is_wanted)() {
                return Ok(Some(End::Unwanted));
            }
            self.wait(left.min(LOOK))?;
            self.send();
            self.receive();
            self.hear();
            if self.answer.len() > patience.longest {
                return Ok(Some(End::Endless));
            }
        }
        Ok(None)
    }

    fn wait(&self, time: Duration) -> io::Result<()> {
        let mut pipes: Vec<PollFd<'_>> =
            self.open().map(|(pipe, events)| PollFd::from_borrowed_fd(pipe, events)).collect();
        let time =
            Timespec { tv_sec: time.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: time.subsec_nanos().into() };
        match poll(&mut pipes, Some(&time)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// As much as fits. A process that does not want to hear has its reasons, which its end tells.
    fn send(&mut self) {
        let Some(stdin) = &mut self.stdin else { return };
        while let Some(part) = self.input.last_mut() {
            match stdin.write(part) {
                Ok(written) if written < part.len() => *part = &part[written..],
                Ok(_) => drop(self.input.pop()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.input.clear(),
            }
        }
        self.stdin = None;
    }

    fn receive(&mut self) {
        receive(&mut self.stdout, |bytes| self.answer.extend_from_slice(bytes));
    }

    fn hear(&mut self) {
        receive(&mut self.stderr, |bytes| {
            let room = LONGEST_COMPLAINT - self.complaint.len();
            self.complaint.extend_from_slice(&bytes[..bytes.len().min(room)]);
        });
    }
}

/// What a pipe holds now, but not more than it holds at once: a process that writes faster than we read must not keep us from the time.
fn receive<P: Read>(pipe: &mut Option<P>, mut keep: impl FnMut(&[u8])) {
    let mut buffer = [0; 64 << 10];
    let Some(open) = pipe else { return };
    match open.read(&mut buffer) {
        Ok(0) => *pipe = None,
        Ok(read) => keep(&buffer[..read]),
        Err(error) if [ErrorKind::WouldBlock, ErrorKind::Interrupted].contains(&error.kind()) => {}
        Err(_) => *pipe = None,
    }
}

#[cfg(test)]
mod tests;

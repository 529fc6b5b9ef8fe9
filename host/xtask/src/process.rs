//! Child processes that do not outlive the command that started them.
//!
//! Every child leads a process group of its own, so that ending it also ends what it started (a hanging test, a compiler).
//! The terminal then no longer delivers Ctrl-C to it: [`Running::wait`] watches for the signal and passes it on.

use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::sleep;
use std::time::{Duration, Instant};

use std::os::unix::process::CommandExt as _;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process_group};

/// How often a running child is looked at.
const PULSE: Duration = Duration::from_millis(20);

/// How long a child may take to end after it was asked to.
const GRACE: Duration = Duration::from_secs(10);

/// This program, to be started again. Cargo may have replaced its file since it began, and Linux then says so behind the path: the newer one
/// does as well.
///
/// # Errors
/// When the system does not tell.
pub(crate) fn own_program() -> std::io::Result<std::path::PathBuf> {
    let path = std::env::current_exe()?;
    let replaced = path.to_str().and_then(|path| path.strip_suffix(" (deleted)"));
    Ok(replaced.map_or_else(|| path.clone(), std::path::PathBuf::from))
}

/// A child process with everything that it started.
#[derive(Debug)]
pub struct Running {
    child: Child,
    group: Pid,
}

/// How waiting ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The child ended by itself.
    Exited(ExitStatus),
    /// The deadline passed; the child has been ended.
    TimedOut,
    /// The user wants to stop; the child has been ended.
    Interrupted,
}

/// Start a command without standard input.
///
/// # Errors
/// When the program cannot be started; the message names it.
pub fn start(command: &mut Command) -> Result<Running> {
    let _ = interrupted(); // From here on signals are ours, also those that arrive before the first wait.
    let program = command.get_program().to_string_lossy().into_owned();
    let child =
        command.stdin(Stdio::null()).process_group(0).spawn().with_context(|| format!("cannot start {program}"))?;
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("a process id")?;
    Ok(Running { child, group })
}

/// Whether SIGINT or SIGTERM has arrived.
#[must_use]
pub fn interrupted() -> bool {
    static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    let flag = FLAG.get_or_init(|| {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            // Where it cannot be registered the signal keeps its usual effect: it ends this process.
            let _ = signal_hook::flag::register(signal, Arc::clone(&flag));
        }
        flag
    });
    flag.load(Ordering::Relaxed)
}

impl Running {
    /// The process id of the child.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Wait for the end, the deadline or the user, whichever comes first.
    ///
    /// # Errors
    /// When the system does not say how the child is.
    pub fn wait(mut self, deadline: Duration) -> Result<Outcome> {
        let deadline = Instant::now() + deadline;
        loop {
            if let Some(status) = self.exited()? {
                return Ok(Outcome::Exited(status));
            }
            if interrupted() {
                self.stop()?;
                return Ok(Outcome::Interrupted);
            }
            if Instant::now() >= deadline {
                self.stop()?;
                return Ok(Outcome::TimedOut);
            }
            sleep(PULSE);
        }
    }

    /// Ask the child to end, wait, and end it by force if it does not.
    ///
    /// # Errors
    /// When the system does not say how the child is.
    pub fn stop(mut self) -> Result<ExitStatus> {
        // An error means that nobody is left in the group.
        let _ = kill_process_group(self.group, Signal::TERM);
        let deadline = Instant::now() + GRACE;
        while Instant::now() < deadline {
            if let Some(status) = self.exited()? {
                return Ok(status);
            }
            sleep(PULSE);
        }
        let _ = kill_process_group(self.group, Signal::KILL);
        Ok(self.child.wait()?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Only what is still running: the id of a child that has been waited for may belong to somebody else.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill_process_group(self.group, Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

/// Sleep, but end early when the user wants to stop.
pub fn pause(duration: Duration) {
    let end = Instant::now() + duration;
    while Instant::now() < end && !interrupted() {
        sleep(PULSE.min(duration));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hanging_child_and_its_children_are_ended() {
        let mut shell = Command::new("sh");
        shell.args(["-c", "sleep 600 & echo $!; wait"]).stdout(Stdio::piped());
        let mut running = start(&mut shell).unwrap();
        let mut grandchild = String::new();
        let mut output = std::io::BufReader::new(running.child.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut output, &mut grandchild).unwrap();

        assert_eq!(running.wait(Duration::ZERO).unwrap(), Outcome::TimedOut);
        // The pipe ends when the last process that holds it is gone.
        assert_eq!(std::io::Read::read(&mut output, &mut [0]).unwrap(), 0);
    }

    #[test]
    fn an_exit_code_is_reported() {
        let running = start(Command::new("sh").args(["-c", "exit 3"])).unwrap();
        let Outcome::Exited(status) = running.wait(Duration::from_secs(20)).unwrap() else {
            panic!("it ends by itself")
        };
        assert_eq!(status.code(), Some(3));
    }
}

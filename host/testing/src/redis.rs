//! A real Redis as a process: Debian's `redis-server` on loopback, with a folder of its own.
//!
//! ```no_run
//! use penstock_testing::redis::Redis;
//!
//! let redis = Redis::start();
//! assert_eq!(redis.command(&["SET", "a", "1"]), "OK");
//! let again = redis.stop().start(); // on the same port, empty
//! ```

use std::{net::SocketAddr, process::Command};

use rustix::process::{Pid, Signal, kill_process};

use crate::server::{Place, Server};

/// The password of a server that wants one.
pub const PASSWORD: &str = "correct-horse-battery";

/// A running server. Dropping it ends the process.
pub struct Redis {
    server: Server,
    wants_password: bool,
}

/// A server that does not run.
pub struct RedisBuilder {
    place: Place,
    wants_password: bool,
}

impl Redis {
    /// A server that everybody may use.
    ///
    /// # Panics
    /// When it is not installed, or does not start.
    #[must_use]
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// A server that is not started yet.
    ///
    /// # Panics
    /// When there is no temporary folder to be had.
    #[must_use]
    pub fn builder() -> RedisBuilder {
        RedisBuilder { place: Place::new(), wants_password: false }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.place().address
    }

    /// What it says to a command, as `redis-cli` prints it.
    ///
    /// # Panics
    /// When `redis-cli` is not installed, or gets no answer.
    #[must_use]
    pub fn command(&self, command: &[&str]) -> String {
        let mut client = Command::new("redis-cli");
        client.args(["-h", "127.0.0.1", "-p", &self.address().port().to_string()]);
        if self.wants_password {
            client.env("REDISCLI_AUTH", PASSWORD);
        }
        let output = client.args(command).output().expect("redis-cli comes with redis-server");
        assert!(output.status.success(), "{command:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// It does nothing until it [thaws](Self::thaw), and connections to it stay.
    ///
    /// # Panics
    /// When it has ended.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// It goes on.
    ///
    /// # Panics
    /// When it has ended.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.server.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(id, signal).expect("the server runs");
    }

    /// End the process; what it held is gone.
    #[must_use]
    pub fn stop(self) -> RedisBuilder {
        RedisBuilder { place: self.server.stop(), wants_password: self.wants_password }
    }
}

impl RedisBuilder {
    /// Let nobody in without [`PASSWORD`].
    #[must_use]
    pub fn with_password(mut self) -> Self {
        self.wants_password = true;
        self
    }

    /// Where it will listen, or did.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.place.address
    }

    /// Start it, and wait until it takes connections.
    ///
    /// # Panics
    /// When it is not installed, or does not start; the message says what to do, or holds its log.
    #[must_use]
    pub fn start(self) -> Redis {
        let wants_password = self.wants_password;
        let server = self.place.start("redis-server", |command, place| {
            command.args(["--bind", "127.0.0.1", "--port", &place.address.port().to_string()]);
            // Nothing is kept, and nobody else's configuration is read.
            command.args(["--save", "", "--appendonly", "no", "--dir"]).arg(place.folder());
            if wants_password {
                command.args(["--requirepass", PASSWORD]);
            }
        });
        Redis { server, wants_password }
    }
}

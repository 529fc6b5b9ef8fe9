//! A real Redis as a process: Debian's `redis-server` on loopback, with a folder of its own.
//!
//! ```no_run
//! use penstock_testing::redis::Redis;
//!
//! let redis = Redis::start();
//! assert_eq!(redis.command(&["SET", "a", "1"]), "OK");
//! let again = redis.stop().start(); // on the same port, empty
//! ```

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{PATIENCE, port::free_port};

/// The password of a server that wants one.
pub const PASSWORD: &str = "correct-horse-battery";

/// A running server. Dropping it ends the process.
pub struct Redis {
    child: Child,
    stopped: Option<RedisBuilder>,
}

/// A server that does not run.
pub struct RedisBuilder {
    folder: TempDir,
    address: SocketAddr,
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
        let folder = tempfile::tempdir().expect("a temporary folder");
        RedisBuilder { folder, address: (Ipv4Addr::LOCALHOST, free_port()).into(), wants_password: false }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.setup().address
    }

    /// What it says to a command, as `redis-cli` prints it.
    ///
    /// # Panics
    /// When `redis-cli` is not installed, or gets no answer.
    #[must_use]
    pub fn command(&self, command: &[&str]) -> String {
        let mut client = Command::new("redis-cli");
        client.args(["-h", "127.0.0.1", "-p", &self.address().port().to_string()]);
        if self.setup().wants_password {
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
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(id, signal).expect("the server runs");
    }

    /// End the process; what it held is gone.
    ///
    /// # Panics
    /// Never: a server that runs was set up.
    #[must_use]
    pub fn stop(mut self) -> RedisBuilder {
        self.end();
        self.stopped.take().expect("a server that runs was set up")
    }

    fn setup(&self) -> &RedisBuilder {
        self.stopped.as_ref().expect("a server that runs was set up")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.setup().folder.path().join("log")).unwrap_or_default()
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.end();
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
        self.address
    }

    /// Start it, and wait until it takes connections.
    ///
    /// # Panics
    /// When it is not installed, or does not start; the message says what to do, or holds its log.
    #[must_use]
    pub fn start(self) -> Redis {
        let log = File::create(self.folder.path().join("log")).expect("the temporary folder can be written");
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &self.address.port().to_string()]);
        // Nothing is kept, and nobody else's configuration is read.
        command.args(["--save", "", "--appendonly", "no", "--dir"]).arg(self.folder.path());
        if self.wants_password {
            command.args(["--requirepass", PASSWORD]);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start redis-server: {error}; apt-get install redis-server"));
        let mut redis = Redis { child, stopped: Some(self) };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(redis.address()).is_err() {
            let ended = redis.child.try_wait().expect("a child of this process");
            assert!(ended.is_none(), "redis-server ended with {ended:?}:\n{}", redis.log());
            assert!(Instant::now() < deadline, "redis-server does not listen:\n{}", redis.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        redis
    }
}

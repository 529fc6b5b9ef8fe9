//! A server of somebody else as a process: a folder, a port on loopback and a log of its own.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{PATIENCE, port::free_port};

/// Where a server listens and keeps what it has, whether it runs or not.
pub(crate) struct Place {
    folder: TempDir,
    pub(crate) address: SocketAddr,
}

impl Place {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self { folder, address: (Ipv4Addr::LOCALHOST, free_port()).into() }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn log(&self) -> PathBuf {
        self.folder().join("log")
    }

    /// Start this program of the Debian package of the same name, and wait until it takes connections.
    pub(crate) fn start(self, program: &str, arguments: impl FnOnce(&mut Command, &Self)) -> Server {
        let log = File::create(self.log()).expect("the temporary folder can be written");
        let mut command = Command::new(program);
        arguments(&mut command, &self);
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {program}: {error}; apt-get install {program}"));
        let mut server = Server { child, place: Some(self) };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(server.place().address).is_err() {
            let ended = server.child.try_wait().expect("a child of this process");
            assert!(ended.is_none(), "{program} ended with {ended:?}:\n{}", server.log());
            assert!(Instant::now() < deadline, "{program} does not listen:\n{}", server.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        server
    }
}

/// A running server. Dropping it ends the process and removes its folder.
pub(crate) struct Server {
    pub(crate) child: Child,
    /// None once it was stopped.
    place: Option<Place>,
}

impl Server {
    pub(crate) fn place(&self) -> &Place {
        self.place.as_ref().expect("a server that runs has a place")
    }

    /// What it printed.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.place().log()).unwrap_or_default()
    }

    /// End the process and keep its folder.
    pub(crate) fn stop(mut self) -> Place {
        self.end();
        self.place.take().expect("a server that runs has a place")
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

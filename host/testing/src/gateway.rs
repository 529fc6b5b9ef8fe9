//! The binary as a process, with resource files of its own.
//!
//! ```no_run
//! # async fn example(origin: std::net::SocketAddr) {
//! use penstock_testing::client::{fetch, get};
//! use penstock_testing::gateway::Gateway;
//! use penstock_testing::port::free_port;
//!
//! let port = free_port();
//! let gateway = Gateway::builder("target/debug/penstock") // in a test of the binary: env!("CARGO_BIN_EXE_penstock")
//!     .file("gateway.yaml", &format!("kind: Gateway …  port: {port}"))
//!     .file("backend.yaml", &format!("kind: EndpointSlice …  port: {}", origin.port()))
//!     .start()
//!     .await;
//! let response = fetch(gateway.at(port), get("/")).await.unwrap();
//! gateway.write("gateway.yaml", "…"); // as an editor saves: atomically
//! let status = gateway.terminate().await; // SIGTERM, and wait
//! # }
//! ```

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::client::{Response, fetch, get};
use crate::eventually::eventually;
use crate::port::free_port;

/// A running gateway. Dropping it ends the process at once and removes its files.
pub struct Gateway {
    child: Mutex<Child>,
    admin: SocketAddr,
    program: PathBuf,
    arguments: Vec<OsString>,
    folder: TempDir,
}

/// What to start.
pub struct GatewayBuilder {
    program: PathBuf,
    arguments: Vec<OsString>,
    folder: TempDir,
    follows_cluster: bool,
}

impl Gateway {
    /// A gateway of this program; in tests of the binary `env!("CARGO_BIN_EXE_penstock")`.
    ///
    /// # Panics
    /// When no temporary folder is to be had.
    #[must_use]
    pub fn builder(program: impl Into<PathBuf>) -> GatewayBuilder {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(folder.path().join("world")).expect("the temporary folder can be written");
        GatewayBuilder { program: program.into(), arguments: Vec::new(), folder, follows_cluster: false }
    }

    /// The address of a listener on loopback.
    #[must_use]
    pub fn at(&self, port: u16) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, port).into()
    }

    /// The admin address.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// The folder with the resource files.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.folder.path().join("world")
    }

    /// Write a resource file as editors and Kubernetes do: all of it at once, by a rename.
    ///
    /// # Panics
    /// When the folder cannot be written.
    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        write(self.folder.path(), name, contents.as_ref());
    }

    /// Remove a resource file.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn remove(&self, name: &str) {
        fs::remove_file(self.folder().join(name)).expect("a file of this world");
    }

    /// Ask the admin address.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn admin(&self, path: &str) -> Response {
        fetch(self.admin, get(path)).await.unwrap_or_else(|error| panic!("{path}: {error}\n{}", self.log()))
    }

    /// Ask a listener until the answer is as wanted, and return it.
    ///
    /// # Panics
    /// When it never is; the message holds the log of the gateway.
    pub async fn until(&self, port: u16, path: &str, wanted: impl Fn(&Response) -> bool) -> Response {
        let what = format!("an answer to {path} on port {port}; the log of the gateway:\n{}", self.log());
        eventually(&what, async || fetch(self.at(port), get(path)).await.ok().filter(&wanted)).await
    }

    /// SIGKILL, and the same program again with the same arguments and files. It is not ready yet.
    ///
    /// # Panics
    /// When the program cannot be started.
    pub fn kill_and_start(&self) {
        let mut child = self.child();
        child.kill().expect("the gateway runs");
        child.wait().expect("a child of this process");
        *child = launch(&self.program, self.folder.path(), self.admin, &self.arguments);
    }

    /// Wait until it is ready.
    ///
    /// # Panics
    /// When it does not get ready; the message holds its log.
    pub async fn ready(&self) {
        let ready = async || {
            if let Some(status) = self.child().try_wait().expect("a child of this process") {
                panic!("the gateway ended with {status}:\n{}", self.log());
            }
            fetch(self.admin, get("/readyz")).await.ok().filter(|response| response.status == 200)
        };
        eventually("readiness of the gateway", ready).await;
    }

    /// Send a signal.
    ///
    /// # Panics
    /// When the process is gone.
    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child().id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(id, signal).expect("the gateway runs");
    }

    /// SIGTERM, and wait for the end.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn terminate(&self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.exited().await
    }

    /// Wait for the end.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn exited(&self) -> ExitStatus {
        eventually("the end of the gateway", async || self.child().try_wait().expect("a child of this process")).await
    }

    /// What it has written to its standard output and error.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// The process id, to look at memory or descriptors.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child().id()
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl GatewayBuilder {
    /// A resource file, or one that resources name (a module, a certificate). Folders in the name are made.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn file(self, name: &str, contents: impl AsRef<[u8]>) -> Self {
        write(self.folder.path(), name, contents.as_ref());
        self
    }

    /// A further argument of `penstock run`.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Resources come from the cluster of this kubeconfig, not from files.
    #[must_use]
    pub fn cluster(mut self, kubeconfig: impl Into<OsString>) -> Self {
        self.follows_cluster = true;
        self.argument("--kubeconfig").argument(kubeconfig)
    }

    /// With a data directory that survives [`Gateway::kill_and_start`].
    #[must_use]
    pub fn data_dir(self) -> Self {
        let directory = self.folder.path().join("data");
        self.argument("--data-dir").argument(directory)
    }

    /// Start it and wait until it is ready.
    ///
    /// # Panics
    /// When it does not get ready; the message holds its log.
    pub async fn start(self) -> Gateway {
        let gateway = self.spawn();
        gateway.ready().await;
        gateway
    }

    /// Start it without waiting.
    ///
    /// # Panics
    /// When the program cannot be started.
    #[must_use]
    pub fn spawn(self) -> Gateway {
        let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let Self { program, mut arguments, folder, follows_cluster } = self;
        if !follows_cluster {
            arguments.splice(0..0, ["-f".into(), folder.path().join("world").into_os_string()]);
        }
        let child = Mutex::new(launch(&program, folder.path(), admin, &arguments));
        Gateway { child, admin, program, arguments, folder }
    }
}

/// Start the program; what it writes is added to the log.
fn launch(program: &Path, folder: &Path, admin: SocketAddr, arguments: &[OsString]) -> Child {
    let log = File::options().append(true).create(true).open(folder.join("log"));
    let log = log.expect("the temporary folder can be written");
    Command::new(program)
        .arg("run")
        .args(["--admin", &admin.to_string()])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a file can be shared"))
        .stderr(log)
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()))
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let mut child = self.child();
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// The temporary file stands outside the watched folder: nobody must take it for a resource.
fn write(folder: &Path, name: &str, contents: &[u8]) {
    let target = folder.join("world").join(name);
    let parent = target.parent().expect("a file stands in a folder");
    fs::create_dir_all(parent).expect("the temporary folder can be written");
    let temporary = folder.join("incoming");
    fs::write(&temporary, contents).expect("the temporary folder can be written");
    fs::rename(&temporary, &target).expect("the temporary folder can be written");
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn a_process_is_started_signalled_and_awaited() {
        let mut builder = Gateway::builder("").file("sub/a.yaml", "a: 1").argument("--extra");
        // No gateway, but a process that shows its arguments and ends on SIGTERM.
        builder.program = builder.folder.path().join("program");
        fs::write(&builder.program, "#!/bin/sh\ntrap 'exit 7' TERM\necho \"$@\"\nwhile :; do sleep 0.01; done\n")
            .unwrap();
        fs::set_permissions(&builder.program, fs::Permissions::from_mode(0o755)).unwrap();
        let gateway = builder.spawn();

        eventually("the program's line", async || gateway.log().contains("--extra").then_some(())).await;
        assert!(gateway.log().starts_with("run --admin "), "{}", gateway.log());
        assert!(gateway.log().contains(" -f "), "{}", gateway.log());
        assert_eq!(fs::read_to_string(gateway.folder().join("sub/a.yaml")).unwrap(), "a: 1");
        gateway.write("sub/a.yaml", "a: 2");
        assert_eq!(fs::read_to_string(gateway.folder().join("sub/a.yaml")).unwrap(), "a: 2");
        assert_eq!(gateway.terminate().await.code(), Some(7));
    }
}

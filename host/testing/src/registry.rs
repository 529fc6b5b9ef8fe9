//! A real registry as a process: Debian's `docker-registry` on loopback, with a folder of its own.
//!
//! ```no_run
//! use penstock_testing::registry::Registry;
//!
//! let registry = Registry::builder().with_login().start();
//! let reference = format!("{}/acme/headers:1.2", registry.address());
//! let pull_secret = registry.docker_config(); // as `.dockerconfigjson` of a Secret, or as ~/.docker/config.json
//! let again = registry.stop().start(); // with what was pushed
//! ```

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde_json::json;
use tempfile::TempDir;

use crate::PATIENCE;
use crate::port::free_port;

/// Who may use a registry that wants a login, and how.
pub const USERNAME: &str = "tester";
/// Its password.
pub const PASSWORD: &str = "correct-horse";
/// The same as `htpasswd -B` writes it.
const HTPASSWD: &str = "tester:$2b$05$hFNF16l2gHbuYvzKGnZ2MuGgi8eeb1sybE.1ecIcbfnUGk4.KNnFK\n";

/// A running registry. Dropping it ends the process and removes what was pushed.
pub struct Registry {
    child: Child,
    stopped: Option<RegistryBuilder>,
}

/// A registry that does not run.
pub struct RegistryBuilder {
    folder: TempDir,
    address: SocketAddr,
    wants_login: bool,
}

impl Registry {
    /// A registry that everybody may use.
    ///
    /// # Panics
    /// When it is not installed, or does not start.
    #[must_use]
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// A registry that is not started yet.
    ///
    /// # Panics
    /// When there is no temporary folder to be had.
    #[must_use]
    pub fn builder() -> RegistryBuilder {
        let folder = tempfile::tempdir().expect("a temporary folder");
        RegistryBuilder { folder, address: (Ipv4Addr::LOCALHOST, free_port()).into(), wants_login: false }
    }

    /// The first part of its references.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.setup().address
    }

    /// A login for it, as `docker login` keeps it.
    #[must_use]
    pub fn docker_config(&self) -> String {
        let login = json!({ "username": USERNAME, "password": PASSWORD });
        json!({ "auths": { self.address().to_string(): login } }).to_string()
    }

    /// What it logged: one line for each request, among others.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.setup().folder.path().join("log")).unwrap_or_default()
    }

    /// End the process and keep what was pushed.
    ///
    /// # Panics
    /// Never: a registry that runs was set up.
    #[must_use]
    pub fn stop(mut self) -> RegistryBuilder {
        self.end();
        self.stopped.take().expect("a registry that runs was set up")
    }

    fn setup(&self) -> &RegistryBuilder {
        self.stopped.as_ref().expect("a registry that runs was set up")
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.end();
    }
}

impl RegistryBuilder {
    /// Let nobody in but [`USERNAME`].
    #[must_use]
    pub fn with_login(mut self) -> Self {
        self.wants_login = true;
        self
    }

    /// Start it, and wait until it takes connections.
    ///
    /// # Panics
    /// When it is not installed, or does not start; the message says what to do, or holds its log.
    #[must_use]
    pub fn start(self) -> Registry {
        let (config, log) = (self.folder.path().join("config.json"), self.folder.path().join("log"));
        fs::write(self.folder.path().join("htpasswd"), HTPASSWD).expect("the temporary folder can be written");
        fs::write(&config, self.config()).expect("the temporary folder can be written");
        let output = File::create(&log).expect("the temporary folder can be written");
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a file can be shared"))
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start docker-registry: {error}; apt-get install docker-registry"));
        let mut registry = Registry { child, stopped: Some(self) };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(registry.address()).is_err() {
            let ended = registry.child.try_wait().expect("a child of this process");
            assert!(ended.is_none(), "docker-registry ended with {ended:?}:\n{}", registry.log());
            assert!(Instant::now() < deadline, "docker-registry does not listen:\n{}", registry.log());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        registry
    }

    /// JSON is YAML.
    fn config(&self) -> String {
        let folder = |name: &str| self.folder.path().join(name);
        let auth = match self.wants_login {
            true => json!({ "htpasswd": { "realm": "test", "path": folder("htpasswd") } }),
            false => json!({}),
        };
        let config = json!({
            "version": "0.1",
            "log": { "accesslog": { "disabled": false } },
            "storage": { "filesystem": { "rootdirectory": folder("storage") } },
            "http": { "addr": self.address.to_string() },
            "auth": auth,
        });
        config.to_string()
    }
}

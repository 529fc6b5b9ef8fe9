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

use std::{fs, net::SocketAddr};

use serde_json::json;

use crate::server::{Place, Server};

/// Who may use a registry that wants a login, and how.
pub const USERNAME: &str = "tester";
/// Its password.
pub const PASSWORD: &str = "correct-horse";
/// The same as `htpasswd -B` writes it.
const HTPASSWD: &str = "tester:$2b$05$hFNF16l2gHbuYvzKGnZ2MuGgi8eeb1sybE.1ecIcbfnUGk4.KNnFK\n";

/// A running registry. Dropping it ends the process and removes what was pushed.
pub struct Registry {
    server: Server,
    wants_login: bool,
}

/// A registry that does not run.
pub struct RegistryBuilder {
    place: Place,
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
        RegistryBuilder { place: Place::new(), wants_login: false }
    }

    /// The first part of its references.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.place().address
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
        self.server.log()
    }

    /// End the process and keep what was pushed.
    #[must_use]
    pub fn stop(self) -> RegistryBuilder {
        RegistryBuilder { place: self.server.stop(), wants_login: self.wants_login }
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
        let config = self.place.folder().join("config.json");
        fs::write(self.place.folder().join("htpasswd"), HTPASSWD).expect("the temporary folder can be written");
        fs::write(&config, self.config()).expect("the temporary folder can be written");
        let server = self.place.start("docker-registry", |command, _| {
            command.arg("serve").arg(&config);
        });
        Registry { server, wants_login: self.wants_login }
    }

    /// JSON is YAML.
    fn config(&self) -> String {
        let folder = |name: &str| self.place.folder().join(name);
        let auth = match self.wants_login {
            true => json!({ "htpasswd": { "realm": "test", "path": folder("htpasswd") } }),
            false => json!({}),
        };
        let config = json!({
            "version": "0.1",
            "log": { "accesslog": { "disabled": false } },
            "storage": { "filesystem": { "rootdirectory": folder("storage") } },
            "http": { "addr": self.place.address.to_string() },
            "auth": auth,
        });
        config.to_string()
    }
}

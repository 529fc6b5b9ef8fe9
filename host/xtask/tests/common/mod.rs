//! A cluster for one test.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use xtask::workspace::Workspace;

/// A cluster of this test's own, beside whatever else runs.
pub(crate) struct Cluster {
    pub(crate) name: String,
}

impl Cluster {
    /// One that is ready.
    pub(crate) fn up(name: &str) -> Self {
        Self::up_with(name, &[])
    }

    pub(crate) fn up_with(name: &str, options: &[&str]) -> Self {
        let cluster = Self { name: format!("{name}-{}", std::process::id()) };
        cluster.xtask(&[&["up"], options].concat());
        cluster
    }

    /// Where it keeps its files.
    pub(crate) fn folder(&self) -> PathBuf {
        Workspace::load().unwrap().target().join("cluster").join(&self.name)
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.args(["cluster", "--name", &self.name]).args(arguments).stdin(Stdio::null());
        command
    }

    /// Run, and answer what it printed.
    pub(crate) fn xtask(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}\n{}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    /// What kubectl printed.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        self.xtask(&[&["kubectl"], arguments].concat())
    }

    pub(crate) fn apply(&self, manifest: &str) {
        let file = std::env::temp_dir().join(format!("{}.yaml", self.name));
        fs::write(&file, manifest).unwrap();
        self.kubectl(&["apply", "--filename", file.to_str().unwrap()]);
        fs::remove_file(file).unwrap();
    }

    /// Make an image known to the node.
    pub(crate) fn load_image(&self, archive: &Path) {
        self.xtask(&["load-image", archive.to_str().unwrap()]);
    }

    /// The first process of its namespaces, as this namespace knows it.
    pub(crate) fn pid(&self) -> String {
        let status = self.xtask_status();
        let words: Vec<_> = status.split([' ', ',', '\n']).collect();
        let position = words.iter().position(|word| *word == "process").unwrap();
        words[position + 1].to_owned()
    }

    pub(crate) fn xtask_status(&self) -> String {
        self.xtask(&["status"])
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let ended = self.command(&["down"]).status();
        if !std::thread::panicking() {
            assert!(ended.is_ok_and(|status| status.success()));
            // Logs are for those who look for what went wrong.
            fs::remove_dir_all(self.folder()).unwrap();
        }
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

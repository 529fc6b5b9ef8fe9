//! A server under measurement: started on one core, probed, stopped.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::pinned;
use super::proxy::Launch;
use crate::process::{self, Running};

/// How long a server may take to listen.
const STARTING: Duration = Duration::from_secs(30);

pub(super) struct Server {
    running: Running,
    port: u16,
}

/// A port that nobody uses now.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

impl Server {
    /// Start it on this core and wait until it listens. Its output goes to a file named after the program.
    pub(super) fn start(launch: &Launch, core: &str, logs: &Path) -> Result<Self> {
        let name = launch.program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let log = File::create(logs.join(format!("{name}.log")))?;
        let mut command = pinned(core, &launch.program);
        command.args(&launch.arguments).stdout(log.try_clone()?).stderr(log);
        let mut running = process::start(&mut command)?;
        let deadline = Instant::now() + STARTING;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, launch.port)).is_err() {
            if let Some(status) = running.exited()? {
                bail!("{name} ended at once ({status})");
            }
            ensure!(Instant::now() < deadline && !process::interrupted(), "{name} does not listen on {}", launch.port);
            process::pause(Duration::from_millis(20));
        }
        Ok(Self { running, port: launch.port })
    }

    pub(super) fn id(&self) -> u32 {
        self.running.id()
    }

    pub(super) fn stop(self) -> Result<()> {
        self.running.stop().map(drop)
    }

    /// Make sure that what is measured is what is meant: wait for a 200 with these headers.
    pub(super) fn expect_headers(&self, names: &[&str]) -> Result<()> {
        let deadline = Instant::now() + STARTING;
        loop {
            // A connection may fail for as long as the server starts.
            let answer = self.get().unwrap_or_else(|error| format!("{error:#}")).to_ascii_lowercase();
            let has = |name: &&str| answer.contains(&format!("\r\n{name}:"));
            if answer.starts_with("http/1.1 200") && names.iter().all(has) {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline && !process::interrupted(),
                "expected 200 with {names:?}, got:\n{answer}"
            );
            process::pause(Duration::from_millis(50));
        }
    }

    fn get(&self) -> Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET / HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

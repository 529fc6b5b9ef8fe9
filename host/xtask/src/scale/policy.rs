//! A BackendTLSPolicy that is deleted and created again, and one that is replaced, while 200 requests a second meet it.

use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::http::Client;
use super::world::{LOST, World, core, create, path};
use crate::bench::free_port;
use crate::process::{self, Running};

/// 200 a second.
const BEAT: Duration = Duration::from_millis(5);

/// Longer than anything takes that is neither slow nor waits for what does not come.
const STUCK: Duration = Duration::from_secs(1);

/// Times that the policy goes and comes back, and times that it is replaced.
const ROUNDS: usize = 20;

const HOST: &str = "secure.example.com";

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Figures {
    /// From the answer of the API server to the policy's creation until the first request that the backend answered.
    pub(super) back: Vec<Duration>,
    /// Requests while it went and came, and those of them that were answered neither by the backend nor at once with 502.
    pub(super) requests: usize,
    pub(super) stuck: usize,
    /// Requests while it was replaced, and those that the backend did not answer.
    pub(super) replaced_requests: usize,
    pub(super) replaced_failures: usize,
}

/// A request and its answer.
#[derive(Clone, Copy)]
struct Answered {
    at: Instant,
    took: Duration,
    status: u16,
}

/// A backend that speaks TLS: this program again, with the world of an example.
pub(super) struct Backend {
    processes: [Running; 2],
    certificate: String,
}

impl Backend {
    pub(super) fn start(program: &Path, example: &Path) -> Result<Self> {
        let echo = process::start(Command::new(program).args(["echo", "--listen", "127.0.0.1:9000"]))?;
        let admin = format!("127.0.0.1:{}", free_port()?);
        let mut gateway = Command::new(program);
        gateway.arg("run").arg("-f").arg(example).args(["--admin", &admin]).env("RUST_LOG", "warn");
        let manifest =
            std::fs::read_to_string(example.join("certificate.yaml")).context("the certificate of the example")?;
        Ok(Self { processes: [echo, process::start(&mut gateway)?], certificate: certificate(&manifest)? })
    }

    pub(super) fn stop(self) -> Result<()> {
        self.processes.into_iter().try_for_each(|process| process.stop().map(drop))
    }
}

/// The first one in a manifest, without its indentation.
fn certificate(manifest: &str) -> Result<String> {
    let lines = manifest.lines().map(str::trim).skip_while(|line| !line.starts_with("-----BEGIN CERTIFICATE"));
    let mut pem = String::new();
    for line in lines {
        pem += line;
        pem += "\n";
        if line.starts_with("-----END CERTIFICATE") {
            return Ok(pem);
        }
    }
    anyhow::bail!("the example has no certificate")
}

impl World {
    /// A route to the backend, and the policy that makes it reachable.
    fn secure(client: &mut Client, backend: &Backend) -> Result<()> {
        Self::service(client, "secure", 443, 8443)?;
        for name in ["ca", "ca-too"] {
            let config_map = json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name },
                "data": { "ca.crt": backend.certificate },
            });
            create(client, &core("configmaps"), &config_map)?;
        }
        let route = json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": { "name": "secure" },
            "spec": {
                "parentRefs": [{ "name": "gateway-0" }], "hostnames": [HOST],
                "rules": [{ "backendRefs": [{ "name": "secure", "port": 443 }] }],
            },
        });
        create(client, &path("httproutes"), &route)?;
        create(client, &path("backendtlspolicies"), &policy("ca"))
    }

    /// Measure both.
    pub(super) fn time_policy(&self, backend: &Backend) -> Result<Figures> {
        let mut client = self.connect()?;
        Self::secure(&mut client, backend)?;
        let address = Self::address(&mut client, 0)?;
        let mut figures = Figures::default();
        let answers = Mutex::new(Vec::<Answered>::new());
        let stopped = AtomicBool::new(false);
        let load = || -> Result<()> {
            let mut traffic = Client::connect(address, HOST)?;
            while !stopped.load(Ordering::Relaxed) {
                let at = Instant::now();
                let status = traffic.get("/")?.status;
                let answered = Answered { at, took: at.elapsed(), status };
                answers.lock().expect("nobody panics with it").push(answered);
                std::thread::sleep(BEAT.saturating_sub(at.elapsed()));
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let load = scope.spawn(load);
            let outcome = go_and_come_back(&mut client, &answers, &mut figures);
            stopped.store(true, Ordering::Relaxed);
            load.join().expect("the load does not panic")?;
            outcome
        })?;
        Ok(figures)
    }
}

fn go_and_come_back(client: &mut Client, answers: &Mutex<Vec<Answered>>, figures: &mut Figures) -> Result<()> {
    let one = format!("{}/secure", path("backendtlspolicies"));
    until(answers, Instant::now(), 200)?;
    take(answers);
    for _ in 0..ROUNDS {
        let answer = client.send("DELETE", &one, "application/json", "")?;
        ensure!(answer.status == 200, "the policy cannot be deleted: {}", answer.text());
        until(answers, Instant::now(), 502)?;
        create(client, &path("backendtlspolicies"), &policy("ca"))?;
        let created = Instant::now();
        figures.back.push(until(answers, created, 200)?);
    }
    let (requests, stuck) = take(answers).into_iter().fold((0, 0), |(requests, stuck), it| {
        (requests + 1, stuck + usize::from(!matches!(it.status, 200 | 502) || it.took > STUCK))
    });
    (figures.requests, figures.stuck) = (requests, stuck);
    for round in 0..ROUNDS {
        let ca = if round % 2 == 0 { "ca-too" } else { "ca" };
        let patch = json!([{ "op": "replace", "path": "/spec/validation/caCertificateRefs/0/name", "value": ca }]);
        let answer = client.send("PATCH", &one, "application/json-patch+json", &patch.to_string())?;
        ensure!(answer.status == 200, "the policy cannot be replaced: {}", answer.text());
        process::pause(20 * BEAT);
    }
    let answers = take(answers);
    figures.replaced_requests = answers.len();
    figures.replaced_failures = answers.iter().filter(|it| it.status != 200).count();
    Ok(())
}

fn policy(ca: &str) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "BackendTLSPolicy", "metadata": { "name": "secure" },
        "spec": {
            "targetRefs": [{ "group": "", "kind": "Service", "name": "secure" }],
            "validation": {
                "hostname": "localhost", "caCertificateRefs": [{ "group": "", "kind": "ConfigMap", "name": ca }],
            },
        },
    })
}

fn take(answers: &Mutex<Vec<Answered>>) -> Vec<Answered> {
    std::mem::take(&mut *answers.lock().expect("nobody panics with it"))
}

/// Wait for a request after this moment that is answered so. From the moment to its answer.
fn until(answers: &Mutex<Vec<Answered>>, since: Instant, status: u16) -> Result<Duration> {
    let is_wanted = |it: &&Answered| it.at >= since && it.status == status;
    loop {
        let found = answers.lock().expect("nobody panics with it").iter().find(is_wanted).copied();
        if let Some(found) = found {
            return Ok(found.at + found.took - since);
        }
        ensure!(since.elapsed() < LOST && !process::interrupted(), "no answer {status} within {LOST:?}");
        std::thread::sleep(BEAT / 5);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_found_in_its_manifest() {
        let manifest = "a: b\n  tls.crt: |\n    -----BEGIN CERTIFICATE-----\n    QUJD\n    -----END CERTIFICATE-----\n  tls.key: |\n";
        let expected = "-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n";
        assert_eq!(certificate(manifest).unwrap(), expected);
        assert!(certificate("-----BEGIN CERTIFICATE-----\n").is_err());
    }

    #[test]
    fn the_first_answer_after_the_moment_counts() {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let answered = |millis, status| Answered { at: after(millis), took: Duration::from_millis(2), status };
        let answers = Mutex::new(vec![answered(0, 200), answered(10, 502), answered(15, 200), answered(20, 200)]);
        assert_eq!(until(&answers, after(5), 200).unwrap(), Duration::from_millis(12));
    }
}

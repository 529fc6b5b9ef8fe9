//! What the gateway writes, as the API server has it on record: its audit log has a line for each request, with the user agent.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

/// Where the API server of the test cluster writes it, seen from inside.
const LOG: &str = "/run/penstock/logs/audit.log";

/// How the user agent of a gateway begins. kubectl and those who watch have others, whatever credentials they use.
const AGENT: &str = "penstock/";

/// The log from some moment on.
pub(super) struct AuditLog {
    path: PathBuf,
    file: BufReader<File>,
    /// The beginning of a line whose end was not there yet.
    begun: String,
    /// What was written since: `httproutes/route-1/status`.
    writes: Vec<String>,
}

impl AuditLog {
    /// The log of the cluster from now on.
    pub(super) fn from_now_on() -> Result<Self> {
        Self::from_end_of(Path::new(LOG))
    }

    fn from_end_of(path: &Path) -> Result<Self> {
        let mut file = open(path)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self { path: path.to_owned(), file, begun: String::new(), writes: Vec::new() })
    }

    /// Everything that was written since, with what nobody is told twice left out: the Lease, which is renewed, and Events.
    pub(super) fn writes(&mut self) -> Result<&[String]> {
        self.read_on()?;
        // One that is full gets another name, and a new one begins.
        let newest = self.path.metadata().with_context(|| format!("cannot read {}", self.path.display()))?;
        if newest.ino() != self.file.get_ref().metadata()?.ino() {
            self.read_on()?;
            self.file = open(&self.path)?;
            self.read_on()?;
        }
        Ok(&self.writes)
    }

    fn read_on(&mut self) -> Result<()> {
        while self.file.read_line(&mut self.begun)? > 0 && self.begun.ends_with('\n') {
            self.writes.extend(write(&self.begun));
            self.begun.clear();
        }
        Ok(())
    }
}

fn open(path: &Path) -> Result<BufReader<File>> {
    let file = File::open(path).with_context(|| format!("cannot read the audit log {}", path.display()))?;
    Ok(BufReader::new(file))
}

/// What a request of the gateway wrote, or tried to.
fn write(line: &str) -> Option<String> {
    // Thousands of lines are those of others.
    let event: Value = line.contains(AGENT).then(|| serde_json::from_str(line).ok())??;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (verb, object) = (text(&event["verb"]), &event["objectRef"]);
    let resource = text(&object["resource"]);
    let is_write = text(&event["userAgent"]).starts_with(AGENT)
        && event["stage"] == "ResponseComplete"
        && !["get", "list", "watch"].contains(&verb.as_str())
        && !["leases", "events"].contains(&resource.as_str());
    let parts = [resource, text(&object["name"]), text(&object["subresource"])];
    is_write.then(|| parts.join("/").trim_end_matches('/').to_owned())
}

/// The objects that were written most often, for those who look for the reason.
pub(super) fn most_written(writes: &[String]) -> Vec<(usize, &str)> {
    let mut counts = BTreeMap::<&str, usize>::new();
    writes.iter().for_each(|object| *counts.entry(object).or_default() += 1);
    let mut objects: Vec<_> = counts.into_iter().map(|(object, count)| (count, object)).collect();
    objects.sort_unstable_by(|one, other| other.cmp(one));
    objects.truncate(5);
    objects
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn line(agent: &str, verb: &str, resource: &str, name: &str) -> String {
        serde_json::json!({
            "stage": "ResponseComplete", "userAgent": agent, "verb": verb,
            "objectRef": { "resource": resource, "name": name, "subresource": "status" },
        })
        .to_string()
    }

    #[test]
    fn only_writes_of_the_gateway_count_wherever_the_log_was_cut() {
        let folder = std::env::temp_dir().join(format!("penstock-audit-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("audit.log");
        let mut file = File::create(&path).unwrap();
        writeln!(file, "{}", line("penstock/1", "patch", "httproutes", "before")).unwrap();
        let mut log = AuditLog::from_end_of(&path).unwrap();
        assert_eq!(log.writes().unwrap(), [""; 0]);

        let whole = line("penstock/1", "patch", "httproutes", "a");
        let (begin, end) = whole.split_at(40);
        for other in [
            line("kubectl/1 penstock/", "patch", "httproutes", "theirs"),
            line("penstock/1", "watch", "httproutes", ""),
            line("penstock/1", "update", "leases", "penstock"),
            line("penstock/1", "create", "events", ""),
        ] {
            writeln!(file, "{other}").unwrap();
        }
        write!(file, "{begin}").unwrap();
        assert_eq!(log.writes().unwrap(), [""; 0]);
        writeln!(file, "{end}").unwrap();
        assert_eq!(log.writes().unwrap(), ["httproutes/a/status"]);

        // The rest of the old file, and the new one.
        writeln!(file, "{}", line("penstock/1", "patch", "gateways", "b")).unwrap();
        std::fs::rename(&path, folder.join("audit-old.log")).unwrap();
        std::fs::write(&path, line("penstock/1", "patch", "gateways", "b") + "\n").unwrap();
        assert_eq!(log.writes().unwrap(), ["httproutes/a/status", "gateways/b/status", "gateways/b/status"]);
        assert_eq!(most_written(&log.writes), [(2, "gateways/b/status"), (1, "httproutes/a/status")]);
        std::fs::remove_dir_all(folder).unwrap();
    }
}

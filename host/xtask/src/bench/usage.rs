//! CPU time and memory of a process and everything that it started, from `/proc`.

use std::fs;
use std::time::Duration;

/// `/proc` counts CPU time in units of 1/100 s on every Linux (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

/// User and system time so far. A process that is gone counts nothing.
pub(crate) fn cpu(root: u32) -> Duration {
    tree(root).into_iter().filter_map(|pid| ticks(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)).sum()
}

/// Resident memory in KiB.
pub(crate) fn resident(root: u32) -> usize {
    tree(root).into_iter().filter_map(|pid| rss(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)).sum()
}

fn tree(root: u32) -> Vec<u32> {
    let mut pids = vec![root];
    let mut next = 0;
    while let Some(pid) = pids.get(next).copied() {
        next += 1;
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let children = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
        pids.extend(
            children.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()),
        );
    }
    pids
}

/// Fields 14 and 15 of `stat`; the name before them stands in brackets and may hold anything.
fn ticks(stat: &str) -> Option<Duration> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system): (u32, u32) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(TICK * (user + system))
}

fn rss(status: &str) -> Option<usize> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_understood() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 1 0 100 1000 10";
        assert_eq!(ticks(stat), Some(Duration::from_secs(2)));
        assert_eq!(rss("Name:\ta\nVmRSS:\t    1234 kB\nThreads:\t1\n"), Some(1234));
    }

    #[test]
    fn the_tree_holds_a_child_of_any_thread() {
        let child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let found = tree(std::process::id()).contains(&child.id());
        let mut child = child;
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found);
    }
}

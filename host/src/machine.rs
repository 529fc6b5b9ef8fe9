//! What the machine has, or the container that the process is in.

use std::fs;

/// Half of the memory that the process may have, in bytes; none if nobody says how much that is.
pub(crate) fn half_of_memory() -> Option<u64> {
    let read = |path: &str| fs::read_to_string(path).ok();
    let machine = read("/proc/meminfo").and_then(|text| total(&text));
    let container = read("/sys/fs/cgroup/memory.max").and_then(|text| text.trim().parse().ok());
    machine.into_iter().chain(container).min().map(|bytes: u64| bytes / 2)
}

/// `MemTotal:  16384 kB`.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_as_linux_says_it() {
        assert_eq!(total("MemFree: 1 kB\nMemTotal:       16384 kB\nBuffers: 2 kB\n"), Some(16 << 20));
        assert_eq!(total("MemTotal: much"), None);
        assert!(half_of_memory().unwrap() > 1 << 20);
    }
}

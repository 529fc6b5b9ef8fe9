//! Killed at random instants: whatever was going on, the newest complete set is there.
//!
//! The test binary runs itself as the process that is killed. Each commit gives every plugin the same new generation, so a set is
//! complete if all generations are equal. Every commit that was finished is printed, and must be there afterwards; of the one that was
//! going on, all or nothing.

use std::{
    env,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::*;

const DIRECTORY: &str = "PENSTOCK_TEST_LAST_GOOD";
const PLUGINS: [&str; 3] = ["a", "b", "c"];
const KILLS: usize = 200;

fn generation(n: i64) -> GoodSet {
    set(PLUGINS.iter().map(|name| good(name, n)).collect())
}

/// The generation of the newest set.
fn newest(store: &LastGood) -> i64 {
    let sets = readable(store);
    let Some(first) = sets.values().next() else { return 0 };
    assert_eq!(sets.len(), PLUGINS.len(), "{sets:?}");
    assert!(sets.values().all(|generations| generations == first), "parts of different sets: {sets:?}");
    first[0]
}

/// The process that is killed: commits until then.
#[test]
fn writer() {
    let Some(directory) = env::var_os(DIRECTORY) else { return };
    let mut store = LastGood::open(directory.as_ref()).unwrap();
    for n in newest(&store) + 1.. {
        store.keep(&generation(n)).unwrap();
        let mut out = io::stdout();
        writeln!(out, "committed {n}").and_then(|()| out.flush()).unwrap();
    }
}

fn start(directory: &TempDir) -> Child {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "last_good::tests::kill::writer", "--nocapture"]).env(DIRECTORY, directory.path());
    command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// Let it commit for a moment, kill it, and answer the last generation that it finished.
fn run_and_kill(directory: &TempDir, moment: Duration) -> Option<i64> {
    let mut child = start(directory);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let committed = |line: String| line.rsplit_once("committed ").and_then(|(_, n)| n.parse().ok());
    // From the first commit on, so that the moment is one of commits and not of starting.
    let first = lines.by_ref().find_map(committed);
    std::thread::sleep(moment);
    child.kill().unwrap();
    child.wait().unwrap();
    lines.filter_map(committed).last().or(first)
}

#[test]
fn the_newest_set_that_was_committed_survives_a_kill_at_any_instant() {
    let seed = env::var("SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    eprintln!("SEED={seed} repeats these instants");
    let mut random = fastrand::Rng::with_seed(seed);
    let directory = tempfile::tempdir().unwrap();
    for kill in 0..KILLS {
        let moment = Duration::from_micros(random.u64(0..8_000));
        let committed = run_and_kill(&directory, moment).expect("it committed before it was killed");
        let store = LastGood::open(directory.path()).unwrap();
        let found = newest(&store);
        let expected = [committed, committed + 1];
        assert!(
            expected.contains(&found),
            "SEED={seed}, kill {kill} after {moment:?}: {found}, not one of {expected:?}"
        );
        assert_eq!(store.damage(), &[] as &[String], "SEED={seed}, kill {kill} after {moment:?}");
    }
}

//! The workspace keeps its own rules; `cargo xtask tidy` says the same.

use xtask::tidy;
use xtask::workspace::Workspace;

#[test]
fn the_workspace_is_tidy() {
    let problems = tidy::check(&Workspace::load().unwrap()).unwrap();
    let list: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert!(list.is_empty(), "{} problems:\n{}", list.len(), list.join("\n"));
}

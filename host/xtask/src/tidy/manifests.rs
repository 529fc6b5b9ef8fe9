//! Manifests: versions, features and lints stand once, in the root.

use super::{Problem, Source};

pub(super) fn check(sources: &[Source]) -> Vec<Problem> {
    let members = sources.iter().filter(|source| source.path.ends_with("/Cargo.toml"));
    members.flat_map(|source| pinned(source).chain(unlinted(source))).collect()
}

/// Dependencies that do not come from the root.
fn pinned(source: &Source) -> impl Iterator<Item = Problem> {
    let mut in_dependencies = false;
    let entries = source.text.lines().enumerate().filter(move |(_, line)| {
        if line.starts_with('[') {
            in_dependencies = line.trim_end_matches(']').ends_with("dependencies");
        }
        in_dependencies && !line.starts_with(['[', '#']) && !line.trim().is_empty()
    });
    entries.filter(|(_, line)| !line.contains("workspace = true")).map(|(number, _)| {
        let message = "versions and features stand once: name it in [workspace.dependencies] of the root, and write \
                       `name.workspace = true` here";
        Problem::new(&source.path, Some(number + 1), message)
    })
}

fn unlinted(source: &Source) -> Option<Problem> {
    let message = "the lints of the workspace do not hold here: add `[lints]` with `workspace = true`";
    (!source.text.contains("[lints]\nworkspace = true\n")).then(|| Problem::new(&source.path, None, message))
}

#[cfg(test)]
mod tests {
    use super::super::source;
    use super::*;

    #[test]
    fn members_inherit_everything() {
        let good = "[package]\nname = \"a\"\n[lints]\nworkspace = true\n[dependencies]\n# Why.\nserde.workspace = true\n\
                    tokio = { workspace = true, features = [\"net\"] }\n";
        assert_eq!(
            check(&[source("a/Cargo.toml", good), source("Cargo.toml", "[workspace.dependencies]\na = \"1\"")]),
            []
        );

        let bad = "[package]\nname = \"a\"\n[dev-dependencies]\nserde = \"1\"\n";
        let lines: Vec<_> = check(&[source("a/Cargo.toml", bad)]).into_iter().map(|problem| problem.line).collect();
        assert_eq!(lines, [Some(4), None]);
    }
}

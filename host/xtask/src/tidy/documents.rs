//! Documents: every crate has one, and every link leads somewhere.

use cargo_metadata::TargetKind;

use super::{Problem, Source};
use crate::workspace::Workspace;

/// The root files of all crates, relative to the root of the workspace: libraries, binaries, build scripts.
pub(super) fn crate_roots(workspace: &Workspace) -> Vec<String> {
    let mut roots = Vec::new();
    for target in workspace.packages().iter().flat_map(|package| &package.targets) {
        if !target.kind.contains(&TargetKind::Example) {
            roots.push(workspace.relative(target.src_path.as_std_path()).to_string_lossy().into_owned());
        }
    }
    roots
}

/// Every crate says what it is for before anything else.
pub(super) fn crate_docs(roots: &[String], sources: &[Source]) -> Vec<Problem> {
    let message = "a crate begins with its documentation: `//!`, what it is for, a small picture, its invariants";
    let undocumented = |path: &&String| {
        let source = sources.iter().find(|source| source.path == **path);
        source.is_some_and(|source| !source.text.starts_with("//!") && !source.text.starts_with("#![doc"))
    };
    roots.iter().filter(undocumented).map(|path| Problem::new(path, Some(1), message)).collect()
}

/// Links of Markdown files to files: relative, and inside the repository.
pub(super) fn links(sources: &[Source], exists: impl Fn(&str) -> bool) -> Vec<Problem> {
    let mut problems = Vec::new();
    for source in sources.iter().filter(|source| source.path.ends_with(".md")) {
        for (line, target) in targets(&source.text) {
            let message = match resolve(&source.path, target) {
                None => format!("the link `{target}` leaves the repository: name something inside, or an address"),
                Some(path) if !exists(&path) => format!("the link `{target}` leads nowhere: there is no {path}"),
                Some(_) => continue,
            };
            problems.push(Problem::new(&source.path, Some(line), message));
        }
    }
    problems
}

/// Targets of `[text](target)` with their lines; addresses, anchors and code are left out.
fn targets(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_code = false;
    let prose = text.lines().enumerate().filter(move |(_, line)| {
        let is_fence = line.trim_start().starts_with("```");
        in_code ^= is_fence;
        !is_fence && !in_code
    });
    let links = prose.flat_map(|(number, line)| line.split("](").skip(1).map(move |rest| (number + 1, rest)));
    links
        .filter_map(|(number, rest)| Some((number, rest.split([')', '#', ' ']).next()?)))
        .filter(|(_, target)| !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:"))
}

/// `target` as seen from the document, relative to the root; none when it leads out of it.
fn resolve(document: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = document.split('/').collect();
    parts.pop();
    if target.starts_with('/') {
        return None;
    }
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::super::source;
    use super::*;

    #[test]
    fn links_are_followed_from_where_they_stand() {
        let text = "[a](../README.md#top), [b](gone.md) and [c](https://example.com/x)\n[d](../../out.md) [e](#here)\n\
                    ```\n[f](code.md)\n```\n[g](/etc/passwd)";
        let problems = links(&[source("docs/guide.md", text)], |path| path == "README.md");
        let found: Vec<_> = problems.iter().map(|problem| (problem.line, problem.message.split('`').nth(1))).collect();
        assert_eq!(
            found,
            [(Some(1), Some("gone.md")), (Some(2), Some("../../out.md")), (Some(6), Some("/etc/passwd"))]
        );
    }

    #[test]
    fn a_crate_without_documentation_is_reported() {
        let sources = [source("a/lib.rs", "//! Purpose.\n"), source("b/lib.rs", "use std::fmt;\n")];
        let problems = crate_docs(&["a/lib.rs".into(), "b/lib.rs".into()], &sources);
        assert_eq!(problems.iter().map(|problem| problem.path.as_str()).collect::<Vec<_>>(), ["b/lib.rs"]);
    }
}

//! `cargo xtask tidy`: the rules of the code base that no compiler checks. Each message says how to fix what it found.
//!
//! Rules are pure functions over the text of the files and over what `cargo metadata` says; reading comes first.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::guests;
use crate::workspace::Workspace;

mod arrows;
mod coverage;
mod documents;
mod manifests;
mod sizes;
mod words;

/// Something to fix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// File or folder, relative to the root.
    path: String,
    line: Option<usize>,
    /// What is wrong, and how to fix it.
    message: String,
}

/// A text file of the repository.
#[derive(Debug)]
struct Source {
    /// Relative to the root, with `/`.
    path: String,
    text: String,
}

/// Names of files and folders that are no part of the sources.
const NOT_SOURCES: [&str; 2] = [".git", "target"];

/// What is read: everything that people write. Keys and modules that tests need are not text.
const EXTENSIONS: [&str; 9] = ["json", "md", "rs", "sh", "toml", "wat", "wit", "yaml", "yml"];

/// Apply all rules.
///
/// # Errors
/// When a file cannot be read. What the rules find is the answer, not an error.
pub fn check(workspace: &Workspace) -> Result<Vec<Problem>> {
    let mut sources = Vec::new();
    read_folder(workspace.root(), "", &mut sources)?;
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    let guests: Vec<_> = guests::list(workspace).into_iter().map(|guest| guest.name).collect();

    let mut problems = arrows::check(&arrows::read(workspace));
    problems.extend(manifests::check(&sources));
    problems.extend(sizes::check(&sources));
    problems.extend(words::check(&sources));
    problems.extend(coverage::check(&guests, &sources));
    problems.extend(documents::crate_docs(&documents::crate_roots(workspace), &sources));
    problems.extend(documents::links(&sources, |path| workspace.root().join(path).exists()));
    Ok(problems)
}

fn read_folder(folder: &Path, prefix: &str, sources: &mut Vec<Source>) -> Result<()> {
    let entries = folder.read_dir().with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if NOT_SOURCES.contains(&name.as_str()) {
            continue;
        }
        let relative = format!("{prefix}{name}");
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if entry.file_type()?.is_dir() {
            read_folder(&path, &format!("{relative}/"), sources)?;
        } else if EXTENSIONS.contains(&extension) {
            // A file that is no UTF-8 is a fixture, and one that is gone was somebody's temporary file.
            sources.extend(fs::read_to_string(&path).ok().map(|text| Source { path: relative, text }));
        }
    }
    Ok(())
}

impl Problem {
    fn new(path: &str, line: Option<usize>, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, message } = self;
        match line {
            Some(line) => write!(f, "{path}:{line}: {message}"),
            None => write!(f, "{path}: {message}"),
        }
    }
}

impl Source {
    /// A file that only tests compile.
    fn is_test(&self) -> bool {
        let mut parts = self.path.split('/');
        parts.any(|part| matches!(part, "tests" | "benches" | "tests.rs"))
    }

    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

#[cfg(test)]
fn source(path: &str, text: &str) -> Source {
    Source { path: path.to_owned(), text: text.to_owned() }
}

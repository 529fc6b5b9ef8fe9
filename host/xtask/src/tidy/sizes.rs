//! Sizes of files. Sizes of functions are clippy's (`too_many_lines`).

use super::{Problem, Source};

/// Lines of a file, its tests not counted.
const MOST_LINES: usize = 500;

pub(super) fn check(sources: &[Source]) -> Vec<Problem> {
    let files = sources.iter().filter(|source| source.is_rust() && !source.is_test());
    files.filter_map(|source| too_long(source, lines_without_tests(&source.text))).collect()
}

fn too_long(source: &Source, lines: usize) -> Option<Problem> {
    let message = format!(
        "{lines} lines without tests, {MOST_LINES} are the most: split it by what changes together \
         (`{}` and a folder of the same name)",
        source.path.rsplit('/').next().unwrap_or_default()
    );
    (lines > MOST_LINES).then(|| Problem::new(&source.path, None, message))
}

/// Everything but `#[cfg(test)] mod … { … }` at the top level. rustfmt puts its closing brace at the start of a line.
fn lines_without_tests(text: &str) -> usize {
    let mut lines = text.lines();
    let mut count = 0;
    while let Some(line) = lines.next() {
        if line != "#[cfg(test)]" {
            count += 1;
        } else if lines.next().is_some_and(|item| item.ends_with('{')) {
            lines.find(|line| *line == "}");
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::super::source;
    use super::*;

    #[test]
    fn tests_do_not_count() {
        let text = "a\n#[cfg(test)]\nmod tests {\n    b\n}\nc\n#[cfg(test)]\nmod more;\nd\n";
        assert_eq!(lines_without_tests(text), 3);
    }

    #[test]
    fn only_long_sources_are_reported() {
        let (long, short) = ("a\n".repeat(501), "a\n".repeat(500));
        let sources = [
            source("host/src/main.rs", &long),
            source("host/tests/all.rs", &long),
            source("host/src/a/tests.rs", &long),
            source("host/src/b.rs", &short),
            source("README.md", &long),
        ];
        let problems = check(&sources);
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].path, "host/src/main.rs");
    }
}

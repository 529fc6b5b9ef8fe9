//! Words that do not belong into what is published.

use super::{Problem, Source};

/// The word and what to do about it. Written in two halves, so that this table does not find itself.
const FORBIDDEN: [(&str, &str); 8] = [
    (concat!("TO", "DO"), "do it now, or leave it out: unfinished work is planned elsewhere"),
    (concat!("FIX", "ME"), "fix it now"),
    (concat!("XX", "X"), "say in words what is meant"),
    (concat!("dbg", "!("), "remove it, or log with tracing"),
    (concat!("to", "do!("), "write it, or leave the function out"),
    (concat!("unimplement", "ed!("), "write it, or leave the function out"),
    (concat!("../sha", "red"), "name only what stands in this repository"),
    (concat!("/wo", "rk/"), "paths are relative to the repository"),
];

pub(super) fn check(sources: &[Source]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for source in sources {
        for (number, line) in source.text.lines().enumerate() {
            let found = FORBIDDEN.iter().filter(|(word, _)| contains_word(line, word));
            problems.extend(found.map(|(word, advice)| {
                let word = word.trim_end_matches('(');
                Problem::new(&source.path, Some(number + 1), format!("`{word}` does not belong here: {advice}"))
            }));
        }
    }
    problems
}

/// Whether the word occurs, and not as a part of a longer one.
fn contains_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        let after = line[start + word.len()..].chars().next();
        let is_part = |neighbour: Option<char>, edge: Option<char>| {
            edge.is_some_and(char::is_alphanumeric) && neighbour.is_some_and(|c| c.is_alphanumeric() || c == '_')
        };
        !is_part(before, word.chars().next()) && !is_part(after, word.chars().next_back())
    })
}

#[cfg(test)]
mod tests {
    use super::super::source;
    use super::*;

    #[test]
    fn every_forbidden_word_is_found_with_its_line() {
        for (word, _) in FORBIDDEN {
            let problems = check(&[source("a.rs", &format!("fine\n// see {word}\n"))]);
            assert_eq!(problems.len(), 1, "{word}");
            assert_eq!(problems[0].line, Some(2));
        }
    }

    #[test]
    fn parts_of_longer_words_are_fine() {
        assert_eq!(check(&[source("a.rs", concat!("MASTO", "DON OTO", "DO_LIST framework/x"))]), []);
    }
}

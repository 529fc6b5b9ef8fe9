//! "Did you mean …?": messages name what is there when something is not.

/// Names less similar than this are no help.
const FAR: f64 = 0.8;

/// Bytes of a name, beyond which it has no neighbour: comparing takes time for each pair of letters, and nobody reads such a name.
const LONGEST: usize = 256;

/// `; did you mean `x`?`, or nothing if no name comes near.
pub fn did_you_mean<'a>(wanted: &str, known: impl Iterator<Item = &'a str>) -> String {
    nearest(wanted, known).map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

/// The known name that comes nearest, the first in alphabetical order among equals.
pub fn nearest<'a>(wanted: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if wanted.len() > LONGEST {
        return None;
    }
    let lower = wanted.to_lowercase();
    known
        .filter(|name| *name != wanted && name.len() <= LONGEST)
        .map(|name| (similarity(&lower, &name.to_lowercase()), name))
        .filter(|(score, _)| *score >= FAR)
        .max_by(|(a, left), (b, right)| a.total_cmp(b).then_with(|| right.cmp(left)))
        .map(|(_, name)| name)
}

/// From 0 to 1. One slip of the finger counts little even in a short name, and a beginning or end that is the whole name counts much.
fn similarity(a: &str, b: &str) -> f64 {
    let slip = if strsim::osa_distance(a, b) == 1 && a.len().max(b.len()) > 2 { 0.9 } else { 0.0 };
    let part = if a.len().min(b.len()) > 3 && (a.ends_with(b) || b.ends_with(a)) { 0.85 } else { 0.0 };
    strsim::jaro_winkler(a, b).max(slip).max(part)
}

/// `a`, `b` and `c`; `none` for nothing.
pub fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    match quoted.as_slice() {
        [] => "none".to_owned(),
        [only] => only.clone(),
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_finds_its_neighbour() {
        assert_eq!(did_you_mean("HttpRoute", ["GRPCRoute", "HTTPRoute"].into_iter()), "; did you mean `HTTPRoute`?");
        assert_eq!(did_you_mean("wbe", ["web"].into_iter()), "; did you mean `web`?");
        assert_eq!(did_you_mean("Prefix", ["Exact", "PathPrefix"].into_iter()), "; did you mean `PathPrefix`?");
        assert_eq!(did_you_mean("web", ["database", "queue"].into_iter()), "");
        assert_eq!(did_you_mean("gone", ["cart", "one-two"].into_iter()), "");
    }

    #[test]
    fn what_nobody_reads_is_not_compared() {
        let long = "x".repeat(1 << 20);
        let longer = format!("{long}y");
        assert_eq!(nearest(&long, [longer.as_str()].into_iter()), None);
        assert_eq!(nearest("x", [longer.as_str()].into_iter()), None);
    }

    #[test]
    fn lists_read_like_sentences() {
        assert_eq!(list([]), "none");
        assert_eq!(list(["a"]), "`a`");
        assert_eq!(list(["a", "b", "c"]), "`a`, `b` and `c`");
    }
}

//! Templates of paths: `/users/{id}/items`, `/static/**`.

use std::str::FromStr;

use super::LONGEST;

/// Fits paths of one shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    segments: Vec<Segment>,
    /// Ends in `**`: whatever follows fits as well, also nothing.
    open: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Named(String),
}

impl Template {
    /// As the configuration has it.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the whole path has this shape; without query. For what lets a request pass. Looks at no more of a path than the template has: a named
    /// segment has at most [`LONGEST`] bytes.
    #[must_use]
    pub fn fits(&self, path: &[u8]) -> bool {
        self.rest(path).is_some_and(|rest| self.open || rest.is_none())
    }

    /// As [`Template::fits`], also with one slash behind it, which many backends do not see. For what limits or refuses a request.
    #[must_use]
    pub fn catches(&self, path: &[u8]) -> bool {
        self.rest(path).is_some_and(|rest| self.open || rest.is_none_or(<[u8]>::is_empty))
    }

    /// What of the path stands behind the slash that follows all segments; there may be no such slash. None: it has not this shape.
    fn rest<'p>(&self, path: &'p [u8]) -> Option<Option<&'p [u8]>> {
        let mut rest = Some(path.strip_prefix(b"/")?);
        for segment in &self.segments {
            rest = match segment.take(rest?)? {
                [] => None,
                [b'/', after @ ..] => Some(after),
                _ => return None,
            };
        }
        Some(rest)
    }

    /// Where the segment of this name stands.
    #[must_use]
    pub fn position(&self, name: &str) -> Option<usize> {
        self.segments.iter().position(|segment| matches!(segment, Segment::Named(known) if known == name))
    }

    /// Names of its segments.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Named(name) => Some(name.as_str()),
            Segment::Literal(_) => None,
        })
    }
}

impl Segment {
    /// What follows the segment in a path that begins with it.
    fn take<'p>(&self, path: &'p [u8]) -> Option<&'p [u8]> {
        match self {
            Self::Literal(literal) => path.strip_prefix(literal.as_bytes()),
            Self::Named(_) => {
                let seen = &path[..path.len().min(LONGEST + 1)];
                let end = memchr::memchr(b'/', seen).unwrap_or(seen.len());
                (1..=LONGEST).contains(&end).then(|| &path[end..])
            }
        }
    }
}

/// The segment of a path at this place; empty if it has fewer.
#[must_use]
pub fn segment(path: &[u8], position: usize) -> &[u8] {
    path.split(|byte| *byte == b'/').nth(position + 1).unwrap_or_default()
}

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix('/') else { return Err(format!("`{text}` does not start with `/`")) };
        let (rest, open) = match rest.strip_suffix("**") {
            Some("") => return Ok(Self { text: text.to_owned(), segments: Vec::new(), open: true }),
            Some(before) => match before.strip_suffix('/') {
                Some(before) => (before, true),
                None => return Err(format!("`{text}`: `**` must be a segment of its own, at the end")),
            },
            None => (rest, false),
        };
        let mut template = Self { text: text.to_owned(), segments: Vec::new(), open };
        for segment in rest.split('/') {
            let segment = parse_segment(segment).map_err(|why| format!("`{text}`: {why}"))?;
            if let Segment::Named(name) = &segment
                && template.position(name).is_some()
            {
                return Err(format!("`{text}`: two segments are named `{name}`"));
            }
            template.segments.push(segment);
        }
        Ok(template)
    }
}

fn parse_segment(text: &str) -> Result<Segment, String> {
    if let Some(name) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if name.is_empty() || !name.chars().all(plain) {
            return Err(format!("`{text}` needs a name of letters, digits, `_` and `-`"));
        }
        return Ok(Segment::Named(name.to_owned()));
    }
    match text.chars().find(|c| matches!(c, '{' | '}' | '*' | '?' | '#')) {
        Some(found) => Err(format!(
            "`{found}` in `{text}` means nothing there: a segment is text or `{{name}}`, the last may be `**`"
        )),
        None => Ok(Segment::Literal(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(template: &str, fits: &[&str], others: &[&str]) {
        let parsed: Template = template.parse().unwrap();
        for path in fits {
            assert!(parsed.fits(path.as_bytes()), "{template} fits {path}");
        }
        for path in others {
            assert!(!parsed.fits(path.as_bytes()), "{template} does not fit {path}");
        }
    }

    #[test]
    fn templates_fit_whole_paths() {
        check("/", &["/"], &["/a", "", "*"]);
        check("/users", &["/users"], &["/users/", "/users/1", "/user"]);
        check("/users/{id}", &["/users/1", "/users/%20"], &["/users", "/users/", "/users/1/", "/users/1/2"]);
        check("/users/{id}/", &["/users/1/"], &["/users/1"]);
        check("/a/**", &["/a", "/a/", "/a/b/c"], &["/ab", "/"]);
        check("/**", &["/", "/a/b"], &["*"]);
        check("/{a}/{b}/**", &["/1/2", "/1/2/3"], &["/1", "//2"]);
        let named = |length: usize| format!("/a/{}", "b".repeat(length));
        check("/a/{b}", &[&named(LONGEST)], &[&named(LONGEST + 1), "/a/", "/a"]);
        check("/a/**", &[&format!("/a/{}", "b".repeat(60_000))], &[]);
    }

    #[test]
    fn a_slash_behind_is_caught() {
        for (template, path, caught) in [
            ("/login", "/login", true),
            ("/login", "/login/", true),
            ("/login", "/login//", false),
            ("/login", "/login/a", false),
            ("/login", "/login-page", false),
            ("/users/{id}", "/users/1/", true),
            ("/users/{id}", "/users/", false),
            ("/users/", "/users", false),
            ("/a/**", "/a/", true),
            ("/", "/", true),
            ("/", "/a", false),
        ] {
            let parsed: Template = template.parse().unwrap();
            assert_eq!(parsed.catches(path.as_bytes()), caught, "{template} and {path}");
        }
    }

    #[test]
    fn segments_are_found_by_name() {
        let template: Template = "/tenants/{tenant}/items/{id}".parse().unwrap();
        assert_eq!(template.position("id"), Some(3));
        assert_eq!(segment(b"/tenants/t1/items/7", 3), b"7");
        assert_eq!(template.names().collect::<Vec<_>>(), ["tenant", "id"]);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, message) in [
            ("users", "`users` does not start with `/`"),
            ("/a**", "`/a**`: `**` must be a segment of its own, at the end"),
            ("/**/a", "`/**/a`: `*` in `**` means nothing there: a segment is text or `{name}`, the last may be `**`"),
            ("/{}", "`/{}`: `{}` needs a name of letters, digits, `_` and `-`"),
            ("/{a}/{a}", "`/{a}/{a}`: two segments are named `a`"),
            ("/a?b", "`/a?b`: `?` in `a?b` means nothing there: a segment is text or `{name}`, the last may be `**`"),
            (
                "/x{a}",
                "`/x{a}`: `{` in `x{a}` means nothing there: a segment is text or `{name}`, the last may be `**`",
            ),
        ] {
            assert_eq!(text.parse::<Template>().unwrap_err(), message);
        }
    }
}

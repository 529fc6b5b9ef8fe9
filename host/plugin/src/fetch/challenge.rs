//! `WWW-Authenticate` as registries send it (RFC 9110 §11.6.1).

/// How a registry wants to be asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// With name and password.
    Basic,
    /// With a token that a server gives out.
    Bearer {
        /// The server's URL.
        realm: String,
        /// What the registry calls itself there.
        service: Option<String>,
    },
}

impl Challenge {
    /// None for schemes that no registry uses.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (scheme, parameters) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service) = (None, None);
        for (name, value) in Parameters(parameters) {
            match name {
                _ if name.eq_ignore_ascii_case("realm") => realm = Some(value),
                _ if name.eq_ignore_ascii_case("service") => service = Some(value),
                _ => {}
            }
        }
        Some(Self::Bearer { realm: realm?, service })
    }
}

/// `name=value, name="quoted \"value\""`.
struct Parameters<'a>(&'a str);

impl<'a> Iterator for Parameters<'a> {
    type Item = (&'a str, String);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, rest) = self.0.trim_start_matches([' ', ',', '\t']).split_once('=')?;
        let Some(quoted) = rest.strip_prefix('"') else {
            let (value, rest) = rest.split_once(',').unwrap_or((rest, ""));
            self.0 = rest;
            return Some((name.trim(), value.trim().to_owned()));
        };
        let (mut value, mut escaped) = (String::new(), false);
        for (at, letter) in quoted.char_indices() {
            match letter {
                _ if escaped => {
                    value.push(letter);
                    escaped = false;
                }
                '\\' => escaped = true,
                '"' => {
                    self.0 = &quoted[at + 1..];
                    return Some((name.trim(), value));
                }
                _ => value.push(letter),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer { realm: realm.into(), service: service.map(Into::into) })
        };
        let check = |text: &str, expected: Option<Challenge>| assert_eq!(Challenge::parse(text), expected, "{text}");
        check("Basic realm=\"x\"", Some(Challenge::Basic));
        check("basic", Some(Challenge::Basic));
        check(
            r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a:pull,push""#,
            bearer("https://auth.example/token", Some("registry.example")),
        );
        check(r#"bearer Service=s, Realm="a\"b, c""#, bearer("a\"b, c", Some("s")));
        check("Bearer service=s", None);
        check(r#"Bearer realm="never ends"#, None);
        check("Negotiate abc", None);
        check("", None);
    }
}

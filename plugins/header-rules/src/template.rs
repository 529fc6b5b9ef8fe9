//! Values with variables.

use std::borrow::Cow;

use penstock_plugin::{
    Direction,
    extract::{
        pattern::{Groups, Pattern},
        target::split,
    },
    header::{self, InvalidName},
    nearest,
};

use crate::{
    compile::canonical,
    pass::{Message, Pass, Place},
};

/// A value, ready to be made.
#[derive(Debug, Default)]
pub(crate) struct Template(Vec<Part>);

#[derive(Debug, PartialEq)]
enum Part {
    Text(Vec<u8>),
    Capture(usize),
    Variable { variable: Variable, default: Option<Vec<u8>> },
}

#[derive(Debug, PartialEq)]
enum Variable {
    Status,
    Field { place: Place, half: Half },
}

/// What of a field's value is meant.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Half {
    Whole,
    Path,
    Query,
}

/// What the names in a template can mean.
pub(crate) trait Scope {
    /// The direction of the message that the template is for.
    fn direction(&self) -> Direction;
    /// Where to find a header or pseudo-header of a message. None: the message is not there yet.
    fn place(&mut self, message: Direction, name: &str) -> Option<Place>;
}

const VARIABLES: [&str; 9] = [
    "request.method",
    "request.scheme",
    "request.authority",
    "request.path",
    "request.query",
    "request.header.",
    "response.status",
    "response.header.",
    "client.address",
];

impl Template {
    /// Understands `text`. Groups of `pattern` can be named as well.
    ///
    /// # Errors
    /// A sentence on what is wrong.
    pub(crate) fn parse(text: &str, pattern: Option<&Pattern>, scope: &mut impl Scope) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(dollar) = rest.find('$') {
            literal.push_str(&rest[..dollar]);
            let (token, after) = tokenize(&rest[dollar..], pattern.is_some())?;
            rest = after;
            match token {
                Token::Literal(text) => literal.push_str(text),
                Token::Reference(reference) => {
                    push_text(&mut parts, &mut literal);
                    parts.push(resolve(reference, pattern, scope)?);
                }
            }
        }
        literal.push_str(rest);
        push_text(&mut parts, &mut literal);
        Ok(Self(parts))
    }

    /// The value, if it is the same for every exchange.
    pub(crate) fn fixed(&self) -> Option<&[u8]> {
        match self.0.as_slice() {
            [] => Some(&[]),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The value for this exchange. None: a variable without default is absent.
    pub(crate) fn expand<M: Message>(&self, pass: &Pass<M>) -> Option<Vec<u8>> {
        if let Some(value) = self.fixed() {
            return Some(value.to_vec());
        }
        let mut value = Vec::with_capacity(64);
        self.expand_into(&mut value, pass, None)?;
        Some(value)
    }

    /// As [`Template::expand`], behind what is there, with the groups of a match.
    pub(crate) fn expand_into<M: Message>(
        &self,
        value: &mut Vec<u8>,
        pass: &Pass<M>,
        groups: Option<&Groups>,
    ) -> Option<()> {
        for part in &self.0 {
            match part {
                Part::Text(text) => value.extend_from_slice(text),
                Part::Capture(group) => {
                    if let Some(groups) = groups {
                        groups.push(*group, value);
                    }
                }
                Part::Variable { variable: Variable::Status, .. } => {
                    value.extend_from_slice(pass.status().to_string().as_bytes());
                }
                Part::Variable { variable: Variable::Field { place, half }, default } => {
                    let values = pass.values(*place);
                    let found = values.joined().and_then(|found| half.of(found));
                    value.extend_from_slice(found.as_deref().or(default.as_deref())?);
                }
            }
            // Every part, and in a rewrite every match, may bring a whole header along.
            if !pass.has_room(value.len()) {
                return None;
            }
        }
        Some(())
    }

    /// The parts that are there whatever the exchange holds.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().filter_map(|part| match part {
            Part::Text(text) => Some(text.as_slice()),
            Part::Variable { default, .. } => default.as_deref(),
            Part::Capture(_) => None,
        })
    }
}

impl Half {
    fn of(self, value: Cow<'_, [u8]>) -> Option<Cow<'_, [u8]>> {
        match (self, value) {
            (Self::Whole, value) => Some(value),
            (Self::Path, Cow::Borrowed(target)) => Some(split(target).0.into()),
            (Self::Path, Cow::Owned(target)) => Some(split(&target).0.to_vec().into()),
            (Self::Query, Cow::Borrowed(target)) => split(target).1.map(Into::into),
            (Self::Query, Cow::Owned(target)) => split(&target).1.map(|query| query.to_vec().into()),
        }
    }
}

/// What follows a dollar sign.
enum Token<'t> {
    Literal(&'t str),
    /// The inside of `${…}`, or the digits of `$1`.
    Reference(&'t str),
}

/// Takes what begins with the dollar sign of `text`, and answers what is left.
fn tokenize(text: &str, groups: bool) -> Result<(Token<'_>, &str), String> {
    let after = &text[1..];
    if let Some(inside) = after.strip_prefix('{') {
        let Some(end) = inside.find('}') else {
            return Err("`${` has no `}`: close it, or write `$$` for a dollar sign".to_owned());
        };
        return Ok((Token::Reference(&inside[..end]), &inside[end + 1..]));
    }
    if let Some(after) = after.strip_prefix('$') {
        return Ok((Token::Literal("$"), after));
    }
    let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    if groups && digits > 0 {
        return Ok((Token::Reference(&after[..digits]), &after[digits..]));
    }
    Ok((Token::Literal("$"), after))
}

fn push_text(parts: &mut Vec<Part>, literal: &mut String) {
    if !literal.is_empty() {
        parts.push(Part::Text(std::mem::take(literal).into_bytes()));
    }
}

fn resolve(reference: &str, pattern: Option<&Pattern>, scope: &mut impl Scope) -> Result<Part, String> {
    if let Some(group) = pattern.and_then(|pattern| group(reference, pattern)) {
        return group.map(Part::Capture);
    }
    let (name, default) = match reference.split_once(":-") {
        Some((name, default)) => (name, Some(default.as_bytes().to_vec())),
        None => (reference, None),
    };
    let variable = variable(name, scope)?.ok_or_else(|| unknown(name, pattern))?;
    Ok(Part::Variable { variable, default })
}

/// The group of the pattern that is meant, if it is one.
fn group(reference: &str, pattern: &Pattern) -> Option<Result<usize, String>> {
    if let Ok(index) = reference.parse::<usize>() {
        let groups = pattern.groups();
        return Some(if index < groups {
            Ok(index)
        } else {
            Err(format!("`${index}` is no group of the pattern, whose last one is `${}`", groups - 1))
        });
    }
    pattern.group_names().position(|name| name == Some(reference)).map(Ok)
}

fn variable(name: &str, scope: &mut impl Scope) -> Result<Option<Variable>, String> {
    let (message, field, half) = match name {
        "request.method" => (Direction::Request, ":method", Half::Whole),
        "request.scheme" => (Direction::Request, ":scheme", Half::Whole),
        "request.authority" => (Direction::Request, ":authority", Half::Whole),
        "request.path" => (Direction::Request, ":path", Half::Path),
        "request.query" => (Direction::Request, ":path", Half::Query),
        "client.address" => (Direction::Request, ":client-address", Half::Whole),
        "response.status" => (Direction::Response, ":status", Half::Whole),
        _ => match (name.strip_prefix("request.header."), name.strip_prefix("response.header.")) {
            (Some(field), _) => (Direction::Request, field, Half::Whole),
            (_, Some(field)) => (Direction::Response, field, Half::Whole),
            (None, None) => return Ok(None),
        },
    };
    let early = || format!("`{name}` is not known yet while the request is on its way: use it under `response`");
    if name == "response.status" {
        let known = scope.direction() == Direction::Response;
        return if known { Ok(Some(Variable::Status)) } else { Err(early()) };
    }
    if name.contains(".header.") {
        header::check_read(&field.to_ascii_lowercase())
            .and_then(|()| if field.starts_with(':') { Err(InvalidName::NotAToken) } else { Ok(()) })
            .map_err(|reason| format!("`{field}` in `{name}` {reason}"))?;
    }
    let place = scope.place(message, &canonical(field, message)).ok_or_else(early)?;
    Ok(Some(Variable::Field { place, half }))
}

fn unknown(name: &str, pattern: Option<&Pattern>) -> String {
    let groups = pattern.into_iter().flat_map(|pattern| pattern.group_names().flatten());
    let candidates: Vec<_> = VARIABLES.into_iter().chain(groups).collect();
    // The header's own name must not count when its variable is misspelt.
    let head = name.match_indices('.').nth(1).map_or(name, |(dot, _)| &name[..=dot]);
    match nearest(head, candidates.iter().copied()) {
        Some(near) if near.ends_with('.') => format!("`{name}` is no variable: did you mean `{near}<name>`?"),
        Some(near) => format!("`{name}` is no variable: did you mean `{near}`?"),
        None => format!("`{name}` is no variable; there are {}", list(&candidates)),
    }
}

fn list(names: &[&str]) -> String {
    let quoted: Vec<_> = names
        .iter()
        .map(|name| if name.ends_with('.') { format!("`{name}<name>`") } else { format!("`{name}`") })
        .collect();
    quoted.join(", ")
}

//! Changes to headers.

use std::collections::BTreeMap;

use penstock_plugin::{
    Direction, Pointer,
    header::{check_value, check_write},
};

use super::{Compiler, canonical};
use crate::{
    config::{OneOrMany, Operations, ResponseOperations, Rewrite},
    operation::{Guard, Operation},
    template::Template,
};

/// The changes of one direction, as both kinds of section have them.
pub(super) struct Changes<'c> {
    rename: &'c BTreeMap<String, String>,
    rewrite: &'c [Rewrite],
    set: &'c BTreeMap<String, String>,
    append: &'c BTreeMap<String, OneOrMany>,
    remove: &'c [String],
}

impl<'c> From<&'c Operations> for Changes<'c> {
    fn from(changes: &'c Operations) -> Self {
        let Operations { rename, rewrite, set, append, remove } = changes;
        Self { rename, rewrite, set, append, remove }
    }
}

impl<'c> From<&'c ResponseOperations> for Changes<'c> {
    fn from(changes: &'c ResponseOperations) -> Self {
        let ResponseOperations { when: _, rename, rewrite, set, append, remove } = changes;
        Self { rename, rewrite, set, append, remove }
    }
}

/// What one section does to a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    RenameFrom,
    RenameTo,
    Rewrite,
    Set,
    Append,
    Remove,
}

impl Verb {
    fn done(self) -> &'static str {
        match self {
            Self::RenameFrom => "renamed",
            Self::RenameTo => "the new name of another header",
            Self::Rewrite => "rewritten",
            Self::Set => "set",
            Self::Append => "appended to",
            Self::Remove => "removed",
        }
    }

    /// Whether `self` and then `later` in one section mean something that cannot be misread.
    fn goes_with(self, later: Self) -> bool {
        use Verb::{Append, RenameFrom, RenameTo, Rewrite, Set};
        matches!(
            (self, later),
            (RenameFrom, Set | Append) | (RenameTo, Rewrite | Append) | (Rewrite, Rewrite | Append) | (Set, Append)
        )
    }
}

/// One section while it is compiled.
struct Section {
    direction: Direction,
    /// What has been done so far to which names.
    done: Vec<(String, Verb)>,
}

impl Compiler {
    pub(super) fn operations(&mut self, changes: &Changes, direction: Direction, at: &Pointer) -> Vec<Operation> {
        let mut section = Section { direction, done: Vec::new() };
        let mut operations = Vec::new();
        for (from, to) in changes.rename {
            operations.extend(self.rename(from, to, &mut section, &at.at("rename").at(from)));
        }
        for (index, rewrite) in changes.rewrite.iter().enumerate() {
            operations.extend(self.rewrite(rewrite, &mut section, &at.at("rewrite").at(index)));
        }
        for (name, value) in changes.set {
            operations.extend(self.set(name, value, &mut section, &at.at("set").at(name)));
        }
        for (name, values) in changes.append {
            self.append(name, values, &mut section, &at.at("append").at(name), &mut operations);
        }
        for (index, name) in changes.remove.iter().enumerate() {
            operations.extend(self.remove(name, &mut section, &at.at("remove").at(index)));
        }
        if section.done.is_empty() {
            self.problem(at, "the section changes nothing: add `rename`, `rewrite`, `set`, `append` or `remove`");
        }
        operations
    }

    fn rename(&mut self, from: &str, to: &str, section: &mut Section, at: &Pointer) -> Option<Operation> {
        let from = self.name(from, Verb::RenameFrom, section, at);
        let to = self.name(to, Verb::RenameTo, section, at);
        let (from, to) = (from?, to?);
        let slots = self.slots(section.direction);
        slots.read(&from);
        Some(Operation::Rename { from: slots.write(&from), to: slots.write(&to) })
    }

    fn rewrite(&mut self, rewrite: &Rewrite, section: &mut Section, at: &Pointer) -> Option<Operation> {
        let name = self.name(&rewrite.name, Verb::Rewrite, section, &at.at("name"));
        let pattern = self.pattern(&rewrite.pattern, &at.at("pattern"))?;
        let name = name?;
        self.slots(section.direction).read(&name);
        let replacement = Template::parse(&rewrite.replacement, Some(&pattern), &mut self.scope(section.direction));
        let replacement = self.template(replacement, &at.at("replacement"))?;
        let slot = self.slots(section.direction).write(&name);
        Some(Operation::Rewrite { slot, pattern, replacement, guard: guard(&name) })
    }

    fn set(&mut self, name: &str, value: &str, section: &mut Section, at: &Pointer) -> Option<Operation> {
        let name = self.name(name, Verb::Set, section, at);
        let value = self.value(value, section.direction, at);
        let (name, value) = (name?, value?);
        if let Some(Err(reason)) = value.fixed().map(|fixed| check_value(&name, fixed)) {
            self.problem(at, format!("the value of `{name}` {reason}"));
        }
        let guard = if value.fixed().is_some() { None } else { guard(&name) };
        Some(Operation::Set { slot: self.slots(section.direction).write(&name), value, guard })
    }

    fn append(
        &mut self,
        name: &str,
        OneOrMany(values): &OneOrMany,
        section: &mut Section,
        at: &Pointer,
        operations: &mut Vec<Operation>,
    ) {
        let name = self.name(name, Verb::Append, section, at);
        if values.is_empty() {
            self.problem(at, "there is no value to append: add one, or remove the entry");
        }
        for (index, value) in values.iter().enumerate() {
            let at = if values.len() == 1 { at.clone() } else { at.at(index) };
            let value = self.value(value, section.direction, &at);
            if let (Some(name), Some(value)) = (&name, value) {
                operations.push(Operation::Append { slot: self.slots(section.direction).write(name), value });
            }
        }
    }

    fn remove(&mut self, name: &str, section: &mut Section, at: &Pointer) -> Option<Operation> {
        let name = self.name(name, Verb::Remove, section, at)?;
        Some(Operation::Remove { slot: self.slots(section.direction).write(&name) })
    }

    /// The name, if the gateway lets it be changed so and nothing else in the section contradicts.
    fn name(&mut self, name: &str, verb: Verb, section: &mut Section, at: &Pointer) -> Option<String> {
        let name = canonical(name, section.direction).into_owned();
        let before = section.done.iter().filter(|(known, _)| *known == name).map(|(_, verb)| *verb);
        let clash = before.into_iter().find(|before| !before.goes_with(verb));
        section.done.push((name.clone(), verb));
        if let Some(before) = clash {
            let what = if before == verb {
                format!("`{name}` is {} twice: keep one", verb.done())
            } else {
                format!("`{name}` is {} and {} in one section: keep one, or use two rules", before.done(), verb.done())
            };
            self.problem(at, what);
            return None;
        }
        let checked = match (name.as_str(), section.direction, verb) {
            (":authority" | ":path", Direction::Request, Verb::Set | Verb::Rewrite) => Ok(()),
            (":authority" | ":path", Direction::Request, _) => Err("can only be set or rewritten".to_owned()),
            (pseudo, ..) if pseudo.starts_with(':') => {
                Err("cannot be changed: of the pseudo-headers only `:path` and `:authority` (`host`) of requests can"
                    .to_owned())
            }
            (name, direction, _) => check_write(name, direction).map_err(|reason| reason.to_string()),
        };
        match checked {
            Ok(()) => Some(name),
            Err(reason) => {
                self.problem(at, format!("`{name}` {reason}"));
                None
            }
        }
    }

    fn value(&mut self, text: &str, direction: Direction, at: &Pointer) -> Option<Template> {
        let template = Template::parse(text, None, &mut self.scope(direction));
        self.template(template, at)
    }

    fn template(&mut self, parsed: Result<Template, String>, at: &Pointer) -> Option<Template> {
        let template = parsed.map_err(|message| self.problem(at, message)).ok()?;
        // Any ordinary name will do: values of pseudo-headers are checked where they are set.
        let wrong = template.texts().find_map(|text| check_value("x", text).err());
        match wrong {
            Some(reason) => {
                self.problem(at, format!("the value {reason}"));
                None
            }
            None => Some(template),
        }
    }
}

fn guard(name: &str) -> Option<Guard> {
    match name {
        ":path" => Some(Guard(":path")),
        ":authority" => Some(Guard(":authority")),
        _ => None,
    }
}

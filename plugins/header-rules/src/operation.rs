//! Changes, ready to be made.

use penstock_plugin::{
    extract::pattern::{Groups, Pattern},
    header::check_value,
};

use crate::{
    pass::{Message, Pass, Place},
    slot::Slot,
    template::Template,
};

/// One change to a message.
#[derive(Debug)]
pub(crate) enum Operation {
    Rename { from: Slot, to: Slot },
    Rewrite { slot: Slot, pattern: Pattern, replacement: Template, guard: Option<Guard> },
    Set { slot: Slot, value: Template, guard: Option<Guard> },
    Append { slot: Slot, value: Template },
    Remove { slot: Slot },
}

/// A pseudo-header has a grammar, which a value made of variables may miss. Such a value is not set: the request goes on as it is rather
/// than not at all.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guard(pub(crate) &'static str);

impl Operation {
    pub(crate) fn apply<M: Message>(&self, pass: &mut Pass<M>) {
        if pass.is_spent() {
            return;
        }
        match self {
            Self::Rename { from, to } => {
                let values: Vec<_> = pass.values(Place::Own(*from)).iter().map(<[u8]>::to_vec).collect();
                if !values.is_empty() {
                    pass.remove(*from);
                    pass.replace(*to, values);
                }
            }
            Self::Rewrite { slot, pattern, replacement, guard } => {
                if let Some(values) = rewrite(pass, *slot, pattern, replacement)
                    && values.iter().all(|value| allowed(*guard, value))
                {
                    pass.replace(*slot, values);
                }
            }
            Self::Set { slot, value, guard } => {
                if let Some(value) = value.expand(pass).filter(|value| allowed(*guard, value)) {
                    pass.set(*slot, value);
                }
            }
            Self::Append { slot, value } => {
                if let Some(value) = value.expand(pass) {
                    pass.append(*slot, value);
                }
            }
            Self::Remove { slot } => pass.remove(*slot),
        }
    }
}

fn allowed(guard: Option<Guard>, value: &[u8]) -> bool {
    guard.is_none_or(|Guard(name)| check_value(name, value).is_ok())
}

/// All values of the header, if one of them changes.
fn rewrite<M: Message>(pass: &Pass<M>, slot: Slot, pattern: &Pattern, replacement: &Template) -> Option<Vec<Vec<u8>>> {
    let values = pass.values(Place::Own(slot));
    let mut found = false;
    let rewritten = values.iter().map(|value| {
        let expand = |output: &mut Vec<u8>, groups: &Groups| replacement.expand_into(output, pass, Some(groups));
        let rewritten = pattern.replace(value, pass.effort(), expand);
        found |= rewritten.is_some();
        rewritten.unwrap_or_else(|| value.to_vec())
    });
    let rewritten = rewritten.collect();
    found.then_some(rewritten)
}

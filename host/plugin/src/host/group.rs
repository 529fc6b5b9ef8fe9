//! Activation groups: all of a group switch, or none.
//!
//! A group is every plugin of a namespace that names it. Its members' candidates wait when they are ready; once no member is on its way,
//! refused or unspecified, all that wait switch in one message, so in one snapshot. A member without a candidate is where it should be
//! and holds nobody back.

use penstock_core::{
    ResourceRef,
    plugin::{ActivationGroup, Awaited, Hold},
};

/// Where a member stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// What should serve does.
    Settled,
    /// It could switch.
    Ready,
    /// It cannot yet, or not at all.
    Held(Hold),
}

/// Who is to be considered together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Circle {
    /// A plugin of no group.
    Alone(ResourceRef),
    /// Of this namespace, with this name.
    Group(std::sync::Arc<str>, std::sync::Arc<str>),
}

impl Circle {
    pub(super) fn of(plugin: &ResourceRef, group: Option<&ActivationGroup>) -> Self {
        match group {
            Some(group) => Self::Group(plugin.namespace.clone(), group.name.clone()),
            None => Self::Alone(plugin.clone()),
        }
    }
}

/// For whom the ready members wait; for nobody: they switch. Sorted, so that the same answer is the same status.
pub(super) fn awaited<'a>(members: impl IntoIterator<Item = (&'a ResourceRef, Standing)>) -> Vec<Awaited> {
    let held = |(plugin, standing): (&ResourceRef, Standing)| match standing {
        Standing::Held(because) => Some(Awaited { plugin: plugin.clone(), because }),
        Standing::Settled | Standing::Ready => None,
    };
    let mut awaited: Vec<Awaited> = members.into_iter().filter_map(held).collect();
    awaited.sort();
    awaited.dedup_by(|a, b| a.plugin == b.plugin);
    awaited
}

#[cfg(test)]
mod tests {
    use penstock_core::Kind;

    use super::*;

    #[track_caller]
    fn check(members: &[(&str, Standing)], expected: &[(&str, Hold)]) {
        let id = |name: &&str| ResourceRef::new(Kind::WasmPlugin, "default", *name);
        let members: Vec<_> = members.iter().map(|(name, standing)| (id(name), *standing)).collect();
        let awaited = awaited(members.iter().map(|(plugin, standing)| (plugin, *standing)));
        let expected: Vec<_> =
            expected.iter().map(|(name, because)| Awaited { plugin: id(name), because: *because }).collect();
        assert_eq!(awaited, expected);
    }

    #[test]
    fn a_group_waits_for_whoever_is_neither_ready_nor_settled() {
        use Standing::{Held, Ready, Settled};
        check(&[("a", Ready)], &[]);
        check(&[("a", Ready), ("b", Settled)], &[]);
        check(&[("a", Ready), ("b", Held(Hold::Pending))], &[("b", Hold::Pending)]);
        check(
            &[("c", Held(Hold::Rejected)), ("a", Ready), ("b", Held(Hold::Unspecified)), ("b", Settled)],
            &[("b", Hold::Unspecified), ("c", Hold::Rejected)],
        );
    }
}

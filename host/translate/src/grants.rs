//! References that cross namespaces need a ReferenceGrant where they point to.

use penstock_core::Kind;

use crate::{Table, resources::ReferenceGrant};

/// One end of a reference.
#[derive(Clone, Copy)]
pub(crate) struct End<'a> {
    pub(crate) group: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) namespace: &'a str,
}

/// Whether `from` may refer to the object `name` at `to`. Within one namespace always.
pub(crate) fn permitted(grants: &Table<ReferenceGrant>, from: End<'_>, to: End<'_>, name: &str) -> bool {
    from.namespace == to.namespace
        || grants.in_namespace(Kind::ReferenceGrant, to.namespace).any(|(_, grant)| {
            let sources = &grant.spec.from;
            let targets = &grant.spec.to;
            sources.iter().any(|it| it.group == from.group && it.kind == from.kind && it.namespace == from.namespace)
                && targets.iter().any(|it| {
                    it.group == to.group
                        && it.kind == to.kind
                        && it.name.as_deref().is_none_or(|granted| granted.is_empty() || granted == name)
                })
        })
}

/// What to do about a reference that is not granted.
pub(crate) fn advice(from: End<'_>, to: End<'_>, name: &str) -> String {
    format!(
        "is in namespace `{}`, and no ReferenceGrant there lets {}s of namespace `{}` refer to {} `{name}`",
        to.namespace, from.kind, from.namespace, to.kind
    )
}

//! The crate graph is the architecture: which crate may know which.

use cargo_metadata::DependencyKind;

use super::Problem;
use crate::workspace::Workspace;

/// One dependency of a member.
#[derive(Debug)]
pub(super) struct Arrow {
    /// Folder of the member, relative to the root.
    from: String,
    /// Name of the package it depends on.
    to: String,
    /// Whether `to` is a member too.
    is_member: bool,
    /// Whether only tests and benches see it.
    is_dev: bool,
}

/// What each member may depend on among the members. Folders that end in `/` stand for all below them.
const MEMBERS: [(&str, &[&str]); 12] = [
    ("host/core", &[]),
    ("host/translate", &["penstock-core"]),
    ("host/controller", &["penstock-translate", "penstock-core"]),
    ("host/plugin", &["penstock-core"]),
    ("host/proxy", &["penstock-core"]),
    (
        "host",
        &[
            "penstock-core",
            "penstock-translate",
            "penstock-controller",
            "penstock-plugin-host",
            "penstock-proxy",
            "penstock-component",
        ],
    ),
    ("host/component", &[]),
    ("guest-sdk", &[]),
    ("plugins/", &["penstock-plugin"]),
    ("host/testing/guests/", &["penstock-plugin"]),
    ("host/testing", &["xtask"]),
    ("host/xtask", &["penstock-component"]),
];

/// Crates from outside that belong to some members alone, and why.
const CAGED: [(&str, &[&str], &str); 8] = [
    ("wasmtime", &["host/plugin"], "everyone else reaches plugins through the trait of penstock-core"),
    ("wasmtime-wasi", &["host/plugin"], "everyone else reaches plugins through the trait of penstock-core"),
    (
        "hyper",
        &["host/proxy", "host/plugin", "host", "host/testing"],
        "HTTP is served by the proxy and by the binary's admin address, and spoken to registries by the plugin host",
    ),
    ("kube", &["host/controller"], "the controller is the only Kubernetes client"),
    ("k8s-openapi", &["host/translate", "host/controller"], "only they look into Kubernetes types"),
    ("tokio", &["host/controller", "host/plugin", "host/proxy", "host", "host/testing"], "core and translate are pure"),
    ("anyhow", &["host", "host/xtask"], "libraries have error enums of their own (thiserror)"),
    ("wit-component", &["host/component"], "components are made in one place, for xtask and the binary alike"),
];

/// All dependencies of all members.
pub(super) fn read(workspace: &Workspace) -> Vec<Arrow> {
    let members: Vec<_> = workspace.packages().iter().map(|package| package.name.to_string()).collect();
    let mut arrows = Vec::new();
    for package in workspace.packages() {
        arrows.extend(package.dependencies.iter().map(|dependency| Arrow {
            from: workspace.folder(package).to_owned(),
            to: dependency.name.clone(),
            is_member: members.contains(&dependency.name),
            is_dev: dependency.kind == DependencyKind::Development,
        }));
    }
    arrows
}

pub(super) fn check(arrows: &[Arrow]) -> Vec<Problem> {
    arrows.iter().filter_map(|arrow| if arrow.is_member { check_member(arrow) } else { check_outside(arrow) }).collect()
}

fn check_member(arrow: &Arrow) -> Option<Problem> {
    let Arrow { from, to, .. } = arrow;
    // Tests may use what tests share, except in guests, whose tests run natively and need the SDK alone.
    let is_shared_testing = to == "penstock-testing" && from.starts_with("host") && !from.starts_with("host/testing");
    if arrow.is_dev && is_shared_testing {
        return None;
    }
    let manifest = format!("{from}/Cargo.toml");
    let Some((_, allowed)) = MEMBERS.iter().find(|(folder, _)| covers(folder, from)) else {
        let message = "this member has no place in the crate graph: put it under a folder that ARCHITECTURE.md names, \
                       or give it a row in host/xtask/src/tidy/arrows.rs";
        return Some(Problem::new(&manifest, None, message));
    };
    let message = format!(
        "must not depend on {to} (allowed: {}): move the shared type to penstock-core, or pass the value through the binary",
        if allowed.is_empty() { "no member".to_owned() } else { allowed.join(", ") }
    );
    (!allowed.contains(&to.as_str())).then(|| Problem::new(&manifest, None, message))
}

fn check_outside(arrow: &Arrow) -> Option<Problem> {
    let (_, homes, reason) = CAGED.iter().find(|(name, _, _)| *name == arrow.to)?;
    if homes.contains(&arrow.from.as_str()) || (arrow.is_dev && arrow.to != "wasmtime") {
        return None;
    }
    let message = format!("must not depend on {} (only {} may): {reason}", arrow.to, homes.join(", "));
    Some(Problem::new(&format!("{}/Cargo.toml", arrow.from), None, message))
}

fn covers(folder: &str, member: &str) -> bool {
    member == folder || (folder.ends_with('/') && member.starts_with(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrow(from: &str, to: &str) -> Arrow {
        Arrow { from: from.into(), to: to.into(), is_member: to.starts_with("penstock"), is_dev: false }
    }

    #[test]
    fn only_the_arrows_of_the_architecture_are_allowed() {
        let table = [
            ("host/proxy", "penstock-core", true),
            ("host/proxy", "penstock-plugin-host", false),
            ("host/core", "penstock-translate", false),
            ("host/controller", "penstock-translate", true),
            ("host", "penstock-proxy", true),
            ("plugins/header-rules", "penstock-plugin", true),
            ("plugins/header-rules", "penstock-core", false),
            ("host/testing/guests/trap", "penstock-plugin", true),
            ("host/translate", "penstock-testing", false),
            ("elsewhere", "penstock-core", false),
            ("host/plugin", "wasmtime", true),
            ("host", "wasmtime", false),
            ("host/core", "tokio", false),
            ("host/proxy", "hyper", true),
            ("host/controller", "hyper", false),
            ("host/core", "serde", true),
        ];
        for (from, to, allowed) in table {
            assert_eq!(check(&[arrow(from, to)]).is_empty(), allowed, "{from} -> {to}");
        }
    }

    #[test]
    fn tests_may_use_the_shared_test_crate_and_nothing_more() {
        let dev = |from, to| Arrow { is_dev: true, ..arrow(from, to) };
        assert_eq!(check(&[dev("host/translate", "penstock-testing")]), []);
        assert_eq!(check(&[dev("host/core", "tokio")]), []);
        assert_eq!(check(&[dev("plugins/header-rules", "penstock-testing")]).len(), 1);
        assert_eq!(check(&[dev("host/proxy", "penstock-plugin-host")]).len(), 1);
        assert_eq!(check(&[dev("host/proxy", "wasmtime")]).len(), 1);
    }
}

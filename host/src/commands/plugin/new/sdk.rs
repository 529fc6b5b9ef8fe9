//! Where the crate `penstock-plugin` comes from, and the copy of it that this program carries.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

/// The folder in a project that has the copy.
const COPY: &str = "penstock-sdk";

/// Paths below the root of the checkout, and contents.
const FILES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/sdk_files.rs"));
const MANIFEST: &str = include_str!("../../../../../guest-sdk/Cargo.toml");
const WORKSPACE: &str = include_str!("../../../../../Cargo.toml");

/// Where the crate `penstock-plugin` comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sdk {
    /// A folder that was named.
    Folder(PathBuf),
    /// The checkout that this program was built from.
    Checkout(PathBuf),
    /// What this program carries.
    Copy,
    /// A version in the registry.
    Registry(String),
}

impl Sdk {
    pub(super) fn find(argument: Option<&str>) -> anyhow::Result<Self> {
        match argument {
            Some("copy") => Ok(Self::Copy),
            Some(version) if version.starts_with(|c: char| c.is_ascii_digit()) && !Path::new(version).is_dir() => {
                Ok(Self::Registry(version.to_owned()))
            }
            Some(folder) => {
                let folder = fs::canonicalize(folder).with_context(|| format!("--sdk: there is no folder {folder}"))?;
                match [folder.clone(), folder.join("guest-sdk")].into_iter().find(|folder| is_sdk(folder)) {
                    Some(folder) => Ok(Self::Folder(folder)),
                    None => bail!("--sdk: {} holds no crate `penstock-plugin`", folder.display()),
                }
            }
            None => Ok(Self::default_of(Path::new(env!("CARGO_MANIFEST_DIR")))),
        }
    }

    /// `manifest` is where the package of this program stood when it was built.
    fn default_of(manifest: &Path) -> Self {
        let folder = manifest.parent().map(|root| root.join("guest-sdk")).filter(|folder| is_sdk(folder));
        folder.map_or(Self::Copy, Self::Checkout)
    }

    /// The right side of the dependency in Cargo.toml.
    pub(super) fn dependency(&self) -> String {
        match self {
            Self::Folder(folder) | Self::Checkout(folder) => format!("{{ path = {:?} }}", folder.display().to_string()),
            Self::Copy => format!("{{ path = \"{COPY}/guest-sdk\" }}"),
            Self::Registry(version) => format!("{version:?}"),
        }
    }

    pub(super) fn what(&self) -> String {
        match self {
            Self::Folder(folder) => format!("the SDK in {}", folder.display()),
            Self::Checkout(folder) => {
                format!(
                    "the SDK in {}, the checkout that this penstock was built from (another: --sdk)",
                    folder.display()
                )
            }
            Self::Copy => format!("the SDK of this penstock, in {COPY} (another: --sdk)"),
            Self::Registry(version) => format!("penstock-plugin {version} from crates.io (a folder: --sdk FOLDER)"),
        }
    }

    /// What has to stand in the project for it: paths and contents.
    pub(super) fn files(&self) -> Vec<(String, String)> {
        if *self != Self::Copy {
            return Vec::new();
        }
        let files = FILES.iter().map(|(path, text)| (format!("{COPY}/{path}"), (*text).to_owned()));
        files.chain([(format!("{COPY}/guest-sdk/Cargo.toml"), standing_alone(MANIFEST, WORKSPACE))]).collect()
    }
}

fn is_sdk(folder: &Path) -> bool {
    fs::read_to_string(folder.join("Cargo.toml")).is_ok_and(|text| text.contains("name = \"penstock-plugin\""))
}

/// A manifest with what it inherits from its workspace written out. What only the workspace needs is left out: lints, examples.
fn standing_alone(manifest: &str, workspace: &str) -> String {
    let mut lines = Vec::new();
    let mut section = "";
    for line in manifest.lines() {
        section = table(line).unwrap_or(section);
        if !matches!(section, "package" | "dependencies") {
            continue;
        }
        lines.push(match line.split_once(".workspace = true") {
            Some((key, _)) => inherited(workspace, &format!("workspace.{section}"), key).unwrap_or(line),
            None => line,
        });
    }
    lines.join("\n") + "\n"
}

/// The line of a table that gives `key` its value.
fn inherited<'w>(manifest: &'w str, wanted: &str, key: &str) -> Option<&'w str> {
    let lines = manifest.lines().skip_while(|line| table(line) != Some(wanted)).skip(1);
    let mut lines = lines.take_while(|line| table(line).is_none());
    lines.find(|line| line.split_once(" = ").is_some_and(|(known, _)| known == key))
}

/// The name in the line that begins a table.
fn table(line: &str) -> Option<&str> {
    line.trim_start_matches('[')
        .strip_suffix(']')
        .map(|name| name.trim_end_matches(']'))
        .filter(|_| line.starts_with('['))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sdk_is_a_folder_or_a_version_or_what_the_program_carries() {
        let checkout = Sdk::find(None).unwrap();
        assert!(matches!(&checkout, Sdk::Checkout(folder) if folder.ends_with("guest-sdk")), "{checkout:?}");
        assert_eq!(Sdk::find(Some("0.1")).unwrap().dependency(), "\"0.1\"");
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let folder = Sdk::find(root.to_str()).unwrap();
        assert!(matches!(&folder, Sdk::Folder(folder) if folder.ends_with("guest-sdk")), "the root is enough");
        assert!(Sdk::find(Some("/")).unwrap_err().to_string().contains("penstock-plugin"));
        assert!(Sdk::find(Some("/nowhere")).unwrap_err().to_string().contains("/nowhere"));
        assert_eq!(
            (Sdk::default_of(Path::new("/gone/host")), Sdk::find(Some("copy")).unwrap()),
            (Sdk::Copy, Sdk::Copy)
        );
    }

    #[test]
    fn the_copy_is_whole_and_needs_no_workspace() {
        let files = Sdk::Copy.files();
        for name in
            ["guest-sdk/src/lib.rs", "guest-sdk/src/testing/harness.rs", "guest-sdk/README.md", "wit/policy.wit"]
        {
            assert!(files.iter().any(|(path, text)| path == &format!("{COPY}/{name}") && !text.is_empty()), "{name}");
        }
        let (path, manifest) = files.last().unwrap();
        assert_eq!(path, "penstock-sdk/guest-sdk/Cargo.toml");
        assert!(!manifest.contains("workspace") && !manifest.contains("[lints]"), "{manifest}");
        for line in
            ["name = \"penstock-plugin\"", "edition = \"2024\"", "[dependencies]", "memchr = \"2\"", "wit-bindgen = { "]
        {
            assert!(manifest.lines().any(|known| known.starts_with(line)), "{line} in\n{manifest}");
        }
        assert!(Sdk::Registry("0.1".into()).files().is_empty());
    }
}

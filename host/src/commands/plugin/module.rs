//! Components: reading them from files and registries, and what to say when they are not there.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::bail;
use bytes::Bytes;
use penstock_core::plugin::OciReference;
use penstock_plugin_host::RegistryClient;
use penstock_translate::nearest::nearest;

use super::{pull::LARGEST, registry::Access};

/// Marks what is in a registry, as elsewhere in the tools of the field.
const OCI: &str = "oci://";

/// A component to look at.
#[derive(Debug, Clone)]
pub(super) enum Component {
    /// On this machine.
    File(PathBuf),
    /// `oci://` and its reference.
    Registry(OciReference),
}

impl FromStr for Component {
    type Err = <OciReference as FromStr>::Err;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix(OCI) {
            Some(reference) => reference.parse().map(Self::Registry),
            None => Ok(Self::File(text.into())),
        }
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Registry(reference) => write!(f, "{OCI}{reference}"),
        }
    }
}

impl Component {
    /// Its bytes.
    pub(super) fn read(&self, access: &Access) -> anyhow::Result<Bytes> {
        match self {
            Self::File(path) => read(path).map(Bytes::from),
            Self::Registry(reference) => Ok(RegistryClient::new()?.pull(&access.to(reference)?, LARGEST)?.bytes),
        }
    }

    /// For the plugin host. A file is read by it, as a gateway would; what is in a registry is pulled here, with the login of this machine.
    pub(super) fn module(&self, access: &Access) -> anyhow::Result<Module> {
        match self {
            Self::File(path) => Ok(Module::File(path.clone())),
            Self::Registry(_) => Ok(Module::Pulled { name: self.to_string(), bytes: self.read(access)? }),
        }
    }
}

/// A component that can be given to the plugin host.
#[derive(Debug, Clone)]
pub(super) enum Module {
    /// Where it is; whether it is there is not known.
    File(PathBuf),
    /// From a registry.
    Pulled { name: String, bytes: Bytes },
}

impl Module {
    /// Where it is, or a name that stands for it.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::File(path) => path,
            Self::Pulled { .. } => Path::new("plugin.wasm"),
        }
    }
}

impl fmt::Display for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Pulled { name, .. } => f.write_str(name),
        }
    }
}

/// Read a component.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => bail!("{}", missing(path)),
        Err(error) => bail!("cannot read {}: {error}", path.display()),
    }
}

fn missing(path: &Path) -> String {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut there = components(folder);
    there.sort();
    let names: Vec<&str> = there.iter().filter_map(|path| path.file_name()?.to_str()).collect();
    let wanted = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let hint = match (nearest(wanted, names.iter().copied()), names.as_slice()) {
        (Some(name), _) => format!("; did you mean `{name}`?"),
        (None, []) => String::new(),
        (None, names) => format!("; there is {}", names.join(", ")),
    };
    let folder = folder.display();
    format!("there is no file {}{hint}\nIf it is yet to be built: penstock plugin build {folder}", path.display())
}

fn components(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "wasm")).collect()
}

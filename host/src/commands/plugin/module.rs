//! Component files: reading them, and what to say when they are not there.

use std::{
    io,
    path::{Path, PathBuf},
};

use anyhow::bail;
use penstock_translate::nearest::nearest;

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

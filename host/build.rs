//! Makes a list of the SDK's files, which the binary carries: `penstock plugin new` copies them into projects where there is no checkout.

use std::{
    env,
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

fn main() -> io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
    let mut files = vec![root.join("guest-sdk/README.md")];
    for folder in ["guest-sdk/src", "wit"] {
        println!("cargo::rerun-if-changed=../{folder}");
        collect(&root.join(folder), &mut files)?;
    }
    println!("cargo::rerun-if-changed=../guest-sdk/README.md");
    files.sort();
    let mut list = String::from("&[\n");
    for file in &files {
        let name = file.strip_prefix(&root).map_err(io::Error::other)?;
        writeln!(list, "    ({name:?}, include_str!({file:?})),").map_err(io::Error::other)?;
    }
    list.push_str("]\n");
    let to = env::var_os("OUT_DIR").map(PathBuf::from).ok_or_else(|| io::Error::other("Cargo sets OUT_DIR"))?;
    fs::write(to.join("sdk_files.rs"), list)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { collect(&path, files)? } else { files.push(path) }
    }
    Ok(())
}

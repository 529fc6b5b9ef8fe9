//! The Rust target of guests.

use std::{
    env, io,
    path::PathBuf,
    process::{Command, ExitStatus, Stdio},
};

/// The only target of guests. It has no WASI: what a plugin may do comes from the interfaces that it is granted.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// How the target came to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Installed {
    /// It was there.
    Before,
    /// `rustup` added it.
    Now,
}

/// Why the target is not there.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// No compiler.
    #[error("cannot start rustc: {0}\nInstall Rust: https://rustup.rs")]
    NoRust(#[source] io::Error),
    /// The compiler does not say where it is installed.
    #[error("`rustc --print sysroot` failed")]
    NoSysroot,
    /// Nothing that could add it.
    #[error(
        "the Rust target {TARGET} is missing, and rustup is not installed to add it.\n\
         Install rustup (https://rustup.rs), or, with Debian's own Rust: apt-get install libstd-rust-dev-wasm32"
    )]
    NoRustup,
    /// rustup could not.
    #[error(
        "the Rust target {TARGET} is missing, and `rustup target add {TARGET}` failed ({0}): its messages are above"
    )]
    Failed(ExitStatus),
}

/// Make sure that the standard library for [`TARGET`] is there; `installing` is called before `rustup` is asked to add it, which takes
/// a download.
///
/// # Errors
/// When it is not there and cannot be added.
pub fn ensure_target(installing: impl FnOnce()) -> Result<Installed, InstallError> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).args(["--print", "sysroot"]).output().map_err(InstallError::NoRust)?;
    let sysroot = String::from_utf8(output.stdout).ok().filter(|path| !path.trim().is_empty());
    let sysroot = PathBuf::from(sysroot.ok_or(InstallError::NoSysroot)?.trim());
    if sysroot.join("lib/rustlib").join(TARGET).join("lib").is_dir() {
        return Ok(Installed::Before);
    }
    installing();
    // Standard output belongs to the caller: a build script speaks to Cargo through it.
    match Command::new("rustup").args(["target", "add", TARGET]).stdout(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(Installed::Now),
        Ok(status) => Err(InstallError::Failed(status)),
        Err(_) => Err(InstallError::NoRustup),
    }
}

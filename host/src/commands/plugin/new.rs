//! `penstock plugin new`: a project that builds and passes its tests as it is.

mod sdk;
mod template;

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, bail};

use self::{sdk::Sdk, template::Kind};

/// Make the project of a new plugin, in Rust
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The project builds and passes its tests as it is; change it from there. It needs the SDK, the crate `penstock-plugin`: from
the checkout that this program was built from, if that is still there, or else a copy of it that this program carries and
puts into the project; --sdk says otherwise. All other crates are from crates.io.

Examples:
  penstock plugin new my-plugin
  penstock plugin new redact --kind streaming          # bodies, trailers, the end of exchanges
  penstock plugin new by-tenant --kind route           # chooses the backend
  penstock plugin new my-plugin --sdk copy             # depends on no folder outside of it
  penstock plugin new my-plugin --sdk ../penstock/guest-sdk
  penstock plugin new my-plugin --sdk 0.1")]
pub(super) struct Args {
    /// Name of the plugin and its crate: lower case letters, digits and `-`
    #[arg(value_name = "NAME")]
    name: String,

    /// What it should see
    #[arg(long, value_enum, default_value_t = Kind::Policy)]
    kind: Kind,

    /// Folder of the project; NAME if not given
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,

    /// Where the SDK is: `copy`, the folder of `penstock-plugin`, or its version in the registry
    #[arg(long, value_name = "copy|FOLDER|VERSION")]
    sdk: Option<String>,
}

/// Write the files, say what to type next.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    check_name(&args.name)?;
    let folder = args.dir.clone().unwrap_or_else(|| args.name.clone().into());
    if folder.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        bail!("{} is there already and not empty; another folder: --dir FOLDER", folder.display());
    }
    let sdk = Sdk::find(args.sdk.as_deref())?;
    let files = template::files(args.kind, &args.name, &sdk.dependency());
    for (path, text) in files.into_iter().map(|(path, text)| (path.to_owned(), text)).chain(sdk.files()) {
        let path = folder.join(path);
        let parent = path.parent().unwrap_or(&folder);
        fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let folder = folder.display();
    println!("made {folder}: {}", args.kind.what());
    println!("  Cargo.toml      uses {}", sdk.what());
    println!("  src/lib.rs      the plugin, with tests that need no gateway");
    println!("  exchanges.yaml  what it does to which exchanges, for `penstock plugin test`");
    println!("  world.yaml      a gateway that runs it");
    println!("  README.md       these commands");
    println!("\nnext:\n  cd {folder}\n  cargo test\n  penstock plugin build\n  penstock plugin test");
    println!("\nand to see traffic in it, in three terminals:");
    println!("  penstock echo --listen 127.0.0.1:9000\n  penstock run -f world.yaml");
    println!("  {}", args.kind.attempt());
    Ok(ExitCode::SUCCESS)
}

/// The name becomes that of the plugin's manifest, of a crate and of files.
fn check_name(name: &str) -> anyhow::Result<()> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    if begins && name.len() <= 63 && name.bytes().all(fits) && !name.ends_with('-') {
        return Ok(());
    }
    let suggestion: String = name
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' })
        .collect::<String>()
        .trim_matches(|c: char| !c.is_ascii_lowercase())
        .chars()
        .take(63)
        .collect();
    let hint = if suggestion.is_empty() { "my-plugin".to_owned() } else { suggestion };
    bail!("`{name}` cannot be the name of a plugin: 1 to 63 lower case letters, digits and `-`, such as `{hint}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_manifests() {
        for name in ["a", "my-plugin", "v2-a"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        let long = "x".repeat(64);
        for (name, hint) in [("", "my-plugin"), ("My Plugin", "my-plugin"), ("2a", "a"), ("a_b", "a-b"), ("a-", "a")] {
            let error = check_name(name).unwrap_err().to_string();
            assert!(error.ends_with(&format!("such as `{hint}`")), "{error}");
        }
        assert!(check_name(&long).is_err());
    }
}

//! `penstock plugin build`: from a crate to a component.

mod cargo;

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::{Context as _, bail};
use penstock_component::TARGET;
use penstock_plugin_host::PluginHost;

use self::cargo::Artifact;
use super::{capability::Import, size};

/// Build a plugin: compile the crate, and make a component of it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
It runs `cargo build` for wasm32-unknown-unknown (and adds that target by rustup if it is missing), strips what only
debuggers read, and wraps the module as a component: PACKAGE.wasm beside the Cargo.toml. A running gateway that names
that file takes it at once.

Examples:
  penstock plugin build                      # the crate in this folder
  penstock plugin build my-plugin -o /tmp/a.wasm
  penstock plugin build --package my-plugin  # one of several in a workspace
  penstock plugin build -- --locked --offline  # what follows goes to cargo")]
pub(super) struct Args {
    /// The folder of the crate
    #[arg(value_name = "FOLDER", default_value = ".")]
    folder: PathBuf,

    /// Which crate, in a workspace with several
    #[arg(short, long, value_name = "NAME")]
    package: Option<String>,

    /// Profile of Cargo: `release` is small and fast, `dev` compiles sooner
    #[arg(long, value_name = "PROFILE", default_value = "release")]
    profile: String,

    /// Where the component goes; PACKAGE.wasm beside the Cargo.toml if not given
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// More arguments for `cargo build`
    #[arg(last = true, value_name = "CARGO ARGUMENTS")]
    cargo: Vec<OsString>,
}

/// Compile, wrap, say what came out. Progress goes to standard error.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let start = Instant::now();
    let manifest = manifest(&args.folder)?;
    penstock_component::ensure_target(|| eprintln!("[1/3] rustup target add {TARGET}"))?;
    eprintln!("[1/3] the Rust target {TARGET} is installed");
    eprintln!("[2/3] cargo build --target {TARGET} --profile {}", args.profile);
    let artifact = cargo::build(&manifest, args)?;
    let module = fs::read(&artifact.module).with_context(|| format!("cannot read {}", artifact.module.display()))?;
    let component = penstock_component::encode(&module).with_context(|| format!("package {}", artifact.package))?;
    let output = args.output.clone().unwrap_or_else(|| artifact.folder.join(format!("{}.wasm", artifact.package)));
    let changed = replace(&output, &component.bytes)?;
    let output = short(&output);
    eprintln!("[3/3] {} {}", if changed { "wrote" } else { "nothing changed in" }, output.display());

    let outline = PluginHost::outline(&component.bytes)
        .map_err(|rejection| anyhow::anyhow!("{}: {}", rejection.reason, rejection.message))?;
    let stripped = if component.stripped == 0 {
        String::new()
    } else {
        format!(" ({} of names and debug information left out)", size(component.stripped))
    };
    println!("file     {}", output.display());
    println!("size     {}{stripped}", size(component.bytes.len()));
    println!("digest   {}", outline.digest);
    print_imports(&Import::all(&outline.imports));
    println!("time     {:.1} s", start.elapsed().as_secs_f32());
    if size_is_odd(&args.profile, component.bytes.len()) {
        println!(
            "\nThat is much for a plugin, and a gateway compiles half a millisecond for each kilobyte. The profile that makes\n\
             them small stands in the Cargo.toml of `penstock plugin new`: lto = \"fat\", codegen-units = 1, panic = \"abort\"."
        );
    }
    println!("\nnext: {}", next(&artifact.folder, &output));
    Ok(ExitCode::SUCCESS)
}

/// A command that works as it stands: `check` would need the configuration.
fn next(folder: &Path, component: &Path) -> String {
    let exchanges = folder.join("exchanges.yaml");
    match (exchanges.is_file(), short(&exchanges)) {
        (false, _) => format!("penstock plugin inspect {}", component.display()),
        (true, here) if here == Path::new("exchanges.yaml") => "penstock plugin test".to_owned(),
        (true, there) => format!("penstock plugin test {}", there.display()),
    }
}

fn print_imports(imports: &[Import]) {
    if imports.is_empty() {
        println!("imports  nothing: it needs no capability");
    }
    for (index, (name, import)) in Import::rows(imports).into_iter().enumerate() {
        let title = if index == 0 { "imports" } else { "" };
        let grant = match import.grant {
            Some(grant) => format!(", granted by spec.capabilities.{grant}"),
            None => ", which needs no grant".to_owned(),
        };
        println!("{title:<8} {name}{grant}\n{:<8}   {}", "", import.cost);
    }
}

/// First-party plugins have 100 to 400 KiB.
fn size_is_odd(profile: &str, bytes: usize) -> bool {
    profile == "release" && bytes > 1 << 20
}

fn manifest(folder: &Path) -> anyhow::Result<PathBuf> {
    let manifest = if folder.file_name().is_some_and(|name| name == "Cargo.toml") {
        folder.to_owned()
    } else {
        folder.join("Cargo.toml")
    };
    if !manifest.is_file() {
        bail!(
            "there is no {}: name the folder of a crate, or make one: penstock plugin new my-plugin",
            manifest.display()
        );
    }
    Ok(manifest)
}

/// Write it in one step, as a gateway may be watching; false if it stood there already.
fn replace(path: &Path, bytes: &[u8]) -> anyhow::Result<bool> {
    let failed = |error: io::Error| anyhow::anyhow!("cannot write {}: {error}", path.display());
    if fs::read(path).is_ok_and(|existing| existing == bytes) {
        return Ok(false);
    }
    let mut temporary = OsString::from(path);
    temporary.push(format!(".{}", std::process::id()));
    fs::write(&temporary, bytes).map_err(failed)?;
    fs::rename(&temporary, path).map_err(failed)?;
    Ok(true)
}

/// Relative to where the user is, if it is below that.
fn short(path: &Path) -> PathBuf {
    let here = std::env::current_dir().and_then(fs::canonicalize);
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    here.ok().and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned)).unwrap_or(path)
}

impl Artifact {
    /// The one crate that makes a module, or what to do about none or several.
    fn only(mut artifacts: Vec<Self>, manifest: &Path) -> anyhow::Result<Self> {
        match artifacts.len() {
            1 => Ok(artifacts.remove(0)),
            0 => bail!(
                "the crate makes no WebAssembly module. Its {} needs:\n\n[lib]\ncrate-type = [\"cdylib\", \"rlib\"]",
                manifest.display()
            ),
            _ => {
                let names: Vec<_> = artifacts.iter().map(|artifact| artifact.package.as_str()).collect();
                bail!("several crates make modules ({}): choose one with --package", names.join(", "))
            }
        }
    }
}

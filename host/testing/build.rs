//! Builds the guests and writes one constant for each, so that a plain `cargo test` works and a test that names a guest
//! which is gone does not compile.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "guests")]
    guests::generate();
}

#[cfg(feature = "guests")]
mod guests {
    use std::fmt::Write as _;
    use std::path::{Path, PathBuf};

    use xtask::guests::{self, Guest};
    use xtask::workspace::Workspace;

    /// What guests are made of, relative to the root.
    const INPUTS: [&str; 6] = ["plugins", "guest-sdk", "wit", "host/testing/guests", "Cargo.toml", "Cargo.lock"];

    pub(super) fn generate() {
        let workspace = Workspace::load().expect("the workspace that this build script belongs to");
        for input in INPUTS.map(|input| workspace.root().join(input)) {
            if input.exists() {
                println!("cargo::rerun-if-changed={}", input.display());
            }
        }
        let guests = guests::build(&workspace).unwrap_or_else(|error| panic!("{error:#}"));
        let folder = std::env::var_os("OUT_DIR").map(PathBuf::from).expect("Cargo sets it for build scripts");
        std::fs::write(folder.join("guests.rs"), constants(&guests, &folder)).expect("OUT_DIR can be written");
    }

    /// The components are copied: what tests read changes only when this script runs, whoever else builds guests meanwhile.
    fn constants(guests: &[Guest], folder: &Path) -> String {
        let mut code = String::new();
        for guest in guests {
            let constant = guest.name.replace('-', "_").to_uppercase();
            let copy = folder.join(format!("{}.wasm", guest.name));
            std::fs::copy(&guest.component, &copy).expect("OUT_DIR can be written");
            let path = copy.display();
            let _ = writeln!(
                code,
                "/// Path of the component `{}`.\npub const {constant}: &str = {:?};",
                guest.name,
                path.to_string()
            );
        }
        code
    }
}

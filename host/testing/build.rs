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
    use std::path::Path;

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
        let folder = std::env::var_os("OUT_DIR").expect("Cargo sets it for build scripts");
        std::fs::write(Path::new(&folder).join("guests.rs"), constants(&guests)).expect("OUT_DIR can be written");
    }

    fn constants(guests: &[Guest]) -> String {
        let mut code = String::new();
        for guest in guests {
            let constant = guest.name.replace('-', "_").to_uppercase();
            let path = guest.component.display();
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

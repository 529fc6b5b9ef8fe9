//! The process that validates candidates, for tests and benches, which have no `penstock` to execute again.

fn main() -> std::process::ExitCode {
    penstock_plugin_host::validator::main()
}

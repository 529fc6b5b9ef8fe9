//! `penstock plugin`: the tools of plugin authors, as they are typed.

use std::{path::Path, process::Command};

use penstock_testing::{guests, tempfile::TempDir};

use crate::world::{PENSTOCK, backend, gateway, greeting, plugin, route};

/// What a command printed and how it ended.
struct Ran {
    code: Option<i32>,
    out: String,
    error: String,
}

fn run(arguments: &[&str]) -> Ran {
    run_in(Path::new("."), arguments)
}

fn run_in(folder: &Path, arguments: &[&str]) -> Ran {
    let output = Command::new(PENSTOCK).arg("plugin").args(arguments).current_dir(folder).output().unwrap();
    // Columns are as wide as they must be: what is asserted is their contents.
    let line = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n";
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().lines().map(line).collect::<String>();
    Ran { code: output.status.code(), out: text(output.stdout), error: text(output.stderr) }
}

impl Ran {
    #[track_caller]
    fn ends_with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.out, self.error);
        self
    }

    #[track_caller]
    fn says(self, text: &str) -> Self {
        assert!(self.out.contains(text) || self.error.contains(text), "{text:?} in\n{}\n{}", self.out, self.error);
        self
    }

    #[track_caller]
    fn says_not(self, text: &str) -> Self {
        assert!(!self.out.contains(text) && !self.error.contains(text), "{text:?} in\n{}\n{}", self.out, self.error);
        self
    }
}

#[test]
fn every_command_has_a_tutorial_as_help() {
    let all = run(&["--help"]).ends_with(0).out;
    for command in ["check", "inspect"] {
        assert!(all.contains(&format!("\n{command} ")), "{command} in\n{all}");
        run(&[command, "--help"]).ends_with(0).says("Examples:").says(&format!("penstock plugin {command} "));
    }
}

#[test]
fn inspect_says_what_a_plugin_is_without_a_configuration() {
    run(&["inspect", guests::RATE_LIMIT])
        .ends_with(0)
        .says("rate-limit 0.1.0: ")
        .says("policy on headers")
        .says("penstock:plugin@0.1.0")
        .says("rateLimits: [{name: api, limit: 100, window: 1m}]")
        .says("list of object")
        .says("Hooks and headers depend on the configuration")
        .says_not("InvalidConfig");
}

#[test]
fn inspect_shows_hooks_and_headers_of_a_configuration() {
    run(&["inspect", guests::HEADER_RULES, "--config", "{rules: [{response: {set: {x-a: b}}}]}"])
        .ends_with(0)
        .says("\nhooks response-headers\n")
        .says("\nwrites of the response x-a\n");
    let json =
        run(&["inspect", guests::HEADER_RULES, "--config", "{rules: [{response: {set: {x-a: b}}}]}", "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json.ends_with(0).out).unwrap();
    assert_eq!(json["manifest"]["name"], "header-rules");
    assert_eq!(json["kind"], "policy");
    assert_eq!(json["plan"]["responseWrites"], serde_json::json!(["x-a"]));
    assert!(json["configSchema"]["properties"]["rules"].is_object());
    run(&["inspect", guests::HEADER_RULES, "--config", "{rulez: []}"]).ends_with(0).says("InvalidConfig").says("rulez");
}

#[test]
fn inspect_refuses_what_is_no_component() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("garbage.wasm");
    std::fs::write(&file, "ten bytes!").unwrap();
    run(&["inspect", file.to_str().unwrap()]).ends_with(1).says("InvalidModule").says("no WebAssembly");
    run_in(folder.path(), &["inspect", "garbaeg.wasm"]).ends_with(1).says("did you mean `garbage.wasm`?");
    run_in(folder.path(), &["inspect", "other"]).ends_with(1).says("penstock plugin build");
}

#[test]
fn check_says_what_the_gateway_would() {
    let rules = "{rules: [{response: {set: {x-a: b}}}]}";
    run(&["check", guests::HEADER_RULES, "--config", rules])
        .ends_with(0)
        .says("accepted: header-rules 0.1.0 (sha256:")
        .says("response-headers");
    run(&["check", guests::HEADER_RULES, "--config", "{rulez: []}"])
        .ends_with(1)
        .says("InvalidConfig: spec.config: ")
        .says("rulez")
        .says("penstock plugin inspect");
    run(&["check", guests::KEEPER])
        .ends_with(1)
        .says("ImportNotGranted")
        .says("spec.capabilities.keyValue: true")
        .says("--grant ");
    run(&["check", guests::KEEPER, "--grant", "lgo"]).ends_with(2).says("did you mean `log`?");
}

#[test]
fn check_puts_a_new_module_in_the_place_of_another() {
    let folder = TempDir::new().unwrap();
    let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
    write("gateway.yaml", gateway(1));
    write("backend.yaml", backend("origin", 9));
    write("route.yaml", route("all", "/", ""));
    write("plugin.yaml", plugin(guests::HEADER_RULES, &greeting("hello")));
    let world = folder.path().to_str().unwrap();
    run(&["check", "-f", world]).ends_with(0).says("default/headers (").says("accepted: header-rules");
    run(&["check", guests::RATE_LIMIT, "-f", world]).ends_with(1).says("default/headers (").says("ImportNotGranted");
    run(&["check", "-f", world, "--name", "haeders"]).ends_with(1).says("did you mean `headers`?");
    write("plugin.yaml", plugin(guests::HEADER_RULES, &greeting("hello")).replace("spec:", "spac:"));
    run(&["check", "-f", world]).ends_with(1).says("plugin.yaml").says("did you mean `spec`?");
}

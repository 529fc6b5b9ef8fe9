//! `penstock plugin`: the tools of plugin authors, as they are typed.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use penstock_testing::{
    client::{fetch, get},
    gateway::Gateway,
    guests,
    origin::{Answer, Origin},
    port::free_port,
    tempfile::TempDir,
};

use crate::world::{PENSTOCK, backend, gateway, greeting, plugin, repository, route};

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
    Ran::of(&Command::new(PENSTOCK).arg("plugin").args(arguments).current_dir(folder).output().unwrap())
}

impl Ran {
    /// Columns are as wide as they must be: what is kept is their contents.
    fn of(output: &Output) -> Self {
        let line = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n";
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).lines().map(line).collect::<String>();
        Self { code: output.status.code(), out: text(&output.stdout), error: text(&output.stderr) }
    }

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
    for command in ["new", "build", "test", "check", "inspect", "bench"] {
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
    let caller = |grants: &[&str]| run(&[&["check", guests::CALLER, "--config", "{backend: auth}"], grants].concat());
    caller(&[]).ends_with(1).says("ImportNotGranted").says("--grant outbound=auth");
    caller(&["--grant", "outbound=auth"]).ends_with(0).says("accepted: caller");
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

/// A project made by `penstock plugin new`. Its folder stays between runs, so that Cargo compiles its dependencies once.
struct Project {
    folder: PathBuf,
    name: String,
}

impl Project {
    fn new(kind: &str) -> Self {
        Self::with(kind, &[])
    }

    fn with(kind: &str, arguments: &[&str]) -> Self {
        let name = format!("my-{kind}{}", arguments.concat().replace("--", "-"));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("plugin-new").join(&name);
        let _ = std::fs::remove_dir_all(&folder);
        let to = folder.to_str().unwrap();
        let new = ["new", &name, "--kind", kind, "--dir", to];
        run(&[&new[..], arguments].concat()).ends_with(0).says("-sdk").says("penstock plugin build");
        // The versions that the workspace has are those that are there without a network.
        std::fs::copy(repository().join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
        Self { folder, name }
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Ran {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&self.folder).env("CARGO_NET_OFFLINE", "true");
        command.env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("plugin-target"));
        // What an outer Cargo has set for its own build is not meant for this one.
        for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WORKSPACE_WRAPPER", "CLIPPY_ARGS"] {
            command.env_remove(name);
        }
        Ran::of(&command.output().unwrap())
    }

    fn penstock(&self, arguments: &[&str]) -> Ran {
        self.command(PENSTOCK, &[&["plugin"], arguments].concat())
    }
}

#[tokio::test]
async fn a_new_policy_builds_passes_its_tests_and_serves() {
    let project = Project::new("policy");
    project.command(env!("CARGO"), &["test"]).ends_with(0).says("3 passed");
    project
        .penstock(&["build"])
        .ends_with(0)
        .says("\nsize ")
        .says("imports exchange-info, which needs no grant")
        .says("next: penstock plugin test");
    project.penstock(&["test"]).ends_with(0).says("4 of 4 exchanges as expected (my-policy.wasm)");
    project
        .penstock(&["inspect", "my-policy.wasm"])
        .ends_with(0)
        .says("forbidden list of string")
        .says("servedBy string yes");
    project.penstock(&["check", "-f", "world.yaml"]).ends_with(0).says("accepted: my-policy 0.1.0");

    let origin = Origin::answering(Answer::new(200).body("origin"));
    let port = free_port();
    let world = std::fs::read_to_string(project.folder.join("world.yaml")).unwrap();
    let world = world
        .replace("port: 8080", &format!("port: {port}"))
        .replace("port: 9000", &format!("port: {}", origin.address().port()))
        .replace("my-policy.wasm", project.folder.join("my-policy.wasm").to_str().unwrap());
    let gateway = Gateway::builder(PENSTOCK).file("world.yaml", world).start().await;
    let response = fetch(gateway.at(port), get("/hello")).await.unwrap();
    assert_eq!((response.status, response.header("x-served-by")), (200, "penstock"));
    assert_eq!(fetch(gateway.at(port), get("/admin")).await.unwrap().status, 403);
}

#[test]
fn new_plugins_of_every_kind_compile_and_pass_their_own_tests() {
    for (kind, exchanges) in [("streaming", 3), ("route", 4)] {
        let project = Project::new(kind);
        project.command(env!("CARGO"), &["test"]).ends_with(0).says("3 passed");
        project.penstock(&["build"]).ends_with(0).says(&format!("{}.wasm", project.name));
        let all = format!("{exchanges} of {exchanges} exchanges as expected");
        project.penstock(&["test"]).ends_with(0).says(&all);
        project.penstock(&["check", "-f", "world.yaml"]).ends_with(0).says("accepted: ");
        let config = if kind == "route" { "{header: x-backend}" } else { "{footer: x}" };
        let module = format!("{}.wasm", project.name);
        let bench = ["bench", &module, "--iterations", "100", "--grant", "log", "--config", config];
        project.penstock(&bench).ends_with(0).says("whole exchange ");
    }
}

/// As on a machine that has the program and no checkout.
#[test]
fn a_project_with_its_own_copy_of_the_sdk_needs_no_checkout() {
    let project = Project::with("policy", &["--sdk", "copy"]);
    let manifest = std::fs::read_to_string(project.folder.join("Cargo.toml")).unwrap();
    assert!(manifest.contains("penstock-plugin = { path = \"penstock-sdk/guest-sdk\" }"), "{manifest}");
    project.command(env!("CARGO"), &["test"]).ends_with(0).says("3 passed").says_not("warning");
    project.penstock(&["build"]).ends_with(0).says("next: penstock plugin test");
    project.penstock(&["test"]).ends_with(0).says("4 of 4 exchanges as expected");
}

#[test]
fn new_makes_no_project_over_another_one() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("mine"), "").unwrap();
    run(&["new", "a", "--dir", folder.path().to_str().unwrap()]).ends_with(1).says("not empty").says("--dir");
    run(&["new", "My Plugin"]).ends_with(1).says("such as `my-plugin`");
    run(&["new", "a", "--sdk", "/nowhere"]).ends_with(1).says("--sdk: there is no folder /nowhere");
}

#[test]
fn build_says_what_a_crate_lacks() {
    let folder = TempDir::new().unwrap();
    run_in(folder.path(), &["build"]).ends_with(1).says("there is no ./Cargo.toml").says("penstock plugin new");
    // Neither needs a dependency, so both compile in an instant.
    let write = |library: &str| {
        let manifest = format!("[package]\nname = \"bare\"\nedition = \"2024\"\n[lib]\n{library}\n[workspace]\n");
        std::fs::create_dir_all(folder.path().join("src")).unwrap();
        std::fs::write(folder.path().join("Cargo.toml"), manifest).unwrap();
        std::fs::write(folder.path().join("src/lib.rs"), "pub fn nothing() {}\n").unwrap();
    };
    let build = || {
        let mut command = Command::new(PENSTOCK);
        command.args(["plugin", "build"]).current_dir(folder.path());
        Ran::of(&command.env("CARGO_TARGET_DIR", folder.path().join("target")).output().unwrap())
    };
    write("");
    build().ends_with(1).says("crate-type = [\"cdylib\", \"rlib\"]");
    write("crate-type = [\"cdylib\"]");
    build().ends_with(1).says("package bare: the module exports no plugin").says("plugin!(policy: MyPlugin)");
    std::fs::write(folder.path().join("src/lib.rs"), "oops").unwrap();
    build().ends_with(1).says("cargo's messages are above");
}

/// A file of exchanges for header-rules, and what testing it says.
fn test(exchanges: &str, arguments: &[&str]) -> Ran {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("exchanges.yaml");
    let module = guests::HEADER_RULES;
    let config = "{rules: [{request: {set: {x-gateway: penstock}}, response: {set: {x-a: b}, remove: [server]}}]}";
    std::fs::write(&file, format!("module: {module}\nconfig: {config}\nexchanges:\n{exchanges}")).unwrap();
    run(&[&["test", file.to_str().unwrap()], arguments].concat())
}

#[test]
fn test_compares_what_comes_out() {
    let good = "
- name: both directions
  request: {path: /a?b, headers: {x-in: [one, two]}}
  response: {status: 201, headers: {server: origin}, body: text}
  repeat: 3
  expect:
    request: {path: /a?b, headers: {x-gateway: penstock, x-in: [one, two]}, absent: [x-other]}
    response: {status: 201, headers: {x-a: {matches: ^b$}}, absent: [server], body: text}
- name: a refused configuration
  config: {rulez: []}
  expect: {rejected: {reason: InvalidConfig, message: /rulez}}
";
    test(good, &[]).ends_with(0).says("ok both directions").says("2 of 2 exchanges as expected");
    let bad = good.replace("x-gateway: penstock", "x-gateway: other").replace("absent: [server]", "absent: [x-a]");
    test(&bad, &[])
        .ends_with(1)
        .says("FAILED both directions")
        .says("expect.request.headers.x-gateway\nexpected \"other\"\nfound \"penstock\"\n")
        .says("expect.response.absent: x-a\nexpected no such header\nfound \"b\"\n")
        .says("1 of 2 exchanges as expected");
    let json: serde_json::Value = serde_json::from_str(&test(&bad, &["-o", "json"]).ends_with(1).out).unwrap();
    assert_eq!((&json["passed"], &json["failed"]), (&1.into(), &1.into()));
    assert_eq!(json["exchanges"][0]["differences"][0]["field"], "request.headers.x-gateway");
    test(good, &["--only", "refused"]).ends_with(0).says("1 of 1 exchange as expected");
    test(good, &["--only", "nothing"]).ends_with(1).says("there are:\nboth directions");
}

#[test]
fn test_sees_replies_and_faults() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("exchanges.yaml");
    let faulty = guests::FAULTY;
    let text = format!(
        "module: {faulty}
config: {{fault: trap}}
exchanges:
- {{name: a trap, request: {{headers: {{x-fault: \"1\"}}}}, expect: {{fault: trap}}}}
- {{name: goes on behind it, expect: {{response: {{status: 200}}}}}}
- {{name: unexpected, request: {{headers: {{x-fault: \"1\"}}}}}}
"
    );
    std::fs::write(&file, text).unwrap();
    run(&["test", file.to_str().unwrap()])
        .ends_with(1)
        .says("ok a trap")
        .says("ok goes on behind it")
        .says("FAILED unexpected")
        .says("expected no fault\nfound a fault in the request hook: trap: ")
        .says("2 of 3 exchanges as expected");
}

#[test]
fn test_has_backends_that_answer_as_the_exchange_says() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("exchanges.yaml");
    let auth = guests::EXT_AUTH;
    let text = format!(
        "module: {auth}
config: {{service: {{backend: auth, path: /verify}}, allowed: {{requestHeaders: [x-user]}}}}
capabilities: {{metrics: true, outbound: [{{name: auth, backendRef: {{name: auth, port: 80}}, maxResponseBytes: 1Ki}}]}}
exchanges:
- name: allowed
  request: {{headers: {{x-user: root}}}}
  outbound: {{auth: {{status: 204, headers: {{x-user: anna}}}}}}
  expect: {{request: {{headers: {{x-user: anna}}}}, response: {{status: 200}}}}
- name: denied
  outbound: {{auth: {{status: 401, body: who are you}}}}
  expect: {{reply: {{status: 401, body: who are you}}}}
- {{name: too much, outbound: {{auth: {{status: 401, body: {{size: 2000}}}}}}, expect: {{reply: {{status: 503}}}}}}
- {{name: no answer, outbound: {{auth: {{failure: timeout}}}}, expect: {{reply: {{status: 503}}}}}}
- {{name: nobody there, expect: {{reply: {{status: 503}}}}}}
"
    );
    std::fs::write(&file, &text).unwrap();
    run(&["test", file.to_str().unwrap()]).ends_with(0).says("5 of 5 exchanges as expected");
    std::fs::write(&file, text.replace("outbound: {auth: {failure", "outbound: {atuh: {failure")).unwrap();
    run(&["test", file.to_str().unwrap()]).ends_with(1).says("exchanges[3] (no answer)").says("did you mean `auth`?");
}

#[test]
fn test_shows_where_a_plugin_has_panicked() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("exchanges.yaml");
    let text = format!(
        "module: {}\ncapabilities: {{log: true, counters: true, keyValue: true}}\nexchanges:\n- {{name: a, request: {{path: \"/?panic:cheese\"}}}}\n",
        guests::KEEPER
    );
    std::fs::write(&file, text).unwrap();
    run(&["test", file.to_str().unwrap()])
        .ends_with(1)
        .says("it panicked at ")
        .says("keeper/src/lib.rs:")
        .says("about cheese");
}

#[test]
fn what_cannot_be_read_is_said_and_not_waited_for() {
    let folder = TempDir::new().unwrap();
    // A folder is no module, and a gateway would look at it again and again.
    run(&["bench", folder.path().to_str().unwrap()]).ends_with(1);
    run(&["bench", "oci://127.0.0.1:1/nothing:1"]).ends_with(1).says("127.0.0.1:1");
}

#[test]
fn check_is_for_programs_too_and_within_the_limits_of_the_operator() {
    let rules = "{rules: [{response: {set: {x-a: b}}}]}";
    let json = run(&["check", guests::HEADER_RULES, "--config", rules, "-o", "json"]).ends_with(0).out;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json[0]["accepted"], &json[0]["name"]), (&true.into(), &"header-rules".into()));
    assert_eq!(json[0]["hooks"], serde_json::json!(["response-headers"]));
    let json = run(&["check", guests::HEADER_RULES, "-o", "json"]).ends_with(1).out;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json[0]["accepted"], &json[0]["reason"]), (&false.into(), &"InvalidConfig".into()));
    let limited = |arguments: &[&str]| run(&[&["check", guests::HEADER_RULES, "--config", rules], arguments].concat());
    limited(&["--limit", "hookTime=200ms"]).ends_with(1).says("spec.limits.hookTime");
    limited(&["--limit", "hookTime=200ms", "--plugin-limits", "hookTime=300ms"]).ends_with(0).says("accepted");
    limited(&["--limit", "memory"]).ends_with(2).says("memory=64Mi");
}

#[test]
fn inspect_grants_what_it_is_told_beside_everything() {
    let config = "{policies: [{bucket: api}]}";
    run(&["inspect", guests::RATE_LIMIT, "--config", config]).says("there is no bucket `api`");
    run(&["inspect", guests::RATE_LIMIT, "--config", config, "--grant", "rate-limit=api:5/1s"])
        .ends_with(0)
        .says("hooks request-headers, response-headers");
    run(&["inspect", guests::PRINTER]).says("wasi (").says("interfaces) wasi: true");
    run(&["check", guests::PRINTER]).ends_with(1).says("--grant ").says_not("wasi,wasi");
}

#[test]
fn test_says_what_is_wrong_with_its_file() {
    test("- name: a\n  expct: {}\n", &[]).ends_with(1).says("exchanges.yaml:5:3: ").says("did you mean `expect`?");
    test("- name: a\n  expect: {response: {headers: {x-a: null}}}\n", &[]).ends_with(1).says("stands under `absent`");
    test("- name: a\n  expect: {reply: {}, fault: trap}\n", &[]).ends_with(1).says("an exchange ends in one way");
    test("- name: a\n  expect: {fault: tarp}\n", &[])
        .ends_with(1)
        .says("exchanges[0] (a).expect.fault: there is no fault `tarp`; there are trap, deadline");
    test("- name: a\n  request: {client: nobody}\n", &[])
        .ends_with(1)
        .says("exchanges[0] (a)")
        .says("`nobody` is no address");
    test(" []\n", &[]).ends_with(1).says("nothing would be tested");
    test("- name: a\n", &["--module", "/gone.wasm"]).ends_with(1).says("there is no file /gone.wasm");
    run(&["test", "/nowhere/exchanges.yaml"]).ends_with(1).says("penstock plugin new");
    let schema = run(&["test", "--schema"]).ends_with(0).out;
    assert!(serde_json::from_str::<serde_json::Value>(&schema).unwrap()["properties"]["exchanges"].is_object());
}

#[test]
fn bench_measures_hooks_instances_and_validation() {
    let config = ["--config", "{rules: [{request: {set: {x-a: b}}}]}", "--iterations", "1000"];
    let json = run(&[&["bench", guests::HEADER_RULES], &config[..], &["-o", "json"]].concat()).ends_with(0).out;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(json["requestHook"]["median"].as_f64().unwrap() > 0.0, "{json}");
    assert_eq!(json["responseHook"], serde_json::Value::Null, "the plan has no response hook");
    assert!(json["instanceMemoryBytes"].as_u64().unwrap() >= 65536, "{json}");
    run(&[&["bench", guests::HEADER_RULES], &config[..]].concat())
        .ends_with(0)
        .says("request hook ")
        .says("memory of an instance ")
        .says("validation, cold ");
    run(&["bench", guests::HEADER_RULES]).ends_with(1).says("InvalidConfig").says("penstock plugin check");
    run(&["bench", guests::HEADER_RULES, config[0], config[1], "--header", "x"]).ends_with(1).says("name: value");
}

//! The commands that need no gateway, and those that miss one.

use std::process::{Command, Output};

use penstock_testing::{guests, port::free_port, tempfile::TempDir};

use crate::world::{PENSTOCK, World, backend, gateway, greeting, plugin, route};

fn penstock(arguments: &[&str]) -> Output {
    Command::new(PENSTOCK).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// `penstock check` of these files: the exit code and the lines, with the directory taken off.
fn check(files: &[(&str, &str)]) -> (Option<i32>, Vec<String>) {
    let folder = TempDir::new().unwrap();
    for (name, contents) in files {
        std::fs::write(folder.path().join(name), contents).unwrap();
    }
    let path = folder.path().display().to_string();
    let output = penstock(&["check", "-f", &path]);
    let lines = text(&output.stdout).replace(&format!("{path}/"), "").lines().map(str::to_owned).collect();
    (output.status.code(), lines)
}

fn healthy() -> [(&'static str, String); 3] {
    [("backend.yaml", backend("origin", 9)), ("gateway.yaml", gateway(1)), ("route.yaml", route("all", "/", ""))]
}

/// A healthy world with one file more.
fn check_with(name: &str, contents: &str) -> (Option<i32>, Vec<String>) {
    let healthy = healthy();
    let mut files: Vec<_> = healthy.iter().map(|(name, contents)| (*name, contents.as_str())).collect();
    files.push((name, contents));
    check(&files)
}

#[test]
fn check_accepts_what_run_would_accept_without_opening_a_port() {
    let (code, lines) = check_with("plugin.yaml", &plugin(guests::HEADER_RULES, &greeting("hello")));
    assert_eq!((code, lines), (Some(0), vec!["ok: 5 resources".to_owned()]));
}

#[test]
fn check_reports_everything_at_once_with_places() {
    let route = route("broken", "/broken", "").replace("name: origin", "name: nobody");
    let (code, lines) = check_with("z.yaml", &format!("{route}---\nkind: Gatewya\napiVersion: v1\n---\na: [\n"));
    assert_eq!(code, Some(1));
    assert_eq!(lines.len(), 4, "{lines:#?}");
    assert!(lines[0].starts_with("z.yaml:1: HTTPRoute/default/broken: gw: BackendNotFound: "), "{}", lines[0]);
    assert_eq!(lines[1], "z.yaml:10:7: kind: unknown kind `Gatewya`; did you mean `Gateway`?");
    assert!(lines[2].starts_with("z.yaml:1"), "{}", lines[2]);
    assert_eq!(lines[3], "3 problems in 1 file");
}

#[test]
fn check_warns_of_what_serves_but_not_as_expected() {
    let (code, lines) = check_with("z.yaml", &route("younger", "/", ""));
    assert_eq!(code, Some(0));
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(lines[0].starts_with("z.yaml:1: warning: HTTPRoute/default/younger: gw: OtherRuleWins: "), "{}", lines[0]);
    assert_eq!(lines[1], "ok: 5 resources, 1 warning");
}

#[test]
fn check_puts_plugins_through_the_validator() {
    let (code, lines) = check_with("plugin.yaml", &plugin(guests::HEADER_RULES, "{rulez: []}"));
    assert_eq!(code, Some(1));
    assert!(lines[0].starts_with("plugin.yaml:1: WasmPlugin/default/headers: InvalidConfig: "), "{lines:#?}");
    assert_eq!(lines[1..], ["1 problem in 1 file"], "and nothing else of what follows from it");
    let (code, lines) = check_with("plugin.yaml", &plugin(guests::CALLER, "{backend: a}"));
    assert_eq!(code, Some(1));
    assert!(lines[0].contains("ImportNotGranted") && lines[0].contains("outbound-http"), "{lines:#?}");
}

#[test]
fn check_runs_the_checks_of_plugins() {
    let with = |checks: &str| {
        let world = plugin(guests::HEADER_RULES, "{rules: [{request: {set: {x-a: '1'}}}]}");
        check_with("plugin.yaml", &world.replace("spec:\n", &format!("spec:\n  checks: {checks}\n")))
    };
    let (code, lines) = with("[{name: sets x-a, expect: {request: {headers: {x-a: '1'}}}}]");
    assert_eq!(code, Some(0), "{lines:#?}");
    let (code, lines) = with("[{name: sets x-a, expect: {request: {headers: {x-a: '2'}}}}]");
    assert_eq!(code, Some(1));
    let failed = "the check `sets x-a` failed: expect.request.headers.x-a: expected \"2\", found \"1\"";
    assert!(lines[0].contains("CheckFailed: ") && lines[0].contains(failed), "{lines:#?}");
    // What is no check at all, with its place.
    let (code, lines) = with("[{name: a, expct: {}}]");
    assert_eq!(code, Some(1));
    assert!(lines[0].starts_with("plugin.yaml:") && lines[0].contains("did you mean `expect`?"), "{lines:#?}");
    let (code, lines) = with("[{name: a, expect: {fault: trap}}]");
    assert_eq!(code, Some(1));
    let refused = "spec.checks[0] (a): expect.fault: a plugin that faults in a check is never accepted";
    assert!(lines[0].contains(refused), "{lines:#?}");
}

#[test]
fn a_path_that_is_not_there_is_an_error() {
    let (code, lines) = check(&[]);
    assert_eq!((code, lines), (Some(0), vec!["ok: 0 resources".to_owned()]));
    let output = penstock(&["check", "-f", "/nowhere"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).starts_with("/nowhere: cannot be read: No such file or directory"));
    let output = penstock(&["run", "-f", "/nowhere"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("cannot read /nowhere"), "{}", text(&output.stderr));
}

#[test]
fn status_without_a_gateway_says_how_to_find_one() {
    let admin = format!("127.0.0.1:{}", free_port());
    let output = penstock(&["status", "--admin", &admin]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains(&format!("no gateway answers at {admin}")) && said.contains("--admin"), "{said}");
}

#[tokio::test]
async fn status_shows_resources_in_every_form() {
    let world = World::builder().start().await;
    let admin = world.gateway.admin_address().to_string();
    let show = |output: &str| {
        let output = penstock(&["status", "--admin", &admin, "-o", output]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let table = show("table");
    let line = table.lines().find(|line| line.starts_with("HTTPRoute")).unwrap();
    assert_eq!(line.split_whitespace().collect::<Vec<_>>(), ["HTTPRoute", "default/all", "ok"]);
    assert!(show("wide").contains("ResolvedRefs"));
    let json: serde_json::Value = serde_json::from_str(&show("json")).unwrap();
    assert_eq!(json["problems"], serde_json::json!([]));
    assert!(show("yaml").contains("kind: HTTPRoute"));
}

#[test]
fn help_version_and_completions_are_there() {
    let help = text(&penstock(&["--help"]).stdout);
    for command in ["run", "check", "status", "echo", "version", "completions"] {
        assert!(help.contains(&format!("\n  {command} ")), "{command} in\n{help}");
    }
    assert!(text(&penstock(&["version"]).stdout).starts_with("penstock 0."));
    for shell in ["bash", "zsh", "fish"] {
        assert!(text(&penstock(&["completions", shell]).stdout).contains("penstock"));
    }
}

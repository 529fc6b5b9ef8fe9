//! Upgrades of plugins on live traffic: on probation, together, and across a kill.

use std::{
    env, fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use penstock_testing::{
    client::{Connection, Response, fetch, get},
    eventually::eventually,
    guests,
    pressure::{Pressure, Protocol},
};
use serde_json::Value;

use crate::world::{World, condition, greeting, header_rules, plugin, route};

/// Reloads, unless `RELOADS` says how many.
const RELOADS: usize = 120;

fn press(world: &World, wanted: impl Fn(&Response) -> bool + Clone + Send + 'static) -> Pressure {
    Pressure::start(world.gateway.at(world.port), Protocol::H1, 2, || get("/"), wanted)
}

async fn until_metric(world: &World, line: &str) {
    eventually(line, async || world.gateway.admin("/metrics").await.text().lines().any(|it| it == line).then_some(()))
        .await;
}

#[tokio::test]
async fn a_revision_that_faults_on_traffic_is_rolled_back_by_itself() {
    let world = World::builder()
        .file("plugin.wasm", guests::bytes(guests::FAULTY))
        .file("plugin.yaml", plugin("plugin.wasm", "{mark: good}"))
        .start()
        .await;
    world.until_header("x-faulty", "good").await;
    // Requests that do not meet the fault notice nothing of the upgrade, nor of the way back.
    let pressure = press(&world, |response| response.status == 200 && !response.header("x-faulty").is_empty());
    world.gateway.write("plugin.yaml", plugin("plugin.wasm", "{mark: bad, at: request, fault: trap}"));
    world.until_header("x-faulty", "bad").await;
    let status = world.until_status("WasmPlugin", "headers", |status| !status["probation"].is_null()).await;
    assert_eq!(
        (&status["probation"]["maxFaults"], &status["probation"]["fallback"]["generation"]),
        (&5.into(), &1.into())
    );

    let address = world.gateway.at(world.port);
    for _ in 0..6 {
        let faulty = fetch(address, get("/").header("x-fault", "1")).await.unwrap();
        assert_eq!(faulty.status, 503);
    }
    world.until_header("x-faulty", "good").await;
    let rejected = |status: &Value| status["candidate"]["reason"] == "FaultsInProbation";
    let status = world.until_status("WasmPlugin", "headers", rejected).await;
    assert_eq!(condition(&status, "Degraded")["reason"], "LastGoodServing", "{status:#}");
    let said = status["candidate"]["message"].as_str().unwrap();
    assert!(said.contains("more faults (trap) than"), "{said}");
    until_metric(&world, r#"penstock_plugin_rollbacks_total{plugin="default/headers"} 1"#).await;
    pressure.progress(20).await;
    assert_eq!(pressure.stop().await.failures, Vec::<String>::new());
}

/// Two plugins of one group, both with this mark in their responses, in one file.
fn pair(mark: &str) -> String {
    let member = |name: &str| {
        let config = format!("{{rules: [{{response: {{set: {{x-{name}: {mark}}}}}}}]}}");
        plugin("plugin.wasm", &config).replace("name: headers", &format!("name: {name}")) + "  activationGroup: pair\n"
    };
    format!("{}---\n{}", member("left"), member("right"))
}

#[tokio::test]
async fn no_request_sees_half_of_a_group() {
    let world = World::builder().file("plugin.wasm", header_rules()).file("pair.yaml", pair("start")).start().await;
    world.until_header("x-left", "start").await;
    let same = |response: &Response| {
        !response.header("x-left").is_empty() && response.header("x-left") == response.header("x-right")
    };
    let pressure = press(&world, same);
    for round in 0..10 {
        let mark = format!("r{round}");
        world.gateway.write("pair.yaml", pair(&mark));
        world.until_header("x-right", &mark).await;
    }
    // One that is refused keeps the other from switching, and says so.
    let half = pair("half").replace("response: {set: {x-right: half}}", "respons: {}");
    world.gateway.write("pair.yaml", half);
    let held = |status: &Value| condition(status, "Degraded")["reason"] == "GroupHeldBack";
    let status = world.until_status("WasmPlugin", "left", held).await;
    assert_eq!(status["candidate"]["phase"], "Waiting", "{status:#}");
    let said = condition(&status, "Degraded")["message"].as_str().unwrap();
    assert!(said.contains("right (which was refused)"), "{said}");
    pressure.progress(20).await;
    world.gateway.write("pair.yaml", pair("whole"));
    world.until_header("x-left", "whole").await;
    assert_eq!(pressure.stop().await.failures, Vec::<String>::new());
}

#[tokio::test]
async fn after_a_kill_the_last_good_revision_serves_without_its_module() {
    let world = World::builder()
        .data_dir()
        .file("plugin.wasm", header_rules())
        .file("plugin.yaml", plugin("plugin.wasm", &greeting("one")))
        .start()
        .await;
    world.until_header("x-greeting", "one").await;
    until_metric(&world, r#"penstock_plugin_last_good_commits_total{result="ok"} 1"#).await;
    world.gateway.remove("plugin.wasm");
    world.gateway.kill_and_start();
    world.gateway.ready().await;
    assert_eq!(world.until_header("x-greeting", "one").await.status, 200);
    let both = |status: &Value| status["active"]["restored"] == true && status["candidate"]["reason"] == "FetchFailed";
    let status = world.until_status("WasmPlugin", "headers", both).await;
    assert_eq!(condition(&status, "Degraded")["reason"], "LastGoodServing", "{status:#}");
    until_metric(&world, r#"penstock_plugin_restores_total{result="newest"} 1"#).await;

    // Ten bytes of garbage in its place, and killed again: the same.
    world.gateway.write("plugin.wasm", "0123456789");
    world.until_status("WasmPlugin", "headers", |status| status["candidate"]["reason"] == "InvalidModule").await;
    world.gateway.kill_and_start();
    world.gateway.ready().await;
    assert_eq!(world.until_header("x-greeting", "one").await.status, 200);
    // Deleted is deleted: when it comes back broken, nothing of it serves.
    world.gateway.remove("plugin.yaml");
    world.gateway.until(world.port, "/", |response| response.header("x-greeting").is_empty()).await;
    until_metric(&world, r#"penstock_plugin_last_good_commits_total{result="ok"} 1"#).await;
    world.gateway.kill_and_start();
    world.gateway.ready().await;
    world.gateway.write("plugin.yaml", plugin("plugin.wasm", &greeting("one")));
    let refused = |status: &Value| status["candidate"]["reason"] == "InvalidModule";
    let status = world.until_status("WasmPlugin", "headers", refused).await;
    assert!(status["active"].is_null(), "{status:#}");
}

/// `KILLS` says how many; few of them otherwise, because a gateway takes longer to start than a store, which is killed more often where it is
/// tested by itself.
const KILLS: u64 = 12;

#[tokio::test]
async fn killed_at_any_instant_of_an_upgrade_one_whole_set_serves() {
    let kills = env::var("KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(KILLS);
    let seed = env::var("SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    eprintln!("SEED={seed} repeats these instants");
    let mut random = fastrand::Rng::with_seed(seed);
    // Good as soon as they serve: what is on probation is not kept.
    let marked =
        |n: u64| pair(&format!("n{n}")).replace("  activationGroup", "  probation: {for: 0s}\n  activationGroup");
    let world =
        World::builder().data_dir().file("plugin.wasm", header_rules()).file("pair.yaml", marked(0)).start().await;
    world.until_header("x-left", "n0").await;
    until_kept(&world).await;
    let (mut old, mut new) = (0, 0);
    for n in 1..=kills {
        world.gateway.write("pair.yaml", marked(n));
        // Any instant between the change and some time after it took effect.
        tokio::time::sleep(Duration::from_micros(random.u64(0..500_000))).await;
        // Without its module nothing but what was kept can serve.
        world.gateway.remove("plugin.wasm");
        world.gateway.kill_and_start();
        world.gateway.ready().await;
        let served = fetch(world.gateway.at(world.port), get("/")).await.unwrap();
        let marks = (served.header("x-left"), served.header("x-right"));
        assert_eq!((served.status, marks.0), (200, marks.1), "SEED={seed}, kill {n}: one whole set");
        let expected = [format!("n{}", n - 1), format!("n{n}")];
        assert!(
            expected.iter().any(|mark| mark == marks.0),
            "SEED={seed}, kill {n}: {marks:?}, not one of {expected:?}"
        );
        let is_new = marks.0 == expected[1];
        (old, new) = if is_new { (old, new + 1) } else { (old + 1, new) };
        world.gateway.write("plugin.wasm", header_rules());
        world.until_header("x-left", &expected[1]).await;
        if !is_new {
            until_kept(&world).await;
        }
    }
    eprintln!("{kills} kills: after {old} of them the set before the change served, after {new} the changed one");
}

/// Until this process has written a last good set.
async fn until_kept(world: &World) {
    eventually("a last good set on disk", async || (commits(world).await > 0).then_some(())).await;
}

/// Last good sets that this process has written.
async fn commits(world: &World) -> u64 {
    let page = world.gateway.admin("/metrics").await;
    let count =
        |line: &str| line.strip_prefix(r#"penstock_plugin_last_good_commits_total{result="ok"} "#)?.parse().ok();
    page.text().lines().find_map(count).unwrap_or(0)
}

/// While every request of one route meets a plugin that never returns, others on the same worker are served. What that costs them is printed.
#[tokio::test]
async fn neighbours_of_a_plugin_that_never_returns() {
    let world = World::builder()
        .argument("--workers=1")
        .file("stuck.yaml", route("stuck", "/stuck", ""))
        .file("plugin.wasm", guests::bytes(guests::FAULTY))
        .file(
            "plugin.yaml",
            plugin("plugin.wasm", "{at: request, fault: loop}")
                .replace("kind: Gateway, name: gw", "kind: HTTPRoute, name: stuck"),
        )
        .start()
        .await;
    let serving = |status: &Value| !status["active"].is_null();
    world.until_status("WasmPlugin", "headers", serving).await;
    let address = world.gateway.at(world.port);
    let stuck = || get("/stuck").header("x-fault", "1");
    eventually("the plugin to be called", async || {
        fetch(address, stuck()).await.ok().filter(|response| response.status == 503)
    })
    .await;
    let pressure = Pressure::start(address, Protocol::H1, 1, stuck, |response| response.status == 503);
    // Requests that it answers, so that calls do not stop for a while: that would help the neighbours.
    let answered = || get("/stuck");
    let answered =
        Pressure::start(address, Protocol::H1, 1, answered, |response| [200, 503].contains(&response.status));
    let mut times = Vec::new();
    let mut neighbour = Connection::h1(address).await.unwrap();
    for _ in 0..500 {
        let start = Instant::now();
        assert_eq!(neighbour.send(get("/")).await.unwrap().status, 200);
        times.push(start.elapsed());
    }
    pressure.progress(20).await;
    assert_eq!(pressure.stop().await.failures, Vec::<String>::new());
    assert_eq!(answered.stop().await.failures, Vec::<String>::new());
    times.sort_unstable();
    eprintln!(
        "neighbours of a plugin that never returns: median {:?}, 99 % {:?}, longest {:?}",
        times[times.len() / 2],
        times[times.len() * 99 / 100],
        times[times.len() - 1]
    );
}

/// Resident memory in KiB.
fn resident(world: &World) -> u64 {
    let path = PathBuf::from(format!("/proc/{}/status", world.gateway.id()));
    let status = fs::read_to_string(path).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test]
async fn reloads_under_load_lose_no_request_and_take_no_memory() {
    let reloads = env::var("RELOADS").ok().and_then(|text| text.parse().ok()).unwrap_or(RELOADS);
    let world = World::builder()
        .file("plugin.wasm", header_rules())
        .file("plugin.yaml", plugin("plugin.wasm", &greeting("start")))
        .start()
        .await;
    world.until_header("x-greeting", "start").await;
    let pressure = press(&world, |response| response.status == 200 && !response.header("x-greeting").is_empty());
    let mut samples = Vec::with_capacity(reloads);
    for reload in 0..reloads {
        let mark = format!("r{reload}");
        world.gateway.write("plugin.yaml", plugin("plugin.wasm", &greeting(&mark)));
        world.until_header("x-greeting", &mark).await;
        samples.push(resident(&world));
    }
    let outcome = pressure.stop().await;
    assert_eq!(outcome.failures, Vec::<String>::new());
    assert!(outcome.successes > reloads as u64, "{outcome:?}");
    // The first third fills what is kept on purpose. The peak of a part, because freed memory goes back now and then.
    let peak = |part: &[u64]| part.iter().copied().max().unwrap_or_default();
    let (early, late) = (peak(&samples[reloads / 3..reloads * 2 / 3]), peak(&samples[reloads * 2 / 3..]));
    eprintln!("{reloads} reloads, {} requests, peak resident {early} KiB, then {late} KiB", outcome.successes);
    assert!(late * 100 <= early * 105, "resident memory grows: {early} KiB, then {late} KiB; all: {samples:?}");
}

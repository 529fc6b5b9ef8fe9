//! A status is written when it says something new, and at no other time.
//!
//! That nothing is written cannot be waited for. So each test makes a change at the end whose status it does wait for: whatever the changes before
//! it would have led to has been written by then.

use penstock_testing::gateway::Gateway;
use serde_json::json;

use crate::{
    audit::{Write, count},
    cluster::{Namespace, class, condition, gateway, origin, route},
    install::Install,
};

/// Routes of a world.
const ROUTES: usize = 50;

struct World {
    namespace: Namespace,
    install: Install,
    _backend: penstock_testing::origin::Origin,
}

impl World {
    async fn settled(name: &str) -> (Self, Gateway) {
        let namespace = Namespace::new(name);
        let backend = origin("shop");
        namespace.backend("shop", backend.address());
        let install = Install::new(&namespace, "gateway");
        let manifests = class("$NS", &install.controller, "") + &gateway("web", "$NS") + &routes("first");
        namespace.apply(&manifests);
        let process = install.start().await;
        let world = Self { namespace, install, _backend: backend };
        world.namespace.address("web").await;
        for number in 0..ROUTES {
            world.namespace.until_routed(&format!("route-{number}"), &world.install.controller).await;
        }
        world.writes_until("first-fence", 0).await;
        (world, process)
    }

    /// What has been written since, when everything until now is written. The fence itself is left out.
    async fn writes_until(&self, fence: &str, since: usize) -> Vec<Write> {
        let before = self.namespace.get("gateway/web")["status"]["listeners"][0]["attachedRoutes"].clone();
        self.namespace.apply(&route(fence, &["web"], "/fence", "shop"));
        self.namespace.until_routed(fence, &self.install.controller).await;
        self.namespace
            .until("gateway/web", |gateway| gateway["status"]["listeners"][0]["attachedRoutes"] != before)
            .await;
        let mut writes = self.install.writes().split_off(since);
        let mut leave_out = |object: &str| {
            let at = writes.iter().position(|write| write.object == object);
            writes.remove(at.unwrap_or_else(|| panic!("{object} in {writes:?}")));
        };
        leave_out(&format!("httproutes/{fence}"));
        leave_out("gateways/web");
        writes
    }
}

fn routes(path: &str) -> String {
    (0..ROUTES)
        .map(|number| route(&format!("route-{number}"), &["web"], &format!("/{path}/{number}"), "shop"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_says_nothing_new_is_not_written() {
    let (world, process) = World::settled("steady").await;
    let namespace = &world.namespace;

    let since = world.install.writes().len();
    for round in 0..5 {
        let mark = format!("round={round}");
        namespace.kubectl(&["annotate", "gateway/web", "httproute/route-1", "service/shop", &mark, "--overwrite"]);
        namespace.kubectl(&["label", "endpointslice/shop", &mark, "--overwrite"]);
        namespace.kubectl(&["create", "configmap", &format!("unrelated-{round}")]);
        crate::cluster::kubectl(&["annotate", "gatewayclass", &namespace.name, &mark, "--overwrite"]);
    }
    assert_eq!(world.writes_until("after-unrelated-changes", since).await, []);

    // Killed, and started again with what it had on disk: it compares, and has nothing to say.
    let since = world.install.writes().len();
    process.kill_and_start();
    process.ready().await;
    assert_eq!(world.writes_until("after-a-kill", since).await, []);

    // Ended, and another process with an empty disk.
    let since = world.install.writes().len();
    process.terminate().await;
    let _process = world.install.start().await;
    assert_eq!(world.writes_until("after-a-restart", since).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_writes_each_status_once() {
    let (world, _process) = World::settled("storm").await;
    let since = world.install.writes().len();
    world.namespace.apply(&routes("second"));
    for number in 0..ROUTES {
        world.namespace.until_routed(&format!("route-{number}"), &world.install.controller).await;
    }
    let writes = world.writes_until("after-the-storm", since).await;
    let counts = count(&writes);
    assert!(counts.iter().all(|(object, count)| object.starts_with("httproutes/route-") && *count == 1), "{counts:?}");
    assert_eq!(counts.len(), ROUTES);
    assert!(writes.iter().all(|write| write.code == 200), "{writes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_condition_that_flips_gets_a_new_time() {
    const LONG_AGO: &str = "2020-01-01T00:00:00Z";
    let namespace = Namespace::new("times");
    let backend = origin("shop");
    namespace.backend("shop", backend.address());
    let install = Install::new(&namespace, "gateway");
    let world = class("$NS", &install.controller, "") + &gateway("web", "$NS") + &route("shop", &["web"], "/", "shop");
    namespace.apply(&world);
    let _process = install.start().await;
    namespace.until_routed("shop", &install.controller).await;

    // Seconds are too coarse to see a change in a test, so the conditions get older than they are.
    let mut parents = namespace.get("httproute/shop")["status"]["parents"].clone();
    for condition in parents[0]["conditions"].as_array_mut().unwrap() {
        condition["lastTransitionTime"] = LONG_AGO.into();
    }
    let patch = json!({ "status": { "parents": parents } }).to_string();
    namespace.kubectl(&["patch", "httproute/shop", "--subresource=status", "--type=merge", "--patch", &patch]);
    namespace.apply(&route("shop", &["web"], "/", "missing"));
    let route = namespace
        .until("httproute/shop", |route| {
            condition(&route["status"]["parents"][0]["conditions"], "ResolvedRefs")["reason"] == "BackendNotFound"
        })
        .await;
    let conditions = &route["status"]["parents"][0]["conditions"];
    let (accepted, resolved) = (condition(conditions, "Accepted"), condition(conditions, "ResolvedRefs"));
    assert_eq!(accepted["observedGeneration"], route["metadata"]["generation"]);
    assert_eq!(accepted["lastTransitionTime"], LONG_AGO);
    assert_eq!(resolved["observedGeneration"], route["metadata"]["generation"]);
    assert_ne!(resolved["lastTransitionTime"], LONG_AGO);
}

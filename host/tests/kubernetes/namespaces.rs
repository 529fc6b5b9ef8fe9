//! What is in a namespace that is not selected does not exist for an installation.

use std::collections::BTreeSet;

use penstock_testing::{
    client::{fetch, get},
    eventually::eventually,
    guests,
};
use serde_json::{Value, json};

use crate::{
    audit::count,
    cluster::{Namespace, class, condition, gateway, kubectl, origin, route},
    hot_load::{is_programmed, module, plugin},
    install::Install,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_comes_and_goes_by_its_label() {
    let (named, labelled) = (Namespace::new("named"), Namespace::new("labelled"));
    let backends = ["named", "labelled"].map(origin);
    let install = Install::new(&named, "gateway")
        .argument("--watch-namespaces", &named.name)
        .argument("--namespace-selector", &format!("penstock.dev/watched-by={}", named.name));
    named.apply(&class("$NS", &install.controller, ""));
    for (namespace, backend) in [&named, &labelled].into_iter().zip(&backends) {
        namespace.backend("shop", backend.address());
        namespace.apply(&(gateway("web", &named.name) + &route("shop", &["web"], "/", "shop")));
    }
    let _process = install.start().await;
    let serves = async |namespace: &Namespace, body: &str| {
        let address = namespace.address("web").await;
        namespace.until_routed("shop", &install.controller).await;
        let answer = async || fetch(address, get("/")).await.ok().filter(|response| response.text() == body);
        eventually(body, answer).await;
        address
    };
    serves(&named, "named").await;
    assert_eq!(labelled.get("httproute/shop")["status"]["parents"], Value::Null, "nobody looks there");

    let label = format!("penstock.dev/watched-by={}", named.name);
    kubectl(&["label", "namespace", &labelled.name, &label]);
    let address = serves(&labelled, "labelled").await;

    // It is not served any more, and nothing is written about it, not even that.
    let before = labelled.get("httproute/shop")["status"].clone();
    let since = install.writes().len();
    kubectl(&["label", "namespace", &labelled.name, "penstock.dev/watched-by-"]);
    eventually("nobody serves it", async || fetch(address, get("/")).await.is_err().then_some(())).await;
    labelled.apply(&route("shop", &["web"], "/other", "missing"));
    named.apply(&route("fence", &["web"], "/fence", "shop"));
    named.until_routed("fence", &install.controller).await;
    assert_eq!(labelled.get("httproute/shop")["status"], before);
    let writes = install.writes().split_off(since);
    assert!(!count(&writes).contains_key("httproutes/shop"), "{writes:?}");
}

/// Whoever names the namespaces grants nothing in any other.
#[tokio::test(flavor = "multi_thread")]
async fn permissions_in_the_watched_namespaces_are_enough() {
    let (namespace, other) = (Namespace::new("confined"), Namespace::new("beyond"));
    let backend = origin("shop");
    for namespace in [&namespace, &other] {
        namespace.backend("shop", backend.address());
    }
    let install = Install::new(&namespace, "gateway").confined();
    assert!(!install.may("list", "secrets") && !install.may("watch", "services") && install.may("watch", "namespaces"));
    let world = gateway("web", &namespace.name) + &route("shop", &["web"], "/", "shop");
    namespace.apply(&(class("$NS", &install.controller, "") + &world + &plugin("Gateway", "web", "one")));
    other.apply(&world);
    module(&namespace, "rules", &guests::bytes(guests::HEADER_RULES));
    let _process = install.start().await;
    let address = namespace.address("web").await;
    namespace.until_routed("shop", &install.controller).await;
    namespace.until("wasmplugin/rules", is_programmed).await;
    let answer = async || fetch(address, get("/")).await.ok().filter(|response| response.header("x-rules") == "one");
    eventually("the plugin serves", answer).await;
    namespace.delete("wasmplugin/rules");
    let answer = async || fetch(address, get("/")).await.ok().filter(|response| response.header("x-rules").is_empty());
    eventually("and is gone", answer).await;
    assert_eq!(other.get("gateway/web")["status"]["addresses"], Value::Null);
}

/// Two installations with the same controller name, and a route that both see: each has a Gateway of it in a namespace that the other does not see.
#[tokio::test(flavor = "multi_thread")]
async fn installations_whose_namespaces_overlap_leave_each_others_entries_alone() {
    let [shared, first, second] = ["overlap", "overlap-one", "overlap-two"].map(Namespace::new);
    let backend = origin("shop");
    shared.backend("shop", backend.address());
    let controller = format!("example.com/{}", shared.name);
    let installs = [&first, &second].map(|own| {
        let namespaces = format!("{},{}", shared.name, own.name);
        Install::new(own, "gateway").controlling(&controller).argument("--watch-namespaces", &namespaces)
    });
    shared.apply(&class("$NS", &controller, ""));
    for own in [&first, &second] {
        let open = gateway("web", &shared.name)
            .replace("protocol: HTTP }", "protocol: HTTP, allowedRoutes: { namespaces: { from: All } } }");
        own.apply(&open);
    }
    let parents: Vec<Value> =
        [&first, &second].map(|own| json!({ "name": "web", "namespace": own.name })).into_iter().collect();
    let both = |path: &str| {
        let route = route("shop", &[], path, "shop");
        route.replace("parentRefs: []", &format!("parentRefs: {}", Value::from(parents.clone())))
    };
    shared.apply(&both("/"));
    let namespaces_of = |route: &Value| -> BTreeSet<String> {
        let entries = route["status"]["parents"].as_array().cloned().unwrap_or_default();
        entries.iter().map(|it| it["parentRef"]["namespace"].as_str().unwrap().to_owned()).collect()
    };
    let all: BTreeSet<String> = [&first, &second].map(|own| own.name.clone()).into();
    let one = installs[0].start().await;
    let two = installs[1].start().await;
    shared.until("httproute/shop", |route| namespaces_of(route) == all).await;

    // A change is written by both, and each leaves the other's entry as it is.
    shared.apply(&both("/other"));
    let is_current = |route: &Value| {
        let entries = route["status"]["parents"].as_array().cloned().unwrap_or_default();
        let observed = |it: &Value| condition(&it["conditions"], "Accepted")["observedGeneration"].clone();
        entries.len() == 2 && entries.iter().all(|it| observed(it) == route["metadata"]["generation"])
    };
    shared.until("httproute/shop", is_current).await;
    for install in &installs {
        let writes = install.writes();
        assert_eq!(writes.iter().filter(|write| write.object == "httproutes/shop" && write.code == 200).count(), 2);
    }
    drop((one, two));
}

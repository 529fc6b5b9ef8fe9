//! Several installations on one cluster: each takes and writes what is its own, and nothing else.

use std::{collections::BTreeSet, time::Instant};

use penstock_testing::{
    client::{fetch, get},
    eventually::eventually,
};
use serde_json::{Value, json};

use crate::{
    audit::count,
    cluster::{Namespace, class, condition, gateway, kubectl, origin, route},
    install::{Install, Two, sockets, written},
    outage::patiently,
};

/// Entries of the route's status by another controller: about its own Gateway, and about one of ours.
fn foreign_entries(namespace: &Namespace) -> Vec<Value> {
    let entry = |gateway: &str, reason: &str| {
        json!({
            "controllerName": "example.org/other",
            "parentRef": { "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": gateway, "namespace": namespace.name },
            "conditions": [{
                "type": "Accepted", "status": "False", "reason": reason, "message": "not ours to judge",
                "observedGeneration": 1, "lastTransitionTime": "2020-01-01T00:00:00Z",
            }],
        })
    };
    vec![entry("foreign", "NotAllowedByListeners"), entry("internal", "NoMatchingParent")]
}

/// Classes and Gateways `internal`, `external` and `foreign`, and a route to all of them that another controller has looked at.
fn world(namespace: &Namespace, controller: &str) {
    let mut manifests = [("internal", controller), ("external", controller), ("foreign", "example.org/other")]
        .map(|(name, controller)| {
            class(&format!("$NS-{name}"), controller, &format!("lb: {name}")) + &gateway(name, &format!("$NS-{name}"))
        })
        .concat();
    manifests += &route("shop", &["internal", "external", "foreign"], "/", "shop");
    namespace.apply(&manifests);
    let status = json!({ "status": { "parents": foreign_entries(namespace) } }).to_string();
    namespace.kubectl(&["patch", "httproute/shop", "--subresource=status", "--type=merge", "--patch", &status]);
}

fn entries(route: &Value) -> Vec<Value> {
    route["status"]["parents"].as_array().cloned().unwrap_or_default()
}

/// About which Gateways a controller has an entry.
fn gateways_of(route: &Value, controller: &str) -> BTreeSet<String> {
    let ours = entries(route).into_iter().filter(|entry| entry["controllerName"] == controller);
    ours.map(|entry| entry["parentRef"]["name"].as_str().unwrap().to_owned()).collect()
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(ToString::to_string).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn installations_that_differ_in_a_label_leave_each_other_alone() {
    let namespace = Namespace::new("labels");
    let backend = origin("shop");
    namespace.backend("shop", backend.address());
    let internal = Install::new(&namespace, "internal").argument("--class-selector", "lb=internal");
    let external = Install::new(&namespace, "external").argument("--class-selector", "lb=external");
    world(&namespace, &internal.controller);
    let untouched = namespace.get("gateway/foreign");

    let (first, second) = (internal.start().await, external.start().await);
    let (inside, outside) = (namespace.address("internal").await, namespace.address("external").await);
    let both = names(&["internal", "external"]);
    let route = namespace.until("httproute/shop", |route| gateways_of(route, &internal.controller) == both).await;

    // Entries of others stay as they are and where they are, also the one about a Gateway of ours.
    assert_eq!(entries(&route)[..2], foreign_entries(&namespace));
    assert_eq!(entries(&route).len(), 4);
    assert_eq!(namespace.get("gateway/foreign"), untouched);
    for (process, address) in [(&first, inside), (&second, outside)] {
        let listens = async || (sockets(process).await == [address.to_string()]).then_some(());
        eventually("its own socket and no other", listens).await;
    }
    assert!(inside.to_string().starts_with(&internal.pool) && outside.to_string().starts_with(&external.pool));
    for address in [inside, outside] {
        assert_eq!(fetch(address, get("/")).await.unwrap().text(), "shop");
    }
    for (install, name) in [(&internal, "internal"), (&external, "external")] {
        let class = format!("{}-{name}", namespace.name);
        namespace.until_condition(&format!("gatewayclass/{class}"), "Accepted", "True").await;
        let (class, gateway) = (format!("gatewayclasses/{class}"), format!("gateways/{name}"));
        let written: BTreeSet<_> = count(&install.writes()).keys().map(ToString::to_string).collect();
        assert_eq!(written, names(&[&class, &gateway, "httproutes/shop"]), "{name}");
    }

    // Nobody counts what is not his.
    for process in [&first, &second] {
        let metrics = process.admin("/metrics").await;
        for counted in ["GatewayClass", "Gateway", "HTTPRoute"] {
            let counted = format!("penstock_resources{{kind=\"{counted}\"}} 1\n");
            assert!(metrics.text().contains(&counted), "{}", metrics.text());
        }
    }

    // Somebody removes an entry of ours: it comes back. The others are as they were.
    let others: Vec<_> = entries(&route).into_iter().filter(|entry| entry["parentRef"]["name"] != "external").collect();
    let patch = json!({ "status": { "parents": others } }).to_string();
    namespace.kubectl(&["patch", "httproute/shop", "--subresource=status", "--type=merge", "--patch", &patch]);
    let route = namespace.until("httproute/shop", |route| gateways_of(route, &internal.controller) == both).await;
    assert_eq!(entries(&route)[..3], others);
    let restored = r#"penstock_status_writes_total{kind="HTTPRoute",reason="restored"} 1"#;
    eventually("it is counted", async || second.admin("/metrics").await.text().contains(restored).then_some(())).await;

    // Without the reference, its entry goes, and nobody else's.
    namespace.apply(&crate::cluster::route("shop", &["external", "foreign"], "/", "shop"));
    let route = namespace
        .until("httproute/shop", |route| gateways_of(route, &internal.controller) == names(&["external"]))
        .await;
    assert_eq!(entries(&route)[..2], foreign_entries(&namespace));
    assert_eq!(entries(&route)[2]["parentRef"]["name"], "external");
}

/// What belongs to another controller is heard of, and that is all: nothing is worked out, published or written for it.
#[tokio::test(flavor = "multi_thread")]
async fn what_others_do_causes_no_work() {
    let namespace = Namespace::new("foreign");
    let backend = origin("shop");
    namespace.backend("shop", backend.address());
    // What happens in other namespaces meanwhile is not what is counted here.
    let install = Install::new(&namespace, "gateway").argument("--watch-namespaces", &namespace.name);
    namespace.apply(&(class("$NS", &install.controller, "") + &class("$NS-foreign", "example.org/other", "")));
    namespace.apply(&(gateway("web", "$NS") + &route("shop", &["web"], "/", "shop")));
    let process = install.start().await;
    namespace.address("web").await;
    // What is written after everything before it has come to rest.
    let settled = async |fence: &str| {
        namespace.apply(&route(fence, &["web"], &format!("/{fence}"), "shop"));
        namespace.until_routed(fence, &install.controller).await;
    };
    settled("settled").await;
    let counted = async || {
        let metrics = process.admin("/metrics").await;
        ["penstock_translation_seconds_count", "penstock_snapshots_total"].map(|name| {
            let line = metrics.text().lines().find(|line| line.starts_with(&format!("{name} "))).unwrap().to_owned();
            line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
        })
    };
    let (before, since) = (counted().await, install.writes().len());
    for round in 0..3 {
        for number in 0..10 {
            let name = format!("foreign-{number}");
            let theirs = gateway(&name, "$NS-foreign").replace("port: 80", &format!("port: {}", 8000 + round));
            namespace.apply(&(theirs + &route(&name, &[&name], &format!("/{round}"), "shop")));
        }
    }
    namespace.delete("gateway/foreign-0");
    namespace.delete("httproute/foreign-1");
    settled("after").await;
    // One of each for the route that tells that all of it has been heard.
    let after = counted().await;
    assert_eq!([after[0] - before[0], after[1] - before[1]], [1, 1]);
    let writes = install.writes().split_off(since);
    assert!(writes.iter().all(|it| ["httproutes/after", "gateways/web"].contains(&it.object.as_str())), "{writes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_class_is_handed_over_by_its_label() {
    let namespace = Namespace::new("handover");
    let backend = origin("shop");
    namespace.backend("shop", backend.address());
    let one = Install::new(&namespace, "one").argument("--class-selector", "lb=one");
    let two = Install::new(&namespace, "two").argument("--class-selector", "lb=two");
    let web = class("$NS", &one.controller, "lb: one") + &gateway("web", "$NS") + &route("shop", &["web"], "/", "shop");
    namespace.apply(&web);
    let (first, second) = (one.start().await, two.start().await);
    let before = namespace.address("web").await;
    namespace.until_routed("shop", &one.controller).await;
    assert!(before.to_string().starts_with(&one.pool));
    assert_eq!(two.writes(), []);

    kubectl(&["label", "gatewayclass", &namespace.name, "lb=two", "--overwrite"]);
    eventually("the first one leaves", async || sockets(&first).await.is_empty().then_some(())).await;
    eventually("the second one listens", async || (sockets(&second).await.len() == 1).then_some(())).await;
    let gateway = namespace
        .until("gateway/web", |gateway| {
            let address = gateway["status"]["addresses"][0]["value"].as_str().unwrap_or_default();
            address.starts_with(&two.pool)
        })
        .await;
    assert_eq!(gateway["status"]["listeners"][0]["attachedRoutes"], 1);
    let route = namespace.get("httproute/shop");
    assert_eq!(entries(&route).len(), 1, "who comes takes the entry over, who goes does not remove it: {route:#}");
    let after = namespace.address("web").await;
    assert_eq!(fetch(after, get("/")).await.unwrap().text(), "shop");

    // Handed over to nobody, class and Gateway have no word of ours any more.
    kubectl(&["label", "gatewayclass", &namespace.name, "lb-"]);
    let waits = |object: &Value| {
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().all(|it| it["status"] == "Unknown") && object["status"]["supportedFeatures"].is_null()
    };
    namespace.until(&format!("gatewayclass/{}", namespace.name), waits).await;
    let gateway = namespace.until("gateway/web", waits).await;
    assert_eq!((&gateway["status"]["addresses"], &gateway["status"]["listeners"]), (&Value::Null, &Value::Null));
    eventually("nobody listens", async || sockets(&second).await.is_empty().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_away_from_us_is_left_without_a_trace() {
    let namespace = Namespace::new("withdrawn");
    let backend = origin("shop");
    namespace.backend("shop", backend.address());
    let install = Install::new(&namespace, "gateway");
    let classes = class("$NS", &install.controller, "") + &class("$NS-other", "example.org/other", "");
    let routes = route("shop", &["web"], "/", "shop") + &route("stays", &["stays"], "/", "shop");
    namespace.apply(&(classes + &gateway("web", "$NS") + &gateway("stays", "$NS") + &routes));
    let process = install.start().await;
    namespace.address("web").await;
    namespace.until_routed("shop", &install.controller).await;
    eventually("both sockets", async || (sockets(&process).await.len() == 2).then_some(())).await;

    // What somebody else has noted about it stays.
    let noted = note(&namespace, "gateway/web");
    move_to(&namespace, "gateway/web", &format!("{}-other", namespace.name));
    namespace.until("httproute/shop", |route| entries(route).is_empty()).await;
    eventually("the sockets of the other Gateway", async || (sockets(&process).await.len() == 1).then_some(())).await;
    let left = json!({ "conditions": [noted] });
    namespace.until("gateway/web", |gateway| gateway["status"] == left).await;

    // One that is moved while nobody is there loses it at the next start, and stands there as one for which a controller is waited.
    process.terminate().await;
    move_to(&namespace, "gateway/stays", &format!("{}-other", namespace.name));
    let process = install.start().await;
    namespace.until("httproute/stays", |route| entries(route).is_empty()).await;
    let stays = namespace.until("gateway/stays", |it| it["status"]["addresses"].is_null()).await;
    assert_eq!(stays["status"]["listeners"], Value::Null, "{stays:#}");
    let conditions = stays["status"]["conditions"].as_array().unwrap();
    assert!(conditions.iter().all(|it| it["status"] == "Unknown" && it["reason"] == "Pending"), "{conditions:#?}");
    assert_eq!(sockets(&process).await, [""; 0]);

    // And that is all that is written about it.
    let written = || count(&install.writes()).get("gateways/stays").copied();
    let before = written();
    namespace.kubectl(&["annotate", "gateway/stays", "example.org/touched=yes"]);
    namespace.apply(&(gateway("fence", "$NS") + &route("fence", &["fence"], "/", "shop")));
    namespace.until_routed("fence", &install.controller).await;
    assert_eq!(written(), before);

    namespace.delete("gateway/fence");
    namespace.until("httproute/fence", |route| entries(route).is_empty()).await;
    eventually("no socket", async || sockets(&process).await.is_empty().then_some(())).await;
}

fn move_to(namespace: &Namespace, gateway: &str, class: &str) {
    let theirs = json!({ "spec": { "gatewayClassName": class } }).to_string();
    namespace.kubectl(&["patch", gateway, "--type=merge", "--patch", &theirs]);
}

/// A condition that somebody else adds to an object.
fn note(namespace: &Namespace, object: &str) -> Value {
    let noted = json!({
        "type": "example.org/Seen", "status": "True", "reason": "Seen", "message": "not the gateway's",
        "lastTransitionTime": "2020-01-01T00:00:00Z",
    });
    let mut conditions = namespace.get(object)["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.push(noted.clone());
    let status = json!({ "status": { "conditions": conditions } }).to_string();
    namespace.kubectl(&["patch", object, "--subresource=status", "--type=merge", "--patch", &status]);
    noted
}

/// Two installations that own the same class by mistake, each with addresses of its own. Neither can win; both must notice.
#[tokio::test(flavor = "multi_thread")]
async fn a_class_with_two_owners_is_no_war() {
    let (namespace, elsewhere) = (Namespace::new("war"), Namespace::new("war-too"));
    let one = Install::new(&namespace, "one");
    let two = Install::new(&elsewhere, "two").controlling(&one.controller);
    namespace.apply(&(class("$NS", &one.controller, "") + &gateway("web", "$NS")));
    let began = Instant::now();
    let (first, second) = (one.start().await, two.start().await);
    // The slower one has waited for twice as long as the quicker one.
    for process in [&first, &second] {
        let noticed = async || process.log().contains("somebody else keeps changing this status").then_some(());
        patiently("it is noticed", noticed).await;
        let counted = r#"penstock_status_contests_total{kind="Gateway"} 1"#;
        let counted = async || process.admin("/metrics").await.text().contains(counted).then_some(());
        eventually("it is counted", counted).await;
    }
    let selector = "--field-selector=reason=StatusContested,regarding.kind=Gateway,regarding.name=web";
    let told = || namespace.kubectl(&["get", "events.events.k8s.io", selector, "--output=json"]);
    let reporters = |events: &str| -> BTreeSet<String> {
        let events: Value = serde_json::from_str(events).unwrap();
        let events = events["items"].as_array().unwrap().iter();
        events.map(|event| event["reportingInstance"].as_str().unwrap().to_owned()).collect()
    };
    eventually("both tell it", async || (reporters(&told()).len() == 2).then_some(())).await;
    for install in [&one, &two] {
        // Who comes second is refused and tries again, which is no write.
        let writes: Vec<_> = install.writes().into_iter().filter(|write| write.code == 200).collect();
        let of_gateway = count(&writes).get("gateways/web").copied().unwrap_or_default();
        let minutes = began.elapsed().as_secs() / 60 + 1;
        assert!(u64::try_from(of_gateway).unwrap() < 10 * minutes, "{writes:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_three_replicas_one_writes() {
    let namespace = Namespace::new("replicas");
    let backend = origin("shop");
    namespace.backend("shop", backend.address());
    let install = Install::new(&namespace, "gateway");
    namespace.apply(&(class("$NS", &install.controller, "") + &gateway("web", "$NS")));
    let mut replicas = Vec::new();
    for name in ["a", "b", "c"] {
        replicas.push(install.replica(name).start().await);
    }
    namespace.apply(&route("before", &["web"], "/", "shop"));
    namespace.until_routed("before", &install.controller).await;
    let writers = async || {
        let mut writers = Vec::new();
        for (at, replica) in replicas.iter().enumerate() {
            writers.extend((written(replica).await > 0).then_some(at));
        }
        (!writers.is_empty()).then_some(writers)
    };
    let writers = eventually("what was written is counted", writers).await;
    let [leader] = writers[..] else { panic!("{writers:?} write") };
    let before = install.writes().len();

    // Who ends gives the lease back, and somebody else writes at once what is new, and only that.
    replicas.remove(leader).terminate().await;
    namespace.apply(&route("after", &["web"], "/after", "shop"));
    namespace.until_routed("after", &install.controller).await;
    let after = install.writes().split_off(before);
    assert_eq!(count(&after).get("httproutes/before"), None, "{after:?}");
}

/// What the definitions say of which version of Gateway API they are.
struct Bundle(String);

const BUNDLE: &str = "gateway.networking.k8s.io/bundle-version";

impl Bundle {
    /// Until it is dropped, those of Gateways say that they are of this one.
    fn set(version: &str) -> Self {
        let path = format!("--output=jsonpath={{.metadata.annotations.{}}}", BUNDLE.replace('.', "\\."));
        let before = kubectl(&["get", "crd", "gateways.gateway.networking.k8s.io", &path]);
        Self::annotate(version);
        Self(before)
    }

    fn annotate(version: &str) {
        let annotation = format!("{BUNDLE}={version}");
        kubectl(&["annotate", "crd", "gateways.gateway.networking.k8s.io", &annotation, "--overwrite"]);
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        Self::annotate(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_class_says_whether_the_version_of_gateway_api_is_known() {
    let namespace = Namespace::new("version");
    let install = Install::new(&namespace, "gateway");
    namespace.apply(&class("$NS", &install.controller, ""));
    let process = install.start().await;
    let class = format!("gatewayclass/{}", namespace.name);
    namespace.until_condition(&class, "SupportedVersion", "True").await;
    let later = Bundle::set("v1.99.0");
    let unsupported = namespace.until_condition(&class, "SupportedVersion", "False").await;
    let conditions = &unsupported["status"]["conditions"];
    assert_eq!(condition(conditions, "SupportedVersion")["reason"], "UnsupportedVersion");
    assert_eq!(condition(conditions, "Accepted")["status"], "True", "what is known of it is served");
    let since = install.writes().len();
    process.kill_and_start();
    process.ready().await;
    drop(later);
    namespace.until_condition(&class, "SupportedVersion", "True").await;
    assert_eq!(install.writes().len(), since + 1, "the restart wrote nothing");
}

/// Two installations of different names with a Gateway each, and one route: each has its entry, and nobody writes for what the other one wrote.
#[tokio::test(flavor = "multi_thread")]
async fn two_installations_share_a_route() {
    let backend = origin("shop");
    let both = Two::new("one-route", backend.address(), &route("shop", &["one", "two"], "/", "shop"));
    let Two { namespace, one, two, .. } = &both;
    let processes = [one.start().await, two.start().await];
    both.until_routed("shop").await;
    let is_current = |route: &Value| {
        let observed = |it: &Value| condition(&it["conditions"], "Accepted")["observedGeneration"].clone();
        entries(route).len() == 2 && entries(route).iter().all(|it| observed(it) == route["metadata"]["generation"])
    };
    let before = namespace.until("httproute/shop", is_current).await;
    let since = both.written("httproutes/shop");
    namespace.apply(&route("shop", &["one", "two"], "/other", "shop"));
    let after = namespace.until("httproute/shop", is_current).await;
    let owners =
        |route: &Value| -> Vec<Value> { entries(route).iter().map(|it| it["controllerName"].clone()).collect() };
    assert_eq!(owners(&after), owners(&before), "in their places");
    let writes = both.written("httproutes/shop");
    assert_eq!([writes[0] - since[0], writes[1] - since[1]], [1, 1], "nobody writes for what the other one wrote");

    // One loses its parent: its entry goes, and the other's stays byte by byte.
    let theirs = entries(&after).into_iter().find(|it| it["controllerName"] == two.controller.as_str()).unwrap();
    namespace.delete("gateway/one");
    let left = namespace.until("httproute/shop", |route| entries(route).len() == 1).await;
    assert_eq!(entries(&left)[0], theirs);
    drop(processes);
}

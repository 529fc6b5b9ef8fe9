//! What is in a namespace that is not selected does not exist for an installation.

use penstock_testing::{
    client::{fetch, get},
    eventually::eventually,
};
use serde_json::Value;

use crate::{
    audit::count,
    cluster::{Namespace, class, gateway, kubectl, origin, route},
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

//! Cookies that remember a backend.

#![allow(clippy::unwrap_used, reason = "a test may, and so may what it is made of")]
#![allow(clippy::needless_pass_by_value, reason = "tests hand over what `json!` makes")]

mod support;

use serde_json::{Value, json};
use support::{Outcome, Routed, SHOP};

fn sticky(sticky: Value) -> Routed {
    Routed::new(json!({"rules": [{"to": {"sticky": sticky}}]}), &SHOP)
}

/// `name=value` of what `set-cookie` says.
fn pair(cookie: &str) -> String {
    cookie.split(';').next().unwrap().to_owned()
}

#[test]
fn the_first_response_sets_a_cookie_and_later_requests_follow_it() {
    let harness = sticky(json!({"cookie": "route"}));
    for _ in 0..4 {
        let first = harness.get("/").run();
        let (backend, cookie) = (first.clone().backend(), first.cookie().unwrap());
        for _ in 0..5 {
            let again = harness.get("/").header("cookie", format!("a=b; {}", pair(&cookie))).run();
            assert_eq!((again.clone().backend(), again.cookie()), (backend.clone(), None));
        }
    }
}

#[test]
fn new_clients_are_spread_by_weight() {
    let harness = sticky(json!({"cookie": "route"}));
    harness.set_candidates(&[("s/a:80", 3, 1), ("s/b:80", 1, 1), ("s/c:80", 0, 1), ("s/d:80", 5, 0)]);
    let mut of_a = 0;
    for _ in 0..400 {
        match harness.get("/").rule(2).backend().as_str() {
            "s/a:80" => of_a += 1,
            other => assert_eq!(other, "s/b:80", "neither weight 0 nor without endpoints"),
        }
    }
    assert_eq!(of_a, 300);
}

#[test]
fn attributes_are_written_as_configured() {
    let harness = sticky(json!({"cookie": "route"}));
    let cookie = harness.get("/").cookie().unwrap();
    let (value, attributes) = cookie.split_once("; ").unwrap();
    assert_eq!(value.len(), "route=".len() + 16);
    assert!(!value.contains("blue") && !value.contains("green"), "the cluster's names stay inside");
    assert_eq!(attributes, "Path=/; SameSite=Lax; HttpOnly");
    let tls = harness.get("/").header(":scheme", "https").cookie().unwrap();
    assert!(tls.ends_with("; SameSite=Lax; HttpOnly; Secure"), "{tls}");
    let harness = sticky(json!({
        "cookie": "__Secure-r", "path": "/shop", "domain": "example.com", "maxAge": "1h30m",
        "sameSite": "None", "secure": "Always", "httpOnly": false,
    }));
    let cookie = harness.get("/").cookie().unwrap();
    assert!(cookie.ends_with("; Path=/shop; Domain=example.com; Max-Age=5400; SameSite=None; Secure"), "{cookie}");
    let never = sticky(json!({"cookie": "r", "secure": "Never", "sameSite": "Strict"}));
    let cookie = never.get("/").header(":scheme", "https").cookie().unwrap();
    assert!(cookie.ends_with("; SameSite=Strict; HttpOnly"), "{cookie}");
}

/// A client that the backend `web/blue:80` has.
fn of_blue(harness: &Routed) -> String {
    let found = (0..4).map(|_| harness.get("/").run()).find(|chosen| chosen.clone().backend() == "web/blue:80");
    pair(&found.unwrap().cookie().unwrap())
}

#[test]
fn other_backends_may_come_and_go() {
    let harness = sticky(json!({"cookie": "route"}));
    let cookie = of_blue(&harness);
    harness.set_candidates(&[("web/new:80", 9, 1), ("web/other:80", 1, 1), ("web/blue:80", 1, 1)]);
    let chosen = harness.get("/").header("cookie", &*cookie).rule(2).run();
    assert_eq!((chosen.clone().backend(), chosen.cookie()), ("web/blue:80".to_owned(), None));
    harness.set_candidates(&[("web/new:80", 9, 1), ("web/blue:80", 0, 1)]);
    assert_eq!(harness.get("/").header("cookie", &*cookie).rule(3).backend(), "web/blue:80", "weight 0 drains");
}

#[test]
fn a_cookie_opens_no_backend_that_other_rules_choose() {
    let rules = json!({"rules": [
        {"when": [{"header": "x-channel", "exact": "beta"}], "to": {"backend": "canary"}},
        {"to": {"sticky": {"cookie": "route"}}},
    ]});
    let harness = Routed::new(rules, &[("web/canary:8080", 1, 1)]);
    // What anybody can compute, here from a rule in which the backend has a weight.
    let forged = pair(&harness.get("/").cookie().unwrap());
    harness.set_candidates(&SHOP);
    let chosen = harness.get("/").rule(2).header("cookie", &*forged).run();
    assert_ne!(chosen.clone().backend(), "web/canary:8080");
    assert!(chosen.cookie().is_some(), "it gets another one");
    assert_eq!(harness.get("/").rule(2).header("x-channel", "beta").backend(), "web/canary:8080");
}

#[test]
fn a_backend_without_endpoints_is_left_and_the_cookie_set_anew() {
    let harness = sticky(json!({"cookie": "route"}));
    let cookie = of_blue(&harness);
    harness.set_candidates(&[("web/blue:80", 1, 0), ("web/green:80", 1, 1)]);
    let chosen = harness.get("/").header("cookie", &*cookie).run();
    assert_eq!(chosen.clone().backend(), "web/green:80");
    let anew = pair(&chosen.cookie().unwrap());
    assert_eq!(anew.len(), "route=".len() + 16, "the one that was not ready is forgotten");
    harness.set_candidates(&SHOP);
    assert_eq!(harness.get("/").header("cookie", &*anew).backend(), "web/green:80", "and it stays there");
    harness.set_candidates(&SHOP.map(|(name, weight, _)| (name, weight, 0)));
    let nobody = harness.get("/").header("cookie", &*anew).run();
    assert_eq!((nobody.clone().backend(), nobody.cookie()), (String::new(), None));
}

#[test]
fn several_rules_share_a_cookie() {
    let harness = sticky(json!({"cookie": "route"}));
    let first = of_blue(&harness);
    harness.set_candidates(&[("other/a:80", 1, 1), ("other/b:80", 1, 1)]);
    let second = harness.get("/").header("cookie", &*first).rule(2).run();
    let (backend, cookie) = (second.clone().backend(), pair(&second.cookie().unwrap()));
    let other = harness.get("/").header("cookie", &*cookie).rule(2).run();
    assert_eq!((other.clone().backend(), other.cookie()), (backend, None));
    harness.set_candidates(&SHOP);
    let back = harness.get("/").header("cookie", &*cookie).rule(1).run();
    assert_eq!(
        (back.clone().backend(), back.cookie()),
        ("web/blue:80".to_owned(), None),
        "neither rule unsettles the other"
    );
}

#[test]
fn what_clients_write_into_the_cookie_does_no_harm() {
    let harness = sticky(json!({"cookie": "route"}));
    for cookie in ["route=", "route=nonsense", "route=0000000000000000", "route=ffffffffffffffff.zz", "route=\u{fc}"] {
        let chosen = harness.get("/").header("cookie", cookie).run();
        assert!(chosen.cookie().is_some(), "{cookie}");
    }
}

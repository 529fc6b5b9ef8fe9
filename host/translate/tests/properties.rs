//! What holds for every world: translation is total, does not depend on the order of events, and remembers nothing that it should not.
//!
//! The worlds are mixtures of all golden worlds: their resources share names, so a mixture is full of references that come, go and break.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use std::{collections::BTreeMap, path::Path, sync::Arc};

use common::render;
use fastrand::Rng;
use penstock_core::{
    Kind, ResourceRef,
    fact::{Fact, SocketState},
    plugin::{ActiveRevision, Candidate, Hooks, Phase, PluginState, Rejection, Revision},
};
use penstock_translate::{
    Change, GatewayServices, Resources, ServiceType, Settings, Translation, Translator, resources::Object, translate,
};
use serde_json::{Value, json};

/// Every document of every golden world.
fn documents() -> Vec<Value> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let all = common::worlds(&directory).into_iter().flat_map(|world| common::resource_documents(&world));
    all.collect()
}

fn objects() -> Vec<Object> {
    documents().into_iter().map(|document| parse(document).unwrap()).collect()
}

fn parse(document: Value) -> Option<Object> {
    let text = |field: &str| document.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    Object::parse(&text("apiVersion"), &text("kind"), document).ok()
}

fn cluster() -> Settings {
    let services = GatewayServices::Shared(GatewayServices::named("penstock-system/penstock").unwrap());
    Settings { implied_class: None, services, ..Settings::standalone() }
}

/// A step that may happen to any world.
fn random_change(rng: &mut Rng, objects: &[Object], last: &Translation) -> Change {
    match rng.u8(0..10) {
        0..6 => Change::Upsert(objects[rng.usize(..objects.len())].clone()),
        6..8 => Change::Delete(objects[rng.usize(..objects.len())].reference()),
        8 => {
            let sockets = &last.needs.sockets;
            let address = match sockets.len() {
                0 => ([127, 0, 0, 1], 1).into(),
                len => sockets[rng.usize(..len)],
            };
            let state = match rng.u8(0..3) {
                0 => SocketState::Bound,
                1 => SocketState::Failed("address in use".into()),
                _ => SocketState::Closed,
            };
            Change::Observe(Fact::Socket(address, state))
        }
        _ => {
            let plugins: Vec<ResourceRef> =
                objects.iter().map(Object::reference).filter(|id| id.kind == Kind::WasmPlugin).collect();
            let state = Arc::new(random_state(rng));
            match rng.choice(plugins) {
                Some(plugin) => Change::Observe(Fact::Plugin(plugin, state)),
                None => Change::Delete(objects[0].reference()),
            }
        }
    }
}

fn random_state(rng: &mut Rng) -> PluginState {
    let generation = rng.i64(0..3);
    let active = rng.bool().then(|| ActiveRevision {
        revision: Revision::new(generation.unsigned_abs(), Arc::new(())),
        generation,
        digest: format!("sha256:{generation}").into(),
        name: "plugin".into(),
        version: "1".into(),
        outbound: Arc::default(),
        redis: Arc::default(),
        hooks: Hooks { request: rng.bool(), response: rng.bool(), choose: rng.u8(..4) == 0, ..Hooks::default() },
        artifact: None,
    });
    let phase = match rng.u8(0..3) {
        0 => Phase::Fetching,
        1 => Phase::Validating,
        _ => Phase::Rejected(Rejection { reason: "Trapped", message: "it trapped".to_owned() }),
    };
    let candidate = rng.bool().then_some(Candidate { generation, digest: None, artifact: None, phase });
    PluginState { active, candidate, ..PluginState::default() }
}

#[test]
fn an_incremental_translation_equals_a_fresh_one() {
    let objects = objects();
    for seed in 0..6 {
        let mut rng = Rng::with_seed(seed);
        let settings = if seed % 2 == 0 { Settings::standalone() } else { cluster() };
        let (mut resources, mut translator) = (Resources::default(), Translator::default());
        let mut last = translator.translate(&resources, &settings);
        for step in 0..150 {
            // Several changes at once now and then, as a burst of events makes them.
            for _ in 0..=rng.usize(..3) {
                resources.apply(random_change(&mut rng, &objects, &last));
            }
            last = translator.translate(&resources, &settings);
            let (incremental, fresh) = (render(&last), render(&translate(&resources, &settings)));
            assert_eq!(incremental, fresh, "seed {seed}, step {step}");
        }
    }
}

/// What an installation decides about whose Gateways are its own, and what it makes for them.
fn installations() -> [Settings; 3] {
    let instances = GatewayServices::named("penstock-system/penstock").unwrap();
    let each = GatewayServices::Each { type_: ServiceType::LoadBalancer, instances };
    [
        cluster(),
        Settings { class_selector: Some("lb=internal".parse().unwrap()), ..cluster() },
        Settings { services: each, ..cluster() },
    ]
}

#[test]
fn what_concerns_nobody_changes_nothing() {
    let objects = objects();
    // Few enough of each kind that Gateways find their classes, and routes their Gateways.
    let foreign: Vec<Object> = objects
        .iter()
        .filter(|it| matches!(it.reference().kind, Kind::GatewayClass | Kind::Gateway | Kind::ListenerSet))
        .chain(
            objects.iter().filter(|it| matches!(it.reference().kind, Kind::HTTPRoute | Kind::Ingress | Kind::Service)),
        )
        .cloned()
        .collect();
    let mut unconcerned = BTreeMap::<Kind, usize>::new();
    for (seed, settings) in installations().into_iter().cycle().take(6).enumerate() {
        let mut rng = Rng::with_seed(seed as u64);
        let objects = if seed < 3 { &objects } else { &foreign };
        let (mut resources, mut translator) = (Resources::default(), Translator::default());
        let mut last = translator.translate(&resources, &settings);
        for step in 0..300 {
            let change = random_change(&mut rng, objects, &last);
            let kind = match &change {
                Change::Upsert(object) => Some(object.reference().kind),
                Change::Delete(id) => Some(id.kind),
                _ => None,
            };
            let concerns = translator.concerns(&change, &resources, &settings);
            let before = render(&last);
            let changed = resources.apply(change);
            last = translator.translate(&resources, &settings);
            if !concerns && changed {
                assert_eq!(render(&last), before, "seed {seed}, step {step}");
                *unconcerned.entry(kind.unwrap()).or_default() += 1;
            }
        }
    }
    for kind in [Kind::Gateway, Kind::ListenerSet, Kind::HTTPRoute, Kind::Ingress] {
        assert!(unconcerned.get(&kind).is_some_and(|times| *times > 5), "{unconcerned:?}");
    }
}

#[test]
fn the_order_of_events_does_not_matter() {
    let objects = objects();
    for seed in 0..12 {
        let mut rng = Rng::with_seed(seed);
        let mut chosen: BTreeMap<ResourceRef, Object> = BTreeMap::new();
        for _ in 0..60 {
            let object = objects[rng.usize(..objects.len())].clone();
            chosen.insert(object.reference(), object);
        }
        let mut order: Vec<Object> = chosen.into_values().collect();
        let mut results = (0..3).map(|_| {
            rng.shuffle(&mut order);
            let mut resources = Resources::default();
            for object in &order {
                resources.apply(Change::Upsert(objects[rng.usize(..objects.len())].clone())); // and gone again
                resources.apply(Change::Upsert(object.clone()));
            }
            let stray: Vec<ResourceRef> = objects
                .iter()
                .map(Object::reference)
                .filter(|id| !order.iter().any(|object| object.reference() == *id))
                .collect();
            for id in stray {
                resources.apply(Change::Delete(id));
            }
            for object in &order {
                resources.apply(Change::Upsert(object.clone()));
            }
            render(&translate(&resources, &Settings::standalone()))
        });
        let first = results.next().unwrap();
        assert!(results.all(|other| other == first), "seed {seed}");
    }
}

#[test]
fn translating_again_keeps_every_allocation() {
    let settings = Settings::standalone();
    let (mut resources, mut translator) = (Resources::default(), Translator::default());
    let objects = objects();
    for object in &objects {
        resources.apply(Change::Upsert(object.clone()));
    }
    let first = translator.translate(&resources, &settings);
    for object in objects {
        let (key, again) = (object.reference(), object.clone());
        if resources_hold(&resources, &key, &object) {
            assert!(!resources.apply(Change::Upsert(again)), "{key} is equal, so nothing changed");
        }
    }
    let second = translator.translate(&resources, &settings);
    assert!(Arc::ptr_eq(&first.snapshot, &second.snapshot));
    assert!(Arc::ptr_eq(&first.statuses, &second.statuses));
    assert!(first.needs.plugins.iter().zip(&second.needs.plugins).all(|(a, b)| Arc::ptr_eq(a, b)));
    assert!(
        first.endpoints.iter().zip(&second.endpoints).all(|(a, b)| Arc::ptr_eq(&a.0, &b.0) && Arc::ptr_eq(&a.1, &b.1))
    );
}

/// Whether the world has this very value: of objects with the same name the last one stayed.
fn resources_hold(resources: &Resources, key: &ResourceRef, object: &Object) -> bool {
    match object {
        Object::HTTPRoute(route) => resources.http_routes.get(key) == Some(route),
        Object::Gateway(gateway) => resources.gateways.get(key) == Some(gateway),
        Object::Service(service) => resources.services.get(key) == Some(service),
        Object::WasmPlugin(plugin) => resources.wasm_plugins.get(key) == Some(plugin),
        _ => false,
    }
}

#[test]
fn an_unrelated_change_keeps_the_rest() {
    let settings = Settings::standalone();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut resources = common::load(&directory.join("gateways-share-a-socket.in.yaml")).resources;
    let mut translator = Translator::default();
    let before = translator.translate(&resources, &settings);
    let route = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "new"},
        "spec": {"parentRefs": [{"name": "alpha"}], "hostnames": ["alpha.example.com"]},
    });
    assert!(resources.apply(Change::Upsert(parse(route).unwrap())));
    let after = translator.translate(&resources, &settings);
    let status = |translation: &Translation, kind, name: &str| {
        translation.statuses[&ResourceRef::new(kind, "default", name)].clone()
    };
    for (kind, name) in [(Kind::HTTPRoute, "a"), (Kind::HTTPRoute, "b"), (Kind::Gateway, "beta")] {
        assert!(Arc::ptr_eq(&status(&before, kind, name), &status(&after, kind, name)), "{name}");
    }
    let listeners = |translation: &Translation| translation.snapshot.sockets[0].listeners.clone();
    let (old, new) = (listeners(&before), listeners(&after));
    assert!(Arc::ptr_eq(&old[1], &new[1]), "the listener of beta");
    assert!(!Arc::ptr_eq(&old[0], &new[0]), "the listener of alpha has a new route");
}

#[test]
fn endpoints_change_without_a_new_snapshot() {
    let settings = Settings::standalone();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut resources = common::load(&directory.join("forward-to-a-service.in.yaml")).resources;
    let mut translator = Translator::default();
    let before = translator.translate(&resources, &settings);
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "cart-1", "labels": {"kubernetes.io/service-name": "cart"}},
        "ports": [{"port": 3000}], "endpoints": [{"addresses": ["127.0.0.9"]}],
    });
    assert!(resources.apply(Change::Upsert(parse(slice).unwrap())));
    let after = translator.translate(&resources, &settings);
    assert!(Arc::ptr_eq(&before.snapshot, &after.snapshot));
    let ((cell, old), (same, new)) = (&before.endpoints[0], &after.endpoints[0]);
    assert!(Arc::ptr_eq(cell, same));
    assert!(Arc::ptr_eq(&cell.load(), old), "only publishing changes what requests see");
    assert_ne!(old, new);
}

#[test]
fn mutilated_resources_never_panic() {
    let documents = documents();
    let mut rng = Rng::with_seed(7);
    let mut translator = Translator::default();
    let mut resources = Resources::default();
    let mut read = 0;
    for round in 0..3000 {
        let mut document = documents[rng.usize(..documents.len())].clone();
        for _ in 0..=rng.usize(..3) {
            mutilate(&mut document, &documents, &mut rng);
        }
        if let Some(object) = parse(document) {
            read += 1;
            resources.apply(Change::Upsert(object));
        }
        if round % 25 == 0 {
            translator.translate(&resources, &Settings::standalone());
        }
    }
    assert_eq!(
        render(&translator.translate(&resources, &Settings::standalone())),
        render(&translate(&resources, &Settings::standalone())),
    );
    assert!(read > 1000, "only {read} documents survived; the mutations are too hard to test anything");
}

/// Replace, remove or double something below `spec`; identity stays, so that it gets past the parser.
fn mutilate(document: &mut Value, documents: &[Value], rng: &mut Rng) {
    let Some(mut place) = document.get_mut("spec") else { return };
    for _ in 0..rng.usize(1..7) {
        let children = match &*place {
            Value::Object(fields) => fields.len(),
            Value::Array(items) => items.len(),
            _ => 0,
        };
        if children == 0 {
            break;
        }
        let at = rng.usize(..children);
        place = match place {
            Value::Object(fields) => fields.values_mut().nth(at).unwrap(),
            Value::Array(items) => &mut items[at],
            _ => break,
        };
    }
    match (rng.u8(0..4), place) {
        (0, Value::Array(items)) if !items.is_empty() => {
            items.remove(rng.usize(..items.len()));
        }
        (1, Value::Array(items)) if !items.is_empty() => items.push(items[rng.usize(..items.len())].clone()),
        (_, Value::String(text)) => *text = random_text(text, rng),
        (_, Value::Number(number)) => *number = [0, 1, 80, 443, 8080, 65535, 70000, -1][rng.usize(..8)].into(),
        (2, place) => *place = documents[rng.usize(..documents.len())]["spec"].clone(),
        (_, place) => *place = Value::Null,
    }
}

fn random_text(text: &str, rng: &mut Rng) -> String {
    const TEXTS: [&str; 12] =
        ["", "*", "*.", "/", "//", "(", "a", "web", "cart", "shop", "Ünïcödé\u{0}", "RegularExpression"];
    match rng.u8(0..3) {
        0 => TEXTS[rng.usize(..TEXTS.len())].to_owned(),
        1 => text.chars().rev().collect(),
        _ => text.repeat(rng.usize(..3)),
    }
}

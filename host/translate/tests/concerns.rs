//! What belongs to another controller and still makes a difference here.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use common::render;
use penstock_translate::{
    Change, GatewayServices, Resources, ServiceType, Settings, Translation, Translator, resources::Object,
};
use serde_json::{Value, json};

const GATEWAY_API: &str = "gateway.networking.k8s.io/v1";

struct World {
    resources: Resources,
    translator: Translator,
    settings: Settings,
    last: Translation,
}

fn parse(api_version: &str, kind: &str, document: Value) -> Object {
    Object::parse(api_version, kind, document).unwrap()
}

fn class(name: &str, controller: &str) -> Object {
    let spec = json!({ "controllerName": controller });
    parse(GATEWAY_API, "GatewayClass", json!({ "metadata": { "name": name }, "spec": spec }))
}

fn gateway(name: &str, class: &str, listener: &str) -> Object {
    let spec =
        json!({ "gatewayClassName": class, "listeners": [{ "name": listener, "port": 80, "protocol": "HTTP" }] });
    let metadata = json!({ "name": name, "namespace": "shop", "uid": format!("uid-of-{name}") });
    parse(GATEWAY_API, "Gateway", json!({ "metadata": metadata, "spec": spec }))
}

impl World {
    /// With a Gateway `ours`, which is, and the class `theirs` of another controller.
    fn new(services: GatewayServices) -> Self {
        let settings = Settings { implied_class: None, services, ..Settings::standalone() };
        let (mut resources, mut translator) = (Resources::default(), Translator::default());
        let ours = class("ours", &settings.controller_name);
        for object in [ours, class("theirs", "example.org/other"), gateway("ours", "ours", "http")] {
            resources.apply(Change::Upsert(object));
        }
        let last = translator.translate(&resources, &settings);
        Self { resources, translator, settings, last }
    }

    /// Apply it, and say whether it concerns us. If so, it makes a difference, or the answer costs more than it need.
    fn concerned(&mut self, change: Change) -> bool {
        let concerns = self.translator.concerns(&change, &self.resources, &self.settings);
        let before = render(&self.last);
        assert!(self.resources.apply(change));
        self.last = self.translator.translate(&self.resources, &self.settings);
        assert_eq!(render(&self.last) != before, concerns);
        concerns
    }
}

#[test]
fn a_plugin_says_of_what_is_there_and_what_is_not() {
    let mut world = World::new(GatewayServices::Absent);
    assert!(!world.concerned(Change::Upsert(gateway("theirs", "theirs", "http"))));
    let target = |name: &str, section: Option<&str>| json!({ "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": name, "sectionName": section });
    let spec = json!({
        "source": { "oci": { "ref": "registry.example.com/rules:1" } },
        "targetRefs": [target("ours", None), target("theirs", Some("http"))],
    });
    let plugin = json!({ "metadata": { "name": "rules", "namespace": "shop" }, "spec": spec });
    assert!(world.concerned(Change::Upsert(parse("penstock.dev/v1alpha1", "WasmPlugin", plugin))));
    // It has lost a listener that the plugin is meant for.
    assert!(world.concerned(Change::Upsert(gateway("theirs", "theirs", "https"))));
    assert!(world.concerned(Change::Delete(gateway("theirs", "theirs", "https").reference())));
}

#[test]
fn what_was_made_for_a_gateway_goes_once_it_is_another_controllers() {
    let instances = GatewayServices::named("penstock-system/penstock").unwrap();
    let mut world = World::new(GatewayServices::Each { type_: ServiceType::ClusterIP, instances });
    assert!(!world.concerned(Change::Upsert(gateway("theirs", "theirs", "http"))));
    assert!(!world.concerned(Change::Delete(gateway("theirs", "theirs", "http").reference())));
    assert!(!world.concerned(Change::Upsert(gateway("theirs", "theirs", "http"))));
    let manifest = |world: &World| {
        let (_, action) = world.last.upkeep.iter().find(|(id, _)| *id.name == *"ours-ours").unwrap();
        let penstock_translate::Action::Apply(manifest) = action else { panic!("{action:?}") };
        manifest.clone()
    };
    // As if it had been ours before.
    let mut service = manifest(&world);
    service["metadata"]["name"] = "theirs-theirs".into();
    service["metadata"]["uid"] = "uid-of-service".into();
    service["metadata"]["ownerReferences"][0]["name"] = "theirs".into();
    service["metadata"]["ownerReferences"][0]["uid"] = "uid-of-theirs".into();
    assert!(world.concerned(Change::Upsert(parse("v1", "Service", service))));
    // It goes with its Gateway, and nobody else need delete it.
    assert!(world.concerned(Change::Delete(gateway("theirs", "theirs", "http").reference())));
}

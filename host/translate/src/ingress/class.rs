//! Whose Ingress is it?

use std::{cmp::Reverse, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use penstock_core::ResourceRef;

use super::class_id;
use crate::{
    Settings, Table,
    nearest::did_you_mean,
    ownership::owns_ingress_class,
    problem::Problem,
    resources::{Ingress, IngressClass},
};

/// On a class: it is that of Ingresses which name none.
const DEFAULT_ANNOTATION: &str = "ingressclass.kubernetes.io/is-default-class";
/// On an Ingress: the class, as it was said before there were classes. Whoever still reads it is meant.
const LEGACY_ANNOTATION: &str = "kubernetes.io/ingress.class";

/// What an Ingress says about its class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum WantedClass {
    Named(Arc<str>),
    /// By the annotation of old.
    Legacy,
    Default,
}

impl WantedClass {
    pub(super) fn of(ingress: &Ingress) -> Self {
        let name = ingress.spec.as_ref().and_then(|spec| spec.ingress_class_name.as_deref());
        let annotations = ingress.metadata.annotations.as_ref();
        match name.filter(|name| !name.is_empty()) {
            Some(name) => Self::Named(name.into()),
            None if annotations.is_some_and(|all| all.contains_key(LEGACY_ANNOTATION)) => Self::Legacy,
            None => Self::Default,
        }
    }
}

/// Who serves an Ingress.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// We do, by the class of this name.
    Ours(Arc<str>),
    /// Another controller, or nobody.
    Foreign,
    /// Nobody, and without a cluster nobody else could.
    Lost(Problem),
}

pub(super) fn owner(classes: &Table<IngressClass>, settings: &Settings, wanted: &WantedClass) -> Owner {
    let implied = settings.implied_class.as_ref();
    match wanted {
        WantedClass::Named(name) => match classes.get(&class_id(name)) {
            Some(class) => ours(settings, name, class),
            None => match implied {
                Some(implied) if implied == name => Owner::Ours(name.clone()),
                Some(implied) => Owner::Lost(missing(classes, implied, name)),
                None => Owner::Foreign,
            },
        },
        WantedClass::Legacy if implied.is_none() => Owner::Foreign,
        WantedClass::Legacy => {
            let message = format!(
                "metadata.annotations: `{LEGACY_ANNOTATION}` is not read; name the class in spec.ingressClassName"
            );
            Owner::Lost(Problem::new("ClassNotFound", message))
        }
        WantedClass::Default => match default(classes) {
            Some((id, class)) => ours(settings, &id.name, class),
            None => implied.map_or(Owner::Foreign, |implied| Owner::Ours(implied.clone())),
        },
    }
}

fn ours(settings: &Settings, name: &Arc<str>, class: &IngressClass) -> Owner {
    if owns_ingress_class(settings, class) { Owner::Ours(name.clone()) } else { Owner::Foreign }
}

/// Of several default classes the API server takes the newest, then the first by name.
fn default(classes: &Table<IngressClass>) -> Option<(&ResourceRef, &Arc<IngressClass>)> {
    let is_default = |metadata: &ObjectMeta| {
        metadata.annotations.as_ref().and_then(|all| all.get(DEFAULT_ANNOTATION)).is_some_and(|value| value == "true")
    };
    let defaults = classes.iter().filter(|(_, class)| is_default(&class.metadata));
    defaults.min_by_key(|(id, class)| (Reverse(created(&class.metadata)), id.name.clone()))
}

/// Seconds since the epoch; 0 where the source has no time.
pub(super) fn created(metadata: &ObjectMeta) -> i64 {
    metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second())
}

fn missing(classes: &Table<IngressClass>, implied: &str, name: &str) -> Problem {
    let known = classes.keys().map(|id| &*id.name).chain([implied]);
    let hint = match did_you_mean(name, known) {
        hint if hint.is_empty() => format!("; use `{implied}`, or leave the field out"),
        hint => hint,
    };
    Problem::new("ClassNotFound", format!("spec.ingressClassName: there is no IngressClass `{name}`{hint}"))
}

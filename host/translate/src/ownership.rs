//! Whose resource is it? The only place that answers: translation, status and, through them, listeners and metrics follow.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use penstock_core::{Kind, ResourceRef};

use crate::{
    LabelSelector, Resources, Settings,
    resources::{Gateway, GatewayClass, IngressClass},
};

/// What the class of a Gateway is for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClassState {
    /// Ours, and its Gateways are served.
    Ours,
    /// Ours, but something is wrong with it.
    OursRefused,
    /// Another controller's.
    Foreign,
    /// There is no such class, and in standalone mode nobody else could have it.
    Lost,
}

/// Decides who owns what.
#[derive(Clone, Copy)]
pub(crate) struct Ownership<'a> {
    pub(crate) resources: &'a Resources,
    pub(crate) settings: &'a Settings,
}

impl Ownership<'_> {
    /// A class is ours if it names our controller, and carries the labels that this installation was told to look for.
    pub(crate) fn owns_class(&self, class: &GatewayClass) -> bool {
        owns(self.settings, Some(&class.spec.controller_name), &class.metadata)
    }

    /// Whether another installation with our controller name owns the Gateway.
    pub(crate) fn is_others(&self, gateway: &Gateway) -> bool {
        let class = ResourceRef::new(Kind::GatewayClass, "", gateway.spec.gateway_class_name.as_str());
        let class = self.resources.gateway_classes.get(&class);
        class.is_some_and(|class| {
            class.spec.controller_name == *self.settings.controller_name && !self.owns_class(class)
        })
    }

    /// A Gateway belongs to whom its class belongs.
    pub(crate) fn class_of(&self, gateway: &Gateway) -> ClassState {
        let name = gateway.spec.gateway_class_name.as_str();
        match self.resources.gateway_classes.get(&ResourceRef::new(Kind::GatewayClass, "", name)) {
            Some(class) if !self.owns_class(class) => ClassState::Foreign,
            Some(class) if class.spec.parameters_ref.is_some() => ClassState::OursRefused,
            Some(_) => ClassState::Ours,
            None if self.settings.implied_class.as_deref() == Some(name) => ClassState::Ours,
            None if self.alone() => ClassState::Lost,
            None => ClassState::Foreign,
        }
    }

    /// Whether nobody else reads these resources. Only then may we speak about references that lead nowhere.
    pub(crate) fn alone(&self) -> bool {
        self.settings.implied_class.is_some()
    }
}

/// The same of an IngressClass.
pub(crate) fn owns_ingress_class(settings: &Settings, class: &IngressClass) -> bool {
    let controller = class.spec.as_ref().and_then(|spec| spec.controller.as_ref());
    owns(settings, controller, &class.metadata)
}

fn owns(settings: &Settings, controller: Option<&String>, metadata: &ObjectMeta) -> bool {
    let selected = |selector: &LabelSelector| selector.selects(metadata.labels.as_ref());
    controller.is_some_and(|name| **name == *settings.controller_name)
        && settings.class_selector.as_ref().is_none_or(selected)
}

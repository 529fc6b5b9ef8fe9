//! Services as clients see them: the addresses at which they come to the instances behind.

use k8s_openapi::{api::core::v1::ServicePort, apimachinery::pkg::util::intstr::IntOrString};
use penstock_core::ResourceRef;

use crate::{
    GatewayServices, ServiceType,
    ownership::Ownership,
    problem::Problem,
    resources::Service,
    status::LoadBalancerAddress::{self, Hostname, Ip},
};

/// Addresses of the Service before the instances; none if it is not there, or is one that nobody comes through.
pub(crate) fn shared(ownership: Ownership<'_>) -> Option<Result<Vec<LoadBalancerAddress>, Problem>> {
    let id = ownership.settings.services.instances()?;
    let service = ownership.resources.services.get(id)?;
    Some(of(id, service, type_of(service)?))
}

/// Why clients do not come to this port of the instances, if the Service before them has none that leads there.
pub(crate) fn unreached(ownership: Ownership<'_>, port: u16) -> Option<String> {
    let GatewayServices::Shared(id) = &ownership.settings.services else { return None };
    let service = ownership.resources.services.get(id)?;
    type_of(service)?;
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let leads_there = |open: &ServicePort| match &open.target_port {
        Some(IntOrString::Int(target)) if *target != 0 => *target == i32::from(port),
        // Only the pods know where that is.
        Some(IntOrString::String(_)) => true,
        _ => open.port == i32::from(port),
    };
    (!ports.iter().any(leads_there)).then(|| format!("Service `{}` has no port that leads there", id.full_name()))
}

/// Addresses of a Service, once it has one.
pub(crate) fn of(id: &ResourceRef, service: &Service, type_: ServiceType) -> Result<Vec<LoadBalancerAddress>, Problem> {
    let addresses = addresses(service, type_);
    match addresses.is_empty() {
        true => Err(Problem::new("AddressNotAssigned", format!("Service `{}` has no address yet", id.full_name()))),
        false => Ok(addresses),
    }
}

/// From where it can be reached; none if it only names others, or its endpoints.
fn type_of(service: &Service) -> Option<ServiceType> {
    let spec = service.spec.as_ref()?;
    let is_headless = spec.cluster_ip.as_deref() == Some(HEADLESS);
    spec.type_.as_deref().unwrap_or("ClusterIP").parse().ok().filter(|_| !is_headless)
}

/// In place of a cluster's address.
const HEADLESS: &str = "None";

fn addresses(service: &Service, type_: ServiceType) -> Vec<LoadBalancerAddress> {
    let spec = service.spec.as_ref();
    // Of a machine before the cluster: somebody sees to it that they lead here.
    let external = spec.and_then(|spec| spec.external_ips.as_deref()).unwrap_or_default();
    let external = external.iter().cloned().map(Ip);
    let of_type: Vec<LoadBalancerAddress> = match type_ {
        ServiceType::LoadBalancer => {
            let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
            let entries = balancer.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default();
            let address =
                |ip: &Option<String>, host: &Option<String>| ip.clone().map(Ip).or(host.clone().map(Hostname));
            entries.iter().filter_map(|entry| address(&entry.ip, &entry.hostname)).collect()
        }
        ServiceType::ClusterIP | ServiceType::NodePort => {
            let several = spec.and_then(|spec| spec.cluster_ips.clone()).filter(|ips| !ips.is_empty());
            let ips = several.or_else(|| spec.and_then(|spec| spec.cluster_ip.clone()).map(|ip| vec![ip]));
            ips.into_iter().flatten().filter(|ip| ip != HEADLESS).map(Ip).collect()
        }
    };
    of_type.into_iter().chain(external).collect()
}

//! An Ingress in its world: rules with their targets and plugins, and what its status says.

use std::sync::Arc;

use penstock_core::{
    Kind, ResourceRef,
    backend::BackendKey,
    hostname::HostPattern,
    reason::Reason,
    route::{Action, Failure, Route, Rule, RuleId, RuleMatch, Target, WeightedBackend},
};

use super::{
    IngressDraft,
    class::{Owner, owner},
    class_id,
    draft::{PathDraft, ServiceBackend, ServicePort},
    status::{self, Evaluation},
};
use crate::{
    Status,
    backend_tls::ServiceTls,
    endpoints::BackendRegistry,
    gateway::GatewayModel,
    nearest::did_you_mean,
    plugin::{PluginModel, RouteUse, forward, ordered},
    problem::Problem,
    resources::route::BackendRef,
    route::{Attachment, Found, Referrer, RouteOutput, find},
    view::View,
};

/// Default backends take what no rule takes, however old the rule: they are younger than everything, and older ones still go first among
/// themselves.
const AFTER_ALL_RULES: i64 = 1 << 40;

pub(crate) fn resolve(view: &View<'_>, draft: &IngressDraft, registry: &mut BackendRegistry) -> RouteOutput {
    let mut output = RouteOutput::default();
    let class = match owner(view.ingress_classes(), view.settings(), &draft.class) {
        Owner::Foreign => return output, // nothing of it is ours: no status, no work
        Owner::Lost(problem) => {
            output.status = Some(Arc::new(Status::Ingress(status::lost(draft, &problem))));
            return output;
        }
        Owner::Ours(class) => class,
    };
    let Some(gateway) = view.gateway(&class_id(&class)) else { return output };
    let attached = view.attached(&draft.id).map(|attached| attached.as_slice()).unwrap_or_default();
    let plugins = ordered(attached.iter().map(|it| &it.plugin), []);
    let mut evaluation = Evaluation { class: &class, draft, failed: Vec::new(), unresolved: Vec::new(), works: false };
    let mut tls = Vec::new();
    let mut resolver = Resolver {
        view,
        draft,
        plugins: &plugins,
        evaluation: &mut evaluation,
        output: &mut output,
        tls: &mut tls,
        registry,
    };
    let routes = resolver.routes();
    attach(gateway, routes, &plugins, tls, evaluation.works, &mut output);
    output.status = Some(Arc::new(Status::Ingress(evaluation.status(view))));
    output
}

fn attach(
    gateway: &Arc<GatewayModel>,
    routes: Vec<Route>,
    plugins: &[&Arc<PluginModel>],
    tls: Vec<Arc<ServiceTls>>,
    accepted: bool,
    output: &mut RouteOutput,
) {
    let attachments = routes.into_iter().map(|route| Attachment {
        gateway: gateway.clone(),
        listener: 0,
        accepted,
        last: route.created >= AFTER_ALL_RULES,
        route: Arc::new(route),
    });
    output.attachments = attachments.collect();
    output.plugins = plugins.iter().map(|plugin| (Arc::clone(plugin), gateway.clone())).collect();
    output.tls = tls.into_iter().map(|service| (service, gateway.clone())).collect();
}

/// Follows the references of an Ingress, and collects what is wrong with them.
struct Resolver<'a, 'b, 'm> {
    view: &'b View<'a>,
    draft: &'b IngressDraft,
    plugins: &'b [&'b Arc<PluginModel>],
    evaluation: &'m mut Evaluation<'b>,
    output: &'m mut RouteOutput,
    tls: &'m mut Vec<Arc<ServiceTls>>,
    registry: &'m mut BackendRegistry,
}

impl Resolver<'_, '_, '_> {
    /// One route for each host, and one for what the default backend takes: the rest of these hosts, then of all.
    fn routes(&mut self) -> Vec<Route> {
        let mut routes = Vec::with_capacity(self.draft.hosts.len() + 1);
        let mut index = 0..;
        for host in self.draft.hosts.iter().filter(|host| !host.paths.is_empty()) {
            let paths = host.paths.iter().zip(&mut index);
            let rules = paths.map(|(path, index)| Arc::new(self.rule(path, index))).collect();
            routes.push(self.route(self.draft.created, vec![host.hostname.clone()], rules));
        }
        if let (Some(default), Some(index)) = (&self.draft.default, index.next()) {
            let mut hosts: Vec<HostPattern> = self.draft.hosts.iter().map(|host| host.hostname.clone()).collect();
            if !hosts.contains(&HostPattern::Any) {
                hosts.push(HostPattern::Any);
            }
            let rule = Arc::new(self.rule(default, index));
            routes.push(self.route(self.draft.created.saturating_add(AFTER_ALL_RULES), hosts, vec![rule]));
        }
        routes
    }

    fn route(&self, created: i64, hostnames: Vec<HostPattern>, rules: Vec<Arc<Rule>>) -> Route {
        Route { id: self.draft.id.clone(), created, hostnames, rules }
    }

    fn rule(&mut self, path: &PathDraft, index: u32) -> Rule {
        let id = RuleId { route: self.draft.id.clone(), index, name: Some(path.name.clone()) };
        let matches = vec![RuleMatch { path: path.path.clone(), method: None, headers: Vec::new(), query: Vec::new() }];
        let backend = match &path.backend {
            Ok(backend) => self.backend(&path.at, backend),
            Err(problem) => {
                self.evaluation.failed.push(problem.clone());
                return Rule::new(id, matches, Action::Fail(failure(Reason::InvalidBackend, problem)));
            }
        };
        self.note_route_plugins(path);
        let (chain, action) = forward(&id, self.plugins, vec![backend]);
        match &action {
            // Until there is a verdict nobody loses an address for it.
            Action::Fail(_) if self.plugins.iter().any(|plugin| plugin.is_pending()) => self.evaluation.works = true,
            Action::Fail(failure) => {
                let problem = Problem::new("PluginUnavailable", failure.message.to_string());
                if !self.evaluation.failed.contains(&problem) {
                    self.evaluation.failed.push(problem);
                }
            }
            Action::Forward(_) | Action::Redirect(_) => self.evaluation.works = true,
        }
        Rule { policies: chain.policies, route_plugin: chain.route, ..Rule::new(id, matches, action) }
    }

    fn note_route_plugins(&mut self, path: &PathDraft) {
        let plugins: Vec<_> = self.plugins.iter().filter(|it| it.is_route()).map(|it| it.id.clone()).collect();
        if !plugins.is_empty() {
            let rule = format!("`{}` of Ingress `{}`", path.name, self.draft.id.full_name());
            self.output.route_plugins.push(RouteUse { rule, plugins });
        }
    }

    fn backend(&mut self, at: &str, backend: &ServiceBackend) -> WeightedBackend {
        let target = self.target(at, backend);
        let name: Arc<str> = match &target {
            Target::Backend(backend) => backend.key.to_string().into(),
            Target::Fail(_) => format!("{}/{}", self.draft.id.namespace, backend.service).into(),
        };
        WeightedBackend::new(name, 1, target)
    }

    fn target(&mut self, at: &str, backend: &ServiceBackend) -> Target {
        let at = format!("{at}.service");
        let found = self.number(backend).and_then(|port| {
            let reference = BackendRef { name: backend.service.clone(), port, ..BackendRef::default() };
            find(self.view, Referrer::ingress(&self.draft.id), &reference, self.tls)
        });
        match found {
            Ok(Found::Backend(key, origin)) => {
                self.keep(&key);
                Target::Backend(self.registry.get(key, origin))
            }
            // The reference resolves; the status of the policy says what is wrong.
            Ok(Found::Unsafe(problem)) => Target::Fail(failure(Reason::InvalidBackend, &problem.within(&at))),
            Err(problem) => {
                let problem = problem.within(&at);
                let failure = failure(Reason::InvalidBackend, &problem);
                self.evaluation.unresolved.push(problem);
                Target::Fail(failure)
            }
        }
    }

    fn keep(&mut self, key: &BackendKey) {
        if !self.output.backends.contains(key) {
            self.output.backends.push(key.clone());
        }
    }

    /// The number of the port. None if there is no such Service, which is then somebody else's to say.
    fn number(&self, backend: &ServiceBackend) -> Result<Option<i32>, Problem> {
        let wanted = match &backend.port {
            ServicePort::Number(number) => return Ok(Some(*number)),
            ServicePort::Name(name) => name,
        };
        let key = ResourceRef::new(Kind::Service, self.draft.id.namespace.clone(), backend.service.as_str());
        let Some(service) = self.view.service(&key) else { return Ok(None) };
        let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
        if let Some(port) = ports.iter().find(|port| port.name.as_ref() == Some(wanted)) {
            return Ok(Some(port.port));
        }
        let names = || ports.iter().filter_map(|port| port.name.as_deref());
        let known = crate::nearest::list(names());
        let hint = did_you_mean(wanted, names());
        let message =
            format!("port.name: Service `{}` has no port named `{wanted}`; it has {known}{hint}", backend.service);
        Err(Problem::new("BackendNotFound", message))
    }
}

fn failure(reason: Reason, problem: &Problem) -> Failure {
    Failure { reason, message: problem.message.as_str().into() }
}

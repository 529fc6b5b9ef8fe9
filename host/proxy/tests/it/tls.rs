//! TLS on both sides.

use std::sync::Arc;

use penstock_core::{
    Kind, ResourceRef, Snapshot,
    backend::{BackendProtocol, BackendTls, SubjectAltName, Trust},
    listener::{Certificate, Listener, PrivateKey},
    plugin::NoPolicies,
    reason::Reason,
    route::Rule,
};
use penstock_testing::{
    certificate::{self, Authority},
    client::{Connection, get},
    origin::{Answer, Origin},
};
use rustls_pki_types::pem::PemObject as _;

use crate::support::{Gateway, backend, forward, free_address, listener, rule, settings, snapshot, tls_socket, to};

fn as_core(certificate: &certificate::Certificate) -> Arc<Certificate> {
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from_pem_slice(certificate.key_pem.as_bytes()).unwrap();
    Arc::new(Certificate {
        secret: ResourceRef::new(Kind::Secret, "default", "certificate"),
        chain: vec![certificate.der.to_vec()],
        key: PrivateKey::Pkcs8(key.secret_pkcs8_der().to_vec()),
    })
}

fn world(address: std::net::SocketAddr, listeners: Vec<Listener>) -> Arc<Snapshot> {
    snapshot(vec![tls_socket(address, listeners)])
}

#[tokio::test]
async fn certificates_by_server_name() {
    let authority = Authority::new();
    let [exact, wildcard, any] = ["a.example.com", "*.example.com", "other.test"].map(|name| authority.issue(&[name]));
    let origin = Origin::start();
    let rules = || vec![to(&[origin.address()])];
    let gateway = Gateway::start(settings(), Arc::new(NoPolicies));
    let address = free_address();
    gateway.proxy.publish(world(
        address,
        vec![
            listener("", rules(), vec![as_core(&any)]),
            listener("*.example.com", rules(), vec![as_core(&wildcard)]),
            listener("a.example.com", rules(), vec![as_core(&exact)]),
        ],
    ));
    for (name, certificate) in [("a.example.com", &exact), ("b.example.com", &wildcard), ("other.test", &any)] {
        for alpn in [["h2"], ["http/1.1"]] {
            let mut connection = Connection::tls(address, name, authority.client(&alpn)).await.unwrap();
            assert_eq!(connection.peer_certificates(), std::slice::from_ref(&certificate.der), "{name}");
            let response = connection.send(get("/").host(name)).await.unwrap();
            assert_eq!(
                (response.status, response.json()["headers"]["x-forwarded-proto"][0].as_str()),
                (200, Some("https"))
            );
        }
    }
    let mut connection = Connection::tls(address, "b.example.com", authority.client(&["h2"])).await.unwrap();
    let response = connection.send(get("/").host("a.example.com")).await.unwrap();
    assert_eq!(response.status, 421, "the connection was made to another listener");
    assert!(response.header("proxy-status").contains(Reason::Misdirected.code()));
}

/// Who says no name, as by an address, gets the listener that takes every name, and its first certificate.
#[tokio::test]
async fn a_handshake_without_a_name() {
    let authority = Authority::new();
    let [first, second, named] = [["127.0.0.1"], ["b.example"], ["a.example"]].map(|names| authority.issue(&names));
    let origin = Origin::start();
    let rules = || vec![to(&[origin.address()])];
    let gateway = Gateway::start(settings(), Arc::new(NoPolicies));
    let address = free_address();
    let named = listener("a.example", rules(), vec![as_core(&named)]);
    let any = listener("", rules(), vec![as_core(&first), as_core(&second)]);
    gateway.proxy.publish(world(address, vec![named.clone(), any]));
    let mut connection = Connection::tls(address, "127.0.0.1", authority.client(&["h2"])).await.unwrap();
    assert_eq!(connection.peer_certificates(), std::slice::from_ref(&first.der));
    assert_eq!(connection.send(get("/")).await.unwrap().status, 200);

    gateway.proxy.publish(world(address, vec![named]));
    assert!(Connection::tls(address, "127.0.0.1", authority.client(&["h2"])).await.is_err(), "nobody takes it");
}

#[tokio::test]
async fn the_fitting_certificate_of_several() {
    let authority = Authority::new();
    let (first, second) = (authority.issue(&["a.example"]), authority.issue(&["b.example"]));
    let gateway = Gateway::start(settings(), Arc::new(NoPolicies));
    let address = free_address();
    gateway.proxy.publish(world(address, vec![listener("", vec![], vec![as_core(&first), as_core(&second)])]));
    for (name, certificate) in [("a.example", &first), ("b.example", &second)] {
        let connection = Connection::tls(address, name, authority.client(&["h2"])).await.unwrap();
        assert_eq!(connection.peer_certificates(), std::slice::from_ref(&certificate.der), "{name}");
    }
}

#[tokio::test]
async fn a_name_without_a_listener() {
    let authority = Authority::new();
    let certificate = authority.issue(&["a.example"]);
    let gateway = Gateway::start(settings(), Arc::new(NoPolicies));
    let address = free_address();
    gateway.proxy.publish(world(address, vec![listener("a.example", vec![], vec![as_core(&certificate)])]));
    assert!(Connection::tls(address, "b.example", authority.client(&["h2"])).await.is_err());
    assert!(Connection::tls(address, "a.example", authority.client(&["h2"])).await.is_ok());
}

#[tokio::test]
async fn a_listener_without_a_usable_certificate_answers_no_handshake() {
    let authority = Authority::new();
    let certificate = authority.issue(&["a.example", "b.example"]);
    let unusable = Arc::new(Certificate { chain: vec![b"garbage".to_vec()], ..(*as_core(&certificate)).clone() });
    let gateway = Gateway::start(settings(), Arc::new(NoPolicies));
    let address = free_address();
    let listeners = |broken: Vec<_>| {
        vec![listener("a.example", vec![], vec![as_core(&certificate)]), listener("b.example", vec![], broken)]
    };
    for broken in [vec![], vec![unusable]] {
        gateway.proxy.publish(world(address, listeners(broken)));
        // The neighbour's certificate names the host too, and still is not lent: nothing may answer for a listener that cannot.
        assert!(Connection::tls(address, "b.example", authority.client(&["h2"])).await.is_err());
        assert!(Connection::tls(address, "a.example", authority.client(&["h2"])).await.is_ok());
    }
    gateway.proxy.publish(world(address, listeners(vec![as_core(&certificate)])));
    assert!(Connection::tls(address, "b.example", authority.client(&["h2"])).await.is_ok());
}

#[tokio::test]
async fn a_new_certificate_drops_no_connection() {
    let authority = Authority::new();
    let origin = Origin::start();
    let rules = || vec![to(&[origin.address()])];
    let gateway = Gateway::start(settings(), Arc::new(NoPolicies));
    let address = free_address();
    let publish = |certificate: &certificate::Certificate| {
        gateway.proxy.publish(world(address, vec![listener("a.example", rules(), vec![as_core(certificate)])]));
    };
    let mut current = authority.issue(&["a.example"]);
    publish(&current);
    let (h1, h2) = (authority.client(&["http/1.1"]), authority.client(&["h2"]));
    let mut old = [
        Connection::tls(address, "a.example", h1).await.unwrap(),
        Connection::tls(address, "a.example", h2.clone()).await.unwrap(),
    ];
    for _ in 0..50 {
        current = authority.issue(&["a.example"]);
        publish(&current);
        for connection in &mut old {
            assert_eq!(connection.send(get("/").host("a.example")).await.unwrap().status, 200);
        }
    }
    let new = Connection::tls(address, "a.example", authority.client(&["h2"])).await.unwrap();
    assert_eq!(new.peer_certificates(), [current.der]);
}

#[tokio::test]
async fn an_unusable_key_hurts_only_its_listener() {
    let authority = Authority::new();
    let good = authority.issue(&["good.example"]);
    let broken = Arc::new(Certificate { key: PrivateKey::Pkcs8(vec![1, 2, 3]), ..(*as_core(&good)).clone() });
    let gateway = Gateway::start(settings(), Arc::new(NoPolicies));
    let address = free_address();
    let listeners =
        vec![listener("bad.example", vec![], vec![broken]), listener("good.example", vec![], vec![as_core(&good)])];
    gateway.proxy.publish(world(address, listeners));
    assert!(Connection::tls(address, "bad.example", authority.client(&["h2"])).await.is_err());
    assert!(Connection::tls(address, "good.example", authority.client(&["h2"])).await.is_ok());
}

fn to_tls(origin: &Origin, protocol: BackendProtocol, authority: &Authority, tls: impl Fn(&mut BackendTls)) -> Rule {
    let root = rustls_pki_types::CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap();
    let mut settings = BackendTls {
        server_name: "origin.example".into(),
        trust: Trust::Roots(vec![root.to_vec()]),
        subject_alt_names: vec![],
    };
    tls(&mut settings);
    rule(forward(backend("tls", protocol, Some(settings), &[origin.address()])))
}

#[tokio::test]
async fn tls_to_endpoints() {
    let authority = Authority::new();
    let certificate = authority.issue(&["origin.example", "alt.example", "*.wild.example", "spiffe://example/cart"]);
    let both = Origin::builder().tls(certificate.server(&["h2", "http/1.1"])).start();
    let old = Origin::builder().tls(certificate.server(&["http/1.1"])).start();
    let ask = async |rule: Rule| {
        let (_gateway, address) = Gateway::serving(vec![rule]);
        Connection::h1(address).await.unwrap().send(get("/")).await.unwrap()
    };
    let version = async |rule: Rule| ask(rule).await.json()["version"].as_str().unwrap_or_default().to_owned();
    let plain = |_: &mut BackendTls| {};
    assert_eq!(version(to_tls(&both, BackendProtocol::Http2, &authority, plain)).await, "HTTP/2.0");
    assert_eq!(version(to_tls(&both, BackendProtocol::Http1, &authority, plain)).await, "HTTP/2.0", "by ALPN");
    assert_eq!(version(to_tls(&old, BackendProtocol::Http1, &authority, plain)).await, "HTTP/1.1");
    assert_eq!(ask(to_tls(&old, BackendProtocol::Http2, &authority, plain)).await.status, 502);
    let wrong_name = |tls: &mut BackendTls| tls.server_name = "wrong.example".into();
    let refused = ask(to_tls(&both, BackendProtocol::Http1, &authority, wrong_name)).await;
    assert!(refused.status == 502 && refused.header("proxy-status").contains(Reason::UpstreamTls.code()));
    let stranger = Authority::new();
    assert_eq!(ask(to_tls(&both, BackendProtocol::Http1, &stranger, plain)).await.status, 502);
    let alternative = |tls: &mut BackendTls| {
        tls.server_name = "wrong.example".into();
        tls.subject_alt_names = ["none.example", "alt.example"].map(|name| SubjectAltName::Dns(name.into())).to_vec();
    };
    assert_eq!(ask(to_tls(&both, BackendProtocol::Http1, &authority, alternative)).await.status, 200);
    let other = |tls: &mut BackendTls| tls.subject_alt_names = vec![SubjectAltName::Dns("none.example".into())];
    assert_eq!(ask(to_tls(&both, BackendProtocol::Http1, &authority, other)).await.status, 502);
    for (name, status) in [
        (SubjectAltName::Uri("spiffe://example/cart".into()), 200),
        (SubjectAltName::Uri("spiffe://example/cart/".into()), 502),
        (SubjectAltName::Dns("a.wild.example".into()), 200),
        (SubjectAltName::Dns("*.wild.example".into()), 200),
        (SubjectAltName::Dns("*.example".into()), 502),
    ] {
        let by_name = |tls: &mut BackendTls| tls.subject_alt_names = vec![name.clone()];
        assert_eq!(ask(to_tls(&both, BackendProtocol::Http1, &authority, by_name)).await.status, status, "{name:?}");
        let strangers = ask(to_tls(&both, BackendProtocol::Http1, &stranger, by_name)).await;
        assert_eq!(strangers.status, 502, "{name:?} of somebody else");
    }
}

#[tokio::test]
async fn clear_text_to_a_tls_port_is_not_an_answer() {
    let authority = Authority::new();
    let certificate = authority.issue(&["origin.example"]);
    let origin = Origin::builder().tls(certificate.server(&["h2"])).answer(|_| Answer::new(200)).start();
    let (_gateway, address) = Gateway::serving(vec![to(&[origin.address()])]);
    let response = Connection::h1(address).await.unwrap().send(get("/")).await.unwrap();
    assert_eq!(response.status, 502);
}

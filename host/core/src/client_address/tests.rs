use super::*;

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

/// `"2"` is a number of hops, `"10.0.0.0/8 fd00::/8"` are networks, `""` is nobody.
fn trusting(text: &str, header: ForwardingHeader) -> TrustedProxies {
    let trusted = match text.parse() {
        Ok(hops) => Trusted::Hops(hops),
        Err(_) if text.is_empty() => Trusted::Nobody,
        Err(_) => Trusted::Networks(text.split(' ').map(|network| network.parse().unwrap()).collect()),
    };
    TrustedProxies { trusted, header }
}

const PRIVATE: &str = "10.0.0.0/8 fd00::/8";

#[test]
fn client_by_x_forwarded_for() {
    #[track_caller]
    fn check(trusted: &str, peer: &str, values: &[&str], expected: &str) {
        let proxies = trusting(trusted, ForwardingHeader::XForwardedFor);
        let pairs: Vec<_> = values.iter().map(|value| ("x-forwarded-for", *value)).collect();
        let client = proxies.client(peer.parse().unwrap(), &headers(&pairs));
        assert_eq!(client, expected.parse().unwrap(), "{trusted:?} {peer} {values:?}");
    }
    let (peer, direct) = ("10.0.0.1:99", "203.0.113.9:99");
    // Nobody is trusted.
    check("", peer, &["192.0.2.1"], peer);
    check("", "[::ffff:10.0.0.1]:99", &[], peer);
    // A number of hops.
    check("1", peer, &[], peer);
    check("1", peer, &["192.0.2.1"], "192.0.2.1:0");
    check("1", peer, &["6.6.6.6, 192.0.2.1"], "192.0.2.1:0");
    check("1", peer, &["6.6.6.6", "192.0.2.1"], "192.0.2.1:0");
    check("1", peer, &["6.6.6.6,192.0.2.1:4711"], "192.0.2.1:4711");
    check("2", peer, &["6.6.6.6, 192.0.2.1, 10.0.0.2"], "192.0.2.1:0");
    check("2", peer, &["192.0.2.1"], peer);
    check("2", peer, &["192.0.2.1, , 10.0.0.2,"], "192.0.2.1:0");
    check("1", peer, &["unknown"], peer);
    check("2", peer, &["_hidden, 10.0.0.2"], "10.0.0.2:0");
    check("2", peer, &["192.0.2.1, _hidden"], "192.0.2.1:0");
    check("1", peer, &["é"], peer);
    // Networks.
    check(PRIVATE, direct, &["192.0.2.1"], direct);
    check(PRIVATE, peer, &["6.6.6.6, 192.0.2.1, 10.0.0.2"], "192.0.2.1:0");
    check(PRIVATE, peer, &["10.0.0.3, 10.0.0.2"], "10.0.0.3:0");
    check(PRIVATE, peer, &["192.0.2.1, unknown, 10.0.0.2"], "10.0.0.2:0");
    check(PRIVATE, peer, &["192.0.2.1, garbage"], peer);
    check(PRIVATE, "[fd00::1]:99", &["2001:db8::1"], "[2001:db8::1]:0");
    check(PRIVATE, "[::ffff:10.0.0.1]:99", &["192.0.2.1"], "192.0.2.1:0");
    // Forms of addresses.
    check("1", peer, &["[2001:db8::1]:4711"], "[2001:db8::1]:4711");
    check("1", peer, &["[2001:db8::1]"], "[2001:db8::1]:0");
    check("1", peer, &["::ffff:192.0.2.1"], "192.0.2.1:0");
    check("1", peer, &["192.0.2.1:_port"], "192.0.2.1:0");
    for bad in
        ["192.0.2.1:99999", "[192.0.2.1]", "[::1]80", "[::1", "fe80::1%eth0", "1.2.3", "\"192.0.2.1\"", "1.2.3.4:"]
    {
        check("1", peer, &[bad], peer);
    }
}

#[test]
fn client_by_forwarded() {
    #[track_caller]
    fn check(trusted: &str, values: &[&str], expected: &str) {
        let proxies = trusting(trusted, ForwardingHeader::Forwarded);
        let pairs: Vec<_> = values.iter().map(|value| ("forwarded", *value)).collect();
        let mut all = headers(&pairs);
        all.insert("x-forwarded-for", HeaderValue::from_static("6.6.6.6"));
        let client = proxies.client("10.0.0.1:99".parse().unwrap(), &all);
        assert_eq!(client, expected.parse().unwrap(), "{trusted:?} {values:?}");
    }
    let peer = "10.0.0.1:99";
    check("1", &[], peer);
    check("1", &["for=192.0.2.1"], "192.0.2.1:0");
    check("1", &["For=\"[2001:db8::1]:4711\";proto=https"], "[2001:db8::1]:4711");
    check("1", &["proto=https; FOR = 192.0.2.1"], "192.0.2.1:0");
    check("1", &["for=6.6.6.6, for=192.0.2.1;by=10.0.0.1"], "192.0.2.1:0");
    check("2", &["for=192.0.2.1", "for=10.0.0.2"], "192.0.2.1:0");
    check("1", &["proto=https"], peer);
    check("1", &["for=unknown"], peer);
    check("1", &["for=_hidden"], peer);
    check(PRIVATE, &["for=192.0.2.1, for=10.0.0.2"], "192.0.2.1:0");
    // A stranger's host, quoted by the trusted proxy, does not become an element.
    check("1", &["for=192.0.2.1;host=\"x, for=6.6.6.6\""], "192.0.2.1:0");
    check("1", &["for=192.0.2.1;host=\"x\\\", for=6.6.6.6\""], "192.0.2.1:0");
    check("1", &["for=192.0.2.1;host=\"a;for=6.6.6.6\""], "192.0.2.1:0");
    check("1", &["host=\"a, for=6.6.6.6"], peer);
}

#[test]
fn outgoing() {
    #[track_caller]
    fn check(trusted: &str, hop: &Hop<'_>, before: &[(&str, &str)], after: &[(&str, &str)]) {
        for header in [ForwardingHeader::XForwardedFor, ForwardingHeader::Forwarded] {
            let mut all = headers(before);
            trusting(trusted, header).write(hop, &mut all);
            let mut found: Vec<_> = all.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
            found.retain(|(name, _)| *name != "forwarded");
            found.sort_unstable();
            assert_eq!(found, after, "{trusted:?} {before:?} {header:?}");
        }
    }
    let hop =
        Hop { peer: "10.0.0.1:99".parse().unwrap(), scheme: Scheme::Http, authority: Some("a.com:8080"), port: 8080 };
    let own = [
        ("x-forwarded-for", "10.0.0.1"),
        ("x-forwarded-host", "a.com:8080"),
        ("x-forwarded-port", "8080"),
        ("x-forwarded-proto", "http"),
    ];
    let told = [
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-host", "shop.example"),
        ("x-forwarded-port", "443"),
        ("x-forwarded-proto", "https"),
    ];
    check("", &hop, &[], &own);
    check("", &hop, &told, &own);
    check("192.0.2.0/24", &hop, &told, &own);
    let kept = [("x-forwarded-for", "192.0.2.1, 10.0.0.1"), told[1], told[2], told[3]];
    check("1", &hop, &told, &kept);
    check(PRIVATE, &hop, &told, &kept);
    // What a trusted peer says is kept only if it makes sense.
    let senseless = [
        ("x-forwarded-host", "a b"),
        ("x-forwarded-port", "0x50"),
        ("x-forwarded-proto", "gopher"),
        ("x-forwarded-for", ""),
    ];
    check("1", &hop, &senseless, &own);
    check("1", &hop, &[("x-forwarded-proto", "https"), ("x-forwarded-proto", "http")], &own);
    check(
        "1",
        &hop,
        &[told[0], ("x-forwarded-for", "10.9.9.9")],
        &[("x-forwarded-for", "192.0.2.1, 10.9.9.9, 10.0.0.1"), own[1], own[2], own[3]],
    );
    let bare = Hop { peer: "[::ffff:10.0.0.1]:99".parse().unwrap(), authority: None, ..hop };
    check("", &bare, &told, &[own[0], own[2], own[3]]);
}

#[test]
fn outgoing_forwarded() {
    #[track_caller]
    fn check(proxies: &TrustedProxies, peer: &str, before: &[&str], expected: Option<&str>) {
        let hop = Hop { peer: peer.parse().unwrap(), scheme: Scheme::Https, authority: Some("a.com:8443"), port: 8443 };
        let pairs: Vec<_> = before.iter().map(|value| ("forwarded", *value)).collect();
        let mut all = headers(&pairs);
        proxies.write(&hop, &mut all);
        assert_eq!(all.get("forwarded").map(|value| value.to_str().unwrap()), expected, "{proxies:?} {before:?}");
        assert!(all.get_all("forwarded").iter().count() <= 1);
    }
    let own = r#"for=10.0.0.1;host="a.com:8443";proto=https"#;
    let peer = "10.0.0.1:99";
    // Those who maintain X-Forwarded-For get no Forwarded, and a stranger's is removed.
    let nobody = trusting("", ForwardingHeader::XForwardedFor);
    check(&nobody, peer, &[], None);
    check(&nobody, peer, &["for=6.6.6.6"], None);
    // A list that exists is continued, so that it does not end with an older hop.
    let one = trusting("1", ForwardingHeader::XForwardedFor);
    check(&one, peer, &[], None);
    check(&one, peer, &["for=192.0.2.1"], Some(&format!("for=192.0.2.1, {own}")));
    let maintained = trusting("1", ForwardingHeader::Forwarded);
    check(&maintained, peer, &[], Some(own));
    check(&maintained, peer, &["for=a", "for=b"], Some(&format!("for=a, for=b, {own}")));
    let nobody = trusting("", ForwardingHeader::Forwarded);
    check(&nobody, peer, &["for=6.6.6.6"], Some(own));
    check(&nobody, "[2001:db8::1]:99", &[], Some(r#"for="[2001:db8::1]";host="a.com:8443";proto=https"#));
}

#[test]
fn networks() {
    #[track_caller]
    fn check(network: &str, address: &str, expected: bool) {
        let network: Network = network.parse().unwrap();
        assert_eq!(network.contains(address.parse().unwrap()), expected, "{network} {address}");
    }
    check("10.0.0.0/8", "10.255.0.1", true);
    check("10.0.0.0/8", "11.0.0.1", false);
    check("10.1.2.3/8", "10.255.0.1", true);
    check("192.0.2.1", "192.0.2.1", true);
    check("192.0.2.1", "192.0.2.2", false);
    check("0.0.0.0/0", "192.0.2.1", true);
    check("0.0.0.0/0", "::1", false);
    check("::/0", "::1", true);
    check("::/0", "192.0.2.1", false);
    check("2001:db8::/33", "2001:db8:7fff::1", true);
    check("2001:db8::/33", "2001:db8:8000::1", false);
    check("10.0.0.0/8", "::ffff:10.0.0.1", true);
}

#[test]
fn invalid_networks() {
    #[track_caller]
    fn check(text: &str, expected: InvalidNetwork) {
        assert_eq!(text.parse::<Network>(), Err(expected), "{text}");
    }
    check("", InvalidNetwork::Address(String::new()));
    check("10.0.0/8", InvalidNetwork::Address("10.0.0".into()));
    check("10.0.0.0/33", InvalidNetwork::Prefix { prefix: "33".into(), max: 32 });
    check("::/129", InvalidNetwork::Prefix { prefix: "129".into(), max: 128 });
    check("::/", InvalidNetwork::Prefix { prefix: String::new(), max: 128 });
    check("10.0.0.0/-1", InvalidNetwork::Prefix { prefix: "-1".into(), max: 32 });
}

mod reference;

use super::*;
use crate::{
    Kind, ResourceRef,
    reason::Reason,
    route::{
        Action, CallMatch, CallPart, Failure, HeaderMatch, QueryMatch, RuleId, RuleMatch, ValueMatch, compile_regex,
    },
};

/// `= /exact`, `~ expression`, `service` or `method` with an expression, or a prefix; then `METHOD`, `header:value`, `?name=value`, with `~` before a value that is an expression.
pub(super) fn condition(text: &str) -> RuleMatch {
    let value = |text: &str| match text.strip_prefix('~') {
        Some(pattern) => ValueMatch::Regex(compile_regex(pattern).unwrap()),
        None => ValueMatch::Exact(text.parse().unwrap()),
    };
    let mut words = text.split(' ');
    let path = match words.next().unwrap() {
        "=" => PathMatch::exact(words.next().unwrap()),
        "~" => Ok(PathMatch::regex(words.next().unwrap()).unwrap()),
        "service" => Ok(PathMatch::call(CallPart::Service, words.next().unwrap()).unwrap()),
        "method" => Ok(PathMatch::call(CallPart::Method, words.next().unwrap()).unwrap()),
        prefix => PathMatch::prefix(prefix),
    };
    let mut condition = RuleMatch { path: path.unwrap(), method: None, headers: Vec::new(), query: Vec::new() };
    for word in words {
        if let Some((name, text)) = word.strip_prefix('?').and_then(|word| word.split_once('=')) {
            condition.query.push(QueryMatch { name: name.into(), value: value(text) });
        } else if let Some((name, text)) = word.split_once(':') {
            condition.headers.push(HeaderMatch { name: name.parse().unwrap(), value: value(text) });
        } else {
            condition.method = Some(word.parse().unwrap());
        }
    }
    condition
}

/// A route in the namespace `default` unless the name has one; each rule is a list of conditions. `one *.suffix` is the wildcard of an Ingress.
pub(super) fn route(name: &str, created: i64, hostnames: &[&str], rules: &[&[&str]]) -> Arc<Route> {
    let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
    let id = ResourceRef::new(Kind::HTTPRoute, namespace, name);
    let rule = |(index, conditions): (u32, &&[&str])| {
        Arc::new(Rule::new(
            RuleId { route: id.clone(), index, name: None },
            conditions.iter().map(|text| condition(text)).collect(),
            Action::Fail(Failure { reason: Reason::NoBackend, message: "none".into() }),
        ))
    };
    Arc::new(Route {
        id: id.clone(),
        created,
        hostnames: hostnames.iter().map(|host| hostname(host)).collect(),
        rules: (0..).zip(rules).map(rule).collect(),
    })
}

fn hostname(text: &str) -> HostPattern {
    text.strip_prefix("one ").map_or_else(|| HostPattern::parse(text), HostPattern::parse_ingress).unwrap()
}

/// `host path` of a GET, or `METHOD host path`, then `header:value`. Answers `route#rule`.
#[track_caller]
fn check(routes: &[Arc<Route>], request: &str, expected: &str) {
    let mut words: Vec<_> = request.split(' ').collect();
    let method = if matches!(words[0], "GET" | "PUT" | "POST") { words.remove(0) } else { "GET" };
    let (path, query) = words[1].split_once('?').map_or((words[1], None), |(path, query)| (path, Some(query)));
    let mut headers = HeaderMap::new();
    for (name, value) in words[2..].iter().map(|word| word.split_once(':').unwrap()) {
        headers.append(name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap());
    }
    let method: Method = method.parse().unwrap();
    let view = RequestView { host: words[0], path, query, method: &method, headers: &headers };
    // The order in which routes are given must not matter.
    let reversed: Vec<_> = routes.iter().rev().cloned().collect();
    for routes in [routes, &reversed] {
        let table = RouteTable::build(routes, None);
        let found = table.find(&view).map(|found| format!("{}#{}", found.rule.id.route.name, found.rule.id));
        assert_eq!(found.as_deref().unwrap_or("none"), expected, "{request}");
    }
}

#[test]
fn hostnames() {
    let routes = [
        route("any", 1, &[""], &[&["/"]]),
        route("com", 1, &["*.com"], &[&["/"]]),
        route("example", 2, &["*.example.com"], &[&["/"]]),
        route("exact", 3, &["a.example.com"], &[&["/only"]]),
        route("two", 3, &["x.org", "*.y.org"], &[&["/"]]),
    ];
    check(&routes, "other.net /", "any#0");
    check(&routes, " /", "any#0");
    check(&routes, "x.com /", "com#0");
    check(&routes, "example.com /", "com#0");
    check(&routes, "b.example.com /", "example#0");
    check(&routes, "a.b.example.com /", "example#0");
    check(&routes, "a.example.com /only", "exact#0");
    // A less specific hostname gets what the more specific one declines, though it be older.
    check(&routes, "a.example.com /else", "example#0");
    check(&routes, "x.org /", "two#0");
    check(&routes, "z.y.org /", "two#0");
    check(&routes, "y.org /", "any#0");
    check(&routes[1..], "y.org /", "none");
}

#[test]
fn a_wildcard_of_an_ingress_stands_for_one_label() {
    let routes = [
        route("many", 1, &["*.example.com"], &[&["/"]]),
        route("one", 2, &["one *.example.com"], &[&["/a"]]),
        route("exact", 3, &["a.example.com"], &[&["/only"]]),
    ];
    check(&routes, "b.example.com /a", "one#0");
    check(&routes, "b.example.com /", "many#0");
    check(&routes, "a.example.com /a", "one#0");
    check(&routes, "a.example.com /only", "exact#0");
    check(&routes, "b.a.example.com /a", "many#0");
    check(&routes[1..], "b.a.example.com /a", "none");
    check(&routes[1..], "example.com /a", "none");
    check(&routes[1..], ".example.com /a", "none");
}

#[test]
fn hostname_wins_over_path_and_age() {
    let routes = [
        route("old", 1, &["*.example.com"], &[&["/long/path"], &["= /exact"]]),
        route("new", 2, &["a.example.com"], &[&["/"], &["/with x:1"]]),
    ];
    check(&routes, "a.example.com /long/path", "new#0");
    check(&routes, "a.example.com /exact", "new#0");
    check(&routes[..1], "a.example.com /exact", "old#1");
}

/// Gateway API orders calls by the characters of a matching service, then of a matching method, whatever the age.
#[test]
fn the_service_of_a_call_goes_before_its_method() {
    let routes = [
        route("everything", 1, &[""], &[&["/ x:1"]]),
        route("method", 2, &[""], &[&["method /[^/]+/Get x:1"], &["method /[^/]+/Get"]]),
        route("services", 3, &[""], &[&["service /a[.].*/[^/]+"]]),
        route("service", 4, &[""], &[&["/a.B"]]),
        route("both", 5, &[""], &[&["= /a.B/Get"]]),
    ];
    check(&routes, "h /a.B/Get", "both#0");
    check(&routes, "h /a.B/Put", "service#0");
    check(&routes, "h /a.C/Get", "services#0");
    check(&routes, "h /b.C/Get", "method#1");
    check(&routes, "h /b.C/Get x:1", "method#0");
    check(&routes, "h /b.C/Put x:1", "everything#0");
    check(&routes, "h /b.C/Put", "none");
}

#[test]
fn paths() {
    let routes = [route(
        "r",
        1,
        &[""],
        &[&["/"], &["/a"], &["/a/b"], &["= /a/b"], &["~ /a/[0-9]+"], &["/a/7/"], &["= /a/8"], &["= /slash/"]],
    )];
    check(&routes, "h /", "r#0");
    check(&routes, "h /ab", "r#0");
    check(&routes, "h /a", "r#1");
    check(&routes, "h /a/", "r#1");
    check(&routes, "h /a/bc", "r#1");
    check(&routes, "h /A", "r#0");
    check(&routes, "h /a/b", "r#3");
    check(&routes, "h /a/b/", "r#2");
    check(&routes, "h /a/b/c", "r#2");
    check(&routes, "h /a/7", "r#4");
    check(&routes, "h /a/7/x", "r#5");
    check(&routes, "h /a/8", "r#6");
    check(&routes, "h /slash/", "r#7");
    check(&routes, "h /slash", "r#0");
    check(&[route("r", 1, &[""], &[&["/a"]])], "h /", "none");
}

#[test]
fn conditions() {
    let routes = [route(
        "r",
        1,
        &[""],
        &[
            &["/"],
            &["/ GET"],
            &["/ version:two"],
            &["/ version:two color:~(red|blue)"],
            &["/ GET version:two"],
            &["/ ?animal=whale"],
            &["/ ?animal=~d.*"],
            &["/ POST ?animal=whale", "/ POST version:~v[0-9]"],
        ],
    )];
    check(&routes, "PUT h /", "r#0");
    check(&routes, "GET h /", "r#1");
    check(&routes, "PUT h / version:two", "r#2");
    check(&routes, "PUT h / version:one version:two", "r#2");
    check(&routes, "PUT h / version:two color:red", "r#3");
    check(&routes, "PUT h / version:two color:reddish", "r#2");
    check(&routes, "GET h / version:two color:red", "r#4");
    check(&routes, "GET h / version:three", "r#1");
    check(&routes, "PUT h /?animal=whale", "r#5");
    check(&routes, "PUT h /?animal=%77hale", "r#5");
    check(&routes, "PUT h /?animal=cat&animal=whale", "r#0");
    check(&routes, "PUT h /?animal=dolphin", "r#6");
    check(&routes, "PUT h / version:TWO", "r#0");
    check(&routes, "POST h /?animal=whale", "r#7");
    check(&routes, "POST h / version:v1", "r#7");
    check(&routes, "POST h / version:v12", "r#0");
}

#[test]
fn precedence_among_conditions() {
    let pairs: [(&str, &str); 6] = [
        ("= /a", "~ /a GET x:1"),
        ("~ /a", "/a GET x:1"),
        ("/a", "/ GET x:1"),
        ("/a GET", "/a x:1 y:1"),
        ("/a x:1 y:1", "/a x:1 ?q=1 ?r=1"),
        ("/a x:1 ?q=1 ?r=1", "/a x:1 ?q=1"),
    ];
    for (winner, loser) in pairs {
        let routes = [route("winner", 9, &[""], &[&[winner]]), route("loser", 1, &[""], &[&[loser]])];
        check(&routes, "GET h /a?q=1&r=1 x:1 y:1", "winner#0");
    }
}

#[test]
fn ties() {
    let same: &[&[&str]] = &[&["/"]];
    check(&[route("b", 1, &[""], same), route("a", 2, &[""], same)], "h /", "b#0");
    check(&[route("b", 1, &[""], same), route("a", 1, &[""], same)], "h /", "a#0");
    // By the text `namespace/name`, in which `-` sorts before `/`.
    check(&[route("n/one", 1, &[""], same), route("n-x/two", 1, &[""], same)], "h /", "two#0");
    check(&[route("r", 1, &[""], &[&["/ x:1 y:2"], &["/ y:2 x:1"]])], "h / x:1 y:2", "r#0");
    check(&[route("r", 1, &[""], &[&["/a"], &["/", "/a"]])], "h /a", "r#0");
}

#[test]
fn matched_path_is_the_condition_that_took_the_request() {
    let table = RouteTable::build(&[route("r", 1, &[""], &[&["/long/prefix", "/short"]])], None);
    let (method, headers) = (Method::GET, HeaderMap::new());
    let path = |path| {
        let view = RequestView { host: "h", path, query: None, method: &method, headers: &headers };
        table.find(&view).map(|found| found.path.to_string())
    };
    assert_eq!(path("/short/x").as_deref(), Some("/short/*"));
    assert_eq!(path("/long/prefix/x").as_deref(), Some("/long/prefix/*"));
    assert_eq!(path("/x"), None);
}

#[test]
fn unchanged_hosts_and_paths_are_shared() {
    let routes: Vec<_> = (0..10)
        .map(|at| route(&format!("r{at}"), 1, &[&format!("h{}.com", at / 2)], &[&[&format!("/{at}")]]))
        .collect();
    let before = RouteTable::build(&routes, None);
    let mut changed = routes.clone();
    changed[3] = route("r3", 1, &["h1.com"], &[&["/new"]]);
    let after = RouteTable::build(&changed, Some(&before));
    for host in ["h0.com", "h2.com", "h3.com", "h4.com"] {
        assert!(Arc::ptr_eq(&before.exact[host], &after.exact[host]), "{host}");
    }
    assert!(!Arc::ptr_eq(&before.exact["h1.com"], &after.exact["h1.com"]));
    assert!(after.is_built_from(&changed) && !after.is_built_from(&routes));
    check(&changed, "h1.com /3", "none");
    check(&changed, "h1.com /new", "r3#0");
}

#[test]
fn repeated_routes_count_once() {
    let (a, b) = (route("a", 1, &[""], &[&["/a"]]), route("b", 1, &[""], &[&["/b"]]));
    let twice = RouteTable::build(&[a.clone(), b.clone(), a.clone()], None);
    assert_eq!(twice.len(), 2);
    let once = RouteTable::build(&[a.clone(), b.clone()], Some(&twice));
    assert_eq!(once.iter_routes().map(|route| &*route.id.name).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(serde_json::to_string(&once).unwrap(), serde_json::to_string(&twice).unwrap());
    let none = RouteTable::build(&[], Some(&once));
    assert!(none.is_empty() && none.hosts().is_empty());
}

#[test]
fn serialized_in_the_order_tried() {
    let routes = [
        route("any", 1, &[""], &[&["/"]]),
        route("one", 1, &["*.com", "a.com"], &[&["/", "/a GET"], &["= /b", "~ /x.*", "/ GET x:1 ?q=~1"]]),
    ];
    let json = serde_json::to_value(RouteTable::build(&routes, None)).unwrap();
    let hosts: Vec<_> = json.as_object().unwrap().keys().collect();
    assert_eq!(hosts, ["a.com", "*.com", "*"]);
    let line = |entry: &serde_json::Value| {
        let text = |key: &str| entry[key].as_str().unwrap_or("-").to_owned();
        format!("{} {} {}", text("path"), text("method"), text("rule"))
    };
    let lines: Vec<_> = json["a.com"].as_array().unwrap().iter().map(line).collect();
    assert_eq!(
        lines,
        [
            "= /b - HTTPRoute/default/one#1",
            "~ /x.* - HTTPRoute/default/one#1",
            "/a/* GET HTTPRoute/default/one#0",
            "/* GET HTTPRoute/default/one#1",
            "/* - HTTPRoute/default/one#0",
        ]
    );
    assert_eq!(
        serde_json::to_string(&json["*"]).unwrap(),
        r##"[{"path":"/*","rule":"HTTPRoute/default/any#0","action":{"Fail":{"reason":"no_backend","message":"none"}}}]"##
    );
}

//! `find` against the plainest implementation of the same words: look at every condition of every route, sort, take the first.

use std::cmp::Reverse;

use fastrand::Rng;

use super::*;

fn matches(condition: &RuleMatch, request: &RequestView<'_>) -> bool {
    let path = match &condition.path {
        PathMatch::Exact(path) => **path == *request.path,
        PathMatch::Regex(regex) | PathMatch::Call(CallMatch { path: regex, .. }) => regex.is_match(request.path),
        PathMatch::Prefix(prefix) => {
            let wanted: Vec<_> = prefix.split('/').collect();
            request.path.split('/').take(wanted.len()).eq(wanted)
        }
    };
    let value_is = |condition: &ValueMatch, value: &str| match condition {
        ValueMatch::Exact(expected) => expected == value,
        ValueMatch::Regex(regex) => regex.is_match(value),
    };
    let header = |condition: &HeaderMatch| {
        let mut values = request.headers.get_all(&condition.name).iter();
        values.any(|value| value_is(&condition.value, value.to_str().unwrap()))
    };
    let parameters: Vec<_> = request.query.unwrap_or("").split('&').filter_map(|pair| pair.split_once('=')).collect();
    let parameter = |condition: &QueryMatch| {
        let first = parameters.iter().find(|(name, _)| **name == *condition.name);
        first.is_some_and(|(_, value)| value_is(&condition.value, value))
    };
    path && condition.method.as_ref().is_none_or(|method| method == request.method)
        && condition.headers.iter().all(header)
        && condition.query.iter().all(parameter)
}

/// The smallest key wins.
fn precedence(hostname: &HostPattern, route: &Route, condition: &RuleMatch) -> impl Ord + use<> {
    let (host_kind, host_length, many_labels) = match hostname {
        HostPattern::Exact(name) => (0, name.len(), false),
        HostPattern::OneLabel(suffix) => (1, suffix.len(), false),
        HostPattern::Wildcard(suffix) => (1, suffix.len(), true),
        HostPattern::Any => (2, 0, false),
    };
    let (path_kind, path_length) = match &condition.path {
        PathMatch::Exact(_) => (0, 0),
        PathMatch::Regex(_) => (1, 0),
        PathMatch::Prefix(prefix) if prefix.is_empty() => (5, 0),
        PathMatch::Prefix(prefix) => (2, prefix.len()),
        PathMatch::Call(CallMatch { part: CallPart::Service, .. }) => (3, 0),
        PathMatch::Call(CallMatch { part: CallPart::Method, .. }) => (4, 0),
    };
    let more = (Reverse(condition.headers.len()), Reverse(condition.query.len()));
    let id = format!("{}/{}", route.id.namespace, route.id.name);
    let host = (host_kind, Reverse(host_length), many_labels);
    (host, path_kind, Reverse(path_length), condition.method.is_none(), more, route.created, id)
}

fn find<'a>(routes: &'a [Arc<Route>], request: &RequestView<'_>) -> Option<RuleMatched<'a>> {
    let mut candidates = Vec::new();
    for route in routes {
        for hostname in route.hostnames.iter().filter(|hostname| hostname.covers(request.host)) {
            for (position, rule) in route.rules.iter().enumerate() {
                for condition in rule.matches.iter().filter(|condition| matches(condition, request)) {
                    candidates.push((precedence(hostname, route, condition), position, rule, &condition.path));
                }
            }
        }
    }
    candidates.sort_by(|(a, at, ..), (b, bt, ..)| a.cmp(b).then(at.cmp(bt)));
    candidates.first().map(|(_, _, rule, path)| RuleMatched { rule, path })
}

const HOSTS: &[&str] = &["", "a.com", "b.a.com", "c.b.a.com", "x.org", "com"];
const PATTERNS: &[&str] =
    &["", "*.com", "*.a.com", "a.com", "b.a.com", "*.b.a.com", "x.org", "one *.com", "one *.a.com", "one *.b.a.com"];
const PATHS: &[&str] = &["/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/b", "/b/a"];
const PATH_CONDITIONS: &[&str] = &[
    "/",
    "/a",
    "/a/b",
    "/a/b/c",
    "/ab",
    "/b",
    "= /",
    "= /a",
    "= /a/",
    "= /a/b",
    "~ /a.*",
    "~ /[ab]",
    "~ .*/b",
    "service /a/[^/]+",
    "method /[^/]+/b",
];
const OTHER_CONDITIONS: &[&str] =
    &["GET", "POST", "x:1", "x:2", "y:1", "y:~[12]", "z:1", "?q=1", "?q=2", "?r=1", "?r=~[12]"];
const NAMES: &[&str] = &["n/a", "n/b", "n-m/a", "m/a", "m/ab"];

fn pick<'a>(random: &mut Rng, from: &[&'a str]) -> &'a str {
    from[random.usize(0..from.len())]
}

/// Names repeat with other hostnames or not at all: `n` makes them unique, so that precedence is total.
fn random_route(random: &mut Rng, n: usize) -> Arc<Route> {
    let condition = |random: &mut Rng| {
        let mut text = pick(random, PATH_CONDITIONS).to_owned();
        for _ in 0..random.usize(0..4) {
            let more = pick(random, OTHER_CONDITIONS);
            // Each name once, as the resources have it; and one method.
            let name = if matches!(more, "GET" | "POST") { "T" } else { &more[..2] };
            if !text.contains(name) {
                text = format!("{text} {more}");
            }
        }
        text
    };
    let rules: Vec<Vec<String>> =
        (0..random.usize(1..4)).map(|_| (0..random.usize(1..4)).map(|_| condition(random)).collect()).collect();
    let rules: Vec<Vec<&str>> = rules.iter().map(|rule| rule.iter().map(String::as_str).collect()).collect();
    let rules: Vec<&[&str]> = rules.iter().map(Vec::as_slice).collect();
    let hostnames: Vec<_> = (0..random.usize(1..3)).map(|_| pick(random, PATTERNS)).collect();
    route(&format!("{}{n}", pick(random, NAMES)), random.i64(0..3), &hostnames, &rules)
}

#[track_caller]
fn agree(table: &RouteTable, routes: &[Arc<Route>], random: &mut Rng) -> bool {
    let method = if random.bool() { Method::GET } else { Method::POST };
    let mut headers = HeaderMap::new();
    for name in ["x", "y", "z"] {
        for _ in 0..random.usize(0..3) {
            headers.append(name, pick(random, &["1", "2"]).parse().unwrap());
        }
    }
    let query: Vec<_> = (0..random.usize(0..3)).map(|_| pick(random, &["q=1", "q=2", "r=1", "r=3"])).collect();
    let query = query.join("&");
    let request = RequestView {
        host: pick(random, HOSTS),
        path: pick(random, PATHS),
        query: (!query.is_empty()).then_some(&*query),
        method: &method,
        headers: &headers,
    };
    let (found, expected) = (table.find(&request), find(routes, &request));
    let key = |found: &RuleMatched<'_>| (Arc::as_ptr(found.rule), found.path.to_string());
    assert_eq!(found.as_ref().map(key), expected.as_ref().map(key), "{request:?}: {found:?}, expected {expected:?}");
    found.is_some()
}

#[test]
fn find_agrees_with_the_reference() {
    let mut random = Rng::with_seed(1);
    let (mut found, mut total) = (0, 0);
    for _ in 0..2_000 {
        let count = random.usize(0..12);
        let routes: Vec<_> = (0..count).map(|n| random_route(&mut random, n)).collect();
        let table = RouteTable::build(&routes, None);
        for _ in 0..10 {
            found += usize::from(agree(&table, &routes, &mut random));
            total += 1;
        }
    }
    assert!(found > total / 4 && found < total * 19 / 20, "{found} of {total} is no fair test");
}

#[test]
fn tables_built_from_others_are_as_if_built_anew() {
    let mut random = Rng::with_seed(2);
    for _ in 0..100 {
        let mut routes: Vec<_> = (0..random.usize(0..12)).map(|n| random_route(&mut random, n)).collect();
        let mut table = RouteTable::build(&routes, None);
        for step in 0..20 {
            for _ in 0..random.usize(0..4) {
                edit(&mut routes, &mut random, step);
            }
            table = RouteTable::build(&routes, Some(&table));
            let anew = RouteTable::build(&routes, None);
            assert_eq!(serde_json::to_string(&table).unwrap(), serde_json::to_string(&anew).unwrap());
            agree(&table, &routes, &mut random);
        }
    }
}

fn edit(routes: &mut Vec<Arc<Route>>, random: &mut Rng, step: usize) {
    let n = 100 + step * 10 + random.usize(0..10);
    let at = random.usize(0..=routes.len());
    match random.u8(0..4) {
        0 if routes.iter().all(|route| !route.id.name.ends_with(&n.to_string())) => {
            routes.insert(at, random_route(random, n));
        }
        1 if at < routes.len() => drop(routes.remove(at)),
        2 if at < routes.len() => {
            let id = routes[at].id.clone();
            let mut changed = Arc::unwrap_or_clone(random_route(random, n));
            changed.id = id;
            routes[at] = Arc::new(changed);
        }
        3 => random.shuffle(routes),
        _ => {}
    }
}

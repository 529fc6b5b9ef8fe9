use http::Request;

use super::*;
use crate::route::compile_regex;

fn prefix(path: &str) -> PathMatch {
    PathMatch::prefix(path).unwrap()
}

#[test]
fn header_edits() {
    #[track_caller]
    fn check(edits: &HeaderEdits, before: &[(&str, &str)], after: &[(&str, &str)]) {
        let mut headers = HeaderMap::new();
        for (name, value) in before {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        edits.apply(&mut headers);
        let mut found: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        found.sort_by_key(|(name, _)| *name);
        assert_eq!(found, after);
    }
    let pair =
        |name: &'static str, value: &'static str| (HeaderName::from_static(name), HeaderValue::from_static(value));
    check(&HeaderEdits::default(), &[("a", "1")], &[("a", "1")]);
    check(&HeaderEdits { set: vec![pair("a", "2")], ..Default::default() }, &[("a", "1"), ("a", "1")], &[("a", "2")]);
    check(&HeaderEdits { add: vec![pair("a", "2")], ..Default::default() }, &[("a", "1")], &[("a", "1"), ("a", "2")]);
    check(&HeaderEdits { add: vec![pair("b", "2")], ..Default::default() }, &[("a", "1")], &[("a", "1"), ("b", "2")]);
    check(
        &HeaderEdits { remove: vec![HeaderName::from_static("a")], ..Default::default() },
        &[("a", "1"), ("a", "2"), ("b", "1")],
        &[("b", "1")],
    );
    check(
        &HeaderEdits {
            set: vec![pair("a", "s")],
            add: vec![pair("a", "+"), pair("c", "+")],
            remove: vec![HeaderName::from_static("c")],
        },
        &[("a", "1")],
        &[("a", "s"), ("a", "+")],
    );
}

#[test]
fn path_rewrite() {
    #[track_caller]
    fn check(path: &str, matched: &str, replacement: &str, expected: &str) {
        let rewrite = PathRewrite::Prefix(replacement.into());
        assert_eq!(rewrite.apply(path, &prefix(matched)), expected, "{path} {matched} {replacement}");
    }
    // The table of HTTPPathModifier in Gateway API.
    check("/foo/bar", "/foo", "/xyz", "/xyz/bar");
    check("/foo/bar", "/foo", "/xyz/", "/xyz/bar");
    check("/foo/bar", "/foo/", "/xyz", "/xyz/bar");
    check("/foo/bar", "/foo/", "/xyz/", "/xyz/bar");
    check("/foo", "/foo", "/xyz", "/xyz");
    check("/foo/", "/foo", "/xyz", "/xyz/");
    check("/foo/bar", "/foo", "", "/bar");
    check("/foo/", "/foo", "", "/");
    check("/foo", "/foo", "", "/");
    check("/foo/", "/foo", "/", "/");
    check("/foo", "/foo", "/", "/");
    // What the table leaves open.
    check("/foo", "/foo", "/xyz/", "/xyz/");
    check("/foo/bar", "/foo", "/", "/bar");
    check("/foo/bar", "/", "/xyz", "/xyz/foo/bar");
    check("/", "/", "/xyz", "/xyz/");
    check("/foo/bar", "/foo", "xyz", "/xyz/bar");
    check("/foo/foo", "/foo", "/", "/foo");
}

#[test]
fn full_path_and_conditions_without_prefix() {
    #[track_caller]
    fn check(rewrite: &PathRewrite, matched: &PathMatch, expected: &str) {
        assert_eq!(rewrite.apply("/foo/bar", matched), expected);
    }
    check(&PathRewrite::Full("/one".into()), &prefix("/foo"), "/one");
    check(&PathRewrite::Full("/one".into()), &PathMatch::exact("/foo/bar").unwrap(), "/one");
    check(&PathRewrite::Full("".into()), &prefix("/foo"), "/");
    check(&PathRewrite::Full("one".into()), &prefix("/foo"), "/one");
    check(&PathRewrite::Prefix("/one".into()), &PathMatch::exact("/foo/bar").unwrap(), "/foo/bar");
    check(&PathRewrite::Prefix("/one".into()), &PathMatch::Regex(compile_regex("/foo.*").unwrap()), "/foo/bar");
}

#[test]
fn url_rewrite() {
    #[track_caller]
    fn check(uri: &str, rewrite: &UrlRewrite, expected: (&str, &str)) {
        let request = Request::get(uri).header("host", "a.com").body(()).unwrap();
        let (mut parts, ()) = request.into_parts();
        rewrite.apply(&mut parts, &prefix("/foo")).unwrap();
        assert_eq!((&*parts.uri.to_string(), parts.headers["host"].to_str().unwrap()), expected, "{uri}");
    }
    let host = UrlRewrite { hostname: Some(HeaderValue::from_static("b.org")), path: None };
    check("/foo?q=1", &host, ("/foo?q=1", "b.org"));
    check("https://a.com:81/foo?q=1", &host, ("https://b.org/foo?q=1", "b.org"));
    let path = UrlRewrite { hostname: None, path: Some(PathRewrite::Prefix("/bar".into())) };
    check("/foo/x?q=%2F", &path, ("/bar/x?q=%2F", "a.com"));
    check("https://a.com/foo", &path, ("https://a.com/bar", "a.com"));
    let odd = UrlRewrite { hostname: None, path: Some(PathRewrite::Full("/a b?c#d".into())) };
    check("/foo?q", &odd, ("/a%20b%3Fc%23d?q", "a.com"));
}

fn redirect() -> Redirect {
    Redirect { scheme: None, hostname: None, port: None, path: None, status: StatusCode::FOUND }
}

#[track_caller]
fn check_location(from: (Scheme, &str, u16, &str), redirect: &Redirect, expected: &str) {
    let (scheme, host, port, target) = from;
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let request = RedirectedRequest { scheme, host, port, path, query };
    assert_eq!(redirect.location(&request, &prefix("/foo")), expected, "{from:?} {redirect:?}");
}

#[test]
fn redirect_scheme_and_port() {
    use Scheme::{Http, Https};
    let to = |scheme, port| Redirect { scheme, port, ..redirect() };
    let http = (Http, "a.com", 80, "/foo");
    let http_8080 = (Http, "a.com", 8080, "/foo");
    let https = (Https, "a.com", 443, "/foo");
    let https_8443 = (Https, "a.com", 8443, "/foo");
    // Nothing given: the listener's port, unless it is well known.
    check_location(http, &to(None, None), "http://a.com/foo");
    check_location(http_8080, &to(None, None), "http://a.com:8080/foo");
    check_location(https, &to(None, None), "https://a.com/foo");
    check_location(https_8443, &to(None, None), "https://a.com:8443/foo");
    // A scheme alone: its well-known port.
    check_location(http, &to(Some(Https), None), "https://a.com/foo");
    check_location(http_8080, &to(Some(Https), None), "https://a.com/foo");
    check_location(http_8080, &to(Some(Http), None), "http://a.com/foo");
    check_location(https, &to(Some(Http), None), "http://a.com/foo");
    // A port alone: the request's scheme.
    check_location(http, &to(None, Some(80)), "http://a.com/foo");
    check_location(http, &to(None, Some(443)), "http://a.com:443/foo");
    check_location(http_8080, &to(None, Some(80)), "http://a.com/foo");
    check_location(https, &to(None, Some(443)), "https://a.com/foo");
    check_location(https_8443, &to(None, Some(9443)), "https://a.com:9443/foo");
    // Both.
    check_location(http, &to(Some(Https), Some(443)), "https://a.com/foo");
    check_location(http, &to(Some(Https), Some(8443)), "https://a.com:8443/foo");
    check_location(http, &to(Some(Https), Some(80)), "https://a.com:80/foo");
}

#[test]
fn redirect_host_and_path() {
    use Scheme::Http;
    let host = Redirect { hostname: Some("b.org".into()), ..redirect() };
    check_location((Http, "a.com", 80, "/foo?x=1&y"), &host, "http://b.org/foo?x=1&y");
    check_location((Http, "", 80, "/foo"), &host, "http://b.org/foo");
    check_location((Http, "[::1]", 8080, "/foo"), &redirect(), "http://[::1]:8080/foo");
    check_location((Http, "", 8080, "/foo?x"), &redirect(), "/foo?x");
    let full = Redirect { path: Some(PathRewrite::Full("/new".into())), ..redirect() };
    check_location((Http, "a.com", 80, "/foo/bar?x"), &full, "http://a.com/new?x");
    let prefix = Redirect { path: Some(PathRewrite::Prefix("/new".into())), ..redirect() };
    check_location((Http, "a.com", 80, "/foo/bar?x"), &prefix, "http://a.com/new/bar?x");
    check_location((Http, "a.com", 80, "/foo/"), &prefix, "http://a.com/new/");
}

#[test]
fn redirect_never_splits_the_response() {
    use Scheme::Http;
    let odd = Redirect { path: Some(PathRewrite::Full("/a\r\nb: c".into())), ..redirect() };
    check_location((Http, "a.com", 80, "/foo"), &odd, "http://a.com/a%0D%0Ab:%20c");
    check_location((Http, "a.com/\r\n", 80, "/foo?\r\n\u{e9}"), &redirect(), "http://a.com/%0D%0A/foo?%0D%0A%C3%A9");
}

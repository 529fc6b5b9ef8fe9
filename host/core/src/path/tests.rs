use super::*;

#[track_caller]
fn check(path: &str, expected: Result<&str, InvalidPath>) {
    let found = normalize(path);
    assert_eq!(found.as_deref().map_err(|error| *error), expected, "{path}");
    if let Ok(normal) = found {
        assert_eq!(normalize(&normal).as_deref(), Ok(&*normal), "the normal form of {path} is normal");
        // Whether or not the fast path sees it, the slow path must agree.
        assert_eq!(rewrite(&normal).as_deref(), Ok(&*normal), "{path}");
    }
}

#[test]
fn normal_paths_are_borrowed() {
    for path in [
        "/",
        "/a",
        "/a/",
        "/a/b.c/d",
        "/.well-known/acme",
        "/...",
        "/..a/.b.",
        "/a;v=1/b",
        "/a.;x",
        "/%C3%A9/%3A%20",
        "/-._~!$&'()*+,;=:@",
    ] {
        assert!(matches!(normalize(path), Ok(Cow::Borrowed(same)) if same == path), "{path}");
        check(path, Ok(path));
    }
}

#[test]
fn percent_encoding() {
    check("/%41%7a%30%2d%2E%5f%7E", Ok("/Az0-._~"));
    check("/%c3%a9", Ok("/%C3%A9"));
    check("/é", Ok("/%C3%A9"));
    check("/%3a%3A:", Ok("/%3A%3A:"));
    check("/{id}|\"<>^`", Ok("/%7Bid%7D%7C%22%3C%3E%5E%60"));
    check("/%25", Ok("/%25"));
    check("/%252e%252e/a", Ok("/%252e%252e/a"));
    check("/%ff", Ok("/%FF"));
    check("/%", Err(InvalidPath::MalformedEscape));
    check("/%2", Err(InvalidPath::MalformedEscape));
    check("/%zz", Err(InvalidPath::MalformedEscape));
    check("/%2/0", Err(InvalidPath::MalformedEscape));
    check("/a%", Err(InvalidPath::MalformedEscape));
    check("/%é0", Err(InvalidPath::MalformedEscape));
}

#[test]
fn dot_segments() {
    check("/a/./b", Ok("/a/b"));
    check("/a/../b", Ok("/b"));
    check("/a/b/..", Ok("/a/"));
    check("/a/b/../", Ok("/a/"));
    check("/a/.", Ok("/a/"));
    check("/.", Ok("/"));
    check("/a/..", Ok("/"));
    check("/a/%2e%2E/b", Ok("/b"));
    check("/a/.%2e/b", Ok("/b"));
    check("/a/%2e/b", Ok("/a/b"));
    // RFC 3986 §5.2.4.
    check("/a/b/c/./../../g", Ok("/a/g"));
    check("/..", Err(InvalidPath::AboveRoot));
    check("/../a", Err(InvalidPath::AboveRoot));
    check("/a/../../b", Err(InvalidPath::AboveRoot));
    check("/%2e%2e/a", Err(InvalidPath::AboveRoot));
    check("//../a", Err(InvalidPath::AboveRoot));
}

#[test]
fn slashes() {
    check("//", Ok("/"));
    check("//a///b//", Ok("/a/b/"));
    check("/a//../b", Ok("/b"));
    check("/a%2fb", Ok("/a%2Fb"));
    check("/a%2Fb/../c", Ok("/c"));
    check("/%2F%2f", Ok("/%2F%2F"));
    check("/a%5cb", Ok("/a%5Cb"));
    check("/a\\b", Err(InvalidPath::Backslash));
}

#[test]
fn hidden_dot_segments() {
    for path in [
        "/a/..%2Fb",
        "/a/..%2f..%2fetc",
        "/a%2F../b",
        "/a/%2e%2e%2fb",
        "/a/.%2Fb",
        "/a/..%5Cb",
        "/a%5c..",
        "/a/..;/b",
        "/a/..;x=1/b",
        "/a/.;/b",
        "/%2e%2e;/b",
        "/a/b%2F..;x",
    ] {
        check(path, Err(InvalidPath::HiddenDotSegment));
    }
    check("/a/..b%2Fc", Ok("/a/..b%2Fc"));
    check("/a;x=..%2Fb", Ok("/a;x=..%2Fb"));
}

#[test]
fn refused() {
    check("", Err(InvalidPath::NotAbsolute));
    check("*", Err(InvalidPath::NotAbsolute));
    check("a/b", Err(InvalidPath::NotAbsolute));
    check("/a\0", Err(InvalidPath::ControlCharacter));
    check("/a%00", Err(InvalidPath::ControlCharacter));
    check("/a%0d%0a", Err(InvalidPath::ControlCharacter));
    check("/a%1F", Err(InvalidPath::ControlCharacter));
    check("/a%7f", Err(InvalidPath::ControlCharacter));
    check("/a\x7f", Err(InvalidPath::ControlCharacter));
    check("/a b", Err(InvalidPath::Delimiter));
    check("/a?b", Err(InvalidPath::Delimiter));
    check("/a#b", Err(InvalidPath::Delimiter));
}

/// Random paths from a hostile alphabet: the normal form is stable, and nothing in it can be read in two ways.
#[test]
fn normal_form_is_stable_and_free_of_traversal() {
    const PIECES: &[&str] = &[
        "/", "//", ".", "..", "%2e", "%2E%2e", "%2f", "%2F", "%5c", ";", "a", "b", "%61", "%c3", "é", "%00", "%", "\\",
        " ",
    ];
    let mut random = fastrand::Rng::with_seed(7);
    let mut normal = 0;
    for _ in 0..50_000 {
        let tail: String = (0..random.usize(0..10)).map(|_| PIECES[random.usize(0..PIECES.len())]).collect();
        let path = format!("/{tail}");
        let Ok(form) = normalize(&path) else { continue };
        normal += 1;
        assert_eq!(normalize(&form).as_deref(), Ok(&*form), "{path}");
        assert_eq!(rewrite(&form).as_deref(), Ok(&*form), "{path}");
        assert!(!form.contains("//"), "{path}");
        let read_loosely = form.replace("%2F", "/").replace("%5C", "/");
        for segment in read_loosely.split('/') {
            let bare = segment.split(';').next().unwrap();
            assert!(!matches!(bare, "." | ".."), "{path} became {form}");
        }
    }
    assert!(normal > 5_000, "the alphabet is too hostile: only {normal} paths were accepted");
}

#[test]
fn replace_keeps_the_rest_of_the_uri() {
    #[track_caller]
    fn check(uri: &str, path: &str, expected: &str) {
        assert_eq!(replace(uri.parse().unwrap(), path).unwrap().to_string(), expected);
    }
    check("/a?b=c", "/x", "/x?b=c");
    check("/a", "/x", "/x");
    check("http://h:1/a?b", "/x", "http://h:1/x?b");
    check("/a?", "/x", "/x?");
    check("/a", "/x y?z#", "/x%20y%3Fz%23");
    let long = "/x".repeat(40_000);
    assert_eq!(replace("/a".parse().unwrap(), &long), Err(TargetTooLong));
}

//! Cookies, as RFC 6265 has them and as browsers accept them.

use std::fmt::Write as _;

use penstock_plugin::{Pointer, duration, header};

use super::Compiler;
use crate::{
    config::{SameSite, Secure, StickyConfig},
    sticky::Sticky,
};

/// Browsers cut longer lives down to this (RFC 6265bis).
const LONGEST_DAYS: u64 = 400;

impl Compiler {
    pub(super) fn sticky(&mut self, config: &StickyConfig, at: &Pointer) -> Sticky {
        let StickyConfig { cookie, path, domain, max_age, same_site, secure, http_only } = config;
        self.check_name(config, at);
        let path = path.as_deref().unwrap_or("/");
        if !path.starts_with('/') || !plain(path) {
            self.problem(&at.at("path"), format!("`{path}` is no path of a cookie: it starts with `/` and has no `;`"));
        }
        let mut attributes = format!("; Path={path}");
        if let Some(domain) = domain {
            if domain.is_empty() || !domain.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte)) {
                self.problem(&at.at("domain"), format!("`{domain}` is no domain: write one such as example.com"));
            }
            // Writing to a string does not fail, here and below.
            let _ = write!(attributes, "; Domain={domain}");
        }
        if let Some(seconds) = max_age.as_ref().and_then(|text| self.seconds(text, &at.at("maxAge"))) {
            let _ = write!(attributes, "; Max-Age={seconds}");
        }
        let _ = write!(attributes, "; SameSite={same_site:?}");
        if *same_site == SameSite::None && *secure != Secure::Always {
            self.problem(&at.at("sameSite"), "browsers refuse `None` without `secure: Always`");
        }
        if http_only.unwrap_or(true) {
            attributes.push_str("; HttpOnly");
        }
        Sticky::new(cookie, attributes, *secure, self.read("cookie"), self.read(":scheme"))
    }

    fn check_name(&mut self, config: &StickyConfig, at: &Pointer) {
        let StickyConfig { cookie, path, domain, secure, .. } = config;
        let at = at.at("cookie");
        // The grammar of names is that of headers, in any case.
        if header::check_read(&cookie.to_ascii_lowercase()).is_err() || cookie.starts_with(':') {
            self.problem(&at, format!("`{cookie}` is no name of a cookie: use letters, digits, `-` and `_`"));
        }
        if (cookie.starts_with("__Secure-") || cookie.starts_with("__Host-")) && *secure != Secure::Always {
            self.problem(&at, format!("browsers refuse `{cookie}` without `secure: Always`"));
        }
        let whole_host = domain.is_none() && path.as_deref().is_none_or(|path| path == "/");
        if cookie.starts_with("__Host-") && !whole_host {
            self.problem(&at, format!("browsers refuse `{cookie}` with a `domain`, or with a `path` other than `/`"));
        }
    }

    fn seconds(&mut self, text: &str, at: &Pointer) -> Option<u64> {
        // Cookies know no fractions of a second.
        let whole = duration::parse(text).filter(|age| age.subsec_nanos() == 0);
        match whole.map(|age| age.as_secs()) {
            Some(0) => self.problem(at, "must be longer than nothing: browsers delete the cookie at once"),
            Some(seconds) if seconds > LONGEST_DAYS * 24 * 3600 => {
                self.problem(
                    at,
                    format!("`{text}` is too long: browsers keep cookies for {} h at most", LONGEST_DAYS * 24),
                );
            }
            Some(seconds) => return Some(seconds),
            None => self.problem(at, format!("`{text}` is no duration: write such as 30s, 15m, 24h or 1h30m")),
        }
        None
    }
}

/// Nothing that would end the attribute or the header.
fn plain(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';')
}

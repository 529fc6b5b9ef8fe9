//! Claims of JSON Web Tokens. Nothing is verified here.
//!
//! A claim that is read so is what the client says of itself. Decide by it only what the client might choose freely, or let a filter that runs
//! earlier refuse requests with invalid tokens.

use std::borrow::Cow;

use base64::{
    Engine,
    alphabet::URL_SAFE,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde_json::Value;

use super::LONGEST;

/// RFC 7515 §2 has no padding; some issuers write it all the same.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Which claim of a token, whose signature is **not** verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// By its name.
    Name(String),
    /// By a JSON pointer (RFC 6901).
    Pointer(String),
}

impl Claim {
    /// A JSON pointer if it begins with `/`, else a name.
    #[must_use]
    pub fn new(claim: &str) -> Self {
        if claim.starts_with('/') { Self::Pointer(claim.to_owned()) } else { Self::Name(claim.to_owned()) }
    }

    /// The claim among those of a token: a string, number or boolean, as text.
    #[must_use]
    pub fn of<'c>(&self, claims: &'c Claims) -> Option<Cow<'c, str>> {
        let found = match self {
            Self::Name(name) => claims.claims.get(name),
            Self::Pointer(pointer) => claims.claims.pointer(pointer),
        };
        match found? {
            Value::String(text) => Some(text.into()),
            value @ (Value::Number(_) | Value::Bool(_)) => Some(value.to_string().into()),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }
}

/// All claims of a token: reading it costs far more than looking for one of them, so [`Request::claims`](crate::Request::claims) keeps them for
/// the exchange.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Claims {
    claims: Value,
    too_long: bool,
}

impl Claims {
    /// Those of the token in the value of a header, with or without `Bearer`. What is no token has none, and one of more than [`LONGEST`] bytes is
    /// not looked at.
    #[must_use]
    pub fn read(header: &[u8]) -> Self {
        let token = token(header);
        let too_long = token.len() > LONGEST;
        let claims = if too_long { None } else { payload(token) };
        Self { claims: claims.unwrap_or_default(), too_long }
    }

    /// Whether the token is one at which nobody has looked, so that what claims it has is not known.
    #[must_use]
    pub fn are_unseen(&self) -> bool {
        self.too_long
    }
}

fn payload(token: &[u8]) -> Option<Value> {
    let payload = token.split(|byte| *byte == b'.').nth(1)?;
    serde_json::from_slice(&BASE64URL.decode(payload).ok()?).ok()
}

/// Without the scheme of `authorization`, which has any case (RFC 9110 §11.1).
fn token(header: &[u8]) -> &[u8] {
    match header.split_at_checked(7) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") => token.trim_ascii(),
        _ => header.trim_ascii(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(claim: &str, header: &str, expected: Option<&str>) {
        assert_eq!(Claim::new(claim).of(&Claims::read(header.as_bytes())).as_deref(), expected, "{claim} of {header}");
    }

    fn jwt(claims: &str) -> String {
        format!("eyJhbGciOiJIUzI1NiJ9.{}.c2lnbmF0dXJl", BASE64URL.encode(claims).trim_end_matches('='))
    }

    #[test]
    fn claims_are_found_by_name_and_by_pointer() {
        let token =
            jwt(r#"{"sub": "anna", "n": 7, "ok": true, "realm": {"tenant": "t1"}, "roles": ["a"], "x/y": "z"}"#);
        check("sub", &format!("Bearer {token}"), Some("anna"));
        check("sub", &format!("bearer  {token} "), Some("anna"));
        check("sub", &token, Some("anna"));
        check("n", &token, Some("7"));
        check("ok", &token, Some("true"));
        check("/realm/tenant", &token, Some("t1"));
        check("/roles/0", &token, Some("a"));
        check("x/y", &token, Some("z"));
        check("roles", &token, None);
        check("realm", &token, None);
        check("missing", &token, None);
    }

    #[test]
    fn padding_is_ignored() {
        let claims = BASE64URL.encode(r#"{"sub":"ab"}"#);
        check("sub", &format!("a.{}.c", claims.trim_end_matches('=')), Some("ab"));
        check("sub", &format!("a.{claims}.c"), Some("ab"));
    }

    #[test]
    fn a_token_that_is_too_long_is_not_looked_at() {
        let padded = |length: usize| {
            let token = jwt(&format!(r#"{{"sub":"anna","x":"{}"}}"#, "x".repeat(length)));
            let claims = Claims::read(format!("Bearer {token}").as_bytes());
            (token.len(), Claim::new("sub").of(&claims).is_some(), claims.are_unseen())
        };
        let (length, found, unseen) = padded(6050);
        assert!(length <= LONGEST && found && !unseen, "{length}");
        let (length, found, unseen) = padded(6150);
        assert!(length > LONGEST && !found && unseen, "{length}");
    }

    #[test]
    fn what_is_no_token_has_no_claims() {
        for header in ["", "Bearer ", "Basic YTpi", "a.b", "a.!!!.c", "a.e30.c", "a.bm90IGpzb24.c"] {
            check("sub", header, None);
        }
    }
}

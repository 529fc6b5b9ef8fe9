//! What a plan reads of a message, and how its values reach the guest: borrowed from the head, in the order of the plan.

use std::{fmt::Write as _, net::IpAddr, ops::Range};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header::HOST};
use penstock_core::plugin::Carried;
use smallvec::SmallVec;

use crate::contract::types::Field;

/// One name that a plan reads.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Read {
    /// A header.
    Header(HeaderName),
    /// `:method`.
    Method,
    /// `:scheme`.
    Scheme,
    /// `:authority`, and `host`.
    Authority,
    /// `:path`, with query.
    Path,
    /// `:client-address`, without port.
    ClientAddress,
}

impl Read {
    /// A name in `request-reads` or `carried-reads`. `None` when it is no lower case token and no pseudo-header of requests.
    pub(crate) fn parse_request(name: &str) -> Option<Self> {
        Some(match name {
            ":method" => Self::Method,
            ":scheme" => Self::Scheme,
            ":authority" | "host" => Self::Authority,
            ":path" => Self::Path,
            ":client-address" => Self::ClientAddress,
            _ => Self::Header(lower_case_name(name)?),
        })
    }

    /// A name in `response-reads`: the status is an argument, so there are no pseudo-headers.
    pub(crate) fn parse_response(name: &str) -> Option<Self> {
        lower_case_name(name).map(Self::Header)
    }
}

/// A header name as the contract spells them. `HeaderName` alone would accept upper case and fold it.
pub(crate) fn lower_case_name(name: &str) -> Option<HeaderName> {
    let parsed = HeaderName::try_from(name).ok()?;
    (parsed.as_str() == name).then_some(parsed)
}

/// The parts of a request head that can be read.
#[derive(Clone, Copy)]
pub(crate) struct RequestHead<'a> {
    pub(crate) method: &'a Method,
    pub(crate) uri: &'a Uri,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) scheme: &'a str,
}

impl<'a> RequestHead<'a> {
    pub(crate) fn new(parts: &'a http::request::Parts, scheme: &'a str) -> Self {
        Self { method: &parts.method, uri: &parts.uri, headers: &parts.headers, scheme }
    }

    /// The values of `read`. Those of headers are shared, not copied.
    pub(crate) fn values(&self, read: &Read, client: &ClientAddress) -> SmallVec<[HeaderValue; 1]> {
        if let Read::Header(name) = read {
            return self.headers.get_all(name).iter().cloned().collect();
        }
        let mut values = SmallVec::new();
        self.each(read, client, |value| values.extend(HeaderValue::from_bytes(value)));
        values
    }

    /// Each value of `read`, in order.
    pub(crate) fn each<'v>(&self, read: &Read, client: &'v ClientAddress, mut visit: impl FnMut(&'v [u8]))
    where
        'a: 'v,
    {
        match read {
            Read::Header(name) => self.headers.get_all(name).iter().for_each(|value| visit(value.as_bytes())),
            Read::Method => visit(self.method.as_str().as_bytes()),
            Read::Scheme => visit(self.scheme.as_bytes()),
            Read::Authority => {
                if let Some(authority) = authority(self.uri, self.headers) {
                    visit(authority);
                }
            }
            Read::Path => visit(self.uri.path_and_query().map_or("/", |path| path.as_str()).as_bytes()),
            Read::ClientAddress => visit(client.as_bytes()),
        }
    }
}

/// The target's own authority, or else the `host` header, as RFC 9112 §3.2.2 ranks them.
fn authority<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a [u8]> {
    match uri.authority() {
        Some(authority) => Some(authority.as_str().as_bytes()),
        None => headers.get(HOST).map(HeaderValue::as_bytes),
    }
}

/// The text of an address without an allocation.
pub(crate) struct ClientAddress {
    /// The longest text of an IPv6 address, with an embedded IPv4 address, has 45 characters.
    text: [u8; 45],
    len: usize,
}

impl ClientAddress {
    pub(crate) fn new(address: IpAddr) -> Self {
        let mut text = Self { text: [0; 45], len: 0 };
        // An IPv4-mapped address is shown as what it is; cannot fail, see the capacity.
        let _ = write!(text, "{}", address.to_canonical());
        text
    }

    /// The address, if `reads` ask for it: writing it out costs as much as copying several headers.
    pub(crate) fn if_read(reads: &[Read], address: IpAddr) -> Self {
        if reads.contains(&Read::ClientAddress) { Self::new(address) } else { Self { text: [0; 45], len: 0 } }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.text[..self.len]
    }
}

impl std::fmt::Write for ClientAddress {
    fn write_str(&mut self, part: &str) -> std::fmt::Result {
        let end = self.len + part.len();
        self.text.get_mut(self.len..end).ok_or(std::fmt::Error)?.copy_from_slice(part.as_bytes());
        self.len = end;
        Ok(())
    }
}

/// Values gathered for one call. Two steps, because fields with several values point into a list that must not move any more.
#[derive(Default)]
pub(crate) struct Values<'a> {
    slots: SmallVec<[Slot<'a>; 8]>,
    many: SmallVec<[&'a [u8]; 4]>,
}

enum Slot<'a> {
    Absent,
    One(&'a [u8]),
    Many(Range<usize>),
}

impl<'a> Values<'a> {
    /// Add what a request holds for each of `reads`.
    pub(crate) fn read_request(&mut self, reads: &[Read], head: RequestHead<'a>, client: &'a ClientAddress) {
        for read in reads {
            if let Read::Header(name) = read {
                self.read_header(head.headers, name);
            } else {
                let mut slot = Slot::Absent;
                head.each(read, client, |value| slot = Slot::One(value));
                self.slots.push(slot);
            }
        }
    }

    /// Add what a response holds for each of `reads`.
    pub(crate) fn read_response(&mut self, reads: &[Read], headers: &'a HeaderMap) {
        for read in reads {
            match read {
                Read::Header(name) => self.read_header(headers, name),
                _ => self.slots.push(Slot::Absent),
            }
        }
    }

    /// Add what was taken down of the request for each of `reads`; absent if there was no request.
    pub(crate) fn read_carried(&mut self, reads: &[Read], carried: &'a Carried) {
        for at in 0..reads.len() {
            self.read_values(carried.0.get(at).into_iter().flatten());
        }
    }

    fn read_header(&mut self, headers: &'a HeaderMap, name: &HeaderName) {
        self.read_values(headers.get_all(name).iter());
    }

    fn read_values(&mut self, values: impl Iterator<Item = &'a HeaderValue>) {
        let mut values = values.map(HeaderValue::as_bytes);
        let slot = match (values.next(), values.next()) {
            (None, _) => Slot::Absent,
            (Some(one), None) => Slot::One(one),
            (Some(first), Some(second)) => {
                let start = self.many.len();
                self.many.extend([first, second].into_iter().chain(values));
                Slot::Many(start..self.many.len())
            }
        };
        self.slots.push(slot);
    }

    /// As arguments for a hook.
    pub(crate) fn fields(&self) -> SmallVec<[Field<'_>; 8]> {
        let field = |slot: &Slot<'a>| match slot {
            Slot::Absent => Field::Absent,
            Slot::One(value) => Field::One(value),
            Slot::Many(range) => Field::Many(&self.many[range.clone()]),
        };
        self.slots.iter().map(field).collect()
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn read(request: Request<()>, names: &[&str]) -> Vec<Vec<Vec<u8>>> {
        let (parts, ()) = request.into_parts();
        let reads: Vec<Read> = names.iter().map(|name| Read::parse_request(name).unwrap()).collect();
        let client = ClientAddress::new("::ffff:192.0.2.1".parse().unwrap());
        let mut values = Values::default();
        values.read_request(&reads, RequestHead::new(&parts, "https"), &client);
        let fields = values.fields();
        let bytes = |field: &Field<'_>| match field {
            Field::Absent => vec![],
            Field::One(value) => vec![value.to_vec()],
            Field::Many(values) => values.iter().map(|value| value.to_vec()).collect(),
        };
        fields.iter().map(bytes).collect()
    }

    #[test]
    fn fields_come_in_the_order_of_the_plan() {
        let request = Request::get("/a?b=c")
            .header("x-one", "1")
            .header("x-many", "a")
            .header("x-two", HeaderValue::from_bytes(b"\xff").unwrap())
            .header("x-many", "b")
            .header("x-many", "c")
            .body(())
            .unwrap();
        assert_eq!(
            read(
                request,
                &["x-two", "x-many", "x-none", ":path", "x-one", "x-many", ":method", ":scheme", ":client-address"]
            ),
            [
                vec![b"\xff".to_vec()],
                vec![b"a".to_vec(), b"b".to_vec(), b"c".to_vec()],
                vec![],
                vec![b"/a?b=c".to_vec()],
                vec![b"1".to_vec()],
                vec![b"a".to_vec(), b"b".to_vec(), b"c".to_vec()],
                vec![b"GET".to_vec()],
                vec![b"https".to_vec()],
                vec![b"192.0.2.1".to_vec()],
            ]
        );
    }

    #[test]
    fn the_authority_is_that_of_the_target_before_that_of_the_host_header() {
        let both = Request::get("http://target.example:8080/").header("host", "header.example").body(()).unwrap();
        assert_eq!(read(both, &[":authority"]), [[b"target.example:8080"]]);
        let host = Request::get("/").header("host", "header.example").body(()).unwrap();
        assert_eq!(read(host, &["host", ":authority"]), [[b"header.example"], [b"header.example"]]);
        let none = Request::get("/").body(()).unwrap();
        assert!(read(none, &[":authority"])[0].is_empty());
    }

    #[test]
    fn names_are_lower_case_tokens_or_known_pseudo_headers() {
        for name in ["X-Upper", "", "a b", "a:b", ":status", ":unknown", "é"] {
            assert_eq!(Read::parse_request(name), None, "{name:?}");
        }
        for name in [":path", ":method", "X-Upper", ""] {
            assert_eq!(Read::parse_response(name), None, "{name:?}");
        }
        assert!(Read::parse_response("x-a").is_some());
    }

    #[test]
    fn the_longest_address_fits() {
        let address = "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255".parse().unwrap();
        assert_eq!(ClientAddress::new(address).as_bytes(), b"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    }
}

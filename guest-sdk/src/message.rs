//! The messages that hooks see.

use std::{
    borrow::Cow,
    cell::{Cell, RefCell},
    ops::Deref,
    rc::Rc,
};

use crate::{
    edit::Recorder,
    extract::{claim::Claims, pattern::Effort, target},
    header::{Direction, Values, canonical},
    imports::exchange_info,
    plan::{Hooks, Plan, position},
    wire,
};

/// A request as it reached this plugin: what native filters and earlier plugins made of it.
///
/// Reading sees the message as it arrived, whatever this hook has recorded already. Edits are made with the methods of [`Recorder`], and
/// applied, in order, after the hook has succeeded. A header that the plan declares costs nothing to read; any other one is fetched with a call.
pub struct Request<'p> {
    plan: &'p Plan,
    fields: Vec<wire::Field>,
    edits: Recorder<'p>,
    skip: Cell<Hooks>,
    /// By place.
    claims: RefCell<Vec<(usize, Rc<Claims>)>>,
    effort: Effort,
}

impl<'p> Request<'p> {
    pub(crate) fn new(plan: &'p Plan, fields: Vec<wire::Field>) -> Self {
        let edits = Recorder::new(plan.writes(Direction::Request));
        let (claims, effort) = (RefCell::default(), Effort::default());
        Self { plan, fields, edits, skip: Cell::new(Hooks::empty()), claims, effort }
    }

    pub(crate) fn into_proceed(self, token: u64) -> wire::Proceed {
        wire::Proceed { edits: self.edits.into_edits(), token, skip: self.skip.get() }
    }

    /// Hooks of the plan that this exchange does not need, such as `Hooks::all()` when the plugin has nothing to do with it. They are not called any
    /// more; skipped body hooks leave the body untouched.
    pub fn skip(&self, hooks: Hooks) {
        self.skip.set(self.skip.get() | hooks);
    }

    /// All values of a header or pseudo-header.
    #[must_use]
    pub fn header(&self, name: &str) -> Values<'_> {
        match position(&self.plan.wire().request_reads, name).and_then(|index| self.fields.get(index)) {
            Some(field) => field.into(),
            None => Values::owned(exchange_info::request_header(&canonical(name))),
        }
    }

    /// The values at this place of the plan's `request_reads`.
    ///
    /// # Panics
    /// When the plan declares fewer.
    #[must_use]
    pub fn read(&self, index: usize) -> Values<'_> {
        (&self.fields[index]).into()
    }

    /// The claims of the token in the first value at this place of the plan's `request_reads`. Nothing is verified. The token is read once, however
    /// often this is called.
    ///
    /// # Panics
    /// When the plan declares fewer.
    #[must_use]
    pub fn claims(&self, index: usize) -> Rc<Claims> {
        let mut known = self.claims.borrow_mut();
        if let Some((_, claims)) = known.iter().find(|(known, _)| *known == index) {
            return Rc::clone(claims);
        }
        let claims = Rc::new(self.read(index).first().map(Claims::read).unwrap_or_default());
        known.push((index, Rc::clone(&claims)));
        claims
    }

    /// What is left of the work that this hook may have with patterns.
    #[must_use]
    pub fn effort(&self) -> &Effort {
        &self.effort
    }

    /// Such as `GET`.
    #[must_use]
    pub fn method(&self) -> String {
        self.pseudo(":method")
    }

    /// Without the query.
    #[must_use]
    pub fn path(&self) -> String {
        let mut path = self.pseudo(":path");
        path.truncate(path.find('?').unwrap_or(path.len()));
        path
    }

    /// What follows the first `?` of the target, as the client wrote it.
    #[must_use]
    pub fn query(&self) -> Option<String> {
        self.pseudo(":path").split_once('?').map(|(_, query)| query.to_owned())
    }

    /// Host, and the port if it was named, as the client wrote it: do not decide by it, but by [`Request::host`].
    #[must_use]
    pub fn authority(&self) -> String {
        self.pseudo(":authority")
    }

    /// The host as routes compare it: in lower case, without port and last dot.
    #[must_use]
    pub fn host(&self) -> String {
        String::from_utf8_lossy(&target::host(self.authority().as_bytes())).into_owned()
    }

    /// `http` or `https`.
    #[must_use]
    pub fn scheme(&self) -> String {
        self.pseudo(":scheme")
    }

    /// Address of the client, after trusted proxies have been taken off.
    #[must_use]
    pub fn client_address(&self) -> String {
        self.pseudo(":client-address")
    }

    fn pseudo(&self, name: &str) -> String {
        text(&self.header(name)).into_owned()
    }
}

/// A response on its way to the client: from a backend, from another plugin, or from the gateway itself.
///
/// As with [`Request`], reading sees the message as it arrived, and edits are applied after the hook.
pub struct Response<'p> {
    plan: &'p Plan,
    token: u64,
    status: u16,
    fields: Vec<wire::Field>,
    edits: Recorder<'p>,
    skip: Cell<Hooks>,
    effort: Effort,
}

impl<'p> Response<'p> {
    pub(crate) fn new(plan: &'p Plan, token: u64, status: u16, fields: Vec<wire::Field>) -> Self {
        let edits = Recorder::new(plan.writes(Direction::Response));
        Self { plan, token, status, fields, edits, skip: Cell::new(Hooks::empty()), effort: Effort::default() }
    }

    pub(crate) fn into_proceed(self) -> wire::Proceed {
        wire::Proceed { edits: self.edits.into_edits(), token: 0, skip: self.skip.get() }
    }

    /// As [`Request::skip`].
    pub fn skip(&self, hooks: Hooks) {
        self.skip.set(self.skip.get() | hooks);
    }

    /// Such as 200.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// As [`Request::effort`], of the response hook.
    #[must_use]
    pub fn effort(&self) -> &Effort {
        &self.effort
    }

    /// What the request hook of the same exchange kept with [`crate::Verdict::ProceedWith`]; else 0.
    #[must_use]
    pub fn token(&self) -> u64 {
        self.token
    }

    /// All values of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Values<'_> {
        match position(&self.plan.wire().response_reads, name).and_then(|index| self.fields.get(index)) {
            Some(field) => field.into(),
            None => Values::owned(exchange_info::response_header(&canonical(name))),
        }
    }

    /// The values at this place of the plan's `response_reads`, which the `carried_reads` follow.
    ///
    /// # Panics
    /// When the plan declares fewer.
    #[must_use]
    pub fn read(&self, index: usize) -> Values<'_> {
        (&self.fields[index]).into()
    }

    /// All values of a header or pseudo-header of the request, as it reached this plugin.
    ///
    /// # Panics
    /// When the plan does not carry it: the gateway has not kept it then, and "absent" would be a lie.
    #[must_use]
    pub fn request_header(&self, name: &str) -> Values<'_> {
        let plan = self.plan.wire();
        let Some(index) = position(&plan.carried_reads, name) else {
            panic!("`{name}` of the request is read in the response hook: declare it with Plan::carried_reads")
        };
        self.read(plan.response_reads.len() + index)
    }
}

/// The trailers of a message.
///
/// As with [`Request`], reading sees them as they arrived, and edits are applied after the hook; an edit must be covered by the plan's writes
/// for the direction.
pub struct Trailers<'p> {
    trailers: Vec<wire::Header>,
    body: RefCell<Vec<u8>>,
    edits: Recorder<'p>,
}

impl<'p> Trailers<'p> {
    pub(crate) fn new(plan: &'p Plan, direction: Direction, trailers: Vec<wire::Header>) -> Self {
        Self { trailers, body: RefCell::default(), edits: Recorder::new(plan.writes(direction)) }
    }

    pub(crate) fn into_verdict(self) -> wire::TrailersVerdict {
        wire::TrailersVerdict { body: self.body.into_inner(), edits: self.edits.into_edits() }
    }

    /// Names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.trailers.iter().map(|trailer| (trailer.name.as_str(), trailer.value.as_slice()))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.trailers.is_empty()
    }

    /// The first value of `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Write bytes behind the body, in front of the trailers.
    pub fn write_body(&self, bytes: &[u8]) {
        self.body.borrow_mut().extend_from_slice(bytes);
    }
}

macro_rules! records {
    ($($message:ident),*) => {
        $(impl<'p> Deref for $message<'p> {
            type Target = Recorder<'p>;

            fn deref(&self) -> &Recorder<'p> {
                &self.edits
            }
        })*
    };
}

records!(Request, Response, Trailers);

/// Pseudo-headers are ASCII on the wire, but the gateway passes on what it does not have to refuse.
fn text<'v>(values: &'v Values<'_>) -> Cow<'v, str> {
    values.first().map_or(Cow::Borrowed(""), String::from_utf8_lossy)
}

//! Whom to ask, and what an answer means.

use std::time::Duration;

use penstock_plugin::{
    Request,
    capability::outbound::{Answer, Call, OutboundError},
};

use crate::told::{Told, encoded};

/// The service, and what it is told.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) backend: String,
    pub(crate) route: Route,
    pub(crate) method: Option<String>,
    pub(crate) host: Option<String>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) told: Told,
}

/// The path that is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Path(String),
    /// In front of the path of the request.
    Prefix(String),
}

/// What came of a question.
#[derive(Debug)]
pub(crate) enum Decision {
    /// 2xx.
    Allowed(Answer),
    /// 3xx and 4xx.
    Denied(Answer),
    /// The service did not decide: `onError` does.
    Undecided,
    /// The service may have decided, or was never asked: nobody may pass on that account. A client that could bring this about would pass
    /// where `onError` is `Allow`.
    Unusable,
}

/// The gateway takes no longer body of a plugin.
const LONGEST_BODY: usize = 1 << 20;

impl Service {
    pub(crate) fn ask(&self, request: &Request) -> Decision {
        self.question(request).map_or(Decision::Unusable, |question| Decision::of(question.send()))
    }

    fn question(&self, request: &Request) -> Option<Call> {
        let target = self.told.target;
        let (path, usual_method, usual_host) = match &self.route {
            Route::Path(path) => (path.clone(), "GET".to_owned(), None),
            Route::Prefix(prefix) => {
                let path = format!("{prefix}{}", encoded(&target.path(request)));
                (path, request.method(), Some(request.authority()).filter(|host| !host.is_empty()))
            }
        };
        let method = self.method.clone().unwrap_or(usual_method);
        let mut call = Call::new(&method, &self.backend, &path);
        if let Some(timeout) = self.timeout {
            call = call.timeout(timeout);
        }
        if let Some(host) = self.host.clone().or(usual_host) {
            call = call.header("host", host);
        }
        self.told.tell(call, request)
    }
}

impl Decision {
    fn of(asked: Result<Answer, OutboundError>) -> Self {
        match asked {
            Ok(answer) => match answer.status() {
                200..=299 => Self::Allowed(answer),
                300..=499 if answer.body().len() <= LONGEST_BODY => Self::Denied(answer),
                100..=499 => Self::Unusable,
                _ => Self::Undecided,
            },
            Err(OutboundError::Timeout | OutboundError::Connect(_)) => Self::Undecided,
            // An answer that is too large is one, and says most likely no. So is one that broke off: a server that refuses a question for its size
            // closes the connection before it has read it, and then its `431` may be lost.
            Err(
                OutboundError::TooLarge(_)
                | OutboundError::Protocol(_)
                | OutboundError::InvalidRequest(_)
                | OutboundError::UnknownBackend(_)
                | OutboundError::Quota,
            ) => Self::Unusable,
        }
    }
}

//! What the tests of this crate share: a service that keeps what it is asked and answers what the test says.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test may")]
#![allow(clippy::needless_pass_by_value, reason = "tests hand over what `json!` makes")]

use std::{cell::RefCell, rc::Rc};

use ext_auth::ExtAuth;
use penstock_plugin::{
    capability::outbound::OutboundError,
    testing::{Gateway, Harness, OutboundRequest, OutboundResponse},
};
use serde_json::{Value, json};

pub type Answered = Result<OutboundResponse, OutboundError>;
pub type Guarded = Harness<ExtAuth>;

/// The service `auth`.
#[derive(Clone)]
pub struct Service {
    asked: Rc<RefCell<Vec<OutboundRequest>>>,
    answer: Rc<RefCell<Answered>>,
}

impl Service {
    pub fn answering(answer: Answered) -> Self {
        Self { asked: Rc::default(), answer: Rc::new(RefCell::new(answer)) }
    }

    /// What it answers from now on.
    pub fn answer(&self, answer: Answered) {
        *self.answer.borrow_mut() = answer;
    }

    /// What it was asked so far.
    pub fn asked(&self) -> Vec<OutboundRequest> {
        self.asked.borrow().clone()
    }

    /// All values of a header of the last question.
    #[track_caller]
    pub fn told(&self, name: &str) -> Vec<String> {
        let asked = self.asked.borrow();
        let headers = &asked.last().expect("it was asked").headers;
        let values = headers.iter().filter(|header| header.name == name);
        values.map(|header| String::from_utf8_lossy(&header.value).into_owned()).collect()
    }

    pub fn gateway(&self) -> Gateway {
        let service = self.clone();
        Gateway::new().backend_with("auth", move |request| {
            service.asked.borrow_mut().push(request.clone());
            service.answer.borrow().clone()
        })
    }

    /// The plugin in front of it.
    #[track_caller]
    pub fn guards(&self, config: Value) -> Guarded {
        let config = with_service(config);
        Harness::on(self.gateway(), &config).unwrap_or_else(|problems| panic!("{config} is refused:\n{problems}"))
    }
}

/// An answer with headers and a body.
pub fn says(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Answered {
    let header = |(name, value): &(&str, &str)| header(name, value);
    Ok(OutboundResponse { status, headers: headers.iter().map(header).collect(), body: body.as_ref().to_vec() })
}

fn header(name: &str, value: &str) -> penstock_plugin::testing::OutboundHeader {
    penstock_plugin::testing::OutboundHeader { name: name.to_owned(), value: value.as_bytes().to_vec() }
}

/// The service is `auth`, unless the configuration says otherwise.
fn with_service(mut config: Value) -> Value {
    let fields = config.as_object_mut().expect("an object");
    fields.entry("service").or_insert(json!({"backend": "auth"}));
    config
}

//! The task behind a link: connects, talks, and answers every call by its deadline.
//!
//! ```text
//! nobody asks ──call──► connecting ──► talking ──nobody asks for a while, or the endpoint is not one any more──► nobody asks
//!      ▲                    └────┬────────┘
//!      └──── pausing ◄───────────┘  failed: calls are answered at once
//! ```

use std::{
    collections::VecDeque,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use penstock_core::{
    backend::{Endpoint, EndpointCell},
    plugin::RedisLogin,
};
use tokio::{sync::mpsc, time::sleep_until};

use super::{Call, LinkKey, MOST, RedisError, connection::Connection, talk::Talk};

/// Between attempts to connect: from short, because most outages are a restart, to a load that no server feels.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A connection that nobody uses is closed after this time, before what lies between forgets it.
const IDLE: Duration = Duration::from_secs(60);

/// Why a conversation ended, if not by a failure.
enum End {
    /// Nobody has the link any more.
    Closed,
    /// There is another connection to be made when somebody asks again.
    Left,
}

pub(super) struct Driver {
    /// For logs.
    name: String,
    login: Arc<RedisLogin>,
    endpoints: Arc<ArcSwap<EndpointCell>>,
    calls: mpsc::Receiver<Call>,
    /// Not sent yet.
    waiting: VecDeque<Call>,
    health: Health,
    /// Failures since the last answer.
    failures: u32,
}

impl Driver {
    pub(super) fn new(key: &LinkKey, endpoints: Arc<ArcSwap<EndpointCell>>, calls: mpsc::Receiver<Call>) -> Self {
        let (name, login) = (key.backend.to_string(), Arc::new(key.login.clone()));
        let health = Health::default();
        Self { name, login, endpoints, calls, waiting: VecDeque::new(), health, failures: 0 }
    }

    pub(super) async fn run(mut self) {
        loop {
            if self.waiting.is_empty() {
                let Some(call) = self.calls.recv().await else { return };
                self.admit(call);
            }
            let ended = match self.connected().await {
                Ok(Some(connection)) => self.converse(connection).await,
                Ok(None) => Ok(End::Closed),
                Err(why) => Err(why),
            };
            match ended {
                Ok(End::Closed) => return,
                Ok(End::Left) => {}
                Err(why) => self.pause(why).await,
            }
        }
    }

    /// While the server is known to be gone nobody waits for it.
    fn admit(&mut self, mut call: Call) {
        match &self.health {
            Health::Down(why) => call.answer(Err(why.clone())),
            _ if self.waiting.len() >= MOST => call.answer(Err(RedisError::Busy)),
            Health::Unknown | Health::Up => self.waiting.push_back(call),
        }
    }

    /// A connection; none if nobody wants one any more. Those who wait are answered by their deadlines.
    async fn connected(&mut self) -> Result<Option<Connection>, RedisError> {
        let endpoint = self.endpoint().ok_or(RedisError::NoEndpoint)?;
        let mut connecting = pin!(Connection::open(endpoint, Arc::clone(&self.login)));
        let mut is_late = false;
        loop {
            let next = self.next_deadline();
            tokio::select! {
                biased;
                connection = &mut connecting => return connection.map(Some),
                call = self.calls.recv() => match call {
                    Some(mut call) if is_late => call.answer(Err(RedisError::Timeout)),
                    Some(call) => self.admit(call),
                    None => return Ok(None),
                },
                () = sleep_until(next.unwrap_or_else(Instant::now).into()), if next.is_some() => {
                    self.expire();
                    is_late = true;
                }
            }
        }
    }

    /// Talk until there is a reason to stop.
    async fn converse(&mut self, connection: Connection) -> Result<End, RedisError> {
        let mut talk = Talk::new(connection);
        self.waiting.drain(..).for_each(|call| talk.say(call));
        let mut idle_since = Instant::now();
        loop {
            let leaving = !self.has(talk.endpoint());
            if talk.is_quiet() && (leaving || idle_since.elapsed() >= IDLE) {
                return Ok(End::Left);
            }
            let deadlines = talk.next_deadline().into_iter().chain(self.next_deadline());
            let wake = deadlines.min().unwrap_or(idle_since + IDLE);
            tokio::select! {
                biased;
                heard = talk.exchange() => {
                    let heard = heard.and_then(|()| talk.hear());
                    if let Some(good) = talk.last_answer() {
                        self.note(good);
                    }
                    heard?;
                }
                call = self.calls.recv() => match call {
                    None => return Ok(End::Closed),
                    Some(call) if leaving => self.admit(call),
                    Some(call) => {
                        talk.say(call);
                        // What else is there goes out with it.
                        while let Ok(call) = self.calls.try_recv() {
                            talk.say(call);
                        }
                    }
                },
                () = sleep_until(wake.into()) => {
                    self.expire();
                    talk.expire()?;
                }
            }
            if !talk.is_quiet() {
                idle_since = Instant::now();
            }
        }
    }

    /// When somebody's time is over who was not sent yet.
    fn next_deadline(&self) -> Option<Instant> {
        self.waiting.iter().map(|call| call.deadline).min()
    }

    /// Answer those whose time is over.
    fn expire(&mut self) {
        let now = Instant::now();
        for call in self.waiting.iter_mut().filter(|call| call.deadline <= now) {
            call.answer(Err(RedisError::Timeout));
        }
        self.waiting.retain(|call| call.answer.is_some());
    }

    /// What the server said last of what it was asked.
    fn note(&mut self, answer: Result<(), RedisError>) {
        match answer {
            Ok(()) => {
                self.failures = 0;
                self.health.up(&self.name);
            }
            Err(why) => self.health.down(&self.name, why),
        }
    }

    /// It failed: for a time everybody is told so at once.
    async fn pause(&mut self, why: RedisError) {
        for mut call in self.waiting.drain(..) {
            call.answer(Err(why.clone()));
        }
        self.health.down(&self.name, why.clone());
        let longest = SHORTEST_PAUSE.saturating_mul(1 << self.failures.min(10)).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        // Not all gateways at the same moment.
        let until = Instant::now() + longest.mul_f64(0.5 + fastrand::f64() / 2.0);
        loop {
            tokio::select! {
                biased;
                () = sleep_until(until.into()) => return,
                call = self.calls.recv() => match call {
                    Some(mut call) => call.answer(Err(why.clone())),
                    None => return,
                },
            }
        }
    }

    /// One endpoint after the other: the next may be the one that can be written to.
    fn endpoint(&self) -> Option<Endpoint> {
        let set = self.endpoints.load().load();
        let at = (self.failures as usize).checked_rem(set.endpoints.len())?;
        set.endpoints.get(at).cloned()
    }

    fn has(&self, endpoint: &Endpoint) -> bool {
        self.endpoints.load().load().endpoints.contains(endpoint)
    }
}

/// What was last logged: an outage is one line, however many calls it costs.
#[derive(Debug, Default)]
enum Health {
    #[default]
    Unknown,
    Up,
    Down(RedisError),
}

impl Health {
    fn up(&mut self, redis: &str) {
        if let Self::Down(_) = self {
            tracing::info!(redis, "Redis answers again: gateways share the counts of rate limits");
        }
        *self = Self::Up;
    }

    fn down(&mut self, redis: &str, why: RedisError) {
        let is_new = match self {
            Self::Down(known) => !known.is_like(&why),
            Self::Unknown | Self::Up => true,
        };
        if is_new {
            tracing::warn!(redis, %why, "Redis cannot be asked: rate limits are what `whenUnavailable` says");
        }
        *self = Self::Down(why);
    }
}

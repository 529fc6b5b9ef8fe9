//! A connection in use: what was asked and not answered yet, in order.

use std::{
    collections::VecDeque,
    io,
    time::{Duration, Instant},
};

use bytes::{Buf as _, BytesMut};
use penstock_core::{backend::Endpoint, plugin::RedisGrant};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::tcp::{OwnedReadHalf, OwnedWriteHalf},
};

use super::{
    Call, MOST, Numbers, RedisError,
    connection::{Connection, Names},
    resp::{self, Reply},
};

/// A server that says nothing for so long, although it was asked, is given up with its connection. No call waits for longer.
const SILENCE: Duration = RedisGrant::LONGEST_TIMEOUT;

/// What a server says that can answer nothing at all at the moment; another endpoint may.
const USELESS: [&str; 5] = ["READONLY", "LOADING", "MASTERDOWN", "NOAUTH", "CLUSTERDOWN"];

pub(super) struct Talk {
    endpoint: Endpoint,
    names: Names,
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    inbox: BytesMut,
    outbox: BytesMut,
    asked: VecDeque<Asked>,
    /// When something came last, or was asked while nothing else was.
    active: Instant,
    /// No answer has come since a call waited in vain: what is asked now would wait as well.
    is_late: bool,
    last: Option<Result<(), RedisError>>,
}

struct Asked {
    call: Call,
    /// With the script's text.
    whole: bool,
}

impl Talk {
    pub(super) fn new(connection: Connection) -> Self {
        let Connection { endpoint, stream, names } = connection;
        let (reader, writer) = stream.into_split();
        let (inbox, outbox) = (BytesMut::with_capacity(4096), BytesMut::with_capacity(4096));
        let (asked, active) = (VecDeque::new(), Instant::now());
        Self { endpoint, names, reader, writer, inbox, outbox, asked, active, is_late: false, last: None }
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Whether everything was answered.
    pub(super) fn is_quiet(&self) -> bool {
        self.asked.is_empty()
    }

    /// What became of the last call that was answered since this was asked.
    pub(super) fn last_answer(&mut self) -> Option<Result<(), RedisError>> {
        self.last.take()
    }

    /// Send a call with the next [exchange](Self::exchange).
    pub(super) fn say(&mut self, mut call: Call) {
        if self.is_late {
            return call.answer(Err(RedisError::Timeout));
        }
        if self.asked.len() >= MOST {
            return call.answer(Err(RedisError::Busy));
        }
        if self.asked.is_empty() {
            self.active = Instant::now();
        }
        self.names.write(&mut self.outbox, &call.run, false);
        self.asked.push_back(Asked { call, whole: false });
    }

    /// Send what there is to send, until something comes. Cancel safe.
    pub(super) async fn exchange(&mut self) -> Result<(), RedisError> {
        let Self { reader, writer, inbox, outbox, .. } = self;
        loop {
            tokio::select! {
                biased;
                read = reader.read_buf(inbox) => return match read {
                    Ok(0) | Err(_) => Err(RedisError::Lost),
                    Ok(_) => Ok(()),
                },
                written = writer.write_buf(outbox), if outbox.has_remaining() => {
                    written.map_err(|_: io::Error| RedisError::Lost)?;
                }
            }
        }
    }

    /// Answer the calls of all replies that have come.
    pub(super) fn hear(&mut self) -> Result<(), RedisError> {
        while let Some((reply, length)) = resp::read(&self.inbox).map_err(|_| RedisError::Malformed)? {
            self.inbox.advance(length);
            let Some(Asked { mut call, whole }) = self.asked.pop_front() else { return Err(RedisError::Malformed) };
            (self.active, self.is_late) = (Instant::now(), false);
            if let Reply::Error(error) = &reply
                && error.starts_with("NOSCRIPT")
                && !whole
            {
                self.names.write(&mut self.outbox, &call.run, true);
                self.asked.push_back(Asked { call, whole: true });
                continue;
            }
            let answer = answer(reply);
            self.last = Some(answer.as_ref().map(drop).map_err(RedisError::clone));
            let useless = answer.clone().err().filter(is_useless);
            call.answer(answer);
            if let Some(why) = useless {
                return Err(why);
            }
        }
        Ok(())
    }

    /// When somebody's time is over, or the server's.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let silent = (!self.asked.is_empty()).then(|| self.active + SILENCE);
        let open = self.asked.iter().filter(|asked| asked.call.answer.is_some()).map(|asked| asked.call.deadline);
        open.chain(silent).min()
    }

    /// Answer those whose time is over. What the server says to them later is for nobody.
    pub(super) fn expire(&mut self) -> Result<(), RedisError> {
        let now = Instant::now();
        let is_silent = !self.asked.is_empty() && self.active + SILENCE <= now;
        for asked in self.asked.iter_mut().filter(|asked| is_silent || asked.call.deadline <= now) {
            self.is_late = true;
            asked.call.answer(Err(RedisError::Timeout));
        }
        if is_silent { Err(RedisError::Timeout) } else { Ok(()) }
    }
}

fn answer(reply: Reply) -> Result<Numbers, RedisError> {
    match reply {
        Reply::List(numbers) => numbers.try_into().map_err(|_| RedisError::Malformed),
        Reply::Error(error) => Err(RedisError::Refused(error.into())),
        Reply::Text(_) | Reply::Number(_) => Err(RedisError::Malformed),
    }
}

fn is_useless(error: &RedisError) -> bool {
    match error {
        RedisError::Refused(text) => USELESS.iter().any(|word| text.starts_with(word)),
        error => *error == RedisError::Malformed,
    }
}

/// Those that are left were not answered, and nobody knows whether they were counted.
impl Drop for Talk {
    fn drop(&mut self) {
        for asked in &mut self.asked {
            asked.call.answer(Err(RedisError::Lost));
        }
    }
}

//! A connection to one endpoint, with its login behind it and its scripts known there.

use std::{io, sync::Arc};

use bytes::BytesMut;
use penstock_core::{
    backend::Endpoint,
    plugin::{RedisGrant, RedisLogin},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{
    RedisError, Run, Script,
    resp::{self, Reply},
};

/// Ready for calls.
pub(super) struct Connection {
    pub(super) endpoint: Endpoint,
    pub(super) stream: TcpStream,
    pub(super) names: Names,
}

/// How scripts are named on a connection, in the order of [`Script::ALL`].
pub(super) struct Names(Vec<String>);

impl Connection {
    /// TCP, the login and the scripts. It may take longer than the `timeout` of a bucket: who asks first does not wait for all of it, and those
    /// who come later find it done.
    pub(super) async fn open(endpoint: Endpoint, login: Arc<RedisLogin>) -> Result<Self, RedisError> {
        let opened = timeout(RedisGrant::LONGEST_TIMEOUT, Self::open_slowly(endpoint, &login)).await;
        opened.unwrap_or_else(|_| Err(RedisError::Connect("it takes too long".into())))
    }

    async fn open_slowly(endpoint: Endpoint, login: &RedisLogin) -> Result<Self, RedisError> {
        let mut stream = connect(&endpoint).await.map_err(|error| failed(&error))?;
        let mut greeting = BytesMut::new();
        let before = greet(&mut greeting, login);
        stream.write_all(&greeting).await.map_err(|error| failed(&error))?;
        let mut inbox = BytesMut::new();
        for command in before {
            match next(&mut stream, &mut inbox).await? {
                Reply::Error(error) => return Err(refused(command, &error)),
                Reply::Text(_) => {}
                Reply::Number(_) | Reply::List(_) => return Err(RedisError::Malformed),
            }
        }
        let mut names = Vec::with_capacity(Script::ALL.len());
        for _ in Script::ALL {
            match next(&mut stream, &mut inbox).await? {
                Reply::Text(name) => names.push(name),
                Reply::Error(error) => return Err(refused("SCRIPT", &error)),
                Reply::Number(_) | Reply::List(_) => return Err(RedisError::Malformed),
            }
        }
        // Nothing else was asked.
        if inbox.is_empty() { Ok(Self { endpoint, stream, names: Names(names) }) } else { Err(RedisError::Malformed) }
    }
}

impl Names {
    /// Write the command for `run`. `whole`: with the script's text, because the server does not know its name any more.
    pub(super) fn write(&self, into: &mut BytesMut, run: &Run, whole: bool) {
        let numbers = run.arguments.map(|number| number.to_string());
        let [limit, window, cost, taking, burst] = numbers.each_ref().map(String::as_bytes);
        let (verb, script) = match whole {
            true => (&b"EVAL"[..], run.script.text()),
            false => (&b"EVALSHA"[..], &*self.0[run.script as usize]),
        };
        resp::write(into, &[verb, script.as_bytes(), b"1", &run.key, limit, window, cost, taking, burst]);
    }
}

async fn connect(endpoint: &Endpoint) -> io::Result<TcpStream> {
    let stream = match endpoint {
        Endpoint::Address(address) => TcpStream::connect(address).await?,
        Endpoint::Name(name, port) => TcpStream::connect((&**name, *port)).await?,
    };
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// What comes before calls. Answers the commands that only need to succeed; after them come the names of the scripts.
fn greet(greeting: &mut BytesMut, login: &RedisLogin) -> Vec<&'static str> {
    let mut commands = Vec::new();
    if let Some(password) = &login.password {
        let password = password.reveal().as_bytes();
        match &login.username {
            Some(username) => resp::write(greeting, &[b"AUTH", username.as_bytes(), password]),
            None => resp::write(greeting, &[b"AUTH", password]),
        }
        commands.push("AUTH");
    }
    if login.database != 0 {
        resp::write(greeting, &[b"SELECT", login.database.to_string().as_bytes()]);
        commands.push("SELECT");
    }
    for script in Script::ALL {
        resp::write(greeting, &[b"SCRIPT", b"LOAD", script.text().as_bytes()]);
    }
    commands
}

/// The next reply.
async fn next(stream: &mut TcpStream, inbox: &mut BytesMut) -> Result<Reply, RedisError> {
    loop {
        if let Some((reply, length)) = resp::read(inbox).map_err(|_| RedisError::Malformed)? {
            let _ = inbox.split_to(length);
            return Ok(reply);
        }
        if stream.read_buf(inbox).await.map_err(|error| failed(&error))? == 0 {
            return Err(RedisError::Connect("it ends the connection".into()));
        }
    }
}

fn failed(error: &io::Error) -> RedisError {
    RedisError::Connect(error.to_string().into())
}

/// Servers repeat what they do not understand, and of a login that is the password: its first word alone is shown.
fn refused(command: &str, error: &str) -> RedisError {
    let error = if command == "AUTH" { error.split(' ').next().unwrap_or_default() } else { error };
    RedisError::Refused(format!("{error} (to {command})").into())
}

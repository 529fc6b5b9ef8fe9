//! A guest that imports WASI: refused by name unless the resource grants it. What it does is the query.

use penstock_plugin::prelude::*;
use wasip2::{cli, clocks, filesystem, random, sockets};

/// Without options.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Printer {}

impl Policy for Printer {
    type Config = Self;

    fn configure(config: Self) -> Result<Self, Problems> {
        cli::stdout::get_stdout().blocking_write_and_flush(b"configured\n").map_err(|_| "it cannot print")?;
        Ok(config)
    }

    fn plan(&self) -> Plan {
        Plan::new().request_reads([":path"]).request_writes(["x-did"])
    }

    fn on_request(&self, request: &Request) -> Verdict {
        let did = match request.query().unwrap_or_default().as_ref() {
            "print" => print(),
            "look" => look(),
            "random" => random::random::get_random_bytes(16).len().to_string(),
            "time" => (clocks::monotonic_clock::now() > 0 && clocks::wall_clock::now().seconds > 0).to_string(),
            "poll" => poll(),
            "connect" => connect().map_or_else(|error| error.name().to_owned(), |()| "connected".to_owned()),
            "sleep" => sleep(),
            "hoard" => hoard(),
            "too-random" => random::random::get_random_bytes(1 << 20).len().to_string(),
            "exit" => exit(),
            _ => "nothing".to_owned(),
        };
        request.set("x-did", did.as_str());
        Verdict::Proceed
    }
}

/// Whole lines, one in two pieces, and more than one call may print.
fn print() -> String {
    let (out, err) = (cli::stdout::get_stdout(), cli::stderr::get_stderr());
    let written = [out.blocking_write_and_flush(b"one\ntw"), err.blocking_write_and_flush(b"o\n")];
    let rest = (0..64).map(|_| out.blocking_write_and_flush(&[b'x'; 4096]));
    written.into_iter().chain(rest).filter(Result::is_ok).count().to_string()
}

/// How many arguments, variables and folders there are.
fn look() -> String {
    let (arguments, variables) = (cli::environment::get_arguments(), cli::environment::get_environment());
    format!("{} {} {}", arguments.len(), variables.len(), filesystem::preopens::get_directories().len())
}

/// What waits for nothing.
fn poll() -> String {
    let now = clocks::monotonic_clock::subscribe_duration(0);
    let past = clocks::monotonic_clock::subscribe_instant(0);
    let (input, output) = (cli::stdin::get_stdin(), cli::stdout::get_stdout());
    now.block();
    let ready = wasip2::io::poll::poll(&[&now, &past, &output.subscribe(), &input.subscribe()]);
    format!("{} {}", ready.len(), input.blocking_read(1).is_err())
}

fn connect() -> Result<(), sockets::network::ErrorCode> {
    sockets::tcp_create_socket::create_tcp_socket(sockets::network::IpAddressFamily::Ipv4).map(drop)?;
    sockets::udp_create_socket::create_udp_socket(sockets::network::IpAddressFamily::Ipv4).map(drop)
}

fn sleep() -> String {
    clocks::monotonic_clock::subscribe_duration(1_000_000_000).block();
    "slept".to_owned()
}

fn exit() -> String {
    cli::exit::exit(Err(()));
    "went on".to_owned()
}

/// Takes streams and gives none back.
fn hoard() -> String {
    (0..10_000).for_each(|_| std::mem::forget(cli::stdout::get_stdout()));
    "hoarded".to_owned()
}

plugin!(policy: Printer);

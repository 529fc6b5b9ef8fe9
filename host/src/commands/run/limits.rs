//! What clients may ask for and how long anything may take, where the defaults do not suit.

use std::time::Duration;

use penstock_proxy::{Limits, Timeouts};

use super::seconds;

/// Limits on clients and endpoints.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
pub(super) struct TrafficLimits {
    /// Open client connections; further ones get 503
    #[arg(long, value_name = "NUMBER", default_value_t = Limits::default().connections)]
    max_connections: usize,

    /// Bytes of a request body; larger ones get 413. No limit unless it is given
    #[arg(long, value_name = "BYTES")]
    max_body_size: Option<u64>,

    /// Bytes of bodies that wait in memory for plugins, all of them together; further ones get 503
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().waiting_bodies)]
    max_waiting_bodies: u64,

    /// How long a client connection may be without a request
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    idle_timeout: Duration,

    /// How long a client may pause within a request body
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    body_timeout: Duration,

    /// How long a client may take nothing of a response
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    write_timeout: Duration,

    /// How long an endpoint may take to accept a connection, and then for the TLS handshake
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    connect_timeout: Duration,

    /// How long an endpoint may take from the end of a request to the head of its response; then clients get 504
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    response_timeout: Duration,
}

impl TrafficLimits {
    pub(super) fn limits(&self) -> Limits {
        Limits {
            connections: self.max_connections,
            body_size: self.max_body_size,
            waiting_bodies: self.max_waiting_bodies,
            ..Limits::default()
        }
    }

    pub(super) fn timeouts(&self) -> Timeouts {
        Timeouts {
            idle: self.idle_timeout,
            body: self.body_timeout,
            write: self.write_timeout,
            connect: self.connect_timeout,
            response: self.response_timeout,
            ..Timeouts::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Cli {
        #[command(flatten)]
        limits: TrafficLimits,
    }

    #[test]
    fn what_is_not_said_is_as_the_proxy_has_it() {
        let said = Cli::parse_from(["penstock"]).limits;
        assert_eq!(format!("{:?}", said.limits()), format!("{:?}", Limits::default()));
        assert_eq!(format!("{:?}", said.timeouts()), format!("{:?}", Timeouts::default()));
    }
}

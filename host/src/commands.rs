//! The command line: what a newcomer reads first.

mod check;
mod crds;
mod echo;
mod plugin;
mod run;
mod status;
mod table;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::ensure;
use clap::{CommandFactory as _, Parser, Subcommand};
use penstock_translate::{AddressRange, GatewayAddresses, IngressPorts, LabelSelector, PluginCeilings, Settings};

use crate::logging::LogFormat;

/// A gateway whose policies and routing decisions are WebAssembly components.
#[derive(Debug, Parser)]
#[command(name = "penstock", version, arg_required_else_help = true, max_term_width = 110)]
#[command(after_help = "\
Start here:
  penstock echo --listen 127.0.0.1:9000      # an origin to route to, in a second terminal
  penstock run -f examples/quickstart        # the gateway; edit the files while it runs
  penstock status                            # what is in effect, and why something is not
  penstock check -f examples/quickstart      # the same verdict without running anything
  penstock plugin new my-plugin              # a plugin of your own, in Rust")]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,

    /// Format of log lines: for people on a terminal and JSON elsewhere, unless said here. RUST_LOG says which lines
    /// (info if not given), for example RUST_LOG=penstock_proxy=debug,info
    #[arg(long, global = true, value_name = "FORMAT", value_enum, display_order = 900)]
    log: Option<LogFormat>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve traffic as resource files or a cluster say, and follow their changes
    Run(Box<run::Args>),
    /// Say what `run` would refuse, without opening a port
    Check(check::Args),
    /// Ask the running gateway what is in effect, and why something is not
    Status(status::Args),
    Echo(echo::Args),
    Plugin(plugin::Args),
    /// Print the CustomResourceDefinitions of Penstock's own kinds
    Crds(crds::Args),
    /// Print the version
    Version,
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  source <(penstock completions bash)")]
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
}

/// Where resources come from.
#[derive(Debug, clap::Args)]
struct Files {
    /// A YAML or JSON file with resources, or a directory of such files (not its subdirectories); repeat it for several
    #[arg(short = 'f', long = "filename", value_name = "PATH", required = true)]
    filename: Vec<PathBuf>,
}

/// Which GatewayClasses are ours, and where their Gateways listen.
#[derive(Debug, Clone, clap::Args)]
struct Ownership {
    /// GatewayClasses with this controllerName are ours
    #[arg(long, value_name = "DOMAIN/PATH", default_value = Settings::CONTROLLER_NAME, help_heading = "Kubernetes")]
    controller_name: String,

    /// Of these only those with such labels, for instance lb=internal; several installations can share a controller name
    #[arg(long, value_name = "LABELS", help_heading = "Kubernetes")]
    class_selector: Option<LabelSelector>,

    /// Each Gateway gets an address of its own out of these: 10.0.0.0/24, 10.0.0.5-10.0.0.9 or one address; repeat it for
    /// several. All Gateways share the addresses of the machine unless it is given
    #[arg(long, value_name = "RANGE", value_delimiter = ',')]
    address_pool: Vec<AddressRange>,
}

impl Ownership {
    /// Settings of a gateway that follows files.
    fn standalone(&self) -> Settings {
        let standalone = Settings::standalone();
        let addresses = match self.address_pool.as_slice() {
            [] => standalone.addresses,
            ranges => GatewayAddresses::Pool(ranges.to_vec()),
        };
        Settings {
            controller_name: self.controller_name.as_str().into(),
            class_selector: self.class_selector.clone(),
            addresses,
            ..standalone
        }
    }
}

/// Where Ingresses are served, which have no ports of their own.
#[derive(Debug, Clone, Copy, clap::Args)]
struct Ingress {
    /// Port on which Ingresses are served in clear
    #[arg(long, value_name = "PORT", default_value_t = IngressPorts::default().http, value_parser = port())]
    ingress_http_port: u16,

    /// Port on which Ingresses are served over TLS, for the hosts of their spec.tls
    #[arg(long, value_name = "PORT", default_value_t = IngressPorts::default().https, value_parser = port())]
    ingress_https_port: u16,
}

fn port() -> clap::builder::RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(1..)
}

impl Ingress {
    fn ports(self) -> anyhow::Result<IngressPorts> {
        let (http, https) = (self.ingress_http_port, self.ingress_https_port);
        ensure!(http != https, "--ingress-http-port and --ingress-https-port are both {http}; give each its own");
        Ok(IngressPorts { http, https })
    }
}

/// What WasmPlugins may ask for.
#[derive(Debug, Clone, clap::Args)]
struct PluginLimits {
    /// The most that spec.limits of a WasmPlugin may say, such as hookTime=10ms,memory=64Mi; of what is not named the usual
    /// ceilings hold
    #[arg(long, value_name = "NAME=VALUE,...", default_value = "", hide_default_value = true)]
    plugin_limits: PluginCeilings,
}

/// Where the admin server of an instance listens.
#[derive(Debug, Clone, Copy, clap::Args)]
struct Admin {
    /// Address of the admin server: /livez, /readyz, /metrics, /status, /config
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9901", env = "PENSTOCK_ADMIN")]
    admin: SocketAddr,
}

impl Cli {
    /// The format that was asked for, if any.
    pub(crate) fn log_format(&self) -> Option<LogFormat> {
        self.log
    }

    /// Do what was asked. An error is a reason not to have begun; what a command finds out is in its exit code.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Run(args) => run::run(&args),
            Command::Check(args) => check::run(&args),
            Command::Status(args) => status::run(&args),
            Command::Echo(args) => echo::run(args),
            Command::Plugin(args) => plugin::run(args),
            Command::Crds(args) => crds::run(&args),
            Command::Version => {
                println!("penstock {}", env!("CARGO_PKG_VERSION"));
                Ok(ExitCode::SUCCESS)
            }
            Command::Completions { shell } => {
                clap_complete::generate(shell, &mut Self::command(), "penstock", &mut std::io::stdout());
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}

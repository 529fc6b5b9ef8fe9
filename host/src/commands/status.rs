//! `penstock status`: what the running gateway says about itself.

mod table;

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use penstock_controller::Report;
use tokio::net::TcpStream;

/// Ask the running gateway what is in effect, and why something is not
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  penstock status                 # one line for each resource and plugin
  penstock status -o wide         # every condition, with its time
  penstock status -o json | jq .problems")]
pub(crate) struct Args {
    #[command(flatten)]
    admin: super::Admin,

    /// One line for each resource (table), for each condition (wide), or everything (json, yaml)
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    Table,
    Wide,
    Json,
    Yaml,
}

/// The admin server answers from memory; what takes longer is not it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Ask and print.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let address = args.admin.admin;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start a runtime")?;
    let answer = runtime.block_on(async { tokio::time::timeout(PATIENCE, fetch(address)).await });
    let body = answer.unwrap_or_else(|_| bail!("no answer within {PATIENCE:?}")).with_context(|| {
        format!("no gateway answers at {address}; is `penstock run` running? Another address: --admin ADDRESS:PORT")
    })?;
    let report: Report = serde_json::from_slice(&body).context("the answer is not that of a penstock admin server")?;
    match args.output {
        Output::Table => print!("{}", table::brief(&report)),
        Output::Wide => print!("{}", table::wide(&report)),
        Output::Json => println!("{}", serde_json::to_string_pretty(&report)?),
        Output::Yaml => print!("{}", serde_yaml_ng::to_string(&report)?),
    }
    Ok(ExitCode::SUCCESS)
}

async fn fetch(address: SocketAddr) -> anyhow::Result<Bytes> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get("/status").header(header::HOST, address.to_string()).body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    if response.status() != StatusCode::OK {
        bail!("it answers {}", response.status());
    }
    Ok(response.into_body().collect().await?.to_bytes())
}

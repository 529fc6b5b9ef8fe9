//! How to reach a cluster.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

/// Where the address and the credentials of a cluster come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClusterAccess {
    /// A file as kubectl uses it, and the context of it; the current one if not given.
    Kubeconfig(PathBuf, Option<String>),
    /// The ServiceAccount of the pod in which this process runs.
    Pod,
}

/// A cluster cannot be reached because of what is configured here.
#[derive(Debug, thiserror::Error)]
pub enum ConnectFailed {
    /// The file cannot be used.
    #[error("cannot use the kubeconfig {path}")]
    Kubeconfig {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: kube::config::KubeconfigError,
    },
    /// This is no pod, or it has no ServiceAccount.
    #[error("this process does not run in a pod with a ServiceAccount; use --kubeconfig")]
    NoPod(#[source] kube::config::InClusterError),
    /// The client cannot be made of it.
    #[error("cannot make a client for the cluster")]
    Client(#[source] kube::Error),
    /// No thread, or no runtime on it.
    #[error("cannot start the thread that follows the cluster")]
    Thread(#[source] std::io::Error),
}

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);

/// How long the API server may say nothing: longer than a watch lasts, so that only what is dead falls silent. Without it, a request over a
/// connection that the network has forgotten would wait for ever.
const SILENCE: Duration = Duration::from_secs(super::watch::LASTS as u64 + 15);

/// A client, and the namespace that is meant where none is given.
pub(crate) async fn connect(access: &ClusterAccess) -> Result<Client, ConnectFailed> {
    let mut config = match access {
        ClusterAccess::Kubeconfig(path, context) => kubeconfig(path, context.clone()).await?,
        ClusterAccess::Pod => Config::incluster().map_err(ConnectFailed::NoPod)?,
    };
    let agent = concat!("penstock/", env!("CARGO_PKG_VERSION"));
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(SILENCE);
    // What counts is how long an answer takes, not how long its connection had nothing to do before.
    config.reset_reader_on_write = true;
    config.headers.push((http::header::USER_AGENT, http::HeaderValue::from_static(agent)));
    Client::try_from(config).map_err(ConnectFailed::Client)
}

async fn kubeconfig(path: &Path, context: Option<String>) -> Result<Config, ConnectFailed> {
    let failed = |source| ConnectFailed::Kubeconfig { path: path.display().to_string(), source };
    let file = Kubeconfig::read_from(path).map_err(failed)?;
    let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
    Config::from_custom_kubeconfig(file, &options).await.map_err(failed)
}

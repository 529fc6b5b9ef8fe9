//! The processes of a cluster and their flags. Paths are those inside its mount namespace (see [`super::supervisor`]).

use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// The node's address; the API server's too.
pub(super) const NODE_ADDRESS: &str = "10.240.0.1";
/// Not 6443, 7443 or 8443: those belong to Gateways.
pub(super) const API_SERVER: &str = "10.240.0.1:16443";
/// Where Services get their addresses from.
pub(super) const SERVICES: &str = "10.96.0.0/16";
/// Every address of it is local, so a process inside can bind any of them without further ado.
pub(super) const GATEWAY_POOL: &str = "10.250.0.0/16";
/// Where Services of type LoadBalancer get theirs from. These are not local: kube-proxy serves them.
pub(super) const LOAD_BALANCERS: &str = "10.251.0.0/16";
/// The name of the only node.
pub(super) const NODE: &str = "penstock";

/// A process that the supervisor keeps running.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) name: &'static str,
    /// Its folder under /run/penstock.
    pub(super) folder: &'static str,
    pub(super) flags: &'static [&'static str],
    /// What must answer before it starts. It would try again by itself, but later.
    pub(super) after: &'static [Answer],
}

/// Something that listens.
#[derive(Debug)]
pub(super) enum Answer {
    Tcp(&'static str),
    Unix(&'static str),
}

const STORE: Answer = Answer::Tcp("127.0.0.1:2379");
const SERVER: Answer = Answer::Tcp(API_SERVER);
const CONTAINERS: Answer = Answer::Unix("/run/penstock/containerd.sock");

/// All of them; those that others wait for come first.
pub(super) const PROCESSES: [Process; 9] = [
    Process {
        name: "etcd",
        folder: "kubernetes",
        after: &[],
        flags: &[
            "--data-dir=/run/penstock/etcd",
            // Nothing of it survives the machine, so there is nothing to protect from a power cut.
            "--unsafe-no-fsync",
            "--listen-client-urls=http://127.0.0.1:2379",
            "--advertise-client-urls=http://127.0.0.1:2379",
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--initial-advertise-peer-urls=http://127.0.0.1:2380",
            "--initial-cluster=default=http://127.0.0.1:2380",
            "--log-level=warn",
        ],
    },
    Process {
        name: "containerd",
        folder: "containerd-programs",
        after: &[],
        flags: &["--config=/run/penstock/config/containerd.toml"],
    },
    Process {
        name: "kube-apiserver",
        folder: "kubernetes",
        after: &[STORE],
        flags: &[
            "--etcd-servers=http://127.0.0.1:2379",
            "--bind-address=10.240.0.1",
            "--advertise-address=10.240.0.1",
            "--secure-port=16443",
            "--tls-cert-file=/run/penstock/keys/kube-apiserver.crt",
            "--tls-private-key-file=/run/penstock/keys/kube-apiserver.key",
            "--client-ca-file=/run/penstock/keys/ca.crt",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            "--service-account-signing-key-file=/run/penstock/keys/service-accounts.key",
            "--service-account-key-file=/run/penstock/keys/service-accounts.pub",
            // Real permissions: a gateway that lacks a verb must fail here and not at its users'.
            "--authorization-mode=Node,RBAC",
            "--allow-privileged=true",
            "--kubelet-preferred-address-types=InternalIP",
            "--kubelet-certificate-authority=/run/penstock/keys/ca.crt",
            "--kubelet-client-certificate=/run/penstock/keys/kubelet-client.crt",
            "--kubelet-client-key=/run/penstock/keys/kubelet-client.key",
            // Writes, by user agent.
            "--audit-policy-file=/run/penstock/config/audit.yaml",
            "--audit-log-path=/run/penstock/logs/audit.log",
            // In one file: nobody looks for the rest in another.
            "--audit-log-maxsize=2000",
        ],
    },
    Process {
        name: "kube-controller-manager",
        folder: "kubernetes",
        after: &[SERVER],
        flags: &[
            "--kubeconfig=/run/penstock/keys/kube-controller-manager.kubeconfig",
            "--bind-address=127.0.0.1",
            "--leader-elect=false",
            "--use-service-account-credentials=true",
            "--service-account-private-key-file=/run/penstock/keys/service-accounts.key",
            "--root-ca-file=/run/penstock/keys/ca.crt",
        ],
    },
    Process {
        name: "kube-scheduler",
        folder: "kubernetes",
        after: &[SERVER],
        flags: &[
            "--kubeconfig=/run/penstock/keys/kube-scheduler.kubeconfig",
            "--bind-address=127.0.0.1",
            "--leader-elect=false",
        ],
    },
    Process {
        name: "kubelet",
        folder: "kubernetes",
        after: &[SERVER, CONTAINERS],
        flags: &[
            "--config=/run/penstock/config/kubelet.yaml",
            "--kubeconfig=/run/penstock/keys/kubelet.kubeconfig",
            "--node-ip=10.240.0.1",
            "--hostname-override=penstock",
            "--root-dir=/run/penstock/kubelet",
            "--cert-dir=/run/penstock/kubelet/keys",
        ],
    },
    Process {
        name: "kube-proxy",
        folder: "kubernetes",
        after: &[SERVER],
        flags: &["--config=/run/penstock/config/kube-proxy.yaml"],
    },
    Process { name: "coredns", folder: "dns", after: &[SERVER], flags: &["-conf=/run/penstock/config/Corefile"] },
    Process {
        name: "load-balancer",
        folder: "rig",
        after: &[SERVER],
        flags: &["/run/penstock/keys/admin.kubeconfig", LOAD_BALANCERS],
    },
];

impl Answer {
    /// Whether a connection is accepted now.
    pub(super) fn is_there(&self) -> bool {
        match self {
            Self::Tcp(address) => address
                .parse::<SocketAddr>()
                .is_ok_and(|address| TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()),
            Self::Unix(path) => UnixStream::connect(path).is_ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_agree_with_the_constants() {
        let flags: Vec<_> = PROCESSES.iter().flat_map(|process| process.flags).copied().collect();
        let (address, port) = API_SERVER.split_once(':').unwrap();
        assert_eq!(address, NODE_ADDRESS);
        for expected in [
            format!("--bind-address={address}"),
            format!("--secure-port={port}"),
            format!("--node-ip={NODE_ADDRESS}"),
            format!("--hostname-override={NODE}"),
            format!("--service-cluster-ip-range={SERVICES}"),
        ] {
            assert!(flags.contains(&expected.as_str()), "{expected}");
        }
    }
}

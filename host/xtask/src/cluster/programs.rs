//! What the cluster runs, built from the Go modules under `host/testing/cluster` and kept in the user's cache directory.
//!
//! A module's folder in the cache is named by a digest of its sources, so a new version is built beside the old one, and
//! nothing is built twice. Each product appears there at once and whole: two commands may build at the same time.

use std::cell::OnceCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Once;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use sha2::{Digest as _, Sha256};

use super::archive;
use super::toolchain::Go;
use crate::workspace::Workspace;

/// A Go module and what is made of it.
#[derive(Debug)]
pub(super) struct Module {
    /// Its folder under `host/testing/cluster`.
    folder: &'static str,
    /// The dependency whose version names the whole, and is stamped into programs that tell it to others.
    version: Option<&'static str>,
    products: &'static [(&'static str, Recipe)],
}

#[derive(Clone, Copy, Debug)]
enum Recipe {
    /// A program, by import path.
    Program(&'static str),
    /// The tests of the module itself, as a program.
    Tests,
    /// A folder of another module, as it is.
    Copy { module: &'static str, folder: &'static str },
    /// An image that holds one program of this module, and its names.
    Image { program: &'static str, names: &'static [&'static str] },
}

/// Kubernetes and its store.
pub(super) const KUBERNETES: Module = Module {
    folder: "kubernetes",
    version: Some("k8s.io/kubernetes"),
    products: &[
        ("etcd", Recipe::Program("go.etcd.io/etcd/server/v3")),
        ("kubectl", Recipe::Program("k8s.io/kubernetes/cmd/kubectl")),
        ("kube-apiserver", Recipe::Program("k8s.io/kubernetes/cmd/kube-apiserver")),
        ("kube-controller-manager", Recipe::Program("k8s.io/kubernetes/cmd/kube-controller-manager")),
        ("kube-scheduler", Recipe::Program("k8s.io/kubernetes/cmd/kube-scheduler")),
        ("kubelet", Recipe::Program("k8s.io/kubernetes/cmd/kubelet")),
        ("kube-proxy", Recipe::Program("k8s.io/kubernetes/cmd/kube-proxy")),
    ],
};

/// What runs containers and connects them.
pub(super) const CONTAINERD: Module = Module {
    folder: "containerd",
    version: Some("github.com/containerd/containerd/v2"),
    products: &[
        ("containerd", Recipe::Program("github.com/containerd/containerd/v2/cmd/containerd")),
        ("containerd-shim-runc-v2", Recipe::Program("github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2")),
        ("ctr", Recipe::Program("github.com/containerd/containerd/v2/cmd/ctr")),
        ("host-local", Recipe::Program("github.com/containernetworking/plugins/plugins/ipam/host-local")),
        ("loopback", Recipe::Program("github.com/containernetworking/plugins/plugins/main/loopback")),
        ("portmap", Recipe::Program("github.com/containernetworking/plugins/plugins/meta/portmap")),
        ("ptp", Recipe::Program("github.com/containernetworking/plugins/plugins/main/ptp")),
    ],
};

/// Names of Services.
pub(super) const DNS: Module = Module {
    folder: "dns",
    version: Some("github.com/coredns/coredns"),
    products: &[("coredns", Recipe::Program("."))],
};

/// The cluster's own small programs.
pub(super) const RIG: Module = Module {
    folder: "rig",
    version: None,
    products: &[
        ("certificates", Recipe::Program("./certificates")),
        ("load-balancer", Recipe::Program("./load-balancer")),
        ("pause", Recipe::Program("./pause")),
        ("pause.tar", Recipe::Image { program: "pause", names: &["penstock.dev/cluster/pause:1"] }),
    ],
};

/// Of the following, what a cluster needs that runs no suite.
pub(super) const OF_CONFORMANCE: [&str; 3] = ["crds", "echo-basic", "echo-basic.tar"];

/// What the Gateway API publishes: its CRDs, the suite, the image of the suite's backends.
pub(super) const CONFORMANCE: Module = Module {
    folder: "conformance",
    version: Some("sigs.k8s.io/gateway-api"),
    products: &[
        ("crds", Recipe::Copy { module: "sigs.k8s.io/gateway-api", folder: "config/crd" }),
        ("echo-basic", Recipe::Program("sigs.k8s.io/gateway-api-conformance-images/echo-basic")),
        (
            "echo-basic.tar",
            // One program under both names: the newer one is not published as a module, and tests use nothing new of it.
            Recipe::Image {
                program: "echo-basic",
                names: &[
                    "registry.k8s.io/gateway-api/conformance/echo-basic:v0.1.0",
                    "registry.k8s.io/gateway-api/conformance/echo-basic:v0.2.0",
                ],
            },
        ),
        ("conformance.test", Recipe::Tests),
    ],
};

/// The cache, and how to fill it.
#[derive(Debug)]
pub(super) struct Programs {
    sources: PathBuf,
    cache: PathBuf,
    go: OnceCell<Go>,
    announce: Once,
}

impl Programs {
    pub(super) fn new(workspace: &Workspace) -> Result<Self> {
        let sources = sources(workspace);
        Ok(Self { sources, cache: cache()?, go: OnceCell::new(), announce: Once::new() })
    }

    /// Build what is missing of a module, and answer the folder with its products.
    pub(super) fn ensure(&self, module: &Module) -> Result<PathBuf> {
        let products: Vec<_> = module.products.iter().map(|(name, _)| *name).collect();
        self.ensure_only(module, &products)
    }

    /// Everything that a cluster is made of.
    pub(super) fn ensure_cluster(&self) -> Result<()> {
        [&RIG, &CONTAINERD, &KUBERNETES, &DNS].into_iter().try_for_each(|module| self.ensure(module).map(drop))?;
        self.ensure_only(&CONFORMANCE, &OF_CONFORMANCE).map(drop)
    }

    /// As [`Self::ensure`], for some products.
    pub(super) fn ensure_only(&self, module: &Module, wanted: &[&str]) -> Result<PathBuf> {
        let source = self.sources.join(module.folder);
        let version = version(module, &source)?;
        let folder = self.cache.join("cluster").join(format!("{}-{version}-{}", module.folder, digest(&source)?));
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        for (name, recipe) in module.products.iter().filter(|(name, _)| wanted.contains(name)) {
            let product = folder.join(name);
            if product.exists() {
                continue;
            }
            let started = Instant::now();
            self.announce.call_once(|| {
                eprintln!(
                    "  Building what the cluster runs. On two cores this takes ten minutes the first time, and is kept."
                );
            });
            eprintln!("  building {name} ({} {version})", module.folder);
            let partial = folder.join(format!("{name}.partial-{}", std::process::id()));
            self.make(*recipe, &source, &folder, &partial, &version).with_context(|| format!("cannot build {name}"))?;
            // Whoever was faster made the same thing.
            if fs::rename(&partial, &product).is_err() && !product.exists() {
                anyhow::bail!("cannot write {}", product.display());
            }
            eprintln!("           {name} took {:.0} s", started.elapsed().as_secs_f64());
        }
        Ok(folder)
    }

    fn make(&self, recipe: Recipe, source: &Path, folder: &Path, product: &Path, version: &str) -> Result<()> {
        match recipe {
            Recipe::Program(package) => {
                let mut command = self.go()?.command(source);
                command.args(["build", "-trimpath", "-ldflags", &stamps(version), "-o"]).arg(product).arg(package);
                succeed(&mut command)
            }
            Recipe::Tests => {
                let mut command = self.go()?.command(source);
                succeed(command.args(["test", "-trimpath", "-c", "-o"]).arg(product).arg("."))
            }
            Recipe::Copy { module, folder } => {
                let from = self.download(source, module)?.join(folder);
                copy_folder(&from, product)
            }
            Recipe::Image { program, names } => archive::write(&folder.join(program), names, product),
        }
    }

    /// Where Go keeps the sources of a dependency.
    fn download(&self, source: &Path, module: &str) -> Result<PathBuf> {
        let mut command = self.go()?.command(source);
        let output = command.args(["mod", "download", "-json", module]).stderr(Stdio::inherit()).output()?;
        ensure!(output.status.success(), "`go mod download {module}` failed");
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        Ok(answer["Dir"].as_str().context("`go mod download` names no folder")?.into())
    }

    fn go(&self) -> Result<&Go> {
        if self.go.get().is_none() {
            // This module wants the newest Go of all.
            let go = Go::find(&self.sources.join(CONFORMANCE.folder), &self.cache)?;
            let _ = self.go.set(go);
        }
        Ok(self.go.get().expect("it has just been set"))
    }
}

/// The folder of the Go modules.
pub(super) fn sources(workspace: &Workspace) -> PathBuf {
    workspace.root().join("host/testing/cluster")
}

/// The user's cache directory, the part of it that is ours.
fn cache() -> Result<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    Ok(base.context("neither HOME nor XDG_CACHE_HOME says where to keep what is built")?.join("penstock"))
}

/// What distinguishes one build of a module from another: everything in its folder.
fn digest(source: &Path) -> Result<String> {
    let mut files = Vec::new();
    list(source, &mut files)?;
    files.sort();
    let mut hash = Sha256::new();
    for file in files {
        hash.update(file.strip_prefix(source)?.as_os_str().as_encoded_bytes());
        hash.update(fs::read(&file)?);
    }
    Ok(archive::hexadecimal(&hash.finalize())[..8].to_owned())
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in folder.read_dir().with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            list(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

/// The version of the module's main dependency, as its `go.mod` says: it stands nowhere else.
fn version(module: &Module, source: &Path) -> Result<String> {
    let Some(dependency) = module.version else { return Ok("own".to_owned()) };
    let path = source.join("go.mod");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    required(&text, dependency).with_context(|| format!("{} does not require {dependency}", path.display()))
}

fn required(go_mod: &str, dependency: &str) -> Option<String> {
    let mut lines = go_mod.lines().map(|line| line.trim_start().trim_start_matches("require "));
    let line = lines.find(|line| line.split(' ').next() == Some(dependency) && !line.contains("=>"))?;
    line.split(' ').nth(1).map(str::to_owned)
}

/// Without these the API server calls itself v0.0.0, and clients misjudge what it can do.
fn stamps(version: &str) -> String {
    let mut numbers = version.trim_start_matches('v').split('.');
    let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    let mut flags = "-s -w".to_owned();
    for package in ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"] {
        for (name, value) in [("gitVersion", version), ("gitMajor", major), ("gitMinor", minor)] {
            flags.push_str(&format!(" -X {package}.{name}={value}"));
        }
    }
    flags
}

fn succeed(command: &mut std::process::Command) -> Result<()> {
    let status = command.stdout(Stdio::null()).status().context("cannot start go")?;
    ensure!(status.success(), "go failed ({status}): its messages are above");
    Ok(())
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in from.read_dir().with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            // Contents only: files in Go's module cache are read-only.
            fs::write(&target, fs::read(entry.path())?)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_come_from_requirements_only() {
        let text = "require k8s.io/kubernetes v1.36.3\n\nrequire (\n\tk8s.io/api v0.36.3 // indirect\n)\n\
                    replace k8s.io/x => k8s.io/x v0.0.1\n";
        assert_eq!(required(text, "k8s.io/kubernetes").as_deref(), Some("v1.36.3"));
        assert_eq!(required(text, "k8s.io/api").as_deref(), Some("v0.36.3"));
        assert_eq!(required(text, "k8s.io/x"), None);
    }

    #[test]
    fn the_api_server_learns_its_version() {
        let flags = stamps("v1.36.3");
        assert!(flags.contains(" -X k8s.io/component-base/version.gitVersion=v1.36.3 "), "{flags}");
        assert!(flags.contains(" -X k8s.io/client-go/pkg/version.gitMinor=36"), "{flags}");
    }
}

//! Registries as commands name them: the reference, and the login that is kept for it on this machine.

use std::{
    env,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail, ensure};
use penstock_core::plugin::{DockerConfig, OciReference, RegistryLogin};
use penstock_plugin_host::Artifact;
use serde::Deserialize;

/// How to reach a registry.
#[derive(Debug, clap::Args)]
pub(super) struct Access {
    /// Log in as this user instead of with what `docker login` keeps
    #[arg(long, value_name = "NAME", requires = "password_stdin")]
    username: Option<String>,

    /// Read the password or access token from standard input
    #[arg(long, requires = "username")]
    password_stdin: bool,

    /// Ask the registry without TLS, and send the login in the clear; for loopback addresses it need not be said
    #[arg(long)]
    insecure: bool,
}

/// The parts of `config.json` that say who keeps passwords.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Helpers {
    creds_store: Option<String>,
    cred_helpers: std::collections::BTreeMap<String, String>,
}

/// What a credential helper answers.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Kept {
    username: String,
    secret: String,
}

impl Access {
    /// The artifact, and as whom to ask for it.
    pub(super) fn to(&self, reference: &OciReference) -> anyhow::Result<Artifact> {
        let login = match &self.username {
            Some(username) => Some(from_input(username)?),
            None => kept(reference)?,
        };
        Ok(Artifact { reference: reference.clone(), login, insecure: self.insecure })
    }
}

fn from_input(username: &str) -> anyhow::Result<RegistryLogin> {
    let mut password = String::new();
    io::stdin().read_to_string(&mut password).context("cannot read the password from standard input")?;
    let password = password.trim_end_matches(['\r', '\n']);
    ensure!(!password.is_empty(), "--password-stdin: standard input holds no password");
    Ok(RegistryLogin::Password { username: username.into(), password: password.into() })
}

/// The login that `docker login`, `podman login` and others keep.
fn kept(reference: &OciReference) -> anyhow::Result<Option<RegistryLogin>> {
    let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    for path in config_files(variable) {
        let json = match std::fs::read(&path) {
            Ok(json) => json,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => bail!("cannot read {}: {error}", path.display()),
        };
        let config = DockerConfig::parse(&json).with_context(|| format!("{} cannot be used", path.display()))?;
        let login = match (config.login(reference), helper(&json, reference)) {
            (Some(login), _) => Some(login.clone()),
            (None, Some(helper)) => ask(&helper, reference, &path)?,
            (None, None) => None,
        };
        if login.is_some() {
            return Ok(login);
        }
    }
    Ok(None)
}

/// Where logins are kept, in the order in which they are looked for: as containers-auth.json(5) has it, with Docker's own variable before that. A file
/// that is named is the only one.
fn config_files(variable: impl Fn(&str) -> Option<PathBuf>) -> Vec<PathBuf> {
    if let Some(named) = variable("REGISTRY_AUTH_FILE") {
        return vec![named];
    }
    if let Some(docker) = variable("DOCKER_CONFIG") {
        return vec![docker.join("config.json")];
    }
    let runtime = variable("XDG_RUNTIME_DIR").map(|folder| folder.join("containers/auth.json"));
    let home = variable("HOME");
    let config = variable("XDG_CONFIG_HOME").or_else(|| Some(home.as_ref()?.join(".config")));
    let config = config.map(|folder| folder.join("containers/auth.json"));
    [runtime, config, home.map(|home| home.join(".docker/config.json"))].into_iter().flatten().collect()
}

fn helper(json: &[u8], reference: &OciReference) -> Option<String> {
    let Helpers { creds_store, mut cred_helpers } = serde_json::from_slice(json).unwrap_or_default();
    cred_helpers.remove(&*reference.registry).or(creds_store).filter(|name| !name.is_empty())
}

/// Ask a credential helper (<https://github.com/docker/docker-credential-helpers>). One that knows no login ends with an error.
fn ask(helper: &str, reference: &OciReference, config: &Path) -> anyhow::Result<Option<RegistryLogin>> {
    let program = format!("docker-credential-{helper}");
    let mut child = Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("{} names {program}, which cannot be started", config.display()))?;
    let server = match &*reference.registry {
        "docker.io" => "https://index.docker.io/v1/",
        registry => registry,
    };
    if let Some(mut input) = child.stdin.take() {
        input.write_all(server.as_bytes()).with_context(|| format!("{program} takes no input"))?;
    }
    let output = child.wait_with_output().with_context(|| format!("{program} cannot be waited for"))?;
    if !output.status.success() {
        return Ok(None);
    }
    // The parser's message may quote what it read.
    let Ok(Kept { username, secret }) = serde_json::from_slice(&output.stdout) else {
        bail!("{program} answered something else than a login");
    };
    Ok(Some(match username.as_str() {
        "<token>" => RegistryLogin::RefreshToken(secret.as_str().into()),
        _ => RegistryLogin::Password { username: username.into(), password: secret.as_str().into() },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_are_looked_for_where_docker_and_podman_keep_them() {
        let files = |set: &[(&str, &str)]| {
            let variable =
                |name: &str| set.iter().find(|(known, _)| *known == name).map(|(_, value)| PathBuf::from(value));
            config_files(variable).into_iter().map(|path| path.display().to_string()).collect::<Vec<_>>()
        };
        let all = ["/run/containers/auth.json", "/h/.config/containers/auth.json", "/h/.docker/config.json"];
        assert_eq!(files(&[("XDG_RUNTIME_DIR", "/run"), ("HOME", "/h")]), all);
        assert_eq!(files(&[("HOME", "/h")]), all[1..]);
        assert_eq!(files(&[("DOCKER_CONFIG", "/d"), ("HOME", "/h")]), ["/d/config.json"]);
        assert_eq!(files(&[("REGISTRY_AUTH_FILE", "/a"), ("DOCKER_CONFIG", "/d")]), ["/a"]);
        assert!(files(&[]).is_empty());
    }

    #[test]
    fn the_helper_of_the_registry_comes_before_the_general_one() {
        let json = br#"{"credsStore": "desktop", "credHelpers": {"a.io": "a"}}"#;
        let helper = |reference: &str| helper(json, &reference.parse().unwrap());
        assert_eq!((helper("a.io/x").as_deref(), helper("b.io/x").as_deref()), (Some("a"), Some("desktop")));
        assert_eq!(super::helper(b"{}", &"a.io/x".parse().unwrap()), None);
    }
}

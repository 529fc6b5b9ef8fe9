//! The files of a new project. They stand beside this module as they will be written, but for a few placeholders.

/// What a plugin sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Kind {
    /// Headers of requests and responses: the cheapest kind
    Policy,
    /// Bodies, trailers and the end of exchanges too
    Streaming,
    /// Requests that need a backend: chooses it
    Route,
}

impl Kind {
    /// In one line.
    pub(super) fn what(self) -> &'static str {
        match self {
            Self::Policy => "a policy on headers",
            Self::Streaming => "a policy on bodies, trailers and the end of exchanges",
            Self::Route => "a route plugin, which chooses among the backends of a rule",
        }
    }

    fn description(self) -> &'static str {
        match self {
            Self::Policy => "Says who served a response, and keeps clients out of some paths.",
            Self::Streaming => "Puts a line behind every text response.",
            Self::Route => "Sends requests to the backend that a header names.",
        }
    }

    /// A command that shows the plugin at work in `world.yaml`.
    pub(super) fn attempt(self) -> &'static str {
        match self {
            Self::Policy => "curl -i http://localhost:8080/hello http://localhost:8080/admin",
            Self::Streaming => "curl -i http://localhost:8080/hello",
            Self::Route => "curl -i -H 'x-backend: echo-next' http://localhost:8080/hello",
        }
    }

    fn sources(self) -> Sources {
        match self {
            Self::Policy => Sources {
                lib: include_str!("../template/policy/lib.rs"),
                exchanges: include_str!("../template/policy/exchanges.yaml"),
                config: include_str!("../template/policy/config.yaml"),
                world: WORLD,
            },
            Self::Streaming => Sources {
                lib: include_str!("../template/streaming/lib.rs"),
                exchanges: include_str!("../template/streaming/exchanges.yaml"),
                config: include_str!("../template/streaming/config.yaml"),
                world: WORLD,
            },
            Self::Route => Sources {
                lib: include_str!("../template/route/lib.rs"),
                exchanges: include_str!("../template/route/exchanges.yaml"),
                config: include_str!("../template/route/config.yaml"),
                world: include_str!("../template/route/world.yaml"),
            },
        }
    }
}

const WORLD: &str = include_str!("../template/world.yaml");

struct Sources {
    lib: &'static str,
    exchanges: &'static str,
    /// What `world.yaml` says of the plugin beyond its source and target.
    config: &'static str,
    world: &'static str,
}

/// Path and contents of each file. `sdk` is the right side of the dependency.
pub(super) fn files(kind: Kind, name: &str, sdk: &str) -> [(&'static str, String); 6] {
    let fill = |text: &str| {
        text.replace("{{name}}", name)
            .replace("{{description}}", kind.description())
            .replace("{{sdk}}", sdk)
            .replace("{{rust}}", env!("CARGO_PKG_RUST_VERSION"))
            .replace("{{try}}", kind.attempt())
    };
    let Sources { lib, exchanges, config, world } = kind.sources();
    [
        ("Cargo.toml", fill(include_str!("../template/Cargo.toml.in"))),
        (".gitignore", fill(include_str!("../template/gitignore"))),
        ("README.md", fill(include_str!("../template/README.md"))),
        ("src/lib.rs", fill(lib)),
        ("exchanges.yaml", fill(exchanges)),
        ("world.yaml", fill(world) + config),
    ]
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn no_placeholder_is_left() {
        for kind in Kind::value_variants() {
            for (path, text) in files(*kind, "my-plugin", "\"0.1\"") {
                assert!(!text.contains("{{"), "{path} of {kind:?}:\n{text}");
                assert!(text.ends_with('\n'), "{path} of {kind:?}");
            }
        }
    }
}

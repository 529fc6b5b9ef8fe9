//! What the harnesses of all kinds of plugins share.

use super::Gateway;
use crate::{
    Plan, Problems,
    export::{Kind, Loaded, load},
};

/// A configured plugin on a gateway. The harness of each kind dereferences to it.
pub struct Stage<K: Kind> {
    pub(super) loaded: Loaded<K::Plugin>,
    pub(super) gateway: Gateway,
}

impl<K: Kind> Stage<K> {
    pub(super) fn on(gateway: Gateway, config: &serde_json::Value) -> Result<Self, Problems> {
        let loaded = gateway.configure(|| load::<K>(&config.to_string()))?;
        Ok(Self { loaded, gateway })
    }

    /// What the configuration asks of every exchange.
    pub fn plan(&self) -> &Plan {
        &self.loaded.plan
    }

    /// The plugin itself.
    #[must_use]
    pub fn plugin(&self) -> &K::Plugin {
        &self.loaded.plugin
    }

    /// What stands behind the capabilities.
    #[must_use]
    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// Runs the plugin's self-test.
    ///
    /// # Errors
    /// Its text.
    pub fn self_test(&self) -> Result<(), String> {
        self.gateway.run(|| K::self_test(&self.loaded.plugin))
    }
}

/// The harness of a configuration that a test takes for good.
#[track_caller]
pub(super) fn accepted<H>(harness: Result<H, Problems>) -> H {
    harness.unwrap_or_else(|problems| panic!("the configuration is refused:\n{problems}"))
}

//! The entry: passes over the world in order, with a memory of the last result.

use crate::{Needs, Resources, Settings, Translation};

/// Translates one state of the world after the other, and remembers what it may reuse.
#[derive(Debug, Default)]
pub struct Translator {}

impl Translator {
    /// Translate. The result equals that of [`translate`]; unchanged parts keep their allocation.
    pub fn translate(&mut self, resources: &Resources, settings: &Settings) -> Translation {
        let _ = (resources, settings);
        Translation {
            snapshot: std::sync::Arc::default(),
            endpoints: Vec::new(),
            statuses: crate::Statuses::new(),
            needs: Needs::default(),
        }
    }
}

/// Translate without a memory.
pub fn translate(resources: &Resources, settings: &Settings) -> Translation {
    Translator::default().translate(resources, settings)
}

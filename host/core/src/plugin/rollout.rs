//! How a new revision of a plugin comes into effect, and what is known while it does.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use super::{PluginSpec, Sha256};
use crate::{ResourceRef, check::Checks};

/// How a new revision comes into effect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rollout {
    /// With which other plugins it switches.
    pub group: Option<ActivationGroup>,
    /// How long it is watched after the switch.
    pub probation: Probation,
    /// What it must pass before.
    pub checks: Checks,
}

/// Plugins of one namespace that switch together: all of them in one snapshot, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActivationGroup {
    /// Its name; equal names in one namespace are one group.
    pub name: Arc<str>,
    /// Members whose resources do not say what to run. The group waits for them as well.
    pub unspecified: Vec<ResourceRef>,
}

/// How long a new revision is watched, and what is too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probation {
    /// Time from the switch. Zero: a revision is good as soon as it serves.
    pub period: Duration,
    /// Faults within it that are accepted; one more, and the last good revision is back.
    pub max_faults: u32,
}

impl Default for Probation {
    /// Half a minute sees most of what traffic does; a handful of faults may be one odd client.
    fn default() -> Self {
        Self { period: Duration::from_secs(30), max_faults: 5 }
    }
}

/// Where in `config` the value of a Secret stands. What is written to disk names the Secret and never holds the value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretPlace {
    /// JSON pointer into `config`.
    pub pointer: Arc<str>,
    /// Name of the Secret, in the namespace of the plugin.
    pub secret: Arc<str>,
    /// Key in its data.
    pub key: Arc<str>,
}

/// The revision that serves is new, and is being watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnProbation {
    /// When it is over. A point in time, not what remains: that would be another state every second.
    pub until: SystemTime,
    /// Faults that are accepted until then.
    pub max_faults: u32,
    /// The last good revision, which stays warm and comes back after too many faults.
    pub fallback: RevisionName,
}

/// What people call a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevisionName {
    /// Generation of the resource it came from.
    pub generation: i64,
    /// `sha256:…` of the module.
    pub digest: Arc<str>,
    /// From the manifest.
    pub name: Arc<str>,
    /// From the manifest.
    pub version: Arc<str>,
}

/// How the plugin stands with the last good set on disk, and with what the cluster has on record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LastGoodState {
    /// What serves was restored: nothing newer has become ready since the gateway started.
    pub restored: Option<RestoredFrom>,
    /// Why the revision on disk, or the newest one there, could not be restored.
    pub not_restored: Option<Arc<str>>,
    /// What the cluster has on record is being restored.
    pub recalling: bool,
    /// Why it could not be.
    pub not_recalled: Option<Arc<str>>,
    /// Why what is good is not on disk: a restart could not restore it.
    pub not_kept: Option<Arc<str>>,
}

/// Where a last good revision was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestoredFrom {
    /// On the disk of this gateway.
    Disk,
    /// On record in the cluster.
    Cluster,
}

/// The last good revision of a plugin as the cluster has it on record, for gateways that have none on disk.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedRevision {
    /// What to run. Its generation is the one of the resource with which it became good.
    pub spec: Arc<PluginSpec>,
    /// The module that was good: what the source gives by now may be another one.
    pub digest: Sha256,
    /// The resource still says the same. Then what it wants is tried first.
    pub is_wanted: bool,
}

/// Another member of the activation group that a ready candidate waits for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Awaited {
    /// The member.
    pub plugin: ResourceRef,
    /// What keeps it.
    pub because: Hold,
}

/// What keeps a member of an activation group from switching.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hold {
    /// Its resource does not say what to run.
    Unspecified,
    /// Its candidate was refused.
    Rejected,
    /// Its candidate is on its way.
    Pending,
}

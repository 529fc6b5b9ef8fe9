//! What can make the controller work. A closed enum: whoever has something new to say extends it here, and the loop does not compile until it is
//! handled.

use std::{collections::BTreeSet, fmt, sync::Arc};

use penstock_core::ResourceRef;
use penstock_translate::Change;

use crate::sources::files::Problem;

/// Something happened.
#[derive(Debug)]
pub enum Event {
    /// The world became different: resources from sources, facts from the proxy and the plugin host. What comes together is applied together,
    /// so that nobody sees half of it.
    Changed(Vec<Change>),
    /// What is wrong with the documents of a source: all of it, in place of what was said before.
    Problems(SourceId, Vec<Problem>),
    /// The source has said everything that was there when it began.
    Complete(SourceId),
    /// Of the objects that were asked for, these have been read, or are known not to be there. What was read came before, and what is not among them
    /// any more may go from now on: so who has heard this has what it says.
    Answered(Arc<BTreeSet<ResourceRef>>),
    /// Time to try again what failed and may work by now: sockets whose address was taken.
    Retry,
}

/// Identity of a source of resources.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(Arc<str>);

impl SourceId {
    /// A source by its name, as logs and `/readyz` show it.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }
}

impl fmt::Display for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

//! Route plugins: which rule each of them chooses for, and what becomes of the others.

use penstock_core::ResourceRef;

use crate::problem::Problem;

/// A rule that has route plugins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RouteUse {
    /// Such as "rule `pay` of HTTPRoute `default/shop`".
    pub(crate) rule: String,
    /// In order: the first one chooses.
    pub(crate) plugins: Vec<ResourceRef>,
}

/// What one route plugin has of the rules that it is attached to.
#[derive(Debug, Default)]
pub(crate) struct RouteShare {
    chooses: bool,
    /// A sentence for each of the first rules that another plugin chooses for.
    lost: Vec<String>,
    /// How many more there are: a plugin may be attached to thousands of rules, and a condition is for people.
    more: usize,
}

/// Rules that a condition names.
const SHOWN: usize = 3;

impl RouteUse {
    /// What this rule means for each of its plugins.
    pub(crate) fn shares(&self) -> impl Iterator<Item = (&ResourceRef, Option<String>)> {
        let first = self.plugins.first();
        self.plugins.iter().map(move |plugin| {
            let winner = first.filter(|first| *first != plugin);
            let lost = winner.map(|winner| {
                format!(
                    "{} has one route plugin, and {winner} comes first (by priority, then by namespace and name)",
                    self.rule
                )
            });
            (plugin, lost)
        })
    }
}

impl RouteShare {
    /// One more rule: it chooses there, or another one does.
    pub(crate) fn add(&mut self, lost: Option<String>) {
        match lost {
            None => self.chooses = true,
            Some(lost) if self.lost.len() < SHOWN => self.lost.push(lost),
            Some(_) => self.more += 1,
        }
    }

    /// Set if it chooses nowhere because others do.
    pub(super) fn conflict(&self) -> Option<Problem> {
        (!self.chooses && !self.lost.is_empty()).then(|| Problem::new("Conflicted", self.sentence()))
    }

    /// What to say of the rules that others choose for.
    pub(super) fn note(&self) -> Option<String> {
        (!self.lost.is_empty()).then(|| self.sentence())
    }

    fn sentence(&self) -> String {
        let more = if self.more == 0 { String::new() } else { format!("; and so for {} more rules", self.more) };
        self.lost.join("; ") + &more
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_names_a_few_rules_and_counts_the_others() {
        let mut share = RouteShare::default();
        assert_eq!((share.conflict(), share.note()), (None, None));
        for rule in 0..5 {
            share.add(Some(format!("rule {rule}")));
        }
        let sentence = "rule 0; rule 1; rule 2; and so for 2 more rules";
        assert_eq!(share.conflict().map(|problem| problem.message).as_deref(), Some(sentence));
        share.add(None);
        assert_eq!(share.conflict(), None, "it chooses somewhere");
        assert_eq!(share.note().as_deref(), Some(sentence));
    }
}

//! The backends of the route's rules, as far as they stay the same.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use penstock_plugin::{Candidate, RouteRequest};

use crate::hash::{hash, score};

/// Rules whose backends are kept. A rule gets another number whenever its backends change, so old ones must go some time.
const MOST_TABLES: usize = 4096;

/// The tables of all rules, by their numbers.
#[derive(Debug, Default)]
pub(crate) struct Tables(RefCell<BTreeMap<u64, Rc<Table>>>);

/// The backends of one rule of a route.
#[derive(Debug)]
pub(crate) struct Table {
    backends: Vec<Backend>,
    /// Where the backends stand that the configuration names, by the place of the name in the configuration.
    named: Vec<Option<u32>>,
    /// Of smooth weighted round robin: what each backend is still owed.
    owed: RefCell<Vec<i64>>,
}

#[derive(Debug)]
struct Backend {
    /// Stands for the name.
    seed: u64,
    weight: u32,
}

/// A backend as the configuration names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BackendName {
    namespace: Option<String>,
    name: String,
    port: Option<String>,
}

/// A name among those of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NameId(pub(crate) usize);

impl Tables {
    /// The table of the rule that took the request.
    pub(crate) fn of(&self, request: &RouteRequest, names: &[BackendName]) -> Rc<Table> {
        let mut tables = self.0.borrow_mut();
        if let Some(table) = tables.get(&request.rule()) {
            return table.clone();
        }
        make_room(&mut tables, request.rule());
        let table = Rc::new(Table::new(&request.candidates(), names));
        tables.insert(request.rule(), table.clone());
        table
    }
}

/// Numbers of rules are hashes, so the next one is any other: nobody loses a table with every new rule.
fn make_room<T>(tables: &mut BTreeMap<u64, T>, rule: u64) {
    if tables.len() < MOST_TABLES {
        return;
    }
    let next = tables.range(rule..).next().or_else(|| tables.first_key_value()).map(|(rule, _)| *rule);
    if let Some(next) = next {
        tables.remove(&next);
    }
}

impl Table {
    fn new(candidates: &[Candidate], names: &[BackendName]) -> Self {
        let backend =
            |candidate: &Candidate| Backend { seed: hash(0, candidate.name.as_bytes()), weight: candidate.weight };
        let position = |name: &BackendName| {
            let found = (0_u32..).zip(candidates).find(|(_, candidate)| name.means(&candidate.name));
            found.map(|(index, _)| index)
        };
        Self {
            backends: candidates.iter().map(backend).collect(),
            named: names.iter().map(position).collect(),
            owed: RefCell::new(vec![0; candidates.len()]),
        }
    }

    /// The backend of this name, if the rule has it.
    pub(crate) fn named(&self, name: NameId) -> Option<u32> {
        self.named.get(name.0).copied().flatten()
    }

    /// Stands for the backend in cookies.
    pub(crate) fn seed(&self, index: u32) -> u64 {
        self.backends[index as usize].seed
    }

    pub(crate) fn with_seed(&self, seed: u64) -> Option<u32> {
        (0..).zip(&self.backends).find(|(_, backend)| backend.seed == seed).map(|(index, _)| index)
    }

    /// Whether a cookie may choose the backend. Anybody can write one, so it opens none that has no weight because other rules of the configuration choose
    /// it. One without weight that no rule names drains.
    pub(crate) fn may_stick(&self, index: u32) -> bool {
        self.backends[index as usize].weight > 0 || !self.named.contains(&Some(index))
    }

    /// The ready backend to which the key belongs most. Most often that is the one to which it belongs most of all, so the others are not even
    /// asked whether they are ready.
    pub(crate) fn hashed(&self, key: u64, ready: impl Fn(u32) -> bool) -> Option<u32> {
        let mut limit = f64::INFINITY;
        loop {
            let weighted = (0..).zip(&self.backends).filter(|(_, backend)| backend.weight > 0);
            let scored = weighted.map(|(index, backend)| (index, score(key, backend.seed, backend.weight)));
            let (index, best) = scored.filter(|(_, score)| *score < limit).max_by(|a, b| a.1.total_cmp(&b.1))?;
            if ready(index) {
                return Some(index);
            }
            limit = best;
        }
    }

    /// The next ready backend in turn, by weights: smooth weighted round robin, which needs no random numbers and therefore no grant.
    pub(crate) fn next(&self, ready: impl Fn(u32) -> bool) -> Option<u32> {
        let mut owed = self.owed.borrow_mut();
        let mut total = 0;
        let mut best: Option<(u32, i64)> = None;
        for ((index, backend), owed) in (0..).zip(&self.backends).zip(owed.iter_mut()) {
            if backend.weight == 0 || !ready(index) {
                continue;
            }
            let weight = i64::from(backend.weight);
            total += weight;
            *owed += weight;
            if best.is_none_or(|(_, most)| *owed > most) {
                best = Some((index, *owed));
            }
        }
        let (index, _) = best?;
        owed[index as usize] -= total;
        Some(index)
    }
}

impl BackendName {
    /// # Errors
    /// A sentence on what is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (namespace, rest) = match text.split_once('/') {
            Some((namespace, rest)) => (Some(namespace), rest),
            None => (None, text),
        };
        let (name, port) = match rest.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (rest, None),
        };
        let plain = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b))
        };
        let number = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
        if plain(name) && namespace.is_none_or(plain) && port.is_none_or(number) {
            let (namespace, port) = (namespace.map(str::to_owned), port.map(str::to_owned));
            return Ok(Self { namespace, name: name.to_owned(), port });
        }
        Err(format!("`{text}` is no backend: write name, name:port, namespace/name or namespace/name:port"))
    }

    /// Whether this is the candidate `namespace/name:port`.
    fn means(&self, candidate: &str) -> bool {
        let (namespace, rest) = candidate.split_once('/').unwrap_or(("", candidate));
        let (name, port) = rest.rsplit_once(':').unwrap_or((rest, ""));
        self.name == name
            && self.namespace.as_deref().is_none_or(|wanted| wanted == namespace)
            && self.port.as_deref().is_none_or(|wanted| wanted == port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_that_go_are_any() {
        let mut tables = BTreeMap::new();
        // The smallest numbers belong to rules that were there first and still are.
        for rule in 0..MOST_TABLES as u64 {
            make_room(&mut tables, rule);
            tables.insert(rule, ());
        }
        for number in 0..100_u64 {
            let rule = hash(1, &number.to_le_bytes());
            make_room(&mut tables, rule);
            tables.insert(rule, ());
        }
        assert_eq!(tables.len(), MOST_TABLES);
        let left = (0..100).filter(|rule| tables.contains_key(rule)).count();
        assert!(left > 50, "of the hundred smallest {left} are left");
    }
}

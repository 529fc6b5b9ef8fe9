//! What one instance may use: CPU time, memory, tables.

use std::{cell::Cell, time::Duration};

use rustix::time::{ClockId, clock_gettime};
use wasmtime::{ResourceLimiter, UpdateDeadline};

use crate::{
    budget::{Share, Spent},
    engine::TICK,
};

/// Elements of all tables of an instance. Tables hold function references; Rust guests have some hundred, and 20,000 is what
/// wasmtime's own pooling allocator allows.
const TABLE_ELEMENTS: usize = 20_000;
/// Core instances and tables in one component. `wit-component` makes three of the first and one of the other; components that were composed
/// of several have a few more.
const PARTS: usize = 32;
pub(crate) const MOST_INSTANCES: u64 = PARTS as u64;
/// Linear memories in one component: one of the plugin, and as many of components that it was composed with. Each costs the whole process
/// addresses and mappings ([`crate::budget`]).
const MEMORIES: usize = 4;

/// CPU time of the call at hand, measured only when it is long.
///
/// The epoch is wall time, and a hook must not be punished for the time during which its thread did not run: a container that is
/// throttled stands still for tens of milliseconds. So the first tick only reads the thread's CPU clock, and later ticks compare. A call
/// that ends before the first tick, which is nearly every call, costs nothing; one that spins gets its limit and at most two ticks.
#[derive(Debug, Default)]
pub(crate) struct CpuBudget {
    limit: Duration,
    since: Option<Duration>,
    /// Before `since`, as far as anybody can say.
    before: Duration,
    /// Before the last pause.
    used: Duration,
}

thread_local! {
    /// CPU time of this thread when a budget looked at it last.
    static SEEN: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

impl CpuBudget {
    /// A new call begins.
    pub(crate) fn reset(&mut self, limit: Duration) {
        *self = Self { limit, ..Self::default() };
    }

    /// What the call at hand may use.
    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    /// The call waits: until its first tick after that, the thread works for others. What a call used before its first tick is not known,
    /// and not counted; it is less than two ticks, and the number of calls that wait is limited.
    pub(crate) fn pause(&mut self) {
        if let Some(since) = self.since.take() {
            self.used += thread_cpu_time().saturating_sub(since);
        }
    }

    /// What the call at hand has used, to a tick. A call that saw none counts nothing, and each that saw one counts it whole: over many
    /// calls that is what they used, and it costs nearly all of them nothing. A thread that stood still saw ticks in calls that used next
    /// to nothing; so together they never count more than the thread has used.
    pub(crate) fn spent(&self) -> Duration {
        self.since.map_or(self.used, |since| self.used + self.before + look().0.saturating_sub(since))
    }

    /// The epoch moved during a call.
    pub(crate) fn on_tick(&mut self) -> UpdateDeadline {
        let (now, passed) = look();
        let since = *self.since.get_or_insert_with(|| {
            self.before = passed.min(TICK);
            now
        });
        if self.used + now.saturating_sub(since) >= self.limit {
            UpdateDeadline::Interrupt
        } else {
            UpdateDeadline::Continue(1)
        }
    }
}

/// CPU time of this thread so far, and how much of it has passed since the last look.
fn look() -> (Duration, Duration) {
    let now = thread_cpu_time();
    (now, now.saturating_sub(SEEN.replace(now)))
}

/// CPU time of this thread so far.
pub(crate) fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    // CPU time since the thread began is never negative.
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs().try_into().unwrap_or(0))
}

/// Linear memory of one instance, over all its memories.
#[derive(Debug)]
pub(crate) struct MemoryLimit {
    limit: u64,
    used: u64,
    tables: usize,
    memories: u64,
    denied: Option<Denied>,
    /// None until it is known what there is for all.
    share: Option<Share>,
}

/// Something that an instance asked for and did not get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Denied {
    /// Linear memory.
    #[error("it asked for {wanted} bytes of memory; limits.memory allows {limit}")]
    Memory {
        /// In bytes, over all its memories.
        wanted: u64,
        /// In bytes.
        limit: u64,
    },
    /// Table elements.
    #[error("it asked for {wanted} table elements; {TABLE_ELEMENTS} are allowed")]
    Table {
        /// Over all its tables.
        wanted: usize,
    },
    /// What its own limits allow.
    #[error("there is no more memory for it: {0}")]
    Spent(#[from] Spent),
}

impl MemoryLimit {
    pub(crate) fn new(limit: u64) -> Self {
        Self { limit, used: 0, tables: 0, memories: 0, denied: None, share: None }
    }

    /// From now on it takes part of what there is for all.
    pub(crate) fn share(&mut self, share: Share) {
        self.share = Some(share);
    }

    /// Bytes in use.
    pub(crate) fn used(&self) -> u64 {
        self.used
    }

    /// What was denied since the last time; a trap that follows is a consequence of it.
    pub(super) fn take_denied(&mut self) -> Option<Denied> {
        self.denied.take()
    }

    /// So many bytes more, and so many linear memories, of what there is for all.
    fn take_shared(&mut self, bytes: u64, memories: u64) -> Result<(), Denied> {
        if let Some(share) = &self.share {
            share.take(bytes, memories)?;
            self.memories += memories;
        }
        Ok(())
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        if let Some(share) = &self.share {
            share.give_back(self.used, self.memories);
        }
    }
}

/// Growth is denied, not trapped: a guest with a garbage collector may cope. Most do not, and their trap counts as a fault of memory.
impl ResourceLimiter for MemoryLimit {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        // It is asked before anybody else looks at what the memory itself may become.
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let wanted = self.used.saturating_add(desired.saturating_sub(current) as u64);
        if wanted > self.limit {
            self.denied = Some(Denied::Memory { wanted, limit: self.limit });
            return Ok(false);
        }
        // Only a new one has nothing, or one that began empty: that counts twice, and there are so many at most.
        let is_new = current == 0 && self.memories < MEMORIES as u64;
        self.denied = self.take_shared(wanted - self.used, u64::from(is_new)).err();
        if self.denied.is_none() {
            self.used = wanted;
        }
        Ok(self.denied.is_none())
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let wanted = self.tables.saturating_add(desired.saturating_sub(current));
        if wanted > TABLE_ELEMENTS {
            self.denied = Some(Denied::Table { wanted });
            return Ok(false);
        }
        self.tables = wanted;
        Ok(true)
    }

    fn instances(&self) -> usize {
        PARTS
    }

    fn tables(&self) -> usize {
        PARTS
    }

    fn memories(&self) -> usize {
        MEMORIES
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use penstock_core::{Kind, ResourceRef};

    use crate::budget::Budget;

    fn plugin() -> ResourceRef {
        ResourceRef::new(Kind::WasmPlugin, "default", "a")
    }

    #[test]
    fn memory_is_counted_over_all_memories() {
        let mut limit = MemoryLimit::new(100);
        assert!(limit.memory_growing(0, 60, None).unwrap());
        assert!(limit.memory_growing(0, 40, None).unwrap());
        assert_eq!(limit.take_denied(), None);
        assert!(!limit.memory_growing(40, 41, None).unwrap());
        assert_eq!(limit.take_denied(), Some(Denied::Memory { wanted: 101, limit: 100 }));
        assert_eq!(limit.take_denied(), None);
    }

    #[test]
    fn memory_is_bounded_over_all_instances() {
        let (budget, plugin) = (Arc::new(Budget::new(Some(600))), plugin());
        let [mut first, mut second] = [(); 2].map(|()| {
            let mut limit = MemoryLimit::new(100);
            limit.share(Share::new(&budget, &plugin));
            limit
        });
        assert!(first.memory_growing(0, 100, None).unwrap());
        assert!(second.memory_growing(0, 50, None).unwrap());
        assert!(!second.memory_growing(50, 51, None).unwrap());
        let denied = second.take_denied().unwrap().to_string();
        assert!(denied.contains("150 bytes of memory are all that this plugin may have now"), "{denied}");
        drop(first);
        assert!(second.memory_growing(50, 100, None).unwrap(), "one is gone");
        drop(second);
        assert_eq!(Share::new(&budget, &plugin).take(150, 2), Ok(()), "all of it was given back");
    }

    #[test]
    fn memories_are_counted_over_all_instances() {
        let (budget, plugin) = (Arc::new(Budget::with(1000, 8)), plugin());
        let mut limit = MemoryLimit::new(100);
        limit.share(Share::new(&budget, &plugin));
        assert!(limit.memory_growing(0, 10, None).unwrap());
        assert!(limit.memory_growing(10, 20, None).unwrap(), "growing makes no new one");
        assert!(limit.memory_growing(0, 10, None).unwrap());
        assert!(!limit.memory_growing(0, 10, None).unwrap());
        let denied = limit.take_denied().unwrap().to_string();
        assert!(denied.contains("2 linear memories are all that this plugin may have now"), "{denied}");
    }

    #[test]
    fn what_a_memory_cannot_become_is_not_counted() {
        let (budget, plugin) = (Arc::new(Budget::new(Some(1000))), plugin());
        let mut limit = MemoryLimit::new(100);
        limit.share(Share::new(&budget, &plugin));
        for _ in 0..2 * MEMORIES {
            assert!(limit.memory_growing(0, 0, Some(0)).unwrap());
            assert!(!limit.memory_growing(0, 50, Some(0)).unwrap());
            assert!(!limit.table_growing(0, 2 * TABLE_ELEMENTS, Some(0)).unwrap());
        }
        assert_eq!((limit.used(), limit.memories, limit.take_denied()), (0, MEMORIES as u64, None));
    }

    #[test]
    fn tables_are_bounded() {
        let mut limit = MemoryLimit::new(0);
        assert!(limit.table_growing(0, TABLE_ELEMENTS, None).unwrap());
        assert!(!limit.table_growing(0, 1, None).unwrap());
        assert_eq!(limit.take_denied(), Some(Denied::Table { wanted: TABLE_ELEMENTS + 1 }));
    }

    #[test]
    fn calls_that_stood_still_count_no_more_than_their_thread_used() {
        let start = look().0;
        let (mut budget, mut spent) = (CpuBudget::default(), Duration::ZERO);
        for _ in 0..1000 {
            budget.reset(TICK);
            budget.on_tick();
            spent += budget.spent();
        }
        assert!(spent > Duration::ZERO);
        assert!(spent <= thread_cpu_time() - start, "{spent:?}");
    }

    #[test]
    fn a_spent_budget_interrupts_and_a_fresh_one_does_not() {
        let mut budget = CpuBudget::default();
        budget.reset(Duration::from_secs(3600));
        assert!(matches!(budget.on_tick(), UpdateDeadline::Continue(1)));
        assert!(matches!(budget.on_tick(), UpdateDeadline::Continue(1)));
        budget.pause();
        assert!(matches!(budget.on_tick(), UpdateDeadline::Continue(1)), "time of others does not count");
        budget.used = Duration::from_secs(3600);
        assert!(matches!(budget.on_tick(), UpdateDeadline::Interrupt), "what was used before a pause does");
        budget.reset(Duration::ZERO);
        assert!(matches!(budget.on_tick(), UpdateDeadline::Interrupt));
    }
}

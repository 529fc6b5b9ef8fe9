//! Waiting with a limit, at the cost of two vector accesses instead of a timer.

use std::{
    cell::RefCell,
    rc::Rc,
    task::{Context, Waker},
    time::Duration,
};

use crate::clock::Clock;

/// Everything of one worker that waits with a limit. The sweep wakes what has waited too long.
#[derive(Debug, Default)]
pub(crate) struct Waiters(RefCell<Slots>);

#[derive(Debug, Default)]
struct Slots {
    entries: Vec<Option<(u64, Waker)>>,
    free: Vec<usize>,
}

impl Waiters {
    /// Wake everything whose time is over.
    pub(crate) fn sweep(&self, now: u64) {
        for (deadline, waker) in self.0.borrow().entries.iter().flatten() {
            if *deadline <= now {
                waker.wake_by_ref();
            }
        }
    }

    fn insert(&self, deadline: u64, waker: Waker) -> usize {
        let mut slots = self.0.borrow_mut();
        if let Some(slot) = slots.free.pop() {
            slots.entries[slot] = Some((deadline, waker));
            return slot;
        }
        slots.entries.push(Some((deadline, waker)));
        slots.entries.len() - 1
    }

    fn remove(&self, slot: usize) {
        let mut slots = self.0.borrow_mut();
        slots.entries[slot] = None;
        slots.free.push(slot);
    }
}

/// One wait. Nothing is registered before [`Patience::is_over`] is asked, and nothing is left when it is dropped or [`Patience::rest`]s.
#[derive(Debug)]
pub(crate) struct Patience {
    waiters: Rc<Waiters>,
    limit: Duration,
    waiting: Option<(usize, u64)>,
}

impl Patience {
    pub(crate) fn new(waiters: &Rc<Waiters>, limit: Duration) -> Self {
        Self { waiters: waiters.clone(), limit, waiting: None }
    }

    /// Ask after each poll that was pending: whether the wait has taken too long. The task is woken when it has.
    pub(crate) fn is_over(&mut self, clock: &Clock, cx: &Context<'_>) -> bool {
        match self.waiting {
            Some((_, deadline)) => deadline <= clock.now(),
            None => {
                let deadline = clock.after(self.limit);
                self.waiting = Some((self.waiters.insert(deadline, cx.waker().clone()), deadline));
                false
            }
        }
    }

    /// What was waited for came; the next wait begins anew.
    pub(crate) fn rest(&mut self) {
        if let Some((slot, _)) = self.waiting.take() {
            self.waiters.remove(slot);
        }
    }
}

impl Drop for Patience {
    fn drop(&mut self) {
        self.rest();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_reused_and_limits_hold() {
        let (waiters, clock) = (Rc::new(Waiters::default()), Clock::default());
        let cx = Context::from_waker(Waker::noop());
        let mut first = Patience::new(&waiters, Duration::from_millis(100));
        assert!(!first.is_over(&clock, &cx));
        let mut second = Patience::new(&waiters, Duration::from_secs(1));
        assert!(!second.is_over(&clock, &cx));
        (0..3).for_each(|_| _ = clock.advance());
        assert!(first.is_over(&clock, &cx));
        assert!(!second.is_over(&clock, &cx));
        first.rest();
        assert!(!first.is_over(&clock, &cx), "a new wait begins now");
        drop((first, second));
        assert_eq!(waiters.0.borrow().free.len(), waiters.0.borrow().entries.len());
    }
}

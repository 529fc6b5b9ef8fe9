//! The instances of one revision on one worker whose hooks answer at once.
//!
//! An exchange with state has an instance for itself as long as there is one to be had: a fault ends the instance and all that is in it. When it
//! is over, the next one gets it. Beyond [`INSTANCES`], or where making one takes longer than an exchange should wait, exchanges share the
//! one with the fewest.

use std::{
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
};

use crate::revision::{Loaded, Warm};

/// Exchanges that one instance keeps at a time, where they share it. A fault ends all of them, so they should not be too many; each instance
/// has a memory of its own, so they should not be too few.
const EXCHANGES: usize = 256;

/// Instances of one revision on one worker that exchanges may keep alive: with their memory at its default limit 1 GiB, at what plugins
/// really take some 60 MiB. Further exchanges get what `failurePolicy` says.
const INSTANCES: usize = 64;

/// Instances that stay when nobody uses them: enough for a steady load, and their memory is not the gateway's for ever after a burst.
pub(super) const KEPT: usize = 8;

/// All of them.
#[derive(Default)]
pub(super) struct Shelf {
    /// With those that take no more exchanges, until their last one is over.
    all: RefCell<Vec<Weak<Live>>>,
    idle: RefCell<Vec<Rc<Live>>>,
    /// Of those in `all`, how many have not faulted.
    alive: Cell<usize>,
}

/// An instance in use.
pub(super) struct Live {
    /// None once it has faulted: exchanges that had state in it keep its name and not its memory.
    pub(super) warm: RefCell<Option<Warm>>,
    /// Bytes of memory with which it takes no more exchanges: one of them could be the last.
    memory: u64,
    exchanges: Cell<usize>,
    /// None when nobody wants the revision any more.
    shelf: Weak<Shelf>,
}

impl Shelf {
    /// Put a new one into use.
    pub(super) fn add(self: &Rc<Self>, warm: Warm, revision: &Loaded) -> Rc<Live> {
        let made_with = warm.instance.memory();
        let memory = made_with + revision.limits().memory.saturating_sub(made_with) / 4 * 3;
        let exchanges = Cell::default();
        let live = Rc::new(Live { warm: RefCell::new(Some(warm)), memory, exchanges, shelf: Rc::downgrade(self) });
        let mut all = self.all.borrow_mut();
        all.retain(|live| live.strong_count() > 0);
        all.push(Rc::downgrade(&live));
        self.alive.set(self.alive.get() + 1);
        live
    }

    pub(super) fn has_room(&self) -> bool {
        self.alive.get() < INSTANCES
    }

    /// One that no exchange is in.
    pub(super) fn idle(&self) -> Option<Rc<Live>> {
        self.idle.borrow_mut().pop()
    }

    /// The one with the fewest exchanges, if it takes one more.
    pub(super) fn least_busy(&self) -> Option<Rc<Live>> {
        let all = self.all.borrow();
        let open = all.iter().filter_map(Weak::upgrade).filter(|live| !live.has_grown());
        open.min_by_key(|live| live.exchanges.get()).filter(|live| live.exchanges.get() < EXCHANGES)
    }
}

impl Live {
    pub(super) fn is_spent(&self) -> bool {
        self.warm.borrow().is_none()
    }

    /// An exchange begins in it.
    pub(super) fn enter(&self) {
        self.exchanges.set(self.exchanges.get() + 1);
    }

    /// An exchange is over. After the last one it waits for the next, or goes.
    pub(super) fn leave(self: &Rc<Self>) {
        self.exchanges.set(self.exchanges.get().saturating_sub(1));
        if self.exchanges.get() == 0
            && !self.has_grown()
            && let Some(shelf) = self.shelf.upgrade()
            && let mut idle = shelf.idle.borrow_mut()
            && idle.len() < KEPT
        {
            idle.push(Rc::clone(self));
        }
    }

    /// It has faulted: its store refuses every call, so it goes.
    pub(super) fn discard(&self) {
        if self.warm.take().is_some()
            && let Some(shelf) = self.shelf.upgrade()
        {
            shelf.alive.set(shelf.alive.get().saturating_sub(1));
        }
    }

    /// Whether it takes no more exchanges, because of its memory or because it is gone.
    fn has_grown(&self) -> bool {
        self.warm.borrow().as_ref().is_none_or(|warm| warm.instance.memory() > self.memory)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.discard();
    }
}

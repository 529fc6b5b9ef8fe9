//! What waits for a thread, by namespace: whatever one namespace has many of, or what takes it long, the others get their turn.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

/// In the order in which it came, but for the namespaces.
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    /// How many of one namespace may be out at the same time. Less than there are threads, so that one is free for the others.
    most: usize,
}

struct State<T> {
    waiting: VecDeque<(Arc<str>, T)>,
    /// How many of each namespace are out.
    out: HashMap<Arc<str>, usize>,
    closed: bool,
}

/// What was taken from the queue, until it is done.
pub(super) struct Turn<'a, T> {
    pub(super) item: Option<T>,
    queue: &'a Queue<T>,
    namespace: Arc<str>,
}

impl<T> Queue<T> {
    pub(super) fn new(most: usize) -> Self {
        let state = State { waiting: VecDeque::new(), out: HashMap::new(), closed: false };
        Self { state: Mutex::new(state), changed: Condvar::new(), most }
    }

    pub(super) fn push(&self, namespace: &Arc<str>, item: T) {
        self.state().waiting.push_back((Arc::clone(namespace), item));
        self.changed.notify_one();
    }

    /// Nothing will be pushed any more.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }

    /// The next one, of the namespace that has fewest out; none when the queue is closed. Waits.
    pub(super) fn next(&self) -> Option<Turn<'_, T>> {
        let mut state = self.state();
        while !state.closed {
            if let Some((namespace, item)) = state.pop(self.most) {
                return Some(Turn { item: Some(item), queue: self, namespace });
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        None
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    fn pop(&mut self, most: usize) -> Option<(Arc<str>, T)> {
        let out = |namespace: &Arc<str>| self.out.get(namespace).copied().unwrap_or(0);
        let waiting = self.waiting.iter().enumerate().map(|(index, (namespace, _))| (out(namespace), index));
        let (_, index) = waiting.filter(|(out, _)| *out < most).min()?;
        let next = self.waiting.remove(index)?;
        *self.out.entry(Arc::clone(&next.0)).or_default() += 1;
        Some(next)
    }
}

impl<T> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        let mut state = self.queue.state();
        if let Some(out) = state.out.get_mut(&self.namespace) {
            *out -= 1;
            if *out == 0 {
                state.out.remove(&self.namespace);
            }
        }
        drop(state);
        self.queue.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(items: &[(&str, u32)]) -> Queue<u32> {
        let queue = Queue::new(2);
        items.iter().for_each(|(namespace, item)| queue.push(&Arc::from(*namespace), *item));
        queue
    }

    #[test]
    fn one_namespace_does_not_keep_the_others_waiting() {
        let queue = queue(&[("a", 1), ("a", 2), ("a", 3), ("b", 4), ("b", 5), ("c", 6)]);
        let mut turns: Vec<_> = (0..5).map(|_| queue.next().unwrap()).collect();
        let order: Vec<_> = turns.iter_mut().filter_map(|turn| turn.item.take()).collect();
        assert_eq!(order, [1, 4, 6, 2, 5]);
        // `a` has two out, which is what it may have; when one of them is done, the last one gets its turn.
        assert!(queue.state().pop(2).is_none());
        turns.remove(0);
        assert_eq!(queue.next().unwrap().item, Some(3));
    }

    #[test]
    fn those_of_one_namespace_come_in_their_order() {
        let queue = queue(&[("a", 1), ("a", 2), ("a", 3)]);
        let order: Vec<_> = (0..3).map(|_| queue.next().unwrap().item.take()).collect();
        assert_eq!(order, [Some(1), Some(2), Some(3)]);
        assert!(queue.state().out.is_empty());
    }

    #[test]
    fn who_waits_is_woken() {
        let queue = Queue::new(1);
        let namespace = Arc::from("a");
        std::thread::scope(|threads| {
            let waiter = threads.spawn(|| (queue.next().unwrap().item.take(), queue.next().is_none()));
            queue.push(&namespace, 1);
            while !queue.state().waiting.is_empty() {
                std::thread::yield_now();
            }
            queue.close();
            assert_eq!(waiter.join().unwrap(), (Some(1), true));
        });
    }
}

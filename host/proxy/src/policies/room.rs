//! Bytes of bodies that wait in stages: what plugins hold back, and what is buffered for them. A plugin's own limit is for one body; how many
//! there are is for clients to say, so there is a limit for all of them together.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// What there is for all.
#[derive(Debug)]
pub(crate) struct Rooms {
    most: u64,
    taken: AtomicU64,
}

impl Rooms {
    pub(crate) fn new(most: u64) -> Self {
        Self { most, taken: AtomicU64::new(0) }
    }
}

/// What one stage has of it.
#[derive(Debug, Default)]
pub(super) struct Room(Option<(Arc<Rooms>, u64)>);

/// There is no more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoRoom;

impl Room {
    /// So many bytes wait now.
    pub(super) fn set(&mut self, rooms: &Arc<Rooms>, bytes: usize) -> Result<(), NoRoom> {
        let bytes = bytes as u64;
        if bytes == 0 {
            *self = Self::default();
            return Ok(());
        }
        let (rooms, mine) = self.0.get_or_insert_with(|| (Arc::clone(rooms), 0));
        let within = |taken: u64| Some(taken - *mine + bytes).filter(|taken| *taken <= rooms.most || bytes <= *mine);
        rooms.taken.fetch_update(Relaxed, Relaxed, within).map_err(|_| NoRoom)?;
        *mine = bytes;
        Ok(())
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some((rooms, mine)) = &self.0 {
            rooms.taken.fetch_sub(*mine, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_gives_back_another_may_have() {
        let rooms = Arc::new(Rooms::new(100));
        let [mut first, mut second] = <[Room; 2]>::default();
        assert_eq!(first.set(&rooms, 60), Ok(()));
        assert_eq!(second.set(&rooms, 40), Ok(()));
        assert_eq!(second.set(&rooms, 41), Err(NoRoom));
        assert_eq!(first.set(&rooms, 59), Ok(()));
        assert_eq!(second.set(&rooms, 41), Ok(()));
        assert_eq!(first.set(&rooms, 0), Ok(()));
        assert_eq!(second.set(&rooms, 100), Ok(()));
        drop((first, second));
        assert_eq!(rooms.taken.load(Relaxed), 0);
    }
}

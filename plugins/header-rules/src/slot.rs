//! The headers that the rules of one direction touch.

/// A header that some rule names, as an index into [`Slots`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot(usize);

impl Slot {
    /// In the order in which the headers were first named.
    pub(crate) fn position(self) -> usize {
        self.0
    }
}

/// Where a header stands in the plan. Filled while rules are compiled, in the order in which they will run.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    slots: Vec<State>,
    reads: Vec<String>,
    writes: Vec<String>,
    tracked: usize,
}

#[derive(Debug)]
struct State {
    name: String,
    /// Index into the values that the hook receives.
    read: Option<usize>,
    /// Index by which edits name the header.
    write: Option<u32>,
    /// Some step reads what an earlier one may have written: index into the values that a pass keeps.
    tracked: Option<usize>,
}

impl Slots {
    /// A step reads the header.
    pub(crate) fn read(&mut self, name: &str) -> Slot {
        let slot = self.slot(name);
        let state = &mut self.slots[slot.0];
        if state.read.is_none() {
            state.read = Some(self.reads.len());
            self.reads.push(state.name.clone());
        }
        if state.write.is_some() && state.tracked.is_none() {
            state.tracked = Some(self.tracked);
            self.tracked += 1;
        }
        slot
    }

    /// A step writes the header.
    pub(crate) fn write(&mut self, name: &str) -> Slot {
        let slot = self.slot(name);
        let state = &mut self.slots[slot.0];
        if state.write.is_none() {
            state.write = u32::try_from(self.writes.len()).ok();
            self.writes.push(state.name.clone());
        }
        slot
    }

    fn slot(&mut self, name: &str) -> Slot {
        Slot(self.slots.iter().position(|state| state.name == name).unwrap_or_else(|| {
            self.slots.push(State { name: name.to_owned(), read: None, write: None, tracked: None });
            self.slots.len() - 1
        }))
    }

    /// The names to be read, in the order of [`Slots::read_index`].
    pub(crate) fn reads(&self) -> &[String] {
        &self.reads
    }

    /// The names to be written, in the order of [`Slots::write_index`].
    pub(crate) fn writes(&self) -> &[String] {
        &self.writes
    }

    /// How many headers a pass must keep the state of.
    pub(crate) fn tracked(&self) -> usize {
        self.tracked
    }

    pub(crate) fn read_index(&self, slot: Slot) -> usize {
        self.slots[slot.0].read.expect("a step that reads has declared it")
    }

    pub(crate) fn write_index(&self, slot: Slot) -> u32 {
        self.slots[slot.0].write.expect("a step that writes has declared it")
    }

    /// The header whose state has this index.
    pub(crate) fn tracked_slot(&self, index: usize) -> Slot {
        let slot = self.slots.iter().position(|state| state.tracked == Some(index));
        Slot(slot.expect("each index was given to a slot"))
    }

    pub(crate) fn tracked_index(&self, slot: Slot) -> Option<usize> {
        self.slots[slot.0].tracked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_read_after_it_was_written_is_tracked() {
        let mut slots = Slots::default();
        let a = slots.read("a");
        slots.write("a");
        let b = slots.write("b");
        assert_eq!(slots.tracked(), 0);
        slots.read("b");
        assert_eq!((slots.tracked_index(a), slots.tracked_index(b)), (None, Some(0)));
        assert_eq!((slots.reads(), slots.writes()), (&["a".to_owned(), "b".to_owned()][..], slots.writes()));
        assert_eq!(slots.write_index(b), 1);
    }
}

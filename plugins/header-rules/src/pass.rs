//! One message on its way through the rules.

use std::cell::Cell;

use penstock_plugin::{Recorder, Request, Response, Values, extract::pattern::Effort};

use crate::slot::{Slot, Slots};

/// Bytes of values that the rules make of one message, and changes: the gateway takes 256 KiB and 1024 of each answer, and would refuse more as
/// a fault of the plugin, for whatever a client has sent.
const MOST_BYTES: usize = 192 << 10;
const MOST_EDITS: usize = 1000;

/// What rules need of a request or a response.
pub(crate) trait Message {
    fn status(&self) -> u16;
    fn read(&self, index: usize) -> Values<'_>;
    fn edits(&self) -> &Recorder<'_>;
    fn effort(&self) -> &Effort;
}

/// Where a step finds a header.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Place {
    /// In the message at hand.
    Own(Slot),
    /// In the request, while the message at hand is its response.
    Carried(Slot),
}

/// One message on its way through the rules.
pub(crate) struct Pass<'m, M> {
    message: &'m M,
    slots: &'m Slots,
    /// Where the values of the request begin among those of a response.
    carried: usize,
    /// What has become of headers that a later step reads. None: as they arrived.
    now: Vec<Option<Now>>,
    /// Bytes of values that may still be made. None: they were not enough.
    room: Cell<Option<usize>>,
}

/// A header that steps have changed. The gateway hears of it at the end, once.
#[derive(Debug)]
struct Now {
    values: Vec<Vec<u8>>,
    /// How many of them the message has already: only what follows is to be added. None: all are new.
    kept: Option<usize>,
}

impl<'m, M: Message> Pass<'m, M> {
    pub(crate) fn new(message: &'m M, slots: &'m Slots, carried: usize) -> Self {
        let now = (0..slots.tracked()).map(|_| None).collect();
        Self { message, slots, carried, now, room: Cell::new(Some(MOST_BYTES)) }
    }

    pub(crate) fn status(&self) -> u16 {
        self.message.status()
    }

    pub(crate) fn effort(&self) -> &Effort {
        self.message.effort()
    }

    /// Whether the message is more than the rules can look at or write: what they have done so far may not be what they mean.
    pub(crate) fn is_spent(&self) -> bool {
        self.room.get().is_none() || self.effort().is_spent()
    }

    /// Whether a value of so many bytes can still be made. If not, the pass is over.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        if self.room.get().is_none_or(|room| room < bytes) {
            self.room.set(None);
        }
        self.room.get().is_some()
    }

    /// The values as the steps so far have left them.
    pub(crate) fn values(&self, place: Place) -> Values<'_> {
        match place {
            Place::Own(slot) => match self.slots.tracked_index(slot).and_then(|index| self.now[index].as_ref()) {
                Some(now) => now.values.as_slice().into(),
                None => self.message.read(self.slots.read_index(slot)),
            },
            // Carried slots are only ever read, so they stand in the order in which they were declared.
            Place::Carried(slot) => self.message.read(self.carried + slot.position()),
        }
    }

    pub(crate) fn set(&mut self, slot: Slot, value: Vec<u8>) {
        self.replace(slot, vec![value]);
    }

    pub(crate) fn append(&mut self, slot: Slot, value: Vec<u8>) {
        if !self.take(&value) {
            return;
        }
        match self.slots.tracked_index(slot) {
            Some(index) => self.now(slot, index).values.push(value),
            None => self.message.edits().append_known(self.slots.write_index(slot), value),
        }
    }

    pub(crate) fn remove(&mut self, slot: Slot) {
        self.replace(slot, Vec::new());
    }

    /// Replaces all values by these.
    pub(crate) fn replace(&mut self, slot: Slot, values: Vec<Vec<u8>>) {
        if !values.iter().all(|value| self.take(value)) {
            return;
        }
        match self.slots.tracked_index(slot) {
            Some(index) => self.now[index] = Some(Now { values, kept: None }),
            None => self.write(slot, values),
        }
    }

    /// Tell the gateway what has become of headers that several steps have changed. False: of too many, so that it was told of nothing more.
    pub(crate) fn finish(mut self) -> bool {
        let now = std::mem::take(&mut self.now);
        let changed =
            now.into_iter().enumerate().filter_map(|(index, now)| Some((self.slots.tracked_slot(index), now?)));
        for (slot, Now { mut values, kept }) in changed {
            match kept {
                Some(kept) => {
                    let index = self.slots.write_index(slot);
                    values.drain(kept..).for_each(|value| self.message.edits().append_known(index, value));
                }
                None => self.write(slot, values),
            }
        }
        !self.is_spent() && self.message.edits().count() <= MOST_EDITS
    }

    fn take(&self, value: &[u8]) -> bool {
        let fits = self.has_room(value.len());
        self.room.set(self.room.get().map(|room| room - value.len()));
        fits
    }

    fn write(&self, slot: Slot, values: Vec<Vec<u8>>) {
        let (edits, index) = (self.message.edits(), self.slots.write_index(slot));
        let mut values = values.into_iter();
        match values.next() {
            Some(first) => edits.set_known(index, first),
            None => edits.remove_known(index),
        }
        values.for_each(|value| edits.append_known(index, value));
    }

    fn now(&mut self, slot: Slot, index: usize) -> &mut Now {
        let (message, slots) = (self.message, self.slots);
        self.now[index].get_or_insert_with(|| {
            let values: Vec<_> = message.read(slots.read_index(slot)).iter().map(<[u8]>::to_vec).collect();
            Now { kept: Some(values.len()), values }
        })
    }
}

impl Message for Request<'_> {
    /// A request has none; the compiler refuses steps that ask for it.
    fn status(&self) -> u16 {
        0
    }

    fn read(&self, index: usize) -> Values<'_> {
        Request::read(self, index)
    }

    fn edits(&self) -> &Recorder<'_> {
        self
    }

    fn effort(&self) -> &Effort {
        Request::effort(self)
    }
}

impl Message for Response<'_> {
    fn status(&self) -> u16 {
        Response::status(self)
    }

    fn read(&self, index: usize) -> Values<'_> {
        Response::read(self, index)
    }

    fn edits(&self) -> &Recorder<'_> {
        self
    }

    fn effort(&self) -> &Effort {
        Response::effort(self)
    }
}

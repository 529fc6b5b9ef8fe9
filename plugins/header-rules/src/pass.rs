//! One message on its way through the rules.

use penstock_plugin::{Recorder, Request, Response, Values};

use crate::slot::{Slot, Slots};

/// What rules need of a request or a response.
pub(crate) trait Message {
    fn status(&self) -> u16;
    fn read(&self, index: usize) -> Values<'_>;
    fn edits(&self) -> &Recorder<'_>;
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
    now: Vec<Option<Vec<Vec<u8>>>>,
}

impl<'m, M: Message> Pass<'m, M> {
    pub(crate) fn new(message: &'m M, slots: &'m Slots, carried: usize) -> Self {
        Self { message, slots, carried, now: vec![None; slots.tracked()] }
    }

    pub(crate) fn status(&self) -> u16 {
        self.message.status()
    }

    /// The values as the steps so far have left them.
    pub(crate) fn values(&self, place: Place) -> Values<'_> {
        match place {
            Place::Own(slot) => match self.slots.tracked_index(slot).and_then(|index| self.now[index].as_deref()) {
                Some(values) => values.into(),
                None => self.message.read(self.slots.read_index(slot)),
            },
            // Carried slots are only ever read, so they stand in the order in which they were declared.
            Place::Carried(slot) => self.message.read(self.carried + slot.position()),
        }
    }

    pub(crate) fn set(&mut self, slot: Slot, value: Vec<u8>) {
        self.track(slot, |_| vec![value.clone()]);
        self.message.edits().set_known(self.slots.write_index(slot), value);
    }

    pub(crate) fn append(&mut self, slot: Slot, value: Vec<u8>) {
        self.track(slot, |mut values| {
            values.push(value.clone());
            values
        });
        self.message.edits().append_known(self.slots.write_index(slot), value);
    }

    pub(crate) fn remove(&mut self, slot: Slot) {
        self.track(slot, |_| Vec::new());
        self.message.edits().remove_known(self.slots.write_index(slot));
    }

    /// Replaces all values by these, of which there must be one.
    pub(crate) fn replace(&mut self, slot: Slot, values: impl IntoIterator<Item = Vec<u8>>) {
        for (index, value) in values.into_iter().enumerate() {
            if index == 0 { self.set(slot, value) } else { self.append(slot, value) }
        }
    }

    fn track(&mut self, slot: Slot, change: impl FnOnce(Vec<Vec<u8>>) -> Vec<Vec<u8>>) {
        let Some(index) = self.slots.tracked_index(slot) else { return };
        let before = self.now[index].take().unwrap_or_else(|| {
            let arrived = self.message.read(self.slots.read_index(slot));
            arrived.iter().map(<[u8]>::to_vec).collect()
        });
        self.now[index] = Some(change(before));
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
}

//! Held mail: envelopes for inboxes whose home cannot be reached, durable at the server that answers for them.
//!
//! This is the list of what is held: which numbers for which device, and which of them are on their way again. The bytes
//! are in the store's table of that name. Invariants: numbers only grow, so that those of one device are in the order in
//! which they were taken; while something is held for a device, newer ones queue behind it; what is held stays so until
//! somebody has it durably, or the recipient has acknowledged it.

use std::collections::BTreeMap;

use crate::metrics;
use crate::model::ids::{Millis, NodeId};
use crate::model::keyed::HashMap;

/// Bytes held for one device; a single envelope is always taken.
const MAX_BYTES_EACH: u64 = 16 << 20;
/// Bytes held in all.
const MAX_BYTES: u64 = 512 << 20;
/// Envelopes of one device that are on their way again at a time.
const WINDOW: usize = 64;
/// After one could not go on, nothing of its device is tried for so long, in milliseconds.
const PAUSE_MS: u64 = 1_000;

#[derive(Debug, Default)]
struct Queue {
    /// By number: bytes, and whether it is on its way.
    waiting: BTreeMap<u64, (u64, Leg)>,
    bytes: u64,
    pause_until: Millis,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leg {
    /// It is not durable yet.
    Unwritten,
    Waits,
    OnItsWay,
}

/// See the module's header.
#[derive(Debug, Default)]
pub(super) struct Held {
    by_device: HashMap<NodeId, Queue>,
    /// Whose each number is.
    owners: HashMap<u64, NodeId>,
    bytes: u64,
    last: u64,
}

impl Held {
    /// What the store has.
    pub(super) fn restore(&mut self, device: NodeId, number: u64, bytes: u64) {
        self.last = self.last.max(number);
        self.insert(device, number, bytes, Leg::Waits);
    }

    fn insert(&mut self, device: NodeId, number: u64, bytes: u64, leg: Leg) {
        self.owners.insert(number, device.clone());
        let queue = self.by_device.entry(device).or_default();
        queue.waiting.insert(number, (bytes, leg));
        queue.bytes += bytes;
        self.bytes += bytes;
        self.gauge();
    }

    fn gauge(&self) {
        metrics::HELD_ENVELOPES.set(self.owners.len() as i64);
        metrics::HELD_BYTES.set(self.bytes as i64);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    pub(super) fn holds(&self, device: &NodeId) -> bool {
        self.by_device.contains_key(device.as_str())
    }

    /// A number for one more; `None` where there is no room.
    pub(super) fn take(&mut self, device: &NodeId, bytes: u64) -> Option<u64> {
        let of_device = self.by_device.get(device.as_str()).map_or(0, |queue| queue.bytes);
        if (of_device > 0 && of_device + bytes > MAX_BYTES_EACH) || self.bytes + bytes > MAX_BYTES {
            metrics::HELD_REFUSED.inc();
            return None;
        }
        self.last += 1;
        self.insert(device.clone(), self.last, bytes, Leg::Unwritten);
        Some(self.last)
    }

    /// It is here no more; whose it was.
    pub(super) fn remove(&mut self, number: u64) -> Option<NodeId> {
        let device = self.owners.remove(&number)?;
        if let Some(queue) = self.by_device.get_mut(device.as_str()) {
            let bytes = queue.waiting.remove(&number).map_or(0, |(bytes, _)| bytes);
            queue.bytes -= bytes;
            self.bytes -= bytes;
            if queue.waiting.is_empty() {
                self.by_device.remove(device.as_str());
            }
        }
        self.gauge();
        Some(device)
    }

    fn queue(&mut self, number: u64) -> Option<&mut Queue> {
        self.by_device.get_mut(self.owners.get(&number)?.as_str())
    }

    /// It is durable: it may go on.
    pub(super) fn written(&mut self, number: u64) {
        if let Some((_, leg)) = self.queue(number).and_then(|queue| queue.waiting.get_mut(&number)) {
            *leg = Leg::Waits;
        }
    }

    /// It could not go on: it waits, and all of its device with it.
    pub(super) fn pause(&mut self, number: u64, now: Millis) {
        let Some(queue) = self.queue(number) else { return };
        if let Some((_, leg)) = queue.waiting.get_mut(&number) {
            *leg = Leg::Waits;
        }
        queue.pause_until = now.plus(PAUSE_MS);
    }

    /// The device is there: what is held for it may go on at once. Whether there is anything.
    pub(super) fn resume(&mut self, device: &NodeId) -> bool {
        let queue = self.by_device.get_mut(device.as_str());
        queue.map(|queue| queue.pause_until = Millis(0)).is_some()
    }

    /// Whether all that came before it for its device is on its way; false also for what is here no more.
    pub(super) fn may_go_on(&mut self, number: u64) -> bool {
        let Some(queue) = self.queue(number) else { return false };
        queue.waiting.range(..number).all(|(_, (_, leg))| *leg == Leg::OnItsWay)
    }

    /// The devices with something that might go on now.
    pub(super) fn due(&self, now: Millis) -> Vec<NodeId> {
        let is_due = |queue: &Queue| {
            now >= queue.pause_until && queue.waiting.first_key_value().is_some_and(|(_, (_, leg))| *leg == Leg::Waits)
        };
        self.by_device.iter().filter(|(_, queue)| is_due(queue)).map(|(device, _)| device.clone()).collect()
    }

    /// The next numbers of `device`, in order: they are on their way from now on.
    pub(super) fn send(&mut self, device: &NodeId) -> Vec<u64> {
        let Some(queue) = self.by_device.get_mut(device.as_str()) else { return Vec::new() };
        let waiting = queue.waiting.iter_mut().take(WINDOW).take_while(|(_, (_, leg))| *leg == Leg::Waits);
        waiting
            .map(|(number, (_, leg))| {
                *leg = Leg::OnItsWay;
                *number
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> NodeId {
        text.parse().unwrap()
    }

    fn hold(held: &mut Held, device: &str, bytes: u64) -> u64 {
        let number = held.take(&id(device), bytes).unwrap();
        held.written(number);
        number
    }

    #[test]
    fn what_is_not_durable_does_not_go_on() {
        let mut held = Held::default();
        let first = held.take(&id("d"), 10).unwrap();
        hold(&mut held, "d", 10);
        assert!(held.due(Millis(0)).is_empty() && held.send(&id("d")).is_empty());
        held.written(first);
        assert_eq!(held.send(&id("d")).len(), 2);
    }

    #[test]
    fn a_window_goes_in_order_and_the_next_when_it_has_gone() {
        let mut held = Held::default();
        let numbers: Vec<u64> = (0..100).map(|_| hold(&mut held, "d", 10)).collect();
        assert_eq!(held.due(Millis(0)), [id("d")]);
        assert_eq!(held.send(&id("d")), numbers[..WINDOW]);
        assert!(held.due(Millis(0)).is_empty() && held.send(&id("d")).is_empty());
        for number in &numbers[..WINDOW] {
            assert_eq!(held.remove(*number), Some(id("d")));
        }
        assert_eq!(held.send(&id("d")), numbers[WINDOW..]);
    }

    #[test]
    fn what_could_not_go_on_waits_and_keeps_its_place() {
        let mut held = Held::default();
        let (first, second) = (hold(&mut held, "d", 10), hold(&mut held, "d", 10));
        held.send(&id("d"));
        assert!(held.may_go_on(first) && held.may_go_on(second));
        held.pause(first, Millis(5));
        assert!(held.may_go_on(first) && !held.may_go_on(second));
        held.pause(second, Millis(5));
        assert!(held.due(Millis(5)).is_empty());
        assert_eq!(held.due(Millis(5 + PAUSE_MS)), [id("d")]);
        assert!(held.resume(&id("d")) && !held.resume(&id("other")));
        assert_eq!(held.due(Millis(5)), [id("d")]);
        assert_eq!(held.send(&id("d")), [first, second]);
    }

    #[test]
    fn what_is_held_is_bounded_for_each_and_in_all() {
        let mut held = Held::default();
        assert!(held.take(&id("big"), MAX_BYTES_EACH + 1).is_some(), "one is always taken");
        assert_eq!(held.take(&id("big"), 1), None);
        assert!(held.take(&id("small"), 1).is_some());
        while held.bytes + MAX_BYTES_EACH <= MAX_BYTES {
            assert!(held.take(&id(&format!("d{}", held.last)), MAX_BYTES_EACH).is_some());
        }
        assert_eq!(held.take(&id("last"), MAX_BYTES_EACH), None);
    }

    #[test]
    fn after_a_restart_numbers_go_on() {
        let mut held = Held::default();
        held.restore(id("d"), 7, 10);
        held.restore(id("e"), 3, 10);
        assert!(held.holds(&id("d")));
        assert_eq!(held.take(&id("e"), 1), Some(8));
        assert_eq!((held.remove(7), held.remove(7)), (Some(id("d")), None));
        assert!(!held.holds(&id("d")) && !held.is_empty());
        held.written(8);
        assert_eq!(held.send(&id("e")), [3, 8]);
    }
}

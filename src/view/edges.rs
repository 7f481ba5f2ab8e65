//! The edges of a device at whatever server: counted or closed for an app or an admin.

use std::sync::{Mutex, PoisonError};

use tokio::sync::oneshot;

use super::View;
use crate::model::codes::Close;
use crate::model::frames::{Dispatch, EdgeWish};
use crate::model::ids::NodeId;
use crate::model::keyed::HashMap;

/// Questions that may be open; those of people who do not wait any more are forgotten first.
const MAX_OPEN: usize = 10_000;

struct Open<T> {
    last: u64,
    asked: HashMap<u64, (NodeId, oneshot::Sender<T>)>,
}

/// What other servers were asked and have not answered.
pub(super) struct Asked<T>(Mutex<Open<T>>);

impl<T> Default for Asked<T> {
    fn default() -> Self {
        Self(Mutex::new(Open { last: 0, asked: HashMap::default() }))
    }
}

impl<T> Asked<T> {
    /// A number for the question; `None` where too many are open.
    pub(super) fn ask(&self, server: &NodeId) -> Option<(u64, oneshot::Receiver<T>)> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if open.asked.len() >= MAX_OPEN / 2 {
            open.asked.retain(|_, (_, answer)| !answer.is_closed());
        }
        if open.asked.len() >= MAX_OPEN {
            return None;
        }
        let (sender, answer) = oneshot::channel();
        open.last += 1;
        let number = open.last;
        open.asked.insert(number, (server.clone(), sender));
        Some((number, answer))
    }

    pub(super) fn answered(&self, from: &NodeId, number: u64, answer: T) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if open.asked.get(&number).is_some_and(|(server, _)| server == from)
            && let Some((_, waiting)) = open.asked.remove(&number)
        {
            // The request may have stopped waiting.
            let _ = waiting.send(answer);
        }
    }
}

impl View {
    /// How many edges `device` has here, or had, as they are closed.
    pub fn edges_here(&self, device: &NodeId, wish: EdgeWish) -> u64 {
        let Some(device) = self.devices.get(device.as_str()) else { return 0 };
        let edges = match wish {
            EdgeWish::Count => device.connections().len(),
            EdgeWish::Close => device.stop_all(Close::DISCONNECTED),
        };
        edges as u64
    }

    /// As [`Self::edges_here`], of another server; `None` where it cannot be asked. It may never answer.
    pub fn ask_edges(&self, server: &NodeId, device: &NodeId, wish: EdgeWish) -> Option<oneshot::Receiver<u64>> {
        let (number, answer) = self.edges.ask(server)?;
        self.mesh.send(server, &Dispatch::Edges { number, device: device.clone(), wish }).ok()?;
        Some(answer)
    }

    pub(super) fn tell_edges(&self, from: &NodeId, number: u64, device: &NodeId, wish: EdgeWish) {
        let edges = self.edges_here(device, wish);
        // Whoever cannot be reached stops waiting by itself.
        let _ = self.mesh.send(from, &Dispatch::EdgesAre { number, edges });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_server_asked_answers_and_nobody_waits_in_vain_for_room() {
        let (there, other): (NodeId, NodeId) = ("there".parse().unwrap(), "other".parse().unwrap());
        let asked = Asked::default();
        let (number, mut answer) = asked.ask(&there).unwrap();
        asked.answered(&other, number, 7);
        assert!(answer.try_recv().is_err());
        asked.answered(&there, number, 2);
        asked.answered(&there, number, 3);
        assert_eq!(answer.try_recv(), Ok(2));
        let kept: Vec<_> = (0..MAX_OPEN).filter_map(|_| asked.ask(&there)).collect();
        assert_eq!(kept.len(), MAX_OPEN);
        assert!(asked.ask(&there).is_none());
        drop(kept);
        assert!(asked.ask(&there).is_some());
    }
}

//! What a lane knows of one envelope, and how its edges are: for people who look for something. Changes nothing.

use super::super::custody::Outcome;
use super::super::ids::{ConnectionId, NodeId};
use super::super::outbox::{Custody, Stage, Wanted};
use super::super::seen::Fate;
use super::Lane;
use super::catch_up::Mode;
use super::way::Pace;

/// Where an envelope is, as far as this lane knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sighting {
    /// In the outbox of an edge.
    Outbox { connection: ConnectionId, stage: Stage, custody: Custody },
    /// It was sent to this server, which has not said what became of it.
    Abroad { server: NodeId },
    /// It was taken and is not settled: it is on its way into the inbox.
    Pending,
    /// Remembered for a few minutes.
    Settled(Outcome),
}

/// How one edge is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EdgeState {
    pub connection: ConnectionId,
    /// Of its attachment.
    pub number: u64,
    /// `moving`, `stalled` or `leaving`.
    pub pace: &'static str,
    /// Envelopes that wait for the socket.
    pub waiting: usize,
    /// Envelopes that are written and not acknowledged.
    pub unacknowledged: usize,
    pub bytes: usize,
}

/// How a lane is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneState {
    pub edges: Vec<EdgeState>,
    /// It reads the inbox before anything newer goes out.
    pub catches_up: bool,
    /// The server that serves the device, where that is another one; with what was sent there and is not answered for.
    pub abroad: Option<(NodeId, usize, usize)>,
}

impl<T> Lane<T> {
    /// Takes as long as what is in the outboxes.
    pub fn trace(&self, wanted: Wanted<'_>) -> Vec<Sighting> {
        let mut found = Vec::new();
        for edge in &self.edges {
            let connection = edge.connection;
            let stages = edge.outbox.stages(wanted).into_iter();
            found.extend(stages.map(|(stage, custody)| Sighting::Outbox { connection, stage, custody }));
        }
        if let Some(place) = self.elsewhere.has_sent(wanted) {
            found.push(Sighting::Abroad { server: place.server.clone() });
        }
        if found.is_empty() {
            found.extend(self.seen.fate(wanted.key).map(|fate| match fate {
                Fate::Pending => Sighting::Pending,
                Fate::Settled(outcome) => Sighting::Settled(outcome),
            }));
        }
        found
    }

    pub fn state(&self) -> LaneState {
        let edge = |edge: &super::way::Edge<T>| {
            let (waiting, unacknowledged) = edge.outbox.counts();
            EdgeState {
                connection: edge.connection,
                number: edge.options.number,
                pace: match edge.pace {
                    Pace::Moving => "moving",
                    Pace::Stalled => "stalled",
                    Pace::Leaving => "leaving",
                },
                waiting,
                unacknowledged,
                bytes: edge.outbox.bytes(),
            }
        };
        LaneState {
            edges: self.edges.iter().map(edge).collect(),
            catches_up: matches!(self.mode, Mode::CatchUp { .. }),
            abroad: self.elsewhere.level(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::seen::Key;
    use super::super::tests::{Bench, NEW, OLD, auto, item};
    use super::*;

    /// As sender and id name it.
    fn trace(bench: &Bench, number: u32) -> Vec<Sighting> {
        let (sender, id) = ("a".parse().unwrap(), number.to_string().parse().unwrap());
        bench.lane.trace(Wanted { key: Key(number.into()), sender: &sender, id: &id })
    }

    fn in_outbox(connection: ConnectionId, stage: Stage) -> Vec<Sighting> {
        vec![Sighting::Outbox { connection, stage, custody: Custody::Own }]
    }

    #[test]
    fn an_envelope_is_followed_from_the_queue_to_the_end() {
        let mut bench = Bench::live();
        assert_eq!(trace(&bench, 1), []);
        bench.offer(1);
        assert_eq!(trace(&bench, 1), in_outbox(OLD, Stage::Waits));
        let state = bench.lane.state();
        assert_eq!((state.edges[0].waiting, state.edges[0].unacknowledged, state.edges[0].pace), (1, 0, "moving"));
        bench.take(OLD);
        assert_eq!(trace(&bench, 1), in_outbox(OLD, Stage::Written));
        bench.attach(NEW, auto());
        assert_eq!(trace(&bench, 1), in_outbox(NEW, Stage::Waits), "sent again on the new edge");
        bench.detach(NEW);
        bench.detach(OLD);
        assert_eq!(trace(&bench, 1), [Sighting::Pending], "on its way into the inbox");
        bench.store();
        assert_eq!(trace(&bench, 1), [Sighting::Settled(Outcome::Stored)]);
    }

    #[test]
    fn one_that_its_sender_gave_no_id_is_found_by_the_id_it_was_given() {
        let mut bench = Bench::live();
        let mut unnamed = item(7);
        unnamed.key = None;
        bench.offer_item(unnamed);
        assert_eq!(trace(&bench, 7), in_outbox(OLD, Stage::Waits));
    }
}

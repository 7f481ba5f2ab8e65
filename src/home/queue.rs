//! What waits for the committer: a queue bounded in bytes.
//!
//! Over the bound an envelope is not taken: it goes through the queue all the same, without its bytes, so that its sender
//! is told in order that it is nowhere. Everything else is small and is taken.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::ThreadId;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::copies::Copy;
use super::moving::{Gone, Part};
use super::profile::{Profile, Trimmed};
use super::reader::Request;
use crate::metrics;
use crate::model::codes::{Code, Refusal};
use crate::model::envelope::Encoded;
use crate::model::ids::{ClientId, NodeId, Seq};
use crate::model::inbox::Upto;
use crate::model::lane::Why;
use crate::model::seen::Key;
use crate::push::{Provider, PushToken};
use crate::store::{Done, Unavailable, Write};
use crate::view::{Device, Parcel};

/// Bytes that may wait for the committer.
const MAX_BYTES: usize = 64 << 20;
/// Bytes that one group commit takes.
const GROUP_BYTES: usize = 4 << 20;
/// Commands that one group commit takes.
const GROUP_COUNT: usize = 4096;

/// What a device record is to become.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum TokenChange {
    Add(PushToken),
    Remove(PushToken),
}

impl TokenChange {
    /// A further token, with its provider by its word on the wire.
    ///
    /// # Errors
    /// `bad_request` for a provider that there is not, or a token that the provider could not have made.
    pub fn add(provider: &str, token: String) -> Result<Self, Refusal> {
        let known = Provider::ALL.into_iter().find(|known| known.name() == provider);
        let provider = known.ok_or_else(|| {
            let message = format!("push provider {provider:?} is none of fcm, apns, webpush, webhook");
            Refusal::new(Code::BadRequest, message)
        })?;
        let token = PushToken { provider, token };
        token.check().map_err(|error| Refusal::new(Code::BadRequest, error.to_string()))?;
        Ok(Self::Add(token))
    }
}

/// Called once with what was asked for, on the home's threads or a link's: must be quick, and must not block.
pub(super) type Then<T> = Box<dyn FnOnce(Result<T, Unavailable>) + Send>;

/// Who waits for an envelope to be stored.
#[derive(Clone)]
pub(super) enum Asker {
    /// The lane of a device at this server.
    Lane(Arc<Device>),
    /// Another server, by its number.
    Server { server: NodeId, number: u64, device: NodeId },
}

impl Asker {
    /// Whose inbox it is.
    pub(super) fn device(&self) -> &NodeId {
        match self {
            Self::Lane(device) => device.id(),
            Self::Server { device, .. } => device,
        }
    }
}

pub(super) enum Command {
    Append {
        asker: Asker,
        item: Parcel,
        why: Why,
    },
    /// An envelope for which there was no room.
    Refuse {
        asker: Asker,
        item: Parcel,
    },
    /// Into the held mail of this server, under this number.
    Hold {
        number: u64,
        device: Arc<Device>,
        item: Parcel,
        why: Why,
    },
    /// What was held has gone on, or may go.
    Unhold {
        number: u64,
        device: NodeId,
    },
    /// There is nothing to read while the home is away.
    Away {
        device: Arc<Device>,
        generation: u64,
    },
    ToClient {
        client: ClientId,
        except: Vec<NodeId>,
        item: Parcel,
    },
    Remove {
        device: NodeId,
        seq: Seq,
    },
    Trim {
        device: NodeId,
        upto: Upto,
        done: Option<Then<Trimmed>>,
    },
    /// The device is here: it is known from now on, and belongs to this client.
    Register {
        device: NodeId,
        client: Option<ClientId>,
        pending: Option<Then<u64>>,
    },
    Tokens {
        device: NodeId,
        change: TokenChange,
        done: Done,
    },
    /// What is known of a device; `None` where it was never here.
    Profile {
        device: NodeId,
        answer: Then<Option<Profile>>,
    },
    /// The device is being told how much was lost; how much that is.
    Tell {
        device: NodeId,
        news: Then<u64>,
    },
    /// To be read when everything before it is durable: a device reads what it has written, and what it has acknowledged
    /// does not come again.
    Read(Request),
    /// One envelope, named as the device knows it.
    Acknowledge {
        device: NodeId,
        key: Key,
    },
    /// Of records that another server has changed.
    Copies {
        copies: Vec<Copy>,
        done: Then<()>,
    },
    /// A part of what a former home has of a device.
    Adopt {
        part: Box<Part>,
        done: Then<()>,
    },
    /// All this is durable at the new home.
    Moved {
        part: Box<Gone>,
        done: Done,
    },
    Write {
        writes: Vec<Write>,
        done: Done,
    },
    /// Answered when everything before it is durable.
    Flush(oneshot::Sender<()>),
}

impl Command {
    pub(super) fn cost(&self) -> usize {
        const SMALL: usize = 256;
        match self {
            Self::Append { item, .. } | Self::Hold { item, .. } | Self::ToClient { item, .. } => item.cost() + SMALL,
            Self::Write { writes, .. } => {
                let size = |write: &Write| match write {
                    Write::Put { key, value, .. } => key.len() + value.len(),
                    Write::Delete { key, .. } => key.len(),
                };
                SMALL + writes.iter().map(size).sum::<usize>()
            }
            Self::Adopt { part, .. } => SMALL + part.bytes(),
            Self::Copies { copies, .. } => SMALL * (copies.len() + 1),
            _ => SMALL,
        }
    }
}

#[derive(Default)]
struct Waiting {
    /// Each with what it counts for.
    commands: VecDeque<(usize, Command)>,
    bytes: usize,
    /// The frame of the last envelope: the recipients of one envelope share its bytes, which count once.
    last_frame: Option<usize>,
    /// While the committer hands out what is for a client: what its own thread pushes, which is done at once.
    aside: Option<(ThreadId, Vec<Command>)>,
    closed: Closed,
}

#[derive(Default, PartialEq, Eq)]
enum Closed {
    #[default]
    No,
    Yes,
}

/// See the module's header.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    filled: Condvar,
}

/// What the committer finds.
pub(super) enum Group {
    Commands(Vec<Command>),
    /// Nothing came for a while.
    Quiet,
    /// Nothing will come any more.
    Closed,
}

impl Queue {
    pub(super) fn push(&self, command: Command) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((thread, aside)) = &mut waiting.aside
            && *thread == std::thread::current().id()
        {
            return aside.push(command);
        }
        let mut cost = command.cost();
        let command = match command {
            Command::Append { asker, mut item, why } => {
                let frame = item.encoded.frame().as_ptr() as usize;
                if waiting.last_frame.replace(frame) == Some(frame) {
                    cost -= item.encoded.frame().len();
                }
                // What an outbox gives back was bounded there.
                let fits = waiting.bytes + cost <= MAX_BYTES || matches!(why, Why::Stalled | Why::Overflow);
                if fits {
                    Command::Append { asker, item, why }
                } else {
                    item.encoded = Encoded::new(Bytes::new(), 0);
                    cost = item.cost();
                    Command::Refuse { asker, item }
                }
            }
            other => other,
        };
        waiting.bytes += cost;
        metrics::COMMIT_QUEUE_BYTES.set(waiting.bytes as i64);
        waiting.commands.push_back((cost, command));
        self.filled.notify_one();
    }

    /// What this thread pushes until [`Self::given`] does not wait behind others.
    pub(super) fn hand_out(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.aside = Some((std::thread::current().id(), Vec::new()));
    }

    /// What was pushed since [`Self::hand_out`].
    pub(super) fn given(&self) -> Vec<Command> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.aside.take().map(|(_, commands)| commands).unwrap_or_default()
    }

    /// Blocks until there is something, at most for `patience`.
    pub(super) fn take(&self, patience: Duration) -> Group {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.commands.is_empty() && waiting.closed == Closed::No {
            waiting = self.filled.wait_timeout(waiting, patience).unwrap_or_else(PoisonError::into_inner).0;
        }
        if waiting.commands.is_empty() {
            return if waiting.closed == Closed::Yes { Group::Closed } else { Group::Quiet };
        }
        let mut group = Vec::new();
        let mut bytes = 0;
        while bytes < GROUP_BYTES && group.len() < GROUP_COUNT {
            let Some((cost, command)) = waiting.commands.pop_front() else { break };
            bytes += command.cost();
            waiting.bytes -= cost;
            group.push(command);
        }
        if waiting.commands.is_empty() {
            waiting.last_frame = None;
        }
        metrics::COMMIT_QUEUE_BYTES.set(waiting.bytes as i64);
        Group::Commands(group)
    }

    /// What waits is still taken; then [`Group::Closed`].
    pub(super) fn close(&self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).closed = Closed::Yes;
        self.filled.notify_all();
    }
}

//! How two servers greet each other on a new connection, as a state machine without IO, clock or chance.
//!
//! ```text
//! dialler                         acceptor
//! Hello    version, id, nonce  ->
//!                              <- Hello        version, id, nonce
//! Proof    of the secret       ->
//!                              <- Proof        with the same secret
//! Introduction, sealed         ->              asks its node, which adopts what is to be adopted
//!                              <- Introduction as it is then, sealed
//! Ready    after its own node  ->
//! ```
//!
//! Either side may say `Refused` instead of the next word, and ends. The dialler proves first, so that nobody who merely
//! asks gets something to try secrets on. Each word is a frame as those that follow (a `u32` length and its bytes), so the
//! last one may come together with the first frames of the link.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::Introduction;
use crate::auth::peer::{Meeting, Nonce, PeerKeys, Speaker, Which};
use crate::model::codes::Refusal;
use crate::model::ids::{Incarnation, NodeId};
use crate::model::members::Members;
use crate::model::topology::{Address, Scheme};

/// Of greeting and frames: one number for both. Servers of different versions do not link up.
pub(super) const VERSION: u16 = crate::wire::link::VERSION as u16;
/// Longest word until the other side has proved the secret, in bytes.
pub(super) const MAX_STRANGER: usize = 1024;
/// Longest introduction, in bytes: more than ten thousand members.
pub(super) const MAX_INTRODUCTION: usize = 4 << 20;

const MAGIC: &[u8] = b"sparkmesh link";
/// Bytes of the length before each word.
pub(super) const PREFIX: usize = 4;
/// Longest explanation that is passed on, in bytes.
const MAX_REASON: usize = 512;

const HELLO: u8 = 1;
const PROOF: u8 = 2;
const INTRODUCTION: u8 = 3;
const READY: u8 = 4;
const REFUSED: u8 = 5;

/// Why two servers do not link up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("its cluster secret is not ours")]
    Secret,
    #[error("it speaks version {theirs} between servers, and this one {VERSION}")]
    Version { theirs: u16 },
    #[error("it is this server itself")]
    OwnId,
    #[error("it is {met}, and not {expected}")]
    Another { met: NodeId, expected: NodeId },
    #[error("it says something that is no greeting")]
    Malformed,
    /// Our node's own words, or those of the other side.
    #[error("{reason}")]
    Refused { reason: String },
}

impl Fault {
    /// For the metric.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Version { .. } => "version",
            Self::OwnId => "own_id",
            Self::Refused { .. } | Self::Another { .. } => "refused",
            Self::Malformed => "malformed",
        }
    }
}

/// What is to be done after a word of the other side.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Say(Bytes),
    /// The node is to be asked for its own introduction: [`Greeting::introduce`].
    Introduce,
    /// The node is to be asked about the meeting: [`Greeting::met`], or [`refusal`].
    Meet(Box<Introduction>),
    /// The dialler is ready.
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expects {
    Hello,
    Proof,
    Introduction,
    Ready,
    /// Nothing before our own next word.
    Nothing,
    /// The greeting is done.
    Frames,
}

/// See the module's header.
pub(super) struct Greeting {
    keys: Arc<PeerKeys>,
    speaker: Speaker,
    own: NodeId,
    nonce: Nonce,
    /// Whom a dialler expects to find, if it knows.
    wanted: Option<NodeId>,
    expects: Expects,
    meeting: Option<Meeting>,
    which: Which,
    /// The other side has ended the greeting.
    refused: bool,
}

impl Greeting {
    /// The dialler's side, with its first word. `wanted`: who is to answer, where that is known.
    pub(super) fn dial(keys: Arc<PeerKeys>, own: NodeId, wanted: Option<NodeId>, nonce: Nonce) -> (Self, Bytes) {
        let hello = hello(&own, &nonce);
        (Self::new(keys, Speaker::Dialler, own, wanted, nonce), hello)
    }

    pub(super) fn accept(keys: Arc<PeerKeys>, own: NodeId, nonce: Nonce) -> Self {
        Self::new(keys, Speaker::Acceptor, own, None, nonce)
    }

    fn new(keys: Arc<PeerKeys>, speaker: Speaker, own: NodeId, wanted: Option<NodeId>, nonce: Nonce) -> Self {
        let which = keys.first();
        Self { keys, speaker, own, nonce, wanted, expects: Expects::Hello, meeting: None, which, refused: false }
    }

    /// Who the other side says it is; it has proved it knows the secret once [`Step::Meet`] has come.
    pub(super) fn peer(&self) -> Option<&NodeId> {
        self.meeting.as_ref().map(|meeting| match self.speaker {
            Speaker::Dialler => &meeting.acceptor,
            Speaker::Acceptor => &meeting.dialler,
        })
    }

    /// Whether both sides have agreed: what follows are frames.
    pub(super) fn is_done(&self) -> bool {
        self.expects == Expects::Frames
    }

    /// Whether it was the other side that said no.
    pub(super) fn was_refused(&self) -> bool {
        self.refused
    }

    /// Most bytes that the next word of the other side may have.
    pub(super) fn limit(&self) -> usize {
        if self.expects == Expects::Introduction { MAX_INTRODUCTION } else { MAX_STRANGER }
    }

    /// The other side's next word, without its length.
    pub(super) fn hear(&mut self, word: &[u8]) -> Result<Step, Fault> {
        let (&kind, rest) = word.split_first().ok_or(Fault::Malformed)?;
        match (kind, self.expects) {
            (HELLO, Expects::Hello) => self.hear_hello(rest),
            (PROOF, Expects::Proof) => self.hear_proof(rest),
            (INTRODUCTION, Expects::Introduction) => self.hear_introduction(rest),
            (READY, Expects::Ready) if rest.is_empty() => {
                self.expects = Expects::Frames;
                Ok(Step::Done)
            }
            (REFUSED, _) => {
                self.refused = true;
                Err(Fault::Refused { reason: reason(rest) })
            }
            _ => Err(Fault::Malformed),
        }
    }

    fn hear_hello(&mut self, word: &[u8]) -> Result<Step, Fault> {
        let mut word = word.strip_prefix(MAGIC).ok_or(Fault::Malformed)?;
        let theirs = word.try_get_u16().map_err(|_| Fault::Malformed)?;
        if theirs != VERSION {
            return Err(Fault::Version { theirs });
        }
        let (nonce, id) = word.split_first_chunk::<32>().ok_or(Fault::Malformed)?;
        let peer: NodeId = std::str::from_utf8(id).ok().and_then(|id| id.parse().ok()).ok_or(Fault::Malformed)?;
        // The acceptor tells its name all the same, so that the dialler learns that it has dialled itself.
        if peer == self.own && self.speaker == Speaker::Dialler {
            return Err(Fault::OwnId);
        }
        if let Some(expected) = self.wanted.take_if(|wanted| *wanted != peer) {
            return Err(Fault::Another { met: peer, expected });
        }
        let (version, own, own_nonce) = (VERSION, self.own.clone(), self.nonce);
        let (meeting, answer) = match self.speaker {
            Speaker::Dialler => {
                let meeting =
                    Meeting { version, dialler: own, acceptor: peer, dialler_nonce: own_nonce, acceptor_nonce: *nonce };
                let proof = self.keys.prove(self.which, self.speaker, &meeting);
                (meeting, word_of(PROOF, &[&proof]))
            }
            Speaker::Acceptor => {
                let answer = hello(&own, &own_nonce);
                let meeting =
                    Meeting { version, dialler: peer, acceptor: own, dialler_nonce: *nonce, acceptor_nonce: own_nonce };
                (meeting, answer)
            }
        };
        self.meeting = Some(meeting);
        self.expects = Expects::Proof;
        Ok(Step::Say(answer))
    }

    fn other(&self) -> Speaker {
        match self.speaker {
            Speaker::Dialler => Speaker::Acceptor,
            Speaker::Acceptor => Speaker::Dialler,
        }
    }

    fn hear_proof(&mut self, proof: &[u8]) -> Result<Step, Fault> {
        let meeting = self.meeting.as_ref().ok_or(Fault::Malformed)?;
        if meeting.dialler == meeting.acceptor {
            return Err(Fault::OwnId);
        }
        let which = self.keys.check(proof, self.other(), meeting).ok_or(Fault::Secret)?;
        match self.speaker {
            // It must be the one that we have proved.
            Speaker::Dialler if which != self.which => Err(Fault::Secret),
            Speaker::Dialler => {
                self.expects = Expects::Nothing;
                Ok(Step::Introduce)
            }
            Speaker::Acceptor => {
                self.which = which;
                self.expects = Expects::Introduction;
                Ok(Step::Say(word_of(PROOF, &[&self.keys.prove(which, self.speaker, meeting)])))
            }
        }
    }

    fn hear_introduction(&mut self, sealed: &[u8]) -> Result<Step, Fault> {
        let meeting = self.meeting.as_ref().ok_or(Fault::Malformed)?;
        let mut sealed = sealed.to_vec();
        let text = self.keys.open(self.which, self.other(), meeting, &mut sealed).ok_or(Fault::Secret)?;
        let theirs: Written = serde_json::from_slice(text).map_err(|_| Fault::Malformed)?;
        if Some(&theirs.node) != self.peer() {
            return Err(Fault::Malformed);
        }
        self.expects = Expects::Nothing;
        Ok(Step::Meet(Box::new(theirs.into())))
    }

    /// Our node's introduction, for the other side. `None` where it is not the time for it.
    pub(super) fn introduce(&mut self, own: &Introduction) -> Option<Bytes> {
        let meeting = self.meeting.as_ref().filter(|_| self.expects == Expects::Nothing)?;
        let text = serde_json::to_vec(&Written::from(own)).ok()?;
        self.expects = match self.speaker {
            Speaker::Dialler => Expects::Introduction,
            Speaker::Acceptor => Expects::Ready,
        };
        Some(word_of(INTRODUCTION, &[&self.keys.seal(self.which, self.speaker, meeting, text)]))
    }

    /// The node has agreed to the meeting and is `own` after it: what is said now.
    pub(super) fn met(&mut self, own: &Introduction) -> Option<Bytes> {
        match self.speaker {
            Speaker::Dialler => {
                self.expects = Expects::Frames;
                Some(word_of(READY, &[]))
            }
            Speaker::Acceptor => self.introduce(own),
        }
    }
}

/// What is said to a server that is not linked up with.
pub(super) fn refusal(fault: &Fault) -> Bytes {
    let text = match fault {
        // What is wrong lies with both, and it is the other side that reads this.
        Fault::Secret => "its cluster secret is not ours".to_owned(),
        other => other.to_string(),
    };
    word_of(REFUSED, &[text.as_bytes()])
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self::Refused { reason: refusal.message }
    }
}

/// Readable, whatever was sent.
fn reason(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(&text[..text.len().min(MAX_REASON)]);
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("it says: {clean}")
}

fn hello(own: &NodeId, nonce: &Nonce) -> Bytes {
    word_of(HELLO, &[MAGIC, &VERSION.to_be_bytes(), nonce, own.as_str().as_bytes()])
}

/// With its length.
fn word_of(kind: u8, parts: &[&[u8]]) -> Bytes {
    let len = 1 + parts.iter().map(|part| part.len()).sum::<usize>();
    let mut word = BytesMut::with_capacity(PREFIX + len);
    word.put_u32(len as u32);
    word.put_u8(kind);
    parts.iter().for_each(|part| word.extend_from_slice(part));
    word.freeze()
}

/// An [`Introduction`] as it is written down.
#[derive(Serialize, Deserialize)]
struct Written {
    node: NodeId,
    incarnation: Incarnation,
    host: String,
    port: u16,
    tls: bool,
    proxy_80_port: Option<String>,
    region: Option<String>,
    cluster: [u8; 32],
    members: Members,
    blank: bool,
    pins: u64,
}

impl From<&Introduction> for Written {
    fn from(own: &Introduction) -> Self {
        Self {
            node: own.node.clone(),
            incarnation: own.incarnation,
            host: own.address.host.clone(),
            port: own.address.port,
            tls: own.address.scheme == Scheme::Tls,
            proxy_80_port: own.address.proxy_80_port.clone(),
            region: own.address.region.clone(),
            cluster: own.cluster,
            members: own.members.clone(),
            blank: own.blank,
            pins: own.pins,
        }
    }
}

impl From<Written> for Introduction {
    fn from(theirs: Written) -> Self {
        Self {
            node: theirs.node,
            incarnation: theirs.incarnation,
            address: Address {
                host: theirs.host,
                port: theirs.port,
                scheme: if theirs.tls { Scheme::Tls } else { Scheme::Plain },
                proxy_80_port: theirs.proxy_80_port,
                region: theirs.region,
            },
            cluster: theirs.cluster,
            members: theirs.members,
            blank: theirs.blank,
            pins: theirs.pins,
        }
    }
}

#[cfg(test)]
mod tests;

//! What the homes of different servers ask each other, and what they answer: the words of `Dispatch::Ask` and
//! `Dispatch::Reply`, as JSON.
//!
//! Names are short and fields are only ever added: servers of two versions speak to each other while a mesh is renewed.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::copies::Copy;
use super::moving::Part;
use super::profile::{Profile, Trimmed};
use super::queue::TokenChange;
use crate::model::ids::{ClientId, Epoch, NodeId, Seq};
use crate::wire::config_request::{Fetch, First, More, Page};

/// What one server asks of another.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Question {
    /// Of the service that keeps sessions, in its own words. Answered by [`Answer::Session`].
    Session(Box<RawValue>),
    /// Of the service that watches, in its own words. Answered by [`Answer::Watch`].
    Watch(Box<RawValue>),
    /// To who acts for the device: it is known from now on. Answered by [`Answer::Count`].
    Register { device: NodeId, client: Option<ClientId> },
    /// To who acts for the device. Answered by [`Answer::Done`].
    Tokens { device: NodeId, change: TokenChange },
    /// To who acts for the device. Answered by [`Answer::Profile`].
    Profile { device: NodeId },
    /// To the home of the inbox. Answered by [`Answer::Page`].
    Fetch { device: NodeId, fetch: WireFetch },
    /// To the home of the inbox. Answered by [`Answer::Trimmed`].
    Trim { device: NodeId, to: Seq, epoch: Option<Epoch> },
    /// To the home of the inbox: how much was lost since the device was told. Answered by [`Answer::Count`].
    Tell { device: NodeId },
    /// To the other one of home and deputy. Answered by [`Answer::Done`] when they are durable there.
    Copies(Vec<Copy>),
    /// To the new home of a device. Answered by [`Answer::Done`] when it is durable there.
    Part(Box<Part>),
    /// By the new home of a device: whatever its former home has of it, before this is answered with [`Answer::Done`].
    Give { device: NodeId },
    /// As [`Self::Give`], for what is known of a client's devices.
    GiveClient { client: ClientId },
    /// By a new home: whether all that is its own has been moved there. Answered by [`Answer::Count`]: 1 yes, 0 no.
    HaveAll,
    /// By a member, to a server that has been forgotten: whether all that it had has been moved. Answered by
    /// [`Answer::Count`]: 1 yes, 0 no.
    HaveLeft,
    /// By a server that has come back: whatever was changed in its stead, before this is answered with [`Answer::Done`].
    HandBack,
}

/// What is answered. Another kind than the question asks for counts as no answer.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Session(Box<RawValue>),
    Watch(Box<RawValue>),
    Done,
    Count(u64),
    Profile(Option<Profile>),
    Page(WirePage),
    Trimmed(Trimmed),
    /// It cannot be done now.
    Unavailable,
}

/// [`Fetch`] between servers.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct WireFetch {
    from: Option<Seq>,
    to: Option<Seq>,
    after: Option<crate::model::ids::Millis>,
    before: Option<crate::model::ids::Millis>,
    newest_first: bool,
    limit: u32,
}

impl From<Fetch> for WireFetch {
    fn from(fetch: Fetch) -> Self {
        let Fetch { from_seq, to_seq, after, before, first, limit } = fetch;
        Self { from: from_seq, to: to_seq, after, before, newest_first: first == First::Newest, limit }
    }
}

impl From<WireFetch> for Fetch {
    fn from(fetch: WireFetch) -> Self {
        let WireFetch { from, to, after, before, newest_first, limit } = fetch;
        let first = if newest_first { First::Newest } else { First::Oldest };
        Self { from_seq: from, to_seq: to, after, before, first, limit }
    }
}

/// [`Page`] between servers: each envelope's JSON as it is.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WirePage {
    messages: Vec<(Seq, Box<RawValue>)>,
    more: bool,
    epoch: crate::model::ids::Epoch,
    dropped: u64,
}

impl WirePage {
    /// `None` where a stored envelope is not JSON, which only damage can bring about.
    pub(super) fn of(page: &Page) -> Option<Self> {
        let messages = page.messages.iter().map(|(seq, text)| Some((*seq, serde_json::from_slice(text).ok()?)));
        Some(Self {
            messages: messages.collect::<Option<_>>()?,
            more: page.more == More::Yes,
            epoch: page.epoch,
            dropped: page.dropped,
        })
    }

    pub(super) fn page(self) -> Page {
        let text = |(seq, text): (Seq, Box<RawValue>)| (seq, String::from(Box::<str>::from(text)).into());
        Page {
            messages: self.messages.into_iter().map(text).collect(),
            more: if self.more { More::Yes } else { More::No },
            epoch: self.epoch,
            dropped: self.dropped,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::mangled::mangled;

    const ASKED: [&str; 6] = [
        r#"{"Register":{"device":"bob","client":"c"}}"#,
        r#"{"Fetch":{"device":"bob","fetch":{"from":1,"to":null,"after":5,"before":null,"newest_first":true,"limit":10}}}"#,
        r#"{"Trim":{"device":"bob","to":7}}"#,
        r#"{"Session":{"any":[1,"x"]}}"#,
        r#"{"GiveClient":{"client":"c"}}"#,
        r#""HandBack""#,
    ];
    const ANSWERED: [&str; 4] = [
        r#"{"Page":{"messages":[[1,{"payload":"x"}],[2,"y"]],"more":true,"epoch":5,"dropped":0}}"#,
        r#"{"Count":12}"#,
        r#"{"Session":null}"#,
        r#""Done""#,
    ];

    /// What is read is written as something that is read as the same.
    fn again<T: serde::de::DeserializeOwned + Serialize + std::fmt::Debug>(bytes: &[u8]) {
        let Ok(read) = serde_json::from_slice::<T>(bytes) else { return };
        let written = serde_json::to_vec(&read).expect("what was read can be written");
        let read_again: T = serde_json::from_slice(&written).expect("what we write we can read");
        assert_eq!(format!("{read_again:?}"), format!("{read:?}"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_question_or_nothing(bytes in mangled(&ASKED)) {
            again::<Question>(&bytes);
        }

        #[test]
        fn any_bytes_are_an_answer_or_nothing(bytes in mangled(&ANSWERED)) {
            again::<Answer>(&bytes);
        }

        #[test]
        fn any_bytes_are_a_record_or_nothing(bytes in mangled(&ANSWERED)) {
            again::<Profile>(&bytes);
            again::<Copy>(&bytes);
            again::<Part>(&bytes);
        }
    }
}

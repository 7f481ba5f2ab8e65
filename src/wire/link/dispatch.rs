//! A [`Dispatch`] as a head of its own and a body that others may share.
//!
//! The body is the WebSocket frame of an envelope, just as devices get it, or what one service asks another. All else is
//! in the head. The list of recipients comes last: it may be long.

use bytes::Bytes;

use super::LinkError;
use super::field::{Field, Reader, choice, fields};
use crate::model::codes::{Code, Refusal};
use crate::model::custody::{Acquaintance, Counts, Outcome};
use crate::model::decide::Sender;
use crate::model::envelope::Encoded;
use crate::model::frames::{Carried, Denial, Dispatch, EdgeWish, Errand, Fate, Recipient};
use crate::model::lane::{End, Why};
use crate::model::outbox::{Class, Keep, Prompt};
use crate::model::session::Role;
use crate::wire::frame;

mod tag {
    pub(super) const DELIVER: u8 = 1;
    pub(super) const FATES: u8 = 2;
    pub(super) const AWAY: u8 = 3;
    pub(super) const APPEND: u8 = 4;
    pub(super) const APPENDED: u8 = 5;
    pub(super) const ERRAND: u8 = 6;
    pub(super) const READ: u8 = 7;
    pub(super) const PAGE_ITEM: u8 = 8;
    pub(super) const PAGE: u8 = 9;
    pub(super) const STORED: u8 = 10;
    pub(super) const DEVICES: u8 = 11;
    pub(super) const TO_SESSION: u8 = 12;
    pub(super) const VERDICT: u8 = 13;
    pub(super) const REFUSED: u8 = 14;
    pub(super) const NOTIFY: u8 = 15;
    pub(super) const ASK: u8 = 16;
    pub(super) const REPLY: u8 = 17;
    pub(super) const EDGES: u8 = 18;
    pub(super) const EDGES_ARE: u8 = 19;
    pub(super) const GATHERING: u8 = 20;
    pub(super) const GATHERING_IS: u8 = 21;
    pub(super) const DEVICES_ARE: u8 = 22;
}

/// A shorter body is copied when it has arrived: it may lie in an outbox for long, and would keep all the bytes alive
/// that were read along with it.
const COPIED: usize = 16 * 1024;
/// Room for a head without long lists.
const USUAL_HEAD: usize = 160;
/// Room for one recipient.
const USUAL_RECIPIENT: usize = 32;

/// A dispatch as bytes: its head, and the body, which is not copied.
pub fn head_of(dispatch: &Dispatch) -> (Bytes, Bytes) {
    let room = match dispatch {
        Dispatch::Deliver { recipients, .. } => USUAL_HEAD + recipients.len() * USUAL_RECIPIENT,
        Dispatch::Fates(fates) => 8 + fates.len() * 8,
        _ => USUAL_HEAD,
    };
    let mut head = Vec::with_capacity(room);
    let body = put(dispatch, &mut head);
    (head.into(), body)
}

fn put(dispatch: &Dispatch, out: &mut Vec<u8>) -> Bytes {
    match dispatch {
        Dispatch::Deliver { recipients, envelope } => {
            out.push(tag::DELIVER);
            let body = put_carried(envelope, out);
            recipients.put(out);
            return body;
        }
        Dispatch::Fates(fates) => {
            out.push(tag::FATES);
            fates.put(out);
        }
        Dispatch::Away { number, shown, acquaintance } => {
            out.push(tag::AWAY);
            number.put(out);
            shown.put(out);
            acquaintance.put(out);
        }
        Dispatch::Append { number, device, shown, why, envelope } => {
            out.push(tag::APPEND);
            number.put(out);
            device.put(out);
            shown.put(out);
            why.put(out);
            return put_carried(envelope, out);
        }
        Dispatch::Appended { number, seq, acquaintance } => {
            out.push(tag::APPENDED);
            number.put(out);
            seq.put(out);
            acquaintance.put(out);
        }
        Dispatch::Errand { device, errand } => {
            out.push(tag::ERRAND);
            device.put(out);
            errand.put(out);
        }
        Dispatch::Read { number, device, from, room } => {
            out.push(tag::READ);
            number.put(out);
            device.put(out);
            from.put(out);
            room.put(out);
        }
        Dispatch::PageItem { number, envelope } => {
            out.push(tag::PAGE_ITEM);
            number.put(out);
            return put_carried(envelope, out);
        }
        Dispatch::Page { number, end } => {
            out.push(tag::PAGE);
            number.put(out);
            end.put(out);
        }
        Dispatch::Stored { device, seq } => {
            out.push(tag::STORED);
            device.put(out);
            seq.put(out);
        }
        Dispatch::Devices { number, client } => {
            out.push(tag::DEVICES);
            number.put(out);
            client.put(out);
        }
        Dispatch::DevicesAre { number, devices } => {
            out.push(tag::DEVICES_ARE);
            number.put(out);
            devices.put(out);
        }
        Dispatch::ToSession { number, sender, id, text } => {
            out.push(tag::TO_SESSION);
            number.put(out);
            sender.put(out);
            id.put(out);
            return text.clone();
        }
        Dispatch::Verdict { number, counts } => {
            out.push(tag::VERDICT);
            number.put(out);
            counts.put(out);
        }
        Dispatch::Refused { number, why } => {
            out.push(tag::REFUSED);
            number.put(out);
            why.put(out);
        }
        Dispatch::Notify { device, frame } => {
            out.push(tag::NOTIFY);
            device.put(out);
            return frame.clone();
        }
        Dispatch::Edges { number, device, wish } => {
            out.push(tag::EDGES);
            number.put(out);
            device.put(out);
            wish.put(out);
        }
        Dispatch::EdgesAre { number, edges } => {
            out.push(tag::EDGES_ARE);
            number.put(out);
            edges.put(out);
        }
        Dispatch::Gathering { number, session } => {
            out.push(tag::GATHERING);
            number.put(out);
            session.put(out);
        }
        Dispatch::GatheringIs { number, servers } => {
            out.push(tag::GATHERING_IS);
            number.put(out);
            servers.put(out);
        }
        Dispatch::Ask { number, question } => {
            out.push(tag::ASK);
            number.put(out);
            return question.clone();
        }
        Dispatch::Reply { number, answer } => {
            out.push(tag::REPLY);
            number.put(out);
            return answer.clone();
        }
    }
    Bytes::new()
}

/// The dispatch of which these are head and body.
pub fn dispatch_of(head: &Bytes, body: Bytes) -> Result<Dispatch, LinkError> {
    let mut from = Reader::new(head);
    let dispatch = match from.byte()? {
        tag::DELIVER => {
            let envelope = get_carried(&mut from, body)?;
            Dispatch::Deliver { recipients: from.read()?, envelope }
        }
        tag::APPEND => Dispatch::Append {
            number: from.read()?,
            device: from.read()?,
            shown: from.read()?,
            why: from.read()?,
            envelope: get_carried(&mut from, body)?,
        },
        tag::PAGE_ITEM => Dispatch::PageItem { number: from.read()?, envelope: get_carried(&mut from, body)? },
        tag::DEVICES => Dispatch::Devices { number: from.read()?, client: from.read()? },
        tag::DEVICES_ARE => Dispatch::DevicesAre { number: from.read()?, devices: from.read()? },
        tag::TO_SESSION => {
            Dispatch::ToSession { number: from.read()?, sender: from.read()?, id: from.read()?, text: body }
        }
        tag::NOTIFY => Dispatch::Notify { device: from.read()?, frame: body },
        tag::ASK => Dispatch::Ask { number: from.read()?, question: body },
        tag::REPLY => Dispatch::Reply { number: from.read()?, answer: body },
        _ if !body.is_empty() => return Err(LinkError::Body),
        tag::FATES => Dispatch::Fates(from.read()?),
        tag::AWAY => Dispatch::Away { number: from.read()?, shown: from.read()?, acquaintance: from.read()? },
        tag::APPENDED => Dispatch::Appended { number: from.read()?, seq: from.read()?, acquaintance: from.read()? },
        tag::EDGES => Dispatch::Edges { number: from.read()?, device: from.read()?, wish: from.read()? },
        tag::EDGES_ARE => Dispatch::EdgesAre { number: from.read()?, edges: from.read()? },
        tag::GATHERING => Dispatch::Gathering { number: from.read()?, session: from.read()? },
        tag::GATHERING_IS => Dispatch::GatheringIs { number: from.read()?, servers: from.read()? },
        tag::ERRAND => Dispatch::Errand { device: from.read()?, errand: from.read()? },
        tag::READ => {
            Dispatch::Read { number: from.read()?, device: from.read()?, from: from.read()?, room: from.read()? }
        }
        tag::PAGE => Dispatch::Page { number: from.read()?, end: from.read()? },
        tag::STORED => Dispatch::Stored { device: from.read()?, seq: from.read()? },
        tag::VERDICT => Dispatch::Verdict { number: from.read()?, counts: from.read()? },
        tag::REFUSED => Dispatch::Refused { number: from.read()?, why: from.read()? },
        tag => return Err(LinkError::Unknown { what: "Dispatch", tag }),
    };
    from.finish()?;
    Ok(dispatch)
}

/// Returns the body.
fn put_carried(carried: &Carried, out: &mut Vec<u8>) -> Bytes {
    let body = carried.encoded.frame();
    debug_assert!(frame::header_of(body).is_some(), "an envelope is one whole text frame");
    carried.key.put(out);
    carried.seq.put(out);
    carried.class.put(out);
    carried.ttl.put(out);
    carried.keep.put(out);
    body.clone()
}

fn get_carried(from: &mut Reader<'_>, body: Bytes) -> Result<Carried, LinkError> {
    let header = frame::header_of(&body).ok_or(LinkError::Body)?;
    let body = if body.len() < COPIED { Bytes::copy_from_slice(&body) } else { body };
    Ok(Carried {
        encoded: Encoded::new(body, header),
        key: from.read()?,
        seq: from.read()?,
        class: from.read()?,
        ttl: from.read()?,
        keep: from.read()?,
    })
}

fields!(Recipient { device, number, shown, known, way });
fields!(Keep { sender, id, collapse, kind, timestamp, session, prompt });
fields!(Counts { delivered, stored, dropped, failed });
fields!(Sender { node, client, role });
choice!(Class { Reliable = 0, FastTracked = 1, Fast = 2 });
choice!(Prompt { Soon = 0, Later = 1 });
choice!(Outcome { Delivered = 0, Stored = 1, Dropped = 2, Failed = 3 });
choice!(Acquaintance { Known = 0, Unknown = 1 });
choice!(Why { Absent = 0, Stalled = 1, Silent = 2, Overflow = 3, Behind = 4 });
choice!(End { Reached = 0, More = 1, Away = 2 });
choice!(EdgeWish { Count = 0, Close = 1 });
choice!(Role { Device = 0, App = 1, Admin = 2 });

impl Field for Fate {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Settled(outcome) => {
                out.push(0);
                outcome.put(out);
            }
            Self::Elsewhere => out.push(1),
        }
    }

    fn get(from: &mut Reader<'_>) -> Result<Self, LinkError> {
        match from.byte()? {
            0 => from.read().map(Self::Settled),
            1 => Ok(Self::Elsewhere),
            tag => Err(LinkError::Unknown { what: "Fate", tag }),
        }
    }
}

impl Field for Errand {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Remove(seq) => {
                out.push(0);
                seq.put(out);
            }
            Self::Trim(seq) => {
                out.push(1);
                seq.put(out);
            }
            Self::Acknowledge(key) => {
                out.push(2);
                key.put(out);
            }
        }
    }

    fn get(from: &mut Reader<'_>) -> Result<Self, LinkError> {
        match from.byte()? {
            0 => from.read().map(Self::Remove),
            1 => from.read().map(Self::Trim),
            2 => from.read().map(Self::Acknowledge),
            tag => Err(LinkError::Unknown { what: "Errand", tag }),
        }
    }
}

impl Field for Denial {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Unauthorized => out.push(0),
            Self::NoSession => out.push(1),
            Self::NoMember(member) => {
                out.push(2);
                member.put(out);
            }
            Self::Refusal(refusal) => {
                out.push(3);
                refusal.put(out);
            }
        }
    }

    fn get(from: &mut Reader<'_>) -> Result<Self, LinkError> {
        match from.byte()? {
            0 => Ok(Self::Unauthorized),
            1 => Ok(Self::NoSession),
            2 => from.read().map(Self::NoMember),
            3 => from.read().map(Self::Refusal),
            tag => Err(LinkError::Unknown { what: "Denial", tag }),
        }
    }
}

/// The code by its word, as clients get it: that never changes.
impl Field for Refusal {
    fn put(&self, out: &mut Vec<u8>) {
        self.code.word().to_owned().put(out);
        self.message.put(out);
    }

    fn get(from: &mut Reader<'_>) -> Result<Self, LinkError> {
        let word: String = from.read()?;
        let code = Code::ALL.into_iter().find(|code| code.word() == word).ok_or(LinkError::Code)?;
        Ok(Self { code, message: from.read()? })
    }
}

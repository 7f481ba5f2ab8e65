//! The mark in every message of a load: who sent it, which one it is, and when. Pure.
//!
//! It stands at a fixed place of the payload in fixed width, so that sending is a copy and a few digits, and receiving a
//! look where it was last time (or a search for its first bytes), with no JSON parsed on either side.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::frame;

/// What a payload begins with.
const BEGIN: &[u8] = b"\"sparkmesh-load:";
/// `SOURCE:NUMBER:SENT:`, hexadecimal.
const DIGITS: usize = 8 + 1 + 8 + 1 + 16 + 1;
/// A smaller payload has no room for the mark, in bytes.
pub(super) const MIN_SIZE: usize = BEGIN.len() - 1 + DIGITS;
/// What stands for a reference until it is written.
const REFERENCE: &[u8] = b"\"reference\":\"";

static FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(BEGIN));

/// Says of one message what a receiver must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) source: u32,
    /// Among the messages of its source to its receiver, from 0.
    pub(super) number: u32,
    /// Nanoseconds on the load's clock.
    pub(super) sent: u64,
}

/// Whether the sender wants a CONFIRMATION.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Confirmed {
    No,
    Yes,
}

/// A whole masked frame in which only the digits change.
#[derive(Debug, Clone)]
pub(super) struct Template {
    frame: Vec<u8>,
    mark_at: usize,
    reference_at: Option<usize>,
}

impl Template {
    /// `fields`: the members that say whom it is for and what it is, as `"dest_id":"bob","type":1`. The payload is a
    /// string of `size` bytes, at least [`MIN_SIZE`].
    pub(super) fn new(fields: &str, size: usize, confirmed: Confirmed) -> Self {
        let reference = match confirmed {
            Confirmed::Yes => "\"reference\":\"00000000\",",
            Confirmed::No => "",
        };
        let begin = std::str::from_utf8(BEGIN).expect("BEGIN is ASCII");
        let filling = "x".repeat(size.saturating_sub(MIN_SIZE));
        let digits = "0".repeat(DIGITS);
        let text = format!("{{{fields},{reference}\"payload\":{begin}{digits}{filling}\"}}");
        let mut frame = Vec::new();
        frame::text(&mut frame, text.as_bytes());
        let mark_at = FINDER.find(&frame).expect("the text was built with it") + BEGIN.len();
        let reference_at = (confirmed == Confirmed::Yes)
            .then(|| memchr::memmem::find(&frame, REFERENCE).expect("the text was built with it") + REFERENCE.len());
        Self { frame, mark_at, reference_at }
    }

    /// Adds the frame with this mark to `out`; `reference` counts where the template has one.
    pub(super) fn write(&self, mark: Mark, reference: u32, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.frame);
        let digits = &mut out[start + self.mark_at..][..DIGITS];
        put_hex(&mut digits[..8], u64::from(mark.source));
        digits[8] = b':';
        put_hex(&mut digits[9..17], u64::from(mark.number));
        digits[17] = b':';
        put_hex(&mut digits[18..34], mark.sent);
        digits[34] = b':';
        if let Some(at) = self.reference_at {
            put_hex(&mut out[start + at..][..8], u64::from(reference));
        }
    }
}

/// The mark of a message received; `hint` is where the last one of this connection stood, and is kept up to date.
pub(super) fn find(text: &[u8], hint: &mut usize) -> Option<Mark> {
    if !text.get(*hint..).is_some_and(|rest| rest.starts_with(BEGIN)) {
        *hint = FINDER.find(text)?;
    }
    let digits = text.get(*hint + BEGIN.len()..)?.get(..DIGITS)?;
    Some(Mark { source: hex(&digits[..8])? as u32, number: hex(&digits[9..17])? as u32, sent: hex(&digits[18..34])? })
}

/// A reference written by a [`Template`].
pub(super) fn reference(text: &str) -> Option<u32> {
    if text.len() == 8 { hex(text.as_bytes()).map(|number| number as u32) } else { None }
}

fn put_hex(digits: &mut [u8], mut value: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(value & 15) as usize];
        value >>= 4;
    }
}

fn hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |value, &digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The JSON of a frame that a template wrote (masked with zeros).
    fn text(frame: &[u8]) -> &[u8] {
        match frame[1] & 0x7F {
            126 => &frame[8..],
            127 => &frame[14..],
            _ => &frame[6..],
        }
    }

    #[test]
    fn a_mark_survives_the_way_and_the_message_is_json_of_the_size_asked() {
        let template = Template::new(r#""dest_id":"bob","type":1"#, 1000, Confirmed::Yes);
        let mark = Mark { source: 7, number: 0xABCD, sent: u64::MAX - 1 };
        let mut out = b"before".to_vec();
        template.write(mark, 0x2A, &mut out);
        let json: serde_json::Value = serde_json::from_slice(text(&out[6..])).unwrap();
        assert_eq!(json["dest_id"], "bob");
        assert_eq!(json["payload"].as_str().unwrap().len(), 1000);
        assert_eq!(reference(json["reference"].as_str().unwrap()), Some(0x2A));
        let mut hint = 0;
        assert_eq!(find(text(&out[6..]), &mut hint), Some(mark));
        assert_eq!(find(text(&out[6..]), &mut hint), Some(mark), "again, by the hint");
        let mut wrong = 5000;
        assert_eq!(find(text(&out[6..]), &mut wrong), Some(mark), "a wrong hint is no harm");
    }

    #[test]
    fn the_smallest_payload_is_the_mark_alone() {
        let mut out = Vec::new();
        Template::new(r#""type":1"#, MIN_SIZE, Confirmed::No).write(
            Mark { source: 1, number: 2, sent: 3 },
            0,
            &mut out,
        );
        let json: serde_json::Value = serde_json::from_slice(text(&out)).unwrap();
        assert_eq!(json["payload"].as_str().unwrap().len(), MIN_SIZE);
        assert!(json.get("reference").is_none());
    }

    #[test]
    fn other_messages_have_no_mark() {
        let mut hint = 0;
        assert_eq!(find(br#"{"type":-7,"reference":"0000002a"}"#, &mut hint), None);
        assert_eq!(find(br#"{"payload":"sparkmesh-load:00"}"#, &mut hint), None);
        let broken = [BEGIN, b"zz".as_slice(), &[b'0'; DIGITS]].concat();
        assert_eq!(find(&broken, &mut hint), None);
        assert_eq!(reference("short"), None);
    }
}

//! WebSocket frames as a load client needs them: whole ones parsed in place, masked ones written without a second copy.
//!
//! Pure. Masks are zero: RFC 6455 wants them unpredictable against proxies that could be tricked by chosen bytes, of
//! which there are none here, and a server's work of unmasking is the same for every mask.

/// Longest frame taken from a server, in bytes.
pub(super) const MAX_FRAME: usize = 8 << 20;

const FIN: u8 = 0x80;
const TEXT: u8 = 0x1;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;
const MASKED: u8 = 0x80;
const NO_MASK: [u8; 4] = [0; 4];

/// A whole frame of a server.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    Text(&'a [u8]),
    Ping(&'a [u8]),
    Pong,
    /// With its code, 1005 where it has none, and its reason.
    Close(u16, &'a [u8]),
}

/// What stands at the beginning of the bytes read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed<'a> {
    /// A frame, and how many bytes it takes.
    Whole(Frame<'a>, usize),
    /// So many bytes are needed before there is more to say.
    Needs(usize),
}

/// Why bytes are no frame this client takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    #[error("a masked frame came from the server")]
    Masked,
    #[error("a fragment or an unknown frame came (first byte {0:#04x})")]
    Kind(u8),
    #[error("a frame of {0} bytes came")]
    TooLong(u64),
}

/// Reads the frame at the beginning of `bytes`.
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed<'_>, FrameError> {
    let &[first, second, ..] = bytes else { return Ok(Parsed::Needs(2)) };
    if second & MASKED != 0 {
        return Err(FrameError::Masked);
    }
    let (header, len) = match second {
        126 => match bytes {
            &[_, _, a, b, ..] => (4, u64::from(u16::from_be_bytes([a, b]))),
            _ => return Ok(Parsed::Needs(4)),
        },
        127 => match bytes {
            &[_, _, a, b, c, d, e, f, g, h, ..] => (10, u64::from_be_bytes([a, b, c, d, e, f, g, h])),
            _ => return Ok(Parsed::Needs(10)),
        },
        short => (2, u64::from(short)),
    };
    if len > MAX_FRAME as u64 {
        return Err(FrameError::TooLong(len));
    }
    let end = header + len as usize;
    let Some(payload) = bytes.get(header..end) else { return Ok(Parsed::Needs(end)) };
    let frame = match first.checked_sub(FIN) {
        Some(TEXT) => Frame::Text(payload),
        Some(PING) => Frame::Ping(payload),
        Some(PONG) => Frame::Pong,
        Some(CLOSE) => match payload {
            [a, b, reason @ ..] => Frame::Close(u16::from_be_bytes([*a, *b]), reason),
            _ => Frame::Close(1005, &[]),
        },
        _ => return Err(FrameError::Kind(first)),
    };
    Ok(Parsed::Whole(frame, end))
}

/// Adds a text frame to `out`.
pub(super) fn text(out: &mut Vec<u8>, payload: &[u8]) {
    put(out, TEXT, payload);
}

/// Adds the answer to a ping.
pub(super) fn pong(out: &mut Vec<u8>, payload: &[u8]) {
    put(out, PONG, payload);
}

/// Adds a close without complaint.
pub(super) fn close(out: &mut Vec<u8>) {
    put(out, CLOSE, &1000_u16.to_be_bytes());
}

fn put(out: &mut Vec<u8>, kind: u8, payload: &[u8]) {
    out.push(FIN | kind);
    match payload.len() {
        len @ 0..126 => out.push(MASKED | len as u8),
        len @ 126..=0xFFFF => {
            out.push(MASKED | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(MASKED | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&NO_MASK);
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A frame as a server sends it: ours without the mask.
    fn unmasked(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        put(&mut frame, kind, payload);
        frame[1] &= !MASKED;
        let header = frame.len() - payload.len();
        frame.drain(header - 4..header);
        frame
    }

    #[test]
    fn each_length_has_its_header() {
        for (len, header) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            let frame = unmasked(TEXT, &vec![b'x'; len]);
            assert_eq!(frame.len(), header + len);
            let whole = Parsed::Whole(Frame::Text(&frame[header..]), header + len);
            assert_eq!(parse(&frame), Ok(whole), "{len}");
        }
    }

    #[test]
    fn control_frames_are_told_apart() {
        assert_eq!(parse(&unmasked(PING, b"7")), Ok(Parsed::Whole(Frame::Ping(b"7"), 3)));
        assert_eq!(parse(&unmasked(PONG, b"")), Ok(Parsed::Whole(Frame::Pong, 2)));
        assert_eq!(parse(&unmasked(CLOSE, b"")), Ok(Parsed::Whole(Frame::Close(1005, b""), 2)));
        assert_eq!(parse(&unmasked(CLOSE, &[3, 0xF1, b'x'])), Ok(Parsed::Whole(Frame::Close(1009, b"x"), 5)));
    }

    #[test]
    fn what_a_server_must_not_send_is_refused() {
        let mut masked = Vec::new();
        text(&mut masked, b"x");
        assert_eq!(parse(&masked), Err(FrameError::Masked));
        assert_eq!(parse(&unmasked(0x2, b"x")), Err(FrameError::Kind(0x82)));
        assert_eq!(parse(&[TEXT, 0]), Err(FrameError::Kind(TEXT)));
        assert_eq!(parse(&[0xC1, 0]), Err(FrameError::Kind(0xC1)));
        let huge = [0x81, 127, 0xFF, 0, 0, 0, 0, 0, 0, 0];
        assert!(matches!(parse(&huge), Err(FrameError::TooLong(_))));
    }

    proptest! {
        #[test]
        fn a_cut_frame_asks_for_what_is_missing(len in 0_usize..70_000, cut in 0_usize..70_014) {
            let frame = unmasked(TEXT, &vec![b'x'; len]);
            prop_assume!(cut < frame.len());
            match parse(&frame[..cut]) {
                Ok(Parsed::Needs(bytes)) => prop_assert!(bytes > cut && bytes <= frame.len()),
                other => prop_assert!(false, "{other:?}"),
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            if let Ok(Parsed::Whole(_, taken)) = parse(&bytes) {
                prop_assert!(taken <= bytes.len());
            }
        }
    }
}

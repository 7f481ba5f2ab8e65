//! Any bytes as what a control frame carries, and as a text: a pong gives back the counter of its ping, and every
//! frame says its own length.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sparkmesh_fuzz::wire::frame::{MAX_CONTROL, ping, ping_counter, pong, text};

fuzz_target!(|data: &[u8]| {
    if let Some(counter) = ping_counter(data) {
        assert_eq!(&ping(counter)[2..], data);
    }
    let answer = pong(data);
    assert_eq!(answer.len(), 2 + data.len().min(MAX_CONTROL));
    assert_eq!(usize::from(answer[1]), answer.len() - 2);

    let encoded = text(data);
    assert_eq!(encoded.text(), data);
    let frame = encoded.frame();
    let header = frame.len() - data.len();
    let said = match (header, frame[1]) {
        (2, short @ 0..=125) => u64::from(short),
        (4, 126) => u64::from(u16::from_be_bytes(frame[2..4].try_into().unwrap())),
        (10, 127) => u64::from_be_bytes(frame[2..10].try_into().unwrap()),
        other => panic!("no such header: {other:?}"),
    };
    assert_eq!(said, data.len() as u64);
});

//! Any bytes from another server, as frames and as head and body: nothing panics, what is not whole is left alone, and
//! what is read is written back as it was.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use sparkmesh_fuzz::model::frames::Hop;
use sparkmesh_fuzz::wire::frame::text;
use sparkmesh_fuzz::wire::link::{decode, dispatch_of, encode, head_of};

fuzz_target!(|data: &[u8]| {
    let mut stream = Bytes::copy_from_slice(data);
    loop {
        let before = stream.clone();
        match decode(&mut stream) {
            Ok(Some(hop)) => {
                let again = decode(&mut written(&hop)).expect("what we write we can read");
                assert_eq!(format!("{again:?}"), format!("{:?}", Some(&hop)));
                if let Hop::Carry(carry) = hop {
                    carry.stops.iter().for_each(|stop| dispatch(&stop.head, &carry.body));
                }
            }
            Ok(None) => {
                assert_eq!(stream, before);
                break;
            }
            Err(error) => {
                assert!(error.to_string().len() < 200, "an error is a sentence");
                break;
            }
        }
    }
    let head = Bytes::copy_from_slice(data);
    dispatch(&head, &Bytes::new());
    dispatch(&head, text("{}").frame());
});

fn written(hop: &Hop) -> Bytes {
    let mut chunks = Vec::new();
    encode(hop, &mut chunks);
    chunks.concat().into()
}

fn dispatch(head: &Bytes, body: &Bytes) {
    let Ok(dispatch) = dispatch_of(head, body.clone()) else { return };
    let (head, body) = head_of(&dispatch);
    let again = dispatch_of(&head, body).expect("what we write we can read");
    assert_eq!(format!("{again:?}"), format!("{dispatch:?}"));
}

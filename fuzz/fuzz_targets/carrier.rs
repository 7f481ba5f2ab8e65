//! Any bytes as the stream of a link, of either side, whole and cut in two ways: the same messages, and the same verdict; what is
//! put into frames comes out as it was.
#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use sparkmesh_fuzz::wire::carrier::{CarrierError, Deframer, Masking, Message, put_binary_head};

const MAX: usize = 3000;

fuzz_target!(|data: &[u8]| {
    for of in [Masking::Client, Masking::Server] {
        let whole = read(data, of, data.len().max(1));
        assert_eq!(whole, read(data, of, 1));
        assert_eq!(whole, read(data, of, 7));
        let mut framed = BytesMut::new();
        put_binary_head(&mut framed, data.len(), of);
        framed.extend_from_slice(data);
        if data.len() <= MAX {
            assert_eq!(read(&framed, of, 5), (vec![Message::Binary(Bytes::copy_from_slice(data))], None));
        }
    }
});

fn read(stream: &[u8], of: Masking, step: usize) -> (Vec<Message>, Option<CarrierError>) {
    let mut deframer = Deframer::new(of, MAX);
    let mut found = Vec::new();
    for part in stream.chunks(step) {
        deframer.feed(Bytes::copy_from_slice(part));
        loop {
            match deframer.next() {
                Ok(Some(message)) => found.push(message),
                Ok(None) => break,
                Err(error) => return (found, Some(error)),
            }
        }
    }
    (found, None)
}

//! Any bytes as an envelope in the inbox table: what is read is written back as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sparkmesh_fuzz::record::Record;

fuzz_target!(|data: &[u8]| {
    if let Some(record) = Record::decode(data.to_vec().into()) {
        let again = Record::decode(record.encode()).expect("what we write we can read");
        assert_eq!(format!("{record:?}"), format!("{again:?}"));
    }
});

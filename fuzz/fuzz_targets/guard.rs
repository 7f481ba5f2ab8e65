//! Any bytes as an incoming WebSocket stream, cut in two ways: the verdict is the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sparkmesh_fuzz::wire::guard::Guard;

fuzz_target!(|data: &[u8]| {
    let whole = Guard::new(1000).admit(data);
    let mut guard = Guard::new(1000);
    let bytewise = data.chunks(1).try_for_each(|byte| guard.admit(byte));
    assert_eq!(whole, bytewise);
});

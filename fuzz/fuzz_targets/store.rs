//! Any bytes as what lies in the store's tables: the head of a value, the key of a piece of one, the ledger. What is read is what
//! would be written, and nothing else is taken for it.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| sparkmesh_fuzz::store::any(data));

//! Any bytes as the payload of a config request: nothing panics, and every request gets an answer that is JSON.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use sparkmesh_fuzz::model::ids::{Epoch, Millis, Seq};
use sparkmesh_fuzz::wire::config_request::{Answer, Form, MAX_LIMIT, More, Page, parse};

fuzz_target!(|data: &[u8]| {
    let request = match parse(Some(&Bytes::copy_from_slice(data))) {
        Ok(request) => request,
        Err(error) => {
            assert!(error.to_string().len() < 2000, "an error is a sentence");
            return;
        }
    };
    assert!(request.fetch.is_none_or(|fetch| (1..=MAX_LIMIT).contains(&fetch.limit)));
    let messages = vec![(Seq(1), Bytes::from_static(br#"{"payload":"\""}"#))];
    let page = request.fetch.map(|_| Page { messages, more: More::No, epoch: Epoch(1), dropped: 0 });
    let answer = Answer::to(&request, Millis(5), page).encode(&"alice".parse().unwrap(), request.form);
    let answer: Value = serde_json::from_slice(&answer.text()).unwrap();
    match request.form {
        Form::Object => assert!(answer["payload"].is_object()),
        Form::String => {
            assert!(serde_json::from_str::<Value>(answer["payload"].as_str().unwrap()).unwrap().is_object())
        }
    }
});

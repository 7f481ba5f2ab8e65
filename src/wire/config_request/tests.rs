use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn read(payload: &Value) -> Result<ConfigRequest, WireError> {
    parse(Some(&Bytes::from(payload.to_string())))
}

fn fetch(payload: &Value) -> Fetch {
    read(payload).unwrap().fetch.unwrap()
}

#[test]
fn both_forms_mean_the_same() {
    let object = json!({
        "fetch_inbox_messages": true, "fetch_inbox_messages_from_seq": 3, "fetch_inbox_messages_to_seq": 9,
        "fetch_inbox_messages_from_time_stamp": 100, "fetch_inbox_messages_to_time_stamp": 200,
        "newest_first": true, "limit": 7, "timestamp": 50, "unknown": {"a": 1},
    });
    let wanted = ConfigRequest {
        form: Form::Object,
        push_tokens: vec![],
        fetch: Some(Fetch {
            from_seq: Some(Seq(3)),
            to_seq: Some(Seq(9)),
            after: Some(Millis(100)),
            before: Some(Millis(200)),
            first: First::Newest,
            limit: 7,
        }),
        timestamp: Some(Millis(50)),
    };
    assert_eq!(read(&object).unwrap(), wanted);
    assert_eq!(read(&Value::from(object.to_string())).unwrap(), ConfigRequest { form: Form::String, ..wanted });
}

#[test]
fn what_is_not_said_is_open() {
    let open = Fetch { from_seq: None, to_seq: None, after: None, before: None, first: First::Oldest, limit: 100 };
    assert_eq!(fetch(&json!({"fetch_inbox_messages": 1})), open);
    let said = json!({
        "fetch_inbox_messages": "yes", "fetch_inbox_messages_from_seq": -1, "fetch_inbox_messages_to_seq": -1,
        "fetch_inbox_messages_from_time_stamp": null, "newest_first": false, "limit": null,
    });
    assert_eq!(fetch(&said), open);
    assert_eq!(fetch(&json!({"fetch_inbox_messages": true, "limit": 5000})).limit, 1000);
    let nothing = ConfigRequest { form: Form::Object, push_tokens: vec![], fetch: None, timestamp: None };
    assert_eq!(parse(None).unwrap(), nothing);
    assert_eq!(read(&json!({})).unwrap(), nothing);
}

#[test]
fn truth_as_the_clients_languages_have_it() {
    for (raw, truth) in [
        ("true", true),
        ("1", true),
        ("-1", true),
        ("0.5", true),
        (r#""0""#, true),
        ("[0]", true),
        (r#"{"a":0}"#, true),
        ("false", false),
        ("0", false),
        ("-0.0", false),
        ("0e5", false),
        (r#""""#, false),
        ("[ ]", false),
        ("{ }", false),
        ("null", false),
    ] {
        let payload = Bytes::from(format!(r#"{{"fetch_inbox_messages":{raw}}}"#));
        assert_eq!(parse(Some(&payload)).unwrap().fetch.is_some(), truth, "{raw}");
    }
}

#[test]
fn push_tokens() {
    let payload =
        r#"{"update_gcm_key":"g\u0031","push_token":{"provider":"webpush","token":{"endpoint": "https://e"},"x":1}}"#;
    let tokens = parse(Some(&Bytes::from(payload))).unwrap().push_tokens;
    let token = |provider: &str, token: &str| PushToken { provider: provider.into(), token: token.into() };
    assert_eq!(tokens, [token("fcm", "g1"), token("webpush", r#"{"endpoint": "https://e"}"#)]);
    assert_eq!(format!("{:?}", tokens[0]), r#"PushToken { provider: "fcm", .. }"#);
}

#[test]
fn what_is_refused_names_the_field_and_shows_no_secret() {
    let long = "s".repeat(5000);
    for (payload, told) in [
        (json!([]), "the payload of type -101 is one JSON object, from { to }".to_owned()),
        (json!(null), "the payload of type -101 is one JSON object, from { to }".to_owned()),
        (json!("[]"), "the payload of type -101 is one JSON object, from { to }".to_owned()),
        (json!("{secret"), "the JSON cannot be read: key must be a string at line 1 column 2".to_owned()),
        (
            json!({"fetch_inbox_messages": true, "fetch_inbox_messages_from_seq": "3"}),
            "fetch_inbox_messages_from_seq must be a whole number from -1, not \"3\"".to_owned(),
        ),
        (
            json!({"fetch_inbox_messages": true, "fetch_inbox_messages_to_time_stamp": 1.5}),
            "fetch_inbox_messages_to_time_stamp must be a whole number from -1, not 1.5".to_owned(),
        ),
        (
            json!({"fetch_inbox_messages": true, "newest_first": 1}),
            "newest_first must be true or false, not 1".to_owned(),
        ),
        (json!({"fetch_inbox_messages": true, "limit": 0}), "limit must be a whole number from 1, not 0".to_owned()),
        (json!({"timestamp": "now"}), "timestamp must be a whole number from 0, not \"now\"".to_owned()),
        (
            json!({"push_token": "secret"}),
            "push_token must be an object of provider and token, not this string".to_owned(),
        ),
        (
            json!({"push_token": {"token": "secret"}}),
            "push_token must be an object of provider and token, not an object".to_owned(),
        ),
        (
            json!({"update_gcm_key": ["secret"]}),
            "update_gcm_key must be the token that the provider gave: a string, or for Web Push the subscription, not a list"
                .to_owned(),
        ),
        (
            json!({"update_gcm_key": ""}),
            "update_gcm_key must be the token that the provider gave: a string, or for Web Push the subscription, not this string"
                .to_owned(),
        ),
        (json!({"update_gcm_key": long}), "update_gcm_key has 5000 bytes, at most 4096 are allowed".to_owned()),
    ] {
        let error = read(&payload).expect_err(&payload.to_string()).to_string();
        assert_eq!(error, told);
        assert!(!error.contains("secret"));
    }
    let twice = Bytes::from_static(br#"{"limit":1,"l\u0069mit":2}"#);
    assert_eq!(
        parse(Some(&twice)).unwrap_err().to_string(),
        "the JSON cannot be read: duplicate field `limit` at line 1 column 23"
    );
}

fn page() -> Page {
    Page {
        messages: vec![
            (Seq(4), Bytes::from_static(br#"{"src_id":"b","payload":"\"\ud800"}"#)),
            (Seq(3), Bytes::from_static(b"{}")),
        ],
        more: More::Yes,
        epoch: Epoch(8),
        dropped: 2,
    }
}

fn answered(answer: &Answer, form: Form) -> String {
    String::from_utf8(answer.encode(&"alice".parse().unwrap(), form).text().to_vec()).unwrap()
}

#[test]
fn an_object_is_answered_with_one() {
    let request = read(&json!({"timestamp": 50})).unwrap();
    let clock = Answer::to(&request, Millis(20), None);
    assert_eq!(
        answered(&clock, Form::Object),
        r#"{"type":-102,"dest_id":"alice","payload":{"server_timestamp_add_diff":-30}}"#
    );
    let nothing = Answer { page: None, server_timestamp_add_diff: None };
    assert_eq!(answered(&nothing, Form::Object), r#"{"type":-102,"dest_id":"alice","payload":{}}"#);
    let fetched = Answer { page: Some(page()), server_timestamp_add_diff: Some(1) };
    assert_eq!(
        answered(&fetched, Form::Object),
        concat!(
            r#"{"type":-102,"dest_id":"alice","payload":{"from_seq":3,"to_seq":4,"more":true,"epoch":8,"dropped":2,"#,
            r#""server_timestamp_add_diff":1,"messages":[{"seq":4,"src_id":"b","payload":"\"\ud800"},{"seq":3}]}}"#
        )
    );
    let none = Page { messages: vec![], more: More::No, ..page() };
    assert_eq!(
        answered(&Answer { page: Some(none), server_timestamp_add_diff: None }, Form::Object),
        concat!(
            r#"{"type":-102,"dest_id":"alice","payload":{"from_seq":null,"to_seq":null,"more":false,"epoch":8,"#,
            r#""dropped":2,"messages":[]}}"#
        )
    );
}

#[test]
fn a_string_is_answered_with_strings_in_a_string() {
    let fetched = Answer { page: Some(page()), server_timestamp_add_diff: None };
    let answer: Value = serde_json::from_str(&answered(&fetched, Form::String)).unwrap();
    let payload: Value = serde_json::from_str(answer["payload"].as_str().unwrap()).unwrap();
    assert_eq!(payload["to_seq"], 4);
    assert_eq!(payload["messages"], json!([r#"{"seq":4,"src_id":"b","payload":"\"\ud800"}"#, r#"{"seq":3}"#]));
}

proptest! {
    #[test]
    fn no_payload_panics(payload in any::<Vec<u8>>()) {
        let _ = parse(Some(&Bytes::from(payload)));
    }

    #[test]
    fn no_value_of_a_known_field_panics(
        field in prop::sample::select(vec!["update_gcm_key", "push_token", "fetch_inbox_messages_from_seq", "limit"]),
        raw in r#"-?[0-9]{1,30}|"[^"\\]{0,9}"|\{"provider":.{0,9}\}|[\[{}\]".a-z0-9]{0,9}"#,
    ) {
        let _ = parse(Some(&Bytes::from(format!(r#"{{"fetch_inbox_messages":1,"{field}":{raw}}}"#))));
    }
}

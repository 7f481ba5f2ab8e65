use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn device(text: &str) -> Result<Envelope, WireError> {
    decode(&ByteString::from(text), Origin::Device)
}

fn good(text: &str) -> Envelope {
    device(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn members(text: &str) -> String {
    String::from_utf8(good(text).members.to_vec()).unwrap()
}

fn nested(depth: usize) -> String {
    format!("{}{}", "[".repeat(depth), "]".repeat(depth))
}

fn node(id: &str) -> NodeId {
    id.parse().unwrap()
}

fn stamp() -> Stamp {
    Stamp {
        src_id: node("alice"),
        src_client_id: Some("al".parse().unwrap()),
        timestamp: Millis(17),
        id: Some("given".parse().unwrap()),
        session: Some((3, 9)),
    }
}

fn encoded(text: &str) -> String {
    String::from_utf8(encode(&good(text), &stamp()).text().to_vec()).unwrap()
}

#[test]
fn whom_it_is_for() {
    let session = || "s".parse().unwrap();
    for (text, dest) in [
        ("{}", None),
        (r#"{"dest_id":"d"}"#, Some(Dest::Device(node("d")))),
        (r#"{"dest\u005fid":"\u0064"}"#, Some(Dest::Device(node("d")))),
        (r#"{"dest_client_id":"c"}"#, Some(Dest::Client("c".parse().unwrap()))),
        (r#"{"dest_session_id":"s"}"#, Some(Dest::Session(session()))),
        (r#"{"dest_session_id":"s","dest_id":"d"}"#, Some(Dest::Member { session: session(), member: node("d") })),
        (r#"{"dest_client_id":"c","dest_id":"d"}"#, Some(Dest::Device(node("d")))),
        (r#"{"dest_session_id":"s","dest_client_id":"c"}"#, Some(Dest::Client("c".parse().unwrap()))),
        (r#"{"dest_id":null,"dest_client_id":null,"dest_session_id":"s"}"#, Some(Dest::Session(session()))),
    ] {
        assert_eq!(good(text).dest, dest, "{text}");
    }
}

#[test]
fn what_the_sender_asks_for() {
    let envelope = good(
        r#"{"dest_id":"d","type":200,"id":"i","feature":"FAST","reference":"\u00e9","ttl_ms":5,"collapse_key":"k",
            "is_ack_required":true,"payload":"p"}"#,
    );
    assert_eq!(envelope.kind, 200);
    assert_eq!(envelope.id, Some("i".parse().unwrap()));
    assert_eq!(envelope.feature, Feature::Fast);
    assert_eq!(envelope.reference.as_deref(), Some("é"));
    assert_eq!((envelope.ttl_ms, envelope.collapse_key.as_deref()), (Some(5), Some("k")));
    assert!(std::str::from_utf8(&envelope.members).unwrap().contains("\"is_ack_required\":true"));
    for (text, feature) in [
        ("{}", Feature::Fast),
        (r#"{"type":0}"#, Feature::Fast),
        (r#"{"type":-0}"#, Feature::Fast),
        (r#"{"type":null,"id":null,"feature":null,"reference":null,"ttl_ms":null,"collapse_key":null}"#, Feature::Fast),
        (r#"{"type":1}"#, Feature::Reliable),
        (r#"{"type":0,"feature":"RELIABLE"}"#, Feature::Reliable),
    ] {
        assert_eq!(good(text).feature, feature, "{text}");
    }
}

#[test]
fn types_by_who_may_send_them() {
    for kind in [0, 1, 99, 200, i64::MAX] {
        assert_eq!(good(&format!(r#"{{"type":{kind}}}"#)).kind, kind);
    }
    for kind in [-9, -8, -7, -5, -4, -3, -102, -1, 101, 102, 105, 106, 199, i64::MIN] {
        let text = ByteString::from(format!(r#"{{"dest_session_id":"s","type":{kind}}}"#));
        for from in [Origin::Device, Origin::App] {
            assert_eq!(decode(&text, from).unwrap_err(), WireError::ServerType(kind));
        }
    }
    for kind in [100, 103, 104] {
        assert_eq!(good(&format!(r#"{{"dest_session_id":"s","type":{kind}}}"#)).kind, kind);
        for other in [r#""dest_id":"d""#, r#""dest_client_id":"d""#, r#""x":1"#] {
            for session in ["", r#""dest_session_id":"s","#] {
                if session.is_empty() || !other.contains('x') {
                    let text = format!(r#"{{{session}{other},"type":{kind}}}"#);
                    assert_eq!(device(&text).unwrap_err(), WireError::SessionType(kind), "{text}");
                }
            }
        }
    }
    for kind in [-6, -101] {
        let text = format!(r#"{{"type":{kind},"seq":1,"dest_id":"d"}}"#);
        assert_eq!(device(&text).unwrap_err(), WireError::ControlType(kind));
    }
    assert!(!good(r#"{"type":-101}"#).is_keep_alive());
    assert!(good("{}").is_keep_alive());
}

#[test]
fn acknowledgements() {
    let one = good(r#"{"type":-6,"src_id":"b","id":"i"}"#);
    assert_eq!((one.src_id, one.seq), (Some(node("b")), None));
    assert_eq!(good(r#"{"type":-6,"seq":7}"#).seq, Some(Seq(7)));
    for bad in [r#"{"type":-6}"#, r#"{"type":-6,"src_id":"b"}"#, r#"{"type":-6,"id":"i"}"#, r#"{"type":-6,"seq":null}"#]
    {
        assert_eq!(device(bad).unwrap_err(), WireError::Ack, "{bad}");
    }
    for bad in [r#"{"type":-6,"seq":-1}"#, r#"{"type":-6,"seq":"7"}"#, r#"{"type":-6,"src_id":5,"id":"i"}"#] {
        assert!(matches!(device(bad), Err(WireError::Wrong { .. })), "{bad}");
    }
}

#[test]
fn what_only_a_server_says_is_taken_out() {
    for (text, kept) in [
        (r#"{"src_id":"eve","payload":1}"#, r#""payload":1"#),
        (r#"{"payload":1,"src_id":"eve"}"#, r#""payload":1"#),
        (r#"{"a":1,"src_client_id":"x","b":2}"#, r#""a":1,"b":2"#),
        (r#"{"timestamp":1,"seq":2,"session_epoch":3,"session_seq":4}"#, ""),
        (
            r#"{ "a" : 1 , "\u0073rc_id" : {"b":[1,2]} , "c" : ", " , "seq":"x" , "d":"," }"#,
            r#""a" : 1,"c" : ", ","d":",""#,
        ),
        (r#"{"anonymize_src_id":"eve","a":1}"#, r#""a":1"#),
        (r#"{"id":null,"a":1}"#, r#""a":1"#),
        // Types that would be wrong, were they looked at.
        (r#"{"src_id":5,"seq":"x","timestamp":[],"a":1}"#, r#""a":1"#),
        (r#"{"src_id":"no id!","a":1}"#, r#""a":1"#),
    ] {
        let envelope = good(text);
        assert_eq!(envelope.members, kept, "{text}");
        assert_eq!((envelope.src_id, envelope.seq), (None, None), "{text}");
    }
}

#[test]
fn an_app_speaks_for_others() {
    let app = |text: &'static str| decode(&ByteString::from_static(text), Origin::App);
    let envelope = app(r#"{"src_id":"bot","seq":5,"dest_id":"d"}"#).unwrap();
    assert_eq!((envelope.src_id, envelope.seq), (Some(node("bot")), None));
    assert_eq!(envelope.members, r#""dest_id":"d""#);
    assert_eq!(app("{}").unwrap().src_id, None);
    assert!(app(r#"{"src_id":5}"#).is_err());
    assert!(app(r#"{"src_id":"no id!"}"#).is_err());
}

#[test]
fn all_else_passes_untouched() {
    for payload in [
        "0",
        "-0",
        "false",
        "\"\"",
        "null",
        "[]",
        "1e999",
        "123456789012345678901234567890.10",
        r#""\ud800""#,
        r#""\/\u00e9é""#,
        "[ 1 ,\t2 ]",
        r#"{"src_id":"mine","src_id":"twice is mine too"}"#,
        r#""𝄞\u0000""#,
    ] {
        let text = format!(r#"{{"payload":{payload},"payload1":{payload},"\ud800":{payload}}}"#);
        let envelope = good(&text);
        assert_eq!(envelope.payload.unwrap(), payload);
        assert_eq!(envelope.members, text[1..text.len() - 1]);
    }
    // Without a copy.
    let text = ByteString::from(r#" { "payload" : [1] } "#);
    let envelope = decode(&text, Origin::Device).unwrap();
    assert_eq!(envelope.members, r#""payload" : [1]"#);
    assert_eq!(envelope.members.as_ptr().addr(), text.as_ptr().addr() + 3);
}

#[test]
fn what_is_refused_and_how_it_is_told() {
    let long = "x".repeat(300);
    for (text, told) in [
        (String::new(), "a frame is one JSON object, from { to }"),
        ("[1]".into(), "a frame is one JSON object, from { to }"),
        ("\u{feff}{}".into(), "a frame is one JSON object, from { to }"),
        ("\"secret\"".into(), "a frame is one JSON object, from { to }"),
        ("{".into(), "the JSON cannot be read: EOF while parsing an object at line 1 column 1"),
        ("{} {}".into(), "the JSON cannot be read: trailing characters at line 1 column 4"),
        ("{'a':1}".into(), "the JSON cannot be read: key must be a string at line 1 column 2"),
        (r#"{"a":1,}"#.into(), "the JSON cannot be read: trailing comma at line 1 column 8"),
        (r#"{"a":01}"#.into(), "the JSON cannot be read: invalid number at line 1 column 7"),
        (r#"{"dest_id":"a","dest_id":"b"}"#.into(), "dest_id stands there twice: send it once"),
        (r#"{"dest_id":"a","dest\u005fid":"b"}"#.into(), "dest_id stands there twice: send it once"),
        (r#"{"src_id":null,"\u0073\u0072c_id":null}"#.into(), "src_id stands there twice: send it once"),
        (r#"{"dest_id":5}"#.into(), "dest_id must be a string, not 5"),
        (r#"{"dest_id":""}"#.into(), "dest_id is \"\", but an id must not be empty"),
        (r#"{"dest_id":"a b"}"#.into(), "dest_id is \"a b\", but an id is made of A-Z a-z 0-9 _ - . : @, not ' '"),
        (
            r#"{"dest_id":"\udc00"}"#.into(),
            "dest_id must be a string of whole characters (it has half a surrogate pair), not \"\\udc00\"",
        ),
        (
            format!(r#"{{"dest_session_id":"{long}"}}"#),
            &format!(
                "dest_session_id is \"{}..., but an id has at most 128 characters, this one has 300",
                "x".repeat(63)
            ),
        ),
        (r#"{"type":1.0}"#.into(), "type must be a whole number, not 1.0"),
        (r#"{"type":1e2}"#.into(), "type must be a whole number, not 1e2"),
        (r#"{"type":"1"}"#.into(), "type must be a whole number, not \"1\""),
        (r#"{"type":9223372036854775808}"#.into(), "type must be a whole number, not 9223372036854775808"),
        (r#"{"feature":"fast"}"#.into(), "feature must be \"RELIABLE\" or \"FAST\", not \"fast\""),
        (r#"{"ttl_ms":0}"#.into(), "ttl_ms must be a whole number from 1 to 315360000000, not 0"),
        (r#"{"ttl_ms":315360000001}"#.into(), "ttl_ms must be a whole number from 1 to 315360000000, not 315360000001"),
        (format!(r#"{{"reference":"{long}"}}"#), "reference has 300 bytes, at most 256 are allowed"),
        (format!(r#"{{"collapse_key":"{long}"}}"#), "collapse_key has 300 bytes, at most 64 are allowed"),
        (r#"{"collapse_key":""}"#.into(), "collapse_key must be a string of at least one character, not \"\""),
        (r#"{"id":7}"#.into(), "id must be a string, not 7"),
        (
            format!(r#"{{"payload":{}}}"#, nested(128)),
            "brackets are nested deeper than 128: flatten the payload, or send it as a string",
        ),
        (r#"{"type":-7}"#.into(), "type -7 is for the server to send: an application has 0 to 99, and 200 and up"),
    ] {
        let error = device(&text).expect_err(&text);
        assert_eq!(error.to_string(), told, "{text}");
        assert_eq!(error.code().word(), "bad_envelope");
        assert_eq!(error.code().close(), None, "a bad frame leaves the edge open");
    }
    good(&format!(r#"{{"payload":{}}}"#, nested(127)));
    good(&format!(r#"{{"reference":"{}"}}"#, "x".repeat(256)));
    // Not stopped by depth, but never by the stack either.
    assert!(device(&format!(r#"{{"payload":{}}}"#, nested(400_000))).is_err());
    assert!(device(&format!(r#"{{"payload":{}"#, "[".repeat(900_000))).is_err());
}

#[test]
fn the_id_of_a_refused_frame() {
    let id_of = |text: &'static str| names_of(&ByteString::from_static(text)).0;
    let reference = names_of(&ByteString::from_static(r#"{"reference":"r","type":-7}"#)).1;
    assert_eq!(reference.as_deref(), Some("r"));
    assert_eq!(id_of(r#"{"id":"i","type":-7}"#), Some("i".parse().unwrap()));
    assert_eq!(id_of(r#"{"id":7,"type":-7}"#), None);
    assert_eq!(id_of(r#"{"id":"i","type":"#), None);
}

#[test]
fn the_servers_fields_come_first() {
    assert_eq!(
        encoded(r#"{"type":1,"payload":"p","src_id":"eve"}"#),
        r#"{"src_id":"alice","src_client_id":"al","timestamp":17,"id":"given","session_epoch":3,"session_seq":9,"type":1,"payload":"p"}"#
    );
    let anonymous = Stamp { src_client_id: None, id: None, session: None, ..stamp() };
    let bare = |text| String::from_utf8(encode(&good(text), &anonymous).text().to_vec()).unwrap();
    assert_eq!(bare(r#"{"id":"i"}"#), r#"{"src_id":"alice","timestamp":17,"id":"i"}"#);
    assert_eq!(bare("{}"), r#"{"src_id":"alice","timestamp":17}"#);
    assert_eq!(bare(r#"{ "seq" : 1 }"#), r#"{"src_id":"alice","timestamp":17}"#);
    assert_eq!(members("{ \n}"), "");
    // The sender's id goes before one of the server's.
    assert!(!encoded(r#"{"id":"i"}"#).contains("given"));
    let odd = Stamp { id: Some("\"\\\u{1}é".parse().unwrap()), ..anonymous };
    let text = encode(&good("{}"), &odd).text();
    assert_eq!(text, r#"{"src_id":"alice","timestamp":17,"id":"\"\\\u0001é"}"#);
}

#[test]
fn a_place_in_the_inbox_is_spliced_in() {
    let text = encode(&good(r#"{"payload":{"seq":1}}"#), &Stamp { id: None, session: None, ..stamp() }).text();
    let replayed = with_seq(&text, Seq(u64::MAX));
    assert_eq!(
        replayed.text(),
        r#"{"seq":18446744073709551615,"src_id":"alice","src_client_id":"al","timestamp":17,"payload":{"seq":1}}"#
    );
    assert_eq!(with_seq(&Bytes::from_static(b"{}"), Seq(1)).text(), r#"{"seq":1}"#);
}

/// Any JSON, of no great depth.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Spells a string with some of its characters escaped, as JSON allows.
fn spelled(text: &str, escape: u64) -> String {
    let mut spelled = String::from("\"");
    for (place, c) in text.chars().enumerate() {
        if escape >> (place % 64) & 1 == 1 && (c as u32) < 0x1_0000 {
            spelled.extend(["\\u".to_owned(), format!("{:04x}", c as u32)]);
        } else {
            let quoted = json!(c).to_string();
            spelled.push_str(&quoted[1..quoted.len() - 1]);
        }
    }
    spelled.push('"');
    spelled
}

fn space() -> impl Strategy<Value = &'static str> {
    prop_oneof![4 => Just(""), 1 => Just(" "), 1 => Just("\r\n\t")]
}

/// The entries of a frame as they are written: a key (often one of the server's), and any value.
fn entries() -> impl Strategy<Value = Vec<(String, String)>> {
    let servers = prop::sample::select(vec![
        "src_id",
        "src_client_id",
        "timestamp",
        "seq",
        "session_epoch",
        "session_seq",
        "anonymize_src_id",
    ]);
    let key = prop_oneof![servers.prop_map(str::to_owned), "[a-z_]{0,12}", any::<String>()];
    let entry = (key, any::<u64>(), value(), space(), space());
    prop::collection::vec(entry, 0..12).prop_map(|entries| {
        let mut seen = std::collections::BTreeSet::new();
        let mut written = Vec::new();
        for (key, escape, value, before, after) in entries {
            let typed = ["type", "id", "feature", "reference", "ttl_ms", "collapse_key"].contains(&key.as_str());
            if !typed && !key.starts_with("dest_") && seen.insert(key.clone()) {
                written.push((key.clone(), format!("{}{before}:{after}{value}", spelled(&key, escape))));
            }
        }
        written
    })
}

proptest! {
    #[test]
    fn no_text_panics(text in any::<String>()) {
        let text = ByteString::from(text);
        let _ = decode(&text, Origin::Device);
        let _ = decode(&text, Origin::App);
        let _ = names_of(&text);
    }

    #[test]
    fn nearly_json_does_not_panic_either(entries in entries(), cut in any::<prop::sample::Index>()) {
        let text: String = entries.iter().map(|(_, entry)| entry.as_str()).collect::<Vec<_>>().join(",");
        let text = format!("{{{text}}}");
        let cut = text.floor_char_boundary(cut.index(text.len() + 1));
        let _ = device(&text[..cut]);
    }

    #[test]
    fn what_is_the_clients_passes_byte_for_byte_and_what_is_the_servers_is_there_once(
        entries in entries(),
        gap in space(),
    ) {
        let text = entries.iter().map(|(_, entry)| entry.as_str()).collect::<Vec<_>>().join(&format!("{gap},{gap}"));
        let text = format!("{gap}{{{gap}{text}{gap}}}{gap}");
        let envelope = device(&text).unwrap();

        let is_servers = |key: &str| Key::named(key).is_some_and(Key::is_servers);
        let kept: Vec<&str> = entries.iter().filter(|(key, _)| !is_servers(key)).map(|(_, entry)| entry.as_str()).collect();
        let members = std::str::from_utf8(&envelope.members).unwrap();
        let mut rest = members;
        for entry in &kept {
            let at = rest.find(entry).expect("every entry is there, in order");
            prop_assert!(rest[..at].chars().all(|c| is_space(c) || c == ','));
            rest = &rest[at + entry.len()..];
        }
        prop_assert_eq!(rest, "");

        let text = encode(&envelope, &stamp()).text();
        let Entries(seen) = serde_json::from_slice(&text).unwrap();
        let ours = json!({"src_id": "alice", "src_client_id": "al", "timestamp": 17, "id": "given",
            "session_epoch": 3, "session_seq": 9});
        for (key, value) in ours.as_object().unwrap() {
            let found: Vec<_> = seen.iter().filter(|(name, _)| name == key).map(|(_, value)| value).collect();
            prop_assert_eq!(found, vec![value]);
        }
        prop_assert!(!seen.iter().any(|(name, _)| name == "anonymize_src_id" || name == "seq"));
        prop_assert_eq!(seen.len(), 6 + kept.len());
    }
}

/// An object with all its entries, also those whose key is there twice.
struct Entries(Vec<(String, Value)>);

impl<'de> serde::Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Entries;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(All)
    }
}

//! Any bytes as a text frame: nothing panics, what is accepted is encoded as one JSON object, and of what only a
//! server says nothing is left but what the server said.
#![no_main]

use std::fmt;

use bytestring::ByteString;
use libfuzzer_sys::fuzz_target;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use sparkmesh_fuzz::model::envelope::Stamp;
use sparkmesh_fuzz::model::ids::{Millis, Seq};
use sparkmesh_fuzz::wire::native::{Origin, decode, encode, names_of, with_seq};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = ByteString::try_from(data) else { return };
    let _ = names_of(&text);
    for from in [Origin::Device, Origin::App] {
        let envelope = match decode(&text, from) {
            Ok(envelope) => envelope,
            Err(error) => {
                assert!(error.to_string().len() < 2000, "an error is a sentence");
                continue;
            }
        };
        let stamp = Stamp {
            src_id: "server".parse().unwrap(),
            src_client_id: Some("client".parse().unwrap()),
            timestamp: Millis(1),
            id: Some("given".parse().unwrap()),
            session: Some((2, 3)),
        };
        let encoded = encode(&envelope, &stamp);
        assert!(encoded.frame().len() - encoded.text().len() <= 10);
        let Some(keys) = read_keys(&encoded.text()) else {
            // A key may be half a surrogate pair, which Rust's strings cannot hold; values pass as they are.
            assert!(text.contains("\\u"));
            continue;
        };
        for (key, times) in [
            ("src_id", 1),
            ("src_client_id", 1),
            ("timestamp", 1),
            ("id", 1),
            ("session_epoch", 1),
            ("session_seq", 1),
            ("seq", 0),
            ("anonymize_src_id", 0),
        ] {
            assert_eq!(keys.iter().filter(|found| *found == key).count(), times, "{key}");
        }
        let replayed = with_seq(&encoded.text(), Seq(4));
        assert!(read_keys(&replayed.text()).is_some_and(|found| found[0] == "seq" && found[1..] == keys[..]));
    }
});

fn read_keys(json: &[u8]) -> Option<Vec<String>> {
    serde_json::from_slice(json).ok().map(|Keys(keys)| keys)
}

/// The keys of an object, in order, also those that are there twice.
struct Keys(Vec<String>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Keys;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                let mut keys = Vec::new();
                while let Some((key, IgnoredAny)) = map.next_entry()? {
                    keys.push(key);
                }
                Ok(Keys(keys))
            }
        }
        deserializer.deserialize_map(All)
    }
}

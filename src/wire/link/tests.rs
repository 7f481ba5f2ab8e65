use super::*;
use crate::model::frames::{Carried, Dispatch, Recipient};
use crate::model::ids::{Incarnation, Millis, Seq};
use crate::model::outbox::{Class, Keep, Prompt};
use crate::wire::frame;

fn joined(hop: &Hop) -> Bytes {
    let mut chunks = Vec::new();
    encode(hop, &mut chunks);
    chunks.concat().into()
}

fn envelope(text: &str) -> Carried {
    Carried {
        encoded: frame::text(text),
        key: None,
        seq: None,
        class: Class::Reliable,
        ttl: Some(60_000),
        keep: Arc::new(Keep {
            sender: "alice".parse().unwrap(),
            id: "m-1".parse().unwrap(),
            collapse: None,
            kind: 1,
            timestamp: Millis(1_700_000_000_000),
            session: None,
            prompt: Prompt::Soon,
        }),
    }
}

fn deliver(text: &str) -> Dispatch {
    let recipient = Recipient { device: "bob".parse().unwrap(), number: 7, shown: None, known: Seq(0) };
    Dispatch::Deliver { recipients: vec![recipient], envelope: envelope(text) }
}

#[test]
fn an_envelope_goes_through_the_mesh() {
    for len in [2, 100, 300, 70_000] {
        let dispatch = deliver(&"x".repeat(len));
        let (head, body) = head_of(&dispatch);
        let stops = ["s2", "s3"].map(|server| Stop {
            server: server.parse().unwrap(),
            generation: 1,
            number: 300,
            head: head.clone(),
        });
        let carry =
            Carry { hops: 0, origin: "s1".parse().unwrap(), incarnation: Incarnation(4), stops: stops.into(), body };
        let mut bytes = joined(&Hop::Carry(carry));
        let Some(Hop::Carry(carry)) = decode(&mut bytes).unwrap() else { panic!("another hop") };
        assert!(bytes.is_empty());
        assert_eq!(carry.stops.len(), 2);
        for stop in carry.stops {
            let read = dispatch_of(&stop.head, carry.body.clone()).unwrap();
            assert_eq!(format!("{read:?}"), format!("{dispatch:?}"));
        }
    }
}

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::model::frames::Dispatch;
use crate::model::ids::Incarnation;

mod any;

fn chunks_of(hop: &Hop) -> Vec<Bytes> {
    let mut chunks = Vec::new();
    encode(hop, &mut chunks);
    chunks
}

fn joined(hop: &Hop) -> Bytes {
    chunks_of(hop).concat().into()
}

fn carry(stops: usize, head: &Bytes, body: Bytes) -> Carry {
    let stops = (0..stops).map(|n| Stop {
        server: format!("server-{n}").parse().unwrap(),
        generation: 1,
        number: 300,
        head: head.clone(),
    });
    Carry { hops: 0, origin: "origin".parse().unwrap(), incarnation: Incarnation(4), stops: stops.collect(), body }
}

fn said(what: &impl std::fmt::Debug) -> String {
    format!("{what:?}")
}

/// What can be read can be written, and says the same.
fn check_hop(hop: &Hop) -> Result<(), TestCaseError> {
    let again = decode(&mut joined(hop));
    prop_assert_eq!(said(&again), said(&Ok::<_, LinkError>(Some(hop))));
    Ok(())
}

fn check_dispatch(dispatch: &Dispatch) -> Result<(), TestCaseError> {
    let (head, body) = head_of(dispatch);
    let again = dispatch_of(&head, body);
    prop_assert_eq!(said(&again), said(&Ok::<_, LinkError>(dispatch)));
    Ok(())
}

#[test]
fn bodies_and_long_heads_are_shared_on_the_whole_way() {
    let (head, body) = (Bytes::from(vec![1; 1000]), Bytes::from(vec![2; 1000]));
    let sent = chunks_of(&Hop::Carry(carry(2, &head, body.clone())));
    let addresses: Vec<_> = sent.iter().map(|chunk| chunk.as_ptr()).collect();
    assert_eq!(addresses.iter().filter(|at| **at == head.as_ptr()).count(), 2);
    assert_eq!(addresses.last(), Some(&body.as_ptr()));

    let arrived: Bytes = sent.concat().into();
    let Some(Hop::Carry(passing)) = decode(&mut arrived.clone()).unwrap() else { panic!("another hop") };
    for chunk in chunks_of(&Hop::Carry(passing)).iter().filter(|chunk| chunk.len() == 1000) {
        assert!(arrived.as_ptr_range().contains(&chunk.as_ptr()), "a relay copies nothing long");
    }

    let short = Bytes::from_static(b"short");
    assert_eq!(chunks_of(&Hop::Carry(carry(2, &short, short.clone()))).len(), 1);
}

#[test]
fn frames_follow_each_other() {
    let mut stream = [joined(&Hop::Ping { counter: 1 }), joined(&Hop::Ping { counter: 300 })].concat();
    stream.push(0);
    let mut bytes = Bytes::from(stream);
    assert!(matches!(decode(&mut bytes), Ok(Some(Hop::Ping { counter: 1 }))));
    assert!(matches!(decode(&mut bytes), Ok(Some(Hop::Ping { counter: 300 }))));
    assert!(matches!(decode(&mut bytes), Ok(None)));
    assert_eq!(bytes.len(), 1, "what is not whole stays");
}

#[test]
fn every_fault_has_a_name() {
    let fault = |bytes: &[u8]| {
        let framed = [&(bytes.len() as u32).to_be_bytes()[..], bytes].concat();
        decode(&mut framed.into()).map(|hop| hop.is_some())
    };
    assert_eq!(fault(&[VERSION, kind::PING, 5]), Ok(true));
    assert_eq!(fault(&[]), Err(LinkError::Cut));
    assert_eq!(fault(&[VERSION + 1, kind::PING, 5]), Err(LinkError::Version(VERSION + 1)));
    assert_eq!(fault(&[VERSION, 77]), Err(LinkError::Unknown { what: "Hop", tag: 77 }));
    assert_eq!(fault(&[VERSION, kind::PING]), Err(LinkError::Cut));
    assert_eq!(fault(&[VERSION, kind::PING, 0x80]), Err(LinkError::Cut));
    assert_eq!(fault(&[VERSION, kind::PING, 5, 6]), Err(LinkError::Trailing(1)));
    assert_eq!(fault(&[VERSION, kind::DIGESTS, 1, 1, b'/', 0, 0]), Err(LinkError::Id(IdError::Alphabet('/'))));
    assert_eq!(fault(&[VERSION, kind::DIGESTS, 1, 0, 0, 0]), Err(LinkError::Id(IdError::Empty)));
    assert_eq!(fault(&[VERSION, kind::DIGESTS, 1, 1, 0xff, 0, 0]), Err(LinkError::Text));
    assert_eq!(fault(&[VERSION, kind::CARRY, MAX_HOPS, 1, b's', 0, 0]), Ok(true));
    assert_eq!(fault(&[VERSION, kind::CARRY, MAX_HOPS + 1, 1, b's', 0, 0]), Err(LinkError::Number));
    let widest = [&[VERSION, kind::PING][..], &[0xff; 9]].concat();
    assert_eq!(fault(&[&widest[..], &[1]].concat()), Ok(true), "2^64 - 1");
    assert_eq!(fault(&[&widest[..], &[2]].concat()), Err(LinkError::Number));
    assert_eq!(fault(&[&widest[..], &[0x81, 0]].concat()), Err(LinkError::Number));
    let mut endless = Bytes::from_static(&[0xff; 8]);
    assert_eq!(decode(&mut endless).map(|_| ()), Err(LinkError::TooLong(u32::MAX as usize)));
}

#[test]
fn a_list_that_claims_more_than_is_there_is_cut() {
    for len in [[0xff, 0xff, 0xff, 0xff, 0x0f], [0xff, 0xff, 0xff, 0xff, 0x7f]] {
        let frame = [&[0, 0, 0, 7, VERSION, kind::DIGESTS][..], &len].concat();
        assert_eq!(decode(&mut frame.into()).map(|_| ()), Err(LinkError::Cut));
    }
}

#[test]
fn a_body_is_what_its_head_says() {
    let (head, body) = head_of(&any::deliver(2, "text"));
    let cut = body.slice(..body.len() - 1);
    for other in [Bytes::new(), cut, Bytes::from_static(b"no frame")] {
        assert_eq!(dispatch_of(&head, other).map(|_| ()), Err(LinkError::Body));
    }
    let (head, none) = head_of(&Dispatch::Fates(Vec::new()));
    assert!(none.is_empty());
    assert_eq!(dispatch_of(&head, body).map(|_| ()), Err(LinkError::Body), "nobody would look at it");
}

#[test]
fn what_may_lie_for_long_keeps_no_more_than_itself_alive() {
    for (len, shared) in [(100, false), (100_000, true)] {
        let (head, body) = head_of(&any::deliver(1, &"x".repeat(len)));
        let Dispatch::Deliver { envelope, .. } = dispatch_of(&head, body.clone()).unwrap() else { panic!() };
        assert_eq!(envelope.encoded.frame(), &body);
        assert_eq!(envelope.encoded.frame().as_ptr() == body.as_ptr(), shared, "{len}");
    }
}

#[test]
fn a_session_of_the_largest_kind_is_one_frame() {
    let dispatch = any::deliver(100_000, "text");
    let (head, body) = head_of(&dispatch);
    let mut bytes = joined(&Hop::Carry(carry(1, &head, body)));
    let Some(Hop::Carry(arrived)) = decode(&mut bytes).unwrap() else { panic!("another hop") };
    let again = dispatch_of(&arrived.stops[0].head, arrived.body).unwrap();
    let Dispatch::Deliver { recipients, .. } = &again else { panic!("another dispatch") };
    assert_eq!(recipients.len(), 100_000);
    assert_eq!(said(&again), said(&dispatch));
}

proptest! {
    #[test]
    fn a_hop_is_read_as_it_was_written(hop in any::hop()) {
        check_hop(&hop)?;
    }

    #[test]
    fn a_dispatch_is_read_as_it_was_written(dispatch in any::dispatch()) {
        check_dispatch(&dispatch)?;
    }

    #[test]
    fn a_cut_frame_is_awaited_and_its_rest_makes_it_whole(hop in any::hop(), cut in any::<prop::sample::Index>()) {
        let whole = joined(&hop);
        let mut cut = whole.slice(..cut.index(whole.len()));
        let before = cut.clone();
        prop_assert!(matches!(decode(&mut cut), Ok(None)));
        prop_assert_eq!(cut, before);
    }

    /// The length says it is whole, but its end is missing. Of a carry that is body, of which a frame may have less.
    #[test]
    fn a_frame_without_its_end_is_refused(hop in any::hop(), cut in any::<prop::sample::Index>()) {
        prop_assume!(!matches!(hop, Hop::Carry(_)));
        let whole = joined(&hop);
        let cut = LENGTH + cut.index(whole.len() - LENGTH);
        let short = [&((cut - LENGTH) as u32).to_be_bytes()[..], &whole[LENGTH..cut]].concat();
        prop_assert!(decode(&mut short.into()).is_err());
    }

    #[test]
    fn a_head_without_its_end_is_refused(dispatch in any::dispatch(), cut in any::<prop::sample::Index>()) {
        let (head, body) = head_of(&dispatch);
        prop_assert!(dispatch_of(&head.slice(..cut.index(head.len())), body).is_err());
    }

    #[test]
    fn any_bytes_are_read_or_refused(tag in 0u8..12, fields in vec(any::<u8>(), 0..200)) {
        let frame = [&(fields.len() as u32 + 2).to_be_bytes()[..], &[VERSION, tag], &fields].concat();
        if let Ok(hop) = decode(&mut frame.into()) {
            check_hop(&hop.expect("it is whole"))?;
        }
    }

    #[test]
    fn any_head_and_body_are_read_or_refused(
        tag in 0u8..20,
        fields in vec(any::<u8>(), 0..200),
        text in option::of("[a-z]{0,9}"),
    ) {
        let head = [&[tag][..], &fields].concat().into();
        let body = text.map_or(Bytes::new(), |text| crate::wire::frame::text(text).frame().clone());
        if let Ok(dispatch) = dispatch_of(&head, body) {
            check_dispatch(&dispatch)?;
        }
    }

    /// Near misses: a true frame with one byte changed.
    #[test]
    fn one_wrong_byte_does_no_harm(hop in any::hop(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = joined(&hop).to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(Some(hop)) = decode(&mut bytes.into()) {
            check_hop(&hop)?;
        }
    }
}

//! The greeting: who gets in, and who does not.

use proptest::prelude::*;

use super::*;
use crate::auth::key::Keyring;
use crate::auth::secrets::Secrets;
use crate::model::codes::Code;

const SECRET: &str = "the-secret-of-tests";

fn keys(secret: &str) -> Arc<PeerKeys> {
    Arc::new(PeerKeys::new(&Keyring::new(Secrets::parse(secret, "test").unwrap())))
}

fn id(text: &str) -> NodeId {
    text.parse().unwrap()
}

fn introduction(node: &str) -> Introduction {
    Introduction {
        node: id(node),
        incarnation: Incarnation(4),
        address: Address { host: "192.0.2.1".to_owned(), port: 8080, ..Address::default() },
        cluster: [7; 32],
        members: Members::default(),
        blank: true,
        pins: 7,
    }
}

fn dialler(secret: &str, nonce: u8) -> (Greeting, Bytes) {
    Greeting::dial(keys(secret), id("d"), None, [nonce; 32])
}

fn acceptor(secret: &str, nonce: u8) -> Greeting {
    Greeting::accept(keys(secret), id("a"), [nonce; 32])
}

fn hear(greeting: &mut Greeting, word: &Bytes) -> Result<Step, Fault> {
    let mut word = word.clone();
    assert_eq!(word.get_u32() as usize, word.len());
    assert!(word.len() <= greeting.limit(), "a good word is never too long");
    greeting.hear(&word)
}

fn said(step: Result<Step, Fault>) -> Bytes {
    match step {
        Ok(Step::Say(word)) => word,
        other => panic!("it should say something: {other:?}"),
    }
}

/// All words of a greeting that succeeds, in their order.
fn greet(dialler: (Greeting, Bytes), mut acceptor: Greeting) -> Vec<Bytes> {
    let (mut dialler, mut words) = (dialler.0, vec![dialler.1]);
    for _ in 0..2 {
        words.push(said(hear(&mut acceptor, words.last().unwrap())));
        match hear(&mut dialler, words.last().unwrap()) {
            Ok(Step::Say(word)) => words.push(word),
            Ok(Step::Introduce) => break,
            other => panic!("{other:?}"),
        }
    }
    words.push(dialler.introduce(&introduction("d")).unwrap());
    let step = hear(&mut acceptor, words.last().unwrap());
    assert_eq!(step, Ok(Step::Meet(Box::new(introduction("d")))));
    words.push(acceptor.met(&introduction("a")).unwrap());
    let step = hear(&mut dialler, words.last().unwrap());
    assert_eq!(step, Ok(Step::Meet(Box::new(introduction("a")))));
    words.push(dialler.met(&introduction("d")).unwrap());
    assert_eq!(hear(&mut acceptor, words.last().unwrap()), Ok(Step::Done));
    assert_eq!((dialler.peer(), acceptor.peer()), (Some(&id("a")), Some(&id("d"))));
    words
}

#[test]
fn two_servers_of_one_secret_meet() {
    let words = greet(dialler(SECRET, 1), acceptor(SECRET, 2));
    assert_eq!(words.len(), 7);
    let shown = words.iter().any(|word| word.windows(4).any(|part| part == [7; 4] || part == b"7,7,"));
    assert!(!shown, "the cluster id goes over the wire as it is");
}

#[test]
fn a_secret_on_its_way_out_is_good_on_both_sides() {
    let both = "new:the-newer-secret-x\nold:the-older-secret-x";
    greet(dialler("old:the-older-secret-x", 1), acceptor(both, 2));
    greet(dialler("new:the-newer-secret-x", 1), acceptor(both, 2));
}

#[test]
fn a_wrong_secret_is_found_by_either_side() {
    let ((mut dialler, hello), mut acceptor) = (dialler("another-secret-here", 1), acceptor(SECRET, 2));
    let answer = said(hear(&mut acceptor, &hello));
    let proof = said(hear(&mut dialler, &answer));
    assert_eq!(hear(&mut acceptor, &proof), Err(Fault::Secret));
    let told = hear(&mut dialler, &refusal(&Fault::Secret));
    assert!(matches!(told, Err(Fault::Refused { reason }) if reason.contains("secret")));
    // An acceptor that claims to have understood.
    let (mut dialler, hello) = self::dialler(SECRET, 1);
    let mut liar = self::acceptor("another-secret-here", 2);
    let answer = said(hear(&mut liar, &hello));
    said(hear(&mut dialler, &answer));
    let lie = liar.keys.prove(liar.which, Speaker::Acceptor, liar.meeting.as_ref().unwrap());
    assert_eq!(hear(&mut dialler, &word_of(PROOF, &[&lie])), Err(Fault::Secret));
}

#[test]
fn a_replayed_greeting_opens_nothing() {
    let recorded = greet(dialler(SECRET, 1), acceptor(SECRET, 2));
    // To an acceptor, as a dialler: another nonce answers.
    let mut acceptor = acceptor(SECRET, 3);
    said(hear(&mut acceptor, &recorded[0]));
    assert_eq!(hear(&mut acceptor, &recorded[2]), Err(Fault::Secret));
    // To a dialler, as an acceptor.
    let (mut dialler, _) = dialler(SECRET, 4);
    said(hear(&mut dialler, &recorded[1]));
    assert_eq!(hear(&mut dialler, &recorded[3]), Err(Fault::Secret));
}

#[test]
fn what_a_server_says_cannot_be_said_back_to_it() {
    // A stranger in the middle opens a connection to the dialler itself, and passes its words back.
    let (mut victim, hello) = Greeting::dial(keys(SECRET), id("v"), None, [1; 32]);
    assert_eq!(hear(&mut victim, &hello), Err(Fault::OwnId));
    let mut door = Greeting::accept(keys(SECRET), id("v"), [2; 32]);
    let answer = said(hear(&mut door, &hello));
    assert_eq!(Greeting::dial(keys(SECRET), id("v"), None, [3; 32]).0.hear(&answer[PREFIX..]), Err(Fault::OwnId));
    let proof = door.keys.prove(door.which, Speaker::Dialler, door.meeting.as_ref().unwrap());
    assert_eq!(hear(&mut door, &word_of(PROOF, &[&proof])), Err(Fault::OwnId), "even if it were proved");
    // With another name, the proof comes back with the wrong role.
    let (mut victim, _) = Greeting::dial(keys(SECRET), id("v"), None, [1; 32]);
    let proof = said(hear(&mut victim, &super::hello(&id("x"), &[1; 32])));
    assert_eq!(hear(&mut victim, &proof), Err(Fault::Secret));
}

#[test]
fn another_version_is_told_before_anything_else() {
    let mut word = BytesMut::from(&hello(&id("d"), &[1; 32])[PREFIX..]);
    word[1 + MAGIC.len()..][..2].copy_from_slice(&9u16.to_be_bytes());
    // Whatever a later version says behind its number.
    word.extend_from_slice(b"more");
    assert_eq!(acceptor(SECRET, 2).hear(&word), Err(Fault::Version { theirs: 9 }));
}

#[test]
fn whoever_is_not_who_was_wanted_is_not_proved_anything() {
    let (mut dialler, hello) = Greeting::dial(keys(SECRET), id("d"), Some(id("other")), [1; 32]);
    let answer = said(hear(&mut acceptor(SECRET, 2), &hello));
    assert_eq!(hear(&mut dialler, &answer), Err(Fault::Another { met: id("a"), expected: id("other") }));
}

#[test]
fn an_introduction_under_another_name_is_refused() {
    let ((mut dialler, hello), mut acceptor) = (dialler(SECRET, 1), acceptor(SECRET, 2));
    let answer = said(hear(&mut acceptor, &hello));
    let proof = said(hear(&mut dialler, &answer));
    let proof = said(hear(&mut acceptor, &proof));
    assert_eq!(hear(&mut dialler, &proof), Ok(Step::Introduce));
    let lie = dialler.introduce(&introduction("somebody-else")).unwrap();
    assert_eq!(hear(&mut acceptor, &lie), Err(Fault::Malformed));
}

#[test]
fn a_forgotten_server_is_told_so() {
    let ((mut dialler, hello), mut acceptor) = (dialler(SECRET, 1), acceptor(SECRET, 2));
    let answer = said(hear(&mut acceptor, &hello));
    let proof = said(hear(&mut dialler, &answer));
    let proof = said(hear(&mut acceptor, &proof));
    hear(&mut dialler, &proof).unwrap();
    let introduced = dialler.introduce(&introduction("d")).unwrap();
    assert!(matches!(hear(&mut acceptor, &introduced), Ok(Step::Meet(_))));
    // The node says no.
    let fault = Fault::from(Refusal::new(Code::Forbidden, "d was forgotten"));
    let told = hear(&mut dialler, &refusal(&fault)).unwrap_err();
    assert_eq!(told, Fault::Refused { reason: "it says: d was forgotten".to_owned() });
}

#[test]
fn words_out_of_turn_are_refused() {
    let words = greet(dialler(SECRET, 1), acceptor(SECRET, 2));
    for (at, word) in words.iter().enumerate().skip(2) {
        assert!(hear(&mut acceptor(SECRET, 2), word).is_err(), "word {at} first");
    }
    let mut acceptor = acceptor(SECRET, 2);
    said(hear(&mut acceptor, &words[0]));
    assert_eq!(hear(&mut acceptor, &words[6]), Err(Fault::Malformed), "ready before the proof");
    assert!(acceptor.introduce(&introduction("a")).is_none(), "nothing is told to a stranger");
}

proptest! {
    #[test]
    fn any_bytes_are_only_refused(words in proptest::collection::vec(
        (0u8..7, proptest::collection::vec(any::<u8>(), 0..100)), 1..4), good in 0usize..3)
    {
        let recorded = greet(dialler(SECRET, 1), acceptor(SECRET, 2));
        let mut acceptor = acceptor(SECRET, 2);
        for word in recorded.iter().step_by(2).take(good) {
            hear(&mut acceptor, word).unwrap();
        }
        for (kind, mut word) in words {
            word.insert(0, kind);
            let step = acceptor.hear(&word);
            prop_assert!(!matches!(step, Ok(Step::Meet(_) | Step::Done)));
        }
    }
}

//! Lists and their changes, case by case; that all servers come to hold the same is `model::convergence`'s.

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::*;
    use crate::model::ids::Millis;
    use crate::model::topology::{About, Accepted, Address, LinkState, Load, Record, Standing, Topology};

    fn node(text: &str) -> NodeId {
        text.parse().unwrap()
    }

    fn attachment(device: usize, number: u64) -> Attachment {
        let client = (!device.is_multiple_of(2)).then(|| format!("c{device}").parse().unwrap());
        Attachment { device: node(&format!("d{device}")), client, number }
    }

    fn own() -> Own {
        Own::new(node("b"), Incarnation(1))
    }

    fn directory() -> Directory {
        Directory::new(node("a"))
    }

    fn list(directory: &Directory, server: &str) -> BTreeMap<NodeId, u64> {
        let place =
            |device: &NodeId| directory.places(device).iter().find(|at| at.server.as_str() == server).unwrap().number;
        directory.devices_at(&node(server)).map(|device| (device.clone(), place(device))).collect()
    }

    fn listed(own: &Own) -> BTreeMap<NodeId, u64> {
        own.attachments().map(|at| (at.device, at.number)).collect()
    }

    #[test]
    fn a_delta_is_taken_where_it_follows() {
        let (mut own, mut directory) = (own(), directory());
        let deltas: Vec<Delta> = (1..4).map(|n| own.attach(attachment(n, 1))).collect();
        assert_eq!(directory.apply(&deltas[1]), Applied::Gap, "nothing is known yet");
        assert_eq!(directory.apply(&deltas[0]), Applied::Changed(vec![node("d1")]));
        assert_eq!(directory.apply(&deltas[0]), Applied::Old);
        assert_eq!(directory.apply(&deltas[2]), Applied::Gap);
        let mut together = deltas[0].clone();
        together.append(deltas[1].clone()).unwrap();
        assert!(together.append(deltas[0].clone()).is_err(), "does not follow");
        together.append(deltas[2].clone()).unwrap();
        assert_eq!(directory.apply(&together), Applied::Changed(vec![node("d2"), node("d3")]), "what is new of it");
        assert_eq!(list(&directory, "b"), listed(&own));
        assert_eq!(own.detach(&node("d9")), None);
        let endless = Delta { from: u64::MAX, ..together };
        assert_eq!(directory.apply(&endless), Applied::Old, "no number that a list can have");
        assert_eq!(directory.digests(), [own.digest()]);
    }

    #[test]
    fn a_new_incarnation_begins_anew() {
        let (mut first, mut directory) = (own(), directory());
        assert_eq!(directory.apply(&first.attach(attachment(1, 4))), Applied::Changed(vec![node("d1")]));
        let late = first.attach(attachment(3, 1));
        let mut second = Own::new(node("b"), Incarnation(2));
        let delta = second.attach(attachment(2, 1));
        assert_eq!(directory.apply(&delta), Applied::Changed(vec![node("d1"), node("d2")]));
        assert_eq!(directory.apply(&late), Applied::Old, "of a life that is over");
        assert_eq!(directory.apply_snapshot(&node("c"), first.snapshot().remove(0)), Took::Old);
        assert_eq!(list(&directory, "b"), listed(&second));
        // The same server, told that its incarnation was used.
        let again = second.begin(Incarnation(3));
        assert_eq!(directory.apply(&again), Applied::Changed(vec![node("d2")]));
        assert_eq!(list(&directory, "b"), listed(&second));
        let mut nobody = Own::new(node("b"), Incarnation(4));
        assert_eq!(directory.apply(&nobody.begin(Incarnation(5))), Applied::Changed(vec![node("d2")]));
        assert!(directory.is_empty() && directory.digests() == [nobody.digest()]);
    }

    #[test]
    fn a_long_list_comes_in_parts() {
        let (mut own, mut directory) = (own(), directory());
        (0..=MAX_PART * 2).for_each(|n| drop(own.attach(attachment(n, 1))));
        let parts = own.snapshot();
        assert_eq!(parts.iter().map(|part| part.attachments.len()).collect::<Vec<_>>(), [MAX_PART, MAX_PART, 1]);
        let (c, e) = (node("c"), node("e"));
        assert_eq!(directory.apply_snapshot(&c, parts[0].clone()), Took::Partial);
        assert_eq!(directory.apply_snapshot(&e, parts[1].clone()), Took::Old, "another neighbour has not begun");
        assert_eq!(directory.apply_snapshot(&c, parts[2].clone()), Took::Old, "one is missing, so all is given up");
        assert_eq!(directory.apply_snapshot(&c, parts[1].clone()), Took::Old);
        assert_eq!(directory.apply_snapshot(&c, parts[0].clone()), Took::Partial);
        directory.abandon(&c);
        assert_eq!(directory.apply_snapshot(&c, parts[1].clone()), Took::Old);
        assert!(directory.is_empty());
        for part in &parts[..2] {
            assert_eq!(directory.apply_snapshot(&c, part.clone()), Took::Partial);
            assert_eq!(directory.apply_snapshot(&e, part.clone()), Took::Partial, "two neighbours at once");
        }
        let Took::Changed(devices) = directory.apply_snapshot(&e, parts[2].clone()) else { panic!("whole") };
        assert_eq!((devices.len(), directory.len()), (own.len(), own.len()));
        assert_eq!(directory.apply_snapshot(&c, parts[2].clone()), Took::Old);
        assert_eq!(list(&directory, "b"), listed(&own));
        let told: usize = directory.snapshot_of(&node("b")).iter().map(|part| part.attachments.len()).sum();
        assert_eq!(told, own.len());
        // Only what differs is named.
        let _ = own.detach(&node("d7"));
        let _ = own.attach(attachment(8, 2));
        let mut changed = own.snapshot().into_iter().map(|part| directory.apply_snapshot(&c, part)).collect::<Vec<_>>();
        let Some(Took::Changed(mut devices)) = changed.pop() else { panic!("whole") };
        devices.sort();
        assert_eq!(devices, [node("d7"), node("d8")]);
    }

    #[test]
    fn digests_tell_who_lacks_what() {
        let (mut own, mut directory) = (own(), directory());
        let delta = own.attach(attachment(1, 1));
        assert!(own.is_news(&[]) && !own.is_ghost(&[]));
        let _ = directory.apply(&delta);
        let known = directory.digests();
        assert!(!own.is_news(&known) && directory.behind(&known).is_empty());
        assert_eq!(directory.behind(&[]), [node("b")]);
        let _ = own.attach(attachment(2, 1));
        assert!(own.is_news(&known) && own.is_ghost(&[Digest { number: 3, ..own.digest() }]));
        let mut topology = Topology::new(node("a"), Incarnation(1), about());
        let theirs = [own.digest(), Digest { server: node("a"), ..own.digest() }];
        assert!(!directory.is_behind(&theirs, &topology), "it has departed here");
        assert_eq!(topology.accept(record("b", 1), Millis(0)), Accepted::New);
        assert!(directory.is_behind(&theirs, &topology));
        assert!(!directory.is_behind(&known, &topology));
        assert_eq!(topology.accept(record("b", 2), Millis(0)), Accepted::New);
        assert!(!directory.is_behind(&theirs, &topology), "of a life that is over");
    }

    fn about() -> About {
        About { address: Address::default(), load: Load::default(), standing: Standing::Serving, epoch: 0 }
    }

    fn record(server: &str, incarnation: u64) -> Record {
        let links = vec![LinkState { peer: node("a"), cost: 1 }];
        Record { server: node(server), incarnation: Incarnation(incarnation), number: 1, about: about(), links }
    }

    #[test]
    fn the_newest_place_that_can_be_reached() {
        let mut directory = directory();
        let mut topology = Topology::new(node("a"), Incarnation(1), about());
        let link = |peer| LinkState { peer: node(peer), cost: 1 };
        topology.set_links(vec![link("b"), link("c")]);
        let mut lists: Vec<Own> = ["b", "c", "d"].iter().map(|server| Own::new(node(server), Incarnation(1))).collect();
        for (list, number) in lists.iter_mut().zip([3, 3, 9]) {
            let _ = topology.accept(record(list.digest().server.as_str(), 1), Millis(0));
            let _ = directory.apply(&list.attach(attachment(1, number)));
        }
        let newest = |directory: &Directory, topology: &Topology| {
            let routes = topology.routes();
            (directory.newest(&node("d1"), &routes).map(|place| place.server.to_string()), directory.lacks(&routes))
        };
        let all: Vec<String> = directory.places(&node("d1")).iter().map(|place| place.server.to_string()).collect();
        assert_eq!(all, ["d", "c", "b"]);
        assert_eq!(newest(&directory, &topology), (Some("c".to_owned()), false), "ties go by the id; d is not linked");
        let _ = topology.accept(record("c", 2), Millis(0));
        assert_eq!(newest(&directory, &topology), (Some("b".to_owned()), true), "c has begun anew");
        assert_eq!(directory.forget(&node("b")), [node("d1")]);
        assert_eq!(newest(&directory, &topology).0, None);
        assert_eq!(directory.places(&node("d1")).len(), 2);
        assert!(directory.forget(&node("b")).is_empty());
        let _ = directory.forget(&node("c"));
        let _ = directory.forget(&node("d"));
        assert!(directory.is_empty() && directory.places(&node("d1")).is_empty());
        let mut ours = Own::new(node("a"), Incarnation(1));
        assert_eq!(directory.apply(&ours.attach(attachment(1, 1))), Applied::Old, "nobody tells us who is here");
        assert_eq!(directory.apply_snapshot(&node("b"), ours.snapshot().remove(0)), Took::Old);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Attach(usize),
        Detach(usize),
        /// The delta of that place in history, whenever.
        Delta(usize, usize),
        Snapshot,
        Forget,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..6usize).prop_map(Step::Attach),
            2 => (0..6usize).prop_map(Step::Detach),
            8 => (0..64usize, 1..4usize).prop_map(|(at, count)| Step::Delta(at, count)),
            1 => Just(Step::Snapshot),
            1 => Just(Step::Forget),
        ]
    }

    proptest! {
        /// Deltas lost, repeated, late and in other batches than they were made; a snapshot now and then. At each time the
        /// directory holds what the list was at the number that it claims, and a snapshot brings it up to date.
        #[test]
        fn what_is_claimed_is_held(steps in prop::collection::vec(step(), 1..80)) {
            let (mut own, mut directory) = (own(), directory());
            let mut history = vec![(None, listed(&own))];
            let mut number = 0;
            for step in steps {
                let delta = match step {
                    Step::Attach(device) => {
                        number += 1;
                        Some(own.attach(attachment(device, number)))
                    }
                    Step::Detach(device) => own.detach(&node(&format!("d{device}"))),
                    Step::Delta(at, count) => {
                        let deltas = history.iter().skip(1 + at % history.len()).take(count).filter_map(|(delta, _)| delta.clone());
                        if let Some(batch) = deltas.reduce(|mut batch: Delta, next| { batch.append(next).unwrap(); batch }) {
                            let before = directory.digests().first().map_or(0, |digest| digest.number);
                            match directory.apply(&batch) {
                                Applied::Changed(_) => prop_assert!(directory.digests()[0].number > before),
                                Applied::Gap => prop_assert!(batch.from > before),
                                Applied::Old => prop_assert!(batch.end().unwrap() <= before),
                            }
                        }
                        None
                    }
                    Step::Snapshot => {
                        for part in own.snapshot() {
                            let _ = directory.apply_snapshot(&node("b"), part);
                        }
                        prop_assert_eq!(directory.digests(), vec![own.digest()]);
                        None
                    }
                    Step::Forget => {
                        let _ = directory.forget(&node("b"));
                        prop_assert!(directory.is_empty() && directory.digests().is_empty());
                        None
                    }
                };
                if delta.is_some() {
                    history.push((delta, listed(&own)));
                }
                let claimed = directory.digests().first().map_or(0, |digest| digest.number as usize);
                prop_assert_eq!(&list(&directory, "b"), &history[claimed].1);
            }
        }
    }
}

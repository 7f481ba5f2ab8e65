//! The laws of copies that were changed apart.

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::super::*;
    use crate::model::ids::Millis;

    fn id(text: &str) -> NodeId {
        text.parse().unwrap()
    }

    fn scribe(server: &str) -> Scribe {
        Scribe { server: id(server), floor: Version(0) }
    }

    fn device(n: usize) -> NodeId {
        id(&format!("d{n}"))
    }

    /// What one device does; few masks, and ids of devices among them, so that the sides collide.
    #[derive(Debug, Clone)]
    enum Step {
        Join(usize, Option<NodeId>),
        Leave(usize),
        Reveal(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let mask =
            prop::option::of(prop_oneof![(0..3usize).prop_map(|n| id(&format!("m{n}"))), (0..6usize).prop_map(device)]);
        let step = prop_oneof![
            5 => (0..6usize, mask).prop_map(|(n, mask)| Step::Join(n, mask)),
            3 => (0..6usize).prop_map(Step::Leave),
            1 => (0..6usize).prop_map(Step::Reveal),
        ];
        prop::collection::vec(step, 0..12)
    }

    /// A copy, with the disk under it and the other server that may follow it.
    #[derive(Clone)]
    struct Copy {
        session: Session,
        disk: BTreeMap<NodeId, Member>,
        stored: Stored,
    }

    impl Copy {
        fn new(session: Session) -> Self {
            let disk = session.members().map(|member| (member.node().clone(), member.clone())).collect();
            Self { stored: session.stored(), disk, session }
        }

        fn write(&mut self, record: &Record) {
            match record {
                Record::Session(stored) => self.stored = stored.clone(),
                Record::Member(member) => {
                    self.disk.insert(member.node().clone(), member.clone());
                }
                Record::Gone(member) => {
                    self.disk.remove(member.node());
                }
            }
        }

        fn load(&self) -> Session {
            let members = self.disk.values().cloned();
            Session::load(self.stored.clone(), members, self.session.scribe.clone()).unwrap()
        }

        fn act(&mut self, steps: &[Step]) {
            for step in steps {
                let by = |n: &usize| Requester { node: device(*n), role: Role::Device };
                let done = match step {
                    Step::Join(n, mask) => {
                        let mask = mask.clone().map_or(Mask::Named, Mask::Anonymous);
                        self.session.join(&by(n), Join { node: None, mask })
                    }
                    Step::Leave(n) => self.session.leave(&by(n), None),
                    Step::Reveal(n) => self.session.reveal(&by(n)),
                };
                let Ok((session, change)) = done else { continue };
                change.records.iter().for_each(|record| self.write(record));
                self.session = session;
            }
        }

        fn merge(&mut self, other: &Session) -> Vec<Record> {
            let Merged { session, records } = self.session.merge(other, chance());
            records.iter().for_each(|record| self.write(record));
            self.session = session;
            records
        }
    }

    fn chance() -> impl FnMut() -> u128 {
        let mut last = 0;
        move || {
            last += 1;
            last
        }
    }

    fn begun(steps: &[Step]) -> Copy {
        let by = Requester { node: id("owner"), role: Role::App };
        let draft = Draft {
            id: Naming::Random(7),
            owner: None,
            mask: Mask::Named,
            members: Vec::new(),
            session_type: SessionType::Normal,
            anyone_can_join: true,
            presence: false,
            notify_only_last_few_users: None,
        };
        let (session, _) = Session::create(&by, draft, Millis(1), scribe("s0")).unwrap();
        let mut copy = Copy::new(session);
        copy.act(steps);
        copy
    }

    fn of(copy: &Copy, server: &str) -> Copy {
        Copy { session: copy.session.clone().written_by(scribe(server)), ..copy.clone() }
    }

    fn all(session: &Session) -> (Stored, Vec<Member>) {
        (session.stored(), session.members().cloned().collect())
    }

    fn nodes(session: &Session) -> BTreeSet<NodeId> {
        session.members().map(|member| member.node().clone()).collect()
    }

    fn holds_the_invariants(session: &Session) {
        let mut names = BTreeSet::new();
        let mut last = Version(0);
        for member in session.members() {
            assert!(member.joined > last && member.changed <= session.version && member.joined <= member.changed);
            last = member.joined;
            assert!(names.insert(member.node.clone()));
            assert!(member.mask().is_none_or(|mask| names.insert(mask.clone())));
            assert!(session.horizon.holds(&member.scribe, member.changed));
        }
        assert_eq!(names.len(), session.names.len());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn copies_that_parted_become_one(common in steps(), one in steps(), other in steps()) {
            let root = begun(&common);
            let (mut a, mut b) = (of(&root, "s1"), of(&root, "s2"));
            a.act(&one);
            b.act(&other);
            let (before_a, before_b) = (a.clone(), b.clone());

            // Whichever side is asked, the same server makes the same of them.
            let merged = a.session.merge(&b.session, chance()).session;
            let swapped = b.session.clone().written_by(scribe("s1")).merge(&a.session, chance()).session;
            prop_assert_eq!(all(&merged), all(&swapped));
            holds_the_invariants(&merged);

            // What was changed on one side only is as that side has it.
            for n in 0..6 {
                let [was, at_a, at_b] = [&root, &a, &b].map(|copy| copy.session.member(&device(n)));
                let now = merged.member(&device(n));
                let expected = match (at_a == was, at_b == was) {
                    (true, _) => at_b,
                    (_, true) => at_a,
                    _ => continue,
                };
                prop_assert_eq!(now.map(|m| &m.node), expected.map(|m| &m.node));
                let mask_is_free = |mask: &NodeId| {
                    let wears = |copy: &Copy| {
                        let name = copy.session.names.get(mask.as_str())?;
                        Some(copy.session.members.get(&name.joined)?.node.clone())
                    };
                    wears(&a) == wears(&b) || wears(&a).is_none() || wears(&b).is_none()
                };
                if let (Some(now), Some(expected)) = (now, expected)
                    && expected.mask().is_none_or(mask_is_free)
                {
                    prop_assert_eq!(&now.face, &expected.face);
                }
            }

            // Again is nothing, and the disk has it.
            let records = a.merge(&b.session);
            prop_assert_eq!(all(&a.session), all(&merged));
            prop_assert_eq!(all(&a.load()), all(&merged));
            for known in [&before_a.session, &before_b.session, &merged] {
                prop_assert!(merged.merge(known, chance()).records.is_empty());
            }
            prop_assert!(records.is_empty() == before_a.session.horizon.covers(&before_b.session.horizon));

            // The other side takes it as it is.
            b.merge(&a.session);
            prop_assert_eq!(all(&b.session), all(&a.session));
            prop_assert_eq!(all(&b.load()), all(&a.session));
        }

        #[test]
        fn a_merge_cut_short_by_a_crash_is_done_again(common in steps(), one in steps(), other in steps(), at in 0usize..9) {
            let root = begun(&common);
            let (mut a, mut b) = (of(&root, "s1"), of(&root, "s2"));
            a.act(&one);
            b.act(&other);
            let merged = a.session.merge(&b.session, chance());
            merged.records.iter().take(at).for_each(|record| a.write(record));
            a.session = a.load();
            // Lost with the crash is the number up to which it has given numbers: hence the floor.
            a.session.scribe.floor = Version(1 << 32);
            a.merge(&b.session);
            holds_the_invariants(&a.session);
            prop_assert_eq!(nodes(&a.session), nodes(&merged.session));
        }

        #[test]
        fn a_copy_taken_over_may_be_cut_short_too(common in steps(), one in steps(), at in 0usize..9) {
            let mut whole = begun(&common);
            whole.session = whole.session.written_by(scribe("s1"));
            whole.act(&one);
            let adopted = whole.session.clone().written_by(scribe("s2")).adopted();
            let mut cut = Copy { disk: BTreeMap::new(), ..whole.clone() };
            cut.session = adopted.session;
            adopted.records.iter().take(at).for_each(|record| cut.write(record));
            if at >= adopted.records.len() {
                prop_assert_eq!(all(&cut.load()), all(&whole.session));
            }
            // Without the session's own record there is no session, and it is fetched again.
            prop_assert!(matches!(adopted.records.last(), Some(Record::Session(_))));
        }

        #[test]
        fn both_may_merge_and_they_agree_in_the_end(rounds in prop::collection::vec((steps(), steps(), any::<bool>()), 1..5)) {
            let root = begun(&[]);
            let (mut a, mut b) = (of(&root, "s1"), of(&root, "s2"));
            for (one, other, crossed) in &rounds {
                a.act(one);
                b.act(other);
                let theirs = a.session.clone();
                a.merge(&b.session);
                holds_the_invariants(&a.session);
                if *crossed {
                    b.merge(&theirs);
                    holds_the_invariants(&b.session);
                }
            }
            // Each takes from the other until it has nothing new.
            for _ in 0..3 {
                b.merge(&a.session.clone());
                a.merge(&b.session.clone());
            }
            prop_assert_eq!(all(&a.session), all(&b.session));
            prop_assert!(a.merge(&b.session).is_empty());
        }

        #[test]
        fn who_follows_each_change_has_the_same_copy(steps in steps(), missed in prop::option::of(0usize..12)) {
            let mut first = begun(&[]);
            let mut second: Option<Copy> = Some(of(&first, "s2"));
            for (n, step) in steps.iter().enumerate() {
                let before = first.session.clone();
                first.act(std::slice::from_ref(step));
                if before.version() == first.session.version() {
                    continue;
                }
                let records = before.records_to(&first.session);
                let change = Change { answer: None, notice: None, records };
                let delta = Delta::new(before.horizon().clone(), &first.session, &change);
                let delta: Delta = serde_json::from_str(&serde_json::to_string(&delta).unwrap()).unwrap();
                if missed == Some(n) {
                    continue;
                }
                let copy = second.as_mut().unwrap();
                match absorb(Some(&copy.session), delta.clone(), &scribe("s2")) {
                    Absorbed::Changed(session, records) => {
                        records.iter().for_each(|record| copy.write(record));
                        copy.session = *session;
                        prop_assert_eq!(all(&copy.session), all(&first.session));
                        prop_assert_eq!(all(&copy.load()), all(&first.session));
                        prop_assert!(matches!(absorb(Some(&copy.session), delta, &scribe("s2")), Absorbed::Known));
                    }
                    Absorbed::Known => prop_assert!(false, "it is news"),
                    Absorbed::Behind => {
                        prop_assert!(missed.is_some());
                        copy.merge(&first.session);
                        prop_assert_eq!(all(&copy.session), all(&first.session));
                    }
                }
            }
        }
    }

    #[test]
    fn of_two_creations_the_first_has_its_way() {
        let by = |node: &str| Requester { node: id(node), role: Role::Device };
        let draft = |anyone_can_join| Draft {
            id: Naming::Chosen("lobby".parse().unwrap()),
            owner: None,
            mask: Mask::Named,
            members: Vec::new(),
            session_type: SessionType::Normal,
            anyone_can_join,
            presence: false,
            notify_only_last_few_users: None,
        };
        let (first, _) = Session::create(&by("ann"), draft(false), Millis(1), scribe("s2")).unwrap();
        let (second, _) = Session::create(&by("bob"), draft(true), Millis(2), scribe("s1")).unwrap();
        for merged in [first.merge(&second, chance()), second.merge(&first, chance())] {
            assert_eq!((&merged.session.options().owner, merged.session.len()), (&id("ann"), 2));
        }
    }

    #[test]
    fn a_session_that_is_new_elsewhere_is_taken_whole() {
        let by = Requester { node: id("ann"), role: Role::Device };
        let draft = Draft {
            id: Naming::Random(3),
            owner: None,
            mask: Mask::Random(5),
            members: Vec::new(),
            session_type: SessionType::Normal,
            anyone_can_join: true,
            presence: true,
            notify_only_last_few_users: None,
        };
        let (session, change) = Session::create(&by, draft, Millis(1), scribe("s1")).unwrap();
        let delta = Delta::new(Horizon::default(), &session, &change);
        let Absorbed::Changed(copy, records) = absorb(None, delta, &scribe("s2")) else { panic!("it is new") };
        assert_eq!((all(&copy), records), (all(&session), change.records));
        let (later, change) = session
            .join(&Requester { node: id("bob"), role: Role::Device }, Join { node: None, mask: Mask::Named })
            .unwrap();
        let delta = Delta::new(session.horizon().clone(), &later, &change);
        assert!(matches!(absorb(None, delta, &scribe("s2")), Absorbed::Behind), "a part is no session");
    }

    #[test]
    fn in_a_new_life_numbers_begin_above_all_that_were_lost() {
        let mut copy = begun(&[Step::Join(1, None)]);
        let stored = copy.session.version();
        copy.session = copy.session.written_by(Scribe::new(id("s0"), crate::model::ids::Incarnation(3)));
        copy.act(&[Step::Join(2, None)]);
        assert!(stored < copy.session.version() && copy.session.version() == Version(3 << 32));
        copy.act(&[Step::Leave(2)]);
        assert_eq!(copy.session.version(), Version((3 << 32) + 1));
    }
}

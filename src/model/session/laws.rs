//! The laws of sessions, held against random histories and a plain model of who is here.

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::num::NonZeroU32;

    use proptest::prelude::*;
    use serde_json::Value;

    use super::super::*;
    use crate::model::codes::{Refusal, kind};
    use crate::model::ids::Millis;

    const DEVICES: usize = 7;

    fn scribe() -> Scribe {
        Scribe { server: "s1".parse().unwrap(), floor: Version(0) }
    }

    fn device(n: usize) -> NodeId {
        format!("real-{n}").parse().unwrap()
    }

    /// Few masks, real ids among them, so that collisions are common.
    fn mask() -> impl Strategy<Value = Mask> {
        prop_oneof![
            3 => Just(Mask::Named),
            4 => (0..5usize).prop_map(|n| Mask::Anonymous(format!("mask-{n}").parse().unwrap())),
            1 => (0..DEVICES).prop_map(|n| Mask::Anonymous(device(n))),
            2 => (0..4u128).prop_map(Mask::Random),
        ]
    }

    fn requester() -> impl Strategy<Value = Requester> {
        let role = prop_oneof![8 => Just(Role::Device), 1 => Just(Role::App), 1 => Just(Role::Admin)];
        (0..DEVICES, role).prop_map(|(n, role)| Requester { node: device(n), role })
    }

    fn any_id() -> impl Strategy<Value = NodeId> {
        prop_oneof![(0..DEVICES).prop_map(device), (0..5usize).prop_map(|n| format!("mask-{n}").parse().unwrap())]
    }

    #[derive(Debug, Clone)]
    enum Step {
        Join(Join),
        Leave(Option<NodeId>),
        Reveal,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (prop::option::weighted(0.3, (0..DEVICES).prop_map(device)), mask())
                .prop_map(|(node, mask)| Step::Join(Join { node, mask })),
            3 => prop::option::weighted(0.4, any_id()).prop_map(Step::Leave),
            1 => Just(Step::Reveal),
        ]
    }

    fn creation() -> impl Strategy<Value = (Requester, Draft)> {
        let session_type = prop_oneof![
            2 => Just(SessionType::Normal),
            1 => prop::option::of((0..3usize).prop_map(device)).prop_map(|master| SessionType::Game { master }),
        ];
        let window = prop::option::of((1..5u32).prop_map(|n| NonZeroU32::new(n).unwrap()));
        let bulk = prop::collection::vec(((0..DEVICES).prop_map(device), mask()), 0..4);
        (any::<bool>(), session_type, window, bulk, mask(), any::<bool>()).prop_map(
            |(by_app, session_type, notify_only_last_few_users, bulk, mask, anyone_can_join)| {
                let (by, owner, members) = if by_app {
                    (Requester { node: "app".parse().unwrap(), role: Role::App }, Some(device(0)), bulk)
                } else {
                    (Requester { node: device(0), role: Role::Device }, None, Vec::new())
                };
                let id = Naming::Random(7);
                let draft = Draft {
                    id,
                    owner,
                    mask,
                    members,
                    session_type,
                    anyone_can_join,
                    presence: true,
                    notify_only_last_few_users,
                };
                (by, draft)
            },
        )
    }

    fn act(session: &Session, by: &Requester, step: &Step) -> Result<(Session, Change), Refusal> {
        match step {
            Step::Join(join) => session.join(by, join.clone()),
            Step::Leave(whom) => session.leave(by, whom.as_ref()),
            Step::Reveal => session.reveal(by),
        }
    }

    /// What a store holds, as bytes.
    #[derive(Default)]
    struct Disk {
        session: Option<String>,
        members: BTreeMap<NodeId, String>,
    }

    impl Disk {
        fn apply(&mut self, records: &[Record]) {
            for record in records {
                match record {
                    Record::Session(stored) => self.session = Some(serde_json::to_string(stored).unwrap()),
                    Record::Member(member) => {
                        self.members.insert(member.node().clone(), serde_json::to_string(member).unwrap());
                    }
                    Record::Gone(member) => {
                        self.members.remove(member.node()).expect("only what was written is removed");
                    }
                }
            }
        }

        fn load(&self) -> Session {
            let stored = serde_json::from_str(self.session.as_ref().unwrap()).unwrap();
            Session::load(stored, self.members.values().map(|text| serde_json::from_str(text).unwrap()), scribe())
                .unwrap()
        }
    }

    /// All of a session, for comparing two.
    fn all(session: &Session) -> (Stored, Vec<Member>, Vec<(NodeId, Version, bool)>) {
        let names = session.names.iter().map(|n| (n.id.clone(), n.joined, n.sort == NameSort::Real)).collect();
        (session.stored(), session.members().cloned().collect(), names)
    }

    fn hidden(session: &Session) -> BTreeSet<NodeId> {
        session.members().filter(|m| m.anonymous().is_some()).map(|m| m.node().clone()).collect()
    }

    fn texts(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::String(text) => {
                found.insert(text.clone());
            }
            Value::Array(values) => values.iter().for_each(|value| texts(value, found)),
            Value::Object(map) => map.values().for_each(|value| texts(value, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn says(value: &Value, secret: &BTreeSet<NodeId>, but: &NodeId) -> Option<String> {
        let mut found = BTreeSet::new();
        texts(value, &mut found);
        found.into_iter().find(|text| text != but.as_str() && secret.contains(text.as_str()))
    }

    proptest! {
        #[test]
        fn any_history_keeps_the_laws(
            (creator, draft) in creation(),
            steps in prop::collection::vec((requester(), step()), 1..40),
        ) {
            let Ok((mut session, change)) = Session::create(&creator, draft, Millis(5), scribe()) else { return Ok(()) };
            let mut disk = Disk::default();
            disk.apply(&change.records);
            // Who was seen behind a mask and has not shown its face since, members or gone.
            let mut secret = hidden(&session);
            // Who gave its mask to a member.
            let mut givers = BTreeMap::new();
            for (by, step) in steps {
                let (next, change) = match act(&session, &by, &step) {
                    Ok(done) => done,
                    Err(refusal) => {
                        let given = match &step {
                            Step::Join(Join { mask: Mask::Anonymous(id), .. }) => id.clone(),
                            _ => by.node.clone(),
                        };
                        let node = match &step {
                            Step::Join(Join { node: Some(node), .. }) => node.clone(),
                            _ => by.node.clone(),
                        };
                        for id in secret.iter().filter(|id| **id != given && **id != node && **id != by.node) {
                            prop_assert!(!refusal.message.contains(id.as_str()), "{refusal}");
                        }
                        continue;
                    }
                };

                // The version grows with each change, and never otherwise.
                if change.is_unchanged() {
                    prop_assert!(change.notice.is_none());
                    prop_assert_eq!(all(&next), all(&session));
                } else {
                    prop_assert_eq!(next.version().0, session.version().0 + 1);
                    prop_assert!(change.records.len() <= 2, "a change is one small write, a leave two");
                }

                // All ids of a session are distinct.
                let mut ids = BTreeSet::new();
                for member in next.members() {
                    prop_assert!(ids.insert(member.node().clone()));
                    if let Some(mask) = member.mask() {
                        prop_assert!(ids.insert(mask.clone()), "{mask}");
                    }
                }
                prop_assert_eq!(ids.len(), next.names.len());

                // What is on disk is what is in memory.
                disk.apply(&change.records);
                prop_assert_eq!(all(&disk.load()), all(&next));

                // A join undone leaves the members as they were.
                if matches!(step, Step::Join(_)) && !change.is_unchanged() {
                    let node = change.answer.clone().unwrap().node;
                    let (undone, left) =
                        next.leave(&Requester { node: node.clone(), role: Role::Device }, None).unwrap();
                    prop_assert_eq!(all(&undone).1, all(&session).1);
                    prop_assert_eq!(all(&undone).2, all(&session).2);
                    let joined = change.notice.as_ref().unwrap();
                    let left = left.notice.unwrap();
                    prop_assert_eq!((joined.kind, left.kind), (kind::JOINED, kind::LEFT));
                    prop_assert_eq!(&joined.src_id, &left.src_id);
                    // Whom somebody else has made a member hears so, too.
                    let others = next.audience(joined).filter(|other| **other != node);
                    prop_assert!(
                        others.eq(undone.audience(&left)) || next.options().notify_only_last_few_users.is_some()
                    );
                }

                // Keep the books of who is a secret. The id of somebody gone may be worn by another one since, and
                // then means that one.
                for member in next.members() {
                    secret.remove(member.shown().id());
                    secret.remove(member.mask().unwrap_or(member.node()));
                }
                secret.extend(hidden(&next));

                // A notice names nobody who is behind a mask.
                if let Some(notice) = &change.notice {
                    prop_assert!(!secret.contains(&notice.src_id));
                    prop_assert!(notice.payload.as_ref().is_none_or(|id| !secret.contains(id)));
                    prop_assert_eq!(notice.payload.is_some(), notice.kind == kind::REVEALED);
                }
                // Nor does an answer, to somebody else's device, unless that gave the mask.
                if let (Step::Join(_), false, Some(pair)) = (&step, change.is_unchanged(), &change.answer) {
                    givers.insert(pair.node.clone(), by.node.clone());
                }
                if let Some(pair) = change.answer.as_ref().filter(|p| p.node != by.node && by.role == Role::Device) {
                    prop_assert!(pair.anonymous.is_none() || givers.get(&pair.node) == Some(&by.node));
                    prop_assert!(!matches!(step, Step::Leave(_)));
                }
                // Nor does a log line.
                let line = format!("{next:?} {change:?}");
                for id in secret.difference(&change.notice.iter().filter_map(|n| n.payload.clone()).collect()) {
                    prop_assert!(!line.contains(id.as_str()), "{line}");
                }
                session = next;

                // Nor do the views, whoever asks.
                for n in 0..DEVICES {
                    let asking = Requester { node: device(n), role: Role::Device };
                    let views = (session.info(&asking), session.presence(&asking, |id| id.as_str() < "real-3"));
                    let (Ok(info), Ok(presence)) = views else {
                        prop_assert!(session.member(&asking.node).is_none());
                        continue;
                    };
                    prop_assert_eq!(says(&serde_json::to_value(&info).unwrap(), &secret, &asking.node), None);
                    prop_assert_eq!(says(&serde_json::to_value(&presence).unwrap(), &secret, &asking.node), None);
                    prop_assert_eq!(info.node_ids.len(), session.len());
                    prop_assert_eq!(presence.online.len() + presence.offline.len(), session.len());
                    prop_assert!(!hidden(&session).iter().any(|id| info.node_ids.contains(&id)), "even one's own");
                }
                let app = Requester { node: "app".parse().unwrap(), role: Role::App };
                let info = serde_json::to_value(session.info(&app).unwrap()).unwrap();
                prop_assert_eq!(says(&info, &hidden(&session), &app.node), None);
                for member in session.members() {
                    let notice = session.presence_notice(member.node(), Presence::Offline).unwrap();
                    prop_assert!(!secret.contains(&notice.src_id));
                    prop_assert!(!session.audience(&notice).any(|id| id == member.node()));
                }
            }
        }

        #[test]
        fn who_hears_whom_is_as_a_plain_model_says(
            (creator, draft) in creation(),
            steps in prop::collection::vec((requester(), step()), 0..30),
        ) {
            let Ok((mut session, _)) = Session::create(&creator, draft, Millis(5), scribe()) else { return Ok(()) };
            for (by, step) in steps {
                if let Ok((next, _)) = act(&session, &by, &step) {
                    session = next;
                }
            }
            let members: Vec<&Member> = session.members().collect();
            prop_assert!(members.windows(2).all(|two| two[0].joined() < two[1].joined()));
            let master = session.options().master();
            let window = session.options().notify_only_last_few_users.map_or(members.len(), |n| n.get() as usize);
            let heard = &members[members.len().saturating_sub(window)..];
            for n in 0..DEVICES {
                let from = device(n);
                let speaker = members.iter().find(|m| m.node == from);
                prop_assert_eq!(session.sender(&from).ok().map(Shown::id), speaker.map(|m| m.shown().id()));
                prop_assert_eq!(session.shown(&from), speaker.map(|m| m.shown().id()));
                let is_player = speaker.is_some() && master.is_some_and(|master| *master != from);
                let expected: Vec<&NodeId> = if is_player {
                    members.iter().map(|m| &m.node).filter(|id| Some(*id) == master).collect()
                } else {
                    heard.iter().map(|m| &m.node).filter(|id| **id != from).collect()
                };
                prop_assert_eq!(session.recipients(&from).map(Member::node).collect::<Vec<_>>(), expected);

                for member in &members {
                    let reach = session.private(&from, member.shown().id());
                    let may = !is_player || Some(&member.node) == master || member.node == from;
                    match speaker {
                        None => prop_assert_eq!(reach, Err(Unreachable::Unauthorized(Unauthorized))),
                        Some(_) if may => prop_assert_eq!(reach, Ok(&member.node)),
                        Some(_) => prop_assert_eq!(reach, Err(Unreachable::Unknown)),
                    }
                    if member.anonymous().is_some() {
                        let nobody = "nobody".parse().unwrap();
                        prop_assert_eq!(session.private(&from, &member.node), session.private(&from, &nobody));
                    }
                }
            }
        }
    }
}

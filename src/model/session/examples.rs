//! What sessions do, by example.

#[cfg(test)]
mod tests {
    use super::super::*;
    use crate::model::codes::{Code, kind};
    use crate::model::ids::Millis;

    fn named(node: &str) -> Requester {
        Requester { node: node.parse().unwrap(), role: Role::Device }
    }

    fn id(text: &str) -> NodeId {
        text.parse().unwrap()
    }

    fn scribe() -> Scribe {
        Scribe { server: id("s1"), floor: Version(0) }
    }

    fn draft(session_type: SessionType) -> Draft {
        Draft {
            id: Naming::Random(1),
            owner: None,
            mask: Mask::Named,
            members: Vec::new(),
            session_type,
            anyone_can_join: true,
            presence: false,
            notify_only_last_few_users: None,
        }
    }

    fn join(session: &Session, node: &str, mask: Mask) -> Session {
        session.join(&named(node), Join { node: None, mask }).unwrap().0
    }

    fn open() -> Session {
        Session::create(&named("owner"), draft(SessionType::Normal), Millis(1), scribe()).unwrap().0
    }

    #[test]
    fn a_repeated_join_answers_the_pair_and_disturbs_nobody() {
        let session = join(&open(), "bob", Mask::Anonymous(id("fox")));
        let (_, change) = session.join(&named("bob"), Join { node: None, mask: Mask::Named }).unwrap();
        assert!(change.is_unchanged() && change.notice.is_none());
        assert_eq!(serde_json::to_string(&change.answer).unwrap(), r#"["bob","fox"]"#);
        let invite = |mask| session.join(&named("owner"), Join { node: Some(id("bob")), mask });
        assert_eq!(serde_json::to_string(&invite(Mask::Named).unwrap().1.answer).unwrap(), r#"["bob",null]"#);
        assert_eq!(invite(Mask::Anonymous(id("fox"))).unwrap_err().code, Code::Conflict, "a guess is not confirmed");
        let cat = || Join { node: Some(id("ann")), mask: Mask::Anonymous(id("cat")) };
        let (session, _) = session.join(&named("owner"), cat()).unwrap();
        let (_, again) = session.join(&named("owner"), cat()).unwrap();
        assert_eq!(serde_json::to_string(&again.answer).unwrap(), r#"["ann","cat"]"#, "its own invitation, repeated");
    }

    #[test]
    fn ids_that_stand_for_somebody_are_refused() {
        let session = join(&open(), "bob", Mask::Anonymous(id("fox")));
        for (who, mask) in [("eve", "fox"), ("eve", "bob"), ("eve", "owner"), ("eve", "eve")] {
            let refused = session.join(&named(who), Join { node: None, mask: Mask::Anonymous(id(mask)) });
            assert_eq!(refused.unwrap_err().code, Code::Conflict, "{mask}");
        }
        let refused = session.join(&named("fox"), Join { node: None, mask: Mask::Named });
        assert_eq!(refused.unwrap_err().code, Code::Conflict, "a real id that is somebody's mask");
        let (session, _) = session.reveal(&named("bob")).unwrap();
        let refused = session.join(&named("eve"), Join { node: None, mask: Mask::Anonymous(id("fox")) });
        assert_eq!(refused.unwrap_err().code, Code::Conflict, "all know fox to be bob");
        assert_eq!(session.private(&named("owner").node, &id("fox")), Ok(&id("bob")));
        let (session, _) = session.leave(&named("bob"), None).unwrap();
        join(&session, "fox", Mask::Anonymous(id("bob")));
    }

    #[test]
    fn only_the_owner_and_apps_invite_and_remove() {
        let mut closed = draft(SessionType::Normal);
        closed.anyone_can_join = false;
        let (session, _) = Session::create(&named("owner"), closed, Millis(1), scribe()).unwrap();
        let myself = || Join { node: None, mask: Mask::Named };
        let eve = || Join { node: Some(id("eve")), mask: Mask::Anonymous(id("fox")) };
        assert_eq!(session.join(&named("eve"), myself()).unwrap_err().code, Code::Forbidden);
        assert_eq!(session.join(&named("bob"), eve()).unwrap_err().code, Code::Forbidden);
        let (session, _) = session.join(&named("owner"), eve()).unwrap();
        assert!(session.join(&named("eve"), myself()).unwrap().1.is_unchanged());
        assert_eq!(session.leave(&named("eve"), Some(&id("owner"))).unwrap_err().code, Code::Forbidden);
        assert_eq!(session.leave(&named("bob"), None).unwrap_err().code, Code::Forbidden);
        let by_real = session.leave(&named("owner"), Some(&id("eve"))).unwrap_err();
        let unknown = session.leave(&named("owner"), Some(&id("nobody"))).unwrap_err();
        assert_eq!(by_real, unknown, "a real id behind a mask is like none");
        assert_eq!(unknown.code, Code::NotFound);
        let (without, change) = session.leave(&named("owner"), Some(&id("fox"))).unwrap();
        assert_eq!((without.len(), change.answer), (1, None));
        let app = Requester { node: id("app"), role: Role::App };
        assert_eq!(session.leave(&app, Some(&id("eve"))).unwrap().0.len(), 1);
        assert_eq!(session.join(&app, myself()).unwrap().0.len(), 3);
    }

    #[test]
    fn an_owner_who_has_left_stays_owner_and_is_not_shown() {
        let mut masked = draft(SessionType::Normal);
        masked.mask = Mask::Random(9);
        let (session, change) = Session::create(&named("owner"), masked, Millis(1), scribe()).unwrap();
        let mask = change.answer.unwrap().anonymous.unwrap();
        assert_eq!(mask.as_str(), "anonymous_00000000000000000000000000000009");
        let session = join(&session, "bob", Mask::Named);
        assert_eq!(session.info(&named("bob")).unwrap().node_id, Some(&mask));
        let (session, _) = session.leave(&named("owner"), None).unwrap();
        assert_eq!(session.info(&named("bob")).unwrap().node_id, None);
        assert_eq!(session.info(&named("owner")).unwrap().node_id, Some(&id("owner")));
        assert_eq!(session.info(&named("eve")).unwrap_err().code, Code::Forbidden);
        let invited = session.join(&named("owner"), Join { node: Some(id("eve")), mask: Mask::Named });
        assert_eq!(invited.unwrap().0.len(), 2);
    }

    #[test]
    fn reveal_tells_once_and_for_good() {
        let session = join(&open(), "bob", Mask::Anonymous(id("fox")));
        let (session, change) = session.reveal(&named("bob")).unwrap();
        let notice = change.notice.unwrap();
        assert_eq!((notice.kind, notice.src_id.as_str()), (kind::REVEALED, "fox"));
        assert_eq!(notice.payload, Some(id("bob")));
        assert_eq!(session.audience(&notice).collect::<Vec<_>>(), [&id("owner")]);
        assert_eq!(session.sender(&id("bob")), Ok(Shown::Named(&id("bob"))));
        assert_eq!(session.reveal(&named("bob")).unwrap_err().code, Code::Conflict);
        assert_eq!(session.reveal(&named("owner")).unwrap_err().code, Code::Conflict);
        assert_eq!(session.reveal(&named("eve")).unwrap_err().code, Code::Forbidden);
    }

    #[test]
    fn in_a_game_players_reach_the_master_only() {
        let game = SessionType::Game { master: Some(id("dealer")) };
        let (session, _) = Session::create(&named("owner"), draft(game), Millis(1), scribe()).unwrap();
        let session = join(&session, "ann", Mask::Named);
        let heard =
            |session: &Session, from| session.recipients(&id(from)).map(Member::node).cloned().collect::<Vec<_>>();
        assert_eq!(heard(&session, "ann"), [], "no master yet");
        assert_eq!(session.info(&named("ann")).unwrap().session_game_master_node_id, None);
        let (session, change) = session.join(&named("dealer"), Join { node: None, mask: Mask::Random(3) }).unwrap();
        let told: Vec<_> = session.audience(&change.notice.unwrap()).cloned().collect();
        assert_eq!(told, [id("owner"), id("ann")], "membership is told to all");
        assert_eq!(heard(&session, "ann"), [id("dealer")]);
        assert_eq!(heard(&session, "owner"), [id("dealer")], "an owner who is not master is a player");
        assert_eq!(heard(&session, "dealer"), [id("owner"), id("ann")]);
        assert_eq!(session.private(&id("ann"), &id("owner")), Err(Unreachable::Unknown));
        assert_eq!(session.private(&id("dealer"), &id("ann")), Ok(&id("ann")));
        assert_eq!(session.private(&id("ann"), &id("dealer")), Err(Unreachable::Unknown), "a real id behind a mask");
    }

    #[test]
    fn only_apps_choose_id_owner_and_members() {
        let app = Requester { node: id("app"), role: Role::App };
        let mut bulk = draft(SessionType::Normal);
        bulk.id = Naming::Chosen("lobby".parse().unwrap());
        bulk.members = vec![(id("ann"), Mask::Named), (id("bob"), Mask::Anonymous(id("fox")))];
        assert_eq!(
            Session::create(&named("eve"), bulk.clone(), Millis(1), scribe()).unwrap_err().code,
            Code::Forbidden
        );
        let (session, change) = Session::create(&app, bulk.clone(), Millis(1), scribe()).unwrap();
        assert_eq!((session.id().as_str(), session.len(), change.records.len()), ("lobby", 2, 3));
        assert_eq!(session.info(&named("ann")).unwrap().node_ids, [&id("ann"), &id("fox")]);
        bulk.members.push((id("ann"), Mask::Named));
        assert_eq!(Session::create(&app, bulk, Millis(1), scribe()).unwrap_err().code, Code::Conflict);
        let mut foreign = draft(SessionType::Normal);
        foreign.owner = Some(id("ann"));
        assert_eq!(Session::create(&named("eve"), foreign, Millis(1), scribe()).unwrap_err().code, Code::Forbidden);
    }

    #[test]
    fn a_session_is_full_at_its_bound_and_damage_is_noticed() {
        let app = Requester { node: id("app"), role: Role::App };
        let mut crowd = draft(SessionType::Normal);
        crowd.members = (0..MAX_MEMBERS).map(|n| (id(&format!("d{n}")), Mask::Named)).collect();
        let (session, _) = Session::create(&app, crowd, Millis(1), scribe()).unwrap();
        let full = session.join(&named("one-more"), Join { node: None, mask: Mask::Named });
        assert_eq!(full.unwrap_err().code, Code::Conflict);
        let twice = session.members().chain(session.members().take(1)).cloned();
        assert_eq!(Session::load(session.stored(), twice, scribe()).unwrap_err().session, *session.id());
    }

    #[test]
    fn presence_is_for_sessions_that_have_it() {
        let session = open();
        assert_eq!(session.presence(&named("owner"), |_| true).unwrap_err().code, Code::Conflict);
        assert_eq!(session.presence(&named("eve"), |_| true).unwrap_err().code, Code::Forbidden);
        assert_eq!(session.presence_notice(&id("owner"), Presence::Online), None);
    }
}

//! Records, links and ways, case by case; that all servers come to hold the same is `model::convergence`'s.

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::*;
    use crate::model::frames::MAX_HOPS;

    const NOW: Millis = Millis(1_000_000);

    fn node(text: &str) -> NodeId {
        text.parse().unwrap()
    }

    fn about() -> About {
        About { address: Address::default(), load: Load::default(), standing: Standing::Serving, epoch: 0 }
    }

    fn links(links: &[(&str, u32)]) -> Vec<LinkState> {
        links.iter().map(|(peer, cost)| LinkState { peer: node(peer), cost: *cost }).collect()
    }

    fn record(server: &str, version: (u64, u64), to: &[(&str, u32)]) -> Record {
        let (incarnation, number) = (Incarnation(version.0), version.1);
        Record { server: node(server), incarnation, number, about: about(), links: links(to) }
    }

    /// As `a` sees it; each link is announced by both ends.
    fn mesh(of: &[(&str, &str, u32)]) -> Topology {
        let mut ends: BTreeMap<&str, Vec<(&str, u32)>> = BTreeMap::new();
        for (x, y, cost) in of {
            ends.entry(x).or_default().push((y, *cost));
            ends.entry(y).or_default().push((x, *cost));
        }
        let mut topology = Topology::new(node("a"), Incarnation(1), about());
        for (server, to) in ends {
            if server == "a" {
                assert!(topology.set_links(links(&to)).is_some());
            } else {
                assert_eq!(topology.accept(record(server, (1, 1), &to), NOW), Accepted::New);
            }
        }
        topology
    }

    fn way(topology: &Topology, to: &str, without: &[(&str, &str)]) -> Option<String> {
        let without: Vec<_> = without.iter().map(|(x, y)| (node(x), node(y))).collect();
        let path = topology.path(&node("a"), &node(to), &without)?;
        let steps: Vec<String> = path.iter().map(|step| format!("{}{}", step.server, step.cost)).collect();
        Some(steps.join(" "))
    }

    /// Server, incarnation, number, and the links with their costs.
    type Said = (u64, u64, u64, Vec<(u64, u32)>);

    #[test]
    fn the_newest_record_stays() {
        let mut topology = Topology::new(node("a"), Incarnation(1), about());
        let of = |version| Arc::new(record("b", version, &[]));
        assert_eq!(topology.accept(of((2, 5)), NOW), Accepted::New);
        assert_eq!(topology.accept(of((2, 5)), NOW), Accepted::Known);
        assert_eq!(topology.accept(of((2, 4)), NOW), Accepted::Older(of((2, 5))));
        assert_eq!(topology.accept(of((1, 9)), NOW), Accepted::Older(of((2, 5))), "of an earlier incarnation");
        assert_eq!(topology.accept(of((3, 1)), NOW), Accepted::New, "a server that is back beats its own ghost");
        assert!(topology.is_current(&node("b"), Incarnation(3)));
        assert!(!topology.is_current(&node("b"), Incarnation(2)));
    }

    #[test]
    fn a_ghost_of_ourselves_is_outdone() {
        let mut topology = Topology::new(node("a"), Incarnation(2), about());
        assert!(matches!(topology.accept(record("a", (1, 9), &[]), NOW), Accepted::Older(_)));
        let own = Arc::clone(topology.own());
        assert_eq!(topology.accept(own, NOW), Accepted::Known, "our own, come back to us");
        for ghost in [(2, 7), (5, 1)] {
            let before = topology.own().version();
            let Accepted::Ghost(ours) = topology.accept(record("a", ghost, &[]), NOW) else { panic!("a ghost") };
            assert_eq!(&ours, topology.own());
            assert!(ours.incarnation > Incarnation(ghost.0) && ours.version() > before, "in an incarnation never used");
        }
        let same = record("a", (topology.own().incarnation.0, topology.own().number), &[("b", 1)]);
        assert!(matches!(topology.accept(same, NOW), Accepted::Ghost(_)), "the same number, but not our words");
        let top = record("a", (u64::MAX, u64::MAX), &[]);
        assert!(matches!(topology.accept(top, NOW), Accepted::Ghost(_)), "and no number breaks it");
    }

    #[test]
    fn small_changes_of_cost_are_none() {
        let mut topology = Topology::new(node("a"), Incarnation(1), about());
        let mut announced = |to: &[(&str, u32)]| {
            let changed = topology.set_links(links(to)).is_some();
            changed.then(|| topology.own().links.iter().map(|link| link.cost).collect::<Vec<_>>())
        };
        assert_eq!(announced(&[("b", 1000), ("c", 0)]), Some(vec![1000, 1]), "a cost is at least 1");
        assert_eq!(announced(&[("c", 150), ("b", 1199)]), None, "under 200 us, in whatever order");
        assert_eq!(announced(&[("b", 1200), ("c", 1)]), Some(vec![1200, 1]));
        assert_eq!(announced(&[("b", 1001), ("c", 1)]), None, "against what was announced last");
        assert_eq!(announced(&[("b", 10_000), ("c", 1)]), Some(vec![10_000, 1]));
        assert_eq!(announced(&[("b", 11_999), ("c", 1)]), None, "under a fifth");
        assert_eq!(announced(&[("b", 8000), ("c", 1)]), Some(vec![8000, 1]));
        assert_eq!(
            announced(&[("b", 8100), ("d", 5)]),
            Some(vec![8000, 5]),
            "another link is a change, that cost is not"
        );
        assert_eq!(announced(&[]), Some(vec![]));
        assert!(topology.set_about(about()).is_none());
        let number = topology.own().number;
        assert!(topology.set_about(About { epoch: 1, ..about() }).is_some_and(|own| own.number == number + 1));
    }

    #[test]
    fn a_link_counts_when_both_ends_announce_it_at_the_larger_cost() {
        let mut topology = mesh(&[("a", "b", 100)]);
        let to_c = |topology: &Topology| topology.routes().cost(&node("c"));
        let _ = topology.accept(record("c", (1, 1), &[("b", 70), ("c", 1), ("nobody", 1)]), NOW);
        assert_eq!(to_c(&topology), None);
        let _ = topology.accept(record("b", (1, 2), &[("a", 100), ("c", 90)]), NOW);
        assert_eq!(to_c(&topology), Some(190));
        assert_eq!(topology.routes().next(&node("c")), Some(&node("b")));
        assert_eq!(topology.routes().servers(), [node("b"), node("c")]);
        assert_eq!(topology.routes().next(&node("a")), None);
        assert!(topology.routes().is_reachable(&node("a")));
    }

    #[test]
    fn the_shorter_way_wins_then_fewer_links_then_the_lower_id() {
        let ring =
            mesh(&[("a", "b", 10), ("b", "d", 10), ("a", "c", 10), ("c", "d", 10), ("d", "e", 5), ("a", "e", 25)]);
        assert_eq!(way(&ring, "d", &[]).as_deref(), Some("a0 b10 d20"));
        assert_eq!(way(&ring, "d", &[("d", "b")]).as_deref(), Some("a0 c10 d20"));
        assert_eq!(way(&ring, "d", &[("a", "b"), ("a", "c")]).as_deref(), Some("a0 e25 d30"));
        assert_eq!(way(&ring, "e", &[]).as_deref(), Some("a0 e25"), "as dear by d, over more links");
        assert_eq!(way(&ring, "d", &[("a", "b"), ("a", "c"), ("d", "e")]), None);
        assert_eq!(way(&ring, "nobody", &[]), None);
        assert_eq!(way(&ring, "a", &[]).as_deref(), Some("a0"));
    }

    #[test]
    fn a_server_too_many_links_away_is_not_reachable_yet_does_not_depart() {
        let name = |n: usize| ((b'a' + n as u8) as char).to_string();
        let names: Vec<String> = (0..usize::from(MAX_HOPS) + 2).map(name).collect();
        let line: Vec<_> = names.windows(2).map(|pair| (pair[0].as_str(), pair[1].as_str(), 1)).collect();
        let mut line = mesh(&line);
        let routes = line.routes();
        assert_eq!(routes.cost(&node(&names[10])), Some(10));
        assert!(!routes.is_reachable(&node(&names[11])));
        assert!(line.expire(NOW).is_empty());
        assert!(line.expire(NOW.plus(DEPART_MS * 2)).is_empty());
    }

    #[test]
    fn who_stays_away_departs_and_old_news_does_not_bring_it_back() {
        let mut topology = mesh(&[("a", "b", 1), ("b", "c", 1)]);
        assert!(topology.expire(NOW).is_empty());
        let cut = record("b", (1, 2), &[("a", 1)]);
        assert_eq!(topology.accept(cut, NOW), Accepted::New);
        assert!(topology.expire(NOW.plus(1)).is_empty());
        assert!(topology.expire(NOW.plus(DEPART_MS)).is_empty(), "since it was found to be away");
        assert_eq!(topology.expire(NOW.plus(DEPART_MS + 1)), [node("c")]);
        assert_eq!(topology.get(&node("c")), None);
        assert_eq!(topology.records().count(), 2);
        let known = record("c", (1, 1), &[("b", 1)]);
        assert_eq!(topology.accept(known, NOW), Accepted::Known);
        assert_eq!((topology.revive(), topology.get(&node("c"))), (vec![], None));
        // The link is there again, and `c` has nothing new to say.
        let healed = record("b", (1, 3), &[("a", 1), ("c", 1)]);
        assert_eq!(topology.accept(healed, NOW), Accepted::New);
        assert_eq!(topology.revive(), [Arc::new(record("c", (1, 1), &[("b", 1)]))]);
        assert_eq!(topology.routes().cost(&node("c")), Some(2));
        assert!(topology.revive().is_empty());
    }

    #[test]
    fn a_short_absence_is_forgiven() {
        let mut topology = mesh(&[("a", "b", 1)]);
        let mut at = NOW;
        for _ in 0..5 {
            topology.set_links(Vec::new());
            assert!(topology.expire(at).is_empty());
            assert!(topology.expire(at.plus(DEPART_MS - 1)).is_empty());
            topology.set_links(links(&[("b", 1)]));
            at = at.plus(DEPART_MS);
            assert!(topology.expire(at).is_empty());
        }
    }

    #[test]
    fn the_departed_are_bounded() {
        let mut topology = Topology::new(node("a"), Incarnation(1), about());
        for n in 0..MAX_DEPARTED + 9 {
            let _ = topology.accept(record(&format!("s{n:05}"), (1, 1), &[]), NOW);
        }
        assert_eq!(topology.expire(NOW.plus(DEPART_MS)).len(), MAX_DEPARTED + 9);
        assert_eq!(topology.departed.len(), MAX_DEPARTED);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        /// Any records, ends that disagree included, in any order and repeated.
        #[test]
        fn the_order_of_records_does_not_matter(
            said in prop::collection::vec(
                (0..6u64, 1..3u64, 1..4u64, prop::collection::vec((0..6u64, 1..4u32), 0..5)),
                1..25,
            ).prop_flat_map(|said| (Just(said.clone()), Just(said).prop_shuffle())),
        ) {
            let hear = |said: &[Said]| {
                let mut topology = Topology::new(node("a"), Incarnation(1), about());
                for (server, incarnation, number, to) in said.iter().chain(said) {
                    let to = to.iter().map(|(peer, cost)| LinkState { peer: node(&format!("s{peer}")), cost: *cost });
                    let record = Record { links: to.collect(), ..record(&format!("s{server}"), (*incarnation, *number), &[]) };
                    let _ = topology.accept(record, NOW);
                }
                topology
            };
            let (one, other) = (hear(&said.0), hear(&said.1));
            prop_assert!(one.records().eq(other.records()));
            for (x, y) in (0..6).flat_map(|x| (0..6).map(move |y| (node(&format!("s{x}")), node(&format!("s{y}"))))) {
                let path = one.path(&x, &y, &[]);
                prop_assert_eq!(&path, &other.path(&x, &y, &[]));
                let back = one.path(&y, &x, &[]);
                prop_assert_eq!(path.as_ref().and_then(|p| p.last()).map(|s| s.cost), back.as_ref().and_then(|p| p.last()).map(|s| s.cost));
                prop_assert_eq!(path.map(|p| p.len()), back.map(|p| p.len()), "an answer takes as many links");
            }
        }
    }
}

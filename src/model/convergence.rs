//! The law of what servers keep in step: a small mesh, over links that lose what is on them when they end, holds the same
//! everywhere once it is quiet, and nothing of who is gone.

#[cfg(test)]
mod world;

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::world::{DEVICES, SERVERS, Step, World, device, name, pairs};
    use crate::model::ids::NodeId;

    fn step() -> impl Strategy<Value = Step> {
        let server = 0..SERVERS;
        let pair = (0..SERVERS, 1..SERVERS).prop_map(|(a, d)| (a, (a + d) % SERVERS));
        prop_oneof![
            8 => (pair.clone(), 1..2000u32).prop_map(|((a, b), cost)| Step::Begin(a, b, cost)),
            4 => pair.clone().prop_map(|(a, b)| Step::End(a, b)),
            2 => (pair.clone(), 1..2000u32).prop_map(|((a, b), cost)| Step::Cost(a, b, cost)),
            2 => (server.clone(), 0..9u64).prop_map(|(a, load)| Step::About(a, load)),
            6 => (server.clone(), 0..DEVICES).prop_map(|(a, d)| Step::Attach(a, d)),
            3 => (server.clone(), 0..DEVICES).prop_map(|(a, d)| Step::Detach(a, d)),
            30 => (0..64usize).prop_map(Step::Deliver),
            4 => server.clone().prop_map(Step::Publish),
            2 => server.clone().prop_map(Step::Kill),
            3 => (server.clone(), any::<bool>()).prop_map(|(a, old)| Step::Start(a, old)),
            1 => pair.prop_map(|(a, b)| Step::Forget(a, b)),
            3 => prop_oneof![Just(900u64), Just(4000), Just(11_000)].prop_map(Step::Pass),
        ]
    }

    fn number(server: &NodeId) -> usize {
        server.as_str()[1..].parse().unwrap()
    }

    impl World {
        fn check(&self) -> Result<(), TestCaseError> {
            let costs = self.costs();
            for &a in &self.alive() {
                let here = self.servers[a].as_ref().unwrap();
                let routes = here.topology.routes();
                for &b in &self.alive() {
                    let (from, to) = (name(a), name(b));
                    let cost = costs.get(&(a, b)).copied();
                    prop_assert_eq!(routes.cost(&to), cost, "{} to {}", a, b);
                    prop_assert_eq!(routes.is_reachable(&to), cost.is_some());
                    let foretold = here.topology.path(&from, &to, &[]);
                    prop_assert_eq!(foretold.is_some(), cost.is_some());
                    let Some(foretold) = foretold else { continue };
                    let there = self.servers[b].as_ref().unwrap();
                    prop_assert_eq!(here.topology.get(&to), Some(there.topology.own()));
                    prop_assert_eq!(self.walk(a, b)?, foretold.iter().map(|s| number(&s.server)).collect::<Vec<_>>());
                    prop_assert_eq!(foretold.last().map(|step| step.cost), cost);
                    prop_assert_eq!(there.topology.path(&from, &to, &[]), Some(foretold));
                    prop_assert_eq!(&self.members[a], &self.members[b]);
                    if a != b {
                        let listed = there.own.attachments().map(|at| (at.device, at.number)).collect();
                        prop_assert_eq!(here.list(b), listed, "the list of {} at {}", b, a);
                        prop_assert!(here.digests().contains(&there.own.digest()));
                    }
                }
            }
            Ok(())
        }

        /// By the servers' own next hops.
        fn walk(&self, from: usize, to: usize) -> Result<Vec<usize>, TestCaseError> {
            let mut passed = vec![from];
            while *passed.last().unwrap() != to {
                let here = self.servers[*passed.last().unwrap()].as_ref().unwrap();
                let next = here.topology.routes().next(&name(to)).map(number);
                let next = next.ok_or_else(|| TestCaseError::fail("a relay has no way"))?;
                prop_assert!(!passed.contains(&next), "round and round: {:?}, {}", passed, next);
                passed.push(next);
            }
            Ok(passed)
        }

        /// What is cheapest between any two, counted out over the links as they are.
        fn costs(&self) -> BTreeMap<(usize, usize), u64> {
            let announced = |a: usize, b: usize| {
                let links = &self.servers[a].as_ref()?.topology.own().links;
                links.iter().find(|link| link.peer == name(b)).map(|link| link.cost)
            };
            let mut costs: BTreeMap<(usize, usize), u64> = self.alive().iter().map(|a| ((*a, *a), 0)).collect();
            for (a, b) in pairs().filter(|(a, b)| self.is_up(*a, *b) && self.is_up(*b, *a)) {
                let cost = u64::from(announced(a, b).max(announced(b, a)).unwrap());
                costs.extend([((a, b), cost), ((b, a), cost)]);
            }
            for by in 0..SERVERS {
                for (a, b) in pairs().flat_map(|(a, b)| [(a, b), (b, a)]) {
                    if let (Some(there), Some(on)) = (costs.get(&(a, by)), costs.get(&(by, b))) {
                        let cost = there + on;
                        let known = costs.entry((a, b)).or_insert(cost);
                        *known = cost.min(*known);
                    }
                }
            }
            costs
        }

        /// Nothing is left of who cannot be reached.
        fn check_no_ghosts(&self) -> Result<(), TestCaseError> {
            let costs = self.costs();
            for a in self.alive() {
                let here = self.servers[a].as_ref().unwrap();
                let near: BTreeSet<NodeId> = (0..SERVERS).filter(|b| costs.contains_key(&(a, *b))).map(name).collect();
                let known: BTreeSet<NodeId> = here.topology.records().map(|record| record.server.clone()).collect();
                prop_assert_eq!(&known, &near);
                let mut listed: BTreeSet<NodeId> = here.directory.servers().cloned().collect();
                listed.insert(name(a));
                prop_assert_eq!(&listed, &near);
                for place in (0..DEVICES).flat_map(|n| {
                    here.directory.places(&device(n)).into_iter().map(|p| p.server.clone()).collect::<Vec<_>>()
                }) {
                    prop_assert!(near.contains(&place));
                }
            }
            Ok(())
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 150 } else { 20_000 }))]

        #[test]
        fn once_quiet_all_hold_the_same(steps in prop::collection::vec(step(), 0..160)) {
            let mut world = World::new();
            steps.iter().for_each(|step| world.take(step));
            world.settle();
            world.check()?;
            for _ in 0..12 {
                world.pass(1000);
                world.settle();
            }
            world.check()?;
            world.check_no_ghosts()?;
            // Whoever is dead comes back, and the parts are joined by one link each: most have nothing new to say.
            for server in 0..SERVERS {
                world.take(&Step::Start(server, false));
            }
            for server in 1..SERVERS {
                if !world.costs().contains_key(&(0, server)) {
                    world.begin(0, server, 100);
                }
            }
            world.settle();
            world.check()?;
            world.check_no_ghosts()?;
            prop_assert_eq!(world.costs().len(), SERVERS * SERVERS, "all are one mesh");
        }
    }
}

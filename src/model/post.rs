//! Envelopes that other servers see to as a whole: which may go now, which wait for others of their kind.
//!
//! Each session and each client has a line. Invariants: what stands in a line goes in the order in which it came; all of a
//! line that is not answered is with one server; what that server has lost is first in the line again; what is to be served
//! by this server is served one at a time. Bounded in bytes; what has found nobody for [`PATIENCE_MS`] is given up.

use std::collections::{BTreeMap, VecDeque};

use super::ids::{ClientId, Millis, NodeId, SessionId};
use crate::model::keyed::HashMap;

/// How long an envelope may wait for somebody who serves its session or client, in milliseconds.
pub const PATIENCE_MS: u64 = 8_000;
/// Bytes that may be posted and not answered for; what comes beyond is refused to its sender.
pub const LIMIT: usize = 64 << 20;

/// Whose home sees to an envelope.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    Session(SessionId),
    Client(ClientId),
}

impl Subject {
    pub fn as_str(&self) -> &str {
        match self {
            Self::Session(session) => session.as_str(),
            Self::Client(client) => client.as_str(),
        }
    }
}

/// Who sees to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum With {
    Here,
    There(NodeId),
}

#[derive(Debug)]
struct Posted<W> {
    subject: Subject,
    what: W,
    bytes: usize,
    with: Option<With>,
    since: Millis,
}

#[derive(Debug, Default)]
struct Line {
    /// With whom those are that do not wait, and how many.
    with: Option<(With, usize)>,
    waiting: VecDeque<u64>,
}

impl Line {
    fn leave(&mut self) {
        self.with = match self.with.take() {
            Some((with, count)) if count > 1 => Some((with, count - 1)),
            _ => None,
        };
    }
}

/// See the module's header.
#[derive(Debug)]
pub struct Post<W> {
    last: u64,
    posted: BTreeMap<u64, Posted<W>>,
    lines: HashMap<Subject, Line>,
    bytes: usize,
}

impl<W> Default for Post<W> {
    fn default() -> Self {
        Self { last: 0, posted: BTreeMap::new(), lines: HashMap::default(), bytes: 0 }
    }
}

impl<W> Post<W> {
    pub fn is_empty(&self) -> bool {
        self.posted.is_empty()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// At the end of its line.
    ///
    /// # Errors
    /// Gives it back where there is no room.
    pub fn push(&mut self, subject: Subject, what: W, bytes: usize, now: Millis) -> Result<(), W> {
        if self.bytes > 0 && self.bytes + bytes > LIMIT {
            return Err(what);
        }
        self.last += 1;
        self.bytes += bytes;
        self.lines.entry(subject.clone()).or_default().waiting.push_back(self.last);
        self.posted.insert(self.last, Posted { subject, what, bytes, with: None, since: now });
        Ok(())
    }

    /// Something of this session or client is not answered for.
    pub fn has(&self, subject: &Subject) -> bool {
        self.lines.contains_key(subject)
    }

    /// The next of the line that may go to `with`, who acts for its subject; from now on it is with them.
    pub fn next(&mut self, subject: &Subject, with: &With) -> Option<(u64, &W)> {
        let line = self.lines.get_mut(subject)?;
        let count = match &line.with {
            None => 0,
            Some((same, count)) if same == with && *with != With::Here => *count,
            Some(_) => return None,
        };
        let number = line.waiting.pop_front()?;
        line.with = Some((with.clone(), count + 1));
        let posted = self.posted.get_mut(&number)?;
        posted.with = Some(with.clone());
        Some((number, &posted.what))
    }

    /// It could not be sent after all: it is first in its line again.
    pub fn unsent(&mut self, number: u64) {
        let Some(posted) = self.posted.get_mut(&number) else { return };
        let Some(line) = self.lines.get_mut(&posted.subject) else { return };
        if posted.with.take().is_some() {
            line.leave();
            line.waiting.push_front(number);
        }
    }

    pub fn all(&self) -> impl Iterator<Item = &W> {
        self.posted.values().map(|posted| &posted.what)
    }

    pub fn get(&self, number: u64) -> Option<&W> {
        self.posted.get(&number).map(|posted| &posted.what)
    }

    /// It is answered for; whose line may go on.
    pub fn take(&mut self, number: u64) -> Option<(Subject, W)> {
        let Posted { subject, what, bytes, with, .. } = self.posted.remove(&number)?;
        self.bytes -= bytes;
        if let Some(line) = self.lines.get_mut(&subject) {
            match with {
                Some(_) => line.leave(),
                None => line.waiting.retain(|waits| *waits != number),
            }
            if line.with.is_none() && line.waiting.is_empty() {
                self.lines.remove(&subject);
            }
        }
        Some((subject, what))
    }

    /// What is with these servers is with nobody any more.
    pub fn lost(&mut self, servers: &[NodeId]) {
        let is_lost = |with: &With| matches!(with, With::There(server) if servers.contains(server));
        let lost = self.posted.iter().filter(|(_, posted)| posted.with.as_ref().is_some_and(is_lost));
        let lost: Vec<u64> = lost.map(|(number, _)| *number).collect();
        lost.into_iter().rev().for_each(|number| self.unsent(number));
    }

    /// What is `theirs` is here no more, unless this server is serving it: they have it seen to anew.
    pub fn withdraw(&mut self, theirs: impl Fn(&W) -> bool) {
        let gone = self.posted.iter().filter(|(_, posted)| posted.with != Some(With::Here) && theirs(&posted.what));
        let gone: Vec<u64> = gone.map(|(number, _)| *number).collect();
        gone.into_iter().for_each(|number| drop(self.take(number)));
    }

    /// The lines in which somebody waits.
    pub fn waiting(&self) -> Vec<Subject> {
        let waiting = self.lines.iter().filter(|(_, line)| !line.waiting.is_empty());
        waiting.map(|(subject, _)| subject.clone()).collect()
    }

    /// What has found nobody in time, in order: it is here no more.
    pub fn give_up(&mut self, now: Millis) -> Vec<W> {
        let is_late = |posted: &Posted<W>| posted.with.is_none() && now.since(posted.since) > PATIENCE_MS;
        let late = self.posted.iter().take_while(|(_, posted)| now.since(posted.since) > PATIENCE_MS);
        let late: Vec<u64> = late.filter(|(_, posted)| is_late(posted)).map(|(number, _)| *number).collect();
        late.into_iter().filter_map(|number| self.take(number)).map(|(_, what)| what).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn session(name: &str) -> Subject {
        Subject::Session(name.parse().unwrap())
    }

    fn at(server: &str) -> With {
        With::There(server.parse().unwrap())
    }

    fn post(count: u32) -> Post<u32> {
        let mut post = Post::default();
        (0..count).for_each(|n| post.push(session("s"), n, 10, Millis(u64::from(n))).unwrap());
        post
    }

    fn all(post: &mut Post<u32>, with: &With) -> Vec<(u64, u32)> {
        std::iter::from_fn(|| post.next(&session("s"), with).map(|(number, what)| (number, *what))).collect()
    }

    #[test]
    fn who_acts_gets_all_and_another_one_only_what_comes_after_the_answers() {
        let mut post = post(2);
        let sent = all(&mut post, &at("a"));
        assert_eq!(sent.len(), 2);
        post.push(session("s"), 2, 10, Millis(9)).unwrap();
        assert!(post.next(&session("s"), &at("b")).is_none() && post.next(&session("s"), &With::Here).is_none());
        assert_eq!(post.waiting(), [session("s")]);
        sent.iter().for_each(|(number, _)| assert!(post.take(*number).is_some()));
        assert_eq!(all(&mut post, &at("b")), [(3, 2)]);
    }

    #[test]
    fn what_was_lost_goes_first_and_in_order() {
        let mut post = post(3);
        post.next(&session("s"), &at("a"));
        post.next(&session("s"), &at("a"));
        post.lost(&["a".parse().unwrap()]);
        assert_eq!(all(&mut post, &at("b")).iter().map(|(_, what)| *what).collect::<Vec<_>>(), [0, 1, 2]);
    }

    #[test]
    fn this_server_serves_one_at_a_time() {
        let mut post = post(2);
        let (first, _) = post.next(&session("s"), &With::Here).unwrap();
        assert!(post.next(&session("s"), &With::Here).is_none());
        post.take(first);
        assert_eq!(post.next(&session("s"), &With::Here), Some((2, &1)));
    }

    #[test]
    fn patience_has_an_end_for_those_who_wait() {
        let mut post = post(3);
        post.next(&session("s"), &at("a"));
        assert!(post.give_up(Millis(PATIENCE_MS + 1)).is_empty());
        assert_eq!(post.give_up(Millis(PATIENCE_MS + 3)), [1, 2]);
        assert!(post.has(&session("s")));
        post.take(1);
        assert!(post.is_empty() && !post.has(&session("s")) && post.bytes() == 0);
    }

    #[test]
    fn what_is_open_is_bounded_and_one_is_always_taken() {
        let mut post = Post::default();
        post.push(session("s"), 0, LIMIT + 1, Millis(0)).unwrap();
        assert_eq!(post.push(session("s"), 1, 1, Millis(0)), Err(1));
    }

    proptest! {
        /// Whatever is lost, answered or tried: each is with one server at a time, in order, and none is forgotten.
        #[test]
        fn a_line_keeps_its_order(steps in proptest::collection::vec(0u8..8, 1..200)) {
            let mut post: Post<u32> = Post::default();
            let (mut pushed, mut done) = (0, Vec::new());
            let mut open: Vec<(u64, u32, With)> = Vec::new();
            for step in steps {
                match step {
                    0 | 1 => {
                        post.push(session("s"), pushed, 1, Millis(0)).unwrap();
                        pushed += 1;
                    }
                    2..=4 => {
                        let with = [at("a"), at("b"), With::Here][usize::from(step) - 2].clone();
                        if let Some((number, what)) = post.next(&session("s"), &with).map(|(n, w)| (n, *w)) {
                            prop_assert!(open.iter().all(|(_, older, at)| *older < what && *at == with));
                            prop_assert!(done.iter().all(|older| *older < what));
                            open.push((number, what, with));
                        }
                    }
                    5 | 6 if !open.is_empty() => {
                        let (number, what, _) = open.remove(0);
                        prop_assert!(post.take(number).is_some());
                        done.push(what);
                    }
                    _ => {
                        post.lost(&["a".parse().unwrap()]);
                        open.retain(|(_, _, with)| *with != at("a"));
                    }
                }
            }
            prop_assert_eq!(post.bytes() + done.len(), pushed as usize);
            prop_assert_eq!(post.is_empty(), !post.has(&session("s")));
        }
    }
}

//! What was shown already: delivery is at least once, and a repetition has the same `src_id` and `id`.

use std::collections::{HashSet, VecDeque};

/// As many as a server remembers.
const KEPT: usize = 1024;

/// The last envelopes received, by sender and id.
#[derive(Debug, Default)]
pub(super) struct Heard {
    known: HashSet<(String, String)>,
    order: VecDeque<(String, String)>,
}

impl Heard {
    /// Whether an envelope is heard for the first time.
    pub(super) fn is_new(&mut self, src_id: &str, id: &str) -> bool {
        let name = (src_id.to_owned(), id.to_owned());
        if !self.known.insert(name.clone()) {
            return false;
        }
        self.order.push_back(name);
        if self.order.len() > KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repetition_is_known_among_the_last_ones_and_by_sender() {
        let mut heard = Heard::default();
        assert!(heard.is_new("a", "1"));
        assert!(heard.is_new("b", "1"));
        assert!(!heard.is_new("a", "1"));
        (0..KEPT).for_each(|id| assert!(heard.is_new("c", &id.to_string())));
        assert!(heard.is_new("a", "1"), "forgotten");
        assert_eq!((heard.known.len(), heard.order.len()), (KEPT, KEPT));
    }
}

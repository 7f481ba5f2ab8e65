//! Warnings that a failing provider would otherwise repeat with every push: one line a minute for each.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(super) struct Complaints {
    about: BTreeMap<&'static str, Said>,
}

struct Said {
    at: Instant,
    since: u64,
}

impl Complaints {
    /// Logs `line`, or counts it for the next.
    pub(super) fn say(&mut self, about: &'static str, line: &str) {
        if let Some(unsaid) = self.due(about, Instant::now()) {
            match unsaid {
                0 => log::warn!("{line}"),
                more => log::warn!("{line} (and {more} more like it in the minutes before)"),
            }
        }
    }

    fn due(&mut self, about: &'static str, now: Instant) -> Option<u64> {
        match self.about.get_mut(about) {
            Some(said) if now.duration_since(said.at) < PAUSE => {
                said.since += 1;
                None
            }
            known => {
                let unsaid = known.map_or(0, |said| said.since);
                self.about.insert(about, Said { at: now, since: 0 });
                Some(unsaid)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_minute_says_how_many_it_stands_for() {
        let (mut complaints, start) = (Complaints::default(), Instant::now());
        let mut due = |about, seconds| complaints.due(about, start + Duration::from_secs(seconds));
        assert_eq!(due("fcm", 0), Some(0));
        assert_eq!((due("fcm", 1), due("apns", 1), due("fcm", 59)), (None, Some(0), None));
        assert_eq!((due("fcm", 60), due("fcm", 120)), (Some(2), Some(0)));
    }
}

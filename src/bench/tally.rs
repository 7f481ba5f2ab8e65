//! What came of a stream of numbered messages: which are missing, which came twice, which came late. Pure.

/// One sender's messages to one receiver, numbered from 0.
#[derive(Debug, Clone)]
pub(super) struct Stream {
    /// One bit for each number.
    seen: Vec<u64>,
    expected: u32,
    /// The number after the highest seen.
    next: u32,
    counts: Counts,
}

/// What is told of one stream, or of many together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Numbers seen at least once.
    pub(super) received: u64,
    /// Seen again.
    pub(super) duplicates: u64,
    /// Seen first after a higher one.
    pub(super) reordered: u64,
}

impl Counts {
    pub(super) fn add(&mut self, other: Self) {
        self.received += other.received;
        self.duplicates += other.duplicates;
        self.reordered += other.reordered;
    }
}

/// What a number is to its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    First,
    Again,
    /// A number that nobody sent.
    Foreign,
}

impl Stream {
    pub(super) fn new(expected: u32) -> Self {
        Self { seen: vec![0; (expected as usize).div_ceil(64)], expected, next: 0, counts: Counts::default() }
    }

    pub(super) fn take(&mut self, number: u32) -> Arrival {
        if number >= self.expected {
            return Arrival::Foreign;
        }
        let (word, bit) = (&mut self.seen[number as usize / 64], 1_u64 << (number % 64));
        if *word & bit != 0 {
            self.counts.duplicates += 1;
            return Arrival::Again;
        }
        *word |= bit;
        self.counts.received += 1;
        if number < self.next {
            self.counts.reordered += 1;
        } else {
            self.next = number + 1;
        }
        Arrival::First
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_loss_and_repetition_are_told_apart() {
        let mut stream = Stream::new(70);
        for number in [0, 1, 3, 2, 3, 69] {
            stream.take(number);
        }
        assert_eq!(stream.counts(), Counts { received: 5, duplicates: 1, reordered: 1 });
        assert_eq!(stream.take(70), Arrival::Foreign);
        assert_eq!(stream.take(69), Arrival::Again);
        assert_eq!(stream.take(4), Arrival::First);
    }
}

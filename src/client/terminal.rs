//! The terminal: lines typed, as a bounded queue, and lines shown.
//!
//! A thread of its own reads, because a read from a terminal cannot be cancelled: it would keep the program from ending.

use std::io::{BufRead, BufReader, Read};
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Longest line taken, in bytes; what is beyond becomes a line of its own.
const MAX_LINE: u64 = 256 << 10;
/// Lines waiting to be sent; then the thread stops reading, and what feeds it waits.
const MAX_LINES: usize = 16;
/// At the end of the input, confirmations are waited for so long.
const LAST_WORDS: Duration = Duration::from_secs(15);

/// What is done when the input ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AtEnd {
    /// Leave when all that was sent is confirmed.
    Leave,
    /// Go on listening.
    Stay,
}

/// What a person types.
pub(super) struct Input {
    lines: mpsc::Receiver<String>,
    ended: Option<Instant>,
    at_end: AtEnd,
}

impl Input {
    /// `lines` ends with its sender.
    pub(super) fn new(lines: mpsc::Receiver<String>, at_end: AtEnd) -> Self {
        Self { lines, ended: None, at_end }
    }

    /// Standard input.
    pub(super) fn standard(at_end: AtEnd) -> std::io::Result<Self> {
        let (give, take) = mpsc::channel(MAX_LINES);
        std::thread::Builder::new().name("terminal".to_owned()).spawn(move || {
            let mut input = BufReader::new(std::io::stdin());
            while let Ok(Some(line)) = next_line(&mut input) {
                if give.blocking_send(line).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self::new(take, at_end))
    }

    /// The next line; `None` once, at the end; after that it never returns.
    pub(super) async fn next(&mut self) -> Option<String> {
        if self.ended.is_some() {
            std::future::pending::<()>().await;
        }
        let line = self.lines.recv().await;
        if line.is_none() {
            self.ended = Some(Instant::now());
        }
        line
    }

    /// When to leave at the latest, once the input has ended and that means leaving.
    pub(super) fn patience_ends(&self) -> Option<Instant> {
        match self.at_end {
            AtEnd::Leave => self.ended.map(|ended| ended + LAST_WORDS),
            AtEnd::Stay => None,
        }
    }
}

fn next_line(input: &mut impl BufRead) -> std::io::Result<Option<String>> {
    let mut line = Vec::new();
    if input.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(String::from_utf8_lossy(&line).into_owned()))
}

/// Where lines are shown.
pub(super) struct Screen<W>(W);

impl<W: AsyncWrite + Unpin> Screen<W> {
    pub(super) fn new(out: W) -> Self {
        Self(out)
    }

    /// Shows one line (or several), of which everything that came from others is already cleaned.
    pub(super) async fn show(&mut self, text: &str) -> std::io::Result<()> {
        self.0.write_all(format!("{text}\n").as_bytes()).await?;
        self.0.flush().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_bounded_and_never_fails_on_bytes() {
        let mut input = std::io::Cursor::new(b"one\n\xff\xfe\nlast".to_vec());
        let mut lines = Vec::new();
        while let Some(line) = next_line(&mut input).unwrap() {
            lines.push(line);
        }
        assert_eq!(lines, ["one\n", "\u{fffd}\u{fffd}\n", "last"]);
        let mut endless = std::io::BufReader::new(std::io::repeat(b'x'));
        assert_eq!(next_line(&mut endless).unwrap().unwrap().len() as u64, MAX_LINE);
    }

    #[tokio::test]
    async fn the_end_is_told_once_and_only_who_leaves_has_a_last_moment() {
        for at_end in [AtEnd::Leave, AtEnd::Stay] {
            let (give, take) = mpsc::channel(1);
            let mut input = Input::new(take, at_end);
            give.send("line".to_owned()).await.unwrap();
            drop(give);
            assert_eq!(input.next().await.as_deref(), Some("line"));
            assert_eq!(input.patience_ends(), None);
            assert_eq!(input.next().await, None);
            assert_eq!(input.patience_ends().is_some(), at_end == AtEnd::Leave);
            assert!(tokio::time::timeout(Duration::from_millis(20), input.next()).await.is_err());
        }
    }
}

//! The terminal: lines typed, as a bounded queue, and lines shown.
//!
//! A thread of its own reads, because a read from a terminal cannot be cancelled: it would keep the program from ending.

use std::io::{BufRead, BufReader, Read};

use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

/// Longest line taken, in bytes; what is beyond becomes a line of its own.
const MAX_LINE: u64 = 256 << 10;
/// Lines waiting to be sent; then the thread stops reading, and what feeds it waits.
const MAX_LINES: usize = 16;

/// Lines from standard input. The queue closes at its end.
pub(super) fn lines() -> std::io::Result<mpsc::Receiver<String>> {
    let (give, take) = mpsc::channel(MAX_LINES);
    std::thread::Builder::new().name("terminal".to_owned()).spawn(move || {
        let mut input = BufReader::new(std::io::stdin());
        while let Ok(Some(line)) = next_line(&mut input) {
            if give.blocking_send(line).is_err() {
                return;
            }
        }
    })?;
    Ok(take)
}

fn next_line(input: &mut impl BufRead) -> std::io::Result<Option<String>> {
    let mut line = Vec::new();
    if input.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(String::from_utf8_lossy(&line).into_owned()))
}

/// Shows one line (or several, already cleaned).
pub(super) async fn show(text: &str) -> std::io::Result<()> {
    let mut out = tokio::io::stdout();
    out.write_all(format!("{text}\n").as_bytes()).await?;
    out.flush().await
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
}

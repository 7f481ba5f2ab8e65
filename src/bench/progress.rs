//! The line on standard error that says how far a measurement is.

use std::io::{IsTerminal, Write};
use std::rc::Rc;
use std::time::Duration;

use super::meter::Meter;

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    None,
    /// A line that is written over.
    Terminal,
    /// A line each time, for a log.
    Lines,
}

impl Progress {
    /// A terminal shows it unasked; elsewhere it is shown where `asked`.
    pub(super) fn for_stderr(asked: bool) -> Self {
        match (std::io::stderr().is_terminal(), asked) {
            (true, _) => Self::Terminal,
            (false, true) => Self::Lines,
            (false, false) => Self::None,
        }
    }

    /// Shows the meter's count until the answer is dropped.
    pub(super) fn show(self, scenario: &'static str, meter: &Rc<Meter>) -> Shown {
        let every = match self {
            Self::None => return Shown { task: None, progress: self },
            Self::Terminal => Duration::from_millis(250),
            Self::Lines => Duration::from_secs(2),
        };
        let meter = Rc::clone(meter);
        let task = tokio::task::spawn_local(async move {
            let mut before = 0;
            loop {
                tokio::time::sleep(every).await;
                let done = meter.done();
                let rate = (done - before) as f64 / every.as_secs_f64();
                before = done;
                let share = done as f64 * 100.0 / meter.goal().max(1) as f64;
                let text = format!("{scenario}: {done} of {} ({share:.0} %), {rate:.0}/s", meter.goal());
                match self {
                    Self::Terminal => print(&format!("\r\x1b[K{text}")),
                    Self::Lines | Self::None => print(&format!("{text}\n")),
                }
            }
        });
        Shown { task: Some(task), progress: self }
    }
}

/// A progress line being shown.
pub(super) struct Shown {
    task: Option<tokio::task::JoinHandle<()>>,
    progress: Progress,
}

impl Drop for Shown {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
        if self.progress == Progress::Terminal {
            print("\r\x1b[K");
        }
    }
}

fn print(text: &str) {
    let mut err = std::io::stderr();
    // Whoever closed standard error does not want to see it.
    let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
}

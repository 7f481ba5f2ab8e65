//! What a process costs, from `/proc`: processor time and resident memory. Where there is no `/proc`, nothing is known.

use std::time::Duration;

/// The unit of `/proc/PID/stat`: `USER_HZ`, which is 100 on every Linux a program can meet.
const TICK: Duration = Duration::from_millis(10);

/// A process to look at.
#[derive(Debug, Clone, Copy)]
pub struct Process(pub u32);

impl Process {
    /// Processor time used so far by all its threads, in user and kernel mode.
    pub fn cpu(self) -> Option<Duration> {
        cpu_of(&std::fs::read_to_string(format!("/proc/{}/stat", self.0)).ok()?)
    }

    /// Resident memory, in bytes.
    pub fn resident(self) -> Option<u64> {
        resident_of(&std::fs::read_to_string(format!("/proc/{}/status", self.0)).ok()?)
    }
}

fn cpu_of(stat: &str) -> Option<Duration> {
    // The second field is the program's name in parentheses, and may contain anything, parentheses and spaces too.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<u32>().ok();
    // Fields 14 and 15, counted from 1; the third is the first here.
    Some(TICK.saturating_mul(ticks(11)?.saturating_add(ticks(12)?)))
}

fn resident_of(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lines_are_read() {
        let stat = "42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 13 14 20 0 3 0 99";
        assert_eq!(cpu_of(stat), Some(Duration::from_secs(3)));
        assert_eq!(resident_of("Name:\tx\nVmRSS:\t    2048 kB\n"), Some(2 << 20));
        assert_eq!((cpu_of("nonsense"), resident_of("")), (None, None));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_costs_something() {
        let me = Process(std::process::id());
        assert!(me.resident().unwrap() > 100_000);
        assert!(me.cpu().is_some());
        assert!(Process(u32::MAX).cpu().is_none());
    }
}

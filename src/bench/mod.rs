//! `sparkmesh bench`: load on a running server, or on one it starts, and what that cost.
//!
//! Owns the load: its connections ([`socket`]), what they say ([`stamp`]), how it is counted ([`meter`], [`tally`],
//! [`histogram`]) and told ([`report`]). A scenario is a file. The load is made to cost much less than the server, since
//! both usually share a machine: no JSON is parsed for a message, and one thread carries all connections.

#![expect(clippy::doc_markdown, reason = "these comments are shown in a terminal, as help")]

mod fanout;
mod frame;
mod histogram;
mod idle;
mod inbox;
mod meter;
mod pairs;
mod progress;
mod report;
mod run;
mod server;
mod socket;
mod stamp;
mod tally;
mod target;

use std::path::PathBuf;
use std::time::Duration;

use progress::Progress;
use report::Record;
use run::Run;
use target::Target;

use crate::client::ClientError;
use crate::client::key::SecretArgs;
use crate::process::Process;

/// Measure a server under load.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    pub scenario: Option<Scenario>,
    /// A running server, as http://HOST:PORT; without it one is started, and ended afterwards
    #[arg(long, value_name = "URL", global = true)]
    pub url: Option<String>,
    /// File with the running server's secret (default: SPARKMESH_SECRET, else what `serve --dev` made in its data
    /// directory)
    #[arg(long, value_name = "FILE", env = "SPARKMESH_SECRET_FILE", global = true)]
    pub secret_file: Option<PathBuf>,
    /// Process of the running server, for its processor time and memory
    #[arg(long, value_name = "PID", global = true)]
    pub server_pid: Option<u32>,
    /// Data directory of the server: a started one keeps its data there (default: a temporary directory, removed
    /// afterwards; for the inbox scenario take one on the disk in question)
    #[arg(long, value_name = "DIR", global = true)]
    pub data_dir: Option<PathBuf>,
    /// Start so many servers, linked in a line: devices with even numbers connect to the first, those with odd ones to the
    /// last, so that what `pairs` sends passes all of them
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least(1), global = true, conflicts_with = "url")]
    pub mesh: u32,
    /// Print records, one JSON object a line, instead of the table
    #[arg(long, global = true)]
    pub json: bool,
    /// Say how far it is also where standard error is no terminal
    #[arg(long, global = true)]
    pub progress: bool,
    /// Seconds that one measurement may take at most
    #[arg(long, value_name = "SECONDS", default_value_t = 120, global = true)]
    pub timeout: u64,
}

/// What is measured; all of them, with their defaults, where none is named.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Scenario {
    Pairs(pairs::Args),
    Fanout(fanout::Args),
    Idle(idle::Args),
    Inbox(inbox::Args),
    /// All of the above, one after the other
    All,
}

/// Reads a count that makes no sense below `least`.
fn at_least(least: u32) -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(i64::from(least)..)
}

/// The size of messages.
#[derive(Debug, Clone, clap::Args)]
pub struct Load {
    /// Bytes of a message's payload
    #[arg(long, default_value_t = 1000)]
    pub size: usize,
}

impl Load {
    fn size(&self) -> Result<usize, BenchError> {
        match self.size {
            size if size >= stamp::MIN_SIZE => Ok(size),
            size => Err(BenchError::Unfit(format!("--size {size}: at least {} bytes", stamp::MIN_SIZE))),
        }
    }
}

/// The class of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Feature {
    /// Acknowledged by ping and pong, never lost
    Reliable,
    /// Memory only
    Fast,
}

impl Feature {
    fn word(self) -> &'static str {
        match self {
            Self::Reliable => "RELIABLE",
            Self::Fast => "FAST",
        }
    }
}

/// What can go wrong with a bench, told to the person who started it.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("{0}")]
    Unfit(String),
    #[error("the server cannot be started: {0}")]
    Spawn(std::io::Error),
    #[error("the server that was started is not there: {why}; the end of its log:\n{log}")]
    NotReady { why: String, log: String },
    #[error("only {open} of {count} connections were open after {limit:?}")]
    Slow { open: usize, count: usize, limit: Duration },
    #[error("{device} could not connect: {why}")]
    Open { device: String, why: String },
    #[error(
        "{wanted} open files are needed, {limit} are allowed: raise the limit (ulimit -n), or take fewer connections"
    )]
    Files { wanted: u64, limit: u64 },
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("not all arrived: {0}")]
    Lost(String),
    #[error("interrupted")]
    Interrupted,
}

/// Runs the scenario and prints what was measured on standard output.
///
/// # Errors
/// What kept it from measuring; and [`BenchError::Lost`], after all is printed, when a message did not arrive.
pub async fn run(args: Args) -> Result<(), BenchError> {
    let (give, take) = tokio::sync::oneshot::channel();
    // A thread and a runtime of its own: the load must share neither with whoever calls.
    std::thread::Builder::new().name("load".to_owned()).spawn(move || {
        let end = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(BenchError::Io);
        let end = end.and_then(|runtime| tokio::task::LocalSet::new().block_on(&runtime, until_interrupted(&args)));
        // The caller waits for this and for nothing else.
        let _ = give.send(end);
    })?;
    take.await.unwrap_or(Err(BenchError::Interrupted))
}

async fn until_interrupted(args: &Args) -> Result<(), BenchError> {
    tokio::select! {
        end = measure(args) => end,
        () = interrupted() => Err(BenchError::Interrupted),
    }
}

/// After this long the servers of a new mesh have given each other what they keep.
const SETTLED: Duration = Duration::from_secs(2);

async fn measure(args: &Args) -> Result<(), BenchError> {
    let progress = Progress::for_stderr(args.progress);
    let limit = Duration::from_secs(args.timeout);
    let mut lost = Vec::new();
    let mut header = (!args.json).then(report::header);
    for scenario in scenarios(args.scenario.as_ref()) {
        // A server of its own for each, so that no measurement pays for the one before.
        let servers = match args.url {
            Some(_) => Vec::new(),
            None => server::line(args.mesh, args.data_dir.as_deref()).await?,
        };
        let target = match (servers.as_slice(), &args.url) {
            ([server], _) => Target::new(&server.url, server.minter.clone(), Some(Process(server.id())), limit)?,
            ([first, .., last], _) => {
                // What a relay costs is what the one after the first does; the ends pay for their devices too.
                let process = Some(Process(servers[1].id()));
                let target = Target::new(&first.url, first.minter.clone(), process, limit)?;
                let target = target.with_far_end(&last.url, servers.len())?;
                target.meet(0).await?;
                // Homes move to those who have just joined; nobody measures that.
                tokio::time::sleep(SETTLED).await;
                target
            }
            ([], Some(url)) => {
                let secret = SecretArgs { secret_file: args.secret_file.clone(), ..SecretArgs::default() };
                let secret = match &args.data_dir {
                    Some(data_dir) => SecretArgs { data_dir: data_dir.clone(), ..secret },
                    None => secret,
                };
                Target::new(url, secret.load()?, args.server_pid.map(Process), limit)?
            }
            ([], None) => unreachable!("without an address a server was started"),
        };
        let run = Run { target, progress, limit };
        for record in carry_out(&scenario, &run).await? {
            if let Some(header) = header.take() {
                print_line(&header)?;
            }
            let line = if args.json {
                serde_json::to_string(&record).map_err(std::io::Error::from)?
            } else {
                report::row(&record)
            };
            print_line(&line)?;
            if record.lost > 0 {
                lost.push(format!("{} of {} in {}", record.lost, record.expected, record.scenario));
            }
        }
    }
    if lost.is_empty() { Ok(()) } else { Err(BenchError::Lost(lost.join(", "))) }
}

fn scenarios(asked: Option<&Scenario>) -> Vec<Scenario> {
    match asked {
        Some(Scenario::All) | None => all(),
        Some(one) => vec![one.clone()],
    }
}

/// Every scenario with the defaults its flags state.
fn all() -> Vec<Scenario> {
    #[derive(clap::Parser)]
    struct One {
        #[command(subcommand)]
        scenario: Scenario,
    }
    let parse = |name: &str| <One as clap::Parser>::parse_from(["bench", name]).scenario;
    ["pairs", "fanout", "idle", "inbox"].into_iter().map(parse).collect()
}

async fn carry_out(scenario: &Scenario, run: &Run) -> Result<Vec<Record>, BenchError> {
    Ok(match scenario {
        Scenario::Pairs(args) => vec![pairs::run(args, run).await?],
        Scenario::Fanout(args) => vec![fanout::run(args, run).await?],
        Scenario::Idle(args) => vec![idle::run(args, run).await?],
        Scenario::Inbox(args) => inbox::run(args, run).await?.into(),
        Scenario::All => Vec::new(),
    })
}

async fn interrupted() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => return,
                _ = terminate.recv() => return,
            }
        }
    }
    // Where signals cannot be heard, they end the process by themselves.
    let _ = tokio::signal::ctrl_c().await;
}

fn print_line(line: &str) -> std::io::Result<()> {
    use std::io::Write;
    writeln!(std::io::stdout(), "{line}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_has_its_defaults() {
        let all = all();
        assert!(matches!(&all[0], Scenario::Pairs(args) if args.connections == 100 && args.window == 16));
        assert!(matches!(&all[1], Scenario::Fanout(args) if args.members == 1000));
        assert!(matches!(&all[2], Scenario::Idle(args) if args.connections == 10_000));
        assert!(matches!(&all[3], Scenario::Inbox(args) if args.devices == 100 && args.messages == 500));
        assert_eq!(all.len(), 4);
    }

    #[test]
    fn a_payload_must_hold_the_mark() {
        assert!(Load { size: stamp::MIN_SIZE }.size().is_ok());
        assert!(matches!(Load { size: 10 }.size(), Err(BenchError::Unfit(_))));
    }
}

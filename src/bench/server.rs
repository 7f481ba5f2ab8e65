//! A server that the bench starts for itself, and ends.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use tokio::sync::oneshot;

use super::BenchError;
use crate::client::key::Minter;

/// What the server prints when it can be asked.
const READY: &str = "sparkmesh ready on ";
/// A start takes no longer.
const PATIENCE: Duration = Duration::from_secs(30);
/// No edge of a load is to be slowed: the limits are not what is measured.
const LIMITS: [&str; 6] = ["--rate", "100000000", "--rate-bytes", "1000000000000", "--admission-rate", "1000000"];
/// How much of the log is shown when the server does not start, in lines.
const TAIL: usize = 12;

/// A server of ours; it ends with this value.
pub(super) struct Server {
    process: Running,
    pub(super) url: String,
    pub(super) minter: Minter,
}

/// A child process and its data, which both end with this value.
struct Running {
    child: Child,
    data: PathBuf,
    data_is: Data,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Data {
    /// Made for this run, and removed after it.
    Temporary,
    Given,
}

impl Server {
    /// Starts this program's own `serve` on a free port and waits until it is ready.
    async fn start(data: Option<&Path>, more: &[String]) -> Result<Self, BenchError> {
        let (data, data_is) = match data {
            Some(data) => (data.to_owned(), Data::Given),
            None => (temporary_directory()?, Data::Temporary),
        };
        std::fs::create_dir_all(&data)?;
        let log = data.join("serve.log");
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["serve", "--dev", "--port", "0"]).args(LIMITS).args(more).arg("--data-dir").arg(&data);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SPARKMESH_")) {
            command.env_remove(name);
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(std::fs::File::create(&log)?).spawn();
        let mut child = child.map_err(BenchError::Spawn)?;
        let stdout = child.stdout.take().expect("it was asked for as a pipe");
        let ready = watch(stdout)?;
        // From here on the child ends with this, whatever happens.
        let process = Running { child, data, data_is };
        let why = match tokio::time::timeout(PATIENCE, ready).await {
            Ok(Ok(url)) => {
                let given = more.iter().find_map(|flag| flag.strip_prefix("--secret-file=")).map(PathBuf::from);
                let minter = Minter::from_file(&given.unwrap_or_else(|| process.data.join("secret")))?;
                return Ok(Self { process, url, minter });
            }
            Ok(Err(_)) => "it ended".to_owned(),
            Err(_) => format!("it was not ready within {} s", PATIENCE.as_secs()),
        };
        Err(BenchError::NotReady { why, log: tail(&log) })
    }

    pub(super) fn id(&self) -> u32 {
        self.process.child.id()
    }
}

/// `count` servers, each linked to the one before it; one alone where that is all. They share the first one's secret.
pub(super) async fn line(count: u32, data: Option<&Path>) -> Result<Vec<Server>, BenchError> {
    if count <= 1 {
        return Ok(vec![Server::start(data, &[]).await?]);
    }
    let own = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let mut servers: Vec<Server> = Vec::new();
    for at in 0..count {
        let mut more = own(&["--links", "static", "--allow-direct", "--node-id", &format!("bench-{at}")]);
        if let (Some(first), Some(before)) = (servers.first(), servers.last()) {
            more.extend(own(&["--peer", &before.url.replacen("http", "ws", 1)]));
            more.extend([format!("--secret-file={}", first.process.data.join("secret").display())]);
        }
        let data = data.map(|data| data.join(at.to_string()));
        let mut server = Server::start(data.as_deref(), &more).await?;
        if let Some(first) = servers.first() {
            server.minter = first.minter.clone();
        }
        servers.push(server);
    }
    Ok(servers)
}

impl Drop for Running {
    fn drop(&mut self) {
        // Nothing of a load is worth a drain. A child that cannot be killed has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if self.data_is == Data::Temporary {
            let _ = std::fs::remove_dir_all(&self.data);
        }
    }
}

/// The address from the server's line. A thread reads on to the end, so that the server never waits for its reader.
fn watch(stdout: ChildStdout) -> std::io::Result<oneshot::Receiver<String>> {
    let (give, take) = oneshot::channel();
    std::thread::Builder::new().name("serve-output".to_owned()).spawn(move || {
        let mut give = Some(give);
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if let Some(url) = address_in(&line)
                && let Some(give) = give.take()
            {
                // Nobody waits any more: the start was given up.
                let _ = give.send(url.to_owned());
            }
        }
    })?;
    Ok(take)
}

fn address_in(line: &str) -> Option<&str> {
    line.trim().strip_prefix(READY)?.split_whitespace().next()
}

fn temporary_directory() -> std::io::Result<PathBuf> {
    let path = std::env::temp_dir().join(format!("sparkmesh-bench-{:016x}", rand::random::<u64>()));
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(&path)?;
    Ok(path)
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_readiness_is_known_among_others() {
        assert_eq!(address_in("sparkmesh ready on http://127.0.0.1:41\n"), Some("http://127.0.0.1:41"));
        assert_eq!(address_in("try: sparkmesh connect"), None);
    }
}

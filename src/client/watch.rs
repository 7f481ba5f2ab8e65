//! `sparkmesh mesh URL where|device|history|drain`: what the servers tell an operator, in words for a person.
//!
//! Shows what the server answers and decides nothing. What is told is text of others, and is cleaned before it reaches a
//! terminal.

use std::fmt::Write as _;

use clap::Subcommand;
use reqwest::Method;
use serde::Deserialize;

use super::ClientError;
use super::mesh::{Table, span};
use super::offer::Door;
use super::render::clean;
use crate::model::history::Columns;
use crate::model::ids::{EnvelopeId, NodeId};

#[derive(Debug, Subcommand)]
pub enum Action {
    /// Where is a message? Asks all servers for what they know of it
    Where {
        /// Who has sent it, as recipients see it
        #[arg(long, value_name = "ID")]
        sender: NodeId,
        /// The message's `id`
        #[arg(long, value_name = "ID")]
        id: EnvelopeId,
        /// Look in the inbox of this device only, if there is too much mail to look through all of it
        #[arg(long, value_name = "ID")]
        device: Option<NodeId>,
    },
    /// Where is a device, what waits for it, and when was it pushed to last?
    Device {
        #[arg(value_name = "DEVICE")]
        device: NodeId,
    },
    /// What the servers did lately: messages, processor time, memory
    History {
        /// One of them; all, if absent
        #[arg(value_name = "SERVER")]
        server: Option<NodeId>,
    },
    /// Have a server send its devices to others, and end
    Drain {
        /// Its id; the server at URL, if absent
        #[arg(value_name = "SERVER")]
        server: Option<NodeId>,
    },
}

/// Whether what is shown is for a person or a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Words,
    Json,
}

/// Asks once, and gives what is to be shown.
pub(super) async fn run(door: &Door, key: &str, action: Action, form: Form) -> Result<String, ClientError> {
    type Words = fn(&[u8]) -> Result<String, serde_json::Error>;
    let id = |id: Option<NodeId>| id.map(|id| ("server", id.to_string())).into_iter().collect::<Vec<_>>();
    let (method, path, query, words): (_, Vec<String>, _, Words) = match action {
        Action::Where { sender, id, device } => {
            let device = device.map(|device| ("device", device.to_string()));
            let query = [("sender", sender.to_string()), ("id", id.to_string())].into_iter().chain(device).collect();
            (Method::GET, vec!["mesh".into(), "where".into()], query, |body| Ok(parse::<Where>(body)?.words()))
        }
        Action::Device { device } => {
            let path = vec!["nodes".into(), device.to_string(), "edges".into()];
            (Method::GET, path, Vec::new(), |body| Ok(parse::<Device>(body)?.words()))
        }
        Action::History { server } => (Method::GET, vec!["mesh".into(), "history".into()], id(server), |body| {
            Ok(parse::<Histories>(body)?.words())
        }),
        Action::Drain { server } => {
            (Method::POST, vec!["drain".into()], id(server), |body| Ok(parse::<Drains>(body)?.words()))
        }
    };
    let path: Vec<&str> = std::iter::once("v1").chain(path.iter().map(String::as_str)).collect();
    let body = door.ask(method, &path, &query, key).await?;
    let shown = match form {
        Form::Json => String::from_utf8_lossy(&body).trim_end().to_owned() + "\n",
        Form::Words => words(&body)
            .map_err(|error| ClientError::BadAnswer { url: door.base().to_string(), reason: error.to_string() })?,
    };
    Ok(if form == Form::Json { shown } else { shown.lines().map(|line| clean(line) + "\n").collect() })
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(body)
}

#[derive(Deserialize)]
struct Where {
    sender: String,
    id: String,
    found: Vec<Found>,
    silent: Vec<String>,
    incomplete: Vec<String>,
}

#[derive(Deserialize)]
struct Found {
    node_id: String,
    device: Option<String>,
    state: String,
    custodian: Option<bool>,
    to: Option<String>,
    seq: Option<u64>,
    path: Option<Vec<String>>,
}

impl Where {
    fn words(&self) -> String {
        let mut shown = String::new();
        if self.found.is_empty() {
            let _ = writeln!(
                shown,
                "no server knows of message {} of {} any more: it was confirmed and forgotten, or it was never here",
                self.id, self.sender
            );
        } else {
            let mut table = Table::new(&["SERVER", "STATE", "RECIPIENT", "TO", "SEQ", "ANSWERS", "WAY"]);
            for found in &self.found {
                table.rows.push(vec![
                    found.node_id.clone(),
                    found.state.replace('_', " "),
                    found.device.clone().unwrap_or_default(),
                    found.to.clone().unwrap_or_default(),
                    found.seq.map(|seq| seq.to_string()).unwrap_or_default(),
                    if found.custodian == Some(true) { "yes".to_owned() } else { String::new() },
                    found.path.as_ref().map(|path| path.join(" -> ")).unwrap_or_default(),
                ]);
            }
            let _ = write!(shown, "{table}");
        }
        silent(&mut shown, &self.silent);
        if !self.incomplete.is_empty() {
            let servers = self.incomplete.join(", ");
            let _ =
                writeln!(shown, "too much mail to look through all of it at {servers}: name the recipient, --device");
        }
        shown
    }
}

fn silent(shown: &mut String, servers: &[String]) {
    if !servers.is_empty() {
        let _ = writeln!(shown, "did not answer: {}", servers.join(", "));
    }
}

#[derive(Deserialize)]
struct Device {
    node_id: String,
    client_id: Option<String>,
    home: String,
    acting: Option<String>,
    pending: u64,
    push_providers: Vec<String>,
    last_push: Option<Pushed>,
    servers: Vec<AtServer>,
    silent: Vec<String>,
}

#[derive(Deserialize)]
struct Pushed {
    at: u64,
    provider: String,
    outcome: String,
}

#[derive(Deserialize)]
struct AtServer {
    node_id: String,
    edges: Vec<Edge>,
}

#[derive(Deserialize)]
struct Edge {
    state: String,
    waiting: u64,
    unacknowledged: u64,
    queue_bytes: u64,
}

impl Device {
    fn words(&self) -> String {
        let mut shown = String::new();
        let client = self.client_id.as_ref().map(|client| format!(" of client {client}")).unwrap_or_default();
        let _ = writeln!(shown, "{}{client}: {} waiting in the inbox at {}", self.node_id, self.pending, self.home);
        match &self.acting {
            Some(acting) if *acting == self.home => {}
            Some(acting) => drop(writeln!(shown, "{acting} acts for it, as {} cannot be reached", self.home)),
            None => drop(writeln!(shown, "nobody acts for it: neither its home nor its deputy can be reached")),
        }
        if !self.push_providers.is_empty() {
            let _ = writeln!(shown, "push tokens: {}", self.push_providers.join(", "));
        }
        if let Some(push) = &self.last_push {
            let _ = writeln!(shown, "last push: by {} at {} ms since 1970: {}", push.provider, push.at, push.outcome);
        }
        let edges: Vec<_> =
            self.servers.iter().flat_map(|at| at.edges.iter().map(move |edge| (&at.node_id, edge))).collect();
        if edges.is_empty() {
            shown.push_str("not connected\n");
        } else {
            let mut table = Table::new(&["CONNECTED AT", "STATE", "WAITING", "UNACKNOWLEDGED", "QUEUE"]);
            for (server, edge) in edges {
                table.rows.push(vec![
                    server.clone(),
                    edge.state.clone(),
                    edge.waiting.to_string(),
                    edge.unacknowledged.to_string(),
                    format!("{} B", edge.queue_bytes),
                ]);
            }
            let _ = write!(shown, "{table}");
        }
        silent(&mut shown, &self.silent);
        shown
    }
}

#[derive(Deserialize)]
struct Histories {
    servers: Vec<OfServer>,
    silent: Vec<String>,
}

#[derive(Deserialize)]
struct OfServer {
    node_id: String,
    history: Columns,
}

impl Histories {
    fn words(&self) -> String {
        let head = &["SERVER", "OVER", "IN/S", "OUT/S", "CONNECTIONS", "INBOX", "HELD", "COMMIT", "CPU", "MEMORY"];
        let mut table = Table::new(head);
        for server in &self.servers {
            table.rows.push(server.row());
        }
        let mut shown = table.to_string();
        silent(&mut shown, &self.silent);
        shown
    }
}

impl OfServer {
    fn row(&self) -> Vec<String> {
        let of = &self.history;
        let ms = match (of.at.first(), of.at.last()) {
            (Some(first), Some(last)) => last.since(*first),
            _ => 0,
        };
        // A counter that went back began anew with its process.
        let grown = |column: &[u64]| match (column.first(), column.last()) {
            (Some(first), Some(last)) => last.saturating_sub(*first),
            _ => 0,
        };
        let a_second = |column: &[u64]| (grown(column) * 1000).checked_div(ms).unwrap_or(0).to_string();
        let last = |column: &[u64]| column.last().copied().unwrap_or(0);
        vec![
            self.node_id.clone(),
            format!("{} s", ms / 1000),
            a_second(&of.received),
            a_second(&of.delivered),
            last(&of.connections).to_string(),
            last(&of.inbox_envelopes).to_string(),
            last(&of.held_envelopes).to_string(),
            grown(&of.commit_us).checked_div(grown(&of.commits)).map(span).unwrap_or_default(),
            format!("{:.0} %", grown(&of.cpu_us) as f64 / 10.0 / ms.max(1) as f64),
            format!("{} MB", last(&of.memory_bytes) / 1_000_000),
        ]
    }
}

#[derive(Deserialize)]
struct Drains {
    node_id: String,
}

impl Drains {
    fn words(&self) -> String {
        format!("{} sends its devices to other servers, and then ends\n", self.node_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_message_is_and_that_nobody_knows() {
        let told = r#"{"sender":"a","id":"x","found":[
            {"node_id":"s1","device":"b","state":"sent_on","custodian":true,"to":"s3","path":["s1","s2","s3"]},
            {"node_id":"s2","device":"c","state":"inbox","seq":4,"since":1}],"silent":["s9"],"incomplete":["s2"]}"#;
        let expected = "\
SERVER  STATE    RECIPIENT  TO  SEQ  ANSWERS  WAY
s1      sent on  b          s3       yes      s1 -> s2 -> s3
s2      inbox    c              4
did not answer: s9
too much mail to look through all of it at s2: name the recipient, --device
";
        assert_eq!(parse::<Where>(told.as_bytes()).unwrap().words(), expected);
        let nowhere = r#"{"sender":"a","id":"x","found":[],"silent":[],"incomplete":[]}"#;
        let words = parse::<Where>(nowhere.as_bytes()).unwrap().words();
        assert!(words.contains("confirmed and forgotten, or it was never here"), "{words}");
    }

    #[test]
    fn a_device_and_what_waits_for_it() {
        let told = r#"{"node_id":"b","client_id":"bob","home":"s2","acting":"s3","pending":3,"push_providers":["fcm"],
            "last_push":{"at":5,"provider":"fcm","outcome":"sent"},"silent":[],"servers":[{"node_id":"s1","catches_up":false,
            "sent_on":null,"last_push":null,"edges":[{"connection":1,"attachment":2,"state":"moving","waiting":1,
            "unacknowledged":2,"queue_bytes":345}]}]}"#;
        let expected = "\
b of client bob: 3 waiting in the inbox at s2
s3 acts for it, as s2 cannot be reached
push tokens: fcm
last push: by fcm at 5 ms since 1970: sent
CONNECTED AT  STATE   WAITING  UNACKNOWLEDGED  QUEUE
s1            moving  1        2               345 B
";
        assert_eq!(parse::<Device>(told.as_bytes()).unwrap().words(), expected);
    }

    #[test]
    fn counters_become_rates() {
        let told = r#"{"servers":[{"node_id":"s1","history":{"at":[1000,3000],"received":[10,2010],"delivered":[0,100],
            "connections":[1,7],"commits":[5,9],"commit_us":[0,4000],"cpu_us":[0,500000],"memory_bytes":[1,9000000]}}],
            "silent":[]}"#;
        let words = parse::<Histories>(told.as_bytes()).unwrap().words();
        let row: Vec<&str> = words.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(row, ["s1", "2", "s", "1000", "50", "7", "0", "0", "1.0", "ms", "25", "%", "9", "MB"]);
    }
}

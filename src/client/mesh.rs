//! `sparkmesh mesh`: what one server knows of its mesh, as a table for a person or as JSON; and forgetting a server. What else
//! can be asked and done is in [`watch`].
//!
//! Nothing here decides anything: it shows `GET /v1/mesh`. What the server says is text of others, and is cleaned before
//! it reaches a terminal.

use std::fmt::Write as _;

use clap::Subcommand;
use reqwest::Method;
use serde::Deserialize;

use super::ClientError;
use super::key::{Holder, SecretArgs};
use super::offer::Door;
use super::render::clean;
use super::watch::{self, Form};
use crate::auth::key::Role;
use crate::model::ids::NodeId;

/// Who asks, in the log of the server, when the key is minted here.
const ASKER: &str = "sparkmesh-mesh";

/// Look at a mesh.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A server of the mesh: http://HOST:PORT
    #[arg(value_name = "URL", env = "SPARKMESH_URL")]
    pub url: String,
    /// An admin's key (`sparkmesh key --role admin` makes one)
    #[arg(long, value_name = "KEY", env = "SPARKMESH_KEY", hide_env_values = true, global = true)]
    pub key: Option<String>,
    #[command(flatten)]
    pub secret: SecretArgs,
    /// Show it as JSON, as the server tells it
    #[arg(long, global = true)]
    pub json: bool,
    /// The way that a message takes from server A to server B
    #[arg(long, num_args = 2, value_names = ["A", "B"])]
    pub path: Vec<NodeId>,
    /// ... if X and Y were not linked; may be given several times
    #[arg(long, num_args = 2, value_names = ["X", "Y"], requires = "path")]
    pub without_link: Vec<NodeId>,
    #[command(subcommand)]
    pub action: Option<Action>,
}

#[derive(Debug, Subcommand)]
pub enum Action {
    /// Forget a server for ever: it is home to nothing any more
    ///
    /// One that lives gives away what it keeps to the others, and may be stopped when this command without `forget` shows it
    /// as "empty". The inboxes of one that is dead are lost with it, unless it is started again; it is let in until it has
    /// given them away.
    Forget {
        /// Its id
        #[arg(value_name = "SERVER")]
        server: NodeId,
    },
    #[command(flatten)]
    Watch(watch::Action),
}

/// Asks once, and gives what is to be shown.
///
/// # Errors
/// No key, no server there, its refusal, or no way where one is asked for.
pub async fn run(args: Args) -> Result<String, ClientError> {
    let door = Door::at(&args.url)?;
    let key = match args.key {
        Some(key) => key,
        None => {
            let node = ASKER.parse().expect("letters and a dash are an id");
            args.secret.load()?.mint(&Holder { node, client: None, role: Role::Admin })
        }
    };
    let action = match args.action {
        Some(Action::Watch(action)) => {
            let form = if args.json { Form::Json } else { Form::Words };
            return watch::run(&door, &key, action, form).await;
        }
        other => other,
    };
    if let Some(Action::Forget { server }) = action {
        let query = [("server", server.to_string())];
        let body = door.ask(Method::POST, &["v1", "mesh", "forget"], &query, &key).await?;
        let forgotten: Forgotten = serde_json::from_slice(&body)
            .map_err(|error| ClientError::BadAnswer { url: args.url.clone(), reason: error.to_string() })?;
        let then = if forgotten.reachable {
            "it gives away what it keeps, and may be stopped when it is shown as \"empty\""
        } else {
            "it cannot be reached: inboxes that it alone had are lost, unless it is started again"
        };
        return Ok(format!("{server} is forgotten; {then}\n"));
    }
    let mut query = Vec::new();
    for (name, servers) in [("path", args.path), ("without", args.without_link)] {
        if !servers.is_empty() {
            query.push((name, servers.iter().map(NodeId::as_str).collect::<Vec<_>>().join(",")));
        }
    }
    let body = door.ask(Method::GET, &["v1", "mesh"], &query, &key).await?;
    if args.json {
        return Ok(format!("{}\n", String::from_utf8_lossy(&body).trim_end()));
    }
    let mesh: Mesh = serde_json::from_slice(&body)
        .map_err(|error| ClientError::BadAnswer { url: args.url, reason: error.to_string() })?;
    match &mesh.path {
        Some(Path { from, to, servers: None, .. }) => Err(ClientError::NoWay { from: clean(from), to: clean(to) }),
        _ => Ok(mesh.table()),
    }
}

#[derive(Deserialize)]
struct Forgotten {
    reachable: bool,
}

#[derive(Deserialize)]
struct Mesh {
    node_id: String,
    servers: Vec<Server>,
    forgotten: Vec<String>,
    other_pins: Vec<String>,
    path: Option<Path>,
}

#[derive(Deserialize)]
struct Server {
    node_id: String,
    member: bool,
    reachable: bool,
    standing: String,
    incarnation: Option<u64>,
    addr: Option<String>,
    port: Option<u16>,
    region: Option<String>,
    connections: u64,
    max_connections: u64,
    attachments: u64,
    homes: f64,
    cost_us: Option<u64>,
    via: Option<String>,
    links: Vec<Link>,
}

#[derive(Deserialize)]
struct Link {
    peer: String,
    cost_us: u64,
    state: String,
    queue_bytes: Option<u64>,
    unacknowledged_bytes: Option<u64>,
}

#[derive(Deserialize)]
struct Path {
    from: String,
    to: String,
    #[serde(default)]
    without: Vec<(String, String)>,
    servers: Option<Vec<Hop>>,
}

#[derive(Deserialize)]
struct Hop {
    node_id: String,
    cost_us: u64,
}

impl Mesh {
    fn table(&self) -> String {
        let with_regions = self.servers.iter().any(|server| server.region.is_some());
        let mut servers =
            Table::new(&["SERVER", "STATE", "START", "ADDRESS", "CONNECTIONS", "DEVICES", "HOMES", "WAY"]);
        if with_regions {
            servers.head.push("REGION");
        }
        for server in &self.servers {
            let mut row = self.row(server);
            if with_regions {
                row.push(server.region.clone().unwrap_or_default());
            }
            servers.rows.push(row);
        }
        let mut shown = servers.to_string();
        let links = self.links();
        if !links.rows.is_empty() {
            let _ = write!(shown, "\n{links}");
        }
        if !self.forgotten.is_empty() {
            let _ = writeln!(shown, "\nforgotten: {}", self.forgotten.join(", "));
        }
        if !self.other_pins.is_empty() {
            let (own, others) = (&self.node_id, self.other_pins.join(", "));
            let _ = writeln!(shown, "\nother pins than {own}: {others}: give all servers the same");
        }
        if let Some(path) = &self.path {
            let _ = writeln!(shown, "\n{path}");
        }
        shown.lines().map(|line| clean(line) + "\n").collect()
    }

    fn row(&self, server: &Server) -> Vec<String> {
        let state = match (server.reachable, server.member) {
            (false, _) if server.standing == "departed" => "gone".to_owned(),
            (false, _) => "unreachable".to_owned(),
            // Of one that is forgotten that is said by its standing.
            (true, false) if !matches!(server.standing.as_str(), "leaving" | "empty") => {
                format!("{}, no member", server.standing)
            }
            (true, _) => server.standing.clone(),
        };
        let way = match (&server.via, server.cost_us) {
            _ if server.node_id == self.node_id => "(asked)".to_owned(),
            (Some(via), Some(cost)) if *via == server.node_id => span(cost),
            (Some(via), Some(cost)) => format!("{} via {via}", span(cost)),
            _ => "none".to_owned(),
        };
        let address = server.addr.as_ref().filter(|addr| !addr.is_empty()).zip(server.port);
        vec![
            server.node_id.clone(),
            state,
            server.incarnation.map(|start| start.to_string()).unwrap_or_default(),
            address.map(|(addr, port)| format!("{addr}:{port}")).unwrap_or_default(),
            if server.incarnation.is_some() {
                format!("{} of {}", server.connections, server.max_connections)
            } else {
                String::new()
            },
            server.attachments.to_string(),
            format!("{:.1} %", server.homes * 100.0),
            way,
        ]
    }

    /// Each link once, though both of its ends tell of it.
    fn links(&self) -> Table {
        let mut links = Table::new(&["LINK", "COST", "STATE", "QUEUE", "UNACKNOWLEDGED"]);
        for server in &self.servers {
            for link in &server.links {
                let back = self.servers.iter().find(|other| other.node_id == link.peer);
                let back = back.and_then(|other| other.links.iter().find(|link| link.peer == server.node_id));
                let is_ours = link.queue_bytes.is_some();
                // The end that is asked knows most, then that with the lower id.
                let is_told = match back {
                    None => true,
                    Some(back) => is_ours || (back.queue_bytes.is_none() && server.node_id < link.peer),
                };
                if is_told {
                    let cost = link.cost_us.max(back.map_or(0, |back| back.cost_us));
                    let bytes = |count: Option<u64>| count.map(|count| format!("{count} B")).unwrap_or_default();
                    links.rows.push(vec![
                        format!("{} - {}", server.node_id, link.peer),
                        span(cost),
                        if link.state == "up" { link.state.clone() } else { "one end only".to_owned() },
                        bytes(link.queue_bytes),
                        bytes(link.unacknowledged_bytes),
                    ]);
                }
            }
        }
        links
    }
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "way from {} to {}", self.from, self.to)?;
        for (one, other) in &self.without {
            write!(f, ", without {one} - {other}")?;
        }
        for (at, hop) in self.servers.iter().flatten().enumerate() {
            match at {
                0 => write!(f, ": {}", hop.node_id)?,
                _ => write!(f, " -> {} ({})", hop.node_id, span(hop.cost_us))?,
            }
        }
        Ok(())
    }
}

/// A time in microseconds as a person reads it.
pub(super) fn span(us: u64) -> String {
    if us < 1000 { format!("{us} us") } else { format!("{:.1} ms", us as f64 / 1000.0) }
}

pub(super) struct Table {
    head: Vec<&'static str>,
    pub(super) rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(head: &[&'static str]) -> Self {
        Self { head: head.to_vec(), rows: Vec::new() }
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let head: Vec<String> = self.head.iter().map(|&name| name.to_owned()).collect();
        let rows = || std::iter::once(&head).chain(&self.rows);
        let width = |column: usize| rows().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..head.len()).map(width).collect();
        for row in rows() {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let _ = write!(line, "{cell:width$}  ");
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLD: &str = r#"{"node_id":"s1","members":["s1","s2","s4"],"forgotten":["s3"],"pins":["eu-=s1"],"other_pins":["s2"],"servers":[
        {"node_id":"s1","member":true,"reachable":true,"standing":"serving","incarnation":1,"addr":"10.0.0.1","port":80,
         "region":null,"connections":3,"max_connections":100,"attachments":3,"homes":0.5,"cost_us":0,"via":null,
         "links":[{"peer":"s2","cost_us":900,"state":"up","queue_bytes":12,"unacknowledged_bytes":7}]},
        {"node_id":"s2","member":true,"reachable":true,"standing":"draining","incarnation":7,"addr":"10.0.0.2","port":80,
         "region":null,"connections":0,"max_connections":100,"attachments":0,"homes":0.25,"cost_us":1500,"via":"s2",
         "links":[{"peer":"s1","cost_us":1500,"state":"up"},{"peer":"s4","cost_us":80,"state":"one_sided"}]},
        {"node_id":"s4","member":true,"reachable":false,"standing":"departed","incarnation":null,"addr":null,"port":null,
         "region":null,"connections":0,"max_connections":0,"attachments":0,"homes":0.25,"cost_us":null,"via":null,"links":[]}],
        "path":{"from":"s1","to":"s2","without":[["s1","s4"]],"cost_us":1500,
         "servers":[{"node_id":"s1","cost_us":0},{"node_id":"s2","cost_us":1500}]}}"#;

    #[test]
    fn a_person_sees_it_at_a_glance() {
        let mesh: Mesh = serde_json::from_str(TOLD).unwrap();
        let expected = "\
SERVER  STATE     START  ADDRESS      CONNECTIONS  DEVICES  HOMES   WAY
s1      serving   1      10.0.0.1:80  3 of 100     3        50.0 %  (asked)
s2      draining  7      10.0.0.2:80  0 of 100     0        25.0 %  1.5 ms
s4      gone                                       0        25.0 %  none

LINK     COST    STATE         QUEUE  UNACKNOWLEDGED
s1 - s2  1.5 ms  up            12 B   7 B
s2 - s4  80 us   one end only

forgotten: s3

other pins than s1: s2: give all servers the same

way from s1 to s2, without s1 - s4: s1 -> s2 (1.5 ms)
";
        assert_eq!(mesh.table(), expected);
    }

    #[test]
    fn a_forgotten_server_shows_how_far_it_is() {
        for standing in ["leaving", "empty"] {
            let told = TOLD.replace(
                "\"member\":true,\"reachable\":true,\"standing\":\"draining\"",
                "\"member\":false,\"reachable\":true,\"standing\":\"STANDING\"",
            );
            let mesh: Mesh = serde_json::from_str(&told.replace("STANDING", standing)).unwrap();
            let table = mesh.table();
            let row = table.lines().find(|line| line.starts_with("s2")).unwrap();
            assert_eq!(row.split_whitespace().nth(1), Some(standing), "{table}");
        }
    }

    #[test]
    fn who_asks_may_be_said_before_and_after_what_is_to_be_done() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: Args,
        }
        let flags = ["--key", "k", "--secret-file", "f"];
        let lines = [["mesh", "http://s1"].into_iter().chain(flags).chain(["forget", "s3"]).collect::<Vec<_>>(), {
            ["mesh", "http://s1", "forget", "s3"].into_iter().chain(flags).collect()
        }];
        for line in lines {
            let args = <Line as clap::Parser>::try_parse_from(&line).unwrap().args;
            assert_eq!(args.key.as_deref(), Some("k"), "{line:?}");
            assert_eq!(args.secret.secret_file, Some("f".into()), "{line:?}");
            assert!(matches!(args.action, Some(Action::Forget { server }) if server.as_str() == "s3"));
        }
    }

    #[test]
    fn what_a_server_says_does_not_reach_the_terminal_as_it_is() {
        let told = TOLD.replace("10.0.0.1", "\\u001b[2J");
        let mesh: Mesh = serde_json::from_str(&told).unwrap();
        assert!(!mesh.table().contains('\u{1b}'));
    }
}

//! `sparkmesh connect`: a person's terminal client.
//!
//! Owns the life of the conversation: get an offer, connect, talk, and when the connection ends get the next one. What a
//! person has sent stays in [`Outgoing`] until it is confirmed, across connections. Commands are [`super::command`]'s,
//! words [`super::render`]'s.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::tungstenite::Message;

use super::command::{self, Command, To};
use super::key::{Credentials, Holder, SecretArgs, claimed_node};
use super::offer::{Door, InboxMode, Offer};
use super::outgoing::Outgoing;
use super::render::{self, Incoming, clean};
use super::socket::{self, Socket};
use super::{ClientError, api, backoff, terminal};
use crate::model::codes::kind;
use crate::model::ids::{ClientId, NodeId};

/// The server pings every 25 s: whoever is silent longer than this is gone.
const SILENCE: Duration = Duration::from_secs(40);
/// A connection that lasted so long was a good one: the next wait starts small again.
const SETTLED: Duration = Duration::from_secs(10);
/// At the end of the input, confirmations are waited for so long.
const LAST_WORDS: Duration = Duration::from_secs(15);
/// No server may make a client wait longer than this before it comes back.
const LONGEST_HINT: Duration = Duration::from_secs(300);
/// Commands under way at a time.
const MAX_CALLS: usize = 8;

/// Talk to devices, clients and sessions from a terminal.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A server of the mesh: http://HOST:PORT
    #[arg(value_name = "URL", env = "SPARKMESH_URL")]
    pub url: String,
    /// Who you are: the id of this device
    #[arg(long, value_name = "ID", env = "SPARKMESH_NODE")]
    pub node: NodeId,
    /// Whose device this is, when the key is minted here
    #[arg(long, value_name = "ID", conflicts_with = "key")]
    pub client: Option<ClientId>,
    /// A key for this device (`sparkmesh key` makes one)
    #[arg(long, value_name = "KEY", env = "SPARKMESH_KEY", hide_env_values = true)]
    pub key: Option<String>,
    #[command(flatten)]
    pub secret: SecretArgs,
    /// What becomes of messages that waited for you
    #[arg(long, value_enum, default_value_t = InboxMode::Auto)]
    pub inbox: InboxMode,
    /// Stay connected when the input ends
    #[arg(long)]
    pub stay: bool,
}

/// Runs until `/quit`, the end of the input, an interrupt, or an end that no further attempt would change.
///
/// # Errors
/// What ended it, in words for the person.
pub async fn run(args: Args) -> Result<(), ClientError> {
    let credentials = credentials(&args)?;
    let door = Door::at(&args.url)?;
    let mut conversation = Conversation {
        door,
        credentials,
        inbox: args.inbox,
        input: Some(terminal::lines()?),
        stay: args.stay,
        input_ended: None,
        outgoing: Outgoing::new(rand::random()),
        current: None,
        calls: JoinSet::new(),
    };
    let talk = conversation.run(&args.node);
    tokio::select! {
        end = talk => end,
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

fn credentials(args: &Args) -> Result<Credentials, ClientError> {
    let Some(key) = &args.key else {
        let holder = Holder { node: args.node.clone(), client: args.client.clone(), role: None };
        return Ok(Credentials::Secret { secret: args.secret.load()?, holder });
    };
    match claimed_node(key) {
        Some(is) if is != args.node.as_str() => {
            Err(ClientError::ForeignKey { is: clean(&is), wanted: args.node.to_string() })
        }
        _ => Ok(Credentials::Key(key.clone())),
    }
}

struct Conversation {
    door: Door,
    credentials: Credentials,
    inbox: InboxMode,
    /// `None` once the input has ended.
    input: Option<mpsc::Receiver<String>>,
    stay: bool,
    input_ended: Option<Instant>,
    outgoing: Outgoing,
    /// To whom a plain line goes.
    current: Option<To>,
    calls: JoinSet<String>,
}

/// How one connection ended.
enum End {
    /// The person is done.
    Done,
    /// The server sends its devices away: where to, and when.
    Sent {
        after: Duration,
        offer: Option<Offer>,
    },
    Failed(ClientError),
}

/// What a line makes of the conversation.
enum After {
    Stay,
    Leave,
    /// A message to write on the socket, if there is one; otherwise it waits in [`Outgoing`].
    Write(String),
}

impl Conversation {
    async fn run(&mut self, node: &NodeId) -> Result<(), ClientError> {
        let mut offer = None;
        let mut failures = 0;
        let mut was_connected = false;
        loop {
            let hinted = offer.is_some();
            let (end, lasted) = match self.connect(offer.take()).await {
                Ok(socket) => {
                    let again = if was_connected { " again" } else { "; /help says what can be done here" };
                    terminal::show(&format!("* connected to {} as {node}{again}", self.door.base())).await?;
                    was_connected = true;
                    let begin = Instant::now();
                    (self.talk(socket).await?, begin.elapsed())
                }
                Err(error) => (End::Failed(error), Duration::ZERO),
            };
            if lasted >= SETTLED {
                failures = 0;
            }
            let delay = match end {
                End::Done => return self.farewell(),
                End::Sent { after, offer: next } => {
                    let least = if next.is_some() { Duration::ZERO } else { backoff::wait(0, rand::random()) };
                    offer = next;
                    after.max(least)
                }
                // A handed-on offer may be stale by now: its refusal says nothing about the key.
                End::Failed(_) if hinted && lasted.is_zero() => Duration::ZERO,
                End::Failed(error) if !error.may_pass() => return Err(error),
                End::Failed(error @ ClientError::Unreachable { .. }) if !was_connected => return Err(error),
                End::Failed(error) => {
                    let hint = match &error {
                        ClientError::Refused { retry_after: Some(after), .. } => (*after).min(LONGEST_HINT),
                        _ => Duration::ZERO,
                    };
                    let delay = backoff::wait(failures, rand::random()).max(hint);
                    failures += 1;
                    let seconds = delay.as_secs_f32();
                    terminal::show(&clean(&format!("* {error}; trying again in {seconds:.1} s"))).await?;
                    delay
                }
            };
            if let After::Leave = self.pause(delay).await? {
                return self.farewell();
            }
        }
    }

    async fn connect(&self, offer: Option<Offer>) -> Result<Socket, ClientError> {
        let key = self.credentials.key()?;
        let offer = if let Some(offer) = offer {
            offer
        } else {
            let offer = self.door.offer(&key).await?;
            tokio::time::sleep(Duration::from_millis(offer.start_after_ms).min(LONGEST_HINT)).await;
            offer
        };
        socket::open(&offer, &key, self.inbox).await
    }

    /// One connection, from its opening to its end. The error is one of the terminal; those of the connection are an
    /// [`End`].
    async fn talk(&mut self, mut socket: Socket) -> Result<End, ClientError> {
        let again: Vec<String> = self.outgoing.waiting().map(|sent| sent.frame.clone()).collect();
        for frame in again {
            if let Err(error) = socket::write(&mut socket, Message::text(frame)).await {
                return Ok(End::Failed(error));
            }
        }
        let mut last_heard = Instant::now();
        loop {
            if self.may_leave() {
                let _ = timeout(Duration::from_secs(1), socket.close(None)).await;
                return Ok(End::Done);
            }
            let silent_at = last_heard + SILENCE;
            let wake_at = match self.input_ended {
                Some(ended) if !self.stay => silent_at.min(ended + LAST_WORDS),
                _ => silent_at,
            };
            tokio::select! {
                heard = socket.next() => {
                    last_heard = Instant::now();
                    match heard {
                        Some(Ok(Message::Text(text))) => if let Some(end) = self.hear(&text).await? {
                            return Ok(end);
                        },
                        Some(Ok(Message::Close(frame))) => return Ok(End::Failed(socket::closed(frame.map(|f| (f.code, f.reason))))),
                        // Pings are answered while reading; the answer must not wait for our next message.
                        Some(Ok(_)) => if let Err(error) = socket::flush(&mut socket).await {
                            return Ok(End::Failed(error));
                        },
                        Some(Err(error)) => return Ok(End::Failed(ClientError::Broken(error.to_string()))),
                        None => return Ok(End::Failed(ClientError::Broken("it was closed without a word".to_owned()))),
                    }
                }
                line = next_line(&mut self.input) => match self.take_line(line).await? {
                    After::Stay => {}
                    After::Leave => {
                        let _ = timeout(Duration::from_secs(1), socket.close(None)).await;
                        return Ok(End::Done);
                    }
                    After::Write(frame) => if let Err(error) = socket::write(&mut socket, Message::text(frame)).await {
                        return Ok(End::Failed(error));
                    },
                },
                Some(said) = self.calls.join_next() => show_answer(said).await?,
                () = sleep_until(wake_at) => {
                    if last_heard.elapsed() >= SILENCE {
                        let silence = format!("nothing was heard for {} s", SILENCE.as_secs());
                        return Ok(End::Failed(ClientError::Broken(silence)));
                    }
                }
            }
        }
    }

    /// Between two connections: lines are taken, messages wait for the next one.
    async fn pause(&mut self, delay: Duration) -> Result<After, ClientError> {
        let until = Instant::now() + delay;
        loop {
            if self.may_leave() {
                return Ok(After::Leave);
            }
            tokio::select! {
                () = sleep_until(until) => return Ok(After::Stay),
                line = next_line(&mut self.input) => match self.take_line(line).await? {
                    After::Leave => return Ok(After::Leave),
                    After::Write(_) => terminal::show("  waits for the connection").await?,
                    After::Stay => {}
                },
                Some(said) = self.calls.join_next() => show_answer(said).await?,
            }
        }
    }

    /// Whether the input has ended and all is said.
    fn may_leave(&self) -> bool {
        let patient = self.input_ended.is_some_and(|ended| ended.elapsed() < LAST_WORDS);
        let busy = self.outgoing.len() > 0 || !self.calls.is_empty();
        self.input_ended.is_some() && !self.stay && !(busy && patient)
    }

    fn farewell(&self) -> Result<(), ClientError> {
        match self.outgoing.len() {
            0 => Ok(()),
            count => Err(ClientError::Broken(format!("{count} of your messages were not confirmed"))),
        }
    }

    async fn take_line(&mut self, line: Option<String>) -> Result<After, ClientError> {
        let Some(line) = line else {
            self.input = None;
            self.input_ended = Some(Instant::now());
            return Ok(After::Stay);
        };
        let command = match command::parse(&line) {
            Ok(command) => command,
            Err(misread) => {
                terminal::show(&clean(&format!("* {misread}"))).await?;
                return Ok(After::Stay);
            }
        };
        match command {
            Command::Nothing => {}
            Command::Quit => return Ok(After::Leave),
            Command::Help => terminal::show(command::HELP).await?,
            Command::Say { to, text } => return self.say(to, text).await,
            call if self.calls.len() < MAX_CALLS => {
                let (door, key) = (self.door.clone(), self.credentials.key()?);
                self.calls.spawn(api::carry_out(door, key, call, now_ms()));
            }
            _ => terminal::show("* too many commands at once; wait for an answer").await?,
        }
        Ok(After::Stay)
    }

    async fn say(&mut self, to: Option<To>, text: Option<String>) -> Result<After, ClientError> {
        if let Some(to) = to {
            self.current = Some(to);
        }
        let (Some(to), Some(text)) = (&self.current, text) else {
            let hint = match &self.current {
                Some(to) => format!("* what you write now goes to {to}"),
                None => "* to whom? begin with @DEVICE, %CLIENT or #SESSION; /help says more".to_owned(),
            };
            terminal::show(&hint).await?;
            return Ok(After::Stay);
        };
        if let Some(sent) = self.outgoing.add(to, &text) {
            return Ok(After::Write(sent.frame.clone()));
        }
        terminal::show("* not sent: too much is unconfirmed; wait until the server has caught up").await?;
        Ok(After::Stay)
    }

    async fn hear(&mut self, text: &str) -> Result<Option<End>, ClientError> {
        let frame: Incoming = match serde_json::from_str(text) {
            Ok(frame) => frame,
            Err(error) => {
                terminal::show(&clean(&format!("* a frame came that cannot be read: {error}"))).await?;
                return Ok(None);
            }
        };
        let mut shown = render::line(&frame, now_ms());
        match frame.kind {
            kind::CONFIRMATION => {
                let id = frame.reference.as_deref().or(frame.id.as_deref()).unwrap_or_default();
                shown = self.outgoing.settle(id).map(|sent| render::confirmation(&sent.to, &frame));
            }
            kind::SESSION_UNAUTHORIZED => {
                let by_id = frame.id.as_deref().and_then(|id| self.outgoing.settle(id));
                if by_id.is_none() {
                    self.outgoing.settle_session(frame.dest_session_id.as_deref());
                }
            }
            kind::ERROR => {
                if let Some(sent) = frame.id.as_deref().and_then(|id| self.outgoing.settle(id)) {
                    let said = shown.unwrap_or_default();
                    shown = Some(format!("{said}\n    your message to {} was not taken", sent.to));
                }
            }
            kind::GOING_AWAY => {
                let after = Duration::from_millis(frame.reconnect_after_ms).min(LONGEST_HINT);
                terminal::show("* the server is going away; connecting elsewhere").await?;
                let offer = frame.offer.filter(|offer| self.door.check(offer).is_ok());
                return Ok(Some(End::Sent { after, offer }));
            }
            _ => {}
        }
        if let Some(shown) = shown {
            terminal::show(&shown).await?;
        }
        Ok(None)
    }
}

/// The next line, its end once, then never anything.
async fn next_line(input: &mut Option<mpsc::Receiver<String>>) -> Option<String> {
    match input {
        Some(input) => input.recv().await,
        None => std::future::pending().await,
    }
}

async fn show_answer(said: Result<String, tokio::task::JoinError>) -> Result<(), ClientError> {
    terminal::show(&said.unwrap_or_else(|_| "* the command failed; try it again".to_owned())).await?;
    Ok(())
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_for_another_is_told_before_connecting() {
        use base64::Engine as _;
        let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(r#"{"sub":"alice"}"#);
        let args = |node: &str| Args {
            url: "h".to_owned(),
            node: node.parse().unwrap(),
            client: None,
            key: Some(format!("h.{payload}.s")),
            secret: SecretArgs::default(),
            inbox: InboxMode::Auto,
            stay: false,
        };
        assert!(matches!(credentials(&args("bob")), Err(ClientError::ForeignKey { .. })));
        assert!(credentials(&args("alice")).is_ok());
    }
}

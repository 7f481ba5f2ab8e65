//! A person's conversation, which outlives its connections.
//!
//! Owns the life of it: get an offer, connect, talk, and when the connection ends get the next one. What a person has
//! sent stays in [`Outgoing`] until it is confirmed, across connections. Commands are [`super::command`]'s, words
//! [`super::render`]'s.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::StreamExt;
use tokio::io::AsyncWrite;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::tungstenite::{self, Message};

use super::command::{self, Command, To};
use super::heard::Heard;
use super::key::Credentials;
use super::offer::{Door, InboxMode, Offer};
use super::outgoing::Outgoing;
use super::render::{self, Incoming, clean};
use super::socket::{self, Socket};
use super::terminal::{Input, Screen};
use super::{ClientError, api, backoff};
use crate::model::codes::kind;
use crate::model::ids::NodeId;

/// The server pings every 25 s: whoever is silent longer than this is gone.
const SILENCE: Duration = Duration::from_secs(40);
/// A connection that lasted so long was a good one: the next wait starts small again.
const SETTLED: Duration = Duration::from_secs(10);
/// A goodbye takes no longer.
const GOODBYE: Duration = Duration::from_secs(1);
/// No server may make a client wait longer than this before it comes back.
const LONGEST_HINT: Duration = Duration::from_secs(300);
/// Commands under way at a time.
const MAX_CALLS: usize = 8;

pub(super) struct Conversation<W> {
    door: Door,
    credentials: Credentials,
    inbox: InboxMode,
    input: Input,
    screen: Screen<W>,
    outgoing: Outgoing,
    heard: Heard,
    /// To whom a plain line goes.
    current: Option<To>,
    calls: JoinSet<String>,
}

/// How one connection ended.
enum End {
    /// The person is done.
    Done,
    /// The server sends its devices away: when to come back, and where it says so, where to.
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
    /// A frame to write where there is a connection; without one it waits in [`Outgoing`].
    Write(String),
}

impl<W: AsyncWrite + Unpin> Conversation<W> {
    pub(super) fn new(
        door: Door,
        credentials: Credentials,
        inbox: InboxMode,
        input: Input,
        screen: Screen<W>,
        outgoing: Outgoing,
    ) -> Self {
        let (heard, calls) = (Heard::default(), JoinSet::new());
        Self { door, credentials, inbox, input, screen, outgoing, heard, current: None, calls }
    }

    /// From the first connection to the end of it all.
    ///
    /// # Errors
    /// An end that no further attempt would change, a first attempt that reaches nobody, or messages left unconfirmed.
    pub(super) async fn run(&mut self, node: &NodeId) -> Result<(), ClientError> {
        let mut offer = None;
        let mut failures = 0;
        let mut was_connected = false;
        loop {
            let hinted = offer.is_some();
            let begin = Instant::now();
            let end = match self.connect(offer.take()).await {
                Ok(socket) => {
                    let again = if was_connected { " again" } else { "; /help says what can be done here" };
                    let server = self.door.base().as_str().trim_end_matches('/');
                    self.screen.show(&format!("* connected to {server} as {node}{again}")).await?;
                    was_connected = true;
                    self.talk(socket).await?
                }
                Err(error) => End::Failed(error),
            };
            let settled = begin.elapsed() >= SETTLED;
            if settled {
                failures = 0;
            }
            let delay = match end {
                End::Done => return self.farewell(),
                End::Sent { after, offer: next } => {
                    let least = if next.is_some() { Duration::ZERO } else { backoff::wait(0, rand::random()) };
                    offer = next;
                    after.max(least)
                }
                // An offer handed on may be stale by now: that it is refused says nothing about the key.
                End::Failed(error) if hinted && !settled && !matches!(error, ClientError::Broken(_)) => Duration::ZERO,
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
                    self.screen.show(&clean(&format!("* {error}; trying again in {seconds:.1} s"))).await?;
                    delay
                }
            };
            if let After::Leave = self.pause(delay).await? {
                return self.farewell();
            }
        }
    }

    async fn connect(&self, offer: Option<Offer>) -> Result<Socket, ClientError> {
        let key = self.credentials.key();
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
                return Ok(goodbye(socket).await);
            }
            let silent_at = last_heard + SILENCE;
            let wake_at = self.input.patience_ends().map_or(silent_at, |at| at.min(silent_at));
            tokio::select! {
                heard = socket.next() => {
                    last_heard = Instant::now();
                    if let Some(end) = self.take_message(&mut socket, heard).await? {
                        return Ok(end);
                    }
                }
                line = self.input.next() => match self.take_line(line).await? {
                    After::Stay => {}
                    After::Leave => return Ok(goodbye(socket).await),
                    After::Write(frame) => if let Err(error) = socket::write(&mut socket, Message::text(frame)).await {
                        return Ok(End::Failed(error));
                    },
                },
                Some(said) = self.calls.join_next() => self.show_answer(said).await?,
                () = sleep_until(wake_at) => if last_heard.elapsed() >= SILENCE {
                    let silence = format!("nothing was heard for {} s", SILENCE.as_secs());
                    return Ok(End::Failed(ClientError::Broken(silence)));
                },
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
                line = self.input.next() => match self.take_line(line).await? {
                    After::Leave => return Ok(After::Leave),
                    After::Write(_) => self.screen.show("  waits for the connection").await?,
                    After::Stay => {}
                },
                Some(said) = self.calls.join_next() => self.show_answer(said).await?,
            }
        }
    }

    /// Whether the input has ended and all is said, or patience with what is not.
    fn may_leave(&self) -> bool {
        let busy = self.outgoing.len() > 0 || !self.calls.is_empty();
        self.input.patience_ends().is_some_and(|at| !busy || at <= Instant::now())
    }

    fn farewell(&self) -> Result<(), ClientError> {
        match self.outgoing.len() {
            0 => Ok(()),
            count => Err(ClientError::Unconfirmed(count)),
        }
    }

    async fn take_line(&mut self, line: Option<String>) -> Result<After, ClientError> {
        let Some(line) = line else { return Ok(After::Stay) };
        let command = match command::parse(&line) {
            Ok(command) => command,
            Err(misread) => {
                self.screen.show(&clean(&format!("* {misread}"))).await?;
                return Ok(After::Stay);
            }
        };
        match command {
            Command::Nothing => {}
            Command::Quit => return Ok(After::Leave),
            Command::Help => self.screen.show(command::HELP).await?,
            Command::Say { to, text } => return self.say(to, text).await,
            call if self.calls.len() < MAX_CALLS => {
                let (door, key) = (self.door.clone(), self.credentials.key());
                self.calls.spawn(api::carry_out(door, key, call, now_ms()));
            }
            _ => self.screen.show("* too many commands at once; wait for an answer").await?,
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
            self.screen.show(&hint).await?;
            return Ok(After::Stay);
        };
        if let Some(sent) = self.outgoing.add(to, &text) {
            return Ok(After::Write(sent.frame.clone()));
        }
        self.screen.show("* not sent: too much is unconfirmed; wait until the server has caught up").await?;
        Ok(After::Stay)
    }

    async fn take_message(
        &mut self,
        socket: &mut Socket,
        heard: Option<Result<Message, tungstenite::Error>>,
    ) -> Result<Option<End>, ClientError> {
        Ok(match heard {
            Some(Ok(Message::Text(text))) => self.hear(&text).await?,
            Some(Ok(Message::Close(frame))) => {
                Some(End::Failed(socket::closed(frame.map(|frame| (frame.code, frame.reason)))))
            }
            // The answer to a ping is written with the next message; there may be none for long.
            Some(Ok(_)) => socket::flush(socket).await.err().map(End::Failed),
            Some(Err(error)) => Some(End::Failed(ClientError::Broken(error.to_string()))),
            None => Some(End::Failed(ClientError::Broken("it ended without a word".to_owned()))),
        })
    }

    async fn hear(&mut self, text: &str) -> Result<Option<End>, ClientError> {
        let frame: Incoming = match serde_json::from_str(text) {
            Ok(frame) => frame,
            Err(error) => {
                self.screen.show(&clean(&format!("* a frame came that cannot be read: {error}"))).await?;
                return Ok(None);
            }
        };
        let mut shown = render::line(&frame, now_ms());
        // The server's own frames repeat ids of ours, and are never repetitions themselves.
        if frame.kind >= kind::EPHEMERAL
            && let (Some(src_id), Some(id)) = (&frame.src_id, &frame.id)
            && !self.heard.is_new(src_id, id)
        {
            shown = None;
        }
        // Both are what we gave; a refusal may have only one of them.
        let of_ours = frame.reference.as_deref().or(frame.id.as_deref()).unwrap_or_default();
        match frame.kind {
            kind::CONFIRMATION => {
                shown = self.outgoing.settle(of_ours).map(|sent| render::confirmation(&sent.to, &frame));
            }
            kind::SESSION_UNAUTHORIZED | kind::ERROR => {
                if let Some(sent) = self.outgoing.settle(of_ours) {
                    let said = shown.unwrap_or_default();
                    shown = Some(format!("{said}\n    your message to {} was not taken", sent.to));
                }
            }
            kind::GOING_AWAY => {
                let after = Duration::from_millis(frame.reconnect_after_ms).min(LONGEST_HINT);
                self.screen.show("* the server is going away; connecting again elsewhere, or when it is back").await?;
                let offer = frame.offer.filter(|offer| self.door.check(offer).is_ok());
                return Ok(Some(End::Sent { after, offer }));
            }
            _ => {}
        }
        if let Some(shown) = shown {
            self.screen.show(&shown).await?;
        }
        Ok(None)
    }

    async fn show_answer(&mut self, said: Result<String, JoinError>) -> Result<(), ClientError> {
        let said = said.unwrap_or_else(|_| "* the command failed; try it again".to_owned());
        Ok(self.screen.show(&said).await?)
    }
}

async fn goodbye(mut socket: Socket) -> End {
    // Whatever fails here, the connection is at its end.
    let _ = timeout(GOODBYE, socket.close(None)).await;
    End::Done
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

#[cfg(test)]
#[path = "conversation_tests.rs"]
mod tests;

//! What a person types, as commands. Pure: a line in, a [`Command`] or a sentence about what is wrong with it out.

use crate::model::ids::{ClientId, IdError, NodeId, SessionId};

/// Shown by `/help`, and for a line that is no command.
pub(super) const HELP: &str = "\
@DEVICE TEXT            to one device (and to it until you name another)
%CLIENT TEXT            to all devices of a client
#SESSION TEXT           to all members of a session
#SESSION/MEMBER TEXT    to one member of it alone, by the id the session shows
TEXT                    to whom you wrote last; begin with \\ to send a line that begins with @ # % / or \\
/create [SESSION] [open] [presence]   make a session; open: anyone can join
/join SESSION [as NAME]               enter it, under an anonymous name if you like
/leave SESSION    /reveal SESSION     leave it; show your real id in it
/info SESSION     /inbox              who is in it; what waits for you
/help             /quit";

/// Whom a message is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum To {
    Device(NodeId),
    Client(ClientId),
    Session(SessionId),
    Member { session: SessionId, member: NodeId },
}

impl std::fmt::Display for To {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Device(id) => write!(f, "@{id}"),
            Self::Client(id) => write!(f, "%{id}"),
            Self::Session(id) => write!(f, "#{id}"),
            Self::Member { session, member } => write!(f, "#{session}/{member}"),
        }
    }
}

/// One line, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    /// An empty line.
    Nothing,
    /// `to` absent: to whom was written last. `text` absent: only remember `to`.
    Say {
        to: Option<To>,
        text: Option<String>,
    },
    Create {
        session: Option<SessionId>,
        entry: Entry,
        presence: Presence,
    },
    Join {
        session: SessionId,
        anonymous: Option<NodeId>,
    },
    Leave(SessionId),
    Reveal(SessionId),
    Info(SessionId),
    Inbox,
    Help,
    Quit,
}

/// Who may join a session without being added by its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    Anyone,
    OwnerOnly,
}

/// Whether a session tells who is online.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    Shown,
    Hidden,
}

/// Why a line is no command, as a sentence for who typed it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Misread {
    #[error("{text:?} names nobody: {why}")]
    Id { text: String, why: IdError },
    #[error("there is no command /{0}; /help lists them")]
    Unknown(String),
    #[error("it is written: {0}")]
    Usage(&'static str),
}

/// Understands one line, without its line end.
pub(super) fn parse(line: &str) -> Result<Command, Misread> {
    let line = line.trim_end_matches(['\r', '\n']);
    if line.trim().is_empty() {
        return Ok(Command::Nothing);
    }
    let (mark, rest) = line.split_at(line.chars().next().map_or(0, char::len_utf8));
    match mark {
        "@" => say(rest, |name| Ok(To::Device(id(name)?))),
        "%" => say(rest, |name| Ok(To::Client(id(name)?))),
        "#" => say(rest, |name| match name.split_once('/') {
            Some((session, member)) => Ok(To::Member { session: id(session)?, member: id(member)? }),
            None => Ok(To::Session(id(name)?)),
        }),
        "\\" => Ok(Command::Say { to: None, text: Some(rest.to_owned()) }),
        "/" => command(rest),
        _ => Ok(Command::Say { to: None, text: Some(line.to_owned()) }),
    }
}

fn say(rest: &str, to: impl Fn(&str) -> Result<To, Misread>) -> Result<Command, Misread> {
    let (name, text) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let text = Some(text).filter(|text| !text.trim().is_empty()).map(str::to_owned);
    Ok(Command::Say { to: Some(to(name)?), text })
}

fn command(rest: &str) -> Result<Command, Misread> {
    let mut words = rest.split_whitespace();
    let name = words.next().unwrap_or_default();
    let words: Vec<&str> = words.collect();
    let one = |usage| match words.as_slice() {
        [word] => id(word.trim_start_matches('#')),
        _ => Err(Misread::Usage(usage)),
    };
    match name {
        "join" => match words.as_slice() {
            [session] => Ok(Command::Join { session: id(session.trim_start_matches('#'))?, anonymous: None }),
            [session, "as", name] => {
                Ok(Command::Join { session: id(session.trim_start_matches('#'))?, anonymous: Some(id(name)?) })
            }
            _ => Err(Misread::Usage("/join SESSION [as NAME]")),
        },
        "create" => create(&words),
        "leave" => Ok(Command::Leave(one("/leave SESSION")?)),
        "reveal" => Ok(Command::Reveal(one("/reveal SESSION")?)),
        "info" => Ok(Command::Info(one("/info SESSION")?)),
        "inbox" => Ok(Command::Inbox),
        "help" | "?" => Ok(Command::Help),
        "quit" | "exit" | "q" => Ok(Command::Quit),
        other => Err(Misread::Unknown(other.to_owned())),
    }
}

fn create(words: &[&str]) -> Result<Command, Misread> {
    let (mut session, mut entry, mut presence) = (None, Entry::OwnerOnly, Presence::Hidden);
    for word in words {
        match *word {
            "open" => entry = Entry::Anyone,
            "presence" => presence = Presence::Shown,
            name if session.is_none() => session = Some(id(name.trim_start_matches('#'))?),
            _ => return Err(Misread::Usage("/create [SESSION] [open] [presence]")),
        }
    }
    Ok(Command::Create { session, entry, presence })
}

fn id<T: std::str::FromStr<Err = IdError>>(text: &str) -> Result<T, Misread> {
    text.parse().map_err(|why| Misread::Id { text: text.to_owned(), why })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(to: Option<To>, text: &str) -> Command {
        Command::Say { to, text: Some(text.to_owned()) }
    }

    #[test]
    fn a_message_names_its_recipient_or_goes_to_the_last_one() {
        let session = || "room".parse().unwrap();
        assert_eq!(parse("@bob hello  there"), Ok(said(Some(To::Device("bob".parse().unwrap())), "hello  there")));
        assert_eq!(parse("%bob hi\r\n"), Ok(said(Some(To::Client("bob".parse().unwrap())), "hi")));
        assert_eq!(parse("#room hi"), Ok(said(Some(To::Session(session())), "hi")));
        let member = To::Member { session: session(), member: "fox".parse().unwrap() };
        assert_eq!(parse("#room/fox psst"), Ok(said(Some(member), "psst")));
        assert_eq!(parse("hello"), Ok(said(None, "hello")));
        assert_eq!(parse("  indented"), Ok(said(None, "  indented")));
        assert_eq!(parse("éa"), Ok(said(None, "éa")));
    }

    #[test]
    fn a_name_alone_only_chooses_and_a_backslash_sends_anything() {
        assert_eq!(parse("@bob "), Ok(Command::Say { to: Some(To::Device("bob".parse().unwrap())), text: None }));
        assert_eq!(parse("\\/quit"), Ok(said(None, "/quit")));
        assert_eq!(parse("\\\\x"), Ok(said(None, "\\x")));
        assert_eq!(parse(" \t"), Ok(Command::Nothing));
    }

    #[test]
    fn the_commands_are_what_help_says() {
        let room: SessionId = "room".parse().unwrap();
        assert_eq!(parse("/join #room"), Ok(Command::Join { session: room.clone(), anonymous: None }));
        let fox = Some("fox".parse().unwrap());
        assert_eq!(parse("/join room as fox"), Ok(Command::Join { session: room.clone(), anonymous: fox }));
        assert_eq!(parse("/leave room"), Ok(Command::Leave(room.clone())));
        assert_eq!(parse("/reveal room"), Ok(Command::Reveal(room.clone())));
        assert_eq!(parse("/info room"), Ok(Command::Info(room.clone())));
        assert_eq!(
            parse("/create room open presence"),
            Ok(Command::Create { session: Some(room), entry: Entry::Anyone, presence: Presence::Shown })
        );
        assert_eq!(
            parse("/create"),
            Ok(Command::Create { session: None, entry: Entry::OwnerOnly, presence: Presence::Hidden })
        );
        assert_eq!(parse("/inbox"), Ok(Command::Inbox));
        assert_eq!(parse("/quit"), Ok(Command::Quit));
        for line in HELP.lines().filter(|line| line.starts_with('/')) {
            let name = line.split_whitespace().next().unwrap();
            assert!(!matches!(parse(name), Err(Misread::Unknown(_))), "{name}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert!(matches!(parse("@bo/b hi"), Err(Misread::Id { .. })));
        assert!(matches!(parse("@ hi"), Err(Misread::Id { why: IdError::Empty, .. })));
        assert!(matches!(parse("#room/ hi"), Err(Misread::Id { .. })));
        assert_eq!(parse("/dance"), Err(Misread::Unknown("dance".to_owned())));
        for wrong in ["/join", "/join a b", "/join a as", "/leave", "/info a b", "/create a b"] {
            assert!(matches!(parse(wrong), Err(Misread::Usage(_))), "{wrong}");
        }
    }
}

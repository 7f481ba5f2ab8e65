//! Commands that are HTTP calls: sessions and the inbox. Each answers with what a person is shown.

use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::ClientError;
use super::command::{Command, Entry, Presence};
use super::offer::Door;
use super::render::{Incoming, clean, line};

/// Most envelopes listed by `/inbox`.
const PAGE: usize = 100;

/// Carries a command out and says what came of it, as text to show.
pub(super) async fn carry_out(door: Door, key: String, command: Command, now: u64) -> String {
    match answer(&door, &key, &command, now).await {
        Ok(text) => text,
        Err(error) => clean(&format!("* {error}")),
    }
}

async fn answer(door: &Door, key: &str, command: &Command, now: u64) -> Result<String, ClientError> {
    let post = async |path: &[&str], body: Value| door.call(Method::POST, path, key, Some(&body)).await;
    let get = async |path: &[&str]| door.call(Method::GET, path, key, None).await;
    Ok(match command {
        Command::Create { session, entry, presence } => {
            let mut body =
                json!({ "anyone_can_join": *entry == Entry::Anyone, "presence": *presence == Presence::Shown });
            if let Some(session) = session {
                body["session_id"] = json!(session);
            }
            created(&post(&["v1", "sessions"], body).await?)
        }
        Command::Join { session, anonymous } => {
            let body = anonymous.as_ref().map_or_else(|| json!({}), |name| json!({ "anonymous_id": name }));
            let said = post(&["v1", "sessions", session.as_str(), "join"], body).await?;
            joined(session.as_str(), &said)
        }
        Command::Leave(session) => {
            post(&["v1", "sessions", session.as_str(), "leave"], json!({})).await?;
            format!("* you left #{session}")
        }
        Command::Reveal(session) => {
            post(&["v1", "sessions", session.as_str(), "reveal"], json!({})).await?;
            format!("* #{session} knows your real id now")
        }
        Command::Info(session) => pretty(&get(&["v1", "sessions", session.as_str()]).await?),
        Command::Inbox => inbox(&get(&["v1", "inbox"]).await?, now),
        Command::Nothing | Command::Say { .. } | Command::Help | Command::Quit => String::new(),
    })
}

fn created(body: &[u8]) -> String {
    let id =
        serde_json::from_slice::<Value>(body).ok().and_then(|made| Some(made.get("session_id")?.as_str()?.to_owned()));
    let id = id.unwrap_or_else(|| String::from_utf8_lossy(body).trim().trim_matches('"').to_owned());
    clean(&format!("* made #{id}; write #{id} TEXT to it, others enter with /join {id}"))
}

fn joined(session: &str, body: &[u8]) -> String {
    let said: Option<Value> = serde_json::from_slice(body).ok();
    let name = said.as_ref().and_then(|said| said.get("anonymous_id")?.as_str());
    clean(&match name {
        Some(name) => format!("* you are in #{session} as {name}"),
        None => format!("* you are in #{session}"),
    })
}

fn pretty(body: &[u8]) -> String {
    let text = serde_json::from_slice::<Value>(body).and_then(|value| serde_json::to_string_pretty(&value));
    clean(&text.unwrap_or_else(|_| String::from_utf8_lossy(body).into_owned()))
}

fn inbox(body: &[u8], now: u64) -> String {
    #[derive(Deserialize)]
    struct Page {
        messages: Vec<Incoming>,
        #[serde(default)]
        more: bool,
    }
    let page: Page = match serde_json::from_slice(body) {
        Ok(page) => page,
        Err(error) => return clean(&format!("* the inbox cannot be read: {error}")),
    };
    if page.messages.is_empty() {
        return "* nothing waits for you".to_owned();
    }
    let mut shown: Vec<String> = page.messages.iter().take(PAGE).filter_map(|frame| line(frame, now)).collect();
    if page.more || page.messages.len() > PAGE {
        shown.push("* and more".to_owned());
    }
    shown.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_put_into_words() {
        assert!(created(br#"{"session_id":"room"}"#).contains("#room;"));
        assert!(created(b"room").contains("#room;"));
        assert_eq!(joined("room", br#"{"node_id":"a","anonymous_id":"fox"}"#), "* you are in #room as fox");
        assert_eq!(joined("room", br#"{"node_id":"a","anonymous_id":null}"#), "* you are in #room");
        assert_eq!(inbox(br#"{"messages":[]}"#, 0), "* nothing waits for you");
        let page = br#"{"messages":[{"type":1,"src_id":"a","payload":"hi","seq":1}],"more":true}"#;
        assert_eq!(inbox(page, 0), "a: hi\n* and more");
        assert!(inbox(b"nonsense", 0).contains("cannot be read"));
    }

    #[test]
    fn what_a_server_says_is_cleaned() {
        assert!(!created(b"\x1b[2Jroom").contains('\u{1b}'));
        assert!(!pretty(b"\x1b[2J").contains('\u{1b}'));
    }
}

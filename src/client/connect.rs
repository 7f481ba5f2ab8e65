//! `sparkmesh connect`: a person's terminal client, from its flags to the [`Conversation`].

use super::ClientError;
use super::conversation::Conversation;
use super::key::{Credentials, Holder, SecretArgs, claimed_node};
use super::offer::{Door, InboxMode};
use super::outgoing::Outgoing;
use super::render::clean;
use super::terminal::{AtEnd, Input, Screen};
use crate::auth::key::Role;
use crate::model::ids::{ClientId, NodeId};

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
    let at_end = if args.stay { AtEnd::Stay } else { AtEnd::Leave };
    let (input, screen) = (Input::standard(at_end)?, Screen::new(tokio::io::stdout()));
    let outgoing = Outgoing::new(rand::random());
    let mut conversation = Conversation::new(door, credentials, args.inbox, input, screen, outgoing);
    tokio::select! {
        end = conversation.run(&args.node) => end,
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

fn credentials(args: &Args) -> Result<Credentials, ClientError> {
    let Some(key) = &args.key else {
        let holder = Holder { node: args.node.clone(), client: args.client.clone(), role: Role::Device };
        return Ok(Credentials::Minted { minter: args.secret.load()?, holder });
    };
    match claimed_node(key) {
        Some(is) if is != args.node.as_str() => {
            Err(ClientError::ForeignKey { is: clean(&is), wanted: args.node.to_string() })
        }
        _ => Ok(Credentials::Key(key.clone())),
    }
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

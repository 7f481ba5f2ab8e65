//! `docs/protocol.md` is the public specification: its tables say what the code does, and its examples are JSON.

use std::collections::BTreeSet;

use sparkmesh::model::codes::{Close, Code, Then, kind};
use sparkmesh::model::ids;

const PAGE: &str = include_str!("../docs/protocol.md");

/// The cells of the table under a heading, without the head of the table.
fn table(heading: &str) -> Vec<Vec<String>> {
    let from = PAGE.find(&format!("\n### {heading}\n")).unwrap_or_else(|| panic!("no heading {heading}"));
    let lines = PAGE[from + 1..].lines().skip(1);
    let rows = lines.skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    rows.skip(2)
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect())
        .collect()
}

#[test]
fn error_words() {
    let written: BTreeSet<_> = table("Error words").into_iter().collect();
    let meant = Code::ALL.into_iter().map(|code| {
        let close = code.close().map_or("-".to_owned(), |close| close.code.to_string());
        vec![code.word().to_owned(), code.http_status().to_string(), close]
    });
    assert_eq!(written, meant.collect());
}

#[test]
fn close_codes() {
    let written: BTreeSet<_> = table("Close codes").into_iter().collect();
    let meant = Close::ALL.into_iter().map(|close| {
        let then = match close.then {
            Then::Reconnect => "reconnect",
            Then::GiveUp => "give up",
        };
        vec![close.code.to_string(), close.reason.to_owned(), then.to_owned()]
    });
    assert_eq!(written, meant.collect());
}

#[test]
fn types() {
    let named = [
        ("CONFIG_REQUEST", kind::CONFIG_REQUEST),
        ("CONFIG_RESPONSE", kind::CONFIG_RESPONSE),
        ("NODE_UNKNOWN", kind::NODE_UNKNOWN),
        ("USER_OFFLINE", kind::USER_OFFLINE),
        ("SESSION_UNAUTHORIZED", kind::SESSION_UNAUTHORIZED),
        ("ACK", kind::ACK),
        ("CONFIRMATION", kind::CONFIRMATION),
        ("ERROR", kind::ERROR),
        ("GOING_AWAY", kind::GOING_AWAY),
        ("JOINED", kind::JOINED),
        ("LEFT", kind::LEFT),
        ("REVEALED", kind::REVEALED),
        ("ONLINE", kind::ONLINE),
        ("OFFLINE", kind::OFFLINE),
    ];
    let meant: BTreeSet<_> = named.iter().map(|(name, number)| (number.to_string(), (*name).to_owned())).collect();
    let rows = table("Types").into_iter().filter(|row| row[0].parse::<i64>().is_ok());
    assert_eq!(rows.map(|row| (row[0].clone(), row[1].clone())).collect::<BTreeSet<_>>(), meant);
    assert_eq!(kind::EPHEMERAL, 0);
}

#[test]
fn lengths_of_ids() {
    for line in [
        format!("| node id, client id, session id, anonymous id | 1-{} characters", ids::MAX_ID),
        format!("| envelope `id` | a string of 1-{} characters", ids::MAX_ENVELOPE_ID),
        format!("| `reference` | a string of 1-{} bytes", ids::MAX_REFERENCE),
        format!("| `collapse_key` | a string of 1-{} bytes", ids::MAX_COLLAPSE_KEY),
    ] {
        assert!(PAGE.contains(&line), "{line}");
    }
}

#[test]
fn examples_are_json() {
    let mut examples = 0;
    for block in PAGE.split("```json\n").skip(1) {
        let block = block.split("```").next().unwrap_or_default();
        for value in serde_json::Deserializer::from_str(block).into_iter::<serde_json::Value>() {
            let value = value.unwrap_or_else(|error| panic!("{error} in\n{block}"));
            assert!(value.is_object(), "{value}");
            examples += 1;
        }
    }
    assert!(examples >= 45, "{examples}");
}

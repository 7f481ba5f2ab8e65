//! Auth keys as others make them: the tokens here were minted by `PyJWT` 2.15.1, from the secrets beside them.

use proptest::prelude::*;
use sparkmesh::auth::error::AuthError;
use sparkmesh::auth::key::{Claims, Keyring, Role};
use sparkmesh::auth::secrets::Secrets;
use sparkmesh::model::codes::Code;
use sparkmesh::model::ids::{ClientId, Millis};

const SECRETS: &str = "2024:a-shared-secret-of-32-characters\nold:an-older-secret-of-the-cluster";
/// An hour before the tokens expire.
const NOW: Millis = Millis(1_700_000_000_000);

fn keyring(secrets: &str) -> Keyring {
    Keyring::new(Secrets::parse(secrets, "test").unwrap())
}

#[test]
fn keys_of_another_implementation_are_accepted() {
    let keyring = keyring(SECRETS);
    let vectors = [
        (
            "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhbGljZV9fcGhvbmUiLCJleHAiOjE3MDAwMDM2MDB9.Y9KSOB6qyO0rQwwnBUszFuGGV-3vM7FdTC9MlKxegV4",
            ("alice__phone", None, Role::Device, 1_700_003_600_000),
        ),
        (
            "eyJhbGciOiJIUzI1NiIsImtpZCI6IjIwMjQiLCJ0eXAiOiJKV1QifQ.eyJzdWIiOiJiYWNrZW5kIiwiZXhwIjoxNzAwMDAzNjAwLCJyb2xlIjoiYXBwIiwiY2xpZW50X2lkIjoiYWNtZSIsImlhdCI6MTcwMDAwMDAwMH0.z4O8p3VYNRTVMbEZmj_aPWVWC9R-ck-UgmAqG_9BMOk",
            ("backend", Some("acme"), Role::App, 1_700_003_600_000),
        ),
        (
            "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJvcHMiLCJleHAiOjE3MDAwMDM2MDAuNSwicm9sZSI6ImFkbWluIn0.WNHXyQ8AcaXUR1HympahQCiT_9wh6aZ-PXL4EWcbBBQ",
            ("ops", None, Role::Admin, 1_700_003_600_500),
        ),
        (
            "eyJhbGciOiJIUzI1NiIsImtpZCI6Im9sZCIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJib2IiLCJleHAiOjE3MDAwMDM2MDB9.3dEl2iTKvpC_dHcB7t9kPx2x3t8cPZ-jkfWBENrMMuc",
            ("bob", None, Role::Device, 1_700_003_600_000),
        ),
        (
            "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJib2IiLCJleHAiOjE3MDAwMDM2MDB9.DSaepMIQ8Y8Q6qMubEf02D-V80mu179ucVOImxbjv88",
            ("bob", None, Role::Device, 1_700_003_600_000),
        ),
        (
            "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhbGljZSIsImV4cCI6MTcwMDAwMzYwMCwiYXVkIjpbIngiLCJzcGFya21lc2giXX0._hJWEt3SLyQmDfFfjOUp_q-zSPog3RZECKdfX2cl6q0",
            ("alice", None, Role::Device, 1_700_003_600_000),
        ),
    ];
    for (token, (node, client, role, expires)) in vectors {
        let identity = keyring.verify(token, NOW).unwrap();
        assert_eq!(identity.node.as_str(), node);
        assert_eq!(identity.client.as_ref().map(ClientId::as_str), client);
        assert_eq!((identity.role, identity.expires), (role, Millis(expires)));
    }
}

#[test]
fn each_fault_is_refused_by_its_name() {
    let keyring = keyring(SECRETS);
    let vectors = [
        (
            "eyJhbGciOiJIUzI1NiIsImtpZCI6Im90aGVyIiwidHlwIjoiSldUIn0.eyJzdWIiOiJib2IiLCJleHAiOjE3MDAwMDM2MDB9.ht6i3RI_fObediPOhUEqxO3Wxfcwg6Y_1J-NJErnKxg",
            "unknown_kid",
        ),
        (
            "eyJhbGciOiJIUzUxMiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhbGljZSIsImV4cCI6MTcwMDAwMzYwMH0.8p1T-Bv_B_WSzSo5DVe2lq0wGa0nzSgNwjZi2oJOdtyzpR_cRdFtpnWALwgldbK834-i9X9vkNfnjTeb67Js_Q",
            "algorithm",
        ),
        ("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJzdWIiOiJhbGljZSIsImV4cCI6MTcwMDAwMzYwMH0.", "malformed"),
        (
            "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhbGljZSJ9.o7mutqkgl4oLbK0nZMXuJ4BWTOheQIK92GCU0Kn2UpU",
            "endless",
        ),
        (
            "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhbGljZSIsImV4cCI6MTcwMDAwMzYwMCwicm9sZSI6ImdvZCJ9.kiBiNJK5yN8TqmibCVDUWjfiBg6KN9qNTFCM_ygxfPY",
            "role",
        ),
        (
            "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhbCBpY2UiLCJleHAiOjE3MDAwMDM2MDB9.3V5-XmEsS8Zva4xfoGji5kPjDkc9OM8s11ERTEgN7Q8",
            "subject",
        ),
        (
            "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJleHAiOjE3MDAwMDM2MDB9.QgZiTXewigtxz00G9a1f6he1kNY_HQxzrfAgoYyDhMI",
            "subject",
        ),
        (
            "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhbGljZSIsImV4cCI6MTcwMDAwMzYwMCwiYXVkIjoiYW5vdGhlci1zZXJ2aWNlIn0.fh7lurH8kkS937sS9igjLyfvLe4rWf1fcIhQ_5Ja5yI",
            "kind",
        ),
        (
            "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhbGljZSIsImV4cCI6MTcwMDAwMzYwMCwia2luZCI6InZhbGlkYXRpb24ifQ.ZUuFhgfF47pPPzGY5nl-25rME8R5ZDXRZYtaw8NDM0g",
            "kind",
        ),
        (
            "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhbGljZSIsImV4cCI6MTcwMDAwMzYwMCwibmJmIjoxNzAwMDAzNTQwfQ.1nfGgzDfewVufKyV7hzRGEoofMMJhJcCUk23BN7QUaA",
            "early",
        ),
        (
            "eyJhbGciOiJIUzI1NiIsImNyaXQiOlsiYjY0Il0sInR5cCI6IkpXVCJ9.eyJzdWIiOiJhbGljZSIsImV4cCI6MTcwMDAwMzYwMH0.MIZ5LBdFr0YIb1K88rhGSgycXzqtIUKZAmeBigBn6cc",
            "malformed",
        ),
    ];
    for (token, word) in vectors {
        let error = keyring.verify(token, NOW).unwrap_err();
        assert_eq!((error.word(), error.code()), (word, Code::Unauthorized), "{token}: {error}");
    }
}

fn device_token() -> &'static str {
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhbGljZV9fcGhvbmUiLCJleHAiOjE3MDAwMDM2MDB9.Y9KSOB6qyO0rQwwnBUszFuGGV-3vM7FdTC9MlKxegV4"
}

#[test]
fn time_runs_out_after_the_leeway() {
    let keyring = keyring(SECRETS);
    let end = Millis(1_700_003_600_000);
    assert!(keyring.verify(device_token(), end.plus(29_999)).is_ok());
    assert_eq!(keyring.verify(device_token(), end.plus(30_000)), Err(AuthError::Expired));
    assert_eq!(keyring.verify(device_token(), Millis(u64::MAX)), Err(AuthError::Expired));
}

#[test]
fn a_secret_that_was_taken_out_takes_its_keys_along() {
    let token = device_token();
    assert_eq!(keyring("2025:another-secret-altogether").verify(token, NOW), Err(AuthError::Signature));
    // A bare secret has the kid `default`, and a token without a kid fits any.
    assert!(keyring("a-shared-secret-of-32-characters").verify(token, NOW).is_ok());
    assert!(keyring("a-newer-secret-of-32-characters\na-shared-secret-of-32-characters").verify(token, NOW).is_ok());
}

#[test]
fn what_is_no_token_is_malformed() {
    let keyring = keyring(SECRETS);
    assert_eq!(keyring.verify("", NOW), Err(AuthError::Missing));
    let long = "x".repeat(5000);
    // The first is AllSparkRT's own form of a key.
    for text in ["YWxpY2U=|1700000000|5c7ace9e4beaebdd669328fadc4341f632bacc27", "a.b", "a.b.c", "...", "{}", &long] {
        assert_eq!(keyring.verify(text, NOW).unwrap_err().word(), "malformed", "{text:.80}");
    }
}

#[test]
fn roles_and_server_ids_are_forbidden_not_unauthorized() {
    let identity = keyring(SECRETS).verify(device_token(), NOW).unwrap();
    for error in [
        identity.require(Role::App).unwrap_err(),
        identity.require_app_or_admin().unwrap_err(),
        identity.refuse_ids_of(&["server".parse().unwrap(), "alice__phone".parse().unwrap()]).unwrap_err(),
    ] {
        assert_eq!(error.code(), Code::Forbidden, "{error}");
    }
    assert_eq!(identity.refuse_ids_of(&["server".parse().unwrap()]), Ok(()));
}

#[test]
fn nothing_shows_a_secret() {
    let shown = format!("{:?}", keyring(SECRETS));
    assert!(shown.contains("2024") && !shown.contains("secret-of"), "{shown}");
}

proptest! {
    #[test]
    fn what_we_mint_we_accept(node in "[A-Za-z0-9_.:@-]{1,128}", client in "[a-z]{0,8}", seconds in 1_700_000_000_u64..1 << 33) {
        let keyring = keyring(SECRETS);
        let client = client.parse().ok();
        let expires = Millis(seconds * 1000);
        let claims = Claims::new(node.parse().unwrap(), expires).of_client(client.clone()).with_role(Role::App);
        let identity = keyring.verify(&keyring.mint(&claims), NOW).unwrap();
        prop_assert_eq!((identity.node.as_str(), identity.client, identity.role), (node.as_str(), client, Role::App));
        prop_assert_eq!(identity.expires, expires);
    }

    #[test]
    fn a_key_with_any_bit_flipped_is_refused(at in any::<prop::sample::Index>(), bit in 0..7_u32) {
        let mut token = device_token().as_bytes().to_vec();
        let at = at.index(token.len());
        token[at] ^= 1 << bit;
        prop_assert!(keyring(SECRETS).verify(std::str::from_utf8(&token).unwrap(), NOW).is_err());
    }

    #[test]
    fn any_text_is_only_refused(text in ".{0,300}") {
        prop_assert!(keyring(SECRETS).verify(&text, NOW).is_err());
    }
}

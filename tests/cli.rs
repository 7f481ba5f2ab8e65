//! The command line of the real program: what it takes, what it prints, how it exits.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use sparkmesh::auth::key::{Keyring, Role};
use sparkmesh::auth::secrets::Secrets;
use sparkmesh::model::ids::Millis;

const SECRET: &str = "a-secret-for-tests-only";

struct Ran {
    code: i32,
    out: String,
    err: String,
}

/// The program, in an empty directory, without the settings of whoever runs the tests.
fn program(dir: &Path, args: &[&str], environment: &[(&str, &str)]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sparkmesh"));
    finish(command.args(args).current_dir(dir), environment)
}

fn finish(command: &mut Command, environment: &[(&str, &str)]) -> Ran {
    let inherited = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SPARKMESH_"));
    for (name, _) in inherited {
        command.env_remove(name);
    }
    let ran = command.env_remove("RUST_LOG").envs(environment.iter().copied()).output().unwrap();
    Ran {
        code: ran.status.code().unwrap(),
        out: String::from_utf8(ran.stdout).unwrap(),
        err: String::from_utf8(ran.stderr).unwrap(),
    }
}

fn secret_file(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// `serve --check` with a secret at hand.
fn check(args: &[&str], environment: &[(&str, &str)]) -> Ran {
    let dir = tempfile::tempdir().unwrap();
    let environment = [environment, &[("SPARKMESH_SECRET", SECRET)]].concat();
    program(dir.path(), &[&["serve", "--check"], args].concat(), &environment)
}

fn has_line(ran: &Ran, line: &str) -> bool {
    ran.out.lines().any(|one| one == line)
}

#[test]
fn a_flag_beats_the_environment_and_that_the_file_and_that_the_default() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sparkmesh.toml");
    fs::write(&file, "port = 1111\nrate = 1111\ninbox-max-count = 1111\n[push]\n").unwrap();
    let file = file.to_str().unwrap();
    let environment = [("SPARKMESH_PORT", "2222"), ("SPARKMESH_RATE", "2222"), ("SPARKMESH_CONFIG", file)];
    let ran = check(&["--port", "3333"], &environment);
    assert_eq!(ran.code, 0, "{}", ran.err);
    for line in ["port = 3333", "rate = 2222", "inbox-max-count = 1111", "inbox-max-days = 30"] {
        assert!(has_line(&ran, line), "{line}: {}", ran.out);
    }
    assert!(!ran.out.contains(SECRET));
    // The flag names the file too, and goes before the environment there.
    assert_eq!(check(&["--config", "nowhere.toml"], &environment).code, 2);
}

#[test]
fn every_flag_of_serve_is_taken() {
    let args = "--host-address 127.0.0.1 --port 0 --bind 127.0.0.1 --proxy-80-port p.example --force --log-level debug \
        --num-max-connections 10 --admission-rate 20 --data-dir d --store memory --secret-file s --tls-cert c --tls-key k \
        --metrics-bind 127.0.0.1:0 --allow-direct --allow-origin https://a.example --allow-origin https://b.example \
        --allow-private-push --trust-proxy 10.0.0.0/8,192.0.2.1 --dev --max-message-bytes 2000 --rate 5 \
        --rate-bytes 5000 --inbox-max-bytes 6000 --inbox-max-count 7 --inbox-max-days 8 --outbox-max-bytes 9000 \
        --drain-deadline 5s --node-id east-1";
    let ran = check(&args.split_whitespace().collect::<Vec<_>>(), &[]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    for line in [
        "force = true",
        "store = \"memory\"",
        "allow-origin = [\"https://a.example\", \"https://b.example\"]",
        "trust-proxy = [\"10.0.0.0/8\", \"192.0.2.1/32\"]",
        "drain-deadline = \"5s\"",
        "node-id = \"east-1\"",
        "log-level = \"debug\"",
    ] {
        assert!(has_line(&ran, line), "{line}: {}", ran.out);
    }
}

#[test]
fn the_originals_spellings_work() {
    let cases: &[(&[&str], &str)] = &[
        (&["--host_address", "127.0.0.2"], "host-address = \"127.0.0.2\""),
        (&["--host_address=127.0.0.2"], "host-address = \"127.0.0.2\""),
        (&["--proxy_80_port", "my_proxy"], "proxy-80-port = \"my_proxy\""),
        (&["--num_max_connections=14"], "num-max-connections = 14"),
        (&["--log_level", "DEBUG"], "log-level = \"debug\""),
        (&["--force=True"], "force = true"),
        (&["--force=anything"], "force = true"),
        (&["--force", "True"], "force = true"),
        (&["--force", "--port", "1"], "force = true"),
        (&["--force=False"], "force = false"),
    ];
    for (args, line) in cases {
        let ran = check(args, &[]);
        assert!(ran.code == 0 && has_line(&ran, line), "{args:?}: {}{}", ran.out, ran.err);
    }
    let ran =
        check(&[], &[("SPARKMESH_FORCE", "yes"), ("SPARKMESH_ALLOW_ORIGIN", "https://a.example,https://b.example")]);
    assert!(has_line(&ran, "force = true") && ran.out.contains("\"https://b.example\""), "{}{}", ran.out, ran.err);
}

#[test]
fn what_is_not_taken_is_said_and_exits_2() {
    let cases: &[(&[&str], &str)] = &[
        (&["--secret", SECRET], "unexpected argument '--secret'"),
        (&["--peer", "127.0.0.1:1"], "write ws://HOST:PORT"),
        (&["--links", "some"], "possible values: full, static"),
        (&["--link-cert", "c"], "link-key is missing"),
        (&["--link-demand-cert"], "needs tls-cert"),
        (&["--store", "redis://127.0.0.1"], "possible values: sled, memory"),
        (&["--port", "70000"], "70000"),
        (&["--trust-proxy", "10/8"], "10.0.0.0/8"),
        (&["--allow-origin", "example.com"], "write scheme and host"),
        (&["--drain-deadline", "60"], "whole number and its unit"),
        (&["--allow-direct=perhaps"], "write true or false"),
        (&["--node-id", "a b"], "an id is made of"),
        (&["--max-message-bytes", "1"], "must be from 1024 to"),
        (&["--tls-cert", "c"], "tls-key is missing"),
        (&["--host-address", "0.0.0.0"], "keep it for --bind"),
        (&["--dev", "--host-address", "192.0.2.1"], "--dev is for this machine alone"),
        (&["--config", "nowhere.toml"], "nowhere.toml cannot be read"),
    ];
    for (args, expected) in cases {
        let ran = check(args, &[]);
        assert_eq!(ran.code, 2, "{args:?}: {}", ran.err);
        assert!(ran.err.contains(expected) && ran.out.is_empty(), "{args:?}: {}", ran.err);
    }
}

#[test]
fn a_wrong_configuration_file_is_shown_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("c.toml"), "port = 1\nprot = 2\n").unwrap();
    let ran = program(dir.path(), &["serve", "--config", "c.toml"], &[("SPARKMESH_SECRET", SECRET)]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("c.toml is wrong") && ran.err.contains("unknown field `prot`"), "{}", ran.err);
    assert!(ran.err.contains("line 2"), "{}", ran.err);
}

#[test]
fn without_a_secret_no_server_starts() {
    let dir = tempfile::tempdir().unwrap();
    let ran = program(dir.path(), &["serve"], &[("SPARKMESH_SECRET", "")]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("--secret-file") && ran.err.contains("--dev"), "{}", ran.err);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was made");
    assert_eq!(program(dir.path(), &["serve", "--check", "--dev"], &[]).code, 0);
}

#[test]
fn connections_fit_the_file_limit_which_is_raised_as_far_as_it_goes() {
    let dir = tempfile::tempdir().unwrap();
    let limited = |limit: &str, connections: &str| {
        let script = format!("ulimit {limit} && exec \"$0\" serve --check --num-max-connections {connections}");
        let mut command = Command::new("sh");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_sparkmesh")]).current_dir(dir.path());
        finish(&mut command, &[("SPARKMESH_SECRET", SECRET)])
    };
    let ran = limited("-n 300", "101");
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("needs 301 file descriptors, and this process may have 300"), "{}", ran.err);
    assert_eq!(limited("-n 300", "100").code, 0);
    assert_eq!(limited("-n 600 && ulimit -Sn 250", "400").code, 0);
}

fn verified(token: &str, secrets: &str) -> sparkmesh::auth::key::Identity {
    let now = Millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64);
    Keyring::new(Secrets::parse(secrets, "test").unwrap()).verify(token.trim_end(), now).unwrap()
}

#[test]
fn key_prints_a_key() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["key", "--node", "backend", "--client", "acme", "--role", "app", "--ttl", "12h"];
    let ran = program(dir.path(), &args, &[("SPARKMESH_SECRET", SECRET)]);
    assert_eq!((ran.code, ran.err.as_str(), ran.out.lines().count()), (0, "", 1));
    let identity = verified(&ran.out, SECRET);
    assert_eq!((identity.node.as_str(), identity.role), ("backend", Role::App));
    assert_eq!(identity.client.unwrap().as_str(), "acme");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    let left = identity.expires.0 - now;
    assert!((43_190_000..=43_200_000).contains(&left), "{left}");
}

#[test]
fn the_secret_of_a_key_is_looked_for_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let file = secret_file(dir.path(), "secrets", "new:the-newest-secret-of-all\nold:the-older-secret-of-all\n");
    let (out, environment) = (|args: &[&str], env: &[_]| program(dir.path(), args, env), ("SPARKMESH_SECRET", SECRET));
    let by_file = out(&["key", "--node", "a", "--secret-file", &file], &[environment]);
    assert_eq!(verified(&by_file.out, "new:the-newest-secret-of-all").role, Role::Device);
    assert_eq!(verified(&out(&["key", "--node", "a"], &[environment]).out, SECRET).node.as_str(), "a");
    let none = out(&["key", "--node", "a"], &[]);
    assert!(none.code == 2 && none.out.is_empty() && none.err.contains("--secret-file"), "{}", none.err);
    fs::create_dir(dir.path().join("sparkmesh-data")).unwrap();
    secret_file(dir.path(), "sparkmesh-data/secret", "# made\nthe-secret-that-dev-made\n");
    assert_eq!(verified(&out(&["key", "--node", "a"], &[]).out, "the-secret-that-dev-made").node.as_str(), "a");
}

#[test]
fn key_says_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let short = secret_file(dir.path(), "short", "k:too-short\n");
    let open = secret_file(dir.path(), "open", &format!("{SECRET}\n"));
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    let cases: &[(&[&str], i32, &str)] = &[
        (&["key", "--secret-file", &open], 2, "--node"),
        (&["key", "--node", "a/b", "--secret-file", &open], 2, "an id is made of"),
        (&["key", "--node", "a", "--role", "god", "--secret-file", &open], 2, "possible values: app, admin"),
        (&["key", "--node", "a", "--ttl", "forever", "--secret-file", &open], 2, "whole number and its unit"),
        (&["key", "--node", "a", "--secret-file", &short], 2, "line 1: a secret has at least 16 bytes, this one has 9"),
        (&["key", "--node", "a", "--secret-file", "nowhere"], 2, "nowhere cannot be read"),
        (&["key", "--node", "a", "--secret-file", &open], 0, "others may read the secret file"),
    ];
    for (args, code, expected) in cases {
        let ran = program(dir.path(), args, &[]);
        assert_eq!(ran.code, *code, "{args:?}: {}", ran.err);
        assert!(ran.err.contains(expected), "{args:?}: {}", ran.err);
        assert!(!ran.err.contains(SECRET) && !ran.err.contains("too-short"), "{}", ran.err);
    }
}

#[test]
fn help_names_the_variables_but_not_their_values() {
    let dir = tempfile::tempdir().unwrap();
    let ran = program(dir.path(), &["serve", "--help"], &[("SPARKMESH_SECRET_FILE", "somewhere-private")]);
    assert_eq!(ran.code, 0);
    assert!(ran.out.contains("SPARKMESH_PORT") && ran.out.contains("--drain-deadline"), "{}", ran.out);
    assert!(!ran.out.contains("somewhere-private"));
    let version = program(dir.path(), &["--version"], &[]);
    assert_eq!((version.code, version.out.trim_end()), (0, concat!("sparkmesh ", env!("CARGO_PKG_VERSION"))));
    assert_eq!(program(dir.path(), &[], &[]).code, 2);
    assert_eq!(program(dir.path(), &["unheard-of"], &[]).code, 2);
}

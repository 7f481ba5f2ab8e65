//! The cluster's secrets: where they come from, and the promise that they go nowhere.
//!
//! One secret a line, `kid:secret` or bare (its kid is then `default`); empty lines and lines that begin with `#` are
//! skipped, spaces round a line too. The first signs, all verify, so that a secret is changed by putting the new one
//! first and taking the old one out when the last key made with it has expired. Invariant: there is at least one, and
//! none is shorter than [`MIN_BYTES`]. Neither `Debug` nor an error ever shows one.

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::config::secret::{SECRET_VARIABLE, SecretSource};

/// Shortest secret, in bytes. 32 random bytes are better.
pub const MIN_BYTES: usize = 16;
/// The kid of a line without one.
pub const DEFAULT_KID: &str = "default";
/// Longest kid, in bytes.
const MAX_KID: usize = 64;
/// More than any number of secrets in use at once needs; keeps a wrong path from filling the memory.
const MAX_FILE: u64 = 64 << 10;

#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("the secret file {} cannot be read", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("a secret cannot be made at {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{origin} is no text of at most 64 KiB")]
    NotText { origin: String },
    #[error("{origin} holds no secret: put at least one line `kid:secret` there, or a bare secret")]
    Empty { origin: String },
    #[error(
        "{origin}, line {line}: a secret has at least {MIN_BYTES} bytes, this one has {len} \
         (`openssl rand -hex 32` makes a good one)"
    )]
    TooShort { origin: String, line: usize, len: usize },
    #[error(
        "{origin}, line {line}: what stands before the colon is the secret's kid, \
         1-{MAX_KID} of A-Z a-z 0-9 _ - . (a secret with a colon in it needs a kid)"
    )]
    Kid { origin: String, line: usize },
}

/// One shared secret and the name by which tokens refer to it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    kid: String,
    bytes: Vec<u8>,
}

impl Secret {
    pub fn kid(&self) -> &str {
        &self.kid
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({}, hidden)", self.kid)
    }
}

/// All secrets in use; see the module's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secrets(Vec<Secret>);

impl Secrets {
    /// Reads them from where the configuration says; for [`SecretSource::Dev`] makes one the first time. Warns in the
    /// log about a file that others than its owner may read.
    pub fn load(source: &SecretSource) -> Result<Self, SecretError> {
        match source {
            SecretSource::Environment => {
                let origin = format!("the environment variable {SECRET_VARIABLE}");
                let text =
                    std::env::var(SECRET_VARIABLE).map_err(|_| SecretError::NotText { origin: origin.clone() })?;
                Self::parse(&text, &origin)
            }
            SecretSource::File(path) => Self::read(path),
            SecretSource::Dev(path) => {
                if !path.exists() {
                    make(path).map_err(|source| SecretError::Write { path: path.clone(), source })?;
                }
                Self::read(path)
            }
        }
    }

    fn read(path: &Path) -> Result<Self, SecretError> {
        let unreadable = |source| SecretError::Read { path: path.to_owned(), source };
        let origin = path.display().to_string();
        let file = File::open(path).map_err(unreadable)?;
        if file.metadata().map_err(unreadable)?.permissions().mode() & 0o077 != 0 {
            log::warn!("others may read the secret file {origin}: chmod 600 it");
        }
        let mut bytes = Vec::new();
        file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        match String::from_utf8(bytes) {
            Ok(text) if text.len() as u64 <= MAX_FILE => Self::parse(&text, &origin),
            _ => Err(SecretError::NotText { origin }),
        }
    }

    /// `origin` names the place in errors.
    pub fn parse(text: &str, origin: &str) -> Result<Self, SecretError> {
        let mut found = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let (line, number) = (line.trim(), index + 1);
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (kid, secret) = line.split_once(':').unwrap_or((DEFAULT_KID, line));
            let good = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
            if kid.is_empty() || kid.len() > MAX_KID || !kid.chars().all(good) {
                return Err(SecretError::Kid { origin: origin.to_owned(), line: number });
            }
            if secret.len() < MIN_BYTES {
                return Err(SecretError::TooShort { origin: origin.to_owned(), line: number, len: secret.len() });
            }
            found.push(Secret { kid: kid.to_owned(), bytes: secret.as_bytes().to_vec() });
        }
        if found.is_empty() {
            return Err(SecretError::Empty { origin: origin.to_owned() });
        }
        Ok(Self(found))
    }

    /// In the order they were given: the first is the one to sign with.
    pub(super) fn all(&self) -> &[Secret] {
        &self.0
    }
}

/// A new secret that only its owner may read. Never overwrites one.
fn make(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    let secret = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(format!("# Made by `sparkmesh serve --dev`. Who has this can be anybody.\n{secret}\n").as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: &str = "0123456789abcdef";

    fn kids(text: &str) -> Vec<String> {
        Secrets::parse(text, "here").unwrap().all().iter().map(|s| s.kid().to_owned()).collect()
    }

    #[test]
    fn lines_are_kid_and_secret_or_bare() {
        let text = format!("# new\n\n  2024-02:{LONG}\r\n{LONG}\n#old:{LONG}\nx:{LONG}:more\n");
        assert_eq!(kids(&text), ["2024-02", "default", "x"]);
        let secrets = Secrets::parse(&text, "here").unwrap();
        assert_eq!(secrets.all()[0].bytes(), LONG.as_bytes());
        assert_eq!(secrets.all()[2].bytes(), format!("{LONG}:more").as_bytes());
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line_and_without_the_secret() {
        let cases = [
            ("", "here holds no secret"),
            ("# only a comment\n", "here holds no secret"),
            ("# one\nshort", "here, line 2: a secret has at least 16 bytes, this one has 5"),
            ("kid:short", "line 1: a secret has at least 16 bytes"),
            (":0123456789abcdef", "line 1: what stands before the colon"),
            ("k d:0123456789abcdef", "line 1: what stands before the colon"),
        ];
        for (text, expected) in cases {
            let error = Secrets::parse(text, "here").unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
            assert!(!error.contains("short\"") && !error.contains(LONG), "{error}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!("{:?}", Secrets::parse(&format!("k:{LONG}"), "here").unwrap());
        assert!(shown.contains('k') && !shown.contains("0123"), "{shown}");
    }

    #[test]
    fn a_development_secret_is_made_once_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data").join("secret");
        let source = SecretSource::Dev(path.clone());
        let first = Secrets::load(&source).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(Secrets::load(&source).unwrap(), first, "kept at the next start");
        assert_eq!(Secrets::load(&SecretSource::File(path)).unwrap(), first);
    }

    #[test]
    fn what_is_no_text_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        assert!(matches!(Secrets::load(&SecretSource::File(path.clone())), Err(SecretError::Read { .. })));
        for bytes in [vec![0xff; 40], vec![b'a'; 70_000]] {
            std::fs::write(&path, bytes).unwrap();
            assert!(matches!(Secrets::load(&SecretSource::File(path.clone())), Err(SecretError::NotText { .. })));
        }
    }
}

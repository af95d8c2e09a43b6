//! How the segments of a session are signed: `password`, `password_file` and `tcp_ao`.

use std::{error::Error, fmt, ops::Range, path::Path};

use toml::Spanned;

use super::{
    Secret,
    diagnostic::Fault,
    field::{Result, number},
    parse, raw,
};

use serde::{Deserialize, Serialize};

/// Largest key in Linux, of TCP MD5 signatures (`TCP_MD5SIG_MAXKEYLEN`) as of TCP-AO
/// (`TCP_AO_MAXKEYLEN`).
const MAX_KEY: usize = 80;
/// Most octets of a file with a key, line ends included.
const MAX_KEY_FILE: u64 = 4096;

/// How segments are signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Authentication {
    /// TCP MD5 signatures (RFC 2385).
    Md5(Secret),
    /// The TCP authentication option (RFC 5925).
    Ao(AoKeys),
}

/// Keys for one peer: at least one, of which the first is preferred. No two have an id in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AoKeys(Vec<AoKey>);

/// A master key tuple (RFC 5925 §3.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AoKey {
    /// KeyID of what we send.
    pub send_id: u8,
    /// KeyID of what the peer sends.
    pub recv_id: u8,
    /// Of the MAC and of the derivation of traffic keys.
    pub algorithm: AoAlgorithm,
    /// Master key, of 1 to 80 bytes.
    pub key: Secret,
}

/// An algorithm for TCP-AO.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AoAlgorithm {
    /// HMAC-SHA-1-96 (RFC 5926 §3.2.1).
    HmacSha1,
    /// AES-128-CMAC-96 (RFC 5926 §3.2.2).
    Aes128Cmac,
    /// HMAC-SHA-256 with a MAC of 128 bits, for which there is no RFC.
    HmacSha256,
}

impl Authentication {
    /// Keys of TCP-AO.
    pub fn ao(&self) -> Option<&AoKeys> {
        match self {
            Self::Md5(_) => None,
            Self::Ao(keys) => Some(keys),
        }
    }

    /// Why two of them cannot be for the same address, which a peer and a prefix around it would be.
    /// Of several MD5 keys the one of the longest prefix counts.
    pub(super) fn conflict(&self, other: &Self) -> Option<String> {
        match (self, other) {
            (Self::Md5(_), Self::Md5(_)) => None,
            (Self::Ao(one), Self::Ao(other)) => one
                .iter()
                .find(|key| other.iter().any(|other| key.overlaps(other)))
                .map(|key| format!("a key with an id of {key} (RFC 5925 §3.1)")),
            (Self::Md5(_), Self::Ao(_)) => Some("tcp_ao, where this has a password".to_owned()),
            (Self::Ao(_), Self::Md5(_)) => Some("a password, where this has tcp_ao".to_owned()),
        }
    }
}

impl AoKeys {
    /// `None` when there are no keys, or some have an id in common.
    pub fn new(keys: Vec<AoKey>) -> Option<Self> {
        let apart = |(index, key): (usize, &AoKey)| {
            let mut before = keys.iter().take(index);
            !before.any(|other| key.overlaps(other))
        };
        let valid = !keys.is_empty() && keys.iter().enumerate().all(apart);
        valid.then_some(Self(keys))
    }

    /// All of them, the preferred one first.
    pub fn iter(&self) -> impl Iterator<Item = &AoKey> {
        self.0.iter()
    }

    /// Whether a session can go from these keys to `next`: some remain, and what remains is as it
    /// was.
    pub fn can_become(&self, next: &Self) -> bool {
        let known = |key: &&AoKey| self.0.contains(key);
        let reused = |key: &AoKey| self.iter().any(|old| old != key && old.overlaps(key));
        next.iter().any(|key| known(&key)) && !next.iter().any(reused)
    }
}

impl AoKey {
    /// An id must mean one key only (RFC 5925 §3.1).
    fn overlaps(&self, other: &Self) -> bool {
        self.send_id == other.send_id || self.recv_id == other.recv_id
    }
}

/// Its ids, never the key itself.
impl fmt::Display for AoKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "send_id {}, recv_id {}", self.send_id, self.recv_id)
    }
}

impl AoAlgorithm {
    const ALL: [Self; 3] = [Self::HmacSha1, Self::Aes128Cmac, Self::HmacSha256];

    fn name(self) -> &'static str {
        match self {
            Self::HmacSha1 => "hmac-sha-1-96",
            Self::Aes128Cmac => "aes-128-cmac-96",
            Self::HmacSha256 => "hmac-sha-256-128",
        }
    }
}

impl fmt::Display for AoAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a table says. `directory` is where relative files are.
pub(super) fn authentication(raw: &raw::Peer, directory: &Path) -> Result<Option<Authentication>> {
    let password = match (&raw.password, &raw.password_file) {
        (None, None) => None,
        (text, file) => Some(secret(
            ["password", "password_file"],
            text.as_ref(),
            file.as_ref(),
            // One of the two is there.
            0..0,
            directory,
        )?),
    };
    match (password, &raw.tcp_ao) {
        (password, None) => Ok(password.map(Authentication::Md5)),
        (None, Some(raw)) => ao(raw, directory).map(|keys| Some(Authentication::Ao(keys))),
        (Some(_), Some(raw)) => Err(Fault::new(
            raw.span(),
            "tcp_ao and a password exclude each other",
        )),
    }
}

fn ao(raw: &Spanned<Vec<Spanned<raw::AoKey>>>, directory: &Path) -> Result<AoKeys> {
    let mut keys = Vec::<AoKey>::new();
    for table in raw.get_ref() {
        let key = ao_key(table, directory)?;
        if let Some(other) = keys.iter().find(|other| key.overlaps(other)) {
            return Err(Fault::new(
                table.span(),
                format!("tcp_ao has an id twice: a key has {key}, another one {other}"),
            ));
        }
        keys.push(key);
    }
    AoKeys::new(keys).ok_or_else(|| Fault::new(raw.span(), "tcp_ao is empty, expected keys"))
}

fn ao_key(table: &Spanned<raw::AoKey>, directory: &Path) -> Result<AoKey> {
    let raw = table.get_ref();
    let id = |raw, key| number(raw, key, 0..=u8::MAX);
    let send_id = id(&raw.send_id, "send_id")?;
    Ok(AoKey {
        send_id,
        recv_id: match &raw.recv_id {
            Some(raw) => id(raw, "recv_id")?,
            None => send_id,
        },
        algorithm: match &raw.algorithm {
            Some(name) => algorithm(name)?,
            None => AoAlgorithm::HmacSha1,
        },
        key: secret(
            ["key", "key_file"],
            raw.key.as_ref(),
            raw.key_file.as_ref(),
            table.span(),
            directory,
        )?,
    })
}

fn algorithm(name: &Spanned<String>) -> Result<AoAlgorithm> {
    let known = AoAlgorithm::ALL
        .into_iter()
        .find(|algorithm| algorithm.name() == name.get_ref());
    known.ok_or_else(|| {
        let names = AoAlgorithm::ALL.map(AoAlgorithm::name).join(", ");
        let message = format!("algorithm {:?}, expected one of {names}", name.get_ref());
        Fault::new(name.span(), message)
    })
}

/// What one of two keys has, by `names`: the text, or the file that it is in. `span` is where neither
/// is.
fn secret(
    names: [&str; 2],
    text: Option<&Spanned<String>>,
    file: Option<&Spanned<String>>,
    span: Range<usize>,
    directory: &Path,
) -> Result<Secret> {
    let [of_text, of_file] = names;
    let (name, span, secret) = match (text, file) {
        (None, None) => {
            let message = format!("key without {of_text} and {of_file}, expected one of them");
            return Err(Fault::new(span, message));
        }
        (Some(text), None) => (of_text, text.span(), text.get_ref().clone()),
        (None, Some(file)) => {
            let path = directory.join(file.get_ref());
            let unusable = |error: &dyn Error| {
                let path = path.display();
                Fault::new(
                    file.span(),
                    format!("{of_file}: cannot read {path}: {error}"),
                )
            };
            let octets = parse::read(&path, MAX_KEY_FILE).map_err(|error| unusable(&error))?;
            let text = String::from_utf8(octets).map_err(|error| unusable(&error))?;
            let secret = text.trim_end_matches(['\r', '\n']).to_owned();
            (of_file, file.span(), secret)
        }
        (Some(_), Some(file)) => {
            return Err(Fault::new(
                file.span(),
                format!("{of_text} and {of_file} exclude each other"),
            ));
        }
    };
    match secret.len() {
        1..=MAX_KEY => Ok(secret.into()),
        length => Err(Fault::new(
            span,
            format!("{name} has {length} bytes, expected 1 to {MAX_KEY}"),
        )),
    }
}

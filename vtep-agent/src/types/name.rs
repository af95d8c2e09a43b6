use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A network device's name: 1 to 15 bytes, no `/`, no white space, neither `.` nor `..`
/// (`dev_valid_name` in the kernel).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IfName(String);

/// A bridge domain's name: 1 to 63 printable ASCII characters without white space.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BdName(String);

/// The text cannot be a name of that kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a valid {kind}: expected {expected}")]
pub struct InvalidName {
    text: String,
    kind: &'static str,
    expected: &'static str,
}

impl FromStr for IfName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let valid = (1..=15).contains(&text.len())
            && text != "."
            && text != ".."
            && !text
                .bytes()
                .any(|byte| byte == b'/' || byte == b':' || byte.is_ascii_whitespace())
            && !text.contains('\0');
        valid
            .then(|| Self(text.to_owned()))
            .ok_or_else(|| InvalidName {
                text: text.to_owned(),
                kind: "network device name",
                expected: "1 to 15 bytes without '/', ':' or white space",
            })
    }
}

impl FromStr for BdName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let valid =
            (1..=63).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        valid
            .then(|| Self(text.to_owned()))
            .ok_or_else(|| InvalidName {
                text: text.to_owned(),
                kind: "bridge domain name",
                expected: "1 to 63 printable ASCII characters without white space",
            })
    }
}

macro_rules! name {
    ($name:ident) => {
        impl $name {
            /// The name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(IfName);
name!(BdName);

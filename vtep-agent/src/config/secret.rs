use std::{
    fmt,
    hash::{BuildHasher as _, RandomState},
    sync::LazyLock,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text that neither a log nor a recording shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Content);

#[derive(Clone, PartialEq, Eq)]
enum Content {
    Text(String),
    /// What a recording has in its place.
    StandIn(u64),
}

/// With keys from the operating system that nobody else ever knows.
static STAND_INS: LazyLock<RandomState> = LazyLock::new(RandomState::new);

impl Secret {
    /// The text; empty in what was read from a recording.
    pub fn expose(&self) -> &str {
        match &self.0 {
            Content::Text(text) => text,
            Content::StandIn(_) => "",
        }
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(Content::Text(text))
    }
}

/// Says which secrets of one run are the same, and nothing else about them.
impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(match &self.0 {
            Content::Text(text) => STAND_INS.hash_one(text),
            Content::StandIn(number) => *number,
        })
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u64::deserialize(deserializer).map(|number| Self(Content::StandIn(number)))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

//! Single values: ranges, texts, lists, and what must be distinct.

use std::{
    collections::HashMap,
    fmt::Display,
    hash::Hash,
    net::IpAddr,
    ops::{Range, RangeInclusive},
    path::PathBuf,
    str::FromStr,
};

use toml::Spanned;

use super::{
    diagnostic::Fault,
    raw::{Integer, OneOrMany},
};
use crate::types::{Asn, InvalidName};

pub(super) type Result<T> = std::result::Result<T, Fault>;

/// A number within `range`.
pub(super) fn number<T>(raw: &Spanned<Integer>, key: &str, range: RangeInclusive<T>) -> Result<T>
where
    T: TryFrom<i64> + PartialOrd + Display,
{
    let value = raw.get_ref().0;
    T::try_from(value)
        .ok()
        .filter(|value| range.contains(value))
        .ok_or_else(|| {
            Fault::new(
                raw.span(),
                format!(
                    "{key} is {value}, expected {} to {}",
                    range.start(),
                    range.end()
                ),
            )
        })
}

/// As [`number`], with a default.
pub(super) fn number_or<T>(
    raw: &Option<Spanned<Integer>>,
    key: &str,
    range: RangeInclusive<T>,
    default: T,
) -> Result<T>
where
    T: TryFrom<i64> + PartialOrd + Display,
{
    match raw {
        Some(raw) => number(raw, key, range),
        None => Ok(default),
    }
}

/// A text whose type says what is wrong with it.
pub(super) fn parse<T: FromStr<Err: Display>>(raw: &Spanned<String>, key: &str) -> Result<T> {
    let text = raw.get_ref();
    text.parse()
        .map_err(|error| Fault::new(raw.span(), format!("{key} {text:?}: {error}")))
}

/// A name; what is wrong with it names it.
pub(super) fn name<T: FromStr<Err = InvalidName>>(raw: &Spanned<String>) -> Result<T> {
    let parsed = raw.get_ref().parse();
    parsed.map_err(|error: InvalidName| Fault::new(raw.span(), error.to_string()))
}

/// A text that `read` understands; `expected` is for the message.
pub(super) fn parse_with<T>(
    raw: &Spanned<String>,
    key: &str,
    expected: &str,
    read: impl FnOnce(&str) -> Option<T>,
) -> Result<T> {
    let text = raw.get_ref();
    read(text).ok_or_else(|| {
        Fault::new(
            raw.span(),
            format!("{key} is {text:?}, expected {expected}"),
        )
    })
}

/// A path, not empty.
pub(super) fn path_or(raw: &Option<Spanned<String>>, key: &str, default: &str) -> Result<PathBuf> {
    match raw {
        None => Ok(default.into()),
        Some(text) => parse_with(text, key, "a path", |text| {
            (!text.is_empty() && !text.contains('\0')).then(|| text.into())
        }),
    }
}

/// The elements of a list; a single text is a list of one.
pub(super) fn each(raw: &Spanned<OneOrMany>) -> Vec<Spanned<String>> {
    match raw.get_ref() {
        OneOrMany::One(text) => vec![Spanned::new(raw.span(), text.clone())],
        OneOrMany::Many(texts) => texts.clone(),
    }
}

/// An AS number: neither 0 (RFC 7607), AS_TRANS (RFC 6793 §9) nor a last number (RFC 7300).
pub(super) fn asn(raw: &Spanned<Integer>, key: &str) -> Result<Asn> {
    let asn = number(raw, key, 1..=u32::MAX - 1)?;
    match asn {
        23456 | 65535 => Err(Fault::new(raw.span(), format!("{key} {asn} is reserved"))),
        _ => Ok(Asn(asn)),
    }
}

/// An address that a host can have.
pub(super) fn is_unicast(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    // An IPv4 address in IPv6 clothes is another name of the same peer.
    let mapped = address.to_canonical() != address;
    !(mapped || address.is_unspecified() || address.is_multicast() || broadcast)
}

/// Values that may occur once in the file, with who has them.
pub(super) struct Distinct<K> {
    what: &'static str,
    owners: HashMap<K, String>,
}

impl<K: Hash + Eq + Display> Distinct<K> {
    pub(super) fn new(what: &'static str) -> Self {
        Self {
            what,
            owners: HashMap::new(),
        }
    }

    /// Takes `key` for `owner`, or names who has it.
    pub(super) fn insert(&mut self, key: K, span: Range<usize>, owner: &str) -> Result<()> {
        if let Some(other) = self.owners.get(&key) {
            let what = self.what;
            return Err(Fault::new(
                span,
                format!("{what} {key} belongs to {other} already"),
            ));
        }
        self.owners.insert(key, owner.to_owned());
        Ok(())
    }
}

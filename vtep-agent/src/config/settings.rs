//! `[[bd]]` by other means than the file: the keys, and what may be said of them, are the same.

use serde_json::{Map, Value};

use super::{BdConfig, bds, diagnostic::Fault};
use crate::types::{BdName, Vni};

/// Keys of `[[bd]]` and their values.
pub type BdSettings = Map<String, Value>;

/// Keys that whoever makes a bridge domain by command says otherwise, and how.
const ELSEWHERE: [(&str, &str); 3] = [
    ("name", "the name comes first, as in bd add NAME --vni N"),
    ("vni", "the VNI has an argument of its own, --vni N"),
    ("ports", "ports are added by vtep-agent port add"),
];

impl BdConfig {
    /// What the file would make of a `[[bd]]` with these keys.
    ///
    /// # Errors
    ///
    /// What is wrong with the first one that is wrong.
    pub fn with_settings(name: BdName, vni: Vni, settings: &BdSettings) -> Result<Self, String> {
        let mut text = format!("name = {:?}\nvni = {vni}\n", name.as_str());
        for (key, value) in settings {
            if let Some((_, how)) = ELSEWHERE.iter().find(|(other, _)| other == key) {
                return Err(format!("{key} is not to be set: {how}"));
            }
            let value = as_toml(value).ok_or_else(|| format!("{key} is null, leave it out"))?;
            text.push_str(&format!("{} = {value}\n", Value::from(key.as_str())));
        }
        toml::from_str(&text)
            .map_err(Fault::from)
            .and_then(|raw| bds::bd(&raw))
            .map_err(|fault| fault.message)
    }
}

/// One `KEY=VALUE`. The value is what the file has behind `KEY =`; quotes may be left out.
///
/// # Errors
///
/// When it is none.
pub fn setting(text: &str) -> Result<(String, Value), String> {
    let (key, text) = text
        .split_once('=')
        .map(|(key, value)| (key.trim(), value.trim()))
        .filter(|(key, value)| !key.is_empty() && !value.is_empty())
        .ok_or("expected KEY=VALUE, such as learning=false")?;
    let read: Option<BdSettings> = toml::from_str(&format!("value = {text}")).ok();
    // With more behind it, it is none.
    let read = read.filter(|read| read.len() == 1);
    let value = read.and_then(|mut read| read.remove("value"));
    Ok((key.to_owned(), value.unwrap_or_else(|| text.into())))
}

/// JSON's numbers, words, strings and lists are those of TOML; tables are not, and there is no `null`.
fn as_toml(value: &Value) -> Option<String> {
    let list = |items: Option<Vec<String>>| items.map(|items| items.join(", "));
    match value {
        Value::Null => None,
        Value::Bool(_) | Value::Number(_) | Value::String(_) => Some(value.to_string()),
        Value::Array(items) => {
            let items = list(items.iter().map(as_toml).collect())?;
            Some(format!("[{items}]"))
        }
        Value::Object(table) => {
            let pair = |(key, value): (&String, &Value)| {
                Some(format!(
                    "{} = {}",
                    Value::from(key.as_str()),
                    as_toml(value)?
                ))
            };
            let pairs = list(table.iter().map(pair).collect())?;
            Some(format!("{{ {pairs} }}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::FloodPolicy, *};

    fn made(settings: &[&str]) -> Result<BdConfig, String> {
        let settings: Result<_, _> = settings.iter().map(|text| setting(text)).collect();
        BdConfig::with_settings("blue".parse().unwrap(), Vni::new(100).unwrap(), &settings?)
    }

    /// A command makes what the file makes of the same words.
    #[test]
    fn the_same_as_in_the_file() {
        let settings = [
            "rd = \"198.18.0.1:7\"",
            "rt_import = [\"65000:100\", \"*:200\"]",
            "rt_export = \"65000:100\"",
            "suppress = false",
            "flood = \"no-unknown\"",
            "learning = false",
            "dhcp_snooping = false",
            "source_filter = false",
            "server_guard = true",
            "bum_rate = 7",
            "learn_rate = 8",
            "unknown_neighbors = \"drop\"",
            "downstream_vni = true",
            "any_ethernet_tag = true",
            "ageing = 0",
            "max_macs_per_port = 9",
            "duplicate = { action = \"freeze\", moves = 6 }",
            "anycast = [\"10.0.0.1\", \"fd00::1\"]",
            "unicast_forward = \"always\"",
            "replication = \"ar-leaf\"",
            "prune = [\"broadcast\"]",
            "honor_prune = false",
            "duplicate_ip = { action = \"warn\" }",
        ];
        let raw = toml::from_str(&format!(
            "name = \"blue\"\nvni = 100\n{}",
            settings.join("\n")
        ));
        let expected = bds::bd(&raw.unwrap()).unwrap();
        assert_eq!(made(&settings), Ok(expected.clone()));
        // Nothing is left as it is by default: no key is missing above.
        let default = made(&[]).unwrap();
        let fields = |bd: &BdConfig| serde_json::to_value(bd).unwrap();
        let (default, expected) = (fields(&default), fields(&expected));
        for (key, value) in expected.as_object().unwrap() {
            let given = !["name", "vni", "ports"].contains(&key.as_str());
            assert_eq!(given, default[key] != *value, "{key}");
        }
    }

    #[test]
    fn quotes_may_be_left_out() {
        let bd = made(&["flood=none", "rd = 198.18.0.1:7", "rt_export=65000:100"]).unwrap();
        assert_eq!(bd.flood, FloodPolicy::None);
        assert_eq!(
            bd.rd.map(|rd| rd.to_string()).as_deref(),
            Some("198.18.0.1:7")
        );
        assert!(bd.rt_export.is_some());
        assert!(made(&["rd=auto"]).unwrap().rd.is_none());
    }

    #[test]
    fn refused_with_a_remedy() {
        for (text, message) in [
            ("learning", "expected KEY=VALUE"),
            ("=true", "expected KEY=VALUE"),
            ("learning=", "expected KEY=VALUE"),
            ("lerning=true", "unknown key `lerning`, expected one of"),
            ("learning=maybe", "expected a boolean"),
            ("flood=some", "unknown value `some`, expected one of `all`"),
            ("ageing=-1", "ageing"),
            ("name=red", "the name comes first"),
            ("vni=7", "--vni N"),
            ("ports=[\"tap*\"]", "vtep-agent port add"),
            ("learning=true\nsuppress=false", "expected a boolean"),
        ] {
            let error = made(&[text]).unwrap_err();
            assert!(error.contains(message), "{text}: {error}");
            assert!(!error.contains('\n'), "{text}: {error}");
        }
        let null = BdSettings::from_iter([("rd".to_owned(), Value::Null)]);
        let (name, vni) = ("blue".parse().unwrap(), Vni::new(100).unwrap());
        let error = BdConfig::with_settings(name, vni, &null).unwrap_err();
        assert_eq!(error, "rd is null, leave it out");
    }
}

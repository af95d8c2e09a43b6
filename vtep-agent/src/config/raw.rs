//! The shape of the file: which keys there are and which TOML type each has. What they mean is
//! `parse`'s business.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, value::MapAccessDeserializer},
};
use toml::Spanned;

use super::{
    AutoRt, AutoRtImport, DuplicateAction, DuplicateIpAction, FloodPolicy, OnStop, Replication,
    SourceCheck, UnicastForward, UnknownNeighbors, UnknownVni, XdpMode,
};

type Text = Spanned<String>;
type Number = Spanned<Integer>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) vtep: Vtep,
    pub(super) bgp: Bgp,
    pub(super) underlay: Option<Spanned<Underlay>>,
    #[serde(default)]
    pub(super) bd: Vec<Spanned<Bd>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Vtep {
    pub(super) address: Spanned<OneOrMany>,
    pub(super) router_id: Option<Text>,
    pub(super) uplinks: Option<Spanned<Vec<Text>>>,
    pub(super) xdp: Option<XdpMode>,
    pub(super) port: Option<Number>,
    pub(super) pin_dir: Option<Text>,
    pub(super) state_dir: Option<Text>,
    pub(super) socket: Option<Text>,
    pub(super) socket_group: Option<Text>,
    pub(super) metrics: Option<Text>,
    pub(super) on_stop: Option<OnStop>,
    pub(super) drain_time: Option<Number>,
    pub(super) unknown_vni: Option<UnknownVni>,
    pub(super) source_check: Option<SourceCheck>,
    pub(super) max_macs: Option<Number>,
    pub(super) duplicate: Option<Duplicate>,
    pub(super) duplicate_ip: Option<DuplicateIp>,
}

/// `duplicate = { … }`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Duplicate {
    pub(super) moves: Option<Number>,
    pub(super) window: Option<Number>,
    pub(super) action: Option<DuplicateAction>,
    pub(super) recovery: Option<Number>,
}

/// `duplicate_ip = { … }`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DuplicateIp {
    pub(super) moves: Option<Number>,
    pub(super) window: Option<Number>,
    pub(super) action: Option<DuplicateIpAction>,
    pub(super) recovery: Option<Number>,
    pub(super) as_mac: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Bgp {
    pub(super) asn: Number,
    pub(super) listen: Option<bool>,
    pub(super) auto_rt: Option<AutoRt>,
    pub(super) auto_rt_import: Option<AutoRtImport>,
    pub(super) arp_nd_flags: Option<bool>,
    pub(super) selection_deferral: Option<Number>,
    #[serde(default)]
    pub(super) peer: Vec<Spanned<Peer>>,
    #[serde(default)]
    pub(super) dynamic: Vec<Spanned<Dynamic>>,
    #[serde(default)]
    pub(super) group: BTreeMap<String, Peer>,
}

/// `[[bgp.dynamic]]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Dynamic {
    pub(super) prefix: Text,
    pub(super) group: Text,
    pub(super) asn: Option<Spanned<Scalar>>,
    pub(super) limit: Option<Number>,
}

/// `[[bgp.peer]]` and `[bgp.group.NAME]`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Peer {
    pub(super) address: Option<Text>,
    pub(super) interface: Option<Text>,
    pub(super) group: Option<Text>,
    pub(super) asn: Option<Spanned<Scalar>>,
    pub(super) local_as: Option<Spanned<LocalAs>>,
    pub(super) families: Option<Spanned<Vec<Text>>>,
    pub(super) local_address: Option<Text>,
    pub(super) hold_time: Option<Number>,
    pub(super) port: Option<Number>,
    pub(super) password: Option<Text>,
    pub(super) password_file: Option<Text>,
    pub(super) tcp_ao: Option<Spanned<Vec<Spanned<AoKey>>>>,
    pub(super) send_hold_time: Option<Number>,
    pub(super) extended_messages: Option<bool>,
    pub(super) max_prefixes: Option<Spanned<MaxPrefixes>>,
    pub(super) ttl_security: Option<Number>,
    pub(super) allowas_in: Option<Number>,
    pub(super) rt_constraint: Option<bool>,
    pub(super) add_path: Option<bool>,
    pub(super) route_reflector_client: Option<Spanned<bool>>,
    pub(super) shutdown: Option<Spanned<Scalar>>,
    pub(super) graceful_restart: Option<bool>,
    pub(super) restart_time: Option<Number>,
    pub(super) long_lived_graceful_restart: Option<Number>,
    pub(super) unicast_graceful_restart: Option<Spanned<bool>>,
    pub(super) strict_nlri: Option<bool>,
    pub(super) enforce_first_as: Option<bool>,
    pub(super) accept_as_sets: Option<bool>,
    pub(super) passive: Option<bool>,
    pub(super) multihop: Option<Spanned<Scalar>>,
    pub(super) bfd: Option<Spanned<Bfd>>,
}

/// One of `tcp_ao`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AoKey {
    pub(super) send_id: Number,
    pub(super) recv_id: Option<Number>,
    pub(super) algorithm: Option<Text>,
    pub(super) key: Option<Text>,
    pub(super) key_file: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Underlay {
    pub(super) announce: Option<Vec<Text>>,
    pub(super) import: Option<Spanned<Vec<Text>>>,
    pub(super) ecmp: Option<Number>,
    pub(super) multipath_relax: Option<bool>,
    pub(super) table: Option<Number>,
    pub(super) metric: Option<Number>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Bd {
    pub(super) name: Text,
    pub(super) vni: Number,
    #[serde(default)]
    pub(super) ports: Vec<Spanned<Port>>,
    pub(super) rd: Option<Text>,
    pub(super) rt_import: Option<Spanned<OneOrMany>>,
    pub(super) rt_export: Option<Spanned<OneOrMany>>,
    pub(super) suppress: Option<bool>,
    pub(super) flood: Option<FloodPolicy>,
    pub(super) learning: Option<bool>,
    pub(super) dhcp_snooping: Option<bool>,
    pub(super) source_filter: Option<bool>,
    pub(super) server_guard: Option<bool>,
    pub(super) bum_rate: Option<Number>,
    pub(super) learn_rate: Option<Number>,
    pub(super) unknown_neighbors: Option<UnknownNeighbors>,
    pub(super) downstream_vni: Option<bool>,
    pub(super) any_ethernet_tag: Option<bool>,
    pub(super) ageing: Option<Number>,
    pub(super) max_macs_per_port: Option<Number>,
    pub(super) duplicate: Option<Duplicate>,
    pub(super) anycast: Option<Spanned<Vec<Text>>>,
    pub(super) unicast_forward: Option<UnicastForward>,
    pub(super) replication: Option<Replication>,
    pub(super) prune: Option<Spanned<Vec<Text>>>,
    pub(super) honor_prune: Option<bool>,
    pub(super) duplicate_ip: Option<DuplicateIp>,
}

/// `"name"` or `{ name = "name", vlan = 10 }`.
pub(super) struct Port {
    pub(super) name: String,
    pub(super) vlan: Option<Number>,
}

/// `limit` or `{ limit = N, warn_only = true }`.
pub(super) struct MaxPrefixes {
    pub(super) limit: i64,
    pub(super) warn_only: bool,
}

/// `asn` or `{ asn = N, replace = true }`.
pub(super) struct LocalAs {
    pub(super) asn: i64,
    pub(super) replace: bool,
}

/// `true`, `false`, or a table.
pub(super) enum Bfd {
    Flag(bool),
    Table(BfdTable),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BfdTable {
    pub(super) interval: Option<Number>,
    pub(super) multiplier: Option<Number>,
    pub(super) multihop: Option<Spanned<Scalar>>,
    pub(super) strict: Option<bool>,
}

/// A string, or a list of strings.
pub(super) enum OneOrMany {
    One(String),
    Many(Vec<Text>),
}

/// A whole number. `i64` itself would call itself "i64" in messages.
pub(super) struct Integer(pub(super) i64);

/// For keys that take a number or a word.
pub(super) enum Scalar {
    Number(i64),
    Word(String),
    Flag(bool),
}

impl<'de> Deserialize<'de> for Integer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Integer;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer")
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Integer, E> {
                Ok(Integer(value))
            }
        }

        deserializer.deserialize_i64(Visitor)
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or a word")
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Scalar, E> {
                Ok(Scalar::Number(value))
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Scalar, E> {
                Ok(Scalar::Flag(value))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Scalar, E> {
                Ok(Scalar::Word(value.to_owned()))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = OneOrMany;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of strings")
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<OneOrMany, E> {
                Ok(OneOrMany::One(value.to_owned()))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<OneOrMany, A::Error> {
                let mut many = Vec::new();
                while let Some(element) = seq.next_element()? {
                    many.push(element);
                }
                Ok(OneOrMany::Many(many))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            name: String,
            vlan: Option<Number>,
        }

        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Port;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a device name or { name = \"…\", vlan = N }")
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Port, E> {
                Ok(Port {
                    name: value.to_owned(),
                    vlan: None,
                })
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Port, A::Error> {
                let Table { name, vlan } = Table::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Port { name, vlan })
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl<'de> Deserialize<'de> for MaxPrefixes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            limit: Integer,
            #[serde(default)]
            warn_only: bool,
        }

        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = MaxPrefixes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or { limit = N, warn_only = true }")
            }

            fn visit_i64<E: de::Error>(self, limit: i64) -> Result<MaxPrefixes, E> {
                Ok(MaxPrefixes {
                    limit,
                    warn_only: false,
                })
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<MaxPrefixes, A::Error> {
                let table = Table::deserialize(MapAccessDeserializer::new(map))?;
                Ok(MaxPrefixes {
                    limit: table.limit.0,
                    warn_only: table.warn_only,
                })
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl<'de> Deserialize<'de> for LocalAs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            asn: Integer,
            #[serde(default)]
            replace: bool,
        }

        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = LocalAs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or { asn = N, replace = true }")
            }

            fn visit_i64<E: de::Error>(self, asn: i64) -> Result<LocalAs, E> {
                Ok(LocalAs {
                    asn,
                    replace: false,
                })
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<LocalAs, A::Error> {
                let table = Table::deserialize(MapAccessDeserializer::new(map))?;
                Ok(LocalAs {
                    asn: table.asn.0,
                    replace: table.replace,
                })
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl<'de> Deserialize<'de> for Bfd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Bfd;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false or { interval = 300, multiplier = 3, … }")
            }

            fn visit_bool<E: de::Error>(self, wanted: bool) -> Result<Bfd, E> {
                Ok(Bfd::Flag(wanted))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Bfd, A::Error> {
                BfdTable::deserialize(MapAccessDeserializer::new(map)).map(Bfd::Table)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Word(word) => write!(f, "{word:?}"),
            Self::Flag(flag) => flag.fmt(f),
        }
    }
}

//! Whether the maps that an earlier run pinned are those that the programs want.

use std::{collections::BTreeMap, fmt, path::Path};

use aya::maps::{MapData, MapInfo, MapType};
use aya_obj::Object;
use vtep_common::abi::{AddressEntry, AddressKey, EndpointEntry, EndpointKey};

use super::{DataplaneError, OBJECT, error::flat};

/// Maps of the object whose size is `max_macs`.
pub(super) const SIZED: [&str; 3] = ["fdb", "arp", "nd"];
/// Maps that mean something to one run only, so that each has its own, and no pin.
const PRIVATE: [&str; 3] = ["traces", "trace_filter", "trace_frame"];
/// Maps that are the agent's own, with the sizes of their keys and values. No program uses them, so
/// that they are not in the object.
const OWN: [(&str, usize, usize); 2] = [
    (
        "endpoints",
        size_of::<EndpointKey>(),
        size_of::<EndpointEntry>(),
    ),
    (
        "addresses",
        size_of::<AddressKey>(),
        size_of::<AddressEntry>(),
    ),
];
/// `linux/bpf.h`
const BPF_F_NO_PREALLOC: u32 = 1;
/// `linux/bpf.h`
const BPF_F_RDONLY_PROG: u32 = 1 << 7;

/// What the kernel was told, or is to be told, of one map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
}

/// The maps of the object, by name.
pub(super) struct Layouts(BTreeMap<String, Layout>);

/// The maps that are the agent's own.
pub(super) struct OwnMaps {
    pub(super) endpoints: MapData,
    pub(super) addresses: MapData,
}

/// How maps that are there differ from those that are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// Not at all.
    Same,
    /// In their sizes alone: what is in them can be read.
    Size(String),
    /// In more than that.
    Other(String),
}

impl Layouts {
    /// Those of the object, with the size that is configured.
    pub(super) fn of_object(max_macs: u32) -> Result<Self, DataplaneError> {
        let object = Object::parse(OBJECT).map_err(|error| DataplaneError::Object {
            reason: error.to_string(),
        })?;
        let shared = |name: &str| !name.starts_with('.') && !PRIVATE.contains(&name);
        let maps = object.maps.iter().filter(|(name, _)| shared(name));
        let layouts = maps.map(|(name, map)| {
            let layout = Layout {
                kind: map.map_type(),
                key_size: map.key_size(),
                value_size: map.value_size(),
                max_entries: match SIZED.contains(&name.as_str()) {
                    true => max_macs,
                    false => map.max_entries(),
                },
                flags: map.map_flags(),
            };
            (name.clone(), layout)
        });
        let mut layouts: BTreeMap<_, _> = layouts.collect();
        let own = OWN.iter().map(|(name, key, value)| {
            let layout = Layout::own(*key, *value, max_macs);
            ((*name).to_owned(), layout)
        });
        layouts.extend(own);
        Ok(Self(layouts))
    }

    /// Names of the maps that programs use.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let names = self.0.keys().map(String::as_str);
        names.filter(|name| !is_own(name))
    }

    /// Compares with what is pinned in a directory. The first difference that matters most is named.
    pub(super) fn compare(&self, maps: &Path) -> Fit {
        let mut fit = Fit::Same;
        for (name, wanted) in &self.0 {
            let Some(found) = Layout::pinned(&maps.join(name)) else {
                // An earlier version may not have had it: it is made then.
                if is_own(name) {
                    continue;
                }
                return Fit::Other(format!("there is no map {name}"));
            };
            if found == *wanted {
                continue;
            }
            let difference = format!("map {name} is {found}, not {wanted}");
            let resized = Layout {
                max_entries: wanted.max_entries,
                ..found
            };
            if resized != *wanted {
                return Fit::Other(difference);
            }
            if fit == Fit::Same {
                fit = Fit::Size(difference);
            }
        }
        fit
    }

    /// The map that is pinned there has the keys and values of the one that is wanted.
    pub(super) fn is_readable(&self, name: &str, pin: &Path) -> bool {
        let of = |layout: &Layout| (layout.kind, layout.key_size, layout.value_size);
        let wanted = self.0.get(name).map(of);
        wanted.is_some() && Layout::pinned(pin).as_ref().map(of) == wanted
    }
}

impl Layout {
    /// Few elements ever are in use.
    fn own(key: usize, value: usize, max_entries: u32) -> Self {
        Self {
            kind: MapType::Hash as u32,
            key_size: key as u32,
            value_size: value as u32,
            max_entries,
            flags: BPF_F_NO_PREALLOC,
        }
    }

    /// `None` when no map is pinned there.
    fn pinned(pin: &Path) -> Option<Self> {
        let info = MapInfo::from_pin(pin).ok()?;
        let kind = info.map_type().map_or(0, |kind| kind as u32);
        let added = match kind == MapType::DevMapHash as u32 {
            // The kernel's own addition.
            true => BPF_F_RDONLY_PROG,
            false => 0,
        };
        Some(Self {
            kind,
            key_size: info.key_size(),
            value_size: info.value_size(),
            max_entries: info.max_entries(),
            flags: info.map_flags() & !added,
        })
    }
}

impl OwnMaps {
    /// Those that are pinned in a directory, or new ones there.
    pub(super) fn open(maps: &Path, layouts: &Layouts) -> Result<Self, DataplaneError> {
        Ok(Self {
            endpoints: own_map("endpoints", maps, layouts)?,
            addresses: own_map("addresses", maps, layouts)?,
        })
    }
}

fn own_map(name: &'static str, maps: &Path, layouts: &Layouts) -> Result<MapData, DataplaneError> {
    let failed = |reason: String| DataplaneError::Map { map: name, reason };
    let pin = maps.join(name);
    if pin.exists() {
        return MapData::from_pin(&pin).map_err(|error| failed(flat(&error)));
    }
    let Layout {
        kind,
        key_size,
        value_size,
        max_entries,
        flags,
    } = *layouts
        .0
        .get(name)
        .ok_or_else(|| failed("it has no layout".to_owned()))?;
    let layout = aya_obj::Map::new_from_params(kind, key_size, value_size, max_entries, flags);
    let map = MapData::create(layout, name, None).map_err(|error| failed(flat(&error)))?;
    map.pin(&pin).map_err(|error| failed(flat(&error)))?;
    Ok(map)
}

fn is_own(name: &str) -> bool {
    OWN.iter().any(|(own, ..)| *own == name)
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            key_size,
            value_size,
            max_entries,
            flags,
        } = self;
        write!(
            f,
            "of type {kind}, {max_entries} × ({key_size} + {value_size}) bytes, flags {flags:#x}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_has_the_maps_of_the_contract() {
        let layouts = Layouts::of_object(1000).unwrap();
        for name in SIZED.into_iter().chain(OWN.map(|(name, ..)| name)) {
            assert_eq!(layouts.0[name].max_entries, 1000, "{name}");
        }
        for name in ["settings", "events", "redirect", "drops", "port_budgets"] {
            assert!(layouts.0.contains_key(name), "{name}");
        }
        // Their layouts are promised to agents of all versions.
        for (name, sizes) in [("endpoints", (12, 12)), ("addresses", (20, 8))] {
            let layout = layouts.0[name];
            assert_eq!((layout.key_size, layout.value_size), sizes, "{name}");
        }
    }
}

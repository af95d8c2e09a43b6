//! What the datapath has counted, added up over all CPUs.

use std::collections::BTreeMap;

use aya::{
    Pod,
    maps::{MapData, PerCpuArray},
};
use vtep_common::{
    DropReason,
    abi::{BdCounters, BdId, Path, PortCounters, Stat, Traffic},
};

use super::{DataplaneError, error::flat, maps::Maps};

/// Totals since the programs were loaded; a port's and a bridge domain's since it got its slot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DatapathCounters {
    /// Dropped frames, every reason.
    pub drops: Vec<(DropReason, u64)>,
    /// Forwarded frames by the way they took, every way.
    pub paths: Vec<(Path, Traffic)>,
    /// Events that are no drop, every kind.
    pub stats: Vec<(Stat, u64)>,
    /// Ports in use, by slot.
    pub ports: BTreeMap<u32, PortCounters>,
    /// Bridge domains in use.
    pub bds: BTreeMap<BdId, BdCounters>,
}

/// Something that is counted per CPU.
trait Sum: Pod + Default {
    fn add(&mut self, other: Self);
}

impl DatapathCounters {
    /// One of `stats`.
    pub fn stat(&self, stat: Stat) -> u64 {
        self.stats
            .iter()
            .find(|(other, _)| *other == stat)
            .map_or(0, |(_, count)| *count)
    }

    pub(super) fn read(maps: &Maps) -> Result<Self, DataplaneError> {
        let drops = DropReason::ALL
            .iter()
            .map(|&reason| Ok((reason, sum(&maps.drops, "drops", reason as u32)?)));
        let paths = Path::ALL
            .iter()
            .map(|&path| Ok((path, sum(&maps.paths, "path_counters", path as u32)?)));
        let stats = Stat::ALL
            .iter()
            .map(|&stat| Ok((stat, sum(&maps.stats, "stats", stat as u32)?)));
        let ports = maps
            .active_ports
            .keys()
            .map(|&slot| Ok((slot, sum(&maps.port_counters, "port_counters", slot)?)));
        let bds = maps
            .active_bds
            .iter()
            .map(|&bd| Ok((bd, sum(&maps.bd_counters, "bd_counters", bd.0.into())?)));
        Ok(Self {
            drops: drops.collect::<Result<_, DataplaneError>>()?,
            paths: paths.collect::<Result<_, DataplaneError>>()?,
            stats: stats.collect::<Result<_, DataplaneError>>()?,
            ports: ports.collect::<Result<_, DataplaneError>>()?,
            bds: bds.collect::<Result<_, DataplaneError>>()?,
        })
    }
}

fn sum<V: Sum>(
    map: &PerCpuArray<MapData, V>,
    name: &'static str,
    index: u32,
) -> Result<V, DataplaneError> {
    let values = map.get(&index, 0).map_err(|error| DataplaneError::Map {
        map: name,
        reason: flat(&error),
    })?;
    let mut total = V::default();
    values.iter().for_each(|value| total.add(*value));
    Ok(total)
}

impl Sum for u64 {
    fn add(&mut self, other: Self) {
        *self = self.wrapping_add(other);
    }
}

impl Sum for Traffic {
    fn add(&mut self, other: Self) {
        self.packets.add(other.packets);
        self.bytes.add(other.bytes);
    }
}

impl Sum for PortCounters {
    fn add(&mut self, other: Self) {
        self.rx.add(other.rx);
        self.tx.add(other.tx);
        self.drops.add(other.drops);
    }
}

impl Sum for BdCounters {
    fn add(&mut self, other: Self) {
        self.suppressed_arp.add(other.suppressed_arp);
        self.suppressed_nd.add(other.suppressed_nd);
        self.flood_copies.add(other.flood_copies);
    }
}

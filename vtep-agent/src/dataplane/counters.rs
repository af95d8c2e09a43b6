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

/// Something that is counted per CPU, and from a moment on.
trait Sum: Pod + Default {
    fn add(&mut self, other: Self);
    /// Not below 0.
    fn subtract(&mut self, other: Self);
}

impl DatapathCounters {
    /// One of `stats`.
    pub fn stat(&self, stat: Stat) -> u64 {
        self.stats
            .iter()
            .find(|(other, _)| *other == stat)
            .map_or(0, |(_, count)| *count)
    }

    /// What has been counted since an earlier reading; what that does not have counts in full.
    fn since(mut self, earlier: &Self) -> Self {
        let pairs = self.drops.iter_mut().zip(&earlier.drops);
        pairs.for_each(|((_, count), (_, before))| count.subtract(*before));
        let pairs = self.paths.iter_mut().zip(&earlier.paths);
        pairs.for_each(|((_, traffic), (_, before))| traffic.subtract(*before));
        let pairs = self.stats.iter_mut().zip(&earlier.stats);
        pairs.for_each(|((_, count), (_, before))| count.subtract(*before));
        for (slot, before) in &earlier.ports {
            if let Some(counters) = self.ports.get_mut(slot) {
                counters.subtract(*before);
            }
        }
        for (bd, before) in &earlier.bds {
            if let Some(counters) = self.bds.get_mut(bd) {
                counters.subtract(*before);
            }
        }
        self
    }

    /// As [`DatapathCounters::read`], from the last [`Maps::clear_counters`] on.
    pub(super) fn read_cleared(maps: &Maps) -> Result<Self, DataplaneError> {
        Ok(Self::read(maps)?.since(&maps.cleared))
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

    fn subtract(&mut self, other: Self) {
        *self = self.saturating_sub(other);
    }
}

impl Sum for Traffic {
    fn add(&mut self, other: Self) {
        self.packets.add(other.packets);
        self.bytes.add(other.bytes);
    }

    fn subtract(&mut self, other: Self) {
        self.packets.subtract(other.packets);
        self.bytes.subtract(other.bytes);
    }
}

impl Sum for PortCounters {
    fn add(&mut self, other: Self) {
        self.rx.add(other.rx);
        self.tx.add(other.tx);
        self.drops.add(other.drops);
    }

    fn subtract(&mut self, other: Self) {
        self.rx.subtract(other.rx);
        self.tx.subtract(other.tx);
        self.drops.subtract(other.drops);
    }
}

impl Sum for BdCounters {
    fn add(&mut self, other: Self) {
        self.suppressed_arp.add(other.suppressed_arp);
        self.suppressed_nd.add(other.suppressed_nd);
        self.flood_copies.add(other.flood_copies);
    }

    fn subtract(&mut self, other: Self) {
        self.suppressed_arp.subtract(other.suppressed_arp);
        self.suppressed_nd.subtract(other.suppressed_nd);
        self.flood_copies.subtract(other.flood_copies);
    }
}

//! The rows: what is done in each, and what is counted.

mod cost;
mod neighbors;
mod packets;
mod tcp;

use std::time::Duration;

use anyhow::Result;

use crate::rig::{Rig, Setup, Variant};

/// A row of the benchmark, by its number on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Row {
    FromWire = 1,
    FromVm = 2,
    Tcp = 3,
    Neighbors = 4,
    Flood = 5,
    // 6 is the control plane's.
    BetweenVms = 7,
    Transactions = 8,
    Cost = 9,
    Tables = 10,
    // 11 is the control plane's.
    Domains = 12,
}

impl Row {
    pub(crate) const ALL: [Self; 10] = [
        Self::FromWire,
        Self::FromVm,
        Self::Tcp,
        Self::Neighbors,
        Self::Flood,
        Self::BetweenVms,
        Self::Transactions,
        Self::Cost,
        Self::Tables,
        Self::Domains,
    ];

    /// Its number.
    pub(crate) fn number(self) -> usize {
        self as usize
    }

    /// Whether it is measured in a setup.
    pub(crate) fn runs_in(self, setup: Setup) -> bool {
        match self {
            Self::FromWire => matches!(setup, Setup::Veth | Setup::VmXdp | Setup::Tap),
            Self::FromVm => matches!(setup, Setup::Veth | Setup::Tap),
            Self::Tcp => matches!(setup, Setup::Veth | Setup::VethTso | Setup::Tap),
            Self::Tables => setup == Setup::Tables,
            Self::Domains => setup == Setup::Domains,
            _ => setup == Setup::Veth,
        }
    }

    /// Whether there is something to measure of a variant.
    pub(crate) fn measures(self, variant: Variant) -> bool {
        let without_overlay = matches!(
            self,
            Self::FromWire | Self::FromVm | Self::Tcp | Self::Transactions
        );
        variant != Variant::Raw || without_overlay
    }

    /// One measurement: a value for each of the row's lines.
    pub(crate) fn measure(self, rig: &Rig, effort: &Effort) -> Result<Vec<Value>> {
        match self {
            Self::FromWire => packets::from_wire(rig, effort),
            Self::FromVm => packets::from_vm(rig, effort),
            Self::Tcp => tcp::bulk(rig, effort),
            Self::Neighbors => neighbors::measure(rig, effort),
            Self::Flood => packets::flood(rig, effort),
            Self::BetweenVms => packets::between_vms(rig, effort),
            Self::Transactions => tcp::transactions(rig, effort),
            Self::Cost => cost::measure(rig, effort),
            Self::Tables => packets::tables(rig, effort),
            Self::Domains => packets::domains(rig, effort),
        }
    }
}

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Alternations.
    pub(crate) rounds: usize,
    /// Length of one measurement with small packets.
    pub(crate) packets: Duration,
    /// Length of one of TCP, seconds.
    pub(crate) tcp: u32,
    /// Requests of one measurement.
    pub(crate) requests: usize,
}

impl Effort {
    pub(crate) const FULL: Self = Self {
        rounds: 4,
        packets: Duration::from_secs(1),
        tcp: 1,
        requests: 3000,
    };
    pub(crate) const QUICK: Self = Self {
        rounds: 3,
        packets: Duration::from_millis(300),
        tcp: 1,
        requests: 500,
    };
}

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    More,
    Less,
}

/// One number, and what it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Value {
    pub(crate) what: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    pub(crate) value: f64,
}

impl Value {
    fn more(what: &'static str, unit: &'static str, value: f64) -> Self {
        Self {
            what,
            unit,
            better: Better::More,
            value,
        }
    }

    fn less(what: &'static str, unit: &'static str, value: f64) -> Self {
        Self {
            better: Better::Less,
            ..Self::more(what, unit, value)
        }
    }
}

/// Times in order of length.
struct Times(Vec<Duration>);

impl Times {
    fn new(mut times: Vec<Duration>) -> Self {
        times.sort();
        Self(times)
    }

    /// The time that a share (0 to 1) of all stays below, in a unit.
    fn quantile(&self, share: f64, unit: Duration) -> f64 {
        let index = (self.0.len() as f64 * share) as usize;
        let time = self.0.get(index.min(self.0.len().saturating_sub(1)));
        time.map_or(f64::NAN, |time| time.as_secs_f64() / unit.as_secs_f64())
    }
}

const MICROSECOND: Duration = Duration::from_micros(1);

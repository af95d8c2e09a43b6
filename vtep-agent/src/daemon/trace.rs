//! `trace`: what the programs do with frames, as it happens, for one listener at a time.

use std::{collections::BTreeMap, net::Ipv6Addr};

use serde_json::Value;
use tokio::sync::mpsc;
use vtep_common::{
    DropReason, Mac,
    abi::{BdId, Fate, FdbFlags, NhGroup, Trace, TraceFilter, TraceProgram, VtepAddr},
};

use super::Daemon;
use crate::{
    control::{Answer, TraceRequest},
    core::CommandError,
    view,
};

/// Lines that a listener may be behind. It misses those that come then.
const BACKLOG: usize = 1024;

/// Who listens.
pub(super) struct Listener(mpsc::Sender<Value>);

/// Names of what records have numbers for.
struct Names {
    bds: BTreeMap<BdId, (String, u32)>,
    ports: BTreeMap<u32, String>,
    devices: BTreeMap<u32, String>,
}

impl Daemon {
    /// Has the programs send records from now on.
    pub(super) fn start_trace(&mut self, request: TraceRequest) -> Result<Answer, String> {
        self.end_trace_of_nobody();
        if self.listener.is_some() {
            return Err("another trace is running: end it first".to_owned());
        }
        let filter = self.trace_filter(&request)?;
        let (sender, lines) = mpsc::channel(BACKLOG);
        self.dataplane
            .set_trace(Some(filter))
            .map_err(|error| error.to_string())?;
        self.listener = Some(Listener(sender));
        Ok(Answer::Lines(lines))
    }

    /// Once a second: a listener that has gone may not have been sent anything.
    pub(super) fn end_trace_of_nobody(&mut self) {
        let gone = |listener: &mut Listener| listener.0.is_closed();
        if self.listener.take_if(gone).is_none() {
            return;
        }
        if let Err(error) = self.dataplane.set_trace(None) {
            tracing::warn!("cannot end the trace: {error}");
        }
    }

    /// Passes records on.
    pub(super) fn take_traces(&mut self, records: Vec<Trace>) {
        let names = self.names();
        let lines = records.into_iter().map(|record| self.line(&record, &names));
        let lines: Vec<_> = lines
            .filter_map(|line| serde_json::to_value(line).ok())
            .collect();
        if let Some(Listener(sender)) = &self.listener {
            // Full: it does not read. Closed: it is noticed within a second.
            lines
                .into_iter()
                .for_each(|line| drop(sender.try_send(line)));
        }
    }

    fn trace_filter(&self, request: &TraceRequest) -> Result<TraceFilter, String> {
        let mut filter = TraceFilter {
            mac: request.mac.map_or(0, Mac::to_bits),
            rate: request.rate,
            reason: match (request.reason, request.drops) {
                (Some(reason), _) => reason as u8,
                (None, true) => TraceFilter::ANY_DROP,
                (None, false) => 0,
            },
            ..TraceFilter::default()
        };
        if let Some(name) = &request.bd {
            let bds = self.core.bd_stats();
            let bd = bds.iter().find(|bd| bd.name == *name);
            let unknown = || CommandError::UnknownBd(name.clone()).to_string();
            filter.bd = bd.ok_or_else(unknown)?.id.0;
        }
        if let Some(device) = &request.port {
            let ports = self.core.ports(request.bd.as_ref());
            let ports = ports.map_err(|error| error.to_string())?;
            let of_device = ports.iter().filter(|port| port.name == device.as_str());
            let mut slots = of_device.filter_map(|port| port.slot);
            filter.slot = slots
                .next()
                .ok_or_else(|| format!("{device} is no port that is there: see `show ports`"))?;
            if slots.next().is_some() {
                return Err(format!("{device} is in several bridge domains: name one"));
            }
        }
        Ok(filter)
    }

    fn names(&self) -> Names {
        let bds = self.core.bds(None).unwrap_or_default();
        let vnis: BTreeMap<_, _> = bds.into_iter().map(|bd| (bd.name, bd.vni)).collect();
        let of_bd = |bd: crate::core::BdStats| {
            let name = bd.name.to_string();
            let vni = vnis.get(&name).copied().unwrap_or_default();
            (bd.id, (name, vni))
        };
        let ports = self.core.ports(None).unwrap_or_default();
        let uplinks = self.core.uplinks();
        Names {
            bds: self.core.bd_stats().into_iter().map(of_bd).collect(),
            devices: uplinks
                .into_iter()
                .filter_map(|uplink| Some((uplink.ifindex?, uplink.name)))
                .chain(
                    ports
                        .iter()
                        .filter_map(|port| Some((port.ifindex?, port.name.clone()))),
                )
                .collect(),
            ports: ports
                .into_iter()
                .filter_map(|port| Some((port.slot?, port.name)))
                .collect(),
        }
    }

    fn line(&self, record: &Trace, names: &Names) -> view::TracedFrame {
        let (verdict, path) = match Fate::from_code(record.fate.into()) {
            Some(Fate::Dropped) => ("dropped", None),
            Some(Fate::Passed) => ("passed", None),
            Some(Fate::Answered) => ("answered", None),
            Some(Fate::Agent) => ("agent", None),
            Some(Fate::Took(path)) => {
                let path = match path.direction() {
                    same if same == path.name() => same.to_owned(),
                    direction => format!("{direction}_{}", path.name()),
                };
                ("forwarded", Some(path))
            }
            Some(Fate::NotOurs) | None => ("unknown", None),
        };
        let reason = DropReason::ALL
            .iter()
            .find(|reason| **reason as u8 == record.reason);
        let bd = names.bds.get(&record.bd.bd);
        let (lookup, target) = self.lookup(record, names);
        let address = record.outer_source_be.to_ne_bytes();
        view::TracedFrame {
            program: program(record.program).to_owned(),
            device: names.devices.get(&record.ifindex).cloned(),
            verdict: verdict.to_owned(),
            path,
            reason: reason.map(|reason| reason.name().to_owned()),
            bd: bd.map(|(name, _)| name.clone()),
            vni: match record.vni {
                0 => bd.map(|(_, vni)| *vni),
                vni => Some(vni),
            },
            port: names.ports.get(&record.slot).cloned(),
            vtep: (record.outer_source_be != 0).then(|| address.into()),
            source: Mac::from_bits(record.source).to_string(),
            destination: Mac::from_bits(record.destination).to_string(),
            ethertype: format!("{:#06x}", u16::from_be(record.ethertype_be)),
            vlan: (record.vlan != 0).then_some(record.vlan),
            length: record.length,
            lookup: lookup.to_owned(),
            target,
        }
    }

    /// What the table of MACs said of the destination, and where that is.
    fn lookup(&self, record: &Trace, names: &Names) -> (&'static str, Option<String>) {
        let word = record.word;
        let flags = word.flags();
        if record.destination & 1 != 0 {
            ("group", None)
        } else if word.0 == 0 {
            ("unknown", None)
        } else if word.bd() != record.bd {
            ("stale", None)
        } else if flags.has(FdbFlags::BLACK_HOLE) {
            ("black_hole", None)
        } else if flags.has(FdbFlags::LOCAL) {
            ("port", names.ports.get(&word.target()).cloned())
        } else {
            ("vtep", self.vteps_of(word.target()))
        }
    }

    /// Addresses of the VTEPs that a next-hop group has.
    fn vteps_of(&self, group: u32) -> Option<String> {
        let intent = self.core.intent();
        let NhGroup { members, count, .. } = intent.groups.get(group)?;
        let members = members.iter().take(usize::from(*count));
        let vteps = members.filter_map(|member| intent.vteps.get(member.vtep));
        let addresses = vteps.map(|vtep| {
            let VtepAddr(bytes) = vtep.address;
            Ipv6Addr::from(bytes).to_canonical().to_string()
        });
        Some(addresses.collect::<Vec<_>>().join(","))
    }
}

const fn program(number: u8) -> &'static str {
    match number {
        n if n == TraceProgram::Access as u8 => "access_tc",
        n if n == TraceProgram::UnderlayXdp as u8 => "underlay_xdp",
        n if n == TraceProgram::Underlay as u8 => "underlay_tc",
        n if n == TraceProgram::Overlay as u8 => "overlay_tc",
        _ => "unknown",
    }
}

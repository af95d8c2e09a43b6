//! Addresses that VMs get from DHCP servers, learned from the servers' answers.
//!
//! An answer counts when a VM of ours asked for it, from the port that the answer goes to: with the same
//! transaction, of late, and only the first one. Then it says no more than what the VM is about to do,
//! and nobody can put an address on a VM that wants none (the idea of RFC 7513, SAVI-DHCP). What it gives
//! is a learned binding like those of ARP and ND: a declared one wins, conflicts are conflicts, and it is
//! confirmed by its owner within the ageing time. A lease that is over, or that the VM gives back, ends it.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use smallvec::SmallVec;
use vtep_common::wire::dhcp::{Fault, Kind, Lease, Message};

use super::{BridgeDomain, is_host_address};
use crate::{
    bgp::wire::ArpNd,
    evpn::Slot,
    types::{Mac, hash::HashMap},
};

/// How long an answer may take (RFC 7513 §11.2, MAX_DHCP_RESPONSE_TIME).
const PATIENCE: Duration = Duration::from_secs(120);

/// Most transactions that one VM has at a time, for each IP version.
const MOST: usize = 8;

/// Why an address in a message is not taken, or the message is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DhcpRefusal {
    /// A fragment.
    Fragment,
    /// Longer than what is looked at.
    Cut,
    /// Not a message that a client would understand, or from the wrong side.
    Malformed,
    /// An address without a lease time.
    NoLease,
    /// A VM speaks for another's MAC, or is told of one that is not behind its port.
    Foreign,
    /// Nobody behind that port has asked for it.
    Unsolicited,
    /// Not an address that a host can have.
    Address,
    /// Others are declared for that VM, and are all that it may use.
    Declared,
    /// It is declared or held elsewhere, or the VM has too many.
    Conflict,
}

/// What DHCP has brought since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DhcpCounts {
    /// Addresses learned.
    pub bound: u64,
    /// Leases renewed.
    pub renewed: u64,
    /// Addresses that VMs gave back.
    pub released: u64,
    /// Addresses that VMs found to be another's.
    pub declined: u64,
    /// Leases that ended.
    pub expired: u64,
    /// What was not taken, by the order of [`DhcpRefusal::ALL`].
    refused: [u64; DhcpRefusal::ALL.len()],
}

/// What is under way in one bridge domain.
#[derive(Debug, Default)]
pub(super) struct Dhcp {
    /// By client, and whether it is DHCPv6.
    open: HashMap<(Mac, bool), SmallVec<[Transaction; 1]>>,
    /// How many clients there may be before those are looked for that got no answer.
    room: usize,
    counts: DhcpCounts,
}

#[derive(Clone, Copy, Debug)]
struct Transaction {
    id: u32,
    slot: Slot,
    since: Instant,
}

impl BridgeDomain {
    /// A VM behind a port of ours said something to DHCP servers. `mac` is the frame's source.
    pub fn dhcp_sent(&mut self, mac: Mac, slot: Slot, packet: &[u8], now: Instant) {
        let Some(message) = self.read_dhcp(packet) else {
            return;
        };
        if !self.is_behind(mac, slot) || message.client.is_some_and(|client| client != mac) {
            return self.dhcp.refuse(DhcpRefusal::Foreign);
        }
        match message.kind {
            Kind::Request => self.dhcp.open(mac, &message, slot, now),
            Kind::Release => {
                for lease in message.leases.iter() {
                    self.dhcp.counts.released += u64::from(self.give_back(mac, lease.address, now));
                }
            }
            Kind::Decline => {
                for lease in message.leases.iter() {
                    self.dhcp.counts.declined += u64::from(self.give_back(mac, lease.address, now));
                }
            }
            Kind::Reply => self.dhcp.refuse(DhcpRefusal::Malformed),
            Kind::Other => {}
        }
    }

    /// A DHCP server's words for a VM: `mac` is the frame's destination. `to` is the port that it goes
    /// to, `None` for all but the one that it came from, which is `from`; `None` there is the overlay.
    pub fn dhcp_delivered(
        &mut self,
        mac: Mac,
        to: Option<Slot>,
        from: Option<Slot>,
        packet: &[u8],
        now: Instant,
    ) {
        let Some(message) = self.read_dhcp(packet) else {
            return;
        };
        match message.kind {
            Kind::Reply if message.leases.is_empty() => {}
            Kind::Reply => {
                let client = message.client.unwrap_or(mac);
                let slot = self.macs.local(client).map(|local| local.slot);
                let slot = slot.filter(|slot| match to {
                    Some(to) => *slot == to,
                    None => Some(*slot) != from,
                });
                let Some(slot) = slot else {
                    // Of the copies that everybody gets, most are for clients elsewhere.
                    if to.is_some() {
                        self.dhcp.refuse(DhcpRefusal::Foreign);
                    }
                    return;
                };
                if !self.dhcp.close(client, &message, slot, now) {
                    return self.dhcp.refuse(DhcpRefusal::Unsolicited);
                }
                for lease in message.leases.iter() {
                    self.take_lease(client, slot, lease, now);
                }
            }
            Kind::Other => {}
            Kind::Request | Kind::Release | Kind::Decline => {
                self.dhcp.refuse(DhcpRefusal::Malformed);
            }
        }
    }

    /// What DHCP has brought since the start.
    pub fn dhcp_counts(&self) -> DhcpCounts {
        self.dhcp.counts
    }

    /// A lease is over: who goes on to use the address will say so when asked.
    pub(super) fn end_leases(&mut self, now: Instant) {
        for (mac, ip) in self.neighbors.take_ended(now) {
            tracing::debug!(bd = %self.config.name, %mac, %ip, "DHCP lease is over");
            self.dhcp.counts.expired += 1;
            if let Some(local) = self.macs.local(mac) {
                self.probes.ask(mac, ip, local.slot, now);
            }
        }
    }

    fn read_dhcp(&mut self, packet: &[u8]) -> Option<Message> {
        match Message::parse(packet) {
            Ok(message) => Some(message),
            Err(fault) => {
                self.dhcp.refuse(fault.into());
                None
            }
        }
    }

    fn is_behind(&self, mac: Mac, slot: Slot) -> bool {
        self.macs.local(mac).is_some_and(|local| local.slot == slot)
    }

    fn take_lease(&mut self, mac: Mac, slot: Slot, lease: Lease, now: Instant) {
        let ip = lease.address;
        if lease.seconds == Some(0) {
            self.dhcp.counts.expired += u64::from(self.give_back(mac, ip, now));
            return;
        }
        if !is_host_address(ip) {
            return self.dhcp.refuse(DhcpRefusal::Address);
        }
        if let Some(declared) = self.declared.get(&mac) {
            if declared.contains(&ip) {
                return;
            }
            // The VM could not use it.
            if self.config.source_filter && !declared.is_empty() {
                return self.dhcp.refuse(DhcpRefusal::Declared);
            }
        }
        // What the VM has said of itself says more.
        let mut known = self.neighbors.of_local(mac).filter(|(of, _)| *of == ip);
        let flags = known.next().map_or(
            ArpNd {
                override_: ip.is_ipv6(),
                ..ArpNd::default()
            },
            |(_, binding)| binding.flags,
        );
        drop(known);
        self.bind(mac, slot, ip, flags, now);
        if !self.neighbors.is_learned(mac, ip) {
            return self.dhcp.refuse(DhcpRefusal::Conflict);
        }
        let renewed = self.neighbors.lease(ip, mac).is_some();
        let end = lease.seconds.and_then(|seconds| {
            let seconds = Duration::from_secs(seconds.into());
            now.checked_add(seconds)
        });
        self.neighbors.set_lease(ip, mac, end);
        if renewed {
            self.dhcp.counts.renewed += 1;
        } else {
            tracing::debug!(bd = %self.config.name, %mac, %ip, "address learned from DHCP");
            self.dhcp.counts.bound += 1;
        }
    }

    /// The VM has the address no more; whether it was known from DHCP. One that the VM itself has shown
    /// to be its own is asked for.
    fn give_back(&mut self, mac: Mac, ip: IpAddr, now: Instant) -> bool {
        let leased = self.neighbors.lease(ip, mac).is_some();
        if leased {
            self.neighbors.unbind(ip, mac);
            self.probes.forget(mac, ip);
            self.macs.touch(mac);
        } else if self.neighbors.is_learned(mac, ip)
            && let Some(local) = self.macs.local(mac)
        {
            self.probes.ask(mac, ip, local.slot, now);
        }
        leased
    }
}

impl Dhcp {
    /// A client waits for an answer.
    fn open(&mut self, client: Mac, message: &Message, slot: Slot, now: Instant) {
        if self.open.len() >= self.room {
            self.open.retain(|_, transactions| {
                transactions.retain(|transaction| transaction.waits(now));
                !transactions.is_empty()
            });
            self.room = (self.open.len() * 2).max(64);
        }
        let transactions = self.open.entry((client, message.v6)).or_default();
        transactions
            .retain(|transaction| transaction.waits(now) && transaction.id != message.transaction);
        if transactions.len() >= MOST {
            transactions.remove(0);
        }
        transactions.push(Transaction {
            id: message.transaction,
            slot,
            since: now,
        });
    }

    /// The client has its answer; whether it waited for one.
    fn close(&mut self, client: Mac, message: &Message, slot: Slot, now: Instant) -> bool {
        let key = (client, message.v6);
        let Some(transactions) = self.open.get_mut(&key) else {
            return false;
        };
        let before = transactions.len();
        transactions.retain(|transaction| {
            !(transaction.id == message.transaction
                && transaction.slot == slot
                && transaction.waits(now))
        });
        let closed = transactions.len() < before;
        if transactions.is_empty() {
            self.open.remove(&key);
        }
        closed
    }

    fn refuse(&mut self, reason: DhcpRefusal) {
        if let Some(count) = self.counts.refused.get_mut(reason as usize) {
            *count += 1;
        }
    }
}

impl Transaction {
    fn waits(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) < PATIENCE
    }
}

impl DhcpRefusal {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Fragment,
        Self::Cut,
        Self::Malformed,
        Self::NoLease,
        Self::Foreign,
        Self::Unsolicited,
        Self::Address,
        Self::Declared,
        Self::Conflict,
    ];

    /// In lower case, with underscores.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fragment => "fragment",
            Self::Cut => "cut",
            Self::Malformed => "malformed",
            Self::NoLease => "no_lease",
            Self::Foreign => "foreign",
            Self::Unsolicited => "unsolicited",
            Self::Address => "address",
            Self::Declared => "declared",
            Self::Conflict => "conflict",
        }
    }
}

impl DhcpCounts {
    /// What became of bindings, with names.
    pub fn bindings(&self) -> [(&'static str, u64); 5] {
        [
            ("bound", self.bound),
            ("renewed", self.renewed),
            ("released", self.released),
            ("declined", self.declined),
            ("expired", self.expired),
        ]
    }

    /// What was not taken, with names.
    pub fn refused(&self) -> [(&'static str, u64); DhcpRefusal::ALL.len()] {
        DhcpRefusal::ALL.map(|reason| {
            let count = self.refused.get(reason as usize);
            (reason.name(), count.copied().unwrap_or(0))
        })
    }
}

impl From<Fault> for DhcpRefusal {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Fragment => Self::Fragment,
            Fault::Cut => Self::Cut,
            Fault::Malformed => Self::Malformed,
            Fault::NoLease => Self::NoLease,
        }
    }
}

//! What may happen, as the fuzzer's bytes choose it.

use std::{net::Ipv4Addr, time::Duration};

use arbitrary::Arbitrary;
use vtep_agent::{
    bgp::{
        fsm::{Cease, Restart, Settings},
        wire::{AddPath, Capability, Family, GracefulRestart, LongLivedFamily, Open},
    },
    config::{PeerAsn, UpdateChecks},
    types::{Asn, Families},
};

const LOCAL_ASN: Asn = Asn(65000);
const OTHER_ASN: Asn = Asn(4_200_000_000);
const ROUTER_ID: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);

/// How the machine is configured.
#[derive(Arbitrary, Debug)]
pub(super) struct Setup {
    hold_time: HoldTime,
    send_hold_time: Option<u8>,
    peer_asn: Option<bool>,
    switches: u8,
    pub(super) seed: u8,
}

/// Hold times that OPEN may carry.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum HoldTime {
    None,
    Shortest,
    Usual,
    Longest,
    Other(u16),
}

impl HoldTime {
    fn seconds(self) -> u16 {
        match self {
            Self::None => 0,
            Self::Shortest => 3,
            Self::Usual => 90,
            Self::Longest => u16::MAX,
            // One and two are refused by the codec.
            Self::Other(seconds) => seconds.max(3),
        }
    }
}

impl Setup {
    pub(super) fn settings(&self) -> Settings {
        let switch = |bit: u8| self.switches & 1 << bit != 0;
        Settings {
            local_asn: LOCAL_ASN,
            local_as: None,
            router_id: ROUTER_ID,
            peer_address: [10, 0, 0, 20].into(),
            peer_asn: match self.peer_asn {
                None => PeerAsn::Is(LOCAL_ASN),
                Some(false) => PeerAsn::Internal,
                Some(true) => PeerAsn::External,
            },
            families: Families {
                evpn: !switch(7),
                ipv4: switch(7) || switch(5),
                ipv6: switch(3),
            },
            rt_constraint: switch(5),
            add_path: switch(6),
            needs_path: false,
            hold_time: Duration::from_secs(self.hold_time.seconds().into()),
            // Longer than the hold time, as the configuration demands (RFC 9687 §4.4).
            send_hold_time: self.send_hold_time.map(|seconds| match seconds {
                0 => Duration::ZERO,
                _ => Duration::from_secs(u64::from(self.hold_time.seconds()) + u64::from(seconds)),
            }),
            extended_messages: switch(0),
            graceful_restart: switch(1),
            restart_time: Duration::from_secs(120),
            long_lived: switch(2).then_some(Duration::from_secs(3600)),
            unicast_restart: switch(2),
            checks: UpdateChecks::default(),
            restart: Restart {
                restarting: switch(3),
                forwarding_preserved: switch(4),
            },
            allowas_in: 0,
            route_reflector_client: switch(2),
            shutdown: switch(3) && switch(4) && switch(5),
            passive: switch(6),
        }
    }
}

/// One event. Connections count backwards from the newest.
#[derive(Arbitrary, Debug)]
pub(super) enum Step {
    Connected { incoming: bool },
    ConnectFailed,
    Disconnected(Back),
    Open(Back, PeerOpen),
    Keepalive(Back),
    Bytes(Back, Vec<u8>),
    Frame(Back, u8, Vec<u8>),
    Wait(u16),
    Leap(u16),
    UpdateSent,
    Taken(Back),
    Stalled,
    Stop(Reason),
    Reset(Reason),
    Start,
    Settled,
    Path(u8),
}

/// Which connection.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) struct Back(u8);

impl Back {
    /// A number from 0 to 3.
    pub(super) fn connections(self) -> u64 {
        u64::from(self.0 & 3)
    }
}

/// What the peer's OPEN says.
#[derive(Arbitrary, Debug)]
pub(super) struct PeerOpen {
    hold_time: HoldTime,
    router_id: u8,
    restart_time: u8,
    switches: u8,
}

impl PeerOpen {
    pub(super) fn open(&self) -> Open {
        let switch = |bit: u8| self.switches & 1 << bit != 0;
        let asn = if switch(0) { OTHER_ASN } else { LOCAL_ASN };
        let mut capabilities = vec![Capability::FourOctetAs(asn)];
        // Mostly there: nothing happens without it.
        if !(switch(1) && switch(2)) {
            capabilities.push(Capability::Multiprotocol(Family::EVPN));
        }
        if switch(2) {
            capabilities.push(Capability::Multiprotocol(Family::IPV4_UNICAST));
        }
        if switch(3) {
            capabilities.push(Capability::RouteRefresh);
            capabilities.push(Capability::EnhancedRouteRefresh);
        }
        if switch(4) {
            capabilities.push(Capability::ExtendedMessage);
        }
        if switch(6) {
            capabilities.push(Capability::AddPath(vec![AddPath {
                family: Family::EVPN,
                mode: AddPath::SEND,
            }]));
        }
        if switch(5) {
            capabilities.push(Capability::GracefulRestart(GracefulRestart {
                restarting: switch(1),
                notification: switch(6),
                restart_time: self.restart_time.into(),
                families: vec![(Family::EVPN, switch(7))],
            }));
            capabilities.push(Capability::LongLivedGracefulRestart(vec![
                LongLivedFamily {
                    family: Family::EVPN,
                    forwarding: switch(7),
                    stale_time: self.restart_time.into(),
                },
            ]));
        }
        Open {
            asn,
            hold_time: self.hold_time.seconds(),
            // Below, equal to and above ours.
            router_id: Ipv4Addr::new(10, 0, 0, self.router_id % 20 + 1),
            capabilities,
        }
    }
}

/// Why an operator ends a session.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum Reason {
    Shutdown,
    Deconfigured,
    ConfigChange,
    MaxPrefixes,
    OutOfResources,
}

impl Reason {
    pub(super) fn cease(self) -> Cease {
        match self {
            Self::Shutdown => Cease::Shutdown("maintenance".to_owned()),
            Self::Deconfigured => Cease::Deconfigured,
            Self::ConfigChange => Cease::ConfigChange,
            Self::MaxPrefixes => Cease::MaxPrefixes(Family::EVPN, 10),
            Self::OutOfResources => Cease::OutOfResources,
        }
    }
}

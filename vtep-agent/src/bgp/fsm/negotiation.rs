//! What our OPEN says, and what becomes of the peer's (RFC 4271 §6.2, RFC 5492, RFC 6286,
//! RFC 6793).

use std::time::Duration;

use super::{
    Refusal, Settings,
    graceful::{self, Graceful, Restart},
};
use crate::{
    bgp::{
        peer::Session,
        wire::{
            AddPath, Capability, Context, EXTENDED_MAX_LEN, ExtendedNextHop, Family, MAX_LEN, Open,
        },
    },
    config::PeerAsn,
    types::{Asn, Families},
};

/// What both sides agreed on.
#[derive(Clone, Debug)]
pub struct Negotiated {
    /// For the core.
    pub session: Session,
    /// The smaller of both hold times; zero: no keepalives, no hold timer (RFC 4271 §4.2).
    pub hold_time: Duration,
    /// The peer takes ROUTE-REFRESH (RFC 2918).
    pub route_refresh: bool,
    /// The peer's name.
    pub hostname: Option<String>,
    /// Longest message that the peer takes, in octets.
    pub max_len: usize,
    /// Graceful restart, if both sent the capability.
    pub graceful: Option<Graceful>,
    /// How to read its messages and write ours.
    pub context: Context,
}

impl Negotiated {
    /// Names of the optional capabilities that both sides have.
    pub fn capabilities(&self) -> Vec<&'static str> {
        [
            ("four_octet_as", self.context.four_octet_as),
            ("route_refresh", self.route_refresh),
            ("enhanced_route_refresh", self.context.enhanced_refresh),
            ("extended_message", self.max_len > MAX_LEN),
            ("graceful_restart", self.graceful.is_some()),
            ("extended_next_hop", self.session.extended_next_hop),
            ("long_lived_graceful_restart", self.session.long_lived),
            ("rt_constraint", self.context.rt_constraint),
            ("add_path", self.context.add_path),
        ]
        .into_iter()
        .filter_map(|(name, both)| both.then_some(name))
        .collect()
    }
}

/// Our OPEN.
pub(super) fn open(settings: &Settings, restart: Restart) -> Open {
    let mut capabilities: Vec<_> = multiprotocol(settings.families).collect();
    capabilities.extend([
        Capability::RouteRefresh,
        Capability::EnhancedRouteRefresh,
        Capability::FourOctetAs(settings.known_asn()),
    ]);
    if offers_extended_next_hop(settings) {
        capabilities.push(Capability::ExtendedNextHop(vec![IPV6_NEXT_HOP]));
    }
    if settings.rt_constraint && settings.families.evpn {
        capabilities.push(Capability::Multiprotocol(Family::RTC));
    }
    if settings.add_path && settings.families.evpn {
        capabilities.push(Capability::AddPath(vec![AddPath {
            family: Family::EVPN,
            mode: AddPath::RECEIVE,
        }]));
    }
    if settings.extended_messages {
        capabilities.push(Capability::ExtendedMessage);
    }
    capabilities.extend(graceful::capabilities(settings, restart));
    Open {
        asn: settings.known_asn(),
        hold_time: u16::try_from(settings.hold_time.as_secs()).unwrap_or(u16::MAX),
        router_id: settings.router_id,
        capabilities,
    }
}

/// Judges the peer's OPEN, in which the codec has already checked what doesn't depend on us.
///
/// # Errors
///
/// What doesn't fit.
pub(super) fn negotiate(settings: &Settings, open: &Open) -> Result<Negotiated, Refusal> {
    let asn = open.asn;
    let internal = asn == settings.known_asn();
    let expected = match settings.peer_asn {
        PeerAsn::Is(configured) => asn == configured,
        PeerAsn::Internal => internal,
        PeerAsn::External => !internal,
    };
    if !expected {
        return Err(Refusal::PeerAs {
            says: asn,
            expected: settings.peer_asn,
        });
    }
    // RFC 6286 §2.2: external peers may share an identifier.
    if internal && open.router_id == settings.router_id {
        return Err(Refusal::OurIdentifier(open.router_id));
    }
    let families = settings.families.and(families(open));
    if families.is_empty() {
        return Err(Refusal::NoFamily {
            ours: Family::all_of(settings.families).collect(),
            theirs: all_families(open),
        });
    }
    let rtc = Capability::Multiprotocol(Family::RTC);
    let rt_constraint = settings.rt_constraint && families.evpn && open.capabilities.contains(&rtc);
    let graceful = graceful::negotiate(settings, open, families);
    let long_lived = graceful.and_then(|peer| peer.long_lived);
    Ok(Negotiated {
        session: Session {
            graceful_restart: graceful.is_some(),
            forwarding_preserved: graceful.is_some_and(|peer| peer.forwarding_preserved),
            long_lived: long_lived.is_some(),
            long_lived_forwarding_preserved: long_lived
                .is_some_and(|peer| peer.forwarding_preserved),
            restarting: graceful.is_some_and(|peer| peer.restarting),
            rt_constraint,
            local_as: settings.local_as,
            allowas_in: settings.allowas_in,
            route_reflector_client: settings.route_reflector_client && internal,
            families,
            extended_next_hop: offers_extended_next_hop(settings) && takes_extended_next_hop(open),
            ..Session::new(settings.peer_address, asn, open.router_id, internal)
        },
        graceful,
        hold_time: settings
            .hold_time
            .min(Duration::from_secs(open.hold_time.into())),
        route_refresh: open.capabilities.contains(&Capability::RouteRefresh),
        hostname: open.hostname(),
        max_len: match settings.extended_messages
            && open.capabilities.contains(&Capability::ExtendedMessage)
        {
            true => EXTENDED_MAX_LEN,
            false => MAX_LEN,
        },
        context: Context {
            families,
            rt_constraint,
            add_path: settings.add_path && families.evpn && sends_several_paths(open),
            enhanced_refresh: open
                .capabilities
                .contains(&Capability::EnhancedRouteRefresh),
            ..context(settings, asn, four_octet_as(open))
        },
    })
}

/// How messages are read before the peer's OPEN: none of them depends on it.
pub(super) fn before_open(settings: &Settings) -> Context {
    context(settings, settings.known_asn(), false)
}

fn multiprotocol(families: Families) -> impl Iterator<Item = Capability> {
    Family::all_of(families).map(Capability::Multiprotocol)
}

/// What the peer's OPEN lists; one that lists nothing has IPv4 unicast (RFC 4760 §8).
fn all_families(open: &Open) -> Vec<Family> {
    let listed = open
        .capabilities
        .iter()
        .filter_map(|capability| match capability {
            Capability::Multiprotocol(family) => Some(*family),
            _ => None,
        });
    let listed: Vec<_> = listed.collect();
    match listed.is_empty() {
        true => vec![Family::IPV4_UNICAST],
        false => listed,
    }
}

/// Those that we know.
fn families(open: &Open) -> Families {
    let all = all_families(open);
    Families {
        evpn: all.contains(&Family::EVPN),
        ipv4: all.contains(&Family::IPV4_UNICAST),
        ipv6: all.contains(&Family::IPV6_UNICAST),
    }
}

/// IPv4 routes with an IPv6 next hop (RFC 8950 §4).
const IPV6_NEXT_HOP: ExtendedNextHop = ExtendedNextHop {
    afi: 1,
    safi: 1,
    next_hop_afi: 2,
};

/// A session between IPv4 addresses has IPv4 next hops; elsewhere there may be no others.
fn offers_extended_next_hop(settings: &Settings) -> bool {
    settings.families.ipv4 && settings.peer_address.is_ipv6()
}

fn takes_extended_next_hop(open: &Open) -> bool {
    open.capabilities.iter().any(|capability| {
        matches!(capability, Capability::ExtendedNextHop(tuples) if tuples.contains(&IPV6_NEXT_HOP))
    })
}

/// Of several capabilities the last counts (RFC 5492 §4 leaves it open, RFC 7911 §4 wants one); a
/// tuple with another mode is void.
fn sends_several_paths(open: &Open) -> bool {
    let tuples = |capability: &Capability| match capability {
        Capability::AddPath(tuples) => Some(tuples.clone()),
        _ => None,
    };
    let tuples = open.capabilities.iter().rev().find_map(tuples);
    let evpn = |tuple: &AddPath| {
        tuple.family == Family::EVPN && matches!(tuple.mode, AddPath::SEND | AddPath::BOTH)
    };
    tuples.is_some_and(|tuples| tuples.iter().any(evpn))
}

/// We always send the capability, so the peer's decides (RFC 6793 §4.1).
fn four_octet_as(open: &Open) -> bool {
    let sent = |capability: &Capability| matches!(capability, Capability::FourOctetAs(_));
    open.capabilities.iter().any(sent)
}

fn context(settings: &Settings, peer_asn: Asn, four_octet_as: bool) -> Context {
    Context {
        four_octet_as,
        internal: peer_asn == settings.known_asn(),
        peer_asn,
        strict_nlri: settings.checks.strict_nlri,
        enforce_first_as: settings.checks.enforce_first_as,
        accept_as_sets: settings.checks.accept_as_sets,
        ..Context::default()
    }
}

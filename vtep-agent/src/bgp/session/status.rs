//! What can be seen of a session from outside.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use crate::{
    bgp::{
        fsm::{Graceful, Negotiated, Settings, State},
        wire::{MessageType, Outcome},
    },
    config::PeerAsn,
    types::{Asn, Families, LocalAs, PeerId, PeerName},
};

/// A snapshot of a session. Counters run from the peer's configuration on, over all its
/// connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Which peer.
    pub peer: PeerId,
    /// What it is known by.
    pub name: PeerName,
    /// Its address; of a peer behind an interface the link-local one, once it is known.
    pub address: Option<IpAddr>,
    /// It is nowhere configured but came from a prefix that may.
    pub dynamic: bool,
    /// State of its session.
    pub state: State,
    /// Since when it is Established.
    pub established_since: Option<Instant>,
    /// Its AS; `None` for an external peer that was never up.
    pub asn: Option<Asn>,
    /// The AS as which it knows us; `None`: our own.
    pub local_as: Option<LocalAs>,
    /// Its BGP identifier: of the session, or of the last one.
    pub router_id: Option<Ipv4Addr>,
    /// The name that it gave itself.
    pub hostname: Option<String>,
    /// Negotiated hold time of the session; zero for none.
    pub hold_time: Option<Duration>,
    /// Families of the session; none without one.
    pub families: Families,
    /// Capabilities that both sides of the session have, by the names of [`Negotiated`].
    pub capabilities: Vec<&'static str>,
    /// How long the peer's routes are kept while it restarts; also after the session.
    pub restart_time: Option<Duration>,
    /// All that the peer said of graceful restart; also after the session.
    pub graceful: Option<Graceful>,
    /// Why the session last went down or could not come up, or the last malformed UPDATE.
    pub last_error: Option<String>,
    /// Messages received.
    pub received: MessageCounts,
    /// Messages sent.
    pub sent: MessageCounts,
    /// Errors in UPDATEs that didn't end the session, by what was done about them (RFC 7606 §2).
    pub update_errors: BTreeMap<Outcome, u64>,
    /// Bytes of messages received.
    pub bytes_received: u64,
    /// Bytes of messages sent.
    pub bytes_sent: u64,
}

impl PeerStatus {
    pub(super) fn new(peer: PeerId, name: PeerName, dynamic: bool, settings: &Settings) -> Self {
        Self {
            peer,
            address: name.address(),
            name,
            dynamic,
            state: State::Idle,
            established_since: None,
            asn: match settings.peer_asn {
                PeerAsn::Is(asn) => Some(asn),
                PeerAsn::Internal => Some(settings.known_asn()),
                PeerAsn::External => None,
            },
            local_as: settings.local_as,
            router_id: None,
            hostname: None,
            hold_time: None,
            families: Families::NONE,
            capabilities: Vec::new(),
            restart_time: None,
            graceful: None,
            last_error: settings
                .shutdown
                .then(|| "shut down by the configuration".to_owned()),
            received: MessageCounts::default(),
            sent: MessageCounts::default(),
            update_errors: BTreeMap::new(),
            bytes_received: 0,
            bytes_sent: 0,
        }
    }

    /// Takes over what a session that came up agreed on.
    pub(super) fn negotiated(&mut self, negotiated: &Negotiated) {
        self.asn = Some(negotiated.session.asn);
        self.router_id = Some(negotiated.session.router_id);
        self.hostname.clone_from(&negotiated.hostname);
        self.families = negotiated.session.families;
        self.capabilities = negotiated.capabilities();
        self.graceful = negotiated.graceful;
        let graceful = negotiated.graceful.filter(|graceful| graceful.evpn);
        self.restart_time = graceful.map(|graceful| graceful.restart_time);
    }

    /// Time in Established.
    pub fn uptime(&self, now: Instant) -> Option<Duration> {
        self.established_since
            .map(|since| now.saturating_duration_since(since))
    }
}

/// Messages by type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageCounts {
    /// OPEN.
    pub open: u64,
    /// UPDATE.
    pub update: u64,
    /// NOTIFICATION.
    pub notification: u64,
    /// KEEPALIVE.
    pub keepalive: u64,
    /// ROUTE-REFRESH.
    pub route_refresh: u64,
}

impl MessageCounts {
    /// Name, as metrics have it, and count.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        [
            ("open", self.open),
            ("update", self.update),
            ("notification", self.notification),
            ("keepalive", self.keepalive),
            ("route_refresh", self.route_refresh),
        ]
        .into_iter()
    }

    pub(super) fn count(&mut self, kind: MessageType) {
        let counter = match kind {
            MessageType::Open => &mut self.open,
            MessageType::Update => &mut self.update,
            MessageType::Notification => &mut self.notification,
            MessageType::Keepalive => &mut self.keepalive,
            MessageType::RouteRefresh => &mut self.route_refresh,
        };
        *counter += 1;
    }
}

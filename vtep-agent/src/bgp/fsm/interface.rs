//! What goes into the machine and what comes out.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use super::{Cause, Cease, ConnectionId, Direction, Negotiated, Restart};
use crate::{
    bgp::{
        peer::Retention,
        wire::{Family, Message, Notification, Update},
    },
    config::{PeerAsn, UpdateChecks},
    types::{Asn, Families, Liveness, LocalAs},
};

/// What the machine has to know of both sides.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Our AS.
    pub local_asn: Asn,
    /// The AS as which the peer knows us; `None`: our own.
    pub local_as: Option<LocalAs>,
    /// Our BGP identifier, not 0.
    pub router_id: Ipv4Addr,
    /// The peer's address: of the session, where the peer is known by an interface.
    pub peer_address: IpAddr,
    /// The AS that the peer must have.
    pub peer_asn: PeerAsn,
    /// Families that we offer.
    pub families: Families,
    /// The hold time that we propose: zero or at least 3 s (RFC 4271 §4.2).
    pub hold_time: Duration,
    /// How long the peer may take nothing of what it is sent (RFC 9687); zero: for ever; `None`:
    /// twice the negotiated hold time, and at least 8 minutes.
    pub send_hold_time: Option<Duration>,
    /// Offer messages of more than 4096 octets (RFC 8654).
    pub extended_messages: bool,
    /// Keep the peer's routes while it restarts, and ask the same of it (RFC 4724).
    pub graceful_restart: bool,
    /// How long the peer is to keep ours until we are back: whole seconds, at most 4095.
    pub restart_time: Duration,
    /// How much longer, as the least preferred ones (RFC 9494); `None`: not at all, and neither do
    /// we keep its routes for longer.
    pub long_lived: Option<Duration>,
    /// Ask the same for our routes of unicast families. Those of the peer go with the session.
    pub unicast_restart: bool,
    /// How the peer's UPDATEs are judged.
    pub checks: UpdateChecks,
    /// What our OPENs say of our own restart, to begin with.
    pub restart: Restart,
    /// How often our AS may be in the peer's AS_PATHs.
    pub allowas_in: u8,
    /// Exchange route target memberships (RFC 4684).
    pub rt_constraint: bool,
    /// Take several paths to an EVPN route (RFC 7911).
    pub add_path: bool,
    /// The peer is our client (RFC 4456).
    pub route_reflector_client: bool,
    /// Neither connect nor accept while BFD runs and doesn't say that the path is up.
    pub needs_path: bool,
    /// Administratively down: [`Event::Start`] does nothing.
    pub shutdown: bool,
    /// Never connect.
    pub passive: bool,
}

impl Settings {
    /// Our AS in the peer's eyes.
    pub fn known_asn(&self) -> Asn {
        self.local_as.map_or(self.local_asn, |local| local.asn)
    }
}

/// Something happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// Begin (RFC 4271 §8.1.2, events 1 and 4).
    Start,
    /// End all connections and stay in Idle (event 2).
    Stop(Cease),
    /// End all connections, then go on as after a failure (event 8).
    Reset(Cease),
    /// A TCP connection is there (events 16 and 17). An outgoing one answers [`Action::Connect`].
    Connected(ConnectionId, Direction),
    /// [`Action::Connect`] failed; the text says why (event 18).
    ConnectFailed(String),
    /// A connection is gone; the text says why (event 18).
    Disconnected(ConnectionId, String),
    /// A message arrived (events 19, 24 to 27).
    Message(ConnectionId, Message),
    /// Something arrived that deserves this NOTIFICATION (events 21, 22 and 28).
    Malformed(ConnectionId, Notification),
    /// Our restart is over (RFC 4724 §4.1).
    Settled,
    /// An UPDATE was sent, which spares the next KEEPALIVE.
    UpdateSent,
    /// The peer's TCP acknowledged some of what was sent since the last such event, or there is
    /// nothing to acknowledge.
    Taken(ConnectionId),
    /// Nothing is read at present because we are busy: the peer's silence proves nothing.
    Stalled,
    /// BFD says something else of the path than before (RFC 5882). It begins with
    /// [`Liveness::Unknown`].
    Path(Liveness),
    /// Time passed (events 9 to 11).
    Tick,
}

/// What the owner of the sockets is to do, in this order.
#[derive(Clone, Debug)]
pub enum Action {
    /// Open a connection, and report [`Event::Connected`] or [`Event::ConnectFailed`].
    Connect,
    /// Give the attempt up; no event is expected.
    AbortConnect,
    /// Send a message: OPEN, KEEPALIVE or NOTIFICATION.
    Send(ConnectionId, Message),
    /// Close the connection once everything is sent; no event is expected.
    Close(ConnectionId),
    /// The session is Established. UPDATEs may be sent on the connection.
    Up(ConnectionId, Box<Negotiated>),
    /// The session is no longer Established; the peer's routes go, or stay as told.
    Down(Cause, Option<Retention>),
    /// Routes of the peer.
    Update(Box<Update>),
    /// The peer asks for all our routes of a family (RFC 2918).
    Refresh(Family),
    /// The peer begins to send all its routes of a family again (RFC 7313 §4).
    RefreshBegin(Family),
    /// It has sent them all.
    RefreshEnd(Family),
}

/// A state of RFC 4271 §8.2.2. `Display` gives the name in lower case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Neither connects nor accepts.
    #[default]
    Idle,
    /// A TCP connection is being opened.
    Connect,
    /// Waits for the peer to connect, or for the next attempt.
    Active,
    /// Our OPEN is sent.
    OpenSent,
    /// The peer's OPEN is accepted.
    OpenConfirm,
    /// Routes are exchanged.
    Established,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "idle",
            Self::Connect => "connect",
            Self::Active => "active",
            Self::OpenSent => "opensent",
            Self::OpenConfirm => "openconfirm",
            Self::Established => "established",
        })
    }
}

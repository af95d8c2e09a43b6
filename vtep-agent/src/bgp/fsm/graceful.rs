//! Graceful restart: what both sides said of it, and which ends of a session it covers (RFC 4724,
//! RFC 8538).

use std::time::Duration;

use super::{Cause, Settings};
use crate::bgp::{
    peer::Retention,
    wire::{Capability, Family, GracefulRestart, Notification, Open},
};

/// The peer's half of graceful restart, if we sent the capability too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Graceful {
    /// How long the peer's routes are kept while it is away.
    pub restart_time: Duration,
    /// Both sent the N bit: a NOTIFICATION is no reason to drop routes, except for a hard reset.
    pub notification: bool,
    /// The peer lists the EVPN family: it restarts gracefully itself and doesn't only help others.
    pub evpn: bool,
    /// R bit: the peer restarted and waits for nobody's End-of-RIB.
    pub restarting: bool,
    /// F bit of the EVPN family.
    pub forwarding_preserved: bool,
}

/// Our capability: we keep the routes of peers that restart. No family is listed, since nobody needs
/// to keep ours (RFC 4724 §3).
pub(super) fn capability(settings: &Settings) -> Option<Capability> {
    settings.graceful_restart.then(|| {
        Capability::GracefulRestart(GracefulRestart {
            restarting: false,
            notification: true,
            restart_time: 0,
            families: Vec::new(),
        })
    })
}

/// What the peer's OPEN says.
pub(super) fn negotiate(settings: &Settings, open: &Open) -> Option<Graceful> {
    let peer = open
        .graceful_restart()
        .filter(|_| settings.graceful_restart)?;
    let evpn = peer
        .families
        .iter()
        .find(|(family, _)| *family == Family::EVPN);
    Some(Graceful {
        restart_time: Duration::from_secs(peer.restart_time.into()),
        notification: peer.notification,
        restarting: peer.restarting,
        evpn: evpn.is_some(),
        forwarding_preserved: evpn.is_some_and(|(_, preserved)| *preserved),
    })
}

/// What becomes of the routes of a session that ended for this cause; `None`: they go.
pub(super) fn retention(graceful: Graceful, cause: &Cause) -> Option<Retention> {
    let covered = match cause {
        Cause::Transport(_) | Cause::Replaced => true,
        Cause::Sent(notification) | Cause::Received(notification) => {
            graceful.notification && !notification.is_hard_reset()
        }
        Cause::Connect(_) => false,
    };
    let retained = covered && graceful.evpn && !graceful.restart_time.is_zero();
    retained.then_some(Retention {
        restart_time: graceful.restart_time,
        keep_stale: graceful.notification,
    })
}

/// The same NOTIFICATION in a form that ends the retention of routes, where it needs one
/// (RFC 8538 §3.1).
pub(super) fn hard(notification: Notification, graceful: Option<&Graceful>) -> Notification {
    match graceful {
        Some(graceful) if graceful.notification => Notification::hard_reset(&notification),
        _ => notification,
    }
}

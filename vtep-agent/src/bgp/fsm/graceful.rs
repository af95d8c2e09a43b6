//! Graceful restart: what both sides said of it, and which ends of a session it covers (RFC 4724,
//! RFC 8538).

use std::time::Duration;

use super::{Cause, Settings};
use crate::{
    bgp::{
        peer::Retention,
        wire::{Capability, Family, GracefulRestart, LongLivedFamily, Open},
    },
    types::Families,
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
    /// Long-lived graceful restart of the EVPN family, if both sides have it (RFC 9494).
    pub long_lived: Option<LongLived>,
}

/// The peer's half of long-lived graceful restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongLived {
    /// How much longer its routes are kept, as the least preferred ones.
    pub stale_time: Duration,
    /// F bit.
    pub forwarding_preserved: bool,
}

/// 12 bits (RFC 4724 §3).
const MAX_RESTART_TIME: u32 = 0xfff;

/// 24 bits (RFC 9494 §3).
const MAX_STALE_TIME: u32 = 0xff_ffff;

/// What our OPENs say of our own restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restart {
    /// R bit: the agent was restarted and its peers' routes are not complete yet, so that nobody has
    /// to wait for our End-of-RIB. Never set for the mere loss of a session (RFC 4724 §4.1).
    pub restarting: bool,
    /// F bit: what we told this peer before is still forwarded, because the datapath went on, or
    /// because an earlier session was of this run.
    pub forwarding_preserved: bool,
}

/// Our capabilities: we keep the routes of peers that restart, and they should keep ours; both also
/// for the long-lived stale time, if one is configured.
pub(super) fn capabilities(settings: &Settings, restart: Restart) -> Vec<Capability> {
    if !settings.graceful_restart {
        return Vec::new();
    }
    let evpn = settings.families.evpn;
    let seconds = |time: Duration, most: u32| {
        let seconds = u32::try_from(time.as_secs()).unwrap_or(most);
        seconds.min(most)
    };
    let forwarding = restart.forwarding_preserved;
    let mut capabilities = vec![Capability::GracefulRestart(GracefulRestart {
        restarting: restart.restarting,
        notification: true,
        restart_time: seconds(settings.restart_time, MAX_RESTART_TIME) as u16,
        families: Family::all_of(settings.families)
            .filter(|family| *family == Family::EVPN || settings.unicast_restart)
            .map(|family| (family, forwarding))
            .collect(),
    })];
    if let Some(time) = settings.long_lived.filter(|_| evpn) {
        capabilities.push(Capability::LongLivedGracefulRestart(vec![
            LongLivedFamily {
                family: Family::EVPN,
                forwarding,
                stale_time: seconds(time, MAX_STALE_TIME),
            },
        ]));
    }
    capabilities
}

/// What the peer's OPEN says, as far as it concerns `families`, those of the session: one that the
/// session doesn't have brings no End-of-RIB, and nothing of it is kept.
pub(super) fn negotiate(settings: &Settings, open: &Open, families: Families) -> Option<Graceful> {
    let peer = open
        .graceful_restart()
        .filter(|_| settings.graceful_restart)?;
    let evpn = peer
        .families
        .iter()
        .find(|(family, _)| families.evpn && *family == Family::EVPN);
    Some(Graceful {
        restart_time: Duration::from_secs(peer.restart_time.into()),
        notification: peer.notification,
        restarting: peer.restarting,
        evpn: evpn.is_some(),
        forwarding_preserved: evpn.is_some_and(|(_, preserved)| *preserved),
        long_lived: settings
            .long_lived
            .filter(|_| families.evpn)
            .and_then(|_| long_lived(open)),
    })
}

/// Without the graceful restart capability it would count for nothing (RFC 9494 §3).
fn long_lived(open: &Open) -> Option<LongLived> {
    open.long_lived_graceful_restart()?
        .iter()
        .find(|tuple| tuple.family == Family::EVPN)
        .map(|tuple| LongLived {
            stale_time: Duration::from_secs(tuple.stale_time.into()),
            forwarding_preserved: tuple.forwarding,
        })
}

/// What becomes of the routes of a session that ended for this cause; `None`: they go.
pub(super) fn retention(graceful: Graceful, cause: &Cause) -> Option<Retention> {
    let covered = match cause {
        Cause::Transport(_) | Cause::Replaced | Cause::Left => true,
        Cause::Sent(notification) | Cause::Received(notification) => {
            graceful.notification && !notification.is_hard_reset()
        }
        // Neither was ever up.
        Cause::Refused(_) | Cause::Connect(_) => false,
    };
    let restart_time = match graceful.evpn {
        true => graceful.restart_time,
        false => Duration::ZERO,
    };
    let long_lived = graceful.long_lived.map(|long_lived| long_lived.stale_time);
    let long_lived = long_lived.filter(|time| !time.is_zero());
    let retained = covered && !(restart_time.is_zero() && long_lived.is_none());
    retained.then_some(Retention {
        restart_time,
        keep_stale: graceful.notification,
        long_lived,
    })
}

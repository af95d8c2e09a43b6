//! What the decision came to, and whether that makes a difference.

use std::{sync::Arc, time::Instant};

use crate::{
    bgp::{
        peer::Session,
        wire::{Attributes, Route, RouteKey},
    },
    types::PeerId,
};

/// The best path of an NLRI became another one. Both are there when it was replaced.
#[derive(Clone, Debug)]
pub struct Change {
    /// The NLRI.
    pub key: RouteKey,
    /// What was best.
    pub before: Option<Best>,
    /// What is best.
    pub after: Option<Best>,
}

/// The best path of an NLRI, as much of it as importing needs.
#[derive(Clone, Debug)]
pub struct Best {
    /// From this peer,
    pub peer: PeerId,
    /// over this session.
    pub session: Arc<Session>,
    /// The route.
    pub route: Route,
    /// Its attributes.
    pub attributes: Arc<Attributes>,
    /// When it was received in this form.
    pub received: Instant,
}

impl Change {
    /// Where the path came from matters only to those to whom it is told again.
    pub(super) fn between(
        key: RouteKey,
        before: Option<Best>,
        after: Option<Best>,
        reflecting: bool,
    ) -> Option<Self> {
        let same = match (&before, &after) {
            (None, None) => true,
            (Some(a), Some(b)) => {
                a.route == b.route
                    && (!reflecting || a.has_source_of(b))
                    && (Arc::ptr_eq(&a.attributes, &b.attributes) || a.attributes == b.attributes)
            }
            _ => false,
        };
        (!same).then(|| Self { key, before, after })
    }
}

impl Best {
    /// Both are told to the same peers, and in the same form: a peer that comes back from a restart may
    /// have become a client meanwhile.
    fn has_source_of(&self, other: &Self) -> bool {
        let source = |best: &Self| {
            let session = &best.session;
            let client = session.route_reflector_client;
            (best.peer, client, session.internal, session.router_id)
        };
        source(self) == source(other)
    }
}

//! Which of two connections to a peer stays (RFC 4271 §6.8, RFC 6286 §2.3).

use std::net::Ipv4Addr;

use super::connection::Direction;
use crate::types::Asn;

/// A speaker, as far as the decision is concerned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Speaker {
    pub(super) router_id: Ipv4Addr,
    pub(super) asn: Asn,
}

/// The direction that stays: connections of the speaker with the higher identifier, taken as a
/// number; with equal identifiers, which only external peers can have, those of the larger AS. Both
/// sides come to the same result.
pub(super) fn survivor(local: Speaker, peer: Speaker) -> Direction {
    // Ipv4Addr is ordered by its octets in network order, as the numbers are.
    if (local.router_id, local.asn) < (peer.router_id, peer.asn) {
        Direction::Incoming
    } else {
        Direction::Outgoing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_higher_identifier_keeps_its_connection_and_the_larger_as_breaks_the_tie() {
        let speaker = |router_id: [u8; 4], asn| Speaker {
            router_id: router_id.into(),
            asn: Asn(asn),
        };
        let low = speaker([10, 0, 0, 200], 65002);
        let high = speaker([10, 0, 1, 1], 65001);
        assert_eq!(survivor(low, high), Direction::Incoming);
        assert_eq!(survivor(high, low), Direction::Outgoing);
        let twin = speaker([10, 0, 1, 1], 4_200_000_000);
        assert_eq!(survivor(high, twin), Direction::Incoming);
        assert_eq!(survivor(twin, high), Direction::Outgoing);
    }
}

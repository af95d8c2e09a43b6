//! Router solicitations and advertisements, as much of them as finding a neighbour needs (RFC 4861
//! §4.1, §4.2, §6.1).

use std::net::Ipv6Addr;

/// ICMPv6 type of a router solicitation.
pub(super) const SOLICITATION: u8 = 133;

/// ICMPv6 type of a router advertisement.
pub(super) const ADVERTISEMENT: u8 = 134;

/// Hop limit of neighbour discovery: whoever sends it is on the link.
pub(super) const HOP_LIMIT: u8 = 255;

/// To all routers of a link.
pub(super) const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// To all nodes of a link.
pub(super) const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Asks the routers of a link to show themselves. The kernel fills in the checksum.
pub(super) const SOLICIT: [u8; 8] = [SOLICITATION, 0, 0, 0, 0, 0, 0, 0];

/// Shows that we are there, and that we are nobody's default router: lifetime 0, nothing else
/// specified, no options. The kernel fills in the checksum.
pub(super) const ADVERTISE: [u8; 16] = [
    ADVERTISEMENT,
    0,
    0,
    0, // type, code, checksum
    0,
    0,
    0,
    0, // hop limit, flags, router lifetime
    0,
    0,
    0,
    0, // reachable time
    0,
    0,
    0,
    0, // retransmission timer
];

/// An ICMPv6 message that was received: of the kernel it is known that the checksum is right.
#[derive(Debug)]
pub(super) struct Received<'a> {
    /// Sender.
    pub(super) source: Ipv6Addr,
    /// Hop limit that it came with, if the kernel told.
    pub(super) hop_limit: Option<u8>,
    /// From the type on.
    pub(super) message: &'a [u8],
}

/// What a message means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A neighbour wants to know who is there.
    Solicitation,
    /// There is a router with this link-local address.
    Router(Ipv6Addr),
}

impl Received<'_> {
    /// Judges the message as RFC 4861 §6.1 asks for; `None` for what is to be ignored.
    pub(super) fn meaning(&self) -> Option<Meaning> {
        let [kind, 0, _, _, body @ ..] = self.message else {
            return None;
        };
        if self.hop_limit != Some(HOP_LIMIT) {
            return None;
        }
        match *kind {
            // Reserved, 4 octets.
            SOLICITATION => {
                let options = body.get(4..)?;
                well_formed(options).then_some(Meaning::Solicitation)
            }
            // Hop limit to retransmission timer, 12 octets.
            ADVERTISEMENT => {
                let options = body.get(12..)?;
                let router = self.source.is_unicast_link_local() && well_formed(options);
                router.then_some(Meaning::Router(self.source))
            }
            _ => None,
        }
    }
}

/// Options are type, length in units of 8 octets and not zero, value (RFC 4861 §4.6).
fn well_formed(mut options: &[u8]) -> bool {
    while !options.is_empty() {
        let rest = match options {
            [_, length, ..] if *length > 0 => options.get(usize::from(*length) * 8..),
            _ => None,
        };
        match rest {
            Some(rest) => options = rest,
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEIGHBOUR: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x14);

    fn meaning(message: &[u8]) -> Option<Meaning> {
        let received = Received {
            source: NEIGHBOUR,
            hop_limit: Some(255),
            message,
        };
        received.meaning()
    }

    /// An advertisement with these options.
    fn with(options: &[u8]) -> Vec<u8> {
        [&ADVERTISE, options].concat()
    }

    /// RFC 4861 §6.1.2, and §4.6 for the options.
    #[test]
    fn advertisements() {
        let router = Some(Meaning::Router(NEIGHBOUR));
        assert_eq!(meaning(&ADVERTISE), router);
        let link_layer = [1, 1, 2, 0, 0, 0, 0, 1];
        let mtu = [5, 1, 0, 0, 0, 0, 0x23, 0x28];
        assert_eq!(meaning(&with(&[link_layer, mtu].concat())), router);
        // An option of length 0, one that is longer than what there is, and half of one.
        assert_eq!(meaning(&with(&[1, 0, 2, 0, 0, 0, 0, 1])), None);
        assert_eq!(meaning(&with(&[1, 2, 2, 0, 0, 0, 0, 1])), None);
        assert_eq!(meaning(&with(&[1])), None);
        // Too short, another code.
        assert_eq!(meaning(&ADVERTISE[..15]), None);
        let mut code = ADVERTISE;
        code[1] = 1;
        assert_eq!(meaning(&code), None);
        assert_eq!(meaning(&[]), None);
    }

    /// A hop limit below 255 says that somebody else than a neighbour sent it.
    #[test]
    fn only_neighbours_count() {
        for (source, hop_limit) in [
            (NEIGHBOUR, Some(254)),
            (NEIGHBOUR, None),
            (Ipv6Addr::LOCALHOST, Some(255)),
        ] {
            let received = Received {
                source,
                hop_limit,
                message: &ADVERTISE,
            };
            assert_eq!(received.meaning(), None, "{received:?}");
        }
    }

    /// RFC 4861 §6.1.1.
    #[test]
    fn solicitations() {
        assert_eq!(meaning(&SOLICIT), Some(Meaning::Solicitation));
        assert_eq!(meaning(&SOLICIT[..7]), None);
        // A neighbour advertisement is none of our business.
        assert_eq!(meaning(&[136, 0, 0, 0, 0, 0, 0, 0]), None);
    }
}

//! Why the OPEN of a peer is refused.

use std::{fmt, net::Ipv4Addr};

use crate::{
    bgp::wire::{Capability, Family, Notification},
    config::PeerAsn,
    types::Asn,
};

/// What of the peer's OPEN doesn't fit our configuration. The NOTIFICATION says which rule was broken;
/// `Display` adds what both sides said, which the peer knows and our operator needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The peer is in another AS than it should be (RFC 4271 §6.2).
    PeerAs {
        /// What it says.
        says: Asn,
        /// What it is configured with.
        expected: PeerAsn,
    },
    /// The peer is internal, and has our identifier (RFC 6286 §2.2).
    OurIdentifier(Ipv4Addr),
    /// The peer has none of our families, without which a session is of no use to us (RFC 5492 §3).
    NoFamily {
        /// What we offer.
        ours: Vec<Family>,
        /// What it offers.
        theirs: Vec<Family>,
    },
}

impl Refusal {
    /// What the peer is told: 2/2, 2/3 or 2/7.
    pub fn notification(&self) -> Notification {
        match self {
            Self::PeerAs { .. } => Notification::BAD_PEER_AS,
            Self::OurIdentifier(_) => Notification::BAD_IDENTIFIER,
            Self::NoFamily { ours, .. } => {
                let required: Vec<_> = ours
                    .iter()
                    .copied()
                    .map(Capability::Multiprotocol)
                    .collect();
                Notification::unsupported_capabilities(&required)
            }
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PeerAs { says, expected } => {
                write!(f, "bad peer AS: it says {says}, expected ")?;
                match expected {
                    PeerAsn::Is(asn) => write!(f, "{asn}"),
                    PeerAsn::Internal => f.write_str("ours"),
                    PeerAsn::External => f.write_str("another than ours"),
                }
            }
            Self::OurIdentifier(router_id) => {
                write!(f, "bad BGP identifier: {router_id} is ours, too")
            }
            Self::NoFamily { ours, theirs } => {
                f.write_str("no family in common: we have ")?;
                list(f, ours)?;
                f.write_str(", the peer has ")?;
                list(f, theirs)
            }
        }
    }
}

fn list(f: &mut fmt::Formatter<'_>, families: &[Family]) -> fmt::Result {
    for (index, family) in families.iter().enumerate() {
        let separator = if index > 0 { " and " } else { "" };
        write!(f, "{separator}{family}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// BGP-009, BGP-010: our operator reads what was said and what was expected.
    #[test]
    fn both_sides_are_named() {
        let says = |refusal: Refusal, code, text: &str| {
            let notification = refusal.notification();
            assert_eq!((notification.code, notification.subcode), code);
            assert_eq!(refusal.to_string(), text);
        };
        for (expected, text) in [
            (PeerAsn::Is(Asn(65000)), "it says 65001, expected 65000"),
            (PeerAsn::Internal, "it says 65001, expected ours"),
            (
                PeerAsn::External,
                "it says 65001, expected another than ours",
            ),
        ] {
            let refusal = Refusal::PeerAs {
                says: Asn(65001),
                expected,
            };
            says(refusal, (2, 2), &format!("bad peer AS: {text}"));
        }
        says(
            Refusal::OurIdentifier(Ipv4Addr::new(198, 18, 0, 1)),
            (2, 3),
            "bad BGP identifier: 198.18.0.1 is ours, too",
        );
        says(
            Refusal::NoFamily {
                ours: vec![Family::EVPN],
                theirs: vec![Family::IPV4_UNICAST, Family { afi: 1, safi: 128 }],
            },
            (2, 7),
            "no family in common: we have evpn, the peer has ipv4 and AFI 1 SAFI 128",
        );
    }
}

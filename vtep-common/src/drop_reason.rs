macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $variant:ident = $value:literal => $name:literal,)*) => {
        /// Why the datapath refused a frame. The number indexes the `drops` map and is part of the
        /// ABI: a retired number is never used again. The name is what metrics, `show counters` and
        /// logs print.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u32)]
        pub enum DropReason {
            $($(#[$doc])* $variant = $value,)*
        }

        impl DropReason {
            /// Every reason, by rising number.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Size of the `drops` map: room for reasons to come without a change of layout.
            pub const CAPACITY: u32 = 64;

            /// Stable name in lower case with underscores.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

drop_reasons! {
    /// A frame ends before the header that its earlier bytes announce.
    Truncated = 1 => "truncated",
    /// VXLAN without the I flag (RFC 7348 §5).
    VxlanFlags = 2 => "vxlan_flags",
    /// No bridge domain has this VNI.
    UnknownVni = 3 => "unknown_vni",
    /// The outer source is no VTEP that we know (`source_check`).
    UnknownVtep = 4 => "unknown_vtep",
    /// The outer source is one of our own addresses.
    OwnVtep = 5 => "own_vtep",
    /// An outer IPv4 fragment: a VTEP may drop these (RFC 7348 §4.3).
    OuterFragment = 6 => "outer_fragment",
    /// The outer IP header is inconsistent (version, header length, total length).
    OuterHeader = 7 => "outer_header",
    /// Outer CE over an inner frame that is not ECN-capable (RFC 6040 §4.2).
    EcnCe = 8 => "ecn_ce",
    /// The inner or port frame has a source that no station can have: group address or zero.
    InvalidSource = 9 => "invalid_source",
    /// The frame's source and destination are the same address.
    SourceIsDestination = 10 => "source_is_destination",
    /// The inner frame has a VLAN tag, which a VLAN-based service does not carry (RFC 7348 §6.1).
    InnerVlan = 11 => "inner_vlan",
    /// From the overlay, and the destination is behind another VTEP: never overlay to overlay.
    OverlayToOverlay = 12 => "overlay_to_overlay",
    /// From the overlay, and the source is a MAC that is pinned to a local port.
    LocalSourceFromOverlay = 13 => "local_source_from_overlay",
    /// The port has no bridge domain for the frame's VLAN tag, or for an untagged frame.
    PortVlan = 14 => "port_vlan",
    /// Link-local control (01-80-C2-00-00-0X) is neither bridged nor tunnelled (802.1Q §8.6.3).
    LinkLocalControl = 15 => "link_local_control",
    /// The source MAC is declared on another port or sticky elsewhere, or the port has declared
    /// endpoints and this is none of them.
    SourceSpoofed = 16 => "source_spoofed",
    /// The port has its full number of MACs and the source is not one of them.
    MacLimit = 17 => "mac_limit",
    /// Unknown unicast in a bridge domain whose flooding policy refuses it.
    UnknownUnicast = 18 => "unknown_unicast",
    /// Broadcast or multicast in a bridge domain that does not flood.
    FloodOff = 19 => "flood_off",
    /// The port's budget for broadcast, unknown unicast and multicast is spent.
    BumRate = 20 => "bum_rate",
    /// The flood list is empty: nobody else is in the bridge domain.
    NoReceiver = 21 => "no_receiver",
    /// The destination is on the port that the frame came from.
    Hairpin = 22 => "hairpin",
    /// The destination MAC is quarantined.
    BlackHole = 23 => "black_hole",
    /// Too big for the underlay; the sender was told.
    TooBig = 24 => "too_big",
    /// Too big for the underlay, and nobody could be told (no DF, not IP, or rate-limited).
    TooBigSilent = 25 => "too_big_silent",
    /// No usable path to the remote VTEP: no route, or the neighbour does not answer.
    NoPath = 26 => "no_path",
    /// A map entry belongs to another bridge domain or generation: it was recycled under the reader.
    StaleEntry = 27 => "stale_entry",
    /// A helper of the kernel refused to grow, shrink or write the frame.
    Helper = 28 => "helper",
    /// A frame passed up by the XDP half carries metadata that the TC half does not know.
    Metadata = 29 => "metadata",
    /// The port is administratively known but not ready to forward.
    PortDown = 30 => "port_down",
    /// The device or its queue did not take a copy of a flooded frame.
    Transmit = 31 => "transmit",
    /// The inner frame is malformed in a way that forbids forwarding it.
    InnerHeader = 32 => "inner_header",
    /// From a declared MAC, with a source address that is not declared with it.
    IpSpoofed = 33 => "ip_spoofed",
    /// ARP or RARP from a declared MAC that names another sender, or cannot be judged.
    ArpSpoofed = 34 => "arp_spoofed",
    /// Neighbour discovery from a declared MAC that claims an address or names a MAC of somebody
    /// else, or cannot be judged.
    NdSpoofed = 35 => "nd_spoofed",
    /// An ARP request or neighbour solicitation for an address that nobody is known to have, in a
    /// bridge domain that does not flood these.
    UnknownNeighbor = 36 => "unknown_neighbor",
    /// What only routers and DHCP servers send, from a declared MAC in a bridge domain whose declared
    /// endpoints are neither.
    ServerSpoofed = 37 => "server_spoofed",
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn numbers_and_names_are_unique_and_fit() {
        let numbers: HashSet<_> = DropReason::ALL
            .iter()
            .map(|&reason| reason as u32)
            .collect();
        let names: HashSet<_> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(numbers.len(), DropReason::ALL.len());
        assert_eq!(names.len(), DropReason::ALL.len());
        assert!(numbers.iter().all(|&number| number < DropReason::CAPACITY));
    }
}

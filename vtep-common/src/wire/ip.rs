//! IPv4 and IPv6 headers, outer and inner.

/// Length of an IPv4 header without options.
pub const V4_HEADER: u32 = 20;
/// Length of the fixed IPv6 header.
pub const V6_HEADER: u32 = 40;

/// First byte of an IPv4 header without options.
pub const V4_NO_OPTIONS: u8 = 0x45;
/// DF in the flags and fragment offset word, wire order.
pub const DF: u16 = 0x4000_u16.to_be();
/// MF in the same word.
pub const MF: u16 = 0x2000_u16.to_be();
/// The fragment offset in the same word.
pub const FRAGMENT_OFFSET: u16 = 0x1fff_u16.to_be();

/// IP protocol numbers.
pub mod protocol {
    /// IPv6 hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// IGMP.
    pub const IGMP: u8 = 2;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 fragment header.
    pub const FRAGMENT: u8 = 44;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;

    /// An IPv6 extension header other than a fragment's, behind which any message may be: hop-by-hop
    /// options, routing, authentication, destination options (RFC 8200 §4).
    #[inline(always)]
    pub const fn hides_a_header(protocol: u8) -> bool {
        matches!(protocol, HOP_BY_HOP | 43 | 51 | 60)
    }
}

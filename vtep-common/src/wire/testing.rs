//! What the tests of this module share.

/// The header checksum of an IPv4 header, computed the slow way (RFC 1071 §4.1).
pub fn ipv4_checksum(header: &[u8]) -> [u8; 2] {
    let mut sum = 0_u32;
    for (at, pair) in header.chunks(2).enumerate() {
        if at != 5 {
            sum += u32::from(u16::from_be_bytes([pair[0], pair[1]]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

/// The ICMPv6 checksum of an untagged frame without extension headers is right (RFC 4443 §2.3).
pub fn icmpv6_checksum_is_valid(frame: &[u8]) -> bool {
    let length = u16::from_be_bytes([frame[18], frame[19]]);
    let mut sum = u32::from(length) + 58;
    for pair in frame[22..54 + usize::from(length)].chunks(2) {
        sum += u32::from(u16::from_be_bytes([
            pair[0],
            pair.get(1).copied().unwrap_or(0),
        ]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum == 0xffff
}

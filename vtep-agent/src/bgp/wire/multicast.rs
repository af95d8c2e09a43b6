//! Multicast routes, types 6 to 8 (RFC 9251 §9). They are carried and not interpreted, except for what
//! makes them unusable for everybody.

use super::{Attributes, Cause, ExtCommunity, Reader};

/// Selective multicast Ethernet tag route.
const SMET: u8 = 6;
/// Type code of the IPv6 extended communities attribute (RFC 5701), which is in
/// [`Attributes::other`].
const IPV6_EXT_COMMUNITIES: u8 = 25;

/// Version bits of the flags: IGMPv1 or MLDv1, IGMPv2 or MLDv2, IGMPv3.
const VERSIONS: u8 = 0x07;
/// IGMPv1 is ignored (RFC 9251 §9.1).
const IGMP: u8 = 0x06;
/// There is no third version of MLD.
const MLD: u8 = 0x03;

/// What of its flags and communities makes a multicast route unusable; routes of other types pass.
pub(super) fn validate(route_type: u8, value: &[u8], attributes: &Attributes) -> Result<(), Cause> {
    if !matches!(route_type, SMET..=8) {
        return Ok(());
    }
    // RFC 9251 §9.5: which EVI a synch route is for.
    let targets = evi_targets(attributes);
    if route_type != SMET && targets != 1 {
        return Err(Cause::EviTargets(targets));
    }
    let flags = value.last().copied().unwrap_or_default();
    let versions = match group_bits(route_type, value) {
        Some(32) => flags & IGMP,
        Some(128) if flags & VERSIONS & !MLD != 0 => return Err(Cause::MulticastFlags(flags)),
        _ => flags & VERSIONS,
    };
    // A type 6 route without versions may be that of a supplementary broadcast domain, which has none
    // (RFC 9625 §3.3), and nothing else in it says so.
    if versions == 0 && (route_type != SMET || flags & VERSIONS != 0) {
        return Err(Cause::MulticastFlags(flags));
    }
    Ok(())
}

/// Number of EVI-RT communities, whatever the form of their target.
fn evi_targets(attributes: &Attributes) -> usize {
    let short = attributes.ext_communities.iter();
    let short = short.filter(|ExtCommunity(octets)| matches!(octets, [0x06, 0x0a..=0x0d, ..]));
    let long = attributes.other.iter();
    let long = long.filter(|raw| raw.code == IPV6_EXT_COMMUNITIES);
    let long = long.flat_map(|raw| raw.value.as_chunks::<20>().0);
    let long = long.filter(|octets| matches!(octets, [0x06, 0x0d, ..]));
    short.count().saturating_add(long.count())
}

/// Length of the group address, 0 for every group.
fn group_bits(route_type: u8, value: &[u8]) -> Option<u8> {
    let mut reader = Reader::new(value);
    reader.take(before_source(route_type)).ok()?;
    let source = reader.u8().ok()?;
    reader.take(usize::from(source / 8)).ok()?;
    reader.u8().ok()
}

/// Octets in front of the source's length: RD and Ethernet tag, in types 7 and 8 with the segment
/// between them.
pub(super) fn before_source(route_type: u8) -> usize {
    match route_type {
        SMET => 8 + 4,
        _ => 8 + 10 + 4,
    }
}

//! What to do with a frame that a VM port sent.

use super::{
    Frame, Tables,
    ethernet::{Header, ethertype},
    ip::protocol,
    underlay::{self, Port},
};
use crate::{
    DropReason,
    abi::{
        Adjacency, BdEntry, BdFlags, BdRef, FdbFlags, FdbKey, FdbWord, FloodClasses, NhGroup,
        NhMember, PortFlags, PortRef, VtepEntry,
    },
};

/// The port that a frame came from, and its bridge domain.
#[derive(Clone, Copy, Debug)]
pub struct Ingress<'a> {
    /// The port.
    pub port: Port<'a>,
    /// The bridge domain.
    pub bd: BdRef,
    /// What `bds` says of it.
    pub domain: &'a BdEntry,
}

impl<'a> Ingress<'a> {
    /// Checks what `port_index` found against the tables that it points into.
    ///
    /// # Errors
    /// [`DropReason::StaleEntry`]
    #[inline(always)]
    pub fn new<T: Tables>(tables: &'a T, at: PortRef) -> Result<Self, DropReason> {
        let bd = at.bd();
        let port = underlay::port(tables, bd, at.slot())?;
        let domain = underlay::domain(tables, bd)?;
        Ok(Self { port, bd, domain })
    }

    /// `word` says that the MAC is behind this very port.
    #[inline(always)]
    pub fn owns(&self, word: Option<FdbWord>) -> bool {
        matches!(word, Some(word) if word.bd() == self.bd
            && word.flags().has(FdbFlags::LOCAL)
            && word.target() == self.port.slot)
    }
}

/// How the FDB knows the sender of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// On this port.
    Here,
    /// Not at all, or elsewhere: worth an event.
    New,
}

/// Judges the source of a frame by what the FDB says of it. An element that another bridge domain
/// has taken over counts as absent.
///
/// # Errors
/// The reason to drop the frame.
#[inline(always)]
pub fn sender(ingress: &Ingress<'_>, word: Option<FdbWord>) -> Result<Sender, DropReason> {
    match word {
        Some(word) if word.bd() == ingress.bd => {
            let flags = word.flags();
            if flags.has(FdbFlags::BLACK_HOLE) {
                Err(DropReason::BlackHole)
            } else if ingress.owns(Some(word)) {
                Ok(Sender::Here)
            } else if flags.has(FdbFlags::PINNED) {
                Err(DropReason::SourceSpoofed)
            } else {
                Ok(Sender::New)
            }
        }
        _ if ingress.port.entry.flags.has(PortFlags::MAC_LIMIT) => Err(DropReason::MacLimit),
        _ => Ok(Sender::New),
    }
}

/// Where a frame goes.
#[derive(Clone, Copy, Debug)]
pub enum Forward<'a> {
    /// To another port of this host.
    Port(Port<'a>),
    /// To the next-hop group with this index.
    Group(u32),
    /// To everybody else in the bridge domain.
    Flood,
}

/// Which kind of flooded frame an untagged frame is.
#[inline(always)]
pub fn flood_class<F: Frame>(frame: F, header: &Header) -> FloodClasses {
    if !header.is_group() {
        return FloodClasses::UNKNOWN;
    }
    let direct = match header.ethertype_be {
        ethertype::IPV4 => frame.view::<34>(0).is_some_and(|packet| {
            packet.be32::<30>() >> 8 == 0x00e0_0000 || packet.u8::<23>() == protocol::IGMP
        }),
        // MLD has a router alert option in front (RFC 3810 §5).
        ethertype::IPV6 => frame.view::<54>(0).is_some_and(|packet| {
            packet.u8::<39>() & 0x0f <= LINK_LOCAL_SCOPE
                || packet.u8::<20>() == protocol::HOP_BY_HOP
        }),
        _ => false,
    };
    if direct {
        FloodClasses::DIRECT
    } else {
        FloodClasses::ASSISTED
    }
}

/// RFC 7346 §2.
const LINK_LOCAL_SCOPE: u8 = 2;

/// Looks the destination up. A port's budget for flooded frames is the caller's to check.
///
/// # Errors
/// The reason to drop the frame.
#[inline(always)]
pub fn forward<'a, T: Tables>(
    tables: &'a T,
    ingress: &Ingress<'_>,
    header: &Header,
) -> Result<Forward<'a>, DropReason> {
    let policy = if header.is_group() {
        (BdFlags::FLOOD_BUM, DropReason::FloodOff)
    } else {
        match tables.fdb(FdbKey::from_parts(ingress.bd.bd, header.destination)) {
            Some(word) if word.bd() != ingress.bd => return Err(DropReason::StaleEntry),
            Some(word) if word.flags().has(FdbFlags::BLACK_HOLE) => {
                return Err(DropReason::BlackHole);
            }
            Some(word) if !word.flags().has(FdbFlags::LOCAL) => {
                return Ok(Forward::Group(word.target()));
            }
            Some(word) if word.target() == ingress.port.slot => return Err(DropReason::Hairpin),
            Some(word) => {
                return underlay::port(tables, ingress.bd, word.target()).map(Forward::Port);
            }
            None => (BdFlags::FLOOD_UNKNOWN, DropReason::UnknownUnicast),
        }
    };
    if ingress.domain.flags.has(policy.0) {
        Ok(Forward::Flood)
    } else {
        Err(policy.1)
    }
}

/// The member of a group that takes a flow: constant per flow (RFC 7432 §8.4).
///
/// # Errors
/// [`DropReason::StaleEntry`], [`DropReason::NoPath`]
#[inline(always)]
pub fn member(group: &NhGroup, bd: BdRef, hash: u32) -> Result<&NhMember, DropReason> {
    if group.bd != bd {
        return Err(DropReason::StaleEntry);
    }
    pick(&group.members, group.count.into(), hash).ok_or(DropReason::NoPath)
}

/// The underlay path to a VTEP that takes a flow.
///
/// # Errors
/// [`DropReason::NoPath`]: none, or its next hop is not resolved.
#[inline(always)]
pub fn path(vtep: &VtepEntry, hash: u32) -> Result<&Adjacency, DropReason> {
    // Other bits than `member` uses: the two choices must not go together.
    match pick(&vtep.paths, vtep.count, hash.rotate_left(16)) {
        Some(path) if path.resolved != 0 => Ok(path),
        _ => Err(DropReason::NoPath),
    }
}

/// One of the first `count` elements, by the hash's upper bits.
#[inline(always)]
fn pick<T>(elements: &[T], count: u32, hash: u32) -> Option<&T> {
    let index = (u64::from(hash) * u64::from(count)) >> 32;
    if count == 0 {
        return None;
    }
    elements.get(index as usize)
}

#[cfg(test)]
mod tests;

//! What to do with a frame that an uplink received: the one decision of the XDP and the TC program.

use super::{
    Frame, Tables, checksum,
    ecn::Remark,
    ethernet::{self, Header, ethertype},
    ip, outer,
};
use crate::{
    DropReason,
    abi::{
        BdEntry, BdFlags, BdRef, FdbFlags, FdbKey, FloodSpan, PortEntry, PortFlags, Settings,
        SettingsFlags, SourceKey,
    },
};

/// Shortest outer IP packet that holds an inner Ethernet header.
const SHORTEST: u32 = outer::INNER + ethernet::HEADER;

/// What is known of a frame besides its bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Received {
    /// The VLAN identifier of a tag that the device or the stack has taken out of the bytes.
    pub vlan: Option<u16>,
    /// Several packets in one: lengths in the headers are not those of the frame.
    pub gso: bool,
}

/// What to do with the frame.
#[derive(Clone, Copy, Debug)]
pub enum Verdict<'a> {
    /// Not for us: on to the stack, untouched.
    NotOurs,
    /// Ours, and refused.
    Drop(DropReason),
    /// Decapsulate, deliver to one port.
    Port(Inner, Port<'a>),
    /// Decapsulate, deliver to the local ports of this flood list.
    Flood(Inner, FloodSpan),
}

/// The frame inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inner {
    /// Offset of its Ethernet header.
    pub at: u32,
    /// Offset of its end; bytes behind it are padding of the outer frame.
    pub end: u32,
    /// Its bridge domain.
    pub bd: BdRef,
    /// Its Ethernet header, without a priority tag.
    pub header: Header,
    /// A tag with VLAN identifier 0 follows the addresses, and must be taken out.
    pub priority_tag: bool,
    /// The ECN field to write (RFC 6040 §4.2).
    pub remark: Remark,
}

impl Inner {
    /// Offset of the payload, behind the Ethernet header and the priority tag.
    #[inline(always)]
    pub const fn payload(&self) -> u32 {
        self.at + ethernet::HEADER + if self.priority_tag { ethernet::TAG } else { 0 }
    }
}

/// The port that a frame goes to.
#[derive(Clone, Copy, Debug)]
pub struct Port<'a> {
    /// Index in `ports`.
    pub slot: u32,
    /// What is there.
    pub entry: &'a PortEntry,
}

/// Decides on a frame. See [`Verdict`]; nothing is written and nothing is counted here.
#[inline(always)]
pub fn decide<'a, F: Frame, T: Tables>(frame: F, received: Received, tables: &'a T) -> Verdict<'a> {
    let Some(settings) = tables.settings() else {
        return Verdict::NotOurs;
    };
    match locate(frame, received, settings) {
        Ok(Some(at)) => match forward(frame, at, received, settings, tables) {
            Ok(verdict) => verdict,
            Err(reason) => Verdict::Drop(reason),
        },
        Ok(None) => Verdict::NotOurs,
        Err(reason) => Verdict::Drop(reason),
    }
}

/// Decides on a frame that the host's vxlan device has decapsulated: it comes with the VNI and the
/// outer source, which is known to have been meant for this host. The device has merged the ECN
/// fields (RFC 6040 §4.2). Never [`Verdict::NotOurs`]: nothing from the overlay reaches the stack.
#[inline(always)]
pub fn decide_decapsulated<'a, F: Frame, T: Tables>(
    frame: F,
    vni: u32,
    source_be: u32,
    tables: &'a T,
) -> Verdict<'a> {
    match forward_decapsulated(frame, vni, source_be, tables) {
        Ok(verdict) => verdict,
        Err(reason) => Verdict::Drop(reason),
    }
}

#[inline(always)]
fn forward_decapsulated<'a, F: Frame, T: Tables>(
    frame: F,
    vni: u32,
    source_be: u32,
    tables: &'a T,
) -> Result<Verdict<'a>, DropReason> {
    let settings = tables.settings().ok_or(DropReason::UnknownVni)?;
    let bd = tables.admission(settings, vni, source_be)?;
    let domain = domain(tables, bd)?;
    let header = Header::read(frame.view::<14>(0).ok_or(DropReason::Truncated)?);
    header.check()?;
    if ethertype::is_tag(header.ethertype_be) {
        return Err(DropReason::InnerVlan);
    }
    let inner = Inner {
        at: 0,
        end: frame.length(),
        bd,
        header,
        priority_tag: false,
        remark: Remark::None,
    };
    resolve(inner, domain, settings, tables)
}

/// Offset of the outer IP header when the frame is ours, else `None`.
#[inline(always)]
fn locate<F: Frame>(
    frame: F,
    received: Received,
    settings: &Settings,
) -> Result<Option<u32>, DropReason> {
    let Some(at) = past_tag(frame, received, settings) else {
        return Ok(None);
    };
    let Some(packet) = frame.view::<28>(at) else {
        return Ok(None);
    };
    let first = packet.u8::<0>();
    if first & 0xf0 != 0x40
        || packet.u8::<9>() != ip::protocol::UDP
        || !is_local(settings, packet.u32::<16>())
        || packet.u16::<6>() & ip::FRAGMENT_OFFSET != 0
    {
        return Ok(None);
    }
    if first == ip::V4_NO_OPTIONS {
        if packet.u16::<22>() != settings.port_be {
            return Ok(None);
        }
    } else {
        let header = u32::from(first & 0x0f) << 2;
        if header < ip::V4_HEADER {
            return Ok(None);
        }
        return match frame.view::<4>(at + header) {
            Some(udp) if udp.u16::<2>() == settings.port_be => Err(DropReason::OuterHeader),
            _ => Ok(None),
        };
    }
    if packet.u16::<6>() & ip::MF != 0 {
        return Err(DropReason::OuterFragment);
    }
    Ok(Some(at))
}

/// Offset of what follows the Ethernet header and its VLAN tag, when that is IPv4 and the VLAN ours.
#[inline(always)]
fn past_tag<F: Frame>(frame: F, received: Received, settings: &Settings) -> Option<u32> {
    let header = frame.view::<14>(0)?;
    let (vlan, ethertype_be, at) = match (received.vlan, header.u16::<12>()) {
        (None, ethertype::C_TAG) => {
            let tag = frame.view::<4>(ethernet::HEADER)?;
            let at = ethernet::HEADER + ethernet::TAG;
            (Some(tag.be16::<0>() & 0x0fff), tag.u16::<2>(), at)
        }
        (vlan, ethertype_be) => (vlan, ethertype_be, ethernet::HEADER),
    };
    (is_underlay_vlan(settings, vlan) && ethertype_be == ethertype::IPV4).then_some(at)
}

/// Whether a frame with this tag is on the underlay: untagged, or with the VLAN of an uplink.
#[inline(always)]
pub fn is_underlay_vlan(settings: &Settings, vlan: Option<u16>) -> bool {
    match vlan {
        None => true,
        Some(vlan) => vlan != 0 && settings.uplink_vlans.contains(&vlan),
    }
}

#[inline(always)]
fn is_local(settings: &Settings, address_be: u32) -> bool {
    address_be != 0 && settings.local_vteps_be.contains(&address_be)
}

/// Everything from the outer IP header on, for a frame that is ours.
#[inline(always)]
fn forward<'a, F: Frame, T: Tables>(
    frame: F,
    at: u32,
    received: Received,
    settings: &Settings,
    tables: &'a T,
) -> Result<Verdict<'a>, DropReason> {
    let packet = frame.view::<50>(at).ok_or(DropReason::Truncated)?;
    let end = if received.gso {
        frame.length()
    } else {
        let total = packet.be16::<2>();
        let room = frame.length().saturating_sub(at);
        if u32::from(total) < SHORTEST
            || u32::from(total) > room
            || packet.be16::<24>() != total - ip::V4_HEADER as u16
        {
            return Err(DropReason::OuterHeader);
        }
        at + u32::from(total)
    };
    if !checksum::ipv4_header_is_valid(packet) {
        return Err(DropReason::OuterHeader);
    }
    if packet.u8::<28>() & outer::VNI_VALID == 0 {
        return Err(DropReason::VxlanFlags);
    }
    let (vni, source_be) = (packet.be32::<32>() >> 8, packet.u32::<12>());
    let bd = match tables.admission(settings, vni, source_be) {
        Ok(bd) => bd,
        Err(DropReason::UnknownVni) if settings.flags.has(SettingsFlags::PASS_UNKNOWN_VNI) => {
            return Ok(Verdict::NotOurs);
        }
        Err(reason) => return Err(reason),
    };
    let domain = domain(tables, bd)?;

    let inner_at = at + outer::INNER;
    let mut header = Header {
        destination: packet.mac::<36, 40>(),
        source: packet.mac::<42, 46>(),
        ethertype_be: packet.u16::<48>(),
    };
    header.check()?;
    let mut inner = Inner {
        at: inner_at,
        end,
        bd,
        header,
        priority_tag: false,
        remark: Remark::None,
    };
    if ethertype::is_tag(header.ethertype_be) {
        if end < inner_at + ethernet::HEADER + ethernet::TAG {
            return Err(DropReason::Truncated);
        }
        let tag = frame
            .view::<4>(inner_at + ethernet::HEADER)
            .ok_or(DropReason::Truncated)?;
        header.ethertype_be = tag.u16::<2>();
        if tag.be16::<0>() & 0x0fff != 0 || ethertype::is_tag(header.ethertype_be) {
            return Err(DropReason::InnerVlan);
        }
        inner.header = header;
        inner.priority_tag = true;
    }
    if end >= inner.payload() + ip::V4_HEADER {
        let outer = packet.u8::<1>() & 0b11;
        inner.remark = Remark::decide(frame, inner.payload(), header.ethertype_be, outer)?;
    }
    resolve(inner, domain, settings, tables)
}

/// `bds` has this incarnation of the bridge domain.
#[inline(always)]
pub fn domain<T: Tables>(tables: &T, bd: BdRef) -> Result<&BdEntry, DropReason> {
    match tables.bd(bd.bd) {
        Some(entry) if entry.flags.has(BdFlags::ACTIVE) && entry.generation == bd.generation => {
            Ok(entry)
        }
        _ => Err(DropReason::StaleEntry),
    }
}

/// The port of a slot, when it is in use by this bridge domain.
#[inline(always)]
pub fn port<T: Tables>(tables: &T, bd: BdRef, slot: u32) -> Result<Port<'_>, DropReason> {
    match tables.port(slot) {
        Some(entry) if entry.flags.has(PortFlags::ACTIVE) && entry.bd == bd => {
            Ok(Port { slot, entry })
        }
        _ => Err(DropReason::StaleEntry),
    }
}

/// The bridge domain of what a VTEP sends with a VNI.
///
/// # Errors
/// [`DropReason::UnknownVni`], [`DropReason::StaleEntry`], [`DropReason::OwnVtep`],
/// [`DropReason::UnknownVtep`]
#[inline(always)]
pub fn admit<T: Tables>(
    settings: &Settings,
    tables: &T,
    vni: u32,
    source_be: u32,
) -> Result<BdRef, DropReason> {
    let bd = tables.vni(vni).ok_or(DropReason::UnknownVni)?;
    domain(tables, bd)?;
    check_source(settings, tables, bd, source_be)?;
    Ok(bd)
}

#[inline(always)]
fn check_source<T: Tables>(
    settings: &Settings,
    tables: &T,
    bd: BdRef,
    source_be: u32,
) -> Result<(), DropReason> {
    if is_local(settings, source_be) {
        return Err(DropReason::OwnVtep);
    }
    let scope = if settings.flags.has(SettingsFlags::SOURCE_STRICT) {
        bd.bd
    } else if settings.flags.has(SettingsFlags::SOURCE_LOOSE) {
        Default::default()
    } else {
        return Ok(());
    };
    if tables.source(SourceKey::from_parts(scope, source_be)) {
        Ok(())
    } else {
        Err(DropReason::UnknownVtep)
    }
}

/// Where the inner frame goes. Local ports only: a frame from the overlay never returns to it.
#[inline(always)]
fn resolve<'a, T: Tables>(
    inner: Inner,
    domain: &BdEntry,
    settings: &Settings,
    tables: &'a T,
) -> Result<Verdict<'a>, DropReason> {
    let policy = if inner.header.is_group() {
        (BdFlags::FLOOD_BUM, DropReason::FloodOff)
    } else {
        let key = FdbKey::from_parts(inner.bd.bd, inner.header.destination);
        match tables.receiver(settings, key) {
            Some(word) if word.bd() != inner.bd => return Err(DropReason::StaleEntry),
            Some(word) if word.flags().has(FdbFlags::BLACK_HOLE) => {
                return Err(DropReason::BlackHole);
            }
            Some(word) if !word.flags().has(FdbFlags::LOCAL) => {
                return Err(DropReason::OverlayToOverlay);
            }
            Some(word) => {
                let port = port(tables, inner.bd, word.target())?;
                return Ok(Verdict::Port(inner, port));
            }
            None => (BdFlags::FLOOD_UNKNOWN, DropReason::UnknownUnicast),
        }
    };
    if !domain.flags.has(policy.0) {
        return Err(policy.1);
    }
    if let Some(word) = tables.fdb(FdbKey::from_parts(inner.bd.bd, inner.header.source))
        && word.bd() == inner.bd
        && word.flags().has(FdbFlags::LOCAL.with(FdbFlags::PINNED))
    {
        return Err(DropReason::LocalSourceFromOverlay);
    }
    let span = FloodSpan::from_bits(domain.flood);
    if span.ports == 0 {
        return Err(DropReason::NoReceiver);
    }
    Ok(Verdict::Flood(inner, span))
}

#[cfg(test)]
mod tests;

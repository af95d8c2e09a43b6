//! DHCPv4 and BOOTP.

use core::net::Ipv4Addr;

use super::{Datagram, Fault, Kind, Leases, Message, array, long, options, seconds, word};
use crate::{Mac, wire::ip::protocol};

/// Fixed part of a message (RFC 2131 §2), and what is at which offset in it.
const FIXED: usize = 236;
const XID: usize = 4;
const CIADDR: usize = 12;
const YIADDR: usize = 16;
const CHADDR: usize = 28;
const SNAME: core::ops::Range<usize> = 44..108;
const FILE: core::ops::Range<usize> = 108..FIXED;

/// Values of `op`.
const BOOTREQUEST: u8 = 1;
const BOOTREPLY: u8 = 2;
/// `htype` and `hlen` of Ethernet.
const ETHERNET: [u8; 2] = [1, 6];
/// In front of options (RFC 2131 §3); BOOTP has others, or none.
const COOKIE: [u8; 4] = [0x63, 0x82, 0x53, 0x63];

/// Values of option 53 (RFC 2132 §9.6).
mod kind {
    pub(super) const DISCOVER: u8 = 1;
    pub(super) const REQUEST: u8 = 3;
    pub(super) const DECLINE: u8 = 4;
    pub(super) const ACK: u8 = 5;
    pub(super) const RELEASE: u8 = 7;
}

pub(super) fn parse(packet: &[u8]) -> Result<Message, Fault> {
    let datagram = datagram(packet)?;
    let message = datagram.payload;
    if datagram.cut && message.len() < FIXED + COOKIE.len() {
        return Err(Fault::Cut);
    }
    let fixed = message.get(..FIXED).ok_or(Fault::Malformed)?;
    let [op, hardware @ .., _hops] = array::<4>(fixed, 0)?;
    if hardware != ETHERNET {
        return Err(Fault::Malformed);
    }
    let said = match message
        .get(FIXED..)
        .and_then(|rest| rest.split_first_chunk())
    {
        Some((cookie, part)) if *cookie == COOKIE => Said::read(fixed, part, datagram.cut)?,
        _ => Said::default(),
    };
    let (kind, leases) = match op {
        BOOTREQUEST => from_client(fixed, &said)?,
        BOOTREPLY => from_server(fixed, &said)?,
        _ => return Err(Fault::Malformed),
    };
    Ok(Message {
        v6: false,
        transaction: long(fixed, XID)?,
        client: Some(Mac(array(fixed, CHADDR)?)),
        kind,
        leases,
    })
}

/// The datagram of an IPv4 packet that is no fragment.
fn datagram(packet: &[u8]) -> Result<Datagram<'_>, Fault> {
    const MF_AND_OFFSET: usize = 0x3fff;
    let [first, ..] = array::<20>(packet, 0)?;
    if word(packet, 6)? & MF_AND_OFFSET != 0 {
        return Err(Fault::Fragment);
    }
    let header = usize::from(first & 0x0f) * 4;
    if header < 20 || packet.get(9) != Some(&protocol::UDP) {
        return Err(Fault::Malformed);
    }
    Datagram::new(packet, header, word(packet, 2)?)
}

fn from_client(fixed: &[u8], said: &Said) -> Result<(Kind, Leases), Fault> {
    let given_up = |address: Ipv4Addr| match address.is_unspecified() {
        true => Leases::NONE,
        false => Leases::one(address.into(), Some(0)),
    };
    Ok(match said.kind {
        None | Some(kind::DISCOVER | kind::REQUEST) => (Kind::Request, Leases::NONE),
        Some(kind::RELEASE) => (Kind::Release, given_up(address(fixed, CIADDR)?)),
        Some(kind::DECLINE) => {
            let requested = said.requested.ok_or(said.missing(Fault::Malformed))?;
            (Kind::Decline, given_up(requested))
        }
        // An INFORM asks for no address, and its answer gives none, whatever it says.
        Some(_) => (Kind::Other, Leases::NONE),
    })
}

fn from_server(fixed: &[u8], said: &Said) -> Result<(Kind, Leases), Fault> {
    let yours = address(fixed, YIADDR)?;
    if !matches!(said.kind, None | Some(kind::ACK)) {
        return Ok((Kind::Other, Leases::NONE));
    }
    if yours.is_unspecified() {
        return Ok((Kind::Reply, Leases::NONE));
    }
    let seconds = match (said.kind, said.lease) {
        (_, Some(lease)) => seconds(lease),
        (None, None) => None,
        (Some(_), None) => return Err(said.missing(Fault::NoLease)),
    };
    Ok((Kind::Reply, Leases::one(yours.into(), seconds)))
}

fn address(fixed: &[u8], at: usize) -> Result<Ipv4Addr, Fault> {
    array::<4>(fixed, at).map(Ipv4Addr::from)
}

/// The options that matter.
#[derive(Default)]
struct Said {
    kind: Option<u8>,
    lease: Option<u32>,
    requested: Option<Ipv4Addr>,
    /// Which other fields have options (RFC 2132 §9.3): 1 `file`, 2 `sname`.
    overload: Option<u8>,
    /// There may be more that was not read.
    cut: bool,
}

impl Said {
    fn read(fixed: &[u8], part: &[u8], cut: bool) -> Result<Self, Fault> {
        let mut said = Self::default();
        match said.take(part, cut) {
            // What is there may be enough.
            Err(Fault::Cut) => said.cut = true,
            other => other?,
        }
        let overload = said.overload.unwrap_or(0);
        if overload > 3 {
            return Err(Fault::Malformed);
        }
        for (bit, field) in [(1, FILE), (2, SNAME)] {
            if overload & bit != 0 {
                let part = fixed.get(field).ok_or(Fault::Malformed)?;
                said.take(part, false)?;
            }
        }
        // Without its kind it would be taken for BOOTP.
        if said.kind.is_none() && said.cut {
            return Err(Fault::Cut);
        }
        Ok(said)
    }

    fn take(&mut self, part: &[u8], cut: bool) -> Result<(), Fault> {
        let mut options = options::V4::new(part, cut);
        while let Some((code, value)) = options.next()? {
            match code {
                50 => once(&mut self.requested, value, Ipv4Addr::from)?,
                51 => once(&mut self.lease, value, u32::from_be_bytes)?,
                52 => once(&mut self.overload, value, |[byte]| byte)?,
                53 => once(&mut self.kind, value, |[byte]| byte)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Why an option that should be there is not.
    fn missing(&self, otherwise: Fault) -> Fault {
        if self.cut { Fault::Cut } else { otherwise }
    }
}

/// An option of `N` bytes. None that matters is long enough to be split (RFC 3396).
fn once<T, const N: usize>(
    option: &mut Option<T>,
    value: &[u8],
    read: impl FnOnce([u8; N]) -> T,
) -> Result<(), Fault> {
    let value: [u8; N] = value.try_into().map_err(|_| Fault::Malformed)?;
    match option.replace(read(value)) {
        None => Ok(()),
        Some(_) => Err(Fault::Malformed),
    }
}

//! DHCPv6.

use core::net::Ipv6Addr;

use super::{Datagram, Fault, Kind, Lease, Leases, Message, array, long, options, seconds, word};
use crate::wire::ip::{V6_HEADER, protocol};

/// Message types (RFC 8415 §7.3).
mod kind {
    pub(super) const SOLICIT: u8 = 1;
    pub(super) const REQUEST: u8 = 3;
    pub(super) const CONFIRM: u8 = 4;
    pub(super) const RENEW: u8 = 5;
    pub(super) const REBIND: u8 = 6;
    pub(super) const REPLY: u8 = 7;
    pub(super) const RELEASE: u8 = 8;
    pub(super) const DECLINE: u8 = 9;
}

/// Option codes (RFC 8415 §21). Not `IA_PD` (25): a prefix is routed to whoever has it, and is nobody's
/// neighbour.
mod option {
    pub(super) const IA_NA: usize = 3;
    pub(super) const IA_TA: usize = 4;
    pub(super) const IAADDR: usize = 5;
    pub(super) const STATUS_CODE: usize = 13;
}

/// Bytes of an option in front of its own options.
const IA_NA: usize = 12;
const IA_TA: usize = 4;
const IAADDR: usize = 24;

/// A message is read whole or not at all: a status that was cut off may take back what was said.
pub(super) fn parse(packet: &[u8]) -> Result<Message, Fault> {
    let header = V6_HEADER as usize;
    match packet.get(6) {
        Some(&protocol::UDP) => {}
        Some(&protocol::FRAGMENT) => return Err(Fault::Fragment),
        _ => return Err(Fault::Malformed),
    }
    let datagram = Datagram::new(packet, header, header + word(packet, 4)?)?;
    let [kind, transaction @ ..] = array::<4>(datagram.payload, 0)?;
    let [a, b, c] = transaction;
    let kind = match kind {
        kind::SOLICIT | kind::REQUEST | kind::CONFIRM | kind::RENEW | kind::REBIND => Kind::Request,
        kind::REPLY => Kind::Reply,
        kind::RELEASE => Kind::Release,
        kind::DECLINE => Kind::Decline,
        _ => Kind::Other,
    };
    let leases = match kind {
        Kind::Request | Kind::Other => Leases::NONE,
        _ if datagram.cut => return Err(Fault::Cut),
        _ => leases(datagram.payload.get(4..).unwrap_or_default())?,
    };
    Ok(Message {
        v6: true,
        transaction: u32::from_be_bytes([0, a, b, c]),
        client: None,
        kind,
        leases,
    })
}

/// All addresses of a message, unless its status says that nothing came of it.
fn leases(message: &[u8]) -> Result<Leases, Fault> {
    let mut leases = Leases::NONE;
    let mut failed = false;
    let mut options = options::V6::new(message);
    while let Some((code, value)) = options.next()? {
        match code {
            option::IA_NA => leases.append(&addresses(value, IA_NA)?)?,
            option::IA_TA => leases.append(&addresses(value, IA_TA)?)?,
            option::STATUS_CODE => failed |= word(value, 0)? != 0,
            _ => {}
        }
    }
    Ok(if failed { Leases::NONE } else { leases })
}

/// Those of an identity association, unless its status says that there are none.
fn addresses(association: &[u8], header: usize) -> Result<Leases, Fault> {
    let mut leases = Leases::NONE;
    let mut failed = false;
    let mut options = options::V6::new(association.get(header..).ok_or(Fault::Malformed)?);
    while let Some((code, value)) = options.next()? {
        match code {
            option::IAADDR => {
                if let Some(lease) = address(value)? {
                    leases.push(lease)?;
                }
            }
            option::STATUS_CODE => failed |= word(value, 0)? != 0,
            _ => {}
        }
    }
    Ok(if failed { Leases::NONE } else { leases })
}

/// `None`: the client disregards it (RFC 8415 §18.2.10.1).
fn address(value: &[u8]) -> Result<Option<Lease>, Fault> {
    let (preferred, valid) = (long(value, 16)?, long(value, 20)?);
    let mut options = options::V6::new(value.get(IAADDR..).ok_or(Fault::Malformed)?);
    let mut failed = preferred > valid;
    while let Some((code, value)) = options.next()? {
        failed |= code == option::STATUS_CODE && word(value, 0)? != 0;
    }
    Ok((!failed).then_some(Lease {
        address: Ipv6Addr::from(array::<16>(value, 0)?).into(),
        seconds: seconds(valid),
    }))
}

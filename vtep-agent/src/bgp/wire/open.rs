//! OPEN (RFC 4271 §4.2, RFC 5492, RFC 6793, RFC 9072).

use std::net::Ipv4Addr;

use bytes::{BufMut, BytesMut};

use super::{
    Capability, Notification, Reader,
    capability::{GracefulRestart, LongLivedFamily},
    reader::WrongLength,
    writer::{with_u8_length, with_u16_length},
};
use crate::types::Asn;

const VERSION: u8 = 4;
/// Optional parameter: capabilities.
const CAPABILITIES: u8 = 2;
/// Optional parameter type and length that announce the extended form (RFC 9072 §2).
const EXTENDED: u8 = 0xff;

/// OPEN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// The speaker's AS: from the four-octet capability if it is present, else My AS. On the wire
    /// the capability appears only if it is in `capabilities`.
    pub asn: Asn,
    /// Hold time in seconds.
    pub hold_time: u16,
    /// BGP identifier.
    pub router_id: Ipv4Addr,
    /// Capabilities of all optional parameters, in order.
    pub capabilities: Vec<Capability>,
}

impl Open {
    /// The graceful restart capability; of several the last counts (RFC 4724 §3).
    pub fn graceful_restart(&self) -> Option<&GracefulRestart> {
        self.capabilities
            .iter()
            .rev()
            .find_map(|capability| match capability {
                Capability::GracefulRestart(restart) => Some(restart),
                _ => None,
            })
    }

    /// The families of the long-lived graceful restart capability; of several, the last one counts.
    pub fn long_lived_graceful_restart(&self) -> Option<&[LongLivedFamily]> {
        self.capabilities
            .iter()
            .rev()
            .find_map(|capability| match capability {
                Capability::LongLivedGracefulRestart(families) => Some(&families[..]),
                _ => None,
            })
    }

    /// The speaker's name as it wants to be displayed, without what could disturb a terminal.
    pub fn hostname(&self) -> Option<String> {
        let capability = self
            .capabilities
            .iter()
            .find_map(|capability| match capability {
                Capability::Fqdn { host, domain } => Some((host, domain)),
                _ => None,
            });
        let (host, domain) = capability?;
        let name = match (printable(host), printable(domain)) {
            (host, domain) if domain.is_empty() => host,
            (host, domain) => format!("{host}.{domain}"),
        };
        (!name.is_empty()).then_some(name)
    }

    /// Checks what doesn't depend on configuration: version, identifier not zero, hold time not
    /// one or two, AS not zero (RFC 7607 §2), well-formed parameters.
    pub(super) fn decode(body: &[u8]) -> Result<Self, Notification> {
        let mut reader = Reader::new(body);
        let fixed = |WrongLength| Notification::new(2, 0);
        if reader.u8().map_err(fixed)? != VERSION {
            return Err(Notification::with_data(2, 1, &[0, VERSION]));
        }
        let my_as = reader.u16().map_err(fixed)?;
        let hold_time = reader.u16().map_err(fixed)?;
        let router_id = Ipv4Addr::from_bits(reader.u32().map_err(fixed)?);
        let capabilities = parameters(reader)?;
        let asn = capabilities
            .iter()
            .find_map(|capability| match capability {
                Capability::FourOctetAs(asn) => Some(*asn),
                _ => None,
            })
            .unwrap_or(Asn(my_as.into()));
        if asn == Asn(0) {
            return Err(Notification::BAD_PEER_AS);
        }
        if router_id.is_unspecified() {
            return Err(Notification::BAD_IDENTIFIER);
        }
        if matches!(hold_time, 1 | 2) {
            return Err(Notification::UNACCEPTABLE_HOLD_TIME);
        }
        Ok(Self {
            asn,
            hold_time,
            router_id,
            capabilities,
        })
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        out.put_u8(VERSION);
        out.put_u16(self.asn.to_u16());
        out.put_u16(self.hold_time);
        out.put_u32(self.router_id.to_bits());
        let mut capabilities = BytesMut::new();
        for capability in &self.capabilities {
            capability.encode(&mut capabilities);
        }
        if capabilities.is_empty() {
            out.put_u8(0);
        } else if capabilities.len() <= 253 {
            with_u8_length(out, |out| {
                out.put_u8(CAPABILITIES);
                with_u8_length(out, |out| out.put_slice(&capabilities));
            });
        } else {
            out.put_slice(&[EXTENDED, EXTENDED]);
            with_u16_length(out, |out| {
                out.put_u8(CAPABILITIES);
                with_u16_length(out, |out| out.put_slice(&capabilities));
            });
        }
    }
}

/// The characters that names of hosts are made of, 64 of them at most.
fn printable(name: &[u8]) -> String {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._".contains(byte);
    let name = name.iter().copied().filter(allowed).take(64);
    name.map(char::from).collect()
}

fn parameters(mut reader: Reader<'_>) -> Result<Vec<Capability>, Notification> {
    let malformed = |WrongLength| Notification::new(2, 0);
    let length = reader.u8().map_err(malformed)?;
    let extended = length != 0 && {
        let mut ahead = reader;
        ahead.u8() == Ok(EXTENDED)
    };
    let length = if extended {
        reader.u8().map_err(malformed)?;
        reader.u16().map_err(malformed)?
    } else {
        length.into()
    };
    let mut parameters = Reader::new(reader.take(length.into()).map_err(malformed)?);
    reader.finish().map_err(malformed)?;

    let mut capabilities = Vec::new();
    while !parameters.is_empty() {
        let kind = parameters.u8().map_err(malformed)?;
        let length = match extended {
            true => parameters.u16(),
            false => parameters.u8().map(u16::from),
        }
        .map_err(malformed)?;
        let value = parameters.take(length.into()).map_err(malformed)?;
        if kind != CAPABILITIES {
            return Err(Notification::new(2, 4));
        }
        let mut value = Reader::new(value);
        while !value.is_empty() {
            let code = value.u8().map_err(malformed)?;
            let length = value.u8().map_err(malformed)?;
            let value = value.take(length.into()).map_err(malformed)?;
            capabilities.push(Capability::decode(code, value).map_err(malformed)?);
        }
    }
    Ok(capabilities)
}

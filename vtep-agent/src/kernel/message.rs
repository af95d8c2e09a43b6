//! Netlink framing: messages in a datagram, attributes in a message, requests as bytes.
//!
//! Only the attributes that the agent uses are read; whatever else a newer kernel adds is skipped,
//! so no unknown attribute can hide a device or a route. Integers are in host byte order.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Size of `struct nlmsghdr`.
const HEADER: usize = 16;
/// The type bits of `nla_type`, without `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`.
const TYPE_MASK: u16 = 0x3fff;

/// One message of a datagram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    /// `nlmsg_type`
    pub kind: u16,
    /// `nlmsg_flags`
    pub flags: u16,
    /// `nlmsg_seq`
    pub sequence: u32,
    /// What follows the netlink header.
    pub body: &'a [u8],
}

impl<'a> Message<'a> {
    /// The family's fixed header of `N` bytes and the attributes behind it.
    pub fn split<const N: usize>(&self) -> Option<(&'a [u8; N], Attributes<'a>)> {
        let (header, rest) = self.body.split_first_chunk()?;
        Some((header, Attributes(rest)))
    }
}

/// The datagram ends inside a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Truncated;

/// The messages of one datagram. Ends after the first [`Truncated`].
pub(super) struct Messages<'a>(pub &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, Truncated>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let message = self.take().ok_or(Truncated);
        if message.is_err() {
            self.0 = &[];
        }
        Some(message)
    }
}

impl<'a> Messages<'a> {
    fn take(&mut self) -> Option<Message<'a>> {
        let bytes = self.0;
        let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
        let body = bytes.get(HEADER..length)?;
        self.0 = bytes.get(align(length)..).unwrap_or_default();
        Some(Message {
            kind: u16_at(bytes, 4)?,
            flags: u16_at(bytes, 6)?,
            sequence: u32_at(bytes, 8)?,
            body,
        })
    }
}

/// Attributes: type (without its flag bits) and value. Ends at the first malformed one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attributes<'a>(pub &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = self.0;
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & TYPE_MASK;
        let value = bytes.get(4..length)?;
        self.0 = bytes.get(align(length)..).unwrap_or_default();
        Some((kind, Value(value)))
    }
}

impl<'a> Attributes<'a> {
    /// The first attribute of a type.
    pub fn find(mut self, kind: u16) -> Option<Value<'a>> {
        self.find_map(|(found, value)| (found == kind).then_some(value))
    }
}

/// The value of an attribute.
#[derive(Clone, Copy, Debug)]
pub(super) struct Value<'a>(pub &'a [u8]);

impl<'a> Value<'a> {
    pub fn u8(self) -> Option<u8> {
        self.0.first().copied()
    }

    pub fn u16(self) -> Option<u16> {
        u16_at(self.0, 0)
    }

    pub fn u16_be(self) -> Option<u16> {
        self.u16().map(u16::from_be)
    }

    pub fn u32(self) -> Option<u32> {
        u32_at(self.0, 0)
    }

    pub fn u64(self) -> Option<u64> {
        Some(u64::from_ne_bytes(*self.0.first_chunk()?))
    }

    /// A NUL-terminated string; `None` when it is not UTF-8.
    pub fn text(self) -> Option<&'a str> {
        let bytes = self.0.split(|byte| *byte == 0).next()?;
        std::str::from_utf8(bytes).ok()
    }

    /// An address, IPv4 or IPv6 by its length.
    pub fn ip(self) -> Option<IpAddr> {
        match self.0.len() {
            4 => Some(Ipv4Addr::from(*self.0.first_chunk()?).into()),
            16 => Some(Ipv6Addr::from(*self.0.first_chunk()?).into()),
            _ => None,
        }
    }

    /// The attributes inside.
    pub fn nested(self) -> Attributes<'a> {
        Attributes(self.0)
    }
}

/// A request under construction. The sequence number is filled in when it is sent.
#[derive(Clone, Debug)]
pub(super) struct Request(Vec<u8>);

impl Request {
    /// A request of a type with the family's fixed header; `NLM_F_REQUEST` is added to the flags.
    pub fn new(kind: u16, flags: i32, header: &[u8]) -> Self {
        let flags = (flags | libc::NLM_F_REQUEST) as u16;
        let mut bytes = Vec::with_capacity(128);
        bytes.extend([0; 4]);
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(header);
        Self(bytes)
    }

    /// Adds an attribute.
    #[must_use]
    pub fn with(mut self, kind: u16, value: &[u8]) -> Self {
        push(&mut self.0, kind, value);
        self
    }

    /// Adds the address as an attribute of its family's size.
    #[must_use]
    pub fn with_ip(self, kind: u16, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => self.with(kind, &address.octets()),
            IpAddr::V6(address) => self.with(kind, &address.octets()),
        }
    }

    /// The bytes to send.
    pub fn finish(&self, sequence: u32) -> Vec<u8> {
        let mut bytes = self.0.clone();
        let length = bytes.len() as u32;
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        bytes
    }
}

/// Encodes one attribute, for nesting.
pub(super) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    push(&mut bytes, kind, value);
    bytes
}

fn push(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    bytes.extend((4 + value.len() as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(align(bytes.len()), 0);
}

const fn align(length: usize) -> usize {
    (length + 3) & !3
}

pub(super) fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(offset..)?.first_chunk()?))
}

pub(super) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(offset..)?.first_chunk()?))
}

/// The address family's number.
pub(super) const fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => libc::AF_INET as u8,
        IpAddr::V6(_) => libc::AF_INET6 as u8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_is_read_back() {
        let request = Request::new(18, 0, &[7; 16])
            .with(3, b"eth0\0")
            .with_ip(1, "198.18.0.1".parse().unwrap());
        let bytes = request.finish(42);
        let messages: Vec<_> = Messages(&bytes).collect();
        let [Ok(message)] = messages[..] else {
            panic!("{messages:?}")
        };
        assert_eq!((message.kind, message.flags, message.sequence), (18, 1, 42));
        let (header, attributes) = message.split::<16>().unwrap();
        assert_eq!(header, &[7; 16]);
        assert_eq!(attributes.find(3).unwrap().text(), Some("eth0"));
        assert_eq!(
            attributes.find(1).unwrap().ip(),
            Some("198.18.0.1".parse().unwrap())
        );
        assert!(attributes.find(2).is_none());
    }

    #[test]
    fn every_truncation_is_an_end_or_an_error() {
        let bytes = Request::new(18, 0, &[7; 16]).with(3, b"eth0\0").finish(1);
        for length in 1..bytes.len() {
            let messages: Vec<_> = Messages(&bytes[..length]).collect();
            assert!(matches!(messages[..], [Err(Truncated)]), "{length}");
        }
        let attributes = attribute(3, b"eth0\0");
        for length in 0..9 {
            assert_eq!(Attributes(&attributes[..length]).count(), 0, "{length}");
        }
        assert_eq!(
            Attributes(&attributes[..9]).count(),
            1,
            "padding may be missing"
        );
    }

    #[test]
    fn lengths_below_the_header_end_the_walk() {
        assert!(matches!(
            Messages(&[8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).next(),
            Some(Err(Truncated))
        ));
        assert_eq!(Attributes(&[0, 0, 1, 0, 0, 0, 0, 0]).count(), 0);
    }
}

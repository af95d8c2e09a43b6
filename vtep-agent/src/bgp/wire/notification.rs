//! NOTIFICATION (RFC 4271 §4.5, §6).

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use super::{Family, MAX_LEN, Reader, frame::HEADER_LEN};

/// Octets of data that `Display` prints.
const SHOWN_DATA: usize = 64;

/// The reason for which a session ends.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Notification {
    /// Error code.
    pub code: u8,
    /// Error subcode.
    pub subcode: u8,
    /// Diagnostic data.
    pub data: Bytes,
}

impl Notification {
    /// RFC 4271 §6.5.
    pub const HOLD_TIMER_EXPIRED: Self = Self::new(4, 0);
    /// An unexpected message in OpenSent (RFC 6608).
    pub const UNEXPECTED_IN_OPEN_SENT: Self = Self::new(5, 1);
    /// An unexpected message in OpenConfirm (RFC 6608).
    pub const UNEXPECTED_IN_OPEN_CONFIRM: Self = Self::new(5, 2);
    /// An unexpected message in Established (RFC 6608).
    pub const UNEXPECTED_IN_ESTABLISHED: Self = Self::new(5, 3);
    /// The peer's AS is not the configured one (RFC 4271 §6.2).
    pub const BAD_PEER_AS: Self = Self::new(2, 2);
    /// The peer's identifier is zero, or ours on an internal session (RFC 6286 §2.2).
    pub const BAD_IDENTIFIER: Self = Self::new(2, 3);
    /// A hold time of one or two seconds (RFC 4271 §6.2).
    pub const UNACCEPTABLE_HOLD_TIME: Self = Self::new(2, 6);
    /// The session was removed from the configuration (RFC 4486).
    pub const PEER_DECONFIGURED: Self = Self::new(6, 3);
    /// The peer is not configured (RFC 4486).
    pub const CONNECTION_REJECTED: Self = Self::new(6, 5);
    /// The configuration changed (RFC 4486).
    pub const OTHER_CONFIGURATION_CHANGE: Self = Self::new(6, 6);
    /// The other connection of a collision is kept (RFC 4271 §6.8).
    pub const COLLISION: Self = Self::new(6, 7);
    /// BFD says that the path is down (RFC 9384 §3).
    pub const BFD_DOWN: Self = Self::new(6, 10);
    /// The peer doesn't read what is sent (RFC 9687 §4).
    pub const SEND_HOLD_TIMER_EXPIRED: Self = Self::new(8, 0);

    /// Without data.
    pub const fn new(code: u8, subcode: u8) -> Self {
        Self {
            code,
            subcode,
            data: Bytes::new(),
        }
    }

    /// With data, cut to what a message of [`MAX_LEN`] holds.
    pub fn with_data(code: u8, subcode: u8, data: &[u8]) -> Self {
        let room = MAX_LEN.saturating_sub(HEADER_LEN).saturating_sub(2);
        Self {
            code,
            subcode,
            data: Bytes::copy_from_slice(data.get(..room).unwrap_or(data)),
        }
    }

    /// Cease, administrative shutdown, with a text for the peer's operator (RFC 9003 §2). The text
    /// is cut to the 128 octets that an RFC 8203 speaker takes.
    pub fn administrative_shutdown(text: &str) -> Self {
        Self::with_communication(2, text)
    }

    /// Cease, administrative reset, with a text (RFC 9003 §2).
    pub fn administrative_reset(text: &str) -> Self {
        Self::with_communication(4, text)
    }

    /// Cease, maximum number of prefixes reached (RFC 4486 §4).
    pub fn max_prefixes(family: Family, limit: u32) -> Self {
        let mut data = BytesMut::new();
        family.encode(&mut data);
        data.put_u32(limit);
        Self::with_data(6, 1, &data)
    }

    /// Cease, hard reset, with the error that is the reason (RFC 8538 §3.1).
    pub fn hard_reset(reason: &Self) -> Self {
        Self::with_data(
            6,
            9,
            &[&[reason.code, reason.subcode], &reason.data[..]].concat(),
        )
    }

    /// Whether the peer's routes are to be dropped even if both sides sent the N bit.
    pub fn is_hard_reset(&self) -> bool {
        (self.code, self.subcode) == (6, 9)
    }

    /// The required capabilities that an OPEN lacks, as TLVs (RFC 5492 §5).
    pub fn unsupported_capabilities(required: &[super::Capability]) -> Self {
        let mut data = BytesMut::new();
        for capability in required {
            capability.encode(&mut data);
        }
        Self::with_data(2, 7, &data)
    }

    /// The text of an administrative shutdown or reset (RFC 9003 §2), also when it is encapsulated
    /// in a hard reset (RFC 8538 §5.2). `None` without a text or when it is malformed.
    pub fn communication(&self) -> Option<&str> {
        let mut reader = Reader::new(&self.data);
        let subcode = match (self.code, self.subcode) {
            (6, 9) => match reader.array() {
                Ok([6, subcode]) => subcode,
                _ => return None,
            },
            (6, subcode) => subcode,
            _ => return None,
        };
        if !matches!(subcode, 2 | 4) {
            return None;
        }
        let length = reader.u8().ok()?;
        let text = reader.take(length.into()).ok()?;
        reader.finish().ok()?;
        std::str::from_utf8(text)
            .ok()
            .filter(|text| !text.is_empty())
    }

    /// The family of which there were too many routes, and the limit (RFC 4486 §4). `None` without them or when they are malformed.
    fn prefix_limit(&self) -> Option<(Family, u32)> {
        if (self.code, self.subcode) != (6, 1) {
            return None;
        }
        let mut reader = Reader::new(&self.data);
        let family = Family::decode(&mut reader).ok()?;
        let limit = reader.u32().ok()?;
        reader.finish().ok()?;
        Some((family, limit))
    }

    fn with_communication(subcode: u8, text: &str) -> Self {
        let text = text.get(..text.floor_char_boundary(128)).unwrap_or(text);
        let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
        Self::with_data(6, subcode, &[&[length], text.as_bytes()].concat())
    }

    pub(super) fn decode(body: &[u8]) -> Self {
        let mut reader = Reader::new(body);
        // The frame's minimum length has both; were they absent, 0/0 reads as an unknown error.
        let [code, subcode] = reader.array().unwrap_or_default();
        Self {
            code,
            subcode,
            data: Bytes::copy_from_slice(reader.rest()),
        }
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        out.put_u8(self.code);
        out.put_u8(self.subcode);
        let room = MAX_LEN.saturating_sub(HEADER_LEN).saturating_sub(2);
        out.put_slice(self.data.get(..room).unwrap_or(&self.data));
    }

    fn names(&self) -> (&'static str, Option<&'static str>) {
        let code = match self.code {
            1 => "message header error",
            2 => "OPEN message error",
            3 => "UPDATE message error",
            4 => "hold timer expired",
            5 => "finite state machine error",
            6 => "cease",
            7 => "ROUTE-REFRESH message error",
            8 => "send hold timer expired",
            _ => "unknown error",
        };
        let subcode = match (self.code, self.subcode) {
            (1, 1) => "connection not synchronized",
            (1, 2) => "bad message length",
            (1, 3) => "bad message type",
            (2, 1) => "unsupported version number",
            (2, 2) => "bad peer AS",
            (2, 3) => "bad BGP identifier",
            (2, 4) => "unsupported optional parameter",
            (2, 6) => "unacceptable hold time",
            (2, 7) => "unsupported capability",
            (2, 11) => "role mismatch",
            (3, 1) => "malformed attribute list",
            (3, 2) => "unrecognized well-known attribute",
            (3, 3) => "missing well-known attribute",
            (3, 4) => "attribute flags error",
            (3, 5) => "attribute length error",
            (3, 6) => "invalid ORIGIN attribute",
            (3, 8) => "invalid NEXT_HOP attribute",
            (3, 9) => "optional attribute error",
            (3, 10) => "invalid network field",
            (3, 11) => "malformed AS_PATH",
            (5, 1) => "unexpected message in OpenSent",
            (5, 2) => "unexpected message in OpenConfirm",
            (5, 3) => "unexpected message in Established",
            (6, 1) => "maximum number of prefixes reached",
            (6, 2) => "administrative shutdown",
            (6, 3) => "peer de-configured",
            (6, 4) => "administrative reset",
            (6, 5) => "connection rejected",
            (6, 6) => "other configuration change",
            (6, 7) => "connection collision resolution",
            (6, 8) => "out of resources",
            (6, 9) => "hard reset",
            (6, 10) => "BFD down",
            (7, 1) => "invalid message length",
            _ => return (code, None),
        };
        (code, Some(subcode))
    }
}

/// The names of the RFCs, numbers for what has none, and the text of RFC 9003 quoted and escaped:
/// `cease: administrative shutdown "maintenance"`. Other data follow in hexadecimal, as far as a
/// log line has room: `message header error: bad message type, data 09`.
impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.names() {
            ("unknown error", _) => write!(f, "error {}/{}", self.code, self.subcode)?,
            (code, Some(subcode)) => write!(f, "{code}: {subcode}")?,
            (code, None) if self.subcode == 0 => f.write_str(code)?,
            (code, None) => write!(f, "{code}: subcode {}", self.subcode)?,
        }
        if self.is_hard_reset() && self.data.len() >= 2 {
            return write!(f, " ({})", Self::decode(&self.data));
        }
        if let Some(text) = self.communication() {
            return write!(f, " {text:?}");
        }
        if let Some((family, limit)) = self.prefix_limit() {
            return write!(f, " ({limit} of {family})");
        }
        if self.data.is_empty() {
            return Ok(());
        }
        f.write_str(", data ")?;
        let mut shown = self.data.iter().take(SHOWN_DATA);
        shown.try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(if self.data.len() > SHOWN_DATA {
            "…"
        } else {
            ""
        })
    }
}

impl fmt::Debug for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} {:02x?}", self.code, self.subcode, &self.data[..])
    }
}

impl std::error::Error for Notification {}

/// Message header errors (RFC 4271 §6.1).
pub(super) mod header {
    use super::Notification;

    pub(in super::super) fn not_synchronized() -> Notification {
        Notification::new(1, 1)
    }

    pub(in super::super) fn bad_length(length: u16) -> Notification {
        Notification::with_data(1, 2, &length.to_be_bytes())
    }

    pub(in super::super) fn bad_type(code: u8) -> Notification {
        Notification::with_data(1, 3, &[code])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// BGP-020: the RFC 9003 layout.
    #[test]
    fn shutdown_communication() {
        let sent = Notification::administrative_shutdown("TICKET-1");
        assert_eq!((sent.code, sent.subcode), (6, 2));
        assert_eq!(&sent.data[..], b"\x08TICKET-1");
        assert_eq!(
            sent.to_string(),
            "cease: administrative shutdown \"TICKET-1\""
        );
        let long = Notification::administrative_shutdown(&"é".repeat(100));
        assert_eq!(long.communication(), Some("é".repeat(64).as_str()));
        assert_eq!(Notification::administrative_reset("").communication(), None);
    }

    /// RFC 8538 §5.2: the text inside a hard reset.
    #[test]
    fn encapsulated_communication() {
        let reset = Notification::with_data(6, 9, b"\x06\x02\x02hi");
        assert_eq!(
            reset.to_string(),
            "cease: hard reset (cease: administrative shutdown \"hi\")"
        );
    }

    /// BGP-021: a length beyond the data, invalid UTF-8, octets behind the text.
    #[test]
    fn malformed_communication_is_shown_in_hexadecimal() {
        for (data, shown) in [
            (&b"\xc80123"[..], ", data c830313233"),
            (b"\x02\xff\xfe", ", data 02fffe"),
            (b"\x01ab", ", data 016162"),
            (b"", ""),
        ] {
            let shutdown = Notification::with_data(6, 2, data).to_string();
            assert_eq!(shutdown, format!("cease: administrative shutdown{shown}"));
        }
        let long = Notification::with_data(3, 9, &[0xab; 65]).to_string();
        assert!(long.ends_with("abab…"), "{long}");
    }

    /// BGP-022: family and limit are readable, inside a hard reset too; anything else is shown as it is.
    #[test]
    fn too_many_prefixes() {
        let cease = Notification::max_prefixes(Family::EVPN, 100);
        let text = "cease: maximum number of prefixes reached (100 of evpn)";
        assert_eq!(cease.to_string(), text);
        let reset = Notification::hard_reset(&cease).to_string();
        assert_eq!(reset, format!("cease: hard reset ({text})"));
        let short = Notification::with_data(6, 1, &[0, 25, 70]).to_string();
        assert!(short.ends_with("reached, data 001946"), "{short}");
    }

    #[test]
    fn names() {
        for (code, subcode, text) in [
            (4, 0, "hold timer expired"),
            (6, 7, "cease: connection collision resolution"),
            (6, 99, "cease: subcode 99"),
            (3, 1, "UPDATE message error: malformed attribute list"),
            (99, 3, "error 99/3"),
        ] {
            assert_eq!(Notification::new(code, subcode).to_string(), text);
        }
    }
}

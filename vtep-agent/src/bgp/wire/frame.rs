//! Message framing (RFC 4271 §4.1, RFC 8654).

use bytes::{Buf, Bytes, BytesMut};

use super::{Notification, Reader, notification::header};

/// Octets of a message header.
pub const HEADER_LEN: usize = 19;
/// The longest message (RFC 4271 §4.1).
pub const MAX_LEN: usize = 4096;
/// The longest message after both sides sent the Extended Message capability (RFC 8654 §4).
pub const EXTENDED_MAX_LEN: usize = 65535;

pub(super) const MARKER: [u8; 16] = [0xff; 16];

/// Type of a message by its number in the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum MessageType {
    /// OPEN.
    Open = 1,
    /// UPDATE.
    Update = 2,
    /// NOTIFICATION.
    Notification = 3,
    /// KEEPALIVE.
    Keepalive = 4,
    /// ROUTE-REFRESH (RFC 2918).
    RouteRefresh = 5,
}

/// A whole message whose header is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    kind: MessageType,
    bytes: Bytes,
}

impl Frame {
    /// Type of the message.
    pub fn kind(&self) -> MessageType {
        self.kind
    }

    /// The message with its header, as received.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// What follows the header.
    pub(super) fn body(&self) -> &[u8] {
        self.bytes.get(HEADER_LEN..).unwrap_or_default()
    }
}

/// Takes one whole message off the front of `buffer`; `Ok(None)` when more bytes are needed.
/// `max_len` is [`MAX_LEN`], or [`EXTENDED_MAX_LEN`] once we advertised Extended Message; OPEN and
/// KEEPALIVE never exceed [`MAX_LEN`].
///
/// # Errors
///
/// The NOTIFICATION to send for a bad header (RFC 4271 §6.1). The stream is then out of step and
/// can't be read on.
pub fn next_frame(buffer: &mut BytesMut, max_len: usize) -> Result<Option<Frame>, Notification> {
    let mut reader = Reader::new(buffer);
    let (Ok(marker), Ok(length), Ok(code)) = (reader.array::<16>(), reader.u16(), reader.u8())
    else {
        return Ok(None);
    };
    if marker != MARKER {
        return Err(header::not_synchronized());
    }
    let whole = usize::from(length);
    if whole < HEADER_LEN || whole > max_len {
        return Err(header::bad_length(length));
    }
    let (kind, allowed) = match code {
        1 => (MessageType::Open, 29..=MAX_LEN),
        2 => (MessageType::Update, 23..=max_len),
        3 => (MessageType::Notification, 21..=max_len),
        4 => (MessageType::Keepalive, HEADER_LEN..=HEADER_LEN),
        5 => (MessageType::RouteRefresh, 23..=max_len),
        _ => return Err(header::bad_type(code)),
    };
    if !allowed.contains(&whole) {
        return Err(header::bad_length(length));
    }
    if buffer.remaining() < whole {
        return Ok(None);
    }
    Ok(Some(Frame {
        kind,
        bytes: buffer.split_to(whole).freeze(),
    }))
}

//! Messages as values (RFC 4271 §4).

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    Family, Fault, Frame, HEADER_LEN, MAX_LEN, MessageType, Notification, Open, Reader, Update,
    frame::MARKER, update, writer::with_u16_length,
};
use crate::types::{Asn, Families};

/// A message.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// OPEN.
    Open(Open),
    /// UPDATE.
    Update(Update),
    /// NOTIFICATION.
    Notification(Notification),
    /// KEEPALIVE.
    Keepalive,
    /// ROUTE-REFRESH.
    RouteRefresh(RouteRefresh),
}

/// ROUTE-REFRESH (RFC 2918 §3, RFC 7313 §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteRefresh {
    /// Family.
    pub family: Family,
    /// One of the constants; others are to be ignored.
    pub subtype: u8,
}

impl RouteRefresh {
    /// Send everything again.
    pub const REQUEST: u8 = 0;
    /// Beginning of route refresh.
    pub const BEGIN: u8 = 1;
    /// End of route refresh.
    pub const END: u8 = 2;
}

/// What of a session's negotiation and configuration decides how bytes are read and written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// Both sides sent the four-octet AS capability (RFC 6793).
    pub four_octet_as: bool,
    /// iBGP.
    pub internal: bool,
    /// The peer's AS.
    pub peer_asn: Asn,
    /// Families of which routes are read; those of others are skipped.
    pub families: Families,
    /// Route target memberships are exchanged (RFC 4684).
    pub rt_constraint: bool,
    /// The peer's NLRI of the EVPN family carry a path identifier (RFC 7911 §3). Ours never do.
    pub add_path: bool,
    /// Enhanced route refresh was negotiated: an answer to a ROUTE-REFRESH is enclosed in BoRR and
    /// EoRR (RFC 7313 §4.1).
    pub enhanced_refresh: bool,
    /// Reset the session when the length of a known EVPN route is inconsistent with its type, as
    /// RFC 7606 §5.3 has it, instead of dropping that route alone.
    pub strict_nlri: bool,
    /// The first AS of an external peer's AS_PATH must be the peer's (RFC 4271 §6.3).
    pub enforce_first_as: bool,
    /// Accept AS_SET and AS_CONFED_SET, which RFC 9774 §3 treats as withdraw.
    pub accept_as_sets: bool,
}

/// iBGP with four-octet AS numbers and the EVPN family.
impl Default for Context {
    fn default() -> Self {
        Self {
            four_octet_as: true,
            internal: true,
            peer_asn: Asn(0),
            families: Families::EVPN,
            rt_constraint: false,
            add_path: false,
            enhanced_refresh: false,
            strict_nlri: false,
            enforce_first_as: true,
            accept_as_sets: false,
        }
    }
}

/// A message and what was tolerated in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The message.
    pub message: Message,
    /// Errors that RFC 7606 doesn't answer with a reset, to be logged and counted.
    pub faults: Vec<Fault>,
}

/// Interprets a message.
///
/// # Errors
///
/// The NOTIFICATION with which the session is to be reset.
pub fn decode(frame: &Frame, context: &Context) -> Result<Decoded, Notification> {
    let mut faults = Vec::new();
    let message = match frame.kind() {
        MessageType::Open => Message::Open(Open::decode(frame.body())?),
        MessageType::Update => {
            let update;
            (update, faults) = update::decode(frame.body(), context)?;
            Message::Update(update)
        }
        MessageType::Notification => Message::Notification(Notification::decode(frame.body())),
        MessageType::Keepalive => Message::Keepalive,
        MessageType::RouteRefresh => Message::RouteRefresh(route_refresh(frame)?),
    };
    Ok(Decoded { message, faults })
}

/// Octets after the four that are known belong to ORF (RFC 5291), which is never negotiated.
fn route_refresh(frame: &Frame) -> Result<RouteRefresh, Notification> {
    let mut reader = Reader::new(frame.body());
    let invalid = || Notification::with_data(7, 1, frame.bytes());
    let [a, b, subtype, safi] = reader.array().map_err(|_| invalid())?;
    if matches!(subtype, RouteRefresh::BEGIN | RouteRefresh::END) && !reader.is_empty() {
        return Err(invalid());
    }
    let afi = u16::from_be_bytes([a, b]);
    Ok(RouteRefresh {
        family: Family { afi, safi },
        subtype,
    })
}

impl Message {
    /// Its type.
    pub fn kind(&self) -> MessageType {
        match self {
            Self::Open(_) => MessageType::Open,
            Self::Update(_) => MessageType::Update,
            Self::Notification(_) => MessageType::Notification,
            Self::Keepalive => MessageType::Keepalive,
            Self::RouteRefresh(_) => MessageType::RouteRefresh,
        }
    }

    /// Appends the message with its header. An UPDATE may become several of at most [`MAX_LEN`];
    /// those that follow an adj-rib-out are written by
    /// [`encode_advertisement`](super::encode_advertisement).
    pub fn encode(&self, context: &Context, out: &mut BytesMut) {
        match self {
            Self::Open(open) => encode(MessageType::Open, out, |out| open.encode(out)),
            Self::Update(update) => {
                let mut messages = Vec::new();
                update::encode(update, context, MAX_LEN, &mut messages);
                messages.iter().for_each(|message| out.put_slice(message));
            }
            Self::Notification(notification) => {
                encode(MessageType::Notification, out, |out| {
                    notification.encode(out)
                });
            }
            Self::Keepalive => encode(MessageType::Keepalive, out, |_| {}),
            Self::RouteRefresh(refresh) => encode(MessageType::RouteRefresh, out, |out| {
                out.put_u16(refresh.family.afi);
                out.put_u8(refresh.subtype);
                out.put_u8(refresh.family.safi);
            }),
        }
    }
}

/// The End-of-RIB marker of a family (RFC 4724 §2).
pub fn end_of_rib(family: Family) -> Bytes {
    let mut out = BytesMut::new();
    encode(MessageType::Update, &mut out, |out| {
        out.put_u16(0);
        with_u16_length(out, |out| {
            if family != Family::IPV4_UNICAST {
                out.put_slice(&[0x80, 15, 3]);
                family.encode(out);
            }
        });
    });
    out.freeze()
}

/// Appends a message whose body is written by `body`, and which the caller keeps within the limit.
pub(super) fn encode(kind: MessageType, out: &mut BytesMut, body: impl FnOnce(&mut BytesMut)) {
    let mut inner = BytesMut::new();
    body(&mut inner);
    let length = inner.len().saturating_add(HEADER_LEN);
    debug_assert!(length <= usize::from(u16::MAX), "{length} octets");
    out.put_slice(&MARKER);
    out.put_u16(u16::try_from(length).unwrap_or(u16::MAX));
    out.put_u8(kind as u8);
    out.unsplit(inner);
}

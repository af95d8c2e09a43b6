//! A stream of bytes as a peer sends it: framing, and every type of message.
//!
//! - The messages are the same in whatever segments the stream arrives.
//! - What is accepted says the same when it is written and read again.
//! - What is refused is answered with a NOTIFICATION that any peer can read.
//! - A message is read in memory proportional to its length.

use bytes::{Bytes, BytesMut};
use vtep_agent::{
    bgp::wire::{self, Context, Decoded, Frame, MAX_LEN, Message, Notification},
    types::{Asn, Families},
};

use crate::{allocation, update};

/// Bytes held at once for each byte of a message, and for any message. One octet can be a whole IPv4
/// route, and a list that grows is held twice.
const MEMORY: (usize, usize) = (256, 4096);

/// See the module.
pub fn check(data: &[u8]) {
    let [options, segment, stream @ ..] = data else {
        return;
    };
    let context = context(*options);
    let max_len = match options & 0x80 {
        0 => MAX_LEN,
        _ => wire::EXTENDED_MAX_LEN,
    };
    let whole = read(stream, stream.len().max(1), max_len);
    let cut = read(stream, usize::from(*segment) + 1, max_len);
    assert!(whole == cut, "segments of {segment} make a difference");

    let (frames, end) = whole;
    let framed: usize = frames.iter().map(|frame| frame.bytes().len()).sum();
    assert!(framed <= stream.len());
    for frame in &frames {
        assert!(frame.bytes().len() <= max_len);
        match decode(frame, &context) {
            Ok(decoded) => accepted(frame, &decoded, &context),
            Err(notification) => refused(&notification),
        }
    }
    if let Some(notification) = end {
        assert_eq!(notification.code, 1, "{notification}");
        refused(&notification);
    }
}

/// Each bit of `options` turns one thing on or off.
pub(crate) fn context(options: u8) -> Context {
    Context {
        four_octet_as: options & 0x01 == 0,
        internal: options & 0x02 == 0,
        peer_asn: Asn(65001),
        families: Families {
            evpn: true,
            ipv4: options & 0x40 != 0,
            ipv6: options & 0x40 != 0,
        },
        rt_constraint: options & 0x40 != 0,
        add_path: options & 0x04 != 0,
        strict_nlri: options & 0x08 != 0,
        enforce_first_as: options & 0x10 != 0,
        accept_as_sets: options & 0x20 != 0,
        ..Context::default()
    }
}

/// Decodes a message, in little memory.
pub(crate) fn decode(frame: &Frame, context: &Context) -> Result<Decoded, Notification> {
    let (decoded, peak) = allocation::peak(|| wire::decode(frame, context));
    let length = frame.bytes().len();
    let (factor, fixed) = MEMORY;
    assert!(
        peak <= length * factor + fixed,
        "{peak} bytes held for {length}"
    );
    decoded
}

/// The frame that these bytes are.
pub(crate) fn frame(bytes: &[u8]) -> Result<Frame, Notification> {
    let mut buffer = BytesMut::from(bytes);
    let frame = wire::next_frame(&mut buffer, wire::EXTENDED_MAX_LEN)?;
    assert!(buffer.is_empty(), "{} bytes too many", buffer.len());
    match frame {
        Some(frame) => Ok(frame),
        None => panic!("{} bytes are no whole message", bytes.len()),
    }
}

/// All messages of a stream that arrives in segments, and the error that ends it.
fn read(stream: &[u8], segment: usize, max_len: usize) -> (Vec<Frame>, Option<Notification>) {
    let mut frames = Vec::new();
    let mut buffer = BytesMut::new();
    for segment in stream.chunks(segment) {
        buffer.extend_from_slice(segment);
        loop {
            match wire::next_frame(&mut buffer, max_len) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(notification) => return (frames, Some(notification)),
            }
        }
    }
    (frames, None)
}

fn accepted(frame: &Frame, decoded: &Decoded, context: &Context) {
    if let Message::Update(update) = &decoded.message {
        return update::accepted(frame.bytes(), update, &decoded.faults, context);
    }
    assert!(decoded.faults.is_empty(), "{:?}", decoded.faults);
    let written = write(&decoded.message, context);
    if let Message::Notification(notification) = &decoded.message {
        // Ours are at most 4096 octets long (RFC 8654 §5); those of others may be longer.
        assert!(!notification.to_string().is_empty());
        if frame.bytes().len() > MAX_LEN {
            return;
        }
    }
    assert!(written.len() <= MAX_LEN.max(frame.bytes().len()));
    let again = self::frame(&written).and_then(|frame| wire::decode(&frame, context));
    assert_eq!(again.as_ref(), Ok(decoded));
}

fn refused(notification: &Notification) {
    assert!(matches!(notification.code, 1..=3 | 7), "{notification}");
    let written = write(
        &Message::Notification(notification.clone()),
        &Context::default(),
    );
    assert!(written.len() <= MAX_LEN, "{} octets", written.len());
    let again = frame(&written).and_then(|frame| wire::decode(&frame, &Context::default()));
    let Ok(Message::Notification(again)) = again.map(|decoded| decoded.message) else {
        panic!("a peer can't read {notification}");
    };
    assert_eq!(&again, notification);
}

fn write(message: &Message, context: &Context) -> Bytes {
    let mut out = BytesMut::new();
    message.encode(context, &mut out);
    out.freeze()
}

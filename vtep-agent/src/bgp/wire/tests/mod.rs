//! Tests of the codec as a whole. Ids such as ERR-001 are those of the project's conformance list.

mod as_path;
mod attribute_table;
mod differential;
mod encodings;
mod errors;
mod generate;
mod membership;
mod messages;
mod multicast;
mod opens;
mod properties;
mod sending;
mod unicast;
mod vectors;

use bytes::{Bytes, BytesMut};

use super::*;
use crate::types::Asn;

pub(super) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text
        .chars()
        .filter(|digit| !digit.is_whitespace())
        .collect();
    assert!(digits.len().is_multiple_of(2), "{text}");
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap())
        .collect()
}

pub(super) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A message with a header in front of `body`.
pub(super) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len() + HEADER_LEN).unwrap();
    [&[0xff; 16], &length.to_be_bytes()[..], &[kind], body].concat()
}

pub(super) fn read(bytes: &[u8], context: &Context) -> Result<Decoded, Notification> {
    let mut buffer = BytesMut::from(bytes);
    let frame = next_frame(&mut buffer, EXTENDED_MAX_LEN)?.expect("a whole message");
    assert!(buffer.is_empty());
    decode(&frame, context)
}

/// An UPDATE's body from the hexadecimal of its attributes.
pub(super) fn update_body(attributes: &[&str]) -> Vec<u8> {
    let attributes = hex(&attributes.concat());
    let length = u16::try_from(attributes.len()).unwrap();
    [&[0, 0], &length.to_be_bytes()[..], &attributes].concat()
}

/// Reads an UPDATE that consists of attributes, given as hexadecimal.
pub(super) fn read_update(
    attributes: &[&str],
    context: &Context,
) -> Result<(Update, Vec<Fault>), Notification> {
    let decoded = read(&message(2, &update_body(attributes)), context)?;
    match decoded.message {
        Message::Update(update) => Ok((update, decoded.faults)),
        other => panic!("{other:?}"),
    }
}

pub(super) fn external(peer: u32) -> Context {
    Context {
        internal: false,
        peer_asn: Asn(peer),
        ..Context::default()
    }
}

/// MP_REACH_NLRI with next hop 10.0.0.1.
pub(super) fn reach(nlri: &[&str]) -> String {
    let value = format!("001946040a00000100{}", nlri.concat());
    format!("900e{:04x}{value}", value.len() / 2)
}

pub(super) fn unreach(nlri: &[&str]) -> String {
    let value = format!("001946{}", nlri.concat());
    format!("900f{:04x}{value}", value.len() / 2)
}

pub(super) const ORIGIN: &str = "40010100";
pub(super) const AS_PATH: &str = "400200";
/// From AS 65001, four octets.
pub(super) const AS_PATH_65001: &str = "400206 0201 0000fde9";
pub(super) const LOCAL_PREF: &str = "40050400000064";
/// A route target and the VXLAN encapsulation.
pub(super) const COMMUNITIES: &str = "c010100002fde900002774030c000000000008";

pub(super) const V1: &str = "011900010a000001000100112233445566778899ffffffff000000";
pub(super) const V2: &str = "011900010a00000100070011223344556677889900000000002774";
pub(super) const V3: &str =
    "022100010a000001000700000000000000000000000000003002000000000100002774";
pub(super) const V4: &str =
    "022500010a000001000700000000000000000000000000003002000000000120c000020a002774";
pub(super) const V5: &str =
    "022800010a000001000700000000000000000000000000003002000000000120c000020a00277400c351";
pub(super) const V6: &str = "023400010a00000100070000000000000000000000000000300200000000018020010db\
                             800000000000000000000001000277400c351";
pub(super) const V7: &str = "031100010a000001000700000000200a000001";
pub(super) const V8: &str = "031d00010a0000010007000000008020010db8ffff00000000000000000001";
pub(super) const V9: &str = "041700010a000001000100112233445566778899200a000001";
pub(super) const V10: &str =
    "052200010a0000010063000000000000000000000000000018c63364000000000000c351";
pub(super) const V11: &str = "053a00010a000001006300000000000000000000000000004020010db800010000000\
                              00000000000000000000000000000000000000000000000c351";
pub(super) const V12: &str =
    "052200010a0000010063000000000000000000000000000018c6336400c000020a000000";
pub(super) const V13: &str = "061800010a0000010007000000000020ef010101200a00000102";
pub(super) const V14: &str = "061c00010a00000100070000000020c000020920e8010101200a00000104";
pub(super) const V15: &str =
    "072200010a000001000700112233445566778899000000000020ef010101200a00000102";
pub(super) const V16: &str =
    "082700010a000001000700112233445566778899000000000020ef010101200a000001000000001402";
pub(super) const V19: &str = "ffffffffffffffffffffffffffffffff0063020000004c800e1c001946040a000001\
                              00031100010a000001000700000000200a0000014001010040020040050400000064c\
                              010100002fde900002774030c000000000008c0160900060027740a000001";
pub(super) const V20: &str = "ffffffffffffffffffffffffffffffff001d0200000006800f03001946";
pub(super) const V22: &str = "ffffffffffffffffffffffffffffffff003901045ba0005a0a0000011c021a0104001\
                              9004602004104fa56ea01460006004006407800194680";

/// All NLRI of the list, V1 to V16.
pub(super) const NLRI: [&str; 16] = [
    V1, V2, V3, V4, V5, V6, V7, V8, V9, V10, V11, V12, V13, V14, V15, V16,
];

/// The route of an NLRI.
pub(super) fn route(nlri: &str) -> Route {
    let bytes = hex(nlri);
    nlri::decode(bytes[0], &bytes[2..]).unwrap()
}

pub(super) fn key(nlri: &str) -> RouteKey {
    route(nlri).key()
}

pub(super) fn encoded(route: &Route) -> Bytes {
    let mut out = BytesMut::new();
    nlri::encode(route, &mut out);
    out.freeze()
}

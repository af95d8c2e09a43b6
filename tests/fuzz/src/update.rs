//! The body of an UPDATE, and what RFC 7606 makes of it.
//!
//! - A session is reset with an UPDATE message error, and with nothing else.
//! - What is accepted says the same, without a fault, when it is written and read again.
//! - A fault reports what was received. Faults and the routes that remain agree: an announcement has
//!   attributes, End-of-RIB has no faults.
//! - An attribute that is damaged beyond doubt turns exactly the announced routes into withdrawn
//!   ones; one that is there already changes nothing.

use std::{collections::HashSet, mem, slice, sync::Arc};

use bytes::Bytes;
use vtep_agent::bgp::wire::{
    self, Advertisement, Attributes, Cause, Context, Decoded, Family, Fault, Message, Notification,
    Outcome, Route, RouteKey, Update,
};

use crate::message;

/// Marker, length and type of an UPDATE without its length.
const MARKER: [u8; 16] = [0xff; 16];
const TYPE: u8 = 2;

/// With this option the input is the whole body; without it, the path attributes.
const WHOLE_BODY: u8 = 0x80;

/// One octet can't be an attribute (RFC 7606 §4).
const TRUNCATED: [u8; 1] = [0x40];
/// ORIGIN, which every announcement has already.
const ORIGIN: [u8; 4] = [0x40, 1, 1, 2];

/// See the module.
pub fn check(data: &[u8]) {
    let [options, input @ ..] = data else {
        return;
    };
    let context = message::context(*options);
    if options & WHOLE_BODY != 0 {
        if let Some(bytes) = with_header(input) {
            judge(&bytes, &context);
        }
        return;
    }
    let Some(bytes) = with_attributes(&[input]) else {
        return;
    };
    if let Some((update, faults)) = judge(&bytes, &context) {
        // What follows a truncated attribute would belong to it.
        let truncated = |fault: &Fault| fault.cause == Cause::AttributesOverrun;
        if !faults.iter().any(truncated) {
            damaged(input, &update, &context);
            repeated(input, &update, &faults, &context);
        }
    }
}

/// What holds for an UPDATE that was accepted.
pub(crate) fn accepted(bytes: &[u8], update: &Update, faults: &[Fault], context: &Context) {
    let routes = update.announced.len() + update.identified.announced.len();
    assert_eq!(routes == 0, update.attributes.is_none());
    let meaning = Meaning::of(update, context);
    if update.end_of_rib.is_some() {
        assert!(meaning.announced.is_empty() && meaning.withdrawn.is_empty());
        assert!(faults.is_empty());
    }
    for fault in faults {
        assert!(fault.bytes.len() <= bytes.len());
        assert!(!fault.to_string().is_empty());
    }
    let mut again = Meaning::default();
    // What we send has no path identifiers, whatever the peer sends.
    let context = &Context {
        add_path: false,
        ..context.clone()
    };
    for message in write(&without_ids(update), context) {
        let decoded = message::frame(&message).and_then(|frame| wire::decode(&frame, context));
        let Ok(Decoded {
            message: Message::Update(part),
            faults,
        }) = decoded
        else {
            panic!("what we wrote reads as {decoded:?}");
        };
        assert!(faults.is_empty(), "what we wrote has {faults:?}");
        let part = Meaning::of(&part, context);
        again.announced.extend(part.announced);
        again.withdrawn.extend(part.withdrawn);
        again.end_of_rib.extend(part.end_of_rib);
    }
    // Withdrawals are written first, family by family.
    assert_eq!(again, meaning);
}

/// What an UPDATE says, wherever in it that is said, family by family.
#[derive(Debug, Default, PartialEq)]
struct Meaning {
    announced: Vec<(Arc<Attributes>, Route)>,
    withdrawn: Vec<RouteKey>,
    end_of_rib: Vec<Family>,
}

impl Meaning {
    fn of(update: &Update, context: &Context) -> Self {
        let mut meaning = Self::default();
        let mut rest = without_ids(update);
        for family in families(context) {
            let part = rest.take(family);
            let multiprotocol = part
                .attributes
                .map(|attributes| (attributes, part.announced));
            for (attributes, routes) in multiprotocol.into_iter().chain(part.classic) {
                let with = |route| (attributes.clone(), route);
                meaning.announced.extend(routes.into_iter().map(with));
            }
            meaning.withdrawn.extend(part.withdrawn);
            meaning.end_of_rib.extend(part.end_of_rib);
        }
        assert_eq!(rest, Update::default(), "of a family that nobody asked for");
        meaning
    }
}

/// The same routes without what tells apart several paths to one.
fn without_ids(update: &Update) -> Update {
    let mut update = update.clone();
    let identified = mem::take(&mut update.identified);
    let announced = identified.announced.into_iter().map(|(_, route)| route);
    update.announced.extend(announced);
    let withdrawn = identified.withdrawn.into_iter().map(|(_, key)| key);
    update.withdrawn.extend(withdrawn);
    update
}

/// Everything that may be in an UPDATE.
fn families(context: &Context) -> impl Iterator<Item = Family> {
    let memberships = context.rt_constraint.then_some(Family::RTC);
    Family::all_of(context.families).chain(memberships)
}

/// Reads an UPDATE; what it says, unless it resets the session.
fn judge(bytes: &[u8], context: &Context) -> Option<(Update, Vec<Fault>)> {
    match read(bytes, context) {
        Ok((update, faults)) => {
            accepted(bytes, &update, &faults, context);
            Some((update, faults))
        }
        Err(notification) => {
            assert_eq!(notification.code, 3, "{notification}");
            None
        }
    }
}

/// RFC 7606 §2, treat-as-withdraw: the routes are those of the sound message.
fn damaged(input: &[u8], sound: &Update, context: &Context) {
    let Some(bytes) = with_attributes(&[input, &TRUNCATED]) else {
        return;
    };
    let (update, faults) = match read(&bytes, context) {
        Ok(read) => read,
        Err(notification) => {
            // Nothing was announced, so it is unknown what the damage was to announce (§5.2).
            assert!(sound.attributes.is_none(), "{notification}");
            return;
        }
    };
    let damaged = Meaning::of(&update, context);
    assert!(damaged.announced.is_empty() && damaged.end_of_rib.is_empty());
    let withdrawn: HashSet<_> = damaged.withdrawn.into_iter().collect();
    let sound = Meaning::of(sound, context);
    let announced = sound.announced.iter().map(|(_, route)| route.key());
    let expected: HashSet<_> = announced.chain(sound.withdrawn).collect();
    assert_eq!(withdrawn, expected);
    assert!(
        faults
            .iter()
            .any(|fault| fault.outcome == Outcome::TreatAsWithdraw)
    );
}

/// RFC 7606 §3 g: the first one counts.
fn repeated(input: &[u8], sound: &Update, before: &[Fault], context: &Context) {
    let Some(bytes) = with_attributes(&[input, &ORIGIN]) else {
        return;
    };
    if sound.attributes.is_none() {
        return;
    }
    match read(&bytes, context) {
        Ok((update, faults)) => {
            assert_eq!(&update, sound);
            let discarded = |faults: &[Fault]| {
                let discard = |fault: &&Fault| fault.outcome == Outcome::AttributeDiscard;
                faults.iter().filter(discard).count()
            };
            assert_eq!(discarded(&faults), discarded(before) + 1);
        }
        Err(notification) => panic!("a second ORIGIN resets the session: {notification}"),
    }
}

fn read(bytes: &[u8], context: &Context) -> Result<(Update, Vec<Fault>), Notification> {
    let decoded = message::decode(&message::frame(bytes)?, context)?;
    match decoded.message {
        Message::Update(update) => Ok((update, decoded.faults)),
        other => panic!("an UPDATE reads as {other:?}"),
    }
}

fn write(update: &Update, context: &Context) -> Vec<Bytes> {
    let mut out = Vec::new();
    let mut rest = update.clone();
    for family in families(context) {
        let part = rest.take(family);
        let multiprotocol = part
            .attributes
            .map(|attributes| (attributes, part.announced));
        let advertisement = Advertisement {
            family,
            withdraw: part.withdrawn,
            announce: multiprotocol.into_iter().chain(part.classic).collect(),
            end_of_rib: part.end_of_rib.is_some(),
            ..Advertisement::default()
        };
        let max_len = wire::EXTENDED_MAX_LEN;
        let unsent = wire::encode_advertisement(&advertisement, context, max_len, &mut out);
        assert!(unsent.is_empty(), "{unsent:?} don't fit");
    }
    out
}

/// An UPDATE without withdrawn IPv4 routes and with these path attributes.
fn with_attributes(parts: &[&[u8]]) -> Option<Vec<u8>> {
    let attributes = parts.concat();
    let length = u16::try_from(attributes.len()).ok()?;
    with_header(&[&[0, 0], &length.to_be_bytes()[..], &attributes].concat())
}

/// `None` when it would be too short or too long for an UPDATE.
fn with_header(body: &[u8]) -> Option<Vec<u8>> {
    let length = body.len() + wire::HEADER_LEN;
    let length = u16::try_from(length).ok().filter(|length| *length >= 23)?;
    Some(
        [
            &MARKER,
            &length.to_be_bytes()[..],
            slice::from_ref(&TYPE),
            body,
        ]
        .concat(),
    )
}

//! What was looked up for an earlier frame and still holds. Each lookup in a hash map takes four calls in the
//! kernel; this takes none.
//!
//! Only what is found is remembered, never that something is absent, and only what the agent knows to
//! outdate: it raises `Settings::revision` after a change. The number is read before anything is looked up,
//! so that what was found before the change is never remembered as found after it.

use core::ptr;

use vtep_common::{
    DropReason,
    abi::{BdRef, FdbFlags, FdbKey, FdbWord, MAX_BDS, PortKey, PortRef, Settings},
    wire::{
        Tables as _,
        access::{self, Ingress, Sender},
        underlay,
    },
};

use crate::maps::{self, FdbRef, Maps, remembered};

/// A key, what was found, and when.
#[repr(C)]
pub struct Remembered {
    key: u64,
    found: u64,
    /// As [`revision`] said at that time.
    revision: u64,
}

impl Remembered {
    /// A power of two. Each key has one place where it can be.
    pub const SLOTS: u32 = 2048;
}

/// The bridge domain of what a VTEP sends with a VNI ([`underlay::admit`]).
#[inline(always)]
pub fn admission(settings: &Settings, vni: u32, source_be: u32) -> Result<BdRef, DropReason> {
    let (key, revision) = (admission_key(vni, source_be), revision(settings));
    if let Some(found) = recall(key, revision) {
        return Ok(BdRef::from_bits(found as u32));
    }
    match find_admission(key, revision) {
        found @ 0.. => Ok(BdRef::from_bits(found as u32)),
        // Not through the reasons' numbers: the program would check them all.
        STALE => Err(DropReason::StaleEntry),
        OWN => Err(DropReason::OwnVtep),
        UNKNOWN => Err(DropReason::UnknownVtep),
        _ => Err(DropReason::UnknownVni),
    }
}

const STALE: i64 = -(DropReason::StaleEntry as i64);
const OWN: i64 = -(DropReason::OwnVtep as i64);
const UNKNOWN: i64 = -(DropReason::UnknownVtep as i64);

/// What the FDB says of a MAC, remembered when it is behind a port.
#[inline(always)]
pub fn receiver(settings: &Settings, key: FdbKey) -> Option<FdbWord> {
    let revision = revision(settings);
    let word = match recall(key.0, revision) {
        Some(found) => FdbWord(found),
        None => FdbWord(find_receiver(key.0, revision)),
    };
    (word != FdbWord::default()).then_some(word)
}

/// The bridge domain and slot of a port.
#[inline(always)]
pub fn port(settings: &Settings, key: PortKey) -> Option<PortRef> {
    let (at, revision) = (key.0 | PORT, revision(settings));
    if let Some(found) = recall(at, revision) {
        return Some(PortRef(found));
    }
    let port = maps::port_at(key)?;
    remember(at, port.0, revision);
    Some(port)
}

/// How the FDB knows the sender of a frame, which is stamped there with the clock.
///
/// # Errors
/// As [`access::sender`].
#[inline(always)]
pub fn sender(
    settings: &Settings,
    ingress: &Ingress<'_>,
    source: u64,
) -> Result<Sender, DropReason> {
    let key = FdbKey::from_parts(ingress.bd.bd, source);
    let (at, revision) = (key.0 | SENDER, revision(settings));
    if ingress.owns(recall(at, revision).map(FdbWord)) {
        return Ok(Sender::Here);
    }
    let entry = maps::fdb_entry(key);
    let word = entry.map(FdbRef::word);
    let sender = access::sender(ingress, word)?;
    if let (Sender::Here, Some(entry), Some(word)) = (sender, entry, word) {
        entry.stamp(epoch(settings));
        remember(at, word.0, revision);
    }
    Ok(sender)
}

/// Looks it up and remembers it. The bridge domain, or minus the number of the reason.
///
/// A function of its own for the verifier, which goes through it once and not once per path that
/// follows; so is the next.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn find_admission(key: u64, revision: u64) -> i64 {
    let Some(settings) = Maps.settings() else {
        return -(DropReason::UnknownVni as i64);
    };
    let (vni, source_be) = ((key >> 32) as u32 & 0xff_ffff, key as u32);
    match underlay::admit(settings, &Maps, vni, source_be) {
        Ok(bd) => {
            remember(key, bd.to_bits().into(), revision);
            bd.to_bits().into()
        }
        Err(reason) => -(reason as i64),
    }
}

/// The word, or 0, which no entry has.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn find_receiver(key: u64, revision: u64) -> u64 {
    let Some(word) = Maps.fdb(FdbKey(key)) else {
        return 0;
    };
    if word.flags() == FdbFlags::LOCAL || word.flags() == FdbFlags::LOCAL.with(FdbFlags::PINNED) {
        remember(key, word.0, revision);
    }
    word.0
}

/// What an answer is remembered under, read before it is looked up; 0 is none. The clock is part of it, so
/// that what nobody knows to outdate, as what was written by somebody else, is forgotten with its next tick.
#[inline(always)]
fn revision(settings: &Settings) -> u64 {
    // SAFETY: one aligned load of a valid reference.
    match unsafe { ptr::read_volatile(&raw const settings.revision) } {
        0 => 0,
        revision => u64::from(revision) | epoch(settings) << 32,
    }
}

#[inline(always)]
fn epoch(settings: &Settings) -> u64 {
    // SAFETY: as above.
    unsafe { ptr::read_volatile(&raw const settings.epoch) }
}

#[inline(always)]
fn recall(key: u64, revision: u64) -> Option<u64> {
    let slot = remembered.get_ptr(place(key))?;
    // SAFETY: this CPU's element, aligned. The key is read again behind the rest: a program that interrupts
    // this one may have put something else there.
    unsafe {
        let key_of = || ptr::read_volatile(&raw const (*slot).key);
        if revision == 0
            || key_of() != key
            || ptr::read_volatile(&raw const (*slot).revision) != revision
        {
            return None;
        }
        let found = ptr::read_volatile(&raw const (*slot).found);
        (key_of() == key).then_some(found)
    }
}

#[inline(always)]
fn remember(key: u64, found: u64, revision: u64) {
    if let Some(slot) = remembered.get_ptr_mut(place(key)) {
        // SAFETY: as above. While it is written, it is nobody's.
        unsafe {
            ptr::write_volatile(&raw mut (*slot).key, 0);
            ptr::write_volatile(&raw mut (*slot).found, found);
            ptr::write_volatile(&raw mut (*slot).revision, revision);
            ptr::write_volatile(&raw mut (*slot).key, key);
        }
    }
}

/// Bits that no [`FdbKey`] has, nor what they are put above: they tell the kinds of keys apart.
const ADMISSION: u64 = 1 << 63;
const PORT: u64 = 1 << 62;
const SENDER: u64 = 1 << 61;
const _: () = assert!(MAX_BDS <= 1 << 12);

/// The VTEP's address, and above it the VNI.
#[inline(always)]
fn admission_key(vni: u32, source_be: u32) -> u64 {
    u64::from(source_be) | u64::from(vni) << 32 | ADMISSION
}

/// A multiplicative hash (Knuth): the upper bits depend on all others.
#[inline(always)]
fn place(key: u64) -> u32 {
    (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 53) as u32 & (Remembered::SLOTS - 1)
}

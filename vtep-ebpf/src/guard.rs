//! The source filter of ports with declared endpoints.

use aya_ebpf::bindings::__sk_buff;
use vtep_common::{
    DropReason,
    abi::{GuardFlags, GuardKey},
    wire::{Frame as _, ethernet::Header, guard, nd::Address},
};

use crate::{maps, skb::Skb};

/// Refuses what the port's endpoints may not send.
#[inline(always)]
pub fn check(skb: Skb, slot: u32) -> Result<(), DropReason> {
    // Not through the reasons' numbers: the program would check them all.
    match judge_source(skb.as_ptr(), slot) {
        PASS => Ok(()),
        IP => Err(DropReason::IpSpoofed),
        ARP => Err(DropReason::ArpSpoofed),
        ND => Err(DropReason::NdSpoofed),
        SERVER => Err(DropReason::ServerSpoofed),
        _ => Err(DropReason::SourceSpoofed),
    }
}

const PASS: i32 = DropReason::CAPACITY as i32;
const IP: i32 = DropReason::IpSpoofed as i32;
const ARP: i32 = DropReason::ArpSpoofed as i32;
const ND: i32 = DropReason::NdSpoofed as i32;
const SERVER: i32 = DropReason::ServerSpoofed as i32;

/// A function of its own for the verifier, which goes through it once and not once per path that
/// follows. The reason's number, or [`PASS`].
#[unsafe(no_mangle)]
extern "C" fn judge_source(context: *mut __sk_buff, slot: u32) -> i32 {
    match judge(Skb::new(context), slot) {
        Ok(()) => PASS,
        Err(reason) => reason as i32,
    }
}

#[inline(always)]
fn judge(skb: Skb, slot: u32) -> Result<(), DropReason> {
    let header = Header::read(
        skb.packet()
            .view::<14>(0)
            .ok_or(DropReason::SourceSpoofed)?,
    );
    let find = |address: Address| {
        maps::guard(&GuardKey::from_parts(slot, address))
            .filter(|entry| entry.is_for(slot, header.source))
    };
    let itself = find(guard::link_local(header.source)).ok_or(DropReason::SourceSpoofed)?;
    if itself.flags().has(GuardFlags::CLIENT) && guard::serves(skb.packet(), &header) {
        return Err(DropReason::ServerSpoofed);
    }
    let restricted = itself.flags().has(GuardFlags::ADDRESSES);
    guard::check(skb.packet(), &header, restricted, |address| {
        find(address).is_some()
    })
}

use std::{vec, vec::Vec};

use proptest::prelude::*;

use super::*;
use crate::{
    Mac,
    abi::BdId,
    wire::testing::{
        BD, LOCAL, LOCAL_VTEP, Maps, REMOTE, REMOTE_VTEP, SLOT, VNI, encapsulated,
        fix_outer_checksum, ipv4_frame,
    },
};

/// A verdict in a form that can be compared.
#[derive(Debug, PartialEq)]
enum Got {
    NotOurs,
    Drop(DropReason),
    Port(u32),
    Flood(u16),
}

fn judge(frame: &[u8], maps: &Maps) -> Got {
    judge_received(frame, Received::default(), maps)
}

fn judge_received(frame: &[u8], received: Received, maps: &Maps) -> Got {
    match decide(frame, received, maps) {
        Verdict::NotOurs => Got::NotOurs,
        Verdict::Drop(reason) => Got::Drop(reason),
        Verdict::Port(inner, port) => {
            assert_eq!(inner.bd, BD);
            Got::Port(port.slot)
        }
        Verdict::Flood(_, span) => Got::Flood(span.ports),
    }
}

fn inner_of(frame: &[u8], maps: &Maps) -> Inner {
    match decide(frame, Received::default(), maps) {
        Verdict::Port(inner, _) | Verdict::Flood(inner, _) => inner,
        other => panic!("{other:?}"),
    }
}

fn to_local() -> Vec<u8> {
    ipv4_frame(LOCAL, REMOTE, 0, 17, &[0; 26])
}

/// A frame to [`LOCAL`] after `change`, with the outer checksum put right.
fn changed(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut frame = encapsulated(&to_local(), 0);
    change(&mut frame);
    fix_outer_checksum(&mut frame);
    frame
}

#[test]
fn known_unicast_goes_to_its_port() {
    let frame = encapsulated(&to_local(), 0);
    let maps = Maps::new();
    assert_eq!(judge(&frame, &maps), Got::Port(SLOT));
    let inner = inner_of(&frame, &maps);
    assert_eq!(
        (inner.at, inner.end, inner.payload()),
        (50, frame.len() as u32, 64)
    );
}

#[test]
fn padding_is_no_part_of_the_inner_frame() {
    let mut frame = encapsulated(&to_local(), 0);
    let end = frame.len() as u32;
    frame.extend([0xee; 9]);
    assert_eq!(inner_of(&frame, &Maps::new()).end, end);
}

#[test]
fn frames_of_others() {
    let maps = Maps::new();
    type Change = fn(&mut Vec<u8>);
    let changes: [(&str, Change); 7] = [
        ("EtherType", |frame| frame[12] = 0x86),
        ("version", |frame| frame[14] = 0x65),
        ("header length", |frame| frame[14] = 0x44),
        ("protocol", |frame| frame[23] = 6),
        ("destination", |frame| frame[33] = 9),
        ("port", |frame| frame[37] = 0),
        ("later fragment", |frame| frame[21] = 1),
    ];
    for (what, change) in changes {
        assert_eq!(judge(&changed(change), &maps), Got::NotOurs, "{what}");
    }
    assert_eq!(
        judge(&encapsulated(&to_local(), 0), &Maps::default()),
        Got::NotOurs,
        "no settings"
    );
}

/// RFC 7348 §4.3 for the fragment; the others are what no VTEP sends.
#[test]
fn outer_headers_that_are_refused() {
    let maps = Maps::new();
    type Change = fn(&mut Vec<u8>);
    let changes: [(DropReason, Change); 6] = [
        (DropReason::OuterFragment, |frame| frame[20] |= 0x20),
        (DropReason::OuterHeader, |frame| frame[17] += 1),
        (DropReason::OuterHeader, |frame| frame[17] -= 1),
        (DropReason::OuterHeader, |frame| frame[39] -= 1),
        (DropReason::OuterHeader, |frame| {
            (frame[16], frame[17], frame[39]) = (0, 49, 29)
        }),
        (DropReason::VxlanFlags, |frame| frame[42] = 0xf7),
    ];
    for (number, (reason, change)) in changes.into_iter().enumerate() {
        assert_eq!(
            judge(&changed(change), &maps),
            Got::Drop(reason),
            "case {number}"
        );
    }
    let mut frame = encapsulated(&to_local(), 0);
    frame[24] ^= 1;
    assert_eq!(
        judge(&frame, &maps),
        Got::Drop(DropReason::OuterHeader),
        "checksum"
    );
}

#[test]
fn options_hide_no_port() {
    let maps = Maps::new();
    let mut frame = encapsulated(&to_local(), 0);
    frame[14] = 0x46;
    frame.splice(34..34, [1, 1, 1, 0]);
    assert_eq!(judge(&frame, &maps), Got::Drop(DropReason::OuterHeader));
    frame[41] = 0;
    assert_eq!(judge(&frame, &maps), Got::NotOurs);
}

#[test]
fn reserved_vxlan_bits_are_ignored() {
    // RFC 7348 §5: R bits and reserved fields are ignored on receipt.
    let frame = changed(|frame| {
        frame[42] = 0xff;
        frame[43..46].fill(0xff);
        frame[49] = 0xff;
    });
    assert_eq!(judge(&frame, &Maps::new()), Got::Port(SLOT));
}

#[test]
fn unknown_vni_follows_the_setting() {
    let mut maps = Maps::new();
    let frame = changed(|frame| frame[48] += 1);
    assert_eq!(judge(&frame, &maps), Got::Drop(DropReason::UnknownVni));
    maps.settings_mut().flags = SettingsFlags::PASS_UNKNOWN_VNI;
    assert_eq!(judge(&frame, &maps), Got::NotOurs);
}

#[test]
fn a_recycled_bridge_domain_or_port_gets_nothing() {
    let frame = encapsulated(&to_local(), 0);
    let stale = Got::Drop(DropReason::StaleEntry);
    let mut maps = Maps::new();
    maps.domain_mut().generation += 1;
    assert_eq!(judge(&frame, &maps), stale);
    let mut maps = Maps::new();
    maps.domain_mut().flags = BdFlags::default();
    assert_eq!(judge(&frame, &maps), stale);
    let other = BdRef {
        bd: BD.bd,
        generation: BD.generation + 1,
    };
    let mut maps = Maps::new();
    maps.ports.get_mut(&SLOT).unwrap().bd = other;
    assert_eq!(judge(&frame, &maps), stale);
    let mut maps = Maps::new();
    maps.set_fdb(
        LOCAL,
        crate::abi::FdbWord::new(other, SLOT, FdbFlags::LOCAL),
    );
    assert_eq!(judge(&frame, &maps), stale);
}

#[test]
fn source_check() {
    let frame = encapsulated(&to_local(), 0);
    let mut maps = Maps::new();
    maps.settings_mut().flags = SettingsFlags::SOURCE_STRICT;
    assert_eq!(judge(&frame, &maps), Got::Drop(DropReason::UnknownVtep));
    maps.sources.insert(SourceKey::new(BD.bd, REMOTE_VTEP).0);
    assert_eq!(judge(&frame, &maps), Got::Port(SLOT));
    maps.sources.clear();
    maps.settings_mut().flags = SettingsFlags::SOURCE_LOOSE;
    assert_eq!(judge(&frame, &maps), Got::Drop(DropReason::UnknownVtep));
    maps.settings_mut().flags = SettingsFlags::default();
    assert_eq!(judge(&frame, &maps), Got::Port(SLOT));
    let own = changed(|frame| frame.copy_within(30..34, 26));
    assert_eq!(judge(&own, &maps), Got::Drop(DropReason::OwnVtep));
    assert_eq!(BdId::default(), BdId(0));
}

#[test]
fn underlay_vlan() {
    let mut maps = Maps::new();
    let tagged = |vid: u8| {
        let mut frame = encapsulated(&to_local(), 0);
        frame.splice(12..12, [0x81, 0x00, 0xe0, vid]);
        frame
    };
    assert_eq!(
        judge(&tagged(20), &maps),
        Got::Port(SLOT),
        "priority bits are no part of the VID"
    );
    assert_eq!(inner_of(&tagged(20), &maps).at, 54);
    assert_eq!(judge(&tagged(21), &maps), Got::NotOurs);
    assert_eq!(judge(&tagged(0), &maps), Got::NotOurs);
    let frame = encapsulated(&to_local(), 0);
    let received = |vlan| Received {
        vlan: Some(vlan),
        gso: false,
    };
    assert_eq!(judge_received(&frame, received(20), &maps), Got::Port(SLOT));
    assert_eq!(judge_received(&frame, received(21), &maps), Got::NotOurs);
    assert_eq!(judge_received(&frame, received(0), &maps), Got::NotOurs);
    assert_eq!(
        judge_received(&tagged(20), received(20), &maps),
        Got::NotOurs,
        "two tags"
    );
    maps.settings_mut().uplink_vlans = [0; 8];
    assert_eq!(judge(&frame, &maps), Got::Port(SLOT));
}

#[test]
fn inner_tags() {
    let maps = Maps::new();
    let tagged = |tag: [u8; 4]| {
        let mut inner = to_local();
        inner.splice(12..12, tag);
        encapsulated(&inner, 0)
    };
    for ethertype in [[0x81, 0x00], [0x88, 0xa8]] {
        let [high, low] = ethertype;
        let frame = tagged([high, low, 0xe0, 0]);
        let inner = inner_of(&frame, &maps);
        assert!(inner.priority_tag, "VID 0 is a priority tag (802.1Q §6.9)");
        assert_eq!(
            (inner.header.ethertype_be, inner.payload()),
            (ethertype::IPV4, 68)
        );
        let got = judge(&tagged([high, low, 0, 1]), &maps);
        assert_eq!(got, Got::Drop(DropReason::InnerVlan), "RFC 7348 §6.1");
    }
    let mut inner = to_local();
    inner.splice(12..12, [0x81, 0, 0, 0, 0x81, 0, 0, 0]);
    assert_eq!(
        judge(&encapsulated(&inner, 0), &maps),
        Got::Drop(DropReason::InnerVlan)
    );
    inner.truncate(14);
    let mut frame = encapsulated(&inner, 0);
    frame.extend([0; 9]);
    assert_eq!(
        judge(&frame, &maps),
        Got::Drop(DropReason::Truncated),
        "the tag is padding"
    );
}

#[test]
fn destinations() {
    let mut maps = Maps::new();
    let to = |mac: Mac| encapsulated(&ipv4_frame(mac, REMOTE, 0, 17, &[0; 26]), 0);
    let stranger = Mac([2, 0, 0, 0, 0, 9]);
    assert_eq!(judge(&to(Mac::BROADCAST), &maps), Got::Flood(1));
    assert_eq!(judge(&to(stranger), &maps), Got::Flood(1));
    let hop = crate::abi::FdbWord::new(BD, 1, FdbFlags::default());
    maps.set_fdb(stranger, hop);
    assert_eq!(
        judge(&to(stranger), &maps),
        Got::Drop(DropReason::OverlayToOverlay)
    );
    let hole = crate::abi::FdbWord::new(BD, 1, FdbFlags::BLACK_HOLE);
    maps.set_fdb(stranger, hole);
    assert_eq!(
        judge(&to(stranger), &maps),
        Got::Drop(DropReason::BlackHole)
    );

    maps.fdb.clear();
    maps.domain_mut().flags = BdFlags::ACTIVE.with(BdFlags::FLOOD_BUM);
    assert_eq!(
        judge(&to(stranger), &maps),
        Got::Drop(DropReason::UnknownUnicast)
    );
    maps.domain_mut().flags = BdFlags::ACTIVE.with(BdFlags::FLOOD_UNKNOWN);
    assert_eq!(
        judge(&to(Mac::BROADCAST), &maps),
        Got::Drop(DropReason::FloodOff)
    );
    maps.domain_mut().flood = FloodSpan {
        offset: 0,
        ports: 0,
        vteps: 4,
    }
    .to_bits();
    assert_eq!(
        judge(&to(stranger), &maps),
        Got::Drop(DropReason::NoReceiver)
    );
}

#[test]
fn a_pinned_local_mac_never_floods_in_from_the_overlay() {
    let mut maps = Maps::new();
    let flags = FdbFlags::LOCAL.with(FdbFlags::PINNED);
    maps.set_fdb(REMOTE, crate::abi::FdbWord::new(BD, SLOT, flags));
    let frame = encapsulated(&ipv4_frame(Mac::BROADCAST, REMOTE, 0, 17, &[0; 26]), 0);
    assert_eq!(
        judge(&frame, &maps),
        Got::Drop(DropReason::LocalSourceFromOverlay)
    );
}

#[test]
fn outer_congestion_reaches_the_inner_header() {
    let maps = Maps::new();
    let capable = ipv4_frame(LOCAL, REMOTE, 0b10, 17, &[0; 26]);
    let inner = inner_of(&encapsulated(&capable, 0b11), &maps);
    assert!(matches!(inner.remark, Remark::V4 { .. }));
    assert_eq!(
        inner_of(&encapsulated(&capable, 0b10), &maps).remark,
        Remark::None
    );
    let got = judge(&encapsulated(&to_local(), 0b11), &maps);
    assert_eq!(got, Got::Drop(DropReason::EcnCe), "RFC 6040 §4.2");
}

#[test]
fn every_truncation_is_refused_or_not_ours() {
    let maps = Maps::new();
    let frame = encapsulated(&to_local(), 0);
    for length in 0..frame.len() {
        let want = match length {
            0..42 => Got::NotOurs,
            42..64 => Got::Drop(DropReason::Truncated),
            _ => Got::Drop(DropReason::OuterHeader),
        };
        assert_eq!(judge(&frame[..length], &maps), want, "{length} bytes");
    }
}

#[test]
fn what_the_vxlan_device_has_decapsulated() {
    let maps = Maps::new();
    let remote = u32::from_ne_bytes(REMOTE_VTEP.octets());
    let judge = |frame: &[u8], vni, source| match decide_decapsulated(frame, vni, source, &maps) {
        Verdict::NotOurs => Got::NotOurs,
        Verdict::Drop(reason) => Got::Drop(reason),
        Verdict::Port(_, port) => Got::Port(port.slot),
        Verdict::Flood(_, span) => Got::Flood(span.ports),
    };
    let frame = to_local();
    assert_eq!(judge(&frame, VNI, remote), Got::Port(SLOT));
    assert_eq!(
        judge(&frame, VNI + 1, remote),
        Got::Drop(DropReason::UnknownVni)
    );
    assert_eq!(
        judge(&frame, VNI, remote ^ 1),
        Got::Drop(DropReason::UnknownVtep)
    );
    let own = u32::from_ne_bytes(LOCAL_VTEP.octets());
    assert_eq!(judge(&frame, VNI, own), Got::Drop(DropReason::OwnVtep));
    assert_eq!(
        judge(&frame[..13], VNI, remote),
        Got::Drop(DropReason::Truncated)
    );
    let broadcast = ipv4_frame(Mac::BROADCAST, REMOTE, 0, 17, &[0; 26]);
    assert_eq!(judge(&broadcast, VNI, remote), Got::Flood(1));
    let mut tagged = to_local();
    tagged.splice(12..12, [0x81, 0, 0, 5]);
    assert_eq!(
        judge(&tagged, VNI, remote),
        Got::Drop(DropReason::InnerVlan)
    );
}

#[test]
fn lengths_of_merged_packets_are_not_judged() {
    let mut frame = encapsulated(&to_local(), 0);
    frame.extend(vec![0; 3000]);
    let received = Received {
        vlan: None,
        gso: true,
    };
    match decide(&frame[..], received, &Maps::new()) {
        Verdict::Port(inner, _) => assert_eq!(inner.end, frame.len() as u32),
        other => panic!("{other:?}"),
    }
}

proptest! {
    /// Nothing but the one address in the FDB is ever delivered, whatever is damaged.
    #[test]
    fn damage_never_delivers_to_the_wrong_port(
        damage in prop::collection::vec((0_usize..140, any::<u8>()), 0..6),
        length in 0_usize..140,
        gso: bool,
    ) {
        let maps = Maps::new();
        let mut frame = encapsulated(&to_local(), 0);
        for (at, value) in damage {
            if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
        }
        frame.truncate(length);
        let received = Received { vlan: None, gso };
        if let Verdict::Port(inner, port) = decide(&frame[..], received, &maps) {
            prop_assert_eq!(port.slot, SLOT);
            prop_assert_eq!(&frame[inner.at as usize..][..6], &LOCAL.0);
            prop_assert!(inner.end as usize <= frame.len());
            prop_assert!(inner.payload() <= inner.end);
        }
    }

    #[test]
    fn no_bytes_are_ever_taken_for_ours_by_accident(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        // 192.0.2.1 with port 4789 and a right checksum: 2^-64 by chance.
        prop_assert_eq!(judge(&bytes, &Maps::new()), Got::NotOurs);
    }
}

//! From the overlay: `underlay_xdp` and `underlay_tc` must agree in all that both decide.

use std::net::Ipv4Addr;

use vtep_common::{
    DropReason, Mac,
    abi::{
        BdFlags, BdId, BdRef, FdbFlags, FdbWord, Path, PortEntry, PortFlags, SettingsFlags, XdpMeta,
    },
};

use crate::{
    frames::{Outer, arp, ethernet, tcp4, udp4, udp6},
    rig::*,
};

/// The same drop in both programs.
#[track_caller]
fn both_drop(rig: &mut Rig, frame: &[u8], reason: DropReason) {
    rig.xdp(frame).assert_dropped(reason);
    rig.underlay(frame).assert_dropped(reason);
}

/// Untouched in both programs.
#[track_caller]
fn both_pass(rig: &mut Rig, frame: &[u8]) {
    let run = rig.xdp(frame);
    run.assert_verdict(XDP_PASS);
    assert_eq!(run.bytes, frame);
    let run = rig.underlay(frame);
    run.assert_verdict(TC_NEXT);
    assert_eq!(run.bytes, frame);
}

#[test]
fn known_unicast_is_stripped_and_passed_up_with_metadata() {
    let mut rig = Rig::new();
    for inner in [tcp4(VM9, VM1, 100), udp4(VM9, VM1, 10), udp6(VM9, VM1, 10)] {
        let run = rig.xdp(&Outer::default().wrap(&inner));
        run.assert_verdict(XDP_PASS);
        let (meta, frame) = run.split_meta();
        assert_eq!((meta.slot, meta.bd, frame), (SLOT1, BLUE, &inner[..]));
    }
    assert_eq!(rig.path(Path::RxXdpRedirect).packets, 0);
}

#[test]
fn known_unicast_is_decapsulated_by_tc() {
    let mut rig = Rig::new();
    let short = ethernet(VM9, VM1, 0x88b5, &[1]);
    let llc = ethernet(VM9, VM1, 10, &[0xaa; 40]);
    let arp = arp(
        (VM9, VM1),
        2,
        (VM9, Ipv4Addr::new(10, 0, 0, 9)),
        (VM1, Ipv4Addr::new(10, 0, 0, 1)),
    );
    let inners = [
        tcp4(VM9, VM1, 100),
        udp4(VM9, VM1, 0),
        udp6(VM9, VM1, 10),
        arp,
        short,
        llc,
    ];
    let mut bytes = 0;
    for inner in &inners {
        let run = rig.underlay(&Outer::default().wrap(inner));
        run.assert_verdict(TC_REDIRECT);
        assert_eq!(&run.bytes, inner);
        bytes += inner.len() as u64;
    }
    assert_eq!(rig.path(Path::RxTc).packets, inners.len() as u64);
    assert_eq!(rig.path(Path::RxTc).bytes, bytes);
    assert_eq!(rig.port_counters(SLOT1).1, inners.len() as u64);
}

#[test]
fn xdp_redirects_what_needs_no_gro_to_ports_that_take_it() {
    let mut rig = Rig::new();
    rig.port(
        SLOT1,
        LOOPBACK,
        BLUE,
        PortFlags::ACTIVE.with(PortFlags::REDIRECT_XDP),
    );
    let plain = udp4(VM9, VM1, 10);
    // The flag alone does not make a device take frames.
    let run = rig.xdp(&Outer::default().wrap(&plain));
    run.assert_verdict(XDP_PASS);
    assert_eq!(run.split_meta().1, plain);
    rig.redirect(LOOPBACK);
    let run = rig.xdp(&Outer::default().wrap(&plain));
    run.assert_verdict(XDP_REDIRECT);
    assert_eq!(run.bytes, plain);
    assert_eq!(rig.path(Path::RxXdpRedirect).packets, 1);
    // TCP goes up, for GRO.
    let run = rig.xdp(&Outer::default().wrap(&tcp4(VM9, VM1, 100)));
    run.assert_verdict(XDP_PASS);
    run.split_meta();
    // A bare pseudo-header sum is a partial checksum, which a redirect would lose.
    let mut partial = udp4(VM9, VM1, 10);
    let length = (partial.len() - 34) as u16;
    let mut pseudo = partial[26..34].to_vec();
    pseudo.extend([0, 17]);
    pseudo.extend(length.to_be_bytes());
    let sum = !crate::frames::checksum(&pseudo, 0);
    partial[40..42].copy_from_slice(&sum.to_be_bytes());
    let run = rig.xdp(&Outer::default().wrap(&partial));
    run.assert_verdict(XDP_PASS);
    assert_eq!(run.split_meta().1, partial);
}

#[test]
fn frames_for_ports_with_a_tag_and_for_the_uplinks_own_mac_are_left_to_tc() {
    let mut rig = Rig::new();
    let frame = Outer::default().wrap(&tcp4(VM9, VM1, 10));
    let tagged = PortEntry {
        ifindex: LOOPBACK,
        bd: BLUE,
        flags: PortFlags::ACTIVE,
        vlan: 10,
        ..PortEntry::default()
    };
    rig.port_entry(SLOT1, tagged);
    let run = rig.xdp(&frame);
    run.assert_verdict(XDP_PASS);
    assert_eq!(run.bytes, frame);
    let run = rig.underlay(&frame);
    run.assert_verdict(TC_REDIRECT);

    rig.fdb(BLUE, UPLINK, FdbWord::new(BLUE, SLOT2, FdbFlags::LOCAL));
    let frame = Outer::default().wrap(&tcp4(VM9, UPLINK, 10));
    let run = rig.xdp(&frame);
    run.assert_verdict(XDP_PASS);
    assert_eq!(
        run.bytes, frame,
        "a frame for the uplink's own MAC must not be stripped"
    );
}

#[test]
fn not_ours_passes_untouched() {
    let mut rig = Rig::new();
    let inner = udp4(VM9, VM1, 10);
    for outer in [
        Outer {
            destination: Ipv4Addr::new(198, 18, 0, 77),
            ..Outer::default()
        },
        Outer {
            port: 4790,
            ..Outer::default()
        },
        Outer {
            port: 53,
            vni: 0,
            ..Outer::default()
        },
        // A later fragment has no UDP header: nobody can tell.
        Outer {
            fragment: 0x0010,
            ..Outer::default()
        },
    ] {
        both_pass(&mut rig, &outer.wrap(&inner));
    }
    both_pass(
        &mut rig,
        &arp(
            (NEIGHBOUR, Mac::BROADCAST),
            1,
            (NEIGHBOUR, REMOTE),
            (Mac::ZERO, LOCAL),
        ),
    );
    both_pass(&mut rig, &udp6(NEIGHBOUR, UPLINK, 100));
    let mut tcp = Outer::default().wrap(&inner);
    tcp[23] = 6;
    both_pass(&mut rig, &tcp);
    let mut tagged = Outer::default().wrap(&inner);
    tagged.splice(12..12, [0x81, 0x00, 0x00, 0x05]);
    both_pass(&mut rig, &tagged);
}

/// DP-002, DP-003.
#[test]
fn vxlan_flags() {
    let mut rig = Rig::new();
    let inner = tcp4(VM9, VM1, 10);
    let frame = Outer {
        flags: 0,
        ..Outer::default()
    }
    .wrap(&inner);
    both_drop(&mut rig, &frame, DropReason::VxlanFlags);
    let frame = Outer {
        flags: 0xff,
        reserved: 0xff,
        ..Outer::default()
    }
    .wrap(&inner);
    rig.xdp(&frame).assert_verdict(XDP_PASS);
    let run = rig.underlay(&frame);
    run.assert_verdict(TC_REDIRECT);
    assert_eq!(run.bytes, inner);
}

/// DP-008.
#[test]
fn unknown_vni() {
    let mut rig = Rig::new();
    let frame = Outer {
        vni: 101,
        ..Outer::default()
    }
    .wrap(&udp4(VM9, VM1, 10));
    both_drop(&mut rig, &frame, DropReason::UnknownVni);
    rig.settings(SettingsFlags::PASS_UNKNOWN_VNI);
    both_pass(&mut rig, &frame);
}

/// DP-008, DP-023.
#[test]
fn outer_source() {
    let mut rig = Rig::new();
    let inner = tcp4(VM9, VM1, 10);
    let stranger = Outer {
        source: Ipv4Addr::new(198, 18, 0, 66),
        ..Outer::default()
    }
    .wrap(&inner);
    let own = Outer {
        source: LOCAL,
        ..Outer::default()
    }
    .wrap(&inner);
    let red_from_blue = Outer {
        source: REMOTE2,
        vni: RED_VNI,
        ..Outer::default()
    }
    .wrap(&inner);
    both_drop(&mut rig, &stranger, DropReason::UnknownVtep);
    both_drop(&mut rig, &own, DropReason::OwnVtep);
    rig.xdp(&red_from_blue).assert_verdict(XDP_PASS);
    rig.settings(SettingsFlags::SOURCE_STRICT);
    both_drop(&mut rig, &red_from_blue, DropReason::UnknownVtep);
    rig.underlay(&Outer::default().wrap(&inner))
        .assert_verdict(TC_REDIRECT);
    rig.settings(SettingsFlags::default());
    rig.underlay(&stranger).assert_verdict(TC_REDIRECT);
    rig.settings(SettingsFlags::SOURCE_LOOSE);
    rig.remove_source(BdId(0), REMOTE);
    both_drop(
        &mut rig,
        &Outer::default().wrap(&inner),
        DropReason::UnknownVtep,
    );
}

/// DP-010.
#[test]
fn outer_fragments_and_options() {
    let mut rig = Rig::new();
    let inner = udp4(VM9, VM1, 10);
    let first = Outer {
        fragment: 0x2000,
        ..Outer::default()
    }
    .wrap(&inner);
    both_drop(&mut rig, &first, DropReason::OuterFragment);
    let mut options = Outer::default().wrap(&inner);
    options.splice(34..34, [1, 1, 1, 1]);
    options[14] = 0x46;
    let total = u16::from_be_bytes([options[16], options[17]]) + 4;
    options[16..18].copy_from_slice(&total.to_be_bytes());
    options[24..26].fill(0);
    let sum = crate::frames::checksum(&options[14..38], 0);
    options[24..26].copy_from_slice(&sum.to_be_bytes());
    both_drop(&mut rig, &options, DropReason::OuterHeader);
}

#[test]
fn outer_lengths_and_checksum() {
    let mut rig = Rig::new();
    let inner = udp4(VM9, VM1, 10);
    let mut bad_checksum = Outer::default().wrap(&inner);
    bad_checksum[24] ^= 0x55;
    both_drop(&mut rig, &bad_checksum, DropReason::OuterHeader);
    let mut bad_udp_length = Outer::default().wrap(&inner);
    bad_udp_length[39] ^= 0x40;
    both_drop(&mut rig, &bad_udp_length, DropReason::OuterHeader);
    // Trailing bytes are not the tenant's.
    let inner = tcp4(VM9, VM1, 10);
    let mut padded = Outer::default().wrap(&inner);
    padded.extend([0xee; 9]);
    let run = rig.underlay(&padded);
    run.assert_verdict(TC_REDIRECT);
    assert_eq!(run.bytes, inner);
    let run = rig.xdp(&padded);
    run.assert_verdict(XDP_PASS);
    if run.bytes != padded {
        assert_eq!(run.split_meta().1, inner);
    }
}

/// DP-005: a UDP checksum, zero or not, is accepted.
#[test]
fn udp_checksum_is_not_judged() {
    let mut rig = Rig::new();
    let inner = tcp4(VM9, VM1, 10);
    for udp_checksum in [0, 1, 0xffff] {
        let frame = Outer {
            udp_checksum,
            ..Outer::default()
        }
        .wrap(&inner);
        assert_eq!(rig.xdp(&frame).split_meta().1, inner);
        assert_eq!(rig.underlay(&frame).bytes, inner);
    }
}

/// DP-006, DP-009, DP-017.
#[test]
fn inner_ethernet() {
    let mut rig = Rig::new();
    for (inner, reason) in [
        (udp4(Mac::ZERO, VM1, 10), DropReason::InvalidSource),
        (
            udp4(Mac([3, 0, 0, 0, 0, 1]), VM1, 10),
            DropReason::InvalidSource,
        ),
        (udp4(VM1, VM1, 10), DropReason::SourceIsDestination),
        (
            udp4(VM9, Mac([1, 0x80, 0xc2, 0, 0, 2]), 10),
            DropReason::LinkLocalControl,
        ),
    ] {
        both_drop(&mut rig, &Outer::default().wrap(&inner), reason);
    }
    let mut tagged = tcp4(VM9, VM1, 10);
    tagged.splice(12..12, [0x81, 0x00, 0x00, 0x64]);
    both_drop(
        &mut rig,
        &Outer::default().wrap(&tagged),
        DropReason::InnerVlan,
    );
    // A priority tag (VID 0) is removed.
    let plain = tcp4(VM9, VM1, 10);
    let mut priority = plain.clone();
    priority.splice(12..12, [0x81, 0x00, 0xe0, 0x00]);
    let frame = Outer::default().wrap(&priority);
    let run = rig.xdp(&frame);
    run.assert_verdict(XDP_PASS);
    assert_eq!(run.bytes, frame);
    let run = rig.underlay(&frame);
    run.assert_verdict(TC_REDIRECT);
    assert_eq!(run.bytes, plain);
}

/// DP-013: RFC 6040 §4.2, all sixteen combinations, IPv4 and IPv6 inside.
#[test]
fn ecn_on_decapsulation() {
    const NOT_ECT: u8 = 0;
    const ECT1: u8 = 1;
    const ECT0: u8 = 2;
    const CE: u8 = 3;
    let expected = |inner: u8, outer: u8| match (inner, outer) {
        (NOT_ECT, CE) => None,
        (NOT_ECT, _) => Some(NOT_ECT),
        (_, CE) | (CE, _) => Some(CE),
        (ECT0, ECT1) => Some(ECT1),
        (inner, _) => Some(inner),
    };
    let mut rig = Rig::new();
    for outer in 0..4u8 {
        for inner in 0..4u8 {
            let mut v4 = tcp4(VM9, VM1, 10);
            v4[15] = 0xb8 | inner;
            v4[24..26].fill(0);
            let sum = crate::frames::checksum(&v4[14..34], 0);
            v4[24..26].copy_from_slice(&sum.to_be_bytes());
            let mut v6 = udp6(VM9, VM1, 10);
            v6[15] = inner << 4;
            let frames = [
                Outer {
                    tos: outer,
                    ..Outer::default()
                }
                .wrap(&v4),
                Outer {
                    tos: outer,
                    ..Outer::default()
                }
                .wrap(&v6),
            ];
            match expected(inner, outer) {
                None => frames
                    .iter()
                    .for_each(|frame| both_drop(&mut rig, frame, DropReason::EcnCe)),
                Some(ecn) => {
                    let xdp = rig.xdp(&frames[0]);
                    let tc = rig.underlay(&frames[0]);
                    for bytes in [xdp.split_meta().1, &tc.bytes] {
                        assert_eq!(bytes[15], 0xb8 | ecn, "inner {inner} outer {outer}");
                        assert_eq!(crate::frames::checksum(&bytes[14..34], 0), 0);
                    }
                    assert_eq!(rig.xdp(&frames[1]).split_meta().1[15] >> 4 & 3, ecn);
                    assert_eq!(rig.underlay(&frames[1]).bytes[15] >> 4 & 3, ecn);
                }
            }
        }
    }
    // Not IP: nothing to mark, nothing to drop.
    let other = ethernet(VM9, VM1, 0x88b5, &[0; 50]);
    let frame = Outer {
        tos: CE,
        ..Outer::default()
    }
    .wrap(&other);
    assert_eq!(rig.underlay(&frame).bytes, other);
}

/// MAC-003 (RFC 7432 §9.2), PX-005 (RFC 9161 §3.2): a source that comes from the overlay, unknown or a local VM's, teaches
/// nothing, and neither does ARP.
#[test]
fn mac_003_nothing_is_learned_from_the_overlay() {
    let stranger = Mac([0x02, 0, 0, 0, 0, 0x77]);
    let ip = Ipv4Addr::new(10, 0, 0, 7);
    let mut rig = Rig::new();
    for frame in [
        udp4(stranger, VM1, 10),
        udp4(stranger, Mac::BROADCAST, 10),
        udp4(VM2, VM1, 10),
        arp(
            (stranger, Mac::BROADCAST),
            1,
            (stranger, ip),
            (Mac::ZERO, ip),
        ),
    ] {
        let run = rig.underlay(&Outer::default().wrap(&frame));
        assert!(run.drops.is_empty(), "{:?}", run.drops);
        assert!(rig.events().is_empty());
    }
    assert_eq!(rig.seen(BLUE, VM2), 0, "not even a sign of life");
}

/// DP-018, MAC-008: nothing from the overlay goes back to it.
#[test]
fn overlay_to_overlay() {
    let mut rig = Rig::new();
    let frame = Outer {
        source: REMOTE2,
        ..Outer::default()
    }
    .wrap(&udp4(VM2, VM9, 10));
    both_drop(&mut rig, &frame, DropReason::OverlayToOverlay);
}

/// "Wrong tenant": whatever a recycled map element says, a frame of one bridge domain stays in it.
#[test]
fn stale_entries_never_cross_tenants() {
    let mut rig = Rig::new();
    let frame = Outer::default().wrap(&tcp4(VM9, VM1, 10));
    let old = BdRef {
        generation: BLUE.generation - 1,
        ..BLUE
    };
    for word in [
        FdbWord::new(RED, SLOT1, FdbFlags::LOCAL),
        FdbWord::new(old, SLOT1, FdbFlags::LOCAL),
        FdbWord::new(BLUE, RED_SLOT, FdbFlags::LOCAL),
        FdbWord::new(BLUE, 99, FdbFlags::LOCAL),
    ] {
        rig.fdb(BLUE, VM1, word);
        both_drop(&mut rig, &frame, DropReason::StaleEntry);
    }
    rig.fdb(
        BLUE,
        VM1,
        FdbWord::new(BLUE, SLOT1, FdbFlags::LOCAL.with(FdbFlags::BLACK_HOLE)),
    );
    both_drop(&mut rig, &frame, DropReason::BlackHole);
}

#[test]
fn unknown_unicast_and_bum_follow_the_policy() {
    let mut rig = Rig::new();
    let unknown = Outer::default().wrap(&udp4(VM9, Mac([2, 9, 9, 9, 9, 9]), 10));
    let broadcast = Outer::default().wrap(&udp4(VM9, Mac::BROADCAST, 10));
    for frame in [&unknown, &broadcast] {
        let run = rig.xdp(frame);
        run.assert_verdict(XDP_PASS);
        assert_eq!(&run.bytes, frame, "the TC half needs the outer header");
    }
    let policy = BdFlags::ACTIVE.with(BdFlags::FLOOD_BUM);
    rig.blue_policy(policy);
    rig.underlay(&unknown)
        .assert_dropped(DropReason::UnknownUnicast);
    rig.blue_policy(BdFlags::ACTIVE);
    rig.underlay(&broadcast)
        .assert_dropped(DropReason::FloodOff);
    rig.blue_policy(default_policy());
    rig.fdb(
        BLUE,
        VM9,
        FdbWord::new(BLUE, SLOT2, FdbFlags::LOCAL.with(FdbFlags::PINNED)),
    );
    rig.underlay(&broadcast)
        .assert_dropped(DropReason::LocalSourceFromOverlay);
}

/// MAC-008 (RFC 7432 §12): local ports only.
#[test]
fn broadcast_reaches_every_local_port_once() {
    let mut rig = Rig::new();
    let frame = Outer::default().wrap(&udp4(VM9, Mac::BROADCAST, 10));
    let run = rig.underlay(&frame);
    assert!(run.drops.is_empty(), "{:?}", run.drops);
    assert_eq!(rig.port_counters(SLOT1).1, 1);
    assert_eq!(rig.port_counters(SLOT2).1, 1);
    assert_eq!(rig.port_counters(RED_SLOT).1, 0);
    assert_eq!(rig.bd_counters(BLUE.bd).2, 2);
    assert_eq!(rig.path(Path::RxFlood).packets, 1);
}

#[test]
fn metadata_size_is_what_the_kernel_allows() {
    // A multiple of four, at most 32 bytes before kernel 6.3 (bpf_xdp_adjust_meta).
    const { assert!(size_of::<XdpMeta>() <= 32 && size_of::<XdpMeta>().is_multiple_of(4)) }
}

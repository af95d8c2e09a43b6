//! What programs remember of earlier frames, and forget when they are told to.

use std::net::Ipv4Addr;

use vtep_common::{
    DropReason, Mac,
    abi::{BdId, BdRef, FdbFlags, FdbWord, PortFlags, PortRef, SettingsFlags},
};

use crate::{
    frames::{Outer, udp4},
    rig::*,
};

/// What is remembered is this processor's.
fn stay_on_this_processor() {
    // SAFETY: no pointers, and an all-zero set is an empty one.
    let (cpu, mut set) = unsafe { (libc::sched_getcpu(), std::mem::zeroed::<libc::cpu_set_t>()) };
    // SAFETY: the set is ours and outlives the call, and its size is given.
    let status = unsafe {
        libc::CPU_SET(usize::try_from(cpu).unwrap(), &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &raw const set)
    };
    assert_eq!(status, 0, "{}", std::io::Error::last_os_error());
}

/// Where XDP delivers the frame.
#[track_caller]
fn receiver(rig: &mut Rig, frame: &[u8]) -> (u32, BdRef) {
    let run = rig.xdp(frame);
    run.assert_verdict(XDP_PASS);
    let (meta, _) = run.split_meta();
    (meta.slot, meta.bd)
}

#[test]
fn a_vtep_that_is_gone_is_refused_once_programs_are_told() {
    stay_on_this_processor();
    let mut rig = Rig::new();
    let frame = Outer::default().wrap(&udp4(VM9, VM1, 10));
    assert_eq!(receiver(&mut rig, &frame), (SLOT1, BLUE));
    rig.tells = false;
    rig.remove_source(BdId(0), REMOTE);
    assert_eq!(
        receiver(&mut rig, &frame),
        (SLOT1, BLUE),
        "it is remembered"
    );
    rig.tell();
    rig.xdp(&frame).assert_dropped(DropReason::UnknownVtep);
    rig.underlay(&frame).assert_dropped(DropReason::UnknownVtep);
    // That somebody is unknown is never remembered.
    rig.source(REMOTE);
    assert_eq!(receiver(&mut rig, &frame), (SLOT1, BLUE));
}

#[test]
fn a_mac_that_has_moved_is_found_once_programs_are_told() {
    stay_on_this_processor();
    let mut rig = Rig::new();
    let frame = Outer::default().wrap(&udp4(VM9, VM1, 10));
    assert_eq!(receiver(&mut rig, &frame), (SLOT1, BLUE));
    rig.tells = false;
    rig.fdb(BLUE, VM1, FdbWord::new(BLUE, SLOT2, FdbFlags::LOCAL));
    assert_eq!(
        receiver(&mut rig, &frame),
        (SLOT1, BLUE),
        "it is remembered"
    );
    rig.tell();
    assert_eq!(receiver(&mut rig, &frame), (SLOT2, BLUE));
    rig.fdb(BLUE, VM1, FdbWord::new(BLUE, 1, FdbFlags::default()));
    rig.tell();
    rig.xdp(&frame).assert_dropped(DropReason::OverlayToOverlay);
    // Where a MAC behind a VTEP is, is never remembered.
    rig.fdb(BLUE, VM1, FdbWord::new(BLUE, SLOT1, FdbFlags::LOCAL));
    assert_eq!(receiver(&mut rig, &frame), (SLOT1, BLUE));
}

#[test]
fn what_is_remembered_of_one_tenant_is_not_taken_for_another() {
    stay_on_this_processor();
    let mut rig = Rig::new();
    rig.tells = false;
    let of = |vni| {
        let outer = Outer {
            vni,
            ..Outer::default()
        };
        outer.wrap(&udp4(VM9, VM1, 10))
    };
    for _ in 0..3 {
        assert_eq!(receiver(&mut rig, &of(BLUE_VNI)), (SLOT1, BLUE));
        assert_eq!(receiver(&mut rig, &of(RED_VNI)), (RED_SLOT, RED));
    }
    rig.vni(BLUE_VNI, RED);
    rig.tell();
    assert_eq!(receiver(&mut rig, &of(BLUE_VNI)), (RED_SLOT, RED));
}

/// Far more than there is room for, and with the settings that ask for less and for more.
#[test]
fn many_vteps_and_macs_share_the_room() {
    stay_on_this_processor();
    let mut rig = Rig::new();
    let mac = |n: u16| Mac([2, 0, 0, 1, (n >> 8) as u8, n as u8]);
    let vtep = |n: u16| Ipv4Addr::new(198, 19, (n >> 8) as u8, n as u8);
    for n in 0..3000 {
        rig.fdb(BLUE, mac(n), FdbWord::new(BLUE, SLOT1, FdbFlags::LOCAL));
        rig.fdb(RED, mac(n), FdbWord::new(RED, RED_SLOT, FdbFlags::LOCAL));
        rig.source(vtep(n));
    }
    rig.tells = false;
    for n in (0..3000).chain(0..3000) {
        for (vni, slot, bd) in [(BLUE_VNI, SLOT1, BLUE), (RED_VNI, RED_SLOT, RED)] {
            let outer = Outer {
                vni,
                source: vtep(n),
                ..Outer::default()
            };
            let frame = outer.wrap(&udp4(VM9, mac(n), 10));
            assert_eq!(receiver(&mut rig, &frame), (slot, bd), "{n}");
        }
    }
    // Another policy is one of the changes that programs are told of.
    let known = Outer {
        source: vtep(2999),
        ..Outer::default()
    };
    let frame = known.wrap(&udp4(VM9, VM1, 10));
    rig.settings(SettingsFlags::SOURCE_STRICT);
    rig.xdp(&frame).assert_dropped(DropReason::UnknownVtep);
    rig.settings(SettingsFlags::default());
    assert_eq!(receiver(&mut rig, &frame), (SLOT1, BLUE));
}

#[test]
fn a_sender_that_has_moved_is_seen_once_programs_are_told() {
    stay_on_this_processor();
    let mut rig = Rig::new();
    let frame = udp4(VM1, VM2, 10);
    rig.access(&frame).assert_verdict(TC_REDIRECT);
    assert_eq!(rig.events(), []);
    assert_eq!(rig.seen(BLUE, VM1), 77);
    rig.tells = false;
    rig.fdb(BLUE, VM1, FdbWord::new(BLUE, SLOT2, FdbFlags::LOCAL));
    rig.access(&frame).assert_verdict(TC_REDIRECT);
    assert_eq!(rig.events(), [], "it is remembered");
    rig.tell();
    rig.access(&frame).assert_verdict(TC_REDIRECT);
    assert_eq!(rig.events().len(), 1, "it is new here");
    let pinned = FdbFlags::LOCAL.with(FdbFlags::PINNED);
    rig.fdb(BLUE, VM1, FdbWord::new(BLUE, SLOT2, pinned));
    rig.tell();
    rig.access(&frame).assert_dropped(DropReason::SourceSpoofed);
}

#[test]
fn what_is_remembered_is_stamped_when_the_clock_advances() {
    stay_on_this_processor();
    let mut rig = Rig::new();
    rig.tells = false;
    let frame = udp4(VM1, VM2, 10);
    for epoch in [77, 78, 78, 79] {
        rig.epoch(epoch);
        rig.access(&frame).assert_verdict(TC_REDIRECT);
        assert_eq!(rig.seen(BLUE, VM1), epoch);
    }
}

/// Damage that nobody tells of, and its repair, too.
#[test]
fn with_the_clock_everything_is_forgotten() {
    stay_on_this_processor();
    let mut rig = Rig::new();
    rig.tells = false;
    let frame = Outer::default().wrap(&udp4(VM9, VM1, 10));
    for (epoch, slot) in [(77, SLOT1), (78, SLOT2), (79, SLOT1)] {
        rig.epoch(epoch);
        rig.fdb(BLUE, VM1, FdbWord::new(BLUE, slot, FdbFlags::LOCAL));
        assert_eq!(receiver(&mut rig, &frame), (slot, BLUE));
    }
    rig.remove_source(BdId(0), REMOTE);
    rig.epoch(80);
    rig.xdp(&frame).assert_dropped(DropReason::UnknownVtep);
}

#[test]
fn a_port_that_changes_its_bridge_domain_is_seen_once_programs_are_told() {
    stay_on_this_processor();
    let mut rig = Rig::new();
    let frame = udp4(VM1, VM9, 10);
    rig.access(&frame).assert_verdict(TC_REDIRECT);
    rig.port_index(PortRef::new(RED, RED_SLOT));
    rig.tells = false;
    rig.port(SLOT1, LOOPBACK, BLUE, PortFlags::default());
    rig.fdb(RED, VM9, FdbWord::new(RED, SLOT1, FdbFlags::LOCAL));
    rig.access(&frame).assert_dropped(DropReason::StaleEntry);
    assert_eq!(rig.port_counters(RED_SLOT), (1, 0, 1));
    // Whose a port is, is never taken from memory alone.
    rig.port(RED_SLOT, LOOPBACK, BLUE, PortFlags::ACTIVE);
    rig.access(&frame).assert_dropped(DropReason::StaleEntry);
    assert_eq!(rig.port_counters(RED_SLOT), (1, 0, 1));
}

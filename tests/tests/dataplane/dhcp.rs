//! DHCP messages: copied to the agent, and forwarded as they are.

use etherparse::PacketBuilder;
use vtep_common::{
    DropReason, Mac,
    abi::{BdFlags, DhcpEvent, EventKind, FdbFlags, FdbWord, GuardFlags, PortFlags, Stat},
};

use crate::{
    frames::{Outer, ip6},
    rig::*,
};

const TO_SERVER: (u16, u16) = (68, 67);
const TO_CLIENT: (u16, u16) = (67, 68);
const TO_SERVER6: (u16, u16) = (546, 547);
const TO_CLIENT6: (u16, u16) = (547, 546);
const GROUP6: Mac = Mac([0x33, 0x33, 0, 1, 0, 2]);

/// What a message may have: the longest that is copied as a whole is 568 bytes.
fn frame4(macs: (Mac, Mac), ports: (u16, u16), length: usize) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(macs.0.0, macs.1.0)
        .ipv4([10, 0, 0, 1], [10, 0, 0, 9], 64)
        .udp(ports.0, ports.1);
    build(builder, length)
}

fn frame6(macs: (Mac, Mac), ports: (u16, u16), length: usize) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(macs.0.0, macs.1.0)
        .ipv6(ip6(1).octets(), ip6(9).octets(), 64)
        .udp(ports.0, ports.1);
    build(builder, length)
}

fn build(builder: etherparse::PacketBuilderStep<etherparse::UdpHeader>, length: usize) -> Vec<u8> {
    let payload: Vec<u8> = (0..length).map(|byte| byte as u8).collect();
    let mut frame = Vec::new();
    builder.write(&mut frame, &payload).unwrap();
    frame
}

/// The one record that there is; it has the frame's packet.
#[track_caller]
fn reported(rig: &mut Rig, frame: &[u8]) -> (EventKind, Mac, u32, u32) {
    let records = rig.dhcp();
    let [record] = &records[..] else {
        panic!("{} records", records.len());
    };
    assert_eq!(record.event.bd, BLUE);
    assert_eq!(record.packet(), &frame[14..]);
    let kind = record.event.kind().unwrap();
    (kind, record.event.mac, record.event.slot, record.from)
}

#[test]
fn what_a_vm_says_to_servers() {
    let mut rig = Rig::new();
    for frame in [
        frame4((VM1, Mac::BROADCAST), TO_SERVER, 300),
        frame4((VM1, VM9), TO_SERVER, 300),
        frame6((VM1, GROUP6), TO_SERVER6, 100),
        frame6((VM1, VM2), TO_SERVER6, 100),
    ] {
        let run = rig.access(&frame);
        assert!(run.drops.is_empty(), "{run:?}");
        let seen = reported(&mut rig, &frame);
        assert_eq!(seen, (EventKind::DhcpSent, VM1, SLOT1, SLOT1));
    }
}

#[test]
fn what_servers_say_to_a_vm() {
    let mut rig = Rig::new();
    let delivered = EventKind::DhcpDelivered;
    for (make, ports) in [
        (
            frame4 as fn((Mac, Mac), (u16, u16), usize) -> Vec<u8>,
            TO_CLIENT,
        ),
        (frame6, TO_CLIENT6),
    ] {
        // On this host; to everybody; from the overlay; from there to everybody.
        let frame = make((VM1, VM2), ports, 300);
        let run = rig.access(&frame);
        run.assert_verdict(TC_REDIRECT);
        assert_eq!(run.bytes, frame, "untouched");
        assert_eq!(reported(&mut rig, &frame), (delivered, VM2, SLOT2, SLOT1));
        let frame = make((VM1, Mac::BROADCAST), ports, 300);
        assert!(rig.access(&frame).drops.is_empty());
        assert_eq!(
            reported(&mut rig, &frame),
            (delivered, Mac::BROADCAST, 0, SLOT1)
        );
        let frame = make((VM9, VM1), ports, 300);
        let run = rig.underlay(&Outer::default().wrap(&frame));
        run.assert_verdict(TC_REDIRECT);
        assert_eq!(run.bytes, frame, "untouched");
        assert_eq!(reported(&mut rig, &frame), (delivered, VM1, SLOT1, 0));
        let frame = make((VM9, Mac::BROADCAST), ports, 300);
        assert!(
            rig.underlay(&Outer::default().wrap(&frame))
                .drops
                .is_empty()
        );
        assert_eq!(
            reported(&mut rig, &frame),
            (delivered, Mac::BROADCAST, 0, 0)
        );
    }
}

/// XDP does not hand them past TC, to ports that it may redirect to.
#[test]
fn not_redirected_in_xdp() {
    let mut rig = Rig::new();
    let flags = PortFlags::ACTIVE.with(PortFlags::REDIRECT_XDP);
    rig.port(SLOT1, LOOPBACK, BLUE, flags);
    rig.redirect(LOOPBACK);
    for (frame, verdict) in [
        (frame4((VM9, VM1), TO_CLIENT, 300), XDP_PASS),
        (frame6((VM9, VM1), TO_CLIENT6, 300), XDP_PASS),
        (frame4((VM9, VM1), TO_SERVER, 300), XDP_REDIRECT),
        (frame6((VM9, VM1), TO_SERVER6, 300), XDP_REDIRECT),
    ] {
        rig.xdp(&Outer::default().wrap(&frame))
            .assert_verdict(verdict);
    }
}

#[test]
fn what_is_not_reported() {
    let mut rig = Rig::new();
    for ports in [(67, 67), (68, 68), (1067, 68), (68, 1067), (53, 68)] {
        rig.access(&frame4((VM1, VM2), ports, 300));
        rig.access(&frame6((VM1, VM2), ports, 300));
    }
    for ports in [TO_SERVER, TO_CLIENT] {
        let mut tcp = frame4((VM1, VM2), ports, 300);
        tcp[23] = 6;
        rig.access(&tcp);
    }
    // To the VMs that it is not delivered to: sent by a client, received by a server.
    rig.underlay(&Outer::default().wrap(&frame4((VM9, VM1), TO_SERVER, 300)));
    assert!(rig.dhcp().is_empty());

    rig.blue_policy(BdFlags(default_policy().0 & !BdFlags::DHCP.0));
    for ports in [TO_SERVER, TO_CLIENT] {
        rig.access(&frame4((VM1, VM2), ports, 300));
        rig.access(&frame4((VM1, Mac::BROADCAST), ports, 300));
        rig.underlay(&Outer::default().wrap(&frame4((VM9, VM1), ports, 300)));
    }
    assert!(rig.dhcp().is_empty());
}

/// What the port may not say reaches nobody, hence not the agent either.
#[test]
fn a_guard_comes_first() {
    let mut rig = Rig::new();
    let flags = PortFlags::ACTIVE.with(PortFlags::GUARDED);
    rig.port(SLOT1, LOOPBACK, BLUE, flags);
    rig.guard_mac(SLOT1, VM1, GuardFlags::CLIENT);
    for to in [VM2, Mac::BROADCAST] {
        for frame in [
            frame4((VM1, to), TO_CLIENT, 300),
            frame6((VM1, to), TO_CLIENT6, 300),
        ] {
            rig.access(&frame).assert_dropped(DropReason::ServerSpoofed);
        }
    }
    let pinned = FdbWord::new(BLUE, SLOT2, FdbFlags::LOCAL.with(FdbFlags::PINNED));
    rig.fdb(BLUE, VM2, pinned);
    rig.port(SLOT1, LOOPBACK, BLUE, PortFlags::ACTIVE);
    rig.access(&frame4((VM2, VM1), TO_CLIENT, 300))
        .assert_dropped(DropReason::SourceSpoofed);
    assert!(rig.dhcp().is_empty());
}

/// Of a long message the beginning, of a short one all, and nothing of one without ports; fragments
/// too, which the agent counts.
#[test]
fn lengths_and_fragments() {
    let mut rig = Rig::new();
    let long = frame4((VM1, VM2), TO_CLIENT, 1200);
    rig.access(&long).assert_verdict(TC_REDIRECT);
    let records = rig.dhcp();
    assert_eq!(records[0].packet(), &long[14..14 + DhcpEvent::COPY]);
    // The kernel runs no program on less than an IP header.
    for (whole, least) in [
        (frame4((VM1, VM2), TO_CLIENT, 20), 34),
        (frame6((VM1, VM2), TO_CLIENT6, 20), 54),
    ] {
        for length in least..whole.len() {
            rig.access(&whole[..length]);
            let records = rig.dhcp();
            assert!(records.len() <= 1);
            for record in records {
                assert_eq!(record.packet(), &whole[14..length]);
            }
        }
    }
    let mut first = frame4((VM1, VM2), TO_CLIENT, 300);
    first[20] = 0x20;
    rig.access(&first);
    assert_eq!(reported(&mut rig, &first).0, EventKind::DhcpDelivered);
    // IPv6 has a header for it.
    let whole = frame6((VM1, VM2), TO_CLIENT6, 300);
    let mut first = whole[..54].to_vec();
    first[20] = 44;
    first.extend([17, 0, 0, 1, 0, 0, 0, 1]);
    first.extend(&whole[54..]);
    rig.access(&first);
    assert_eq!(reported(&mut rig, &first).0, EventKind::DhcpDelivered);
}

/// Above the budget messages are forwarded as before, and counted.
#[test]
fn a_storm_is_limited() {
    let mut rig = Rig::new();
    let frame = frame4((VM1, VM2), TO_CLIENT, 300);
    let mut reported = 0;
    for _ in 0..100_000 {
        rig.access(&frame).assert_verdict(TC_REDIRECT);
        reported += rig.dhcp().len();
        if rig.stat(Stat::EventsLimited) > 0 {
            break;
        }
    }
    assert!(
        rig.stat(Stat::EventsLimited) > 0 && reported >= 100,
        "{reported}"
    );
    // Another port has its own.
    rig.underlay(&Outer::default().wrap(&frame4((VM9, VM1), TO_CLIENT, 300)));
    assert_eq!(rig.dhcp().len(), 1);
    assert_eq!(rig.stat(Stat::EventsLost), 0);
}

//! Records of frames, while somebody listens.

use std::net::Ipv4Addr;

use vtep_common::{
    DropReason, Mac,
    abi::{Fate, FdbFlags, FdbWord, Path, SettingsFlags, Trace, TraceFilter, TraceProgram},
};

use crate::{
    frames::{Outer, arp, tcp4, udp4},
    rig::*,
};

const STRANGER: Mac = Mac([0x02, 0, 0, 0, 0, 0x78]);

/// A rig that traces.
fn traced(filter: TraceFilter) -> Rig {
    let mut rig = Rig::new();
    rig.trace(filter);
    rig.settings(SettingsFlags::SOURCE_LOOSE.with(SettingsFlags::TRACE));
    rig
}

fn fates(records: &[Trace]) -> Vec<Option<Fate>> {
    let fate = |record: &Trace| Fate::from_code(record.fate.into());
    records.iter().map(fate).collect()
}

#[test]
fn nobody_listens() {
    let mut rig = Rig::new();
    rig.access(&udp4(VM1, VM9, 10));
    rig.access(&udp4(VM1, VM1, 10));
    rig.xdp(&Outer::default().wrap(&udp4(VM9, VM1, 10)));
    rig.underlay(&Outer::default().wrap(&udp4(VM9, VM1, 10)));
    assert_eq!(rig.traces(), []);
}

/// Each way that a frame from a port can take, and each record says what the tables said.
#[test]
fn from_a_port() {
    let mut rig = traced(TraceFilter::default());
    let frame = udp4(VM1, VM9, 10);
    rig.access(&frame).assert_verdict(TC_REDIRECT);
    rig.access(&udp4(VM1, VM2, 10)).assert_verdict(TC_REDIRECT);
    rig.access(&udp4(VM1, STRANGER, 10)).assert_verdict(TC_SHOT);
    rig.access(&udp4(VM1, VM1, 10))
        .assert_dropped(DropReason::SourceIsDestination);
    let records = rig.traces();
    assert_eq!(
        fates(&records),
        [
            Some(Fate::Took(Path::TxUnicast)),
            Some(Fate::Took(Path::Local)),
            Some(Fate::Took(Path::TxFlood)),
            Some(Fate::Dropped),
        ]
    );
    let expected = Trace {
        destination: VM9.to_bits(),
        source: VM1.to_bits(),
        word: FdbWord::new(BLUE, 1, FdbFlags::default()),
        bd: BLUE,
        slot: SLOT1,
        ifindex: LOOPBACK,
        length: frame.len() as u32,
        ethertype_be: 0x0800_u16.to_be(),
        program: TraceProgram::Access as u8,
        fate: Fate::Took(Path::TxUnicast).code() as u8,
        ..Trace::default()
    };
    assert_eq!(records[0], expected);
    assert_eq!(records[1].word, FdbWord::new(BLUE, SLOT2, FdbFlags::LOCAL));
    assert_eq!(records[2].word, FdbWord::default());
    let reasons: Vec<_> = records.iter().map(|record| record.reason).collect();
    let reason = DropReason::SourceIsDestination as u8;
    assert_eq!(reasons, [0, 0, 0, reason]);
}

/// Both programs of the underlay have their say; what is not ours is nobody's business.
#[test]
fn from_the_underlay() {
    let mut rig = traced(TraceFilter::default());
    let frame = Outer::default().wrap(&tcp4(VM9, VM1, 100));
    rig.xdp(&frame).assert_verdict(XDP_PASS);
    rig.underlay(&frame).assert_verdict(TC_REDIRECT);
    rig.underlay(&udp4(VM9, VM1, 10)).assert_verdict(TC_NEXT);
    rig.xdp(&udp4(VM9, VM1, 10)).assert_verdict(XDP_PASS);
    let records = rig.traces();
    assert_eq!(
        fates(&records),
        [Some(Fate::Passed), Some(Fate::Took(Path::RxTc))]
    );
    for record in &records {
        assert_eq!(
            (record.source, record.destination),
            (VM9.to_bits(), VM1.to_bits())
        );
        assert_eq!((record.bd, record.vni, record.slot), (BLUE, BLUE_VNI, 0));
        assert_eq!(Ipv4Addr::from(record.outer_source_be.to_ne_bytes()), REMOTE);
        assert_eq!(record.length, frame.len() as u32);
    }
}

/// The datapath itself leaves out what is not wanted.
#[test]
fn filters_and_rate() {
    let spoof = udp4(VM1, VM1, 10);
    let question = arp(
        (VM1, Mac::BROADCAST),
        1,
        (VM1, Ipv4Addr::new(10, 0, 0, 1)),
        (Mac::ZERO, Ipv4Addr::new(10, 0, 0, 9)),
    );
    let count = |filter: TraceFilter| {
        let mut rig = traced(filter);
        for frame in [&udp4(VM1, VM9, 10), &udp4(VM1, VM2, 10), &spoof, &question] {
            rig.access(frame);
        }
        rig.traces().len()
    };
    let any = TraceFilter::default();
    assert_eq!(count(any), 4);
    let of = |change: fn(&mut TraceFilter)| {
        let mut filter = any;
        change(&mut filter);
        count(filter)
    };
    assert_eq!(of(|f| f.mac = VM9.to_bits()), 1);
    assert_eq!(of(|f| f.slot = SLOT2), 1, "it is where one goes to");
    assert_eq!(of(|f| f.bd = RED.bd.0), 0);
    assert_eq!(of(|f| f.reason = TraceFilter::ANY_DROP), 1);
    assert_eq!(of(|f| f.reason = DropReason::UnknownVni as u8), 0);
    assert_eq!(of(|f| f.rate = 2), 2, "two a second");
}

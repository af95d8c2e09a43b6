use super::*;
use crate::{
    Mac,
    abi::{Adjacency, FdbWord},
    wire::testing::{BD, LOCAL, Maps, REMOTE, SLOT},
};

const ELSEWHERE: Mac = Mac([2, 0, 0, 0, 0, 8]);
const OTHER_SLOT: u32 = 6;

fn maps() -> Maps {
    let mut maps = Maps::new();
    let mut port = maps.ports[&SLOT];
    port.ifindex = 2;
    maps.ports.insert(OTHER_SLOT, port);
    maps.set_fdb(ELSEWHERE, FdbWord::new(BD, OTHER_SLOT, FdbFlags::LOCAL));
    maps
}

fn ingress(maps: &Maps) -> Ingress<'_> {
    Ingress::new(maps, PortRef::new(BD, SLOT)).unwrap()
}

fn header(destination: Mac) -> Header {
    Header {
        destination: destination.to_bits(),
        source: LOCAL.to_bits(),
        ethertype_be: 0,
    }
}

#[test]
fn a_recycled_port_reference_is_stale() {
    let maps = maps();
    let other = BdRef {
        bd: BD.bd,
        generation: BD.generation + 1,
    };
    for at in [PortRef::new(other, SLOT), PortRef::new(BD, 99)] {
        assert_eq!(Ingress::new(&maps, at).err(), Some(DropReason::StaleEntry));
    }
}

#[test]
fn senders() {
    let mut maps = maps();
    let judge =
        |maps: &Maps, target, flags| sender(&ingress(maps), Some(FdbWord::new(BD, target, flags)));
    let pinned = FdbFlags::LOCAL.with(FdbFlags::PINNED);
    assert_eq!(judge(&maps, SLOT, FdbFlags::LOCAL), Ok(Sender::Here));
    assert_eq!(judge(&maps, SLOT, pinned), Ok(Sender::Here));
    assert_eq!(judge(&maps, OTHER_SLOT, FdbFlags::LOCAL), Ok(Sender::New));
    assert_eq!(
        judge(&maps, OTHER_SLOT, pinned),
        Err(DropReason::SourceSpoofed)
    );
    assert_eq!(
        judge(&maps, SLOT, FdbFlags::default()),
        Ok(Sender::New),
        "a group's index"
    );
    assert_eq!(
        judge(&maps, 1, FdbFlags::PINNED),
        Err(DropReason::SourceSpoofed)
    );
    assert_eq!(
        judge(&maps, SLOT, FdbFlags::BLACK_HOLE),
        Err(DropReason::BlackHole)
    );
    assert_eq!(sender(&ingress(&maps), None), Ok(Sender::New));
    maps.ports.get_mut(&SLOT).unwrap().flags = PortFlags::ACTIVE.with(PortFlags::MAC_LIMIT);
    assert_eq!(sender(&ingress(&maps), None), Err(DropReason::MacLimit));
    let other = BdRef {
        bd: BD.bd,
        generation: BD.generation + 1,
    };
    let recycled = FdbWord::new(other, SLOT, FdbFlags::LOCAL);
    assert_eq!(
        sender(&ingress(&maps), Some(recycled)),
        Err(DropReason::MacLimit)
    );
}

#[test]
fn destinations() {
    let mut maps = maps();
    let to = |maps: &Maps, mac| match forward(maps, &ingress(maps), &header(mac)) {
        Ok(Forward::Port(port)) => Ok(("port", port.slot)),
        Ok(Forward::Group(group)) => Ok(("group", group)),
        Ok(Forward::Flood) => Ok(("flood", 0)),
        Err(reason) => Err(reason),
    };
    let stranger = Mac([2, 0, 0, 0, 0, 9]);
    assert_eq!(to(&maps, ELSEWHERE), Ok(("port", OTHER_SLOT)));
    assert_eq!(to(&maps, REMOTE), Ok(("group", 1)));
    assert_eq!(to(&maps, stranger), Ok(("flood", 0)));
    assert_eq!(to(&maps, Mac::BROADCAST), Ok(("flood", 0)));
    assert_eq!(to(&maps, LOCAL), Err(DropReason::Hairpin));
    maps.set_fdb(stranger, FdbWord::new(BD, 1, FdbFlags::BLACK_HOLE));
    assert_eq!(to(&maps, stranger), Err(DropReason::BlackHole));
    let other = BdRef {
        bd: BD.bd,
        generation: BD.generation + 1,
    };
    maps.set_fdb(stranger, FdbWord::new(other, 1, FdbFlags::default()));
    assert_eq!(to(&maps, stranger), Err(DropReason::StaleEntry));
    maps.domain_mut().flags = BdFlags::ACTIVE;
    assert_eq!(
        to(&maps, Mac([2, 0, 0, 0, 0, 7])),
        Err(DropReason::UnknownUnicast)
    );
    assert_eq!(to(&maps, Mac::BROADCAST), Err(DropReason::FloodOff));
}

#[test]
fn members_and_paths_share_the_flows() {
    let mut group = NhGroup {
        bd: BD,
        count: 3,
        ..NhGroup::default()
    };
    for (number, member) in group.members.iter_mut().enumerate() {
        member.vtep = number as u32;
    }
    let mut seen = [0; NhGroup::WIDTH];
    for hash in (0..=u32::MAX).step_by(1 << 20) {
        seen[member(&group, BD, hash).unwrap().vtep as usize] += 1;
    }
    assert!(seen[..3].iter().all(|&count| count > 1200), "{seen:?}");
    assert_eq!(seen[3..], [0; 5]);
    group.count = 0;
    assert_eq!(member(&group, BD, 7).err(), Some(DropReason::NoPath));
    assert_eq!(
        member(&group, BdRef::default(), 7).err(),
        Some(DropReason::StaleEntry)
    );
    group.count = 100;
    assert_eq!(
        member(&group, BD, u32::MAX).err(),
        Some(DropReason::NoPath),
        "no such member"
    );
}

#[test]
fn an_unresolved_path_is_none() {
    let mut vtep = VtepEntry {
        count: 1,
        ..VtepEntry::default()
    };
    assert_eq!(path(&vtep, 1).err(), Some(DropReason::NoPath));
    vtep.paths[0] = Adjacency {
        ifindex: 3,
        resolved: 1,
        ..Adjacency::default()
    };
    assert_eq!(path(&vtep, 1).unwrap().ifindex, 3);
    vtep.count = 0;
    assert_eq!(path(&vtep, 1).err(), Some(DropReason::NoPath));
}

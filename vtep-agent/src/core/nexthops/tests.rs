//! Places in the tables.

use super::*;

const BD: BdRef = BdRef {
    bd: BdId(1),
    generation: 1,
};
const VNI: u32 = 100;
const CHECK: SourceCheck = SourceCheck::Loose;

fn vtep(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, 0, number)
}

fn key(number: u8) -> GroupKey {
    GroupKey {
        bd: BD.bd,
        vtep: vtep(number),
        vni: VNI,
    }
}

struct Tables {
    nexthops: Nexthops,
    intent: Intent,
    outputs: Vec<Output>,
    now: Instant,
}

impl Tables {
    fn acquire(&mut self, number: u8) {
        let (nexthops, intent) = (&mut self.nexthops, &mut self.intent);
        nexthops.acquire(
            BD.bd,
            vtep(number),
            CHECK,
            intent,
            &mut self.outputs,
            self.now,
        );
        nexthops.acquire_group(BD, key(number), intent, self.now);
    }

    fn release(&mut self, number: u8) {
        let (nexthops, intent) = (&mut self.nexthops, &mut self.intent);
        nexthops.release(BD.bd, vtep(number), CHECK, intent);
        nexthops.release_group(key(number));
        nexthops.collect(intent, self.now);
    }
}

fn check_refill(vteps: u32, groups: u32) {
    let mut tables = Tables {
        nexthops: Nexthops::new(),
        intent: Intent::default(),
        outputs: Vec::new(),
        now: Instant::now(),
    };
    tables.nexthops.vtep_indexes = Indexes::below(vteps);
    tables.nexthops.group_indexes = Indexes::below(groups);
    for number in 1..=4 {
        tables.acquire(number);
    }
    assert_eq!(tables.nexthops.group(&key(3)), None);
    let now = tables.now;
    assert!(tables.nexthops.refill(&mut tables.intent, now).is_empty());
    // Gone before there was a place for it.
    tables.release(3);
    tables.release(1);
    let settled = tables.nexthops.refill(&mut tables.intent, now);
    assert!(!settled.is_empty());
    assert!(settled.iter().all(|entry| *entry == (BD.bd, vtep(4))));
    let index = tables.nexthops.group(&key(4)).unwrap();
    let group = tables.intent.groups.get(index).unwrap();
    let member = tables.intent.vteps.get(group.members[0].vtep).unwrap();
    assert_eq!(member.address, VtepAddr::v4(vtep(4)));
    for number in [2, 4] {
        tables.release(number);
    }
    assert!(tables.intent.groups.is_empty() && tables.intent.vteps.is_empty());
    assert!(tables.nexthops.homeless_groups.is_empty());
    assert!(tables.nexthops.homeless_vteps.is_empty());
}

#[test]
fn a_full_table_of_groups_is_filled_up_again() {
    check_refill(100, 3);
}

#[test]
fn a_full_table_of_vteps_is_filled_up_again() {
    check_refill(3, 100);
}

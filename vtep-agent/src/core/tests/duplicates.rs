//! Checklist D5: duplicate MACs (RFC 7432 §15.1).

use vtep_common::abi::FdbFlags;

use super::{super::DeclaredEndpoint, *};
use crate::config::DuplicateAction;

const MINUTE: Duration = Duration::from_secs(60);

fn fixture(action: DuplicateAction) -> Fixture {
    let mut config = config();
    config.vtep.duplicate.action = action;
    let mut fixture = Fixture::start(config, State::default());
    fixture.link(TAP1, "tap1");
    fixture.link(TAP2, "tap2");
    fixture.up(RR);
    fixture.outputs.clear();
    fixture
}

/// To V2 and back, `moves` times in all, one every `pause`. Answers with the last sequence number.
fn flap(fixture: &mut Fixture, mac: Mac, moves: u32, pause: Duration) -> u32 {
    fixture.frame(TAP1, mac);
    for n in 1..=moves {
        fixture.advance(pause);
        if n % 2 == 1 {
            // Two routes for one move.
            fixture.announce(rt2(V2, mac, None, n));
            fixture.announce(rt2(V2, mac, Some("10.0.0.1"), n));
        } else {
            fixture.withdraw(&rt2(V2, mac, None, 0).0);
            fixture.frame(TAP1, mac);
            fixture.withdraw(&rt2(V2, mac, Some("10.0.0.1"), 0).0);
        }
    }
    moves
}

fn is_duplicate(fixture: &Fixture, mac: Mac) -> bool {
    let macs = fixture.core.macs(None, fixture.now).unwrap();
    let found = macs.iter().find(|entry| entry.mac == mac.to_string());
    found.is_some_and(|entry| entry.duplicate)
}

fn flags(fixture: &Fixture, mac: Mac) -> FdbFlags {
    fixture.fdb(mac).unwrap().flags()
}

/// DUP-001 with the default action: it is seen and counted, nothing else.
#[test]
fn dup_001_warn() {
    let mut fixture = fixture(DuplicateAction::Warn);
    flap(&mut fixture, mac(1), 4, Duration::from_secs(1));
    assert!(!is_duplicate(&fixture, mac(1)));
    fixture.announce(rt2(V2, mac(1), None, 9));
    assert!(is_duplicate(&fixture, mac(1)));
    let [stats] = &fixture.core.bd_stats()[..] else {
        panic!("one bridge domain");
    };
    assert_eq!((stats.duplicate_macs, stats.mac_moves), (1, 5));
    // It still moves.
    fixture.sent();
    fixture.frame(TAP1, mac(1));
    assert_eq!(fixture.announced(), [(None, 10)]);
    assert!(!flags(&fixture, mac(1)).has(FdbFlags::PINNED));
    // And is forgiven some time after the last move.
    fixture.advance(Duration::from_secs(601));
    assert!(!is_duplicate(&fixture, mac(1)));
}

/// DUP-001: no announcements, and routes are not processed.
#[test]
fn dup_001_freeze() {
    let mut fixture = fixture(DuplicateAction::Freeze);
    flap(&mut fixture, mac(1), 5, Duration::from_secs(1));
    assert!(is_duplicate(&fixture, mac(1)));
    assert_eq!(
        fixture.vtep_of(mac(1)),
        Some(V2),
        "where the last move took it"
    );
    assert!(flags(&fixture, mac(1)).has(FdbFlags::PINNED));
    fixture.sent();
    fixture.frame(TAP1, mac(1));
    fixture.announce(rt2(V1, mac(1), None, 99));
    assert_eq!(fixture.vtep_of(mac(1)), Some(V2));
    assert_eq!(fixture.announced(), []);
    // A route that is gone is no place to stay.
    fixture.withdraw(&rt2(V2, mac(1), None, 0).0);
    fixture.withdraw(&rt2(V2, mac(1), Some("10.0.0.1"), 0).0);
    assert_eq!(fixture.vtep_of(mac(1)), Some(V1));
}

/// DUP-001 at the side that has it in the end: what was announced stays.
#[test]
fn dup_001_freeze_here() {
    let mut fixture = fixture(DuplicateAction::Freeze);
    flap(&mut fixture, mac(1), 4, Duration::from_secs(1));
    fixture.frame(TAP2, mac(1));
    assert!(
        is_duplicate(&fixture, mac(1)),
        "between ports counts as well"
    );
    fixture.sent();
    fixture.announce(rt2(V2, mac(1), None, 99));
    assert!(fixture.is_local(mac(1)));
    fixture.frame(TAP1, mac(1));
    let sent = fixture.sent();
    assert!(sent.announce.is_empty() && sent.withdraw.is_empty());
    // Nothing is behind a port that is gone, duplicate or not.
    fixture.handle(Input::LinkGone(TAP2));
    assert_eq!(fixture.vtep_of(mac(1)), Some(V2));
}

/// DUP-002.
#[test]
fn dup_002_slow_moves() {
    let mut fixture = fixture(DuplicateAction::Freeze);
    flap(&mut fixture, mac(1), 5, Duration::from_secs(50));
    assert!(!is_duplicate(&fixture, mac(1)));
    assert!(!flags(&fixture, mac(1)).has(FdbFlags::PINNED));
}

/// DUP-003: by time, and by command.
#[test]
fn dup_003_recovery() {
    for by_command in [false, true] {
        let mut fixture = fixture(DuplicateAction::Freeze);
        let last = flap(&mut fixture, mac(1), 5, Duration::from_secs(1));
        fixture.sent();
        if by_command {
            let unknown = Command::ClearDuplicates(Some(name("red")));
            fixture.command(unknown).unwrap_err();
            assert!(is_duplicate(&fixture, mac(1)));
            fixture.command(Command::ClearDuplicates(None)).unwrap();
        } else {
            fixture.advance(Duration::from_secs(599));
            assert!(is_duplicate(&fixture, mac(1)));
            assert!(fixture.core.deadline().is_some());
            fixture.advance(Duration::from_secs(1));
        }
        assert!(!is_duplicate(&fixture, mac(1)));
        fixture.frame(TAP1, mac(1));
        assert_eq!(fixture.announced(), [(None, last + 1)]);
        // Counting starts anew.
        flap(&mut fixture, mac(1), 3, Duration::from_secs(1));
        assert!(!is_duplicate(&fixture, mac(1)));
    }
}

/// DUP-004: sources and destinations are dropped, the route goes, and after the recovery the MAC has
/// to show itself again.
#[test]
fn dup_004_black_hole() {
    let mut fixture = fixture(DuplicateAction::Drop);
    flap(&mut fixture, mac(1), 4, Duration::from_secs(1));
    fixture.frame(TAP2, mac(1));
    assert!(flags(&fixture, mac(1)).has(FdbFlags::BLACK_HOLE));
    assert!(!flags(&fixture, mac(1)).has(FdbFlags::LOCAL));
    fixture.sent();
    // The other side has to count the last move, too.
    fixture.advance(Duration::from_secs(1));
    assert_eq!(fixture.sent().withdraw.len(), 1);
    fixture.announce(rt2(V2, mac(1), None, 99));
    fixture.frame(TAP1, mac(1));
    assert!(flags(&fixture, mac(1)).has(FdbFlags::BLACK_HOLE));
    fixture.withdraw(&rt2(V2, mac(1), None, 0).0);
    fixture.handle(Input::LinkGone(TAP1));
    fixture.handle(Input::LinkGone(TAP2));
    assert!(
        is_duplicate(&fixture, mac(1)),
        "nobody has it, and it is shown"
    );
    assert!(flags(&fixture, mac(1)).has(FdbFlags::BLACK_HOLE));
    fixture.advance(Duration::from_secs(600));
    assert_eq!(fixture.fdb(mac(1)), None);
    fixture.link(TAP1, "tap1");
    fixture.frame(TAP1, mac(1));
    assert!(fixture.is_local(mac(1)));
    assert_eq!(fixture.announced(), [(None, 100)]);
}

/// Cutting a virtual router off would cut off its subnet.
#[test]
fn dup_004_virtual_routers_are_spared() {
    let mut fixture = fixture(DuplicateAction::Drop);
    let vrrp = Mac([0, 0, 0x5e, 0, 1, 7]);
    flap(&mut fixture, vrrp, 6, Duration::from_secs(1));
    assert!(is_duplicate(&fixture, vrrp));
    assert!(!flags(&fixture, vrrp).has(FdbFlags::BLACK_HOLE));
}

/// DUP-005.
#[test]
fn dup_005_many_macs_move_once() {
    let mut fixture = fixture(DuplicateAction::Freeze);
    for n in 1..=20 {
        flap(&mut fixture, mac(n), 2, Duration::from_secs(1));
    }
    assert!((1..=20).all(|n| !is_duplicate(&fixture, mac(n))));
}

/// A session that flaps, and a peer that restarts, say again what was known: no moves. Nor is a
/// declared endpoint a duplicate that wins whenever the other route is away.
#[test]
fn dup_001_replays_do_not_count() {
    let mut fixture = fixture(DuplicateAction::Freeze);
    let endpoint = DeclaredEndpoint {
        mac: mac(2),
        ips: Vec::new(),
        sticky: false,
    };
    let port = pattern("tap1", None);
    let bd = name("blue");
    let endpoint = Some(endpoint);
    fixture
        .command(Command::AddPort { bd, port, endpoint })
        .unwrap();
    fixture.frame(TAP1, mac(1));
    for _ in 0..20 {
        fixture.advance(Duration::from_secs(1));
        fixture.announce(rt2(V2, mac(1), None, 1));
        fixture.announce(rt2(V2, mac(1), Some("10.0.0.1"), 1));
        fixture.announce(rt2(V2, mac(2), None, 1));
        fixture.handle(Input::Peer(RR, PeerEvent::Down));
        fixture.up(RR);
    }
    assert!(!is_duplicate(&fixture, mac(1)) && !is_duplicate(&fixture, mac(2)));
    assert!(fixture.core.bd_stats()[0].mac_moves >= 2);
}

/// Sticky MACs don't move, hence are no duplicates (RFC 7432 §15.2).
#[test]
fn dup_001_sticky_is_exempt() {
    let mut fixture = fixture(DuplicateAction::Freeze);
    let endpoint = Some(DeclaredEndpoint {
        mac: mac(1),
        ips: Vec::new(),
        sticky: true,
    });
    let port = pattern("tap1", None);
    let bd = name("blue");
    fixture
        .command(Command::AddPort { bd, port, endpoint })
        .unwrap();
    for sequence in 1..20 {
        fixture.announce(rt2(V2, mac(1), None, sequence));
        fixture.frame(TAP2, mac(1));
    }
    assert!(fixture.is_local(mac(1)) && !is_duplicate(&fixture, mac(1)));
}

/// Old moves are forgotten, and with them the reason to wake up.
#[test]
fn nothing_is_left_of_old_moves() {
    let mut fixture = fixture(DuplicateAction::Warn);
    flap(&mut fixture, mac(1), 4, Duration::from_secs(1));
    fixture.handle(Input::LinkGone(TAP1));
    fixture.advance(11 * MINUTE);
    assert_eq!(fixture.core.deadline(), None);
}

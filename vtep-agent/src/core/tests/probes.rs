//! Checklist C1.8, C4.5 and D5: whoever is asked before being given up.

use vtep_common::{
    abi::{ArpKey, PROBE_MAC},
    wire::arp,
};

use super::{super::DeclaredEndpoint, *};

const IP: &str = "10.0.0.1";
const AGEING: Duration = Duration::from_secs(300);

/// What was asked since the last call: device, destination MAC and IPv4 address.
fn asked(fixture: &mut Fixture) -> Vec<(u32, Mac, Ipv4Addr)> {
    let mut asked = Vec::new();
    fixture.outputs.retain(|output| {
        let Output::Transmit(ifindex, frame) = output else {
            return true;
        };
        let message = arp::Message::parse(&frame[..]).unwrap();
        if message.sender_mac != PROBE_MAC.to_bits() {
            assert!(!message.is_question(), "gratuitous");
            return false;
        }
        assert_eq!(message.sender_be, 0);
        let destination = Mac(frame[..6].try_into().unwrap());
        let target = Ipv4Addr::from(message.target_be.to_ne_bytes());
        asked.push((*ifindex, destination, target));
        false
    });
    asked
}

fn is_bound(fixture: &Fixture) -> bool {
    let key = ArpKey::new(fixture.bd(), IP.parse().unwrap());
    fixture.core.intent.arp.get(key).is_some()
}

/// What the FDB says of the MAC's last frame.
fn idle(fixture: &mut Fixture, mac: Mac, seconds: u64) {
    let key = FdbKey::new(fixture.bd(), mac);
    let idle = Duration::from_secs(seconds);
    fixture.handle(Input::Idle(vec![(key, idle)]));
}

fn learned() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.frame(TAP1, mac(1));
    fixture.arp(TAP1, mac(1), IP);
    fixture.outputs.clear();
    fixture
}

/// Lets the deadlines of the next `time` come; whether anything was asked in it.
fn pass(fixture: &mut Fixture, time: Duration) -> Vec<(u32, Mac, Ipv4Addr)> {
    let end = fixture.now + time;
    while let Some(at) = fixture.core.deadline().filter(|at| *at <= end) {
        fixture.now = at;
        fixture.handle(Input::Tick);
    }
    fixture.now = end;
    asked(fixture)
}

/// Peers' pain 6: a host that says nothing by itself stays known for as long as it answers. An hour
/// of it, with an idle scan every five seconds.
#[test]
fn a_silent_host_stays_known_for_an_hour() {
    let mut fixture = learned();
    let mut last_seen = fixture.now;
    let mut questions = 0;
    for _ in 0..720 {
        let end = fixture.now + Duration::from_secs(5);
        while let Some(at) = fixture.core.deadline().filter(|at| *at <= end) {
            fixture.now = at;
            fixture.handle(Input::Tick);
            for question in asked(&mut fixture) {
                assert_eq!(question, (TAP1, mac(1), IP.parse().unwrap()));
                questions += 1;
                last_seen = fixture.now;
                fixture.arp(TAP1, mac(1), IP);
            }
        }
        fixture.now = end;
        let seconds = (fixture.now - last_seen).as_secs();
        assert!(seconds < AGEING.as_secs());
        idle(&mut fixture, mac(1), seconds);
        assert!(fixture.is_local(mac(1)) && is_bound(&fixture));
    }
    assert!((16..=20).contains(&questions), "{questions} in an hour");
    let sent = fixture.sent();
    assert!(
        sent.announce.is_empty() && sent.withdraw.is_empty(),
        "peers hear nothing of it"
    );
    let counts = fixture.core.bd_stats()[0].probes;
    assert_eq!((counts.answered, counts.silent), (questions, 0));
}

/// PX-014 (RFC 9161 §3.5): asked twice, then all on the port are, then it is withdrawn.
#[test]
fn silence_withdraws() {
    let mut fixture = learned();
    let before = pass(&mut fixture, AGEING * 5 / 8 - Duration::from_secs(1));
    assert_eq!(before, []);
    let questions = pass(&mut fixture, AGEING / 8 + Duration::from_secs(4));
    let to: Vec<_> = questions.iter().map(|(_, to, _)| *to).collect();
    assert_eq!(to, [mac(1), mac(1), Mac::BROADCAST]);
    assert!(!is_bound(&fixture));
    assert_eq!(fixture.sent().withdraw.len(), 1, "the MAC/IP route");
    // The MAC had no traffic either; without an address there is nobody to ask.
    pass(&mut fixture, AGEING);
    idle(&mut fixture, mac(1), 301);
    assert_eq!(fixture.fdb(mac(1)), None);
    assert_eq!(asked(&mut fixture), []);
    assert_eq!(fixture.sent().withdraw.len(), 1);
    assert!(fixture.core.deadline().is_none());
}

/// A MAC that ages while its addresses were confirmed a moment ago is asked for all the same before
/// it goes.
#[test]
fn an_aged_mac_is_asked_first() {
    let mut fixture = learned();
    fixture.now += Duration::from_secs(150);
    fixture.arp(TAP1, mac(1), IP);
    fixture.now += Duration::from_secs(151);
    idle(&mut fixture, mac(1), 301);
    assert!(fixture.is_local(mac(1)));
    assert_eq!(asked(&mut fixture).len(), 1);
    pass(&mut fixture, Duration::from_secs(4));
    assert!(fixture.is_local(mac(1)) && !is_bound(&fixture));
    idle(&mut fixture, mac(1), 305);
    assert_eq!(fixture.fdb(mac(1)), None);
}

/// `ageing = 0`: nothing is ever asked for.
#[test]
fn without_ageing_nobody_is_asked() {
    let mut config = config();
    config.bds[0].ageing = None;
    let mut fixture = Fixture::start(config, State::default());
    fixture.link(TAP1, "tap1");
    fixture.frame(TAP1, mac(1));
    fixture.arp(TAP1, mac(1), IP);
    assert!(fixture.core.deadline().is_none());
}

/// Declared addresses are not asked for.
#[test]
fn declared_addresses_do_not_age() {
    let mut fixture = Fixture::new();
    declare(&mut fixture);
    fixture.frame(TAP1, mac(1));
    fixture.arp(TAP1, mac(1), IP);
    assert_eq!(pass(&mut fixture, AGEING * 2), []);
    idle(&mut fixture, mac(1), 10_000);
    assert!(fixture.is_local(mac(1)) && is_bound(&fixture));
}

fn declare(fixture: &mut Fixture) {
    let endpoint = Some(DeclaredEndpoint {
        mac: mac(1),
        ips: vec![IP.parse().unwrap()],
        sticky: false,
    });
    let port = pattern("tap1", None);
    let bd = name("blue");
    fixture
        .command(Command::AddPort { bd, port, endpoint })
        .unwrap();
}

/// MOB-007 (RFC 9135 §7.2): a hypervisor's RARP moves the MAC; its address is asked for at the new
/// place and follows with the same sequence number.
#[test]
fn mob_007_rarp_moves_the_address_too() {
    let mut fixture = Fixture::new();
    fixture.announce(rt2(V1, mac(1), None, 3));
    fixture.announce(rt2(V1, mac(1), Some(IP), 3));
    fixture.sent();
    fixture.event(TAP1, EventKind::Rarp, mac(1), None, 0);
    assert!(fixture.is_local(mac(1)));
    let target = IP.parse().unwrap();
    assert_eq!(asked(&mut fixture), [(TAP1, mac(1), target)]);
    assert_eq!(fixture.announced(), [(None, 4)]);
    fixture.arp(TAP1, mac(1), IP);
    assert_eq!(fixture.announced(), [(Some(target.into()), 4)]);
    // The old host withdraws; nobody is asked again for some time.
    fixture.withdraw(&rt2(V1, mac(1), None, 0).0);
    fixture.withdraw(&rt2(V1, mac(1), Some(IP), 0).0);
    assert_eq!(pass(&mut fixture, AGEING / 2), []);
    assert!(fixture.is_local(mac(1)) && is_bound(&fixture));
}

/// What QEMU and Linux send on arrival needs no question: gratuitous ARP (RFC 5227 §3) and an
/// unsolicited neighbour advertisement (RFC 4861 §7.2.6).
#[test]
fn mob_007_gratuitous_arp_and_unsolicited_na() {
    for (kind, ip, flags) in [(EventKind::Arp, IP, 0), (EventKind::Na, "fd00::1", 0x20)] {
        let mut fixture = Fixture::new();
        fixture.announce(rt2(V1, mac(1), None, 3));
        fixture.announce(rt2(V1, mac(1), Some(ip), 3));
        fixture.sent();
        let address: IpAddr = ip.parse().unwrap();
        // As the datapath reports the frame.
        fixture.frame(TAP1, mac(1));
        fixture.event(TAP1, kind, mac(1), Some(address), flags);
        assert_eq!(fixture.announced(), [(None, 4), (Some(address), 4)]);
    }
}

/// MOB-008 (RFC 9135 §7.1): the MAC is at the other VTEP at once, its old port is asked, and silence
/// leaves it there.
#[test]
fn mob_008_a_mac_that_left() {
    let mut fixture = learned();
    fixture.announce(rt2(V2, mac(1), None, 1));
    assert_eq!(fixture.vtep_of(mac(1)), Some(V2));
    assert!(!is_bound(&fixture));
    assert_eq!(fixture.sent().withdraw.len(), 2);
    let mut questions = asked(&mut fixture);
    questions.extend(pass(&mut fixture, Duration::from_secs(10)));
    let to: Vec<_> = questions.iter().map(|(port, to, _)| (*port, *to)).collect();
    assert_eq!(to, [(TAP1, mac(1)), (TAP1, mac(1)), (TAP1, Mac::BROADCAST)]);
    assert_eq!(fixture.vtep_of(mac(1)), Some(V2));
    assert_eq!(fixture.core.bd_stats()[0].probes.silent, 1);
}

/// MOB-009: it is still here, and says so.
#[test]
fn mob_009_a_mac_that_did_not_leave() {
    let mut fixture = learned();
    fixture.announce(rt2(V2, mac(1), None, 1));
    assert_eq!(asked(&mut fixture).len(), 1);
    fixture.sent();
    fixture.frame(TAP1, mac(1));
    fixture.arp(TAP1, mac(1), IP);
    assert!(fixture.is_local(mac(1)) && is_bound(&fixture));
    let announced = fixture.announced();
    assert_eq!(announced.last(), Some(&(Some(IP.parse().unwrap()), 2)));
    assert_eq!(pass(&mut fixture, Duration::from_secs(10)), []);
}

/// MOB-009 for a declared endpoint.
#[test]
fn mob_009_a_declared_endpoint_that_did_not_leave() {
    let mut fixture = Fixture::new();
    declare(&mut fixture);
    fixture.outputs.clear();
    fixture.announce(rt2(V2, mac(1), None, 1));
    assert_eq!(asked(&mut fixture).len(), 1);
    fixture.frame(TAP1, mac(1));
    fixture.arp(TAP1, mac(1), IP);
    assert!(fixture.is_local(mac(1)));
    assert_eq!(pass(&mut fixture, Duration::from_secs(10)), []);
}

/// Two VMs that answer for one MAC do not make two agents ask for ever: once it is a duplicate, only
/// what they send of their own accord moves it.
#[test]
fn duplicates_are_not_asked_for() {
    let mut fixture = learned();
    let mut questions = 0;
    for sequence in 0..20 {
        fixture.announce(rt2(V2, mac(1), None, 2 * sequence + 1));
        let asked = asked(&mut fixture);
        questions += asked.len();
        fixture.frame(TAP1, mac(1));
        fixture.arp(TAP1, mac(1), IP);
    }
    assert_eq!(questions, 2);
}

/// Questions go where the owner is, tagged as the port's frames are, and not to ports that are gone.
#[test]
fn questions_of_a_tagged_port() {
    let mut config = config();
    config.bds[0].ports = vec![pattern("tap1", Some(10))];
    let mut fixture = Fixture::start(config, State::default());
    fixture.link(TAP1, "tap1");
    fixture.frame(TAP1, mac(1));
    fixture.arp(TAP1, mac(1), IP);
    fixture.outputs.clear();
    fixture.advance(AGEING * 3 / 4);
    let frames = |fixture: &Fixture| {
        let frames = fixture.outputs.iter().filter_map(|output| match output {
            Output::Transmit(TAP1, frame) => Some(frame.clone()),
            _ => None,
        });
        frames.collect::<Vec<_>>()
    };
    assert_eq!(frames(&fixture)[0][12..16], [0x81, 0, 0, 10]);
    fixture.handle(Input::LinkGone(TAP1));
    fixture.outputs.clear();
    fixture.advance(AGEING);
    assert!(frames(&fixture).is_empty());
    assert_eq!(fixture.core.deadline(), None);
}

/// A frame that came back to the port that the agent sent it to teaches nothing.
#[test]
fn our_own_questions_are_nobodys() {
    let mut fixture = Fixture::new();
    fixture.frame(TAP1, PROBE_MAC);
    assert!(fixture.core.intent.fdb.is_empty());
}

//! Checklist C4.7 and D6: what VMs are told without having asked (RFC 9161 §3.2).

use vtep_common::wire::{arp, nd};

use super::{super::DeclaredEndpoint, *};

/// Gratuitous frames since the last call: device and MAC.
fn told(fixture: &mut Fixture) -> Vec<(u32, Mac)> {
    let mut told = Vec::new();
    fixture.outputs.retain(|output| {
        let Output::Transmit(ifindex, frame) = output else {
            return true;
        };
        let source = Mac(frame[6..12].try_into().unwrap());
        let bound = arp::Message::parse(&frame[..])
            .map(|message| message.sender_mac)
            .or_else(|| nd::Advertisement::parse(&frame[..]).map(|message| message.mac));
        if bound == Some(source.to_bits()) {
            told.push((*ifindex, source));
            return false;
        }
        true
    });
    told.sort_unstable();
    told
}

/// PX-015: a route's address that is new, or has another MAC.
#[test]
fn px_015_addresses_of_routes() {
    let mut fixture = Fixture::new();
    for ip in ["10.0.0.9", "fd00::9"] {
        let all = [(TAP1, mac(9)), (TAP2, mac(9))];
        fixture.announce(rt2(V1, mac(9), Some(ip), 0));
        fixture.advance(Duration::from_secs(1));
        assert_eq!(told(&mut fixture), all, "new");
        fixture.announce(rt2(V2, mac(9), Some(ip), 1));
        fixture.advance(Duration::from_secs(1));
        assert_eq!(told(&mut fixture), [], "the same MAC elsewhere");
        fixture.announce(rt2(V1, mac(8), Some(ip), 0));
        fixture.advance(Duration::from_secs(1));
        assert_eq!(
            told(&mut fixture),
            [(TAP1, mac(8)), (TAP2, mac(8))],
            "another MAC"
        );
    }
    fixture.announce(rt2(V1, mac(7), None, 0));
    fixture.advance(Duration::from_secs(1));
    assert_eq!(told(&mut fixture), [], "no address");
}

/// PX-015, C4.7: what a VM said of itself everybody has heard; of what is declared they have not.
#[test]
fn px_015_addresses_of_our_own() {
    let mut fixture = Fixture::new();
    fixture.frame(TAP1, mac(1));
    fixture.arp(TAP1, mac(1), "10.0.0.1");
    fixture.advance(Duration::from_secs(1));
    assert_eq!(told(&mut fixture), []);
    let endpoint = DeclaredEndpoint {
        mac: mac(2),
        ips: vec!["10.0.0.2".parse().unwrap()],
        sticky: false,
    };
    fixture
        .command(Command::AddPort {
            bd: name("blue"),
            port: pattern("tap2", None),
            endpoint: Some(endpoint),
        })
        .unwrap();
    fixture.advance(Duration::from_secs(1));
    assert_eq!(told(&mut fixture), [(TAP1, mac(2))], "not to its owner");
}

/// Not where VMs ask each other; and no more than ports can bear, however many a peer announces.
#[test]
fn bounded() {
    let mut quiet = config();
    quiet.bds[0].suppress = false;
    let mut fixture = Fixture::start(quiet, State::default());
    fixture.link(TAP1, "tap1");
    fixture.up(RR);
    fixture.announce(rt2(V1, mac(9), Some("10.0.0.9"), 0));
    fixture.advance(Duration::from_secs(1));
    assert_eq!(told(&mut fixture), []);

    let mut fixture = Fixture::new();
    for n in 0..9_000_u16 {
        let [high, low] = n.to_be_bytes();
        let ip = format!("10.1.{high}.{low}");
        fixture.announce(rt2(V1, Mac([2, 1, 0, 0, high, low]), Some(&ip), 0));
    }
    assert!(told(&mut fixture).len() <= 201, "at once");
    let begin = fixture.now;
    let mut sent = 0;
    while let Some(at) = fixture
        .core
        .deadline()
        .filter(|at| *at < begin + Duration::from_secs(60))
    {
        fixture.now = at;
        fixture.handle(Input::Tick);
        sent += told(&mut fixture).len();
        let seconds = (fixture.now - begin).as_secs_f64();
        assert!(
            sent as f64 <= 2000.0 * seconds + 201.0,
            "{sent} in {seconds} s"
        );
    }
    assert!((16_000..17_000).contains(&sent), "{sent} in all");
}

//! Addresses from DHCP (RFC 2131, RFC 8415), as the datapath reports the messages.

mod packets;

use vtep_common::{
    abi::{ArpKey, DhcpEvent, NdKey},
    wire::arp,
};

use self::packets::{ACK, DECLINE, DISCOVER, RELEASE, REQUEST, v4, v6};
use super::{super::DeclaredEndpoint, *};
use crate::{evpn::Slot, intent::Installed};

const IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 7);
const IP6: &str = "fd00::7";
const HOUR: u32 = 3600;

/// Numbers that are not 0, with their names.
type Counts = Vec<(&'static str, u64)>;

impl Fixture {
    fn slot(&self, device: u32) -> Slot {
        let mut ports = self.core.ports.iter();
        ports.find(|port| port.ifindex == device).unwrap().slot
    }

    fn dhcp(&mut self, kind: EventKind, mac: Mac, slot: u32, from: u32, packet: &[u8]) {
        let bd = self.core.bds.values().next().unwrap().id;
        let mut record = DhcpEvent {
            event: Event {
                kind: kind as u8,
                slot,
                bd,
                mac,
                ..Event::default()
            },
            from,
            length: packet.len() as u32,
            packet: [0; DhcpEvent::COPY],
        };
        record.packet[..packet.len()].copy_from_slice(packet);
        self.handle(Input::Dhcp(Box::new(record)));
    }

    /// A VM behind a device says this.
    fn says(&mut self, device: u32, mac: Mac, packet: &[u8]) {
        let slot = self.slot(device).0;
        self.dhcp(EventKind::DhcpSent, mac, slot, slot, packet);
    }

    /// A server behind the overlay says this to the VM alone.
    fn hears(&mut self, device: u32, mac: Mac, packet: &[u8]) {
        let slot = self.slot(device).0;
        self.dhcp(EventKind::DhcpDelivered, mac, slot, 0, packet);
    }

    /// A server says this to all but those behind its own port.
    fn all_hear(&mut self, from: u32, packet: &[u8]) {
        self.dhcp(EventKind::DhcpDelivered, Mac::BROADCAST, 0, from, packet);
    }

    /// The VM behind the device asks and gets what it asks for.
    fn leases(&mut self, device: u32, mac: Mac, ip: Ipv4Addr, seconds: u32) {
        let xid = 0x1234;
        self.says(device, mac, &v4(REQUEST, xid, mac, ip, None));
        self.hears(device, mac, &v4(ACK, xid, mac, ip, Some(seconds)));
    }

    fn bound(&self, ip: Ipv4Addr) -> Option<Mac> {
        let entry = self.core.intent.arp.get(ArpKey::new(self.bd(), ip))?;
        Some(entry.mac())
    }

    fn bound6(&self, ip: &str) -> Option<Mac> {
        let key = NdKey::new(self.bd(), ip.parse().unwrap());
        Some(self.core.intent.nd.get(key)?.mac())
    }

    fn source(&self, ip: impl Into<IpAddr>) -> Option<String> {
        let ip = ip.into();
        let rows = self.core.neighbors(None, self.now).unwrap();
        let row = rows.into_iter().find(|row| row.ip == ip)?;
        row.source
    }

    /// What became of bindings, and what was refused.
    fn counts(&self) -> (Counts, Counts) {
        let counts = self.core.bd_stats().remove(0).dhcp;
        let some = |all: &[(&'static str, u64)]| {
            let all = all.iter().copied();
            all.filter(|(_, count)| *count > 0).collect()
        };
        (some(&counts.bindings()), some(&counts.refused()))
    }

    /// Lets deadlines come until `end`. Questions are not answered.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.core.deadline().filter(|at| *at <= end) {
            self.now = at;
            self.handle(Input::Tick);
        }
        self.now = end;
    }

    /// How often the VM was asked for an address, since the last call.
    fn questions(&mut self) -> usize {
        let before = self.outputs.len();
        self.outputs.retain(|output| {
            let Output::Transmit(_, frame) = output else {
                return true;
            };
            arp::Message::parse(&frame[..]).is_none_or(|message| message.sender_be != 0)
        });
        before - self.outputs.len()
    }
}

/// A VM behind tap1 that has said nothing but frames.
fn fixture() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.frame(TAP1, mac(1));
    fixture.outputs.clear();
    fixture
}

#[test]
fn an_ack_binds_and_is_announced() {
    let mut fixture = fixture();
    fixture.leases(TAP1, mac(1), IP, HOUR);
    assert_eq!(fixture.bound(IP), Some(mac(1)));
    let ips: Vec<_> = fixture.announced().into_iter().map(|(ip, _)| ip).collect();
    assert!(ips.contains(&Some(IP.into())), "{ips:?}");
    let rows = fixture.core.neighbors(None, fixture.now).unwrap();
    assert_eq!(rows[0].origin, "learned");
    assert_eq!(rows[0].source.as_deref(), Some("dhcp"));
    assert_eq!(rows[0].lease_s, Some(HOUR.into()));
    assert_eq!(fixture.counts(), (vec![("bound", 1)], vec![]));
}

#[test]
fn a_broadcast_ack_binds_wherever_the_client_is() {
    let mut fixture = fixture();
    for (from, want) in [(fixture.slot(TAP1).0, None), (0, Some(mac(1)))] {
        fixture.says(TAP1, mac(1), &v4(REQUEST, 9, mac(1), IP, None));
        // Where it comes from it does not go.
        fixture.all_hear(from, &v4(ACK, 9, mac(1), IP, Some(HOUR)));
        assert_eq!(fixture.bound(IP), want);
    }
    // For a client of another host.
    fixture.all_hear(0, &v4(ACK, 9, mac(5), IP, Some(HOUR)));
    assert_eq!(fixture.bound(IP), Some(mac(1)));
    assert_eq!(fixture.counts(), (vec![("bound", 1)], vec![]));
}

/// Nobody is given an address that it did not ask for: not without a request, nor with another
/// transaction, nor by a second answer, nor behind another port, nor after too long.
#[test]
fn only_what_was_asked_for() {
    let mut fixture = fixture();
    let ack = |xid| v4(ACK, xid, mac(1), IP, Some(HOUR));
    fixture.hears(TAP1, mac(1), &ack(7));
    fixture.says(TAP1, mac(1), &v4(DISCOVER, 7, mac(1), IP, None));
    fixture.hears(TAP1, mac(1), &ack(8));
    assert_eq!(fixture.counts().1, [("unsolicited", 2)]);
    fixture.hears(TAP2, mac(1), &ack(7));
    // A VM speaks for itself only.
    fixture.says(TAP2, mac(1), &v4(REQUEST, 8, mac(1), IP, None));
    fixture.says(TAP1, mac(1), &v4(REQUEST, 8, mac(2), IP, None));
    assert_eq!(fixture.counts().1, [("foreign", 3), ("unsolicited", 2)]);
    fixture.pass(Duration::from_secs(120));
    fixture.hears(TAP1, mac(1), &ack(7));
    assert_eq!(fixture.bound(IP), None);

    fixture.leases(TAP1, mac(1), IP, HOUR);
    fixture.hears(
        TAP1,
        mac(1),
        &v4(ACK, 0x1234, mac(1), Ipv4Addr::new(10, 0, 0, 8), Some(HOUR)),
    );
    assert_eq!(fixture.bound(Ipv4Addr::new(10, 0, 0, 8)), None);
    assert_eq!(fixture.counts().1, [("foreign", 3), ("unsolicited", 4)]);
}

#[test]
fn what_cannot_be_read_is_counted() {
    let mut fixture = fixture();
    fixture.says(TAP1, mac(1), &v4(REQUEST, 7, mac(1), IP, None));
    let good = v4(ACK, 7, mac(1), IP, Some(HOUR));
    let mut fragment = good.clone();
    fragment[6] = 0x20;
    let no_lease = v4(ACK, 7, mac(1), IP, None);
    let nobody = v4(ACK, 7, mac(1), Ipv4Addr::BROADCAST, Some(HOUR));
    fixture.hears(TAP1, mac(1), &fragment);
    fixture.hears(TAP1, mac(1), &good[..250]);
    fixture.hears(TAP1, mac(1), &good[..20]);
    fixture.hears(TAP1, mac(1), &no_lease);
    // Clients' words, to a client; servers', from one.
    fixture.hears(TAP1, mac(1), &v4(REQUEST, 7, mac(1), IP, None));
    fixture.says(TAP1, mac(1), &good);
    fixture.hears(TAP1, mac(1), &nobody);
    assert_eq!(fixture.bound(IP), None);
    let refused = vec![
        ("fragment", 1),
        ("cut", 1),
        ("malformed", 3),
        ("no_lease", 1),
        ("address", 1),
    ];
    assert_eq!(fixture.counts(), (vec![], refused));
}

/// A lease that is renewed in time goes on. Then it is over, and the VM is silent.
#[test]
fn renewed_and_ended() {
    let mut config = config();
    config.bds[0].ageing = None;
    let mut fixture = Fixture::start(config, State::default());
    fixture.link(TAP1, "tap1");
    fixture.frame(TAP1, mac(1));
    for _ in 0..3 {
        fixture.leases(TAP1, mac(1), IP, 60);
        fixture.pass(Duration::from_secs(50));
        assert_eq!(fixture.source(IP).as_deref(), Some("dhcp"));
    }
    assert_eq!(fixture.questions(), 0);
    fixture.pass(Duration::from_secs(20));
    assert_eq!(fixture.questions(), 3, "its owner is asked first");
    assert_eq!(fixture.bound(IP), None);
    let bindings = vec![("bound", 1), ("renewed", 2), ("expired", 1)];
    assert_eq!(fixture.counts(), (bindings, vec![]));
}

/// Who goes on to use an address after its lease has it by ARP.
#[test]
fn used_after_its_lease() {
    let mut fixture = fixture();
    fixture.leases(TAP1, mac(1), IP, 60);
    fixture.pass(Duration::from_secs(61));
    fixture.arp(TAP1, mac(1), "10.0.0.7");
    assert_eq!(fixture.source(IP).as_deref(), Some("arp"));
    fixture.pass(Duration::from_secs(60));
    assert_eq!(fixture.bound(IP), Some(mac(1)));
}

/// A lease is no reason to keep a VM that does not answer.
#[test]
fn confirmed_within_the_ageing_time() {
    let mut fixture = fixture();
    fixture.leases(TAP1, mac(1), IP, u32::MAX);
    let rows = fixture.core.neighbors(None, fixture.now).unwrap();
    assert_eq!(
        (rows[0].lease_s, rows[0].source.as_deref()),
        (None, Some("dhcp"))
    );
    fixture.pass(Duration::from_secs(300));
    assert_eq!(fixture.bound(IP), None);
}

#[test]
fn released_and_declined() {
    let mut fixture = fixture();
    for (kind, name) in [(RELEASE, "released"), (DECLINE, "declined")] {
        fixture.leases(TAP1, mac(1), IP, HOUR);
        assert_eq!(fixture.bound(IP), Some(mac(1)));
        fixture.says(
            TAP1,
            mac(1),
            &v4(kind, 3, mac(1), Ipv4Addr::new(10, 0, 0, 8), None),
        );
        assert_eq!(fixture.bound(IP), Some(mac(1)), "another address");
        fixture.says(TAP1, mac(1), &v4(kind, 3, mac(1), IP, None));
        assert_eq!(fixture.bound(IP), None);
        assert!(fixture.counts().0.contains(&(name, 1)));
    }
    // The end of a lease that is gone is nobody's.
    fixture.outputs.clear();
    fixture.pass(Duration::from_secs(2 * u64::from(HOUR)));
    assert_eq!(fixture.questions(), 0);
    // What the VM said by itself is asked for first.
    fixture.arp(TAP1, mac(1), "10.0.0.7");
    fixture.says(TAP1, mac(1), &v4(RELEASE, 3, mac(1), IP, None));
    assert_eq!((fixture.bound(IP), fixture.questions()), (Some(mac(1)), 1));
    fixture.pass(Duration::from_secs(3));
    assert_eq!(fixture.bound(IP), None);
}

#[test]
fn dhcpv6() {
    let mut fixture = fixture();
    fixture.says(TAP1, mac(1), &v6(3, 1, IP6, 0));
    fixture.hears(TAP1, mac(1), &v6(7, 1, IP6, HOUR));
    assert_eq!(fixture.bound6(IP6), Some(mac(1)));
    assert_eq!(
        fixture.source(IP6.parse::<IpAddr>().unwrap()).as_deref(),
        Some("dhcp")
    );
    let row = &fixture.core.neighbors(None, fixture.now).unwrap()[0];
    assert!(row.r#override && !row.router);
    // The VM's own word on flags stays.
    fixture.event(
        TAP1,
        EventKind::Na,
        mac(1),
        Some(IP6.parse().unwrap()),
        0xa0,
    );
    fixture.says(TAP1, mac(1), &v6(5, 2, IP6, 0));
    fixture.hears(TAP1, mac(1), &v6(7, 2, IP6, 2 * HOUR));
    let row = &fixture.core.neighbors(None, fixture.now).unwrap()[0];
    assert!(row.router);
    assert_eq!(row.lease_s, Some(u64::from(2 * HOUR)));
    // Not in one transaction with DHCPv4.
    fixture.says(TAP1, mac(1), &v4(REQUEST, 3, mac(1), IP, None));
    fixture.hears(TAP1, mac(1), &v6(7, 3, "fd00::8", HOUR));
    assert_eq!(fixture.counts().1, [("unsolicited", 1)]);
    // A lifetime of 0 ends it, as do Release and Decline.
    for (kind, transaction) in [(7, 4), (8, 5), (9, 6)] {
        fixture.says(TAP1, mac(1), &v6(5, transaction, IP6, 0));
        fixture.hears(TAP1, mac(1), &v6(7, transaction, IP6, HOUR));
        assert_eq!(fixture.bound6(IP6), Some(mac(1)));
        fixture.says(TAP1, mac(1), &v6(5, transaction, IP6, 0));
        if kind == 7 {
            fixture.hears(TAP1, mac(1), &v6(7, transaction, IP6, 0));
        } else {
            fixture.says(TAP1, mac(1), &v6(kind, transaction, IP6, 0));
        }
        assert_eq!(fixture.bound6(IP6), None, "{kind}");
    }
}

#[test]
fn what_is_declared_wins() {
    let mut fixture = Fixture::new();
    let declare = |ips: &[&str]| Command::AddPort {
        bd: name("blue"),
        port: pattern("tap2", None),
        endpoint: Some(DeclaredEndpoint {
            mac: mac(2),
            ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
            sticky: false,
        }),
    };
    fixture.command(declare(&["10.0.0.7"])).unwrap();
    fixture.frame(TAP1, mac(1));
    fixture.leases(TAP1, mac(1), IP, HOUR);
    assert_eq!(fixture.bound(IP), Some(mac(2)));
    assert_eq!(fixture.counts().1, [("conflict", 1)]);
    // Its own VM may lease it, which changes nothing, and no other.
    fixture.leases(TAP2, mac(2), IP, 1);
    fixture.leases(TAP2, mac(2), Ipv4Addr::new(10, 0, 0, 8), HOUR);
    fixture.says(TAP2, mac(2), &v4(RELEASE, 3, mac(2), IP, None));
    fixture.pass(Duration::from_secs(10));
    assert_eq!(fixture.bound(IP), Some(mac(2)));
    assert_eq!(fixture.source(IP), None);
    assert_eq!(
        fixture.counts(),
        (vec![], vec![("declared", 1), ("conflict", 1)])
    );
}

/// An address with two owners is a conflict as any other: the former one is asked.
#[test]
fn a_conflict() {
    let mut fixture = fixture();
    fixture.arp(TAP1, mac(1), "10.0.0.7");
    fixture.frame(TAP2, mac(2));
    fixture.outputs.clear();
    fixture.leases(TAP2, mac(2), IP, HOUR);
    assert_eq!((fixture.bound(IP), fixture.questions()), (Some(mac(2)), 1));
    fixture.arp(TAP1, mac(1), "10.0.0.7");
    assert_eq!(fixture.bound(IP), Some(mac(1)));
    assert_eq!(fixture.source(IP).as_deref(), Some("arp"));
    // The lease went with the binding.
    fixture.outputs.clear();
    fixture.questions();
    fixture.pass(Duration::from_secs(10));
    fixture.arp(TAP1, mac(1), "10.0.0.7");
    assert!(!fixture.counts().0.contains(&("expired", 1)));
}

/// A VM that leaves takes its leases along, and has them again behind another VTEP by its route; when it
/// comes back, by its next renewal.
#[test]
fn a_move() {
    let mut fixture = fixture();
    fixture.leases(TAP1, mac(1), IP, HOUR);
    fixture.announce(rt2(V1, mac(1), Some("10.0.0.7"), 1));
    assert_eq!(fixture.source(IP), None, "remote");
    assert_eq!(fixture.bound(IP), Some(mac(1)));
    fixture.advance(Duration::from_secs(1));
    fixture.frame(TAP2, mac(1));
    fixture.leases(TAP2, mac(1), IP, HOUR);
    assert_eq!(fixture.source(IP).as_deref(), Some("dhcp"));
    // Between two ports of this host, an answer on the old one is too late.
    fixture.says(TAP2, mac(1), &v4(REQUEST, 7, mac(1), IP, None));
    fixture.frame(TAP1, mac(1));
    fixture.hears(TAP2, mac(1), &v4(ACK, 7, mac(1), IP, Some(60)));
    assert_eq!(fixture.counts().1, [("foreign", 1)]);
}

#[test]
fn switched_off() {
    let mut config = config();
    config.bds[0].dhcp_snooping = false;
    let mut fixture = Fixture::start(config, State::default());
    fixture.link(TAP1, "tap1");
    fixture.frame(TAP1, mac(1));
    fixture.leases(TAP1, mac(1), IP, HOUR);
    assert_eq!(fixture.bound(IP), None);
    assert_eq!(fixture.counts(), (vec![], vec![]));
    use vtep_common::abi::BdFlags;
    let flags = |fixture: &Fixture| {
        let index = u32::from(fixture.bd().0);
        fixture.core.intent.bds.get(index).unwrap().flags
    };
    assert!(!flags(&fixture).has(BdFlags::DHCP));
    assert!(flags(&Fixture::new()).has(BdFlags::DHCP));
}

/// The next run has the binding, and knows of the lease when it is renewed.
#[test]
fn after_a_restart() {
    let mut earlier = fixture();
    earlier.leases(TAP1, mac(1), IP, HOUR);
    let installed = Installed {
        tables: earlier.core.intent.clone(),
        ..Installed::default()
    };
    let state = earlier.core.state.clone();
    let (core, outputs) = Core::recover(config(), state, &installed, earlier.now);
    let mut fixture = Fixture {
        core,
        now: earlier.now,
        outputs,
        turns: None,
    };
    fixture.link(TAP1, "tap1");
    fixture.handle(Input::Recovered);
    assert_eq!(fixture.bound(IP), Some(mac(1)));
    assert_eq!(fixture.source(IP).as_deref(), Some("arp"));
    fixture.leases(TAP1, mac(1), IP, HOUR);
    assert_eq!(fixture.source(IP).as_deref(), Some("dhcp"));
}

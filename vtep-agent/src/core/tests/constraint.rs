//! Route target constraint (RFC 4684): who is sent what, and what we ask for.

mod reflected;

use bytes::BytesMut;

use super::*;
use crate::{
    bgp::{
        peer::Retention,
        wire::{Context, Family, Membership, Message, RouteKey},
    },
    types::ImportTarget,
};

const CLIENT: PeerId = PeerId(1);
const OTHER_CLIENT: PeerId = PeerId(2);
const GREEN: u32 = 10200;

/// `blue` and `green`, both with automatic targets, and one peer that exchanges memberships.
fn fixture() -> Fixture {
    let mut config = config();
    config.bds.push(BdConfig::new(name("green"), vni(GREEN)));
    Fixture::start(config, State::default())
}

/// A reflector with RR, which is no client, and two clients.
fn reflector() -> Fixture {
    let mut config = config();
    config.bds.clear();
    config.bgp.peers = (100..=102).map(peer).collect();
    for client in &mut config.bgp.peers[1..] {
        client.route_reflector_client = true;
    }
    Fixture::start(config, State::default())
}

fn constrained(peer: PeerId) -> Session {
    let address = Ipv4Addr::new(198, 18, 0, 100 + peer.0 as u8);
    Session {
        address: address.into(),
        router_id: address,
        rt_constraint: true,
        route_reflector_client: peer != RR,
        ..session(true)
    }
}

fn up(fixture: &mut Fixture, peer: PeerId) {
    fixture.handle(Input::Peer(peer, PeerEvent::Up(constrained(peer))));
}

fn target(vni: u32) -> RouteTarget {
    RouteTarget::auto(Asn(65000), super::vni(vni))
}

fn membership(vni: u32) -> Membership {
    Membership::new(Asn(65000), target(vni))
}

/// `peer` asks for these, and no longer for those.
fn ask(fixture: &mut Fixture, peer: PeerId, add: &[Membership], remove: &[Membership]) {
    let attributes = Attributes {
        local_pref: Some(100),
        ..Attributes::originated(constrained(peer).address)
    };
    let update = Update {
        announced: add.iter().copied().map(Route::Membership).collect(),
        attributes: (!add.is_empty()).then(|| Arc::new(attributes)),
        withdrawn: remove.iter().copied().map(RouteKey::Membership).collect(),
        ..Update::default()
    };
    fixture.handle(Input::Peer(peer, PeerEvent::Update(Box::new(update))));
}

fn end_of_rib(fixture: &mut Fixture, peer: PeerId) {
    let update = Update {
        end_of_rib: Some(Family::RTC),
        ..Update::default()
    };
    fixture.handle(Input::Peer(peer, PeerEvent::Update(Box::new(update))));
}

fn sent(fixture: &mut Fixture, peer: PeerId, family: Family) -> Vec<Advertisement> {
    let outputs = std::mem::take(&mut fixture.outputs);
    let (wanted, other) = outputs.into_iter().partition(|output| {
        matches!(output, Output::Send(id, advertisement)
            if *id == peer && advertisement.family == family)
    });
    fixture.outputs = other;
    let wanted: Vec<_> = wanted;
    wanted
        .into_iter()
        .map(|output| match output {
            Output::Send(_, advertisement) => advertisement,
            other => panic!("{other:?}"),
        })
        .collect()
}

/// Announced and withdrawn EVPN keys, and whether there was an End-of-RIB.
fn evpn(fixture: &mut Fixture, peer: PeerId) -> (Vec<RouteKey>, Vec<RouteKey>, bool) {
    let all = sent(fixture, peer, Family::EVPN);
    let announced = all.iter().flat_map(|one| &one.announce);
    let announced = announced.flat_map(|(_, routes)| routes.iter().map(Route::key));
    let withdrawn = all.iter().flat_map(|one| one.withdraw.clone());
    let end = all.iter().any(|one| one.end_of_rib);
    (announced.collect(), withdrawn.collect(), end)
}

/// Announced and withdrawn memberships, in the order in which they are sent.
fn memberships(fixture: &mut Fixture, peer: PeerId) -> Vec<(bool, Membership)> {
    let mut all = Vec::new();
    for advertisement in sent(fixture, peer, Family::RTC) {
        for key in advertisement.withdraw {
            let RouteKey::Membership(membership) = key else {
                panic!("{key}")
            };
            all.push((false, membership));
        }
        for route in advertisement.announce.iter().flat_map(|(_, routes)| routes) {
            let Route::Membership(membership) = route else {
                panic!("{route}")
            };
            all.push((true, *membership));
        }
    }
    all
}

fn imet(fixture: &Fixture, bd: &str) -> RouteKey {
    let id = fixture.core.names[&name(bd)];
    fixture.core.bds[&id].imet().0.key()
}

/// RTC-001 (RFC 4684 §6)
#[test]
fn rtc_001_only_what_is_asked_for() {
    let mut fixture = fixture();
    up(&mut fixture, RR);
    assert_eq!(evpn(&mut fixture, RR), (vec![], vec![], false));
    ask(&mut fixture, RR, &[membership(VNI)], &[]);
    assert_eq!(evpn(&mut fixture, RR), (vec![], vec![], false));
    end_of_rib(&mut fixture, RR);
    let (blue, green) = (imet(&fixture, "blue"), imet(&fixture, "green"));
    assert_eq!(evpn(&mut fixture, RR), (vec![blue.clone()], vec![], true));
    assert_eq!(fixture.core.peer_routes(RR).sent, 1);

    // One more, by another AS too; then less again.
    let other_as = Membership::new(Asn(65009), target(GREEN));
    ask(&mut fixture, RR, &[membership(GREEN), other_as], &[]);
    assert_eq!(evpn(&mut fixture, RR), (vec![green.clone()], vec![], false));
    ask(&mut fixture, RR, &[], &[membership(GREEN)]);
    assert_eq!(evpn(&mut fixture, RR), (vec![], vec![], false));
    ask(&mut fixture, RR, &[], &[other_as]);
    assert_eq!(evpn(&mut fixture, RR), (vec![], vec![green], false));

    // Routes that come later are judged as well.
    fixture.link(TAP1, "tap1");
    fixture.frame(TAP1, mac(1));
    let (announced, withdrawn, _) = evpn(&mut fixture, RR);
    assert_eq!((announced.len(), withdrawn.len()), (1, 0));
    ask(&mut fixture, RR, &[], &[membership(VNI)]);
    let (announced, withdrawn, _) = evpn(&mut fixture, RR);
    assert_eq!((announced.len(), withdrawn.len()), (0, 2));
    assert!(withdrawn.contains(&blue));
    fixture.frame(TAP1, mac(2));
    assert_eq!(evpn(&mut fixture, RR), (vec![], vec![], false));
}

/// RTC-002 (RFC 4684 §4), and prefixes that are shorter than a target.
#[test]
fn rtc_002_default_and_prefixes() {
    let of_as = {
        let mut bytes = BytesMut::new();
        // 65000, then the type and AS of the target: 32 bits of it.
        let nlri = [0x40, 0, 0, 0xfd, 0xe8, 0, 2, 0xfd, 0xe8];
        let value = [&[0, 1, 132, 4, 10, 0, 0, 1, 0][..], &nlri].concat();
        bytes.extend_from_slice(&[0; 2]);
        let attributes = [
            &[0x80, 14, value.len() as u8][..],
            &value,
            &[0x40, 1, 1, 0, 0x40, 2, 0, 0x40, 5, 4, 0, 0, 0, 100],
        ]
        .concat();
        bytes.extend_from_slice(&(attributes.len() as u16).to_be_bytes());
        bytes.extend_from_slice(&attributes);
        let mut message = BytesMut::from(&[0xff; 16][..]);
        message.extend_from_slice(&(bytes.len() as u16 + 19).to_be_bytes());
        message.extend_from_slice(&[2]);
        message.extend_from_slice(&bytes);
        let context = Context {
            rt_constraint: true,
            ..Context::default()
        };
        let frame = crate::bgp::wire::next_frame(&mut message, 4096)
            .unwrap()
            .unwrap();
        match crate::bgp::wire::decode(&frame, &context).unwrap().message {
            Message::Update(update) => match update.announced[..] {
                [Route::Membership(membership)] => membership,
                _ => panic!("{update:?}"),
            },
            other => panic!("{other:?}"),
        }
    };
    for asked in [Membership::DEFAULT, of_as] {
        let mut fixture = fixture();
        up(&mut fixture, RR);
        ask(&mut fixture, RR, &[asked], &[]);
        end_of_rib(&mut fixture, RR);
        let (announced, _, end) = evpn(&mut fixture, RR);
        assert_eq!((announced.len(), end), (2, true), "{asked}");
        ask(&mut fixture, RR, &[membership(VNI)], &[asked]);
        let green = imet(&fixture, "green");
        assert_eq!(
            evpn(&mut fixture, RR),
            (vec![], vec![green], false),
            "{asked}"
        );
    }
}

/// RTC-003 (RFC 4684 §6)
#[test]
fn rtc_003_the_wait_is_bounded() {
    let mut fixture = fixture();
    up(&mut fixture, RR);
    ask(&mut fixture, RR, &[membership(VNI)], &[]);
    fixture.advance(Duration::from_secs(59));
    assert_eq!(evpn(&mut fixture, RR), (vec![], vec![], false));
    assert_eq!(
        fixture.core.deadline(),
        Some(fixture.now + Duration::from_secs(1))
    );
    fixture.advance(Duration::from_secs(1));
    let blue = imet(&fixture, "blue");
    assert_eq!(evpn(&mut fixture, RR), (vec![blue], vec![], true));
    // It is not waited for again, and what comes late counts.
    ask(&mut fixture, RR, &[membership(GREEN)], &[]);
    let green = imet(&fixture, "green");
    assert_eq!(evpn(&mut fixture, RR), (vec![green], vec![], false));
}

/// RTC-004 (RFC 7432 §7.6): one membership for each target that is imported. There are no Ethernet
/// segments of our own yet, hence no ES-Import targets to ask for.
#[test]
fn rtc_004_what_we_ask_for() {
    let mut config = config();
    config.bgp.auto_rt_import = AutoRtImport::OwnAs;
    let mut fixture = Fixture::start(config, State::default());
    up(&mut fixture, RR);
    let sent = sent(&mut fixture, RR, Family::RTC);
    assert_eq!(sent.len(), 1);
    assert!(sent[0].end_of_rib);
    let (attributes, _) = &sent[0].announce[0];
    assert_eq!(
        (attributes.next_hop, attributes.local_pref),
        (US.into(), Some(100))
    );
    let mut out = Vec::new();
    let context = Context::default();
    crate::bgp::wire::encode_advertisement(&sent[0], &context, 4096, &mut out);
    let hex: String = out[0].iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(hex.contains("600000fde80002fde800002774"), "{hex}");
}

/// What `show bgp` tells of both directions.
#[test]
fn memberships_are_shown() {
    let mut config = config();
    config.bgp.auto_rt_import = AutoRtImport::OwnAs;
    let mut fixture = Fixture::start(config, State::default());
    assert_eq!(fixture.core.rt_constraint(RR), None);
    up(&mut fixture, RR);
    ask(
        &mut fixture,
        RR,
        &[membership(GREEN), Membership::DEFAULT],
        &[],
    );
    let shown = fixture.core.rt_constraint(RR).unwrap();
    assert!(!shown.complete);
    assert_eq!(
        (shown.received, shown.sent),
        (2, shown.sent_targets.len() as u64)
    );
    assert_eq!(shown.received_targets, ["default", "65000:65000:10200"]);
    assert!(shown.sent_targets.contains(&"65000:65000:10100".to_owned()));
    end_of_rib(&mut fixture, RR);
    ask(&mut fixture, RR, &[], &[Membership::DEFAULT]);
    let shown = fixture.core.rt_constraint(RR).unwrap();
    assert!(shown.complete);
    assert_eq!(shown.received_targets, ["65000:65000:10200"]);

    let many: Vec<_> = (0..1000).map(|n| membership(20_000 + n)).collect();
    ask(&mut fixture, RR, &many, &[]);
    let shown = fixture.core.rt_constraint(RR).unwrap();
    let listed = shown.received_targets.len();
    assert_eq!((shown.received, listed), (1001, view::RtConstraint::LISTED));
    fixture.handle(Input::Peer(RR, PeerEvent::Down));
    assert_eq!(fixture.core.rt_constraint(RR), None);
}

/// RTC-004: a wildcard leaves the AS open, which no prefix can say, so that everything is asked for.
#[test]
fn rtc_004_wildcards_ask_for_everything() {
    let mut fixture = fixture();
    up(&mut fixture, RR);
    assert_eq!(memberships(&mut fixture, RR), [(true, Membership::DEFAULT)]);
    let exact = BdConfig {
        rt_import: Some(vec![ImportTarget::Exact(target(VNI))]),
        ..blue()
    };
    let mut config = config();
    config.bds = vec![exact];
    fixture.command(Command::Reload(Box::new(config))).unwrap();
    // The new one first: there is no moment in which nothing is asked for.
    assert_eq!(
        memberships(&mut fixture, RR),
        [(true, membership(VNI)), (false, Membership::DEFAULT)]
    );
}

/// RTC-005 (RFC 4684 §6), RR-003: bridge domains that come and go change what we ask for.
#[test]
fn rtc_005_memberships_follow_bridge_domains() {
    let mut config = config();
    config.bgp.auto_rt_import = AutoRtImport::OwnAs;
    let mut fixture = Fixture::start(config, State::default());
    up(&mut fixture, RR);
    fixture.outputs.clear();
    let add = BdConfig::new(name("green"), vni(GREEN));
    fixture.command(Command::AddBd(Box::new(add))).unwrap();
    let rfc8365 = Membership::new(
        Asn(65000),
        RouteTarget::auto_rfc8365(Asn(65000), vni(GREEN)),
    );
    assert_eq!(
        memberships(&mut fixture, RR),
        [(true, membership(GREEN)), (true, rfc8365)]
    );
    fixture.command(Command::DeleteBd(name("green"))).unwrap();
    assert_eq!(
        memberships(&mut fixture, RR),
        [(false, membership(GREEN)), (false, rfc8365)]
    );
}

/// RFC 4684 §6: End-of-RIB of the family always, also without bridge domains.
#[test]
fn end_of_rib_without_bridge_domains() {
    let mut fixture = reflector();
    up(&mut fixture, CLIENT);
    let sent = sent(&mut fixture, CLIENT, Family::RTC);
    assert!(sent.len() == 1 && sent[0].end_of_rib && sent[0].announce.is_empty());
}

/// A peer without the family gets everything at once, and hears of no memberships.
#[test]
fn peers_without_the_family() {
    let mut fixture = fixture();
    fixture.up(RR);
    assert_eq!(memberships(&mut fixture, RR), []);
    let (announced, _, end) = evpn(&mut fixture, RR);
    assert_eq!((announced.len(), end), (2, true));
}

/// A refresh repeats memberships (RFC 2918 §4), and the routes that are asked for.
#[test]
fn refresh() {
    let mut fixture = fixture();
    up(&mut fixture, RR);
    ask(&mut fixture, RR, &[membership(VNI)], &[]);
    end_of_rib(&mut fixture, RR);
    fixture.outputs.clear();
    fixture.handle(Input::Peer(RR, PeerEvent::Refresh(Family::RTC)));
    assert_eq!(memberships(&mut fixture, RR), [(true, Membership::DEFAULT)]);
    fixture.handle(Input::Peer(RR, PeerEvent::Refresh(Family::EVPN)));
    let blue = imet(&fixture, "blue");
    assert_eq!(evpn(&mut fixture, RR), (vec![blue], vec![], false));
}

//! Peers that nobody configured.

use std::net::IpAddr;

use super::{script::*, *};
use crate::{
    bgp::{session::FIRST_DYNAMIC, wire::GracefulRestart},
    config::DynamicPeers,
};

/// An agent that takes peers from 127.0.0.8/29.
async fn host(limit: u16, template: impl FnOnce(PeerConfig) -> PeerConfig) -> Agent {
    let agent = Agent::start(1);
    let prefix = "127.0.0.8/29".parse().unwrap();
    let any = IpAddr::from(Ipv4Addr::UNSPECIFIED);
    let template = template(PeerConfig::new(any.into(), PeerAsn::Is(ASN)));
    let dynamic = DynamicPeers::new(prefix, limit, template);
    agent.sessions.accept_from(vec![dynamic]);
    agent.configure(Vec::new()).await;
    agent
}

async fn event(agent: &mut Agent) -> (PeerId, PeerEvent) {
    let event = timeout(PATIENCE, agent.events.recv()).await;
    event.unwrap().unwrap()
}

/// Until nothing is left of any peer.
async fn alone(agent: &Agent) {
    let deadline = Instant::now() + PATIENCE;
    while !agent.sessions.status().is_empty() {
        assert!(Instant::now() < deadline, "{:?}", agent.sessions.status());
        sleep(Duration::from_millis(10)).await;
    }
}

/// They come by connecting, up to the limit, and leave with their session.
#[tokio::test]
async fn come_and_go() {
    let mut agent = host(1, |template| template).await;
    assert!(agent.sessions.status().is_empty());
    let script = Script::establish(&agent, 9).await;
    let (id, up) = event(&mut agent).await;
    let PeerEvent::Up(session) = up else {
        panic!("{up:?}")
    };
    assert!(id >= FIRST_DYNAMIC && session.address == IpAddr::from([127, 0, 0, 9]));
    let status = agent.status();
    assert!(status.dynamic && status.address == Some(session.address));

    for (stranger, why) in [(10, "one too many"), (3, "outside of the prefix")] {
        let mut script = Script::connect(&agent, stranger).await;
        assert_eq!(
            script.notification().await,
            Notification::CONNECTION_REJECTED,
            "{why}"
        );
    }

    drop(script);
    assert!(matches!(event(&mut agent).await, (gone, PeerEvent::Down) if gone == id));
    alone(&agent).await;
    let _script = Script::establish(&agent, 10).await;
    let (next, _) = event(&mut agent).await;
    assert!(next > id);
}

/// Whoever connects and says nothing sensible is gone with the connection.
#[tokio::test]
async fn without_a_session() {
    let agent = host(1, |template| template).await;
    for _ in 0..2 {
        let script = Script::connect(&agent, 9).await;
        agent.see_some().await;
        drop(script);
        alone(&agent).await;
    }
}

/// RFC 4724 §4.2: as long as routes are kept the peer remains, and has its id when it is back.
#[tokio::test]
async fn stay_while_their_routes_are_kept() {
    let mut agent = host(1, |template| template).await;
    let mut open = open(9);
    open.capabilities
        .push(Capability::GracefulRestart(GracefulRestart {
            restarting: false,
            notification: false,
            restart_time: 2,
            families: vec![(Family::EVPN, true)],
        }));
    let first = Script::establish_with(&agent, 9, open.clone()).await;
    let (id, _) = event(&mut agent).await;
    drop(first);
    let (_, restarting) = event(&mut agent).await;
    assert!(
        matches!(restarting, PeerEvent::Restarting(_)),
        "{restarting:?}"
    );
    assert_eq!(agent.sessions.status().len(), 1);

    let second = Script::establish_with(&agent, 9, open).await;
    assert!(matches!(event(&mut agent).await, (same, PeerEvent::Up(_)) if same == id));
    drop(second);
    let (_, restarting) = event(&mut agent).await;
    assert!(
        matches!(restarting, PeerEvent::Restarting(_)),
        "{restarting:?}"
    );
    // It does not come back.
    assert!(matches!(event(&mut agent).await, (gone, PeerEvent::Down) if gone == id));
    alone(&agent).await;
}

/// BGP-025 for a prefix (TCP_MD5SIG_EXT).
#[tokio::test]
async fn signed() {
    for (key, up) in [("s3cret", true), ("other", false)] {
        let secret = |text: &str| Some(Authentication::Md5(text.to_owned().into()));
        let mut a = host(10, |template| PeerConfig {
            authentication: secret("s3cret"),
            ..template
        })
        .await;
        let b = Agent::start(9);
        let config = PeerConfig {
            authentication: secret(key),
            ..a.as_peer()
        };
        b.sessions.configure(vec![(PEER, config)]);
        let event = timeout(Duration::from_millis(1500), a.events.recv()).await;
        assert_eq!(event.is_ok(), up, "{key}: {event:?}");
    }
}

/// A prefix that is removed takes its peers along; a peer that gets a table of its own is another one.
#[tokio::test]
async fn reconfigured() {
    let mut agent = host(5, |template| template).await;
    let mut script = Script::establish(&agent, 9).await;
    let (id, _) = event(&mut agent).await;
    let config = PeerConfig {
        passive: true,
        ..peer(Ipv4Addr::new(127, 0, 0, 9), PORT)
    };
    agent.sessions.configure(vec![(PEER, config)]);
    assert_eq!(script.notification().await, Notification::PEER_DECONFIGURED);
    assert!(matches!(event(&mut agent).await, (gone, PeerEvent::Down) if gone == id));
    let _script = Script::establish(&agent, 9).await;
    assert!(matches!(event(&mut agent).await, (PEER, PeerEvent::Up(_))));

    let mut script = Script::establish(&agent, 10).await;
    event(&mut agent).await;
    agent.sessions.accept_from(Vec::new());
    assert_eq!(script.notification().await, Notification::PEER_DECONFIGURED);
}

/// A prefix whose settings change: its peers come back with ids of their own, so nothing is kept for the
/// old ones.
#[tokio::test]
async fn changed() {
    let mut agent = host(5, |template| template).await;
    let mut open = open(9);
    open.capabilities
        .push(Capability::GracefulRestart(GracefulRestart {
            restarting: false,
            notification: false,
            restart_time: 4000,
            families: vec![(Family::EVPN, true)],
        }));
    let _script = Script::establish_with(&agent, 9, open).await;
    let (id, _) = event(&mut agent).await;
    let prefix = "127.0.0.8/29".parse().unwrap();
    let any = IpAddr::from(Ipv4Addr::UNSPECIFIED);
    let template = PeerConfig::new(any.into(), PeerAsn::Is(ASN));
    let dynamic = |hold_time| {
        let template = PeerConfig {
            hold_time,
            ..template.clone()
        };
        DynamicPeers::new(prefix, 6, template)
    };
    // Another limit is no reason to end a session.
    agent
        .sessions
        .accept_from(vec![dynamic(template.hold_time)]);
    let nothing = timeout(Duration::from_millis(300), agent.events.recv()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    agent
        .sessions
        .accept_from(vec![dynamic(Duration::from_secs(30))]);
    let (_, restarting) = event(&mut agent).await;
    assert!(
        matches!(restarting, PeerEvent::Restarting(_)),
        "{restarting:?}"
    );
    assert!(matches!(event(&mut agent).await, (gone, PeerEvent::Down) if gone == id));
}

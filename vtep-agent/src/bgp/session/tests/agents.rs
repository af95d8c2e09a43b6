//! Two of our own speakers.

use super::*;
use crate::bgp::fsm::Cease;

async fn pair(left: u8, right: u8) -> (Agent, Agent) {
    let (mut a, mut b) = (Agent::start(left), Agent::start(right));
    a.sessions.configure(vec![(PEER, b.as_peer())]);
    b.sessions.configure(vec![(PEER, a.as_peer())]);
    a.up().await;
    b.up().await;
    (a, b)
}

/// BGP-001, BGP-011, BGP-012: both connect at once; one session comes up and stays.
#[tokio::test]
async fn simultaneous_open() {
    for (left, right) in [(1, 2), (2, 1), (1, 2), (2, 1)] {
        let (mut a, mut b) = pair(left, right).await;
        for side in [&mut a, &mut b] {
            let quiet = timeout(Duration::from_millis(200), side.events.recv()).await;
            assert!(quiet.is_err(), "{quiet:?}");
            let status = side.status();
            assert_eq!(status.state, State::Established);
            assert_eq!((status.asn, status.last_error), (Some(ASN), None));
            assert_eq!(status.hold_time, Some(Duration::from_secs(90)));
            assert!(status.received.open >= 1 && status.sent.keepalive >= 1);
        }
        assert_eq!(a.status().router_id, Some(b.address));
    }
}

#[tokio::test]
async fn updates_arrive_in_order() {
    // One of them passive: without a collision both count the same bytes.
    let (mut a, mut b) = (Agent::start(1), Agent::start(2));
    let passive = PeerConfig {
        passive: true,
        ..b.as_peer()
    };
    a.configure(vec![(PEER, passive)]).await;
    b.sessions.configure(vec![(PEER, a.as_peer())]);
    a.up().await;
    b.up().await;
    for first in (0..30_000).step_by(10_000) {
        a.sessions.send(PEER, withdrawal(first, 10_000));
    }
    a.sessions.send(
        PEER,
        Advertisement {
            end_of_rib: true,
            ..Advertisement::default()
        },
    );
    let mut next = 0;
    loop {
        let PeerEvent::Update(update) = b.event().await else {
            panic!()
        };
        for key in update.withdrawn {
            let RouteKey::Imet { tag, .. } = key else {
                panic!("{key:?}")
            };
            assert_eq!(tag.0, next);
            next += 1;
        }
        if update.end_of_rib.is_some() {
            break;
        }
    }
    assert_eq!(next, 30_000);
    let sent = a
        .see(|sent| {
            let received = b.status();
            (sent.bytes_sent, sent.sent.update)
                == (received.bytes_received, received.received.update)
        })
        .await;
    // Withdrawn routes of 27 octets.
    assert!(sent.bytes_sent > 30_000 * 19);
}

/// BGP-020: both the text and the end arrive, in less than a second, and the connection is closed
/// in order.
#[tokio::test]
async fn shutdown_tells_peers_why() {
    let (a, mut b) = pair(1, 2).await;
    let began = Instant::now();
    a.sessions
        .shutdown(Cease::Shutdown("kernel upgrade".to_owned()))
        .await;
    assert!(began.elapsed() < Duration::from_secs(1));
    b.down().await;
    let seen = b.see(|status| status.state != State::Established).await;
    assert!(
        seen.last_error
            .unwrap()
            .contains("administrative shutdown \"kernel upgrade\"")
    );
    assert_eq!(seen.established_since, None);
    let mut a = a.events;
    while let Some(event) = timeout(PATIENCE, a.recv()).await.unwrap() {
        assert!(matches!(event.1, PeerEvent::Down), "{event:?}");
    }
}

/// Dropping the handle is no way to leave sessions behind.
#[tokio::test]
async fn a_dropped_handle_ends_sessions() {
    let (a, mut b) = pair(1, 2).await;
    drop(a.sessions);
    b.restarting().await;
}

/// A reload touches what changed: 6/6 for a changed peer, which comes back with nothing forgotten on
/// either side, 6/3 for a removed one.
#[tokio::test]
async fn configure_applies_the_difference() {
    let (mut a, mut b) = pair(1, 2).await;
    a.sessions.configure(vec![(PEER, b.as_peer())]);
    let quiet = timeout(Duration::from_millis(200), a.events.recv()).await;
    assert!(quiet.is_err(), "{quiet:?}");

    let changed = PeerConfig {
        hold_time: Duration::from_secs(30),
        ..b.as_peer()
    };
    a.sessions.configure(vec![(PEER, changed)]);
    a.restarting().await;
    b.restarting().await;
    for agent in [&mut a, &mut b] {
        let session = agent.up().await;
        assert!(session.graceful_restart && session.forwarding_preserved);
    }
    assert!(
        b.status()
            .last_error
            .unwrap()
            .contains("other configuration change")
    );
    let negotiated = b.see(|status| status.hold_time.is_some()).await.hold_time;
    assert_eq!(negotiated, Some(Duration::from_secs(30)));

    a.sessions.configure(Vec::new());
    a.down().await;
    b.down().await;
    assert!(a.sessions.status().is_empty());
    let seen = b.see(|status| status.state != State::Established).await;
    assert!(seen.last_error.unwrap().contains("de-configured"));
}

/// An eBGP session over IPv6 through the same listening socket.
#[tokio::test]
async fn ipv6_external() {
    if socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::STREAM, None).is_err() {
        panic!("this test needs a host with IPv6");
    }
    let (mut a, mut b) = (Agent::start(1), Agent::start(2));
    let other = Asn(4_200_000_001);
    let (sessions, events) = Sessions::start(SessionOptions {
        local_asn: other,
        router_id: b.address,
        vtep_address: b.address,
        listen: Some(0),
    })
    .unwrap();
    (b.sessions, b.events) = (sessions, events);
    let loopback = |agent: &Agent, asn| PeerConfig {
        name: std::net::Ipv6Addr::LOCALHOST.into(),
        asn,
        ..agent.as_peer()
    };
    a.sessions
        .configure(vec![(PEER, loopback(&b, PeerAsn::External))]);
    b.sessions
        .configure(vec![(PEER, loopback(&a, PeerAsn::Is(ASN)))]);
    let session = a.up().await;
    assert_eq!((session.asn, session.internal), (other, false));
    assert_eq!(b.up().await.asn, ASN);
}

/// BGP-025: the right key, a wrong key, and no key on one side (RFC 2385).
#[tokio::test]
async fn tcp_md5() {
    let key = |text: &str| Some(Authentication::Md5(text.to_owned().into()));
    for (left, right, up) in [
        (key("s3cret"), key("s3cret"), true),
        (key("s3cret"), key("other"), false),
        (key("s3cret"), None, false),
        (None, key("s3cret"), false),
    ] {
        let (mut a, mut b) = (Agent::start(1), Agent::start(2));
        let signed = left.is_some();
        a.sessions.configure(vec![(
            PEER,
            PeerConfig {
                authentication: left,
                ..b.as_peer()
            },
        )]);
        b.sessions.configure(vec![(
            PEER,
            PeerConfig {
                authentication: right,
                ..a.as_peer()
            },
        )]);
        if up {
            a.up().await;
            b.up().await;
            // The key goes with the peer's configuration.
            let changed = PeerConfig {
                authentication: None,
                ..b.as_peer()
            };
            a.sessions.configure(vec![(PEER, changed)]);
            a.restarting().await;
        }
        let never = timeout(Duration::from_millis(1500), a.events.recv()).await;
        assert!(never.is_err(), "{never:?}");
        if !up {
            let hint = match signed {
                true => " TCP segments with",
                false => "TCP segments with a signature meanwhile, the peer may want a key",
            };
            let told = |status: &crate::bgp::session::PeerStatus| {
                let error = status.last_error.as_deref();
                error.is_some_and(|error| error.contains(hint))
            };
            a.see(told).await;
            let counted = a.sessions.silent_drops().signatures();
            assert!(counted.map(|(_, count)| count).sum::<u64>() > 0);
        }
    }
}

/// BGP-025, accepting side alone: the key is on the listening socket.
#[tokio::test]
async fn tcp_md5_passive() {
    let (mut a, mut b) = (Agent::start(1), Agent::start(2));
    let with_key = |agent: &Agent| PeerConfig {
        authentication: Some(Authentication::Md5("s3cret".to_owned().into())),
        ..agent.as_peer()
    };
    a.sessions.configure(vec![(
        PEER,
        PeerConfig {
            passive: true,
            ..with_key(&b)
        },
    )]);
    b.sessions.configure(vec![(PEER, with_key(&a))]);
    a.up().await;
    b.up().await;
}

/// A connection from before the key was set is not signed, and must not become a session.
#[tokio::test]
async fn connections_from_before_the_key_are_closed() {
    let listener = socket::listen(0).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut early = TcpStream::connect((Ipv4Addr::LOCALHOST, port))
        .await
        .unwrap();
    let localhost = std::net::IpAddr::V4(Ipv4Addr::LOCALHOST);
    let how = Authentication::Md5("s3cret".to_owned().into());
    socket::authenticate(&listener, localhost.into(), &how, true).unwrap();
    let accepted = timeout(Duration::from_millis(100), listener.accept()).await;
    assert!(accepted.is_err(), "{accepted:?}");
    assert!(early.read_u8().await.is_err(), "still open");
}

#[tokio::test]
async fn a_taken_port_is_a_clear_error() {
    let a = Agent::start(1);
    let port = a.sessions.port().unwrap();
    let options = SessionOptions {
        local_asn: ASN,
        router_id: a.address,
        vtep_address: a.address,
        listen: Some(port),
    };
    let error = Sessions::start(options).unwrap_err();
    assert!(matches!(error, StartError::PortTaken { .. }), "{error:?}");
    assert!(error.to_string().contains("listen = false"), "{error}");
}

/// Where connections come from and how far they go, by kind of peer.
#[test]
fn endpoints() {
    let options = SessionOptions {
        local_asn: ASN,
        router_id: Ipv4Addr::new(198, 18, 0, 1),
        vtep_address: Ipv4Addr::new(198, 18, 0, 1),
        listen: None,
    };
    let vtep = Some(options.vtep_address.into());
    let internal = peer(Ipv4Addr::new(198, 18, 0, 100), PORT);
    let of = |config: PeerConfig| {
        let endpoint = Endpoint::new(&options, &config);
        (endpoint.local, endpoint.ttl)
    };
    assert_eq!(of(internal.clone()), (vtep, None));
    assert_eq!(
        of(PeerConfig {
            asn: PeerAsn::Internal,
            ..internal.clone()
        }),
        (vtep, None)
    );
    let external = PeerConfig {
        asn: PeerAsn::Is(Asn(65001)),
        ..internal
    };
    assert_eq!(of(external.clone()), (None, Some(1)));
    assert_eq!(
        of(PeerConfig {
            multihop: Some(3),
            ..external.clone()
        }),
        (vtep, Some(3))
    );
    let other = Some(Ipv4Addr::new(10, 0, 0, 1).into());
    assert_eq!(
        of(PeerConfig {
            local_address: other,
            ..external.clone()
        }),
        (other, Some(1))
    );
    let v6 = std::net::Ipv6Addr::LOCALHOST.into();
    assert_eq!(
        of(PeerConfig {
            name: v6,
            multihop: Some(2),
            ..external
        }),
        (None, Some(2))
    );
}

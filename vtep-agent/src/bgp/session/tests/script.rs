//! A speaker that does what the test says, right or wrong.

use super::*;

/// A connection of the scripted peer 127.0.0.`last`.
pub(super) struct Script {
    stream: TcpStream,
    received: BytesMut,
}

impl Script {
    pub(super) async fn connect(agent: &Agent, last: u8) -> Self {
        Self::connect_with(agent, last, 64).await
    }

    pub(super) async fn connect_with(agent: &Agent, last: u8, ttl: u32) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket
            .bind((Ipv4Addr::new(127, 0, 0, last), 0).into())
            .unwrap();
        socket2::SockRef::from(&socket).set_ttl_v4(ttl).unwrap();
        let target = (agent.address, agent.sessions.port().unwrap()).into();
        let stream = socket.connect(target).await.unwrap();
        Self {
            stream,
            received: BytesMut::new(),
        }
    }

    /// Up to Established.
    pub(super) async fn establish(agent: &Agent, last: u8) -> Self {
        Self::establish_with(agent, last, open(last)).await
    }

    pub(super) async fn establish_with(agent: &Agent, last: u8, open: Open) -> Self {
        let mut script = Self::connect(agent, last).await;
        script.send(Message::Open(open)).await;
        script.send(Message::Keepalive).await;
        assert!(matches!(script.receive().await, Some(Message::Open(_))));
        assert_eq!(script.receive().await, Some(Message::Keepalive));
        script
    }

    pub(super) async fn send(&mut self, message: Message) {
        self.write(&bytes(&message)).await;
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Unless the connection is gone.
    pub(super) async fn try_send(&mut self, message: Message) -> std::io::Result<()> {
        self.stream.write_all(&bytes(&message)).await
    }

    /// Reads up to so many bytes that are there, and forgets them.
    pub(super) async fn drain(&mut self, bytes: usize) {
        let mut buffer = vec![0; bytes];
        let _ = self.stream.read(&mut buffer).await.unwrap();
    }

    /// `None` at the end of the stream; a reset is an error.
    pub(super) async fn receive(&mut self) -> Option<Message> {
        let received = async {
            loop {
                if let Some(frame) = next_frame(&mut self.received, EXTENDED_MAX_LEN).unwrap() {
                    return Some(decode(&frame, &Context::default()).unwrap().message);
                }
                if self.stream.read_buf(&mut self.received).await.unwrap() == 0 {
                    return None;
                }
            }
        };
        timeout(PATIENCE, received).await.unwrap()
    }

    /// The NOTIFICATION that ends the connection, after whatever else there is.
    pub(super) async fn notification(&mut self) -> Notification {
        loop {
            match self.receive().await {
                Some(Message::Notification(notification)) => {
                    assert_eq!(self.receive().await, None);
                    return notification;
                }
                Some(_) => {}
                None => panic!("no NOTIFICATION"),
            }
        }
    }
}

pub(super) fn open(last: u8) -> Open {
    Open {
        asn: ASN,
        hold_time: 90,
        router_id: Ipv4Addr::new(127, 0, 0, last),
        capabilities: vec![
            Capability::Multiprotocol(Family::EVPN),
            Capability::RouteRefresh,
            Capability::FourOctetAs(ASN),
        ],
    }
}

pub(super) fn bytes(message: &Message) -> BytesMut {
    let mut bytes = BytesMut::new();
    message.encode(&Context::default(), &mut bytes);
    bytes
}

/// An agent that waits for the scripted peer.
pub(super) async fn agent(last: u8) -> Agent {
    agent_with(last, |_| {}).await
}

/// The same; `prepare` is called before there are peers.
pub(super) async fn agent_with(last: u8, prepare: impl FnOnce(&Sessions)) -> Agent {
    let agent = Agent::start(1);
    prepare(&agent.sessions);
    let address = Ipv4Addr::new(127, 0, 0, last);
    let passive = PeerConfig {
        passive: true,
        ..peer(address, PORT)
    };
    agent.configure(vec![(PEER, passive)]).await;
    agent
}

/// BGP-002, BGP-005 to BGP-010, BGP-024: what a bad first message is answered with, byte by byte
/// over the wire; the agent survives it and says so.
#[tokio::test]
async fn bad_messages_are_answered_and_survived() {
    let valid = bytes(&Message::Open(open(9)));
    let patched = |at: usize, patch: &[u8]| {
        let mut message = valid.clone();
        message[at..at + patch.len()].copy_from_slice(patch);
        message
    };
    let keepalive_20 = [&[0xff; 16][..], &[0, 20, 4, 0]].concat();
    let long_update = [&[0xff; 16][..], &[0x13, 0x88, 2]].concat();
    type Case<'a> = (&'a str, &'a [u8], u8, u8, &'a [u8]);
    let cases: [Case<'_>; 10] = [
        ("BGP-005", &patched(3, &[0xfe]), 1, 1, &[]),
        ("BGP-006", &patched(16, &[0, 18]), 1, 2, &[0, 18]),
        ("BGP-006", &keepalive_20, 1, 2, &[0, 20]),
        ("BGP-024", &long_update, 1, 2, &[0x13, 0x88]),
        ("BGP-007", &patched(18, &[9]), 1, 3, &[9]),
        ("BGP-008", &patched(19, &[5]), 2, 1, &[0, 4]),
        (
            "BGP-009",
            &bytes(&Message::Open(Open {
                capabilities: vec![],
                asn: Asn(1),
                ..open(9)
            })),
            2,
            2,
            &[],
        ),
        ("BGP-010", &patched(24, &[0, 0, 0, 0]), 2, 3, &[]),
        ("BGP-010", &patched(24, &[127, 0, 0, 1]), 2, 3, &[]),
        ("BGP-002", &patched(22, &[0, 2]), 2, 6, &[]),
    ];
    for (id, message, code, subcode, data) in cases {
        let agent = agent(9).await;
        let mut script = Script::connect(&agent, 9).await;
        script.write(message).await;
        let notification = script.notification().await;
        assert_eq!(
            notification,
            Notification::with_data(code, subcode, data),
            "{id}"
        );
        let status = agent.see(|status| status.last_error.is_some()).await;
        assert_eq!(status.sent.notification, 1, "{id}");
    }
}

/// The peer is there before we know our peers, as when the agent starts: it waits and is not rejected.
#[tokio::test]
async fn early_connections_wait_for_the_configuration() {
    let mut agent = Agent::start(1);
    let mut script = Script::connect(&agent, 9).await;
    let mut stranger = Script::connect(&agent, 10).await;
    script.send(Message::Open(open(9))).await;
    script.send(Message::Keepalive).await;
    sleep(Duration::from_millis(50)).await;
    let passive = PeerConfig {
        passive: true,
        ..peer(Ipv4Addr::new(127, 0, 0, 9), PORT)
    };
    agent.configure(vec![(PEER, passive)]).await;
    agent.up().await;
    assert!(matches!(script.receive().await, Some(Message::Open(_))));
    assert_eq!(
        stranger.notification().await,
        Notification::CONNECTION_REJECTED
    );
}

/// RFC 2385: what came before the key was known is not signed.
#[tokio::test]
async fn early_connections_do_not_evade_the_password() {
    let agent = Agent::start(1);
    let mut script = Script::connect(&agent, 9).await;
    let signed = PeerConfig {
        passive: true,
        authentication: Some(Authentication::Md5("secret".to_owned().into())),
        ..peer(Ipv4Addr::new(127, 0, 0, 9), PORT)
    };
    agent.configure(vec![(PEER, signed)]).await;
    assert_eq!(script.receive().await, None);
    assert_eq!(agent.status().state, State::Active);
}

/// A stream of noise, without an end or in the middle of a session.
#[tokio::test]
async fn garbage_in_a_session() {
    let mut agent = agent(9).await;
    let mut script = Script::establish(&agent, 9).await;
    agent.up().await;
    script.write(&[0x5a; 10_000]).await;
    assert_eq!(script.notification().await, Notification::new(1, 1));
    agent.down().await;
}

/// Messages in as many segments as bytes, and many in one.
#[tokio::test]
async fn framing_does_not_depend_on_segments() {
    let mut agent = agent(9).await;
    let mut script = Script::connect(&agent, 9).await;
    script.stream.set_nodelay(true).unwrap();
    for byte in bytes(&Message::Open(open(9))) {
        script.write(&[byte]).await;
    }
    let refresh = Message::RouteRefresh(RouteRefresh {
        family: Family::EVPN,
        subtype: 0,
    });
    let burst = [
        &bytes(&Message::Keepalive)[..],
        &bytes(&refresh).repeat(1000),
    ]
    .concat();
    script.write(&burst).await;
    agent.up().await;
    for _ in 0..1000 {
        let event = agent.event().await;
        assert!(
            matches!(event, PeerEvent::Refresh(Family::EVPN)),
            "{event:?}"
        );
    }
    assert_eq!(
        agent
            .see(|status| status.received.route_refresh == 1000)
            .await
            .received
            .open,
        1
    );
}

/// A malformed UPDATE that RFC 7606 forgives is counted and shown.
#[tokio::test]
async fn update_errors_are_counted() {
    let mut agent = agent(9).await;
    let mut script = Script::establish(&agent, 9).await;
    agent.up().await;
    // Withdrawn: one EVPN route of type 2 with a length that no type 2 has.
    let attribute = [0x80, 15, 6, 0, 25, 70, 2, 1, 0];
    let body = [&[0, 0, 0, attribute.len() as u8][..], &attribute].concat();
    let length = 19 + body.len() as u8;
    script
        .write(&[&[0xff; 16][..], &[0, length, 2], &body].concat())
        .await;
    let status = agent.see(|status| !status.update_errors.is_empty()).await;
    assert_eq!(status.update_errors.values().sum::<u64>(), 1);
    assert_eq!(status.state, State::Established);
    assert!(status.last_error.unwrap().starts_with("malformed UPDATE"));
}

/// RFC 4486 §4: an address that is no peer.
#[tokio::test]
async fn strangers_are_rejected() {
    let agent = agent(9).await;
    let mut script = Script::connect(&agent, 8).await;
    assert_eq!(
        script.notification().await,
        Notification::CONNECTION_REJECTED
    );
}

/// BGP-013.
#[tokio::test]
async fn a_second_connection_is_refused_while_established() {
    let mut agent = agent(9).await;
    let mut first = Script::establish(&agent, 9).await;
    agent.up().await;
    let mut second = Script::connect(&agent, 9).await;
    second.send(Message::Open(open(9))).await;
    assert_eq!(second.notification().await, Notification::COLLISION);
    // The probe.
    assert_eq!(first.receive().await, Some(Message::Keepalive));
    assert_eq!(agent.status().state, State::Established);
}

/// BGP-004 with real time.
#[tokio::test]
async fn hold_timer() {
    let mut agent = agent(9).await;
    let mut script = Script::connect(&agent, 9).await;
    script
        .send(Message::Open(Open {
            hold_time: 3,
            ..open(9)
        }))
        .await;
    script.send(Message::Keepalive).await;
    agent.up().await;
    let began = Instant::now();
    assert_eq!(
        script.notification().await,
        Notification::HOLD_TIMER_EXPIRED
    );
    let elapsed = began.elapsed().as_secs_f64();
    assert!((2.5..4.0).contains(&elapsed), "{elapsed}");
    agent.down().await;
}

/// A peer that doesn't read delays nobody else.
#[tokio::test]
async fn a_peer_that_does_not_read_blocks_nobody() {
    const OTHER: PeerId = PeerId(8);
    let mut agent = agent(9).await;
    let config = |last| PeerConfig {
        passive: true,
        ..peer(Ipv4Addr::new(127, 0, 0, last), PORT)
    };
    agent
        .configure(vec![(PEER, config(9)), (OTHER, config(8))])
        .await;
    let deaf = Script::establish(&agent, 9).await;
    agent.up().await;
    let mut good = Script::establish(&agent, 8).await;
    let (peer, event) = timeout(PATIENCE, agent.events.recv())
        .await
        .unwrap()
        .unwrap();
    assert!(peer == OTHER && matches!(event, PeerEvent::Up(_)));
    // About 18 MB, more than socket buffers hold.
    agent.sessions.send(PEER, withdrawal(0, 600_000));
    agent.sessions.send(OTHER, withdrawal(0, 1));
    let began = Instant::now();
    loop {
        match good.receive().await {
            Some(Message::Update(update)) => break assert_eq!(update.withdrawn.len(), 1),
            other => assert_eq!(other, Some(Message::Keepalive)),
        }
    }
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    sleep(Duration::from_millis(300)).await;
    let status = agent.sessions.status();
    assert!(
        status
            .iter()
            .all(|status| status.state == State::Established)
    );
    let sent = |index: usize| status[index].sent.update;
    assert!(
        sent(0) < 600_000 / 130,
        "the deaf peer took everything: {}",
        sent(0)
    );

    // More than a million routes behind those in the pipe end its session.
    for _ in 0..4 {
        agent.sessions.send(PEER, withdrawal(0, 600_000));
    }
    agent.down().await;
    let status = agent.see(|status| status.last_error.is_some()).await;
    assert!(status.last_error.unwrap().contains("out of resources"));
    drop(deaf);
}

/// A core that doesn't take events slows the peer down, and nothing is lost.
#[tokio::test]
async fn a_slow_core_slows_the_peer_down() {
    const ROUNDS: usize = 600;
    let mut agent = agent(9).await;
    let script = Script::establish(&agent, 9).await;
    let refresh = bytes(&Message::RouteRefresh(RouteRefresh {
        family: Family::EVPN,
        subtype: 0,
    }));
    let (reader, mut writer) = script.stream.into_split();
    let burst = refresh.repeat(1000);
    let writing = tokio::spawn(async move {
        for _ in 0..ROUNDS {
            writer.write_all(&burst).await.unwrap();
        }
        writer
    });
    sleep(Duration::from_millis(500)).await;
    assert!(!writing.is_finished(), "13 MB went into bounded queues");
    agent.up().await;
    for _ in 0..ROUNDS * 1000 {
        assert!(matches!(
            agent.event().await,
            PeerEvent::Refresh(Family::EVPN)
        ));
    }
    drop((writing.await.unwrap(), reader));
    agent.down().await;
}

/// A stall of the core that is longer than the hold time is not held against the peer.
#[tokio::test]
async fn a_stalled_core_does_not_end_sessions() {
    let mut agent = agent(9).await;
    let mut script = Script::connect(&agent, 9).await;
    let hold_time = 3;
    script
        .send(Message::Open(Open {
            hold_time,
            ..open(9)
        }))
        .await;
    script.send(Message::Keepalive).await;
    let refresh = bytes(&Message::RouteRefresh(RouteRefresh {
        family: Family::EVPN,
        subtype: 0,
    }));
    script.write(&refresh.repeat(2000)).await;
    for _ in 0..5 {
        sleep(Duration::from_secs(1)).await;
        script.send(Message::Keepalive).await;
    }
    assert_eq!(agent.status().state, State::Established);
    agent.up().await;
    for _ in 0..2000 {
        assert!(matches!(
            agent.event().await,
            PeerEvent::Refresh(Family::EVPN)
        ));
    }
    // From here on silence counts again.
    agent.down().await;
}

/// An advertisement belongs to the session for which the core computed it.
#[tokio::test]
async fn advertisements_of_an_old_session_are_dropped() {
    let mut agent = agent(9).await;
    let first = Script::establish(&agent, 9).await;
    agent.up().await;
    drop(first);
    agent.see(|status| status.state == State::Active).await;
    let mut second = Script::establish(&agent, 9).await;
    agent.see(|status| status.state == State::Established).await;
    // The core hasn't heard of the second session.
    agent.sessions.send(PEER, withdrawal(1, 1));
    agent.down().await;
    agent.sessions.send(PEER, withdrawal(2, 1));
    agent.up().await;
    agent.sessions.send(PEER, withdrawal(3, 1));
    let Some(Message::Update(update)) = second.receive().await else {
        panic!()
    };
    let Some(RouteKey::Imet { tag, .. }) = update.withdrawn.first() else {
        panic!()
    };
    assert_eq!(tag.0, 3);
}

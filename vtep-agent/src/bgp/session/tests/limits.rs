//! Bounds of a session over real TCP: length of messages, patience with a peer that doesn't read.

use bytes::Bytes;

use super::{script::*, *};
use crate::bgp::{fsm::Cease, wire::encode_advertisement};

/// One UPDATE of about 20 kB.
fn long_update() -> Bytes {
    let mut messages = Vec::new();
    let advertisement = withdrawal(0, 1000);
    encode_advertisement(
        &advertisement,
        &Context::default(),
        EXTENDED_MAX_LEN,
        &mut messages,
    );
    assert_eq!(messages.len(), 1);
    assert!(messages[0].len() > 19_000);
    messages.remove(0)
}

/// BGP-023: RFC 8654 §4, both ways.
#[tokio::test]
async fn extended_messages() {
    let mut agent = agent(9).await;
    let mut script = Script::connect(&agent, 9).await;
    let mut open = open(9);
    open.capabilities.push(Capability::ExtendedMessage);
    script.send(Message::Open(open)).await;
    script.send(Message::Keepalive).await;
    agent.up().await;
    script.write(&long_update()).await;
    let PeerEvent::Update(update) = agent.event().await else {
        panic!()
    };
    assert_eq!(update.withdrawn.len(), 1000);
    agent.sessions.send(PEER, withdrawal(0, 1000));
    loop {
        if let Some(Message::Update(update)) = script.receive().await {
            break assert_eq!(update.withdrawn.len(), 1000);
        }
    }
    let status = agent.status();
    assert!(status.capabilities.contains(&"extended_message"));
    assert_eq!(status.sent.update, 1);
}

/// BGP-024: RFC 8654 §5, when we didn't offer.
#[tokio::test]
async fn long_messages_that_were_not_offered() {
    let mut agent = Agent::start(1);
    let config = PeerConfig {
        passive: true,
        extended_messages: false,
        ..peer(Ipv4Addr::new(127, 0, 0, 9), PORT)
    };
    agent.configure(vec![(PEER, config)]).await;
    let mut script = Script::establish(&agent, 9).await;
    agent.up().await;
    let update = long_update();
    script.write(&update).await;
    let length = &update[16..18];
    assert_eq!(
        script.notification().await,
        Notification::with_data(1, 2, length)
    );
    agent.down().await;
}

/// BGP-019: RFC 9687 §4.3. The peer's window is closed while its keepalives go on; one that reads
/// slowly keeps its session.
#[tokio::test]
async fn send_hold_timer() {
    tokio::join!(hold_to_be_read(false), hold_to_be_read(true));
}

async fn hold_to_be_read(reads: bool) {
    let mut agent = Agent::start(1);
    let config = PeerConfig {
        passive: true,
        // Twice what a busy machine may sleep for a second.
        hold_time: Duration::from_secs(6),
        send_hold_time: Some(Duration::from_secs(7)),
        ..peer(Ipv4Addr::new(127, 0, 0, 9), PORT)
    };
    agent.configure(vec![(PEER, config)]).await;
    let mut script = Script::establish(&agent, 9).await;
    agent.up().await;
    // More than socket buffers hold.
    agent.sessions.send(PEER, withdrawal(0, 600_000));
    for _ in 0..10 {
        sleep(Duration::from_secs(1)).await;
        if script.try_send(Message::Keepalive).await.is_err() {
            break;
        }
        if reads {
            script.drain(1 << 18).await;
        }
    }
    let status = agent.status();
    assert_eq!(status.state == State::Established, reads, "{status:?}");
    if !reads {
        agent.down().await;
        let status = agent.see(|status| status.last_error.is_some()).await;
        assert!(status.last_error.unwrap().contains("send hold timer"));
    }
}

/// BGP-022: RFC 4486 §4. The peer is told the limit, and kept out.
#[tokio::test]
async fn too_many_routes() {
    let mut agent = agent(9).await;
    let mut script = Script::establish(&agent, 9).await;
    agent.up().await;
    agent
        .sessions
        .reset(PEER, Cease::MaxPrefixes(Family::EVPN, 10));
    let data = [0x00, 0x19, 0x46, 0x00, 0x00, 0x00, 0x0a];
    assert_eq!(
        script.notification().await,
        Notification::with_data(6, 1, &data)
    );
    agent.down().await;
    let mut again = Script::connect(&agent, 9).await;
    assert_eq!(again.receive().await, None);
    assert_eq!(agent.status().state, State::Idle);
}

/// BGP-026: RFC 5082 §3, on connections in both directions. Everything that the peer has to say is
/// there before we could set an option on the connection.
#[tokio::test]
async fn ttl_security() {
    for (ttl, up) in [(255, true), (254, false), (64, false)] {
        let mut agent = Agent::start(1);
        let config = PeerConfig {
            passive: true,
            ttl_security: Some(1),
            ..peer(Ipv4Addr::new(127, 0, 0, 9), PORT)
        };
        agent.configure(vec![(PEER, config)]).await;
        let mut script = Script::connect_with(&agent, 9, ttl).await;
        let _ = script.try_send(Message::Open(open(9))).await;
        let _ = script.try_send(Message::Keepalive).await;
        let event = timeout(Duration::from_millis(500), agent.events.recv()).await;
        assert_eq!(event.is_ok(), up, "TTL {ttl}: {event:?}");
    }
}

#[tokio::test]
async fn ttl_security_of_outgoing_connections() {
    for (theirs, up) in [(Some(1), true), (None, false)] {
        let (mut a, b) = (Agent::start(1), Agent::start(2));
        let config = |agent: &Agent, ttl_security, passive| PeerConfig {
            ttl_security,
            passive,
            ..agent.as_peer()
        };
        b.configure(vec![(PEER, config(&a, theirs, true))]).await;
        a.sessions
            .configure(vec![(PEER, config(&b, Some(1), false))]);
        let event = timeout(Duration::from_millis(1500), a.events.recv()).await;
        assert_eq!(event.is_ok(), up, "{event:?}");
    }
}

/// BGP-020: RFC 9003 §2. The key appears in the configuration of a running session.
#[tokio::test]
async fn administrative_shutdown() {
    let mut agent = agent(9).await;
    let mut script = Script::establish(&agent, 9).await;
    agent.up().await;
    let down = PeerConfig {
        passive: true,
        shutdown: Some("TICKET-1".to_owned()),
        ..peer(Ipv4Addr::new(127, 0, 0, 9), PORT)
    };
    agent.sessions.configure(vec![(PEER, down)]);
    let data = b"\x08TICKET-1";
    assert_eq!(
        script.notification().await,
        Notification::with_data(6, 2, data)
    );
    agent.down().await;
    let mut again = Script::connect(&agent, 9).await;
    assert_eq!(again.receive().await, None);
    let status = agent.status();
    assert_eq!(status.state, State::Idle);
    assert!(status.last_error.unwrap().starts_with("shut down"));
}

//! Bounds of a session over real TCP: length of messages, patience with a peer that doesn't read.

use bytes::Bytes;

use super::{script::*, *};
use crate::bgp::wire::encode_advertisement;

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
        hold_time: Duration::from_secs(3),
        send_hold_time: Some(Duration::from_secs(4)),
        ..peer(Ipv4Addr::new(127, 0, 0, 9), PORT)
    };
    agent.configure(vec![(PEER, config)]).await;
    let mut script = Script::establish(&agent, 9).await;
    agent.up().await;
    // More than socket buffers hold.
    agent.sessions.send(PEER, withdrawal(0, 600_000));
    for _ in 0..7 {
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

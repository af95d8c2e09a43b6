//! Our own restart as a peer on the wire sees it (RFC 4724 §4.1, RFC 8538 §3.1).

use super::{
    script::{Script, agent, agent_with, open},
    *,
};
use crate::bgp::{fsm::Cease, wire::GracefulRestart};

/// The scripted peer's OPEN with graceful restart, without or with the N bit.
fn graceful(last: u8, notification: bool) -> Open {
    let mut open = open(last);
    open.capabilities
        .push(Capability::GracefulRestart(GracefulRestart {
            notification,
            restart_time: 60,
            families: vec![(Family::EVPN, true)],
            ..GracefulRestart::default()
        }));
    open
}

/// A session, and the R and F bits of the agent's OPEN.
async fn establish(agent: &Agent, last: u8, notification: bool) -> (Script, (bool, bool)) {
    let mut script = Script::connect(agent, last).await;
    script
        .send(Message::Open(graceful(last, notification)))
        .await;
    script.send(Message::Keepalive).await;
    let Some(Message::Open(open)) = script.receive().await else {
        panic!("no OPEN")
    };
    assert_eq!(script.receive().await, Some(Message::Keepalive));
    let restart = open.graceful_restart().unwrap();
    assert!(restart.notification);
    assert_eq!(restart.restart_time, 120);
    assert_eq!(restart.families.len(), 1);
    (script, (restart.restarting, restart.families[0].1))
}

/// GR-006: R and F after a restart with forwarding, F alone once that is over.
#[tokio::test]
async fn gr_006_open_after_a_restart() {
    let mut agent = agent_with(2, |sessions| sessions.restarted()).await;
    let (script, bits) = establish(&agent, 2, true).await;
    assert_eq!(bits, (true, true));
    let session = agent.up().await;
    assert!(session.graceful_restart && !session.restarting);
    drop(script);
    agent.restarting().await;
    agent.sessions.settled();
    // The order may still be on its way to the peer's task.
    let (_script, bits) = loop {
        let (script, bits) = establish(&agent, 2, true).await;
        agent.up().await;
        if !bits.0 {
            break (script, bits);
        }
        drop(script);
        agent.restarting().await;
    };
    assert_eq!(bits, (false, true));
}

/// GR-007: neither bit after a cold start; the F bit once there was a session, also when the peer's
/// configuration has changed since.
#[tokio::test]
async fn gr_007_open_after_a_cold_start() {
    let mut agent = agent(2).await;
    let (mut script, bits) = establish(&agent, 2, true).await;
    assert_eq!(bits, (false, false));
    agent.up().await;
    let changed = PeerConfig {
        passive: true,
        hold_time: Duration::from_secs(30),
        ..peer(Ipv4Addr::new(127, 0, 0, 2), 1)
    };
    agent.configure(vec![(PEER, changed)]).await;
    assert_eq!(
        script.notification().await,
        Notification::OTHER_CONFIGURATION_CHANGE
    );
    agent.restarting().await;
    let (_script, bits) = establish(&agent, 2, true).await;
    assert_eq!(bits, (false, true));
    agent.up().await;
}

/// RFC 8538 §3.1, RFC 4724 §4.2: the agent goes and its forwarding stays.
#[tokio::test]
async fn a_restart_takes_leave_so_that_routes_stay() {
    let one = agent(2).await;
    let (mut script, _) = establish(&one, 2, true).await;
    one.sessions
        .shutdown(Cease::Restart("upgrade".to_owned()))
        .await;
    let notification = script.notification().await;
    assert_eq!((notification.code, notification.subcode), (6, 4));
    assert_eq!(notification.communication(), Some("upgrade"));

    let one = agent(3).await;
    let (mut script, _) = establish(&one, 3, false).await;
    one.sessions
        .shutdown(Cease::Restart("upgrade".to_owned()))
        .await;
    while let Some(message) = script.receive().await {
        assert!(!matches!(message, Message::Notification(_)), "{message:?}");
    }
}

/// RFC 8538 §5: the agent goes for good.
#[tokio::test]
async fn a_shutdown_is_a_hard_reset() {
    let agent = agent(2).await;
    let (mut script, _) = establish(&agent, 2, true).await;
    agent
        .sessions
        .shutdown(Cease::Shutdown("moved".to_owned()))
        .await;
    let notification = script.notification().await;
    assert!(notification.is_hard_reset());
    assert_eq!(notification.communication(), Some("moved"));
}

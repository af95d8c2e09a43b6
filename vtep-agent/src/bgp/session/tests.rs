//! Sessions over real TCP on loopback addresses.

mod agents;
mod dynamic;
mod limits;
mod restart;
mod script;

use std::{net::Ipv4Addr, time::Duration};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::{Instant, sleep, timeout},
};

use super::{Events, PORT, SessionOptions, Sessions, StartError, socket, socket::Endpoint};
use crate::{
    bgp::{
        fsm::State,
        peer::{PeerEvent, Session},
        rib::Advertisement,
        wire::{
            Capability, Context, EXTENDED_MAX_LEN, Family, Message, Notification, Open, RouteKey,
            RouteRefresh, decode, next_frame,
        },
    },
    config::{Authentication, PeerAsn, PeerConfig},
    types::{Asn, EthernetTag, PeerId},
};

const ASN: Asn = Asn(65000);
const PEER: PeerId = PeerId(7);

/// Longer than anything takes, two retries included.
const PATIENCE: Duration = Duration::from_secs(10);

/// One side, with the address 127.0.0.`last`, which is also its identifier.
struct Agent {
    sessions: Sessions,
    events: Events,
    address: Ipv4Addr,
}

impl Agent {
    fn start(last: u8) -> Self {
        let address = Ipv4Addr::new(127, 0, 0, last);
        let (sessions, events) = Sessions::start(SessionOptions {
            local_asn: ASN,
            router_id: address,
            vtep_address: address,
            listen: Some(0),
        })
        .unwrap();
        Self {
            sessions,
            events,
            address,
        }
    }

    /// As another agent has it configured.
    fn as_peer(&self) -> PeerConfig {
        peer(self.address, self.sessions.port().unwrap())
    }

    /// Configures peers and waits until they are in force.
    async fn configure(&self, peers: Vec<(PeerId, PeerConfig)>) {
        let count = peers.len();
        self.sessions.configure(peers);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.sessions.status();
            if status.len() == count && status.iter().all(|peer| peer.state != State::Idle) {
                return;
            }
            assert!(Instant::now() < deadline, "{status:?}");
            sleep(Duration::from_millis(1)).await;
        }
    }

    async fn event(&mut self) -> PeerEvent {
        let (peer, event) = timeout(PATIENCE, self.events.recv())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(peer, PEER);
        event
    }

    async fn up(&mut self) -> Session {
        match self.event().await {
            PeerEvent::Up(session) => session,
            other => panic!("{other:?}"),
        }
    }

    async fn down(&mut self) {
        let event = self.event().await;
        assert!(matches!(event, PeerEvent::Down), "{event:?}");
    }

    /// Down, with the peer's routes kept.
    async fn restarting(&mut self) {
        let event = self.event().await;
        assert!(matches!(event, PeerEvent::Restarting(_)), "{event:?}");
    }

    fn status(&self) -> super::PeerStatus {
        self.sessions.status().remove(0)
    }

    /// Until there is a peer.
    async fn see_some(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.sessions.status().is_empty() {
            assert!(Instant::now() < deadline, "no peer");
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// Until the status is as wished.
    async fn see(&self, wish: impl Fn(&super::PeerStatus) -> bool) -> super::PeerStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.status();
            if wish(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "{status:?}");
            sleep(Duration::from_millis(10)).await;
        }
    }
}

fn peer(address: Ipv4Addr, port: u16) -> PeerConfig {
    PeerConfig {
        port,
        ..PeerConfig::new(address.into(), PeerAsn::Is(ASN))
    }
}

/// Withdrawal of IMET routes with the tags `first` to `first + count - 1`.
fn withdrawal(first: u32, count: u32) -> Advertisement {
    let key = |tag| RouteKey::Imet {
        rd: "198.18.0.1:1".parse().unwrap(),
        tag: EthernetTag(tag),
        originator: Ipv4Addr::new(198, 18, 0, 1).into(),
    };
    Advertisement {
        withdraw: (first..first + count).map(key).collect(),
        ..Advertisement::default()
    }
}

//! The peer behind a device: where it is, and what changes when it is somewhere else.

use std::net::{SocketAddr, SocketAddrV6};

use tokio::net::TcpStream;

use super::{
    Notice,
    peer::Peer,
    unnumbered::{Lookout, Sighting},
};
use crate::bgp::fsm::{Cease, Event};

impl Peer {
    /// Begins: with a connection where the peer's address is configured, with a look at the link
    /// where it isn't.
    pub(super) fn start(&mut self, shutdown: bool) {
        match self.endpoint.peer.interface() {
            None => self.handle(Event::Start),
            Some(_) if shutdown => {}
            Some(device) => self.lookout = Some(Lookout::start(device.clone())),
        }
    }

    /// The neighbour is there, is another one, or is gone.
    pub(super) fn sighted(&mut self, sighting: Sighting) {
        match sighting {
            Sighting::At(address, ifindex) => {
                self.locate(Some(SocketAddrV6::new(
                    address,
                    self.endpoint.port,
                    0,
                    ifindex,
                )));
            }
            Sighting::Unknown(reason) => {
                self.locate(None);
                self.obstacle = Some(reason);
            }
        }
    }

    /// Whether a connection is the peer's. That of a neighbour which has not advertised itself yet
    /// tells us its address.
    pub(super) fn owns(&mut self, stream: &TcpStream) -> bool {
        if self.lookout.is_none() {
            return true;
        }
        let Ok(SocketAddr::V6(from)) = stream.peer_addr() else {
            return false;
        };
        if self.endpoint.remote.is_none() {
            let port = self.endpoint.port;
            self.locate(Some(SocketAddrV6::new(
                *from.ip(),
                port,
                0,
                from.scope_id(),
            )));
        }
        let ours = |remote: SocketAddr| remote.ip() == *from.ip();
        self.endpoint.remote.is_some_and(ours)
    }

    /// Another address is another session.
    fn locate(&mut self, remote: Option<SocketAddrV6>) {
        let remote = remote.map(SocketAddr::V6);
        if remote == self.endpoint.remote {
            return;
        }
        self.handle(Event::Stop(Cease::ConfigChange));
        self.endpoint.remote = remote;
        self.obstacle = None;
        let address = remote.map(|remote| remote.ip());
        self.status.address = address;
        // The supervisor outlives its peers.
        let _ = self.notices.send(Notice::Located(self.id, address));
        if let Some(address) = address {
            self.fsm.set_peer_address(address);
            self.handle(Event::Start);
        }
    }
}

//! What a peer is sent: messages of the machine, and UPDATEs as fast as it takes them.

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use super::{super::connection::CHUNK, Peer};
use crate::bgp::{
    fsm::{Cease, ConnectionId, Event},
    rib::Advertisement,
    wire::{self, Message, MessageType},
};

/// Where a message says its type, behind marker and length (RFC 4271 §4.1).
const TYPE_OFFSET: usize = 18;

/// Routes that may wait for a peer which doesn't read. More of them end the session, since the
/// alternative is to fill our memory.
const WAITING_ROUTES: usize = 1 << 20;

impl Peer {
    pub(super) fn advertise(&mut self, id: ConnectionId, advertisement: Advertisement) {
        if self
            .session
            .as_ref()
            .is_none_or(|session| session.connection != id)
        {
            return;
        }
        // One advertisement may be larger: a whole table that the peer can take.
        if self.waiting_routes > WAITING_ROUTES {
            return self.handle(Event::Reset(Cease::OutOfResources));
        }
        self.waiting_routes += routes(&advertisement);
        self.advertisements.push_back(advertisement);
    }

    /// Where to send UPDATEs, if there are any.
    pub(super) fn writable(&mut self) -> Option<mpsc::Sender<Bytes>> {
        let session = self.session.as_ref()?;
        while self.encoded.is_empty() {
            let advertisement = self.advertisements.pop_front()?;
            self.waiting_routes -= routes(&advertisement);
            let mut messages = Vec::new();
            let too_large = wire::encode_advertisement(
                &advertisement,
                &session.context,
                session.max_len,
                &mut messages,
            );
            for route in too_large {
                let peer = &self.status.name;
                tracing::error!(%peer, %route, "withdrawn: its attributes exceed a BGP message");
            }
            self.encoded.extend(messages);
        }
        let connection = self
            .connections
            .iter()
            .find(|connection| connection.id == session.connection)?;
        Some(connection.out.clone())
    }

    /// Sends as many UPDATEs as make up a chunk.
    pub(super) fn write(&mut self, permit: mpsc::OwnedPermit<Bytes>) {
        let mut chunk = BytesMut::new();
        while let Some(message) = self
            .encoded
            .pop_front_if(|message| chunk.is_empty() || chunk.len() + message.len() <= CHUNK)
        {
            chunk.extend_from_slice(&message);
            // The answer to a ROUTE-REFRESH is enclosed in two of them (RFC 7313 §4).
            let refresh = message.get(TYPE_OFFSET) == Some(&(MessageType::RouteRefresh as u8));
            self.status.sent.count(match refresh {
                true => MessageType::RouteRefresh,
                false => MessageType::Update,
            });
        }
        self.status.bytes_sent += chunk.len() as u64;
        permit.send(chunk.freeze());
        self.handle(Event::UpdateSent);
    }

    pub(super) fn send(&mut self, id: ConnectionId, message: &Message) {
        let context = self.fsm.context(id).clone();
        let mut bytes = BytesMut::new();
        message.encode(&context, &mut bytes);
        let length = bytes.len();
        let Some(connection) = self.connection(id) else {
            return;
        };
        // The queue is full only when the peer doesn't read, and then it is the UPDATEs in it that
        // keep the session alive. A NOTIFICATION would not arrive either.
        if connection.out.try_send(bytes.freeze()).is_ok() {
            self.status.sent.count(message.kind());
            self.status.bytes_sent += length as u64;
        }
    }
}

fn routes(advertisement: &Advertisement) -> usize {
    let announced = advertisement
        .announce
        .iter()
        .map(|(_, routes)| routes.len());
    advertisement.withdraw.len() + announced.sum::<usize>()
}

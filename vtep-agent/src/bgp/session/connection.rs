//! One TCP connection: bytes in and out, with bounded queues in both directions, and an end that
//! lets the last NOTIFICATION arrive.

use std::{convert::Infallible, io, net::SocketAddr, sync::atomic::Ordering, time::Duration};

use bytes::{Bytes, BytesMut};
use ipnet::IpNet;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::sleep,
};

use super::send_queue::{SendQueue, Written};
use crate::{
    bgp::{fsm::ConnectionId, peer::LocalEnd},
    config::AoKeys,
    tcp_ao,
};

/// Bytes that are read at once.
const READ: usize = 64 << 10;

/// Chunks, of at most [`CHUNK`] bytes, that wait for the socket.
const QUEUE: usize = 16;

/// Messages are handed to the socket in chunks of about this size, in bytes.
pub(super) const CHUNK: usize = 64 << 10;

/// How long a closed connection may take to send what is queued and to see the peer close too.
const LINGER: Duration = Duration::from_secs(1);

/// What a connection reports.
#[derive(Debug)]
pub(super) enum Input {
    /// Bytes arrived.
    Bytes(Bytes),
    /// Nothing more will arrive, for this reason.
    Closed(String),
}

/// An open connection. Dropping it closes the connection after what is queued.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    /// Our end; `None` when the peer was gone before it could be asked for.
    pub(super) local: Option<LocalEnd>,
    /// Received and not yet decoded.
    pub(super) received: BytesMut,
    /// To the socket.
    pub(super) out: mpsc::Sender<Bytes>,
    /// How far the peer took it.
    pub(super) send_queue: SendQueue,
    _open: oneshot::Sender<Infallible>,
}

impl Connection {
    /// Serves `stream` as one of `tasks`.
    ///
    /// # Errors
    ///
    /// When there are no descriptors left.
    pub(super) fn start(
        id: ConnectionId,
        stream: TcpStream,
        inputs: mpsc::Sender<(ConnectionId, Input)>,
        tasks: &mut JoinSet<()>,
    ) -> io::Result<Self> {
        let local = stream.local_addr().ok().map(local_end);
        let written = Written::default();
        let send_queue = SendQueue::new(&stream, Written::clone(&written))?;
        let (out, queue) = mpsc::channel(QUEUE);
        let (open, closed) = oneshot::channel();
        tasks.spawn(serve(id, stream, inputs, (queue, written), closed));
        Ok(Self {
            id,
            local,
            received: BytesMut::new(),
            out,
            send_queue,
            _open: open,
        })
    }

    /// Gives it other keys of TCP-AO, which are for all of `peers`.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub(super) fn change_keys(&self, peers: IpNet, old: &AoKeys, new: &AoKeys) -> io::Result<()> {
        tcp_ao::change_keys(self.send_queue.socket(), peers, old, new)
    }
}

/// The listening socket is of both families: an IPv4 address is mapped there.
fn local_end(address: SocketAddr) -> LocalEnd {
    let scope = match address {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(address) => address.scope_id(),
    };
    LocalEnd {
        address: address.ip().to_canonical(),
        interface: (scope != 0).then_some(scope),
    }
}

async fn serve(
    id: ConnectionId,
    stream: TcpStream,
    inputs: mpsc::Sender<(ConnectionId, Input)>,
    (queue, written): (mpsc::Receiver<Bytes>, Written),
    closed: oneshot::Receiver<Infallible>,
) {
    let (reader, writer) = stream.into_split();
    let lingered = async {
        let _ = closed.await;
        sleep(LINGER).await;
    };
    // Reading goes on after our FIN: closing with unread bytes makes the kernel send a reset, which
    // can overtake the NOTIFICATION.
    tokio::select! {
        () = lingered => {}
        _ = async { tokio::join!(read(id, reader, inputs), write(writer, queue, written)) } => {}
    }
}

async fn read(
    id: ConnectionId,
    mut reader: OwnedReadHalf,
    inputs: mpsc::Sender<(ConnectionId, Input)>,
) {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(READ);
        let input = match reader.read_buf(&mut buffer).await {
            Ok(0) => Input::Closed("closed by the peer".to_owned()),
            Ok(_) => Input::Bytes(buffer.split().freeze()),
            Err(error) => Input::Closed(error.to_string()),
        };
        let last = matches!(input, Input::Closed(_));
        // Nobody listens any more while the connection lingers.
        let _ = inputs.send((id, input)).await;
        if last {
            return;
        }
    }
}

async fn write(mut writer: OwnedWriteHalf, mut queue: mpsc::Receiver<Bytes>, written: Written) {
    while let Some(mut chunk) = queue.recv().await {
        while !chunk.is_empty() {
            match writer.write_buf(&mut chunk).await {
                Ok(bytes) => drop(written.fetch_add(bytes as u64, Ordering::Relaxed)),
                // The reader sees the same error and reports it.
                Err(_) => return,
            }
        }
    }
    let _ = writer.shutdown().await;
}

//! A BGP speaker that says what a test tells it to, and notes what it hears.
//!
//! It knows the message header (RFC 4271 §4.1) and how to open a session, and shares no code with
//! the agent: a mistake there is not repeated here.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    os::fd::AsRawFd as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{Host, eventually};

/// TCP port of BGP.
const PORT: u16 = 179;
/// Marker and length and type: RFC 4271 §4.1.
const HEADER: usize = 19;
/// Flag of a path attribute whose length has two octets (RFC 4271 §4.3).
const EXTENDED_LENGTH: u8 = 0x10;

/// A message as it was on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BgpMessage {
    /// Type octet.
    pub kind: u8,
    /// What follows the header.
    pub body: Vec<u8>,
}

impl BgpMessage {
    /// OPEN.
    pub const OPEN: u8 = 1;
    /// UPDATE.
    pub const UPDATE: u8 = 2;
    /// NOTIFICATION.
    pub const NOTIFICATION: u8 = 3;
    /// KEEPALIVE.
    pub const KEEPALIVE: u8 = 4;
    /// ROUTE-REFRESH (RFC 2918).
    pub const ROUTE_REFRESH: u8 = 5;

    /// Path attribute MP_REACH_NLRI.
    pub const MP_REACH_NLRI: u8 = 14;
    /// Path attribute MP_UNREACH_NLRI.
    pub const MP_UNREACH_NLRI: u8 = 15;

    /// A message with a correct header.
    pub fn new(kind: u8, body: &[u8]) -> Self {
        Self {
            kind,
            body: body.to_vec(),
        }
    }

    /// An UPDATE with path attributes and nothing else.
    pub fn update(attributes: &[u8]) -> Self {
        let length = u16::try_from(attributes.len())
            .unwrap_or(u16::MAX)
            .to_be_bytes();
        Self::new(Self::UPDATE, &[&[0, 0], &length[..], attributes].concat())
    }

    /// An OPEN with the capabilities that EVPN needs: multiprotocol 25/70 (RFC 7432 §6) and 4-octet
    /// AS numbers (RFC 6793).
    pub fn open(asn: u32, hold_time: u16, router_id: Ipv4Addr) -> Self {
        const AS_TRANS: u16 = 23456;
        let mut capabilities = vec![0x01, 4, 0, 25, 0, 70, 0x41, 4];
        capabilities.extend(asn.to_be_bytes());
        let mut body = vec![4];
        body.extend(u16::try_from(asn).unwrap_or(AS_TRANS).to_be_bytes());
        body.extend(hold_time.to_be_bytes());
        body.extend(router_id.octets());
        // Optional parameter 2: capabilities (RFC 5492 §4). 14 bytes of them.
        body.extend([14, 0x02, 12]);
        body.extend(capabilities);
        Self::new(Self::OPEN, &body)
    }

    /// An OPEN with one more capability, in a parameter of its own (RFC 5492 §4).
    #[must_use]
    pub fn with_capability(mut self, code: u8, value: &[u8]) -> Self {
        let length = u8::try_from(value.len()).unwrap_or(u8::MAX);
        let parameter = [&[2, length.saturating_add(2), code, length], value].concat();
        if let Some(total) = self.body.get_mut(9) {
            *total = total.saturating_add(length).saturating_add(4);
        }
        self.body.extend(parameter);
        self
    }

    /// A KEEPALIVE.
    pub fn keepalive() -> Self {
        Self::new(Self::KEEPALIVE, &[])
    }

    /// Code and subcode of a NOTIFICATION.
    pub fn notification(&self) -> Option<(u8, u8)> {
        match (self.kind, self.body.as_slice()) {
            (Self::NOTIFICATION, &[code, subcode, ..]) => Some((code, subcode)),
            _ => None,
        }
    }

    /// The NLRI in an UPDATE's [`Self::MP_REACH_NLRI`] or [`Self::MP_UNREACH_NLRI`] (RFC 4760 §3, §4)
    /// for L2VPN EVPN; none in an End-of-RIB.
    pub fn evpn_nlri(&self, code: u8) -> Option<&[u8]> {
        const EVPN: [u8; 3] = [0, 25, 70];
        let value = self.attribute(code)?.strip_prefix(&EVPN)?;
        match code {
            // Length and octets of the next hop, and an octet that is reserved.
            Self::MP_REACH_NLRI => value.get(usize::from(*value.first()?) + 2..),
            _ => Some(value),
        }
    }

    /// The value of a path attribute of an UPDATE.
    pub fn attribute(&self, code: u8) -> Option<&[u8]> {
        if self.kind != Self::UPDATE {
            return None;
        }
        let (withdrawn, rest) = self.body.split_first_chunk()?;
        let rest = rest.get(usize::from(u16::from_be_bytes(*withdrawn))..)?;
        let (length, rest) = rest.split_first_chunk()?;
        let mut attributes = rest.get(..usize::from(u16::from_be_bytes(*length)))?;
        loop {
            let (length, rest) = match *attributes {
                [flags, _, high, low, ref rest @ ..] if flags & EXTENDED_LENGTH != 0 => {
                    (usize::from(u16::from_be_bytes([high, low])), rest)
                }
                [_, _, length, ref rest @ ..] => (usize::from(length), rest),
                _ => return None,
            };
            let (value, others) = rest.split_at_checked(length)?;
            if attributes.get(1) == Some(&code) {
                return Some(value);
            }
            attributes = others;
        }
    }

    /// The message with its header.
    pub fn bytes(&self) -> Vec<u8> {
        let length = HEADER + self.body.len();
        let mut bytes = vec![0xff; 16];
        // Longer ones could not even be written down.
        bytes.extend(u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
        bytes.push(self.kind);
        bytes.extend(&self.body);
        bytes
    }
}

/// One TCP connection with a BGP speaker.
#[derive(Debug)]
pub struct ScriptedPeer {
    stream: TcpStream,
    buffer: Vec<u8>,
    received: Vec<BgpMessage>,
    closed: bool,
}

impl ScriptedPeer {
    /// Connects from a host's own address, as soon as the other side listens.
    ///
    /// # Errors
    ///
    /// When it does not.
    pub fn connect(from: &Host, to: Ipv4Addr) -> Result<Self> {
        let stream = from.ns().enter(|| {
            eventually(Duration::from_secs(15), || {
                Ok(TcpStream::connect(SocketAddrV4::new(to, PORT))?)
            })
        })?;
        Self::new(stream)
    }

    /// Waits on a host until somebody connects.
    ///
    /// # Errors
    ///
    /// When nobody does.
    pub fn accept(on: &Host) -> Result<Self> {
        let listener = on
            .ns()
            .enter(|| Ok(TcpListener::bind(SocketAddrV4::new(on.address(), PORT))?))?;
        listener.set_nonblocking(true)?;
        let (stream, _) = eventually(Duration::from_secs(30), || {
            listener.accept().context("nobody connects")
        })?;
        stream.set_nonblocking(false)?;
        Self::new(stream)
    }

    fn new(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::new(),
            received: Vec::new(),
            closed: false,
        })
    }

    /// Opens the session: OPEN and KEEPALIVE both ways. Returns the other side's OPEN.
    ///
    /// # Errors
    ///
    /// When the other side does something else.
    pub fn establish(&mut self, open: &BgpMessage) -> Result<BgpMessage> {
        self.send(open)?;
        let theirs = self.expect(BgpMessage::OPEN, Duration::from_secs(10))?;
        self.send(&BgpMessage::keepalive())?;
        self.expect(BgpMessage::KEEPALIVE, Duration::from_secs(10))?;
        Ok(theirs)
    }

    /// Sends a message.
    ///
    /// # Errors
    ///
    /// When the connection is gone.
    pub fn send(&mut self, message: &BgpMessage) -> Result<()> {
        self.send_raw(&message.bytes())
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    ///
    /// When the connection is gone.
    pub fn send_raw(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("cannot send")
    }

    /// The next message; `None` when the time is up or the connection closed first.
    ///
    /// # Errors
    ///
    /// When what comes is not BGP.
    pub fn receive(&mut self, timeout: Duration) -> Result<Option<BgpMessage>> {
        let end = Instant::now() + timeout;
        loop {
            if let Some(message) = self.take()? {
                self.received.push(message.clone());
                return Ok(Some(message));
            }
            let left = end.saturating_duration_since(Instant::now());
            if self.closed || left.is_zero() {
                return Ok(None);
            }
            self.read(left)?;
        }
    }

    /// The next message of a type; others before it are noted and passed over.
    ///
    /// # Errors
    ///
    /// When a NOTIFICATION comes instead, the connection closes or the time is up.
    pub fn expect(&mut self, kind: u8, timeout: Duration) -> Result<BgpMessage> {
        let end = Instant::now() + timeout;
        while let Some(message) = self.receive(end.saturating_duration_since(Instant::now()))? {
            if message.kind == kind {
                return Ok(message);
            }
            if let Some(notification) = message.notification() {
                bail!("NOTIFICATION {notification:?} instead of a message of type {kind}");
            }
        }
        bail!(
            "no message of type {kind} within {timeout:?}; got {:?}",
            self.received
        )
    }

    /// Reads until the other side closes the connection.
    ///
    /// # Errors
    ///
    /// When it doesn't.
    pub fn expect_close(&mut self, timeout: Duration) -> Result<()> {
        let end = Instant::now() + timeout;
        while !self.closed {
            let left = end.saturating_duration_since(Instant::now());
            ensure!(
                !left.is_zero(),
                "the connection is still open after {timeout:?}"
            );
            self.receive(left)?;
        }
        Ok(())
    }

    /// Resets the connection: what TCP does when the other side's process is gone.
    ///
    /// # Errors
    ///
    /// When the system does not let us.
    pub fn reset(self) -> Result<()> {
        let linger = libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        // SAFETY: the pointer and the length are those of a live linger structure.
        let result = unsafe {
            libc::setsockopt(
                self.stream.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_LINGER,
                (&raw const linger).cast(),
                size_of::<libc::linger>() as libc::socklen_t,
            )
        };
        ensure!(result == 0, io::Error::last_os_error());
        Ok(())
    }

    /// Everything received, in order.
    pub fn received(&self) -> &[BgpMessage] {
        &self.received
    }

    /// Whether the other side closed the connection.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Reads what there is, for at most some time.
    fn read(&mut self, timeout: Duration) -> Result<()> {
        let mut chunk = [0; 4096];
        self.stream.set_read_timeout(Some(timeout))?;
        match self.stream.read(&mut chunk) {
            Ok(0) => self.closed = true,
            Ok(length) => self.buffer.extend(chunk.iter().take(length)),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => self.closed = true,
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Takes a whole message off the buffer.
    fn take(&mut self) -> Result<Option<BgpMessage>> {
        let Some((header, _)) = self.buffer.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let [marker @ .., high, low, kind] = header;
        let (length, kind) = (usize::from(u16::from_be_bytes([*high, *low])), *kind);
        ensure!(marker == &[0xff; 16], "not a BGP message: {header:02x?}");
        ensure!(length >= HEADER, "a BGP message of {length} bytes");
        if self.buffer.len() < length {
            return Ok(None);
        }
        let message: Vec<u8> = self.buffer.drain(..length).collect();
        Ok(Some(BgpMessage {
            kind,
            body: message.into_iter().skip(HEADER).collect(),
        }))
    }
}

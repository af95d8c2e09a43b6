//! Another client of a route reflector, which only listens.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Result, ensure};

use crate::{BgpMessage, Host, ScriptedPeer};

/// A BGP session in which every UPDATE is noted: what others are told, and when it is taken back.
#[derive(Debug)]
pub struct Witness(ScriptedPeer);

impl Witness {
    /// Opens a session from a host.
    ///
    /// # Errors
    ///
    /// When the reflector refuses it.
    pub fn start(host: &Host, reflector: Ipv4Addr, asn: u32) -> Result<Self> {
        let mut peer = ScriptedPeer::connect(host, reflector)?;
        peer.establish(&BgpMessage::open(asn, 90, host.address()))?;
        Ok(Self(peer))
    }

    /// Messages with routes that it was told, and with routes that were withdrawn, so far: until nothing
    /// comes for a while. More often than its hold time of 90 s.
    ///
    /// # Errors
    ///
    /// When the session has ended.
    pub fn heard(&mut self) -> Result<[usize; 2]> {
        self.listen()?;
        let count = |code| {
            let updates = self.0.received().iter();
            updates
                .filter(|message| message.evpn_nlri(code).is_some_and(|nlri| !nlri.is_empty()))
                .count()
        };
        Ok([
            count(BgpMessage::MP_REACH_NLRI),
            count(BgpMessage::MP_UNREACH_NLRI),
        ])
    }

    /// Withdrawn NLRI whose RD is of type 1 (RFC 4364 §4.2) with this address, as bytes. As above.
    ///
    /// # Errors
    ///
    /// When the session has ended.
    pub fn withdrawn_by(&mut self, address: Ipv4Addr) -> Result<Vec<Vec<u8>>> {
        self.listen()?;
        let rd = [&[0, 1][..], &address.octets()].concat();
        let mut found = Vec::new();
        for message in self.0.received() {
            let mut rest = message
                .evpn_nlri(BgpMessage::MP_UNREACH_NLRI)
                .unwrap_or_default();
            // Type and length (RFC 7432 §7), then the RD.
            while let [_, length, more @ ..] = rest {
                let Some((route, after)) = more.split_at_checked((*length).into()) else {
                    break;
                };
                if route.starts_with(&rd) {
                    found.push(rest[..route.len() + 2].to_vec());
                }
                rest = after;
            }
        }
        Ok(found)
    }

    fn listen(&mut self) -> Result<()> {
        self.0.send(&BgpMessage::keepalive())?;
        while self.0.receive(Duration::from_secs(1))?.is_some() {}
        ensure!(!self.0.is_closed(), "the reflector closed the session");
        Ok(())
    }
}

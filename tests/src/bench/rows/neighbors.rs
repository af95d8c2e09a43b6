//! ARP and ND: who has an address.

use std::{
    net::Ipv6Addr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use etherparse::PacketBuilder;
use vtep_tests::{PacketSocket, Vm, parse_mac};

use super::{Effort, MICROSECOND, Times, Value, packets};
use crate::{
    rig::{FAR, FAR6, LOADER, NEAR, NEAR6, Rig, UNTOLD},
    sys,
};

const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;
/// How long a request may remain without an answer.
const PATIENCE: Duration = Duration::from_millis(500);

/// Latency of answers that the VTEP gives, and of those from the other side; and how many it can
/// give.
pub(super) fn measure(rig: &Rig, effort: &Effort) -> Result<Vec<Value>> {
    sys::pin(0, LOADER)?;
    let source = parse_mac(rig.near.mac())?;
    let (arp, nd) = (
        Question::arp(source, FAR.octets()),
        Question::nd(source, FAR6)?,
    );
    let untold = Question::arp(source, UNTOLD.octets());
    let mut values = Vec::new();
    for (question, names) in [
        (
            &arp,
            ["ARP answered locally, p50", "ARP answered locally, p99"],
        ),
        (
            &nd,
            ["ND answered locally, p50", "ND answered locally, p99"],
        ),
        (
            &untold,
            ["ARP over the overlay, p50", "ARP over the overlay, p99"],
        ),
    ] {
        let times = question.ask(rig, effort.requests)?;
        for (name, share) in names.into_iter().zip([0.5, 0.99]) {
            values.push(Value::less(name, "us", times.quantile(share, MICROSECOND)));
        }
    }
    for (question, name) in [(&arp, "ARP answers"), (&nd, "ND answers")] {
        let rate = packets::answers(rig, effort, &question.request)?;
        values.push(Value::more(name, "M/s/core", rate / 1e6));
    }
    Ok(values)
}

/// A request, and how its answer is known.
struct Question {
    ethertype: u16,
    request: Vec<u8>,
    /// Offsets and what is there in an answer.
    answer: Vec<(usize, Vec<u8>)>,
}

impl Question {
    /// A broadcast request (RFC 826) from the near VM.
    fn arp(source: [u8; 6], target: [u8; 4]) -> Self {
        let arp = [0, 1, 0x08, 0, 6, 4, 0, 1];
        let mut request = [&[0xff; 6][..], &source, &ARP.to_be_bytes(), &arp, &source].concat();
        request.extend(NEAR.octets());
        request.extend([0; 6]);
        request.extend(target);
        request.resize(60, 0);
        Self {
            ethertype: ARP,
            request,
            // The operation, and the sender's address.
            answer: vec![(20, vec![0, 2]), (28, target.to_vec())],
        }
    }

    /// A solicitation (RFC 4861 §4.3) from the near VM to the solicited-node group of the target.
    fn nd(source: [u8; 6], target: Ipv6Addr) -> Result<Self> {
        let target = target.octets();
        let [.., a, b, c] = target;
        let group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c];
        let builder = PacketBuilder::ethernet2(source, [0x33, 0x33, 0xff, a, b, c])
            .ipv6(NEAR6.octets(), group, 255)
            .icmpv6_raw(135, 0, [0; 4]);
        // The target, and the source link-layer address.
        let payload = [&target[..], &[1, 1], &source].concat();
        let mut request = Vec::with_capacity(builder.size(payload.len()));
        builder.write(&mut request, &payload)?;
        Ok(Self {
            ethertype: IPV6,
            request,
            // The type, and the target.
            answer: vec![(54, vec![136]), (62, target.to_vec())],
        })
    }

    /// Times from request to answer, one after the other.
    fn ask(&self, rig: &Rig, requests: usize) -> Result<Times> {
        let socket = PacketSocket::receiving(rig.near.ns(), Vm::NIC, self.ethertype)?;
        let mut buffer = [0; 128];
        let mut times = Vec::with_capacity(requests);
        for _ in 0..requests {
            let start = Instant::now();
            socket.send(&self.request)?;
            loop {
                let length = socket
                    .receive(&mut buffer, start + PATIENCE)?
                    .with_context(|| format!("no answer: {:?}", self.answer))?;
                if self.is_answered(buffer.get(..length).unwrap_or_default()) {
                    break;
                }
            }
            times.push(start.elapsed());
        }
        Ok(Times::new(times))
    }

    fn is_answered(&self, frame: &[u8]) -> bool {
        self.answer.iter().all(|(offset, bytes)| {
            frame
                .get(*offset..)
                .is_some_and(|rest| rest.starts_with(bytes))
        })
    }
}

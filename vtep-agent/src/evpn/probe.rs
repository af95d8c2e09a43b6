//! Asking VMs whether they are still there.
//!
//! A learned address is confirmed by its owner within the ageing time, or given up (RFC 9161 §3.5): a
//! VM that has nothing to say stays known as long as it answers, and its MAC with it, since an answer
//! is a frame as any other. Questions go out of one port only, never to the overlay: first to the
//! VM's own MAC, at last to all.

mod frame;

use std::{
    collections::BTreeSet,
    net::IpAddr,
    time::{Duration, Instant},
};

use super::Slot;
use crate::types::{Mac, hash::HashMap};

/// Questions to an address before it counts as silent. The last one is a broadcast or multicast.
pub const QUESTIONS: u8 = 3;

/// Time to answer one.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// Most addresses of one MAC that are asked for when it moves.
pub(super) const MOST: usize = 64;

/// One frame to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// The port.
    pub slot: Slot,
    /// Who should have the address.
    pub mac: Mac,
    /// The address.
    pub ip: IpAddr,
    /// To everybody behind the port, not to the MAC alone.
    pub broadcast: bool,
}

/// What was asked since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProbeCounts {
    /// Frames.
    pub sent: u64,
    /// Addresses whose owner answered.
    pub answered: u64,
    /// Addresses whose owner did not.
    pub silent: u64,
}

/// An address that needs attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Its owner has to confirm it.
    Confirm(Mac, IpAddr),
    /// Its owner did not answer.
    Silent(Mac, IpAddr),
}

/// The addresses of one bridge domain that are asked for, now or later.
#[derive(Debug, Default)]
pub(super) struct Probes {
    entries: HashMap<(Mac, IpAddr), Probe>,
    due: BTreeSet<(Instant, Mac, IpAddr)>,
    questions: Vec<Question>,
    counts: ProbeCounts,
}

#[derive(Clone, Copy, Debug)]
struct Probe {
    at: Instant,
    /// Where the owner is asked, and how often it was; `None` until it is time to.
    asking: Option<(Slot, u8)>,
}

impl Probes {
    /// The owner showed that it has the address; it is asked again before `ageing` is over.
    pub(super) fn confirmed(
        &mut self,
        mac: Mac,
        ip: IpAddr,
        ageing: Option<Duration>,
        now: Instant,
    ) {
        if self.forget(mac, ip) {
            self.counts.answered += 1;
        }
        if let Some(ageing) = ageing {
            let at = now + confirm_after(ageing, ip);
            self.set(mac, ip, Probe { at, asking: None });
        }
    }

    /// Asks the owner now, behind a port. Whom we are asking there already is not asked anew.
    pub(super) fn ask(&mut self, mac: Mac, ip: IpAddr, slot: Slot, now: Instant) {
        let known = self.entries.get(&(mac, ip));
        if known.is_some_and(|probe| probe.asking.is_some_and(|(at, _)| at == slot)) {
            return;
        }
        self.question(mac, ip, slot, 0, now);
    }

    /// The address is not that MAC's any more, or nobody cares. Whether it was being asked for.
    pub(super) fn forget(&mut self, mac: Mac, ip: IpAddr) -> bool {
        let Some(probe) = self.entries.remove(&(mac, ip)) else {
            return false;
        };
        self.due.remove(&(probe.at, mac, ip));
        probe.asking.is_some()
    }

    /// Asks again those who have not answered yet, and takes what needs attention.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Due> {
        let mut due = Vec::new();
        while let Some((at, mac, ip)) = self.due.first().copied()
            && at <= now
        {
            self.due.pop_first();
            match self
                .entries
                .remove(&(mac, ip))
                .and_then(|probe| probe.asking)
            {
                None => due.push(Due::Confirm(mac, ip)),
                Some((slot, times)) if times < QUESTIONS => {
                    self.question(mac, ip, slot, times, now);
                }
                Some(_) => {
                    self.counts.silent += 1;
                    due.push(Due::Silent(mac, ip));
                }
            }
        }
        due
    }

    /// Frames to be sent.
    pub(super) fn take_questions(&mut self) -> Vec<Question> {
        std::mem::take(&mut self.questions)
    }

    /// When [`Probes::take_due`] has something to do.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(at, ..)| *at)
    }

    /// What was asked since the start.
    pub(super) fn counts(&self) -> ProbeCounts {
        self.counts
    }

    fn question(&mut self, mac: Mac, ip: IpAddr, slot: Slot, before: u8, now: Instant) {
        let times = before + 1;
        self.questions.push(Question {
            slot,
            mac,
            ip,
            broadcast: times == QUESTIONS,
        });
        self.counts.sent += 1;
        let probe = Probe {
            at: now + PATIENCE,
            asking: Some((slot, times)),
        };
        self.set(mac, ip, probe);
    }

    fn set(&mut self, mac: Mac, ip: IpAddr, probe: Probe) {
        if let Some(old) = self.entries.insert((mac, ip), probe) {
            self.due.remove(&(old.at, mac, ip));
        }
        self.due.insert((probe.at, mac, ip));
    }
}

/// How long after its last sign of life an address is asked for: between 5/8 and 6/8 of the ageing
/// time, by its last bits, so that addresses that were learned together are not asked for together,
/// and the answer comes before the MAC ages.
fn confirm_after(ageing: Duration, ip: IpAddr) -> Duration {
    let last = match ip {
        IpAddr::V4(ip) => ip.octets()[3],
        IpAddr::V6(ip) => ip.octets()[15],
    };
    let eighth = ageing / 8;
    (eighth * 5 + eighth * u32::from(last) / 256).max(PATIENCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOT: Slot = Slot(7);

    fn mac() -> Mac {
        Mac([2, 0, 0, 0, 0, 1])
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn two_to_the_owner_one_to_all() {
        let start = Instant::now();
        let mut probes = Probes::default();
        probes.ask(mac(), ip("10.0.0.1"), SLOT, start);
        probes.ask(mac(), ip("10.0.0.1"), SLOT, start);
        let mut broadcasts = Vec::new();
        for n in 1..=QUESTIONS {
            broadcasts.extend(probes.take_questions().iter().map(|q| q.broadcast));
            let silent = probes.take_due(start + PATIENCE * n.into());
            assert_eq!(silent.len(), usize::from(n == QUESTIONS));
        }
        assert_eq!(broadcasts, [false, false, true]);
        assert_eq!(probes.next_due(), None);
        let counts = probes.counts();
        assert_eq!((counts.sent, counts.answered, counts.silent), (3, 0, 1));
    }

    #[test]
    fn an_answer_ends_it_until_the_next_time() {
        let start = Instant::now();
        let ageing = Duration::from_secs(300);
        let mut probes = Probes::default();
        probes.ask(mac(), ip("10.0.0.1"), SLOT, start);
        probes.confirmed(mac(), ip("10.0.0.1"), Some(ageing), start);
        assert_eq!(probes.counts().answered, 1);
        let next = probes.next_due().unwrap() - start;
        assert!(next >= ageing * 5 / 8 && next < ageing * 6 / 8, "{next:?}");
        let due = probes.take_due(start + ageing);
        assert_eq!(due, [Due::Confirm(mac(), ip("10.0.0.1"))]);
        probes.confirmed(mac(), ip("10.0.0.1"), None, start);
        assert_eq!(probes.next_due(), None);
    }

    #[test]
    fn not_all_at_once() {
        let ageing = Duration::from_secs(300);
        let times: BTreeSet<_> = (0..=255)
            .map(|last| confirm_after(ageing, IpAddr::from([10, 0, 0, last])))
            .collect();
        assert_eq!(times.len(), 256);
    }
}

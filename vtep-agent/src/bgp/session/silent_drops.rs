//! Segments that TCP drops because of their signature (RFC 2385, RFC 5925) or their TTL (RFC 5082). TCP
//! says nothing to anybody: the connection times out, and a counter of the host rises. It is the only
//! hint at a key that is wrong, or at a peer that is further away than it may be.

use std::{fs, io};

use tokio::sync::watch;

use crate::config::Authentication;

/// The counters of this thread's network namespace.
const NETSTAT: &str = "/proc/thread-self/net/netstat";

/// How many segments the host dropped, whoever they were from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SilentDrops {
    /// Signed with another key than ours.
    pub wrong: u64,
    /// Not signed, where we have a key.
    pub missing: u64,
    /// Signed, where we have no key, or none with this id.
    pub unexpected: u64,
    /// From further away than `ttl_security` allows.
    pub too_far: u64,
}

/// What we demand of a peer's segments.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demands {
    /// A signature of this kind.
    pub(super) signing: Signing,
    /// A TTL of so many hops at most.
    pub(super) ttl: bool,
}

impl SilentDrops {
    /// Those for their signature: name, as metrics have it, and count.
    pub fn signatures(self) -> impl Iterator<Item = (&'static str, u64)> {
        [
            ("wrong", self.wrong),
            ("missing", self.missing),
            ("unexpected", self.unexpected),
        ]
        .into_iter()
    }

    /// The host's counters.
    ///
    /// # Errors
    ///
    /// There is no `/proc`.
    pub(super) fn read() -> io::Result<Self> {
        fs::read_to_string(NETSTAT).map(|text| Self::parse(&text))
    }

    /// Pairs of lines: names, then values. A kernel may lack some.
    fn parse(text: &str) -> Self {
        let mut drops = Self::default();
        let mut lines = text.lines();
        while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
            for (name, value) in names.split_whitespace().zip(values.split_whitespace()) {
                let counter = match name {
                    "TCPMD5Failure" | "TCPAOBad" => &mut drops.wrong,
                    "TCPMD5NotFound" | "TCPAORequired" => &mut drops.missing,
                    "TCPMD5Unexpected" | "TCPAOKeyNotFound" => &mut drops.unexpected,
                    "TCPMinTTLDrop" => &mut drops.too_far,
                    _ => continue,
                };
                *counter += value.parse().unwrap_or(0);
            }
        }
        drops
    }

    fn since(self, before: Self) -> Self {
        Self {
            wrong: self.wrong.saturating_sub(before.wrong),
            missing: self.missing.saturating_sub(before.missing),
            unexpected: self.unexpected.saturating_sub(before.unexpected),
            too_far: self.too_far.saturating_sub(before.too_far),
        }
    }

    /// What they may mean for a peer of which we demand this.
    fn hint(self, demands: Demands) -> Option<String> {
        let signed = demands.signing != Signing::None;
        let (count, what, advice) = match self {
            Self {
                wrong: count @ 1.., ..
            } if signed => (count, "with a wrong signature", "the keys may differ"),
            Self {
                missing: count @ 1..,
                ..
            } if signed => (count, "without a signature", "the peer may have no key"),
            Self {
                unexpected: count @ 1..,
                ..
            } if !signed => (count, "with a signature", "the peer may want a key"),
            Self {
                unexpected: count @ 1..,
                ..
            } if demands.signing == Signing::Ao => {
                (count, "with a key id unknown here", "the ids may differ")
            }
            Self {
                too_far: count @ 1..,
                ..
            } if demands.ttl => (
                count,
                "with a TTL that is too low",
                "the peer may be without `ttl_security`, or further away",
            ),
            _ => return None,
        };
        Some(format!(
            "this host dropped {count} TCP segments {what} meanwhile, {advice}"
        ))
    }
}

/// Compares the counters while a peer is not up.
#[derive(Debug)]
pub(super) struct Suspicion {
    counters: watch::Receiver<SilentDrops>,
    before: SilentDrops,
    demands: Demands,
}

/// How we sign what we send to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signing {
    None,
    Md5,
    Ao,
}

impl From<Option<&Authentication>> for Signing {
    fn from(how: Option<&Authentication>) -> Self {
        match how {
            None => Self::None,
            Some(Authentication::Md5(_)) => Self::Md5,
            Some(Authentication::Ao(_)) => Self::Ao,
        }
    }
}

impl Suspicion {
    /// From now on.
    pub(super) fn new(counters: &watch::Sender<SilentDrops>, demands: Demands) -> Self {
        let counters = counters.subscribe();
        let before = *counters.borrow();
        Self {
            counters,
            before,
            demands,
        }
    }

    /// What was before does not count any more.
    pub(super) fn restart(&mut self) {
        self.before = *self.counters.borrow_and_update();
    }

    /// Until the counters have changed. Cancel-safe.
    pub(super) async fn changed(&mut self) {
        if self.counters.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// What the counters may mean for the peer.
    pub(super) fn hint(&self) -> Option<String> {
        let now = *self.counters.borrow();
        now.since(self.before).hint(self.demands)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_the_host() {
        let text = "TcpExt: SyncookiesSent TCPMD5NotFound TCPMD5Unexpected TCPMD5Failure TCPAOBad \
                    TCPMinTTLDrop\nTcpExt: 1 2 3 4 5 6\n\
                    IpExt: InNoRoutes\nIpExt: 7\nTcpExt: half\n";
        let read = SilentDrops::parse(text);
        let expected = SilentDrops {
            wrong: 9,
            missing: 2,
            unexpected: 3,
            too_far: 6,
        };
        assert_eq!(read, expected);
        assert_eq!(SilentDrops::parse("nonsense"), SilentDrops::default());
        assert!(SilentDrops::read().is_ok());
    }

    /// What is suspected depends on what we demand.
    #[test]
    fn hints() {
        let some = |wrong, missing, unexpected, too_far| SilentDrops {
            wrong,
            missing,
            unexpected,
            too_far,
        };
        let demands = |signing, ttl| Demands { signing, ttl };
        let (signed, unsigned) = (demands(Signing::Md5, false), demands(Signing::None, false));
        let says = |drops: SilentDrops, demands, text| {
            let hint = drops.hint(demands).unwrap();
            assert!(hint.contains(text), "{hint}");
        };
        says(some(2, 1, 0, 0), signed, "2 TCP segments with a wrong sign");
        says(some(0, 1, 0, 0), signed, "without a signature");
        says(
            some(5, 5, 1, 0),
            unsigned,
            "1 TCP segments with a signature",
        );
        says(
            some(9, 9, 0, 3),
            demands(Signing::None, true),
            "3 TCP segments with a TTL",
        );
        says(
            some(9, 0, 0, 3),
            demands(Signing::Md5, true),
            "9 TCP segments with a wrong",
        );
        let ao = demands(Signing::Ao, false);
        says(some(0, 1, 0, 0), ao, "without a signature");
        says(some(0, 0, 3, 0), ao, "3 TCP segments with a key id unknown");
        assert_eq!(some(0, 0, 9, 9).hint(signed), None);
        assert_eq!(some(9, 9, 0, 9).hint(unsigned), None);
        assert_eq!(some(4, 4, 4, 4).since(some(4, 5, 3, 2)), some(0, 0, 1, 2));
    }
}

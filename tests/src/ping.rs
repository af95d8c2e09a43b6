//! Echo requests.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, Result, ensure};

use crate::{Daemon, Lab, Namespace, eventually, programs};

/// How long [`Ping::until_answered`] tries, and [`Ping::start`] waits.
const PATIENCE: Duration = Duration::from_secs(15);

/// Echo requests to one address, IPv4 or IPv6.
#[derive(Clone, Debug)]
pub struct Ping {
    target: String,
    count: u32,
    size: u32,
    dont_fragment: bool,
}

/// Echo requests that go on until they are stopped.
#[derive(Debug)]
pub struct Pinging {
    daemon: Daemon,
    target: String,
}

/// What became of echo requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pings {
    /// Requests.
    pub sent: u32,
    /// Answers.
    pub received: u32,
    /// Answers to requests that were answered before.
    pub duplicates: u32,
}

impl Ping {
    /// Ten requests of 56 bytes, 50 ms apart.
    pub fn to(target: &str) -> Self {
        Self {
            target: target.to_owned(),
            count: 10,
            size: 56,
            dont_fragment: false,
        }
    }

    /// Number of requests.
    #[must_use]
    pub fn count(self, count: u32) -> Self {
        Self { count, ..self }
    }

    /// Payload of a request, bytes; 1472 fills an IPv4 packet of 1500.
    #[must_use]
    pub fn size(self, size: u32) -> Self {
        Self { size, ..self }
    }

    /// Never fragments, not even at the sender.
    #[must_use]
    pub fn dont_fragment(self) -> Self {
        Self {
            dont_fragment: true,
            ..self
        }
    }

    /// Sends requests from a namespace, at an interval of whole milliseconds, until it is told to stop.
    /// The first has been answered when this returns: ping looks for a route once, when it begins, and
    /// ends when it has none.
    ///
    /// # Errors
    ///
    /// When ping cannot be run, or there is no answer.
    pub fn start(&self, lab: &Lab, from: &Namespace, interval: Duration) -> Result<Pinging> {
        let mut command = from.command(programs::find("ping")?);
        let seconds = format!("{:.3}", interval.as_secs_f64());
        command.args(["-n", "-W", "1", "-i", &seconds]);
        command.args(["-s", &self.size.to_string(), &self.target]);
        let name = format!("ping-{}-{}", from.name(), lab.serial());
        let mut daemon = Daemon::spawn(lab, &name, command)?;
        daemon.wait_for_log("icmp_seq=", PATIENCE)?;
        Ok(Pinging {
            daemon,
            target: self.target.clone(),
        })
    }

    /// Sends the requests from a namespace and waits a second for the last answer.
    ///
    /// # Errors
    ///
    /// When the requests could not even be sent (no route, or larger than the MTU).
    pub fn run(&self, from: &Namespace) -> Result<Pings> {
        let mut command = from.command(programs::find("ping")?);
        command.args(["-n", "-q", "-i", "0.05", "-W", "1"]).args([
            "-c",
            &self.count.to_string(),
            "-s",
            &self.size.to_string(),
        ]);
        if self.dont_fragment {
            command.args(["-M", "do"]);
        }
        let output = command
            .arg(&self.target)
            .output()
            .context("cannot run ping")?;
        let text = String::from_utf8_lossy(&output.stdout);
        Pings::parse(&text).with_context(|| {
            let stderr = String::from_utf8_lossy(&output.stderr);
            format!("ping {} said: {text}{stderr}", self.target)
        })
    }

    /// Fails unless every request is answered exactly once.
    ///
    /// # Errors
    ///
    /// When one is not.
    pub fn all_answered(&self, from: &Namespace) -> Result<()> {
        let pings = self.run(from)?;
        ensure!(
            pings.received == pings.sent && pings.duplicates == 0,
            "ping {} from {}: {pings:?}",
            self.target,
            from.name()
        );
        Ok(())
    }

    /// Sends single requests until one is answered: the paths, MACs and neighbours are known then.
    ///
    /// # Errors
    ///
    /// When none is.
    pub fn until_answered(&self, from: &Namespace) -> Result<()> {
        let one = self.clone().count(1);
        eventually(PATIENCE, || one.all_answered(from))
    }

    /// Fails if any request is answered.
    ///
    /// # Errors
    ///
    /// When one is.
    pub fn never_answered(&self, from: &Namespace) -> Result<()> {
        let pings = self.run(from)?;
        ensure!(
            pings.received == 0,
            "{} answered {}: {pings:?}",
            self.target,
            from.name()
        );
        Ok(())
    }
}

impl Pinging {
    /// Ends it. Every request before the last one that was answered counts.
    ///
    /// # Errors
    ///
    /// When it has ended by itself.
    pub fn stop(mut self) -> Result<Pings> {
        self.daemon.check()?;
        self.daemon.signal(libc::SIGINT)?;
        self.daemon.wait(Duration::from_secs(10))?;
        let log = self.daemon.log();
        let numbers = log.lines().filter_map(|line| {
            let (_, rest) = line.split_once("icmp_seq=")?;
            rest.split_whitespace().next()?.parse::<u32>().ok()
        });
        let (mut answered, mut duplicates) = (BTreeSet::new(), 0);
        let mut turns = 0;
        let mut last = 0;
        for number in numbers {
            // The number has 16 bits on the wire.
            if number + 0x8000 < last {
                turns += 1;
            }
            last = number;
            duplicates += u32::from(!answered.insert(turns * 0x1_0000 + number));
        }
        let sent = answered.last().copied().unwrap_or(0);
        Ok(Pings {
            sent,
            received: u32::try_from(answered.len())?,
            duplicates,
        })
    }

    /// Ends it, and fails unless every request was answered exactly once.
    ///
    /// # Errors
    ///
    /// When one was not.
    pub fn all_answered(self) -> Result<Pings> {
        let target = self.target.clone();
        let pings = self.stop()?;
        ensure!(
            pings.received == pings.sent && pings.duplicates == 0 && pings.sent > 0,
            "ping {target}: {pings:?}"
        );
        Ok(pings)
    }
}

impl Pings {
    /// Reads `5 packets transmitted, 4 received, +1 duplicates, 20% packet loss, time 200ms`.
    fn parse(text: &str) -> Option<Self> {
        let summary = text
            .lines()
            .find(|line| line.contains("packets transmitted"))?;
        let number = |label: &str| {
            summary
                .split(", ")
                .find(|part| part.contains(label))?
                .split_whitespace()
                .next()?
                .trim_start_matches('+')
                .parse()
                .ok()
        };
        Some(Self {
            sent: number("transmitted")?,
            received: number("received")?,
            duplicates: number("duplicates").unwrap_or(0),
        })
    }
}

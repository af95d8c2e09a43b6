//! Streams of TCP and UDP.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{Daemon, Lab, Namespace, programs};

/// A measurement with iperf3.
#[derive(Clone, Debug)]
pub struct Iperf {
    seconds: u32,
    udp: Option<String>,
    flows: u32,
    reverse: bool,
    processors: Option<(usize, usize)>,
}

/// What came through.
#[derive(Clone, Copy, Debug)]
pub struct IperfResult {
    /// Bits of payload per second at the receiver.
    pub bits_per_second: f64,
    /// TCP segments sent again; 0 for UDP.
    pub retransmits: u64,
    /// UDP datagrams lost, as a share of those sent (0 to 1); 0 for TCP.
    pub loss: f64,
}

impl Iperf {
    /// TCP, as fast as it goes.
    pub fn tcp(seconds: u32) -> Self {
        Self {
            seconds,
            udp: None,
            flows: 1,
            reverse: false,
            processors: None,
        }
    }

    /// UDP at a bit rate, for example `50M`.
    pub fn udp(seconds: u32, rate: &str) -> Self {
        Self {
            udp: Some(rate.to_owned()),
            ..Self::tcp(seconds)
        }
    }

    /// So many connections at once.
    #[must_use]
    pub fn flows(self, flows: u32) -> Self {
        Self { flows, ..self }
    }

    /// From the server to the client.
    #[must_use]
    pub fn reverse(self) -> Self {
        Self {
            reverse: true,
            ..self
        }
    }

    /// With the client on one processor and the server on another.
    #[must_use]
    pub fn processors(self, client: usize, server: usize) -> Self {
        Self {
            processors: Some((client, server)),
            ..self
        }
    }

    /// Starts a TCP stream of 20 Mbit/s in each direction at once, for a number of seconds.
    ///
    /// # Errors
    ///
    /// When iperf3 cannot be run.
    pub fn both_ways(
        seconds: u32,
        lab: &Lab,
        client: &Namespace,
        server: &Namespace,
        address: &str,
    ) -> Result<IperfStream> {
        let iperf3 = programs::find("iperf3")?;
        let serial = lab.serial();
        let mut command = server.command(&iperf3);
        command.args(["--server", "--one-off", "--forceflush", "--bind", address]);
        let name = format!("iperf3-{}-{serial}", server.name());
        let mut server = Daemon::spawn(lab, &name, command)?;
        server.wait_for_log("listening", Duration::from_secs(20))?;
        let mut command = client.command(&iperf3);
        command
            .args(["--json", "--bidir", "--connect-timeout", "20000"])
            // Far from what makes queues overflow, which is a loss of its own.
            .args(["--bitrate", "20M"])
            .args(["--time", &seconds.to_string(), "--client", address]);
        let name = format!("iperf3-{}-{serial}", client.name());
        Ok(IperfStream {
            seconds,
            client: Daemon::spawn(lab, &name, command)?,
            _server: server,
        })
    }

    /// Runs a server on `address` in one namespace and a client in another.
    ///
    /// # Errors
    ///
    /// When the two cannot talk.
    pub fn run(
        &self,
        lab: &Lab,
        client: &Namespace,
        server: &Namespace,
        address: &str,
    ) -> Result<IperfResult> {
        let iperf3 = programs::find("iperf3")?;
        let mut command = server.command(&iperf3);
        command.args(["--server", "--one-off", "--forceflush", "--bind", address]);
        // A log of its own for each run: an earlier server's "listening" must not be mistaken.
        let name = format!("iperf3-{}-{}", server.name(), lab.serial());
        let mut server = Daemon::spawn(lab, &name, command)?;
        server.wait_for_log("listening", Duration::from_secs(5))?;

        let mut command = client.command(&iperf3);
        command
            .args(["--json", "--connect-timeout", "5000", "--client", address])
            .args(["--time", &self.seconds.to_string()])
            .args(["--parallel", &self.flows.to_string()]);
        if let Some(rate) = &self.udp {
            // Datagrams that fit into the smallest MTU in use here.
            command.args(["--udp", "--length", "1200", "--bitrate", rate]);
        }
        if let Some((client, server)) = self.processors {
            command.args(["--affinity", &format!("{client},{server}")]);
        }
        if self.reverse {
            command.arg("--reverse");
        }
        let output = command.output().context("cannot run iperf3")?;
        let report: Value = serde_json::from_slice(&output.stdout).with_context(|| {
            let stderr = String::from_utf8_lossy(&output.stderr);
            format!("iperf3 to {address} printed no report: {stderr}")
        })?;
        ensure!(
            report["error"].is_null(),
            "iperf3 to {address}: {}",
            report["error"]
        );
        IperfResult::read(&report["end"]).context("iperf3 printed another report than expected")
    }
}

/// Streams that are running.
#[derive(Debug)]
pub struct IperfStream {
    seconds: u32,
    client: Daemon,
    _server: Daemon,
}

impl IperfStream {
    /// Whether it still runs.
    ///
    /// # Errors
    ///
    /// When the process cannot be waited for.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.client.exit_status()?.is_none())
    }

    /// Ends it before its time. What came through, towards the server and back.
    ///
    /// # Errors
    ///
    /// When the streams broke.
    pub fn stop(mut self) -> Result<[IperfResult; 2]> {
        self.client.check()?;
        self.client.signal(libc::SIGINT)?;
        self.finish()
    }

    /// Waits for its end. What came through, towards the server and back.
    ///
    /// # Errors
    ///
    /// When the streams broke.
    pub fn finish(mut self) -> Result<[IperfResult; 2]> {
        let patience = Duration::from_secs(u64::from(self.seconds) + 60);
        let status = self.client.wait(patience)?;
        let log = self.client.log();
        let report: Value = serde_json::from_str(&log)
            .with_context(|| format!("iperf3 ({status:?}) printed no report: {log}"))?;
        let error = report["error"].as_str().unwrap_or_default();
        let stopped = error.starts_with("interrupt - the client has terminated");
        ensure!(error.is_empty() || stopped, "iperf3: {error}");
        let end = &report["end"];
        let read = |suffix: &str| {
            let (sent, received) = (format!("sum_sent{suffix}"), format!("sum_received{suffix}"));
            let rate = |sum: &str| end[sum]["bits_per_second"].as_f64();
            Some(IperfResult {
                // The other end says what it received when the time is over, not before.
                bits_per_second: rate(&received).filter(|rate| *rate > 0.0).or(rate(&sent))?,
                retransmits: end[sent]["retransmits"].as_u64().unwrap_or(0),
                loss: 0.0,
            })
        };
        let results = read("").zip(read("_bidir_reverse"));
        let (there, back) = results.context("iperf3 printed another report than expected")?;
        Ok([there, back])
    }
}

impl IperfResult {
    fn read(end: &Value) -> Option<Self> {
        let received = if end["sum_received"].is_object() {
            &end["sum_received"]
        } else {
            &end["sum"]
        };
        Some(Self {
            bits_per_second: received["bits_per_second"].as_f64()?,
            retransmits: end["sum_sent"]["retransmits"].as_u64().unwrap_or(0),
            loss: end["sum"]["lost_percent"].as_f64().unwrap_or(0.0) / 100.0,
        })
    }
}

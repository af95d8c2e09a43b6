//! Two agents behind a reflector, what can happen to them, and what it costs.

use std::{
    fs,
    io::Write as _,
    os::unix::net::UnixStream,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use vtep_tests::{
    Agent, AgentConfig, GoBgpOptions, Host, Lab, PacketSocket, Pair, Ping, RouteReflector, Vm,
    VmSpec, eventually,
};

/// A loaded machine needs time.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two echo requests.
const INTERVAL: Duration = Duration::from_millis(10);
/// Room in the second agent's tables.
const MAX_MACS: u32 = 32;
/// How long the uplink is down.
const FLAP: Duration = Duration::from_secs(1);

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The agent is killed, and started again.
    AgentKilled,
    /// The agent is stopped with `on_stop = "keep"`, and started again.
    AgentRestarted,
    /// The other VTEP's agent is killed, and started again.
    PeerKilled,
    /// The reflector is killed, and started again.
    ReflectorRestarted,
    /// The only uplink goes down, and up.
    UplinkFlapped,
    /// The VM's port is deleted, and made again.
    PortDeleted,
    /// The peer's table of MACs becomes full, and has room again.
    MapFull,
    /// More MACs appear than the ring buffer holds while the agent stands still.
    RingOverrun,
    /// More happens to routes and links than netlink keeps while the agent stands still.
    NetlinkOverrun,
    /// Hundreds of clients of the control socket.
    SocketFlood,
}

impl Fault {
    pub(crate) const ALL: [Self; 10] = [
        Self::AgentKilled,
        Self::AgentRestarted,
        Self::PeerKilled,
        Self::ReflectorRestarted,
        Self::UplinkFlapped,
        Self::PortDeleted,
        Self::MapFull,
        Self::RingOverrun,
        Self::NetlinkOverrun,
        Self::SocketFlood,
    ];

    /// Frames cannot get through while it lasts, whoever forwards them.
    fn cuts(self) -> bool {
        matches!(
            self,
            Self::UplinkFlapped | Self::PortDeleted | Self::NetlinkOverrun
        )
    }
}

/// What a fault did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// From its beginning until what had broken was there again.
    pub(crate) lasted: Duration,
    /// From then until all was as before: sessions, tables, readiness, traffic.
    pub(crate) whole_after: Duration,
    /// Echo requests without an answer, 10 ms apart, in both directions.
    pub(crate) lost: u32,
    /// Echo requests.
    pub(crate) sent: u32,
}

/// What an agent holds of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holdings {
    descriptors: usize,
    pins: usize,
    resident: u64,
}

pub(crate) struct Rig {
    reflector: RouteReflector,
    agents: [Agent; 2],
    vms: [Vm; 2],
    hosts: [Host; 2],
    configs: [AgentConfig; 2],
    lab: Lab,
}

impl Rig {
    pub(crate) fn start(name: &str) -> Result<Self> {
        let lab = Lab::new(name)?;
        let underlay = lab.underlay()?;
        let hosts = [underlay.host("h1")?, underlay.host("h2")?];
        let rr = underlay.host("rr")?;
        let vms = [
            hosts[0].vm("vm1", &VmSpec::new(1))?,
            hosts[1].vm("vm2", &VmSpec::new(2))?,
        ];
        let options = GoBgpOptions {
            graceful_restart: true,
            ..GoBgpOptions::default()
        };
        let clients = [hosts[0].address(), hosts[1].address()];
        let reflector = RouteReflector::start_with(&rr, Pair::ASN, &clients, options)?;
        let config = |host: &Host, max_macs: u32| {
            let blue = "ports = [\"vnet-*\"]\nlearn_rate = 0\nmax_macs_per_port = 16\nageing = 20";
            AgentConfig::new(host, Pair::ASN)
                .bgp("arp_nd_flags = false")
                .peer(rr.address(), Pair::ASN)
                .bd_with("blue", 100, blue)
                .vtep("on_stop = \"keep\"")
                .vtep(&format!("max_macs = {max_macs}"))
        };
        let configs = [config(&hosts[0], 1024), config(&hosts[1], MAX_MACS)];
        let agents = [
            Agent::start(&hosts[0], &configs[0])?,
            Agent::start(&hosts[1], &configs[1])?,
        ];
        let rig = Self {
            reflector,
            agents,
            vms,
            hosts,
            configs,
            lab,
        };
        rig.wait_whole()?;
        Ok(rig)
    }

    /// Lets it happen under traffic.
    pub(crate) fn suffer(&mut self, fault: Fault) -> Result<Cost> {
        let pings = [("10.0.0.2", 0), ("10.0.0.1", 1)];
        let pings =
            pings.map(|(to, vm)| Ping::to(to).start(&self.lab, self.vms[vm].ns(), INTERVAL));
        let begun = Instant::now();
        self.inject(fault).with_context(|| format!("{fault:?}"))?;
        let (lasted, repaired) = (begun.elapsed(), Instant::now());
        self.wait_whole().with_context(|| format!("{fault:?}"))?;
        let whole_after = repaired.elapsed();
        let (mut lost, mut sent) = (0, 0);
        for pinging in pings {
            let pings = pinging?.stop()?;
            lost += pings.sent - pings.received;
            sent += pings.sent;
        }
        let cost = Cost {
            lasted,
            whole_after,
            lost,
            sent,
        };
        // What cannot get through is lost, in both directions; nothing else is.
        let allowed = match fault.cuts() {
            true => 2 * (lasted + whole_after).as_millis() / INTERVAL.as_millis(),
            false => 0,
        };
        ensure!(u128::from(lost) <= allowed, "{fault:?}: {cost:?}");
        Ok(cost)
    }

    fn inject(&mut self, fault: Fault) -> Result<()> {
        match fault {
            Fault::AgentKilled => {
                self.agents[0].daemon().kill()?;
                self.start_agent(0)
            }
            Fault::AgentRestarted => {
                let status = self.agents[0].stop()?;
                ensure!(status.success(), "{status}");
                self.start_agent(0)
            }
            Fault::PeerKilled => {
                self.agents[1].daemon().kill()?;
                self.start_agent(1)
            }
            Fault::ReflectorRestarted => {
                self.reflector.daemon().kill()?;
                self.reflector.restart()
            }
            Fault::UplinkFlapped => {
                let ns = self.hosts[0].ns();
                ns.ip(&format!("link set {} down\n", Host::UPLINK))?;
                sleep(FLAP);
                ns.ip(&format!("link set {} up\n", Host::UPLINK))
            }
            Fault::PortDeleted => {
                self.vms[0].unplug()?;
                eventually(PATIENCE, || {
                    let up = self.agents[0].row("ports", &[("state", json!("up"))]);
                    ensure!(up.is_err(), "{up:?}");
                    Ok(())
                })?;
                self.vms[0].plug()
            }
            Fault::MapFull => self.fill(),
            Fault::RingOverrun => self.overrun_ring(),
            Fault::NetlinkOverrun => self.overrun_netlink(),
            Fault::SocketFlood => self.flood_socket(),
        }
    }

    fn start_agent(&mut self, which: usize) -> Result<()> {
        self.agents[which] = Agent::start(&self.hosts[which], &self.configs[which])?;
        Ok(())
    }

    fn fill(&self) -> Result<()> {
        // The VM itself comes first and goes last: declared endpoints are a source filter.
        let mut endpoints = vec![self.vms[0].mac().to_owned()];
        endpoints.extend((0..MAX_MACS + 16).map(|number| format!("02:00:00:01:00:{number:02x}")));
        for mac in &endpoints {
            let line = format!("port add vnet-vm1 --bd blue --mac {mac}");
            self.agents[0].cli(&line)?.done()?;
        }
        eventually(PATIENCE, || {
            let counters = self.agents[1].show("counters")?;
            let unwritten = counters["unwritten"]["fdb"].as_u64();
            ensure!(unwritten > Some(0), "{counters}");
            Ok(())
        })?;
        for mac in endpoints.iter().rev() {
            let line = format!("port del vnet-vm1 --mac {mac}");
            self.agents[0].cli(&line)?.done()?;
        }
        Ok(())
    }

    fn overrun_ring(&mut self) -> Result<()> {
        let lost = |rig: &Self| {
            rig.agents[0]
                .metrics()?
                .value("vtep_events_lost_total", &[])
        };
        // Of a port that is full since the last time, new MACs are no events.
        eventually(2 * PATIENCE, || {
            let bd = self.agents[0].row("bds", &[("name", json!("blue"))])?;
            ensure!(bd["local_macs"] == 1, "{bd}");
            Ok(())
        })?;
        let before = lost(self)?;
        self.agents[0].daemon().signal(libc::SIGSTOP)?;
        // To the agent itself, so that nobody else has to carry them.
        let socket = PacketSocket::open(self.vms[0].ns(), Vm::NIC)?;
        for number in 0..30_000_u32 {
            let [_, high, middle, low] = number.to_be_bytes();
            let to = [0x02, 0x76, 0x74, 0x65, 0x70, 0];
            let from = [0x06, 0, 0, high, middle, low];
            let frame = [&to[..], &from, &[0x88, 0xb5], &[0; 46]].concat();
            socket.send(&frame)?;
        }
        self.agents[0].daemon().signal(libc::SIGCONT)?;
        let after = lost(self)?;
        ensure!(after > before, "{after} events lost, {before} before");
        Ok(())
    }

    fn overrun_netlink(&mut self) -> Result<()> {
        let text = "netlink notifications were lost";
        let count = |rig: &mut Self| rig.agents[0].daemon().log().matches(text).count();
        let before = count(self);
        self.agents[0].daemon().signal(libc::SIGSTOP)?;
        let routes = |verb: &str| -> String {
            let routes = (0..40_000_u32).map(|n| (n / 250, n % 250));
            routes
                .map(|(high, low)| format!("route {verb} unreachable 10.64.{high}.{low}\n"))
                .collect()
        };
        let ns = self.hosts[0].ns().clone();
        ns.ip(&routes("add"))?;
        // What must not be missed among all that.
        self.vms[0].unplug()?;
        self.vms[0].plug()?;
        ns.ip(&routes("del"))?;
        self.agents[0].daemon().signal(libc::SIGCONT)?;
        eventually(PATIENCE, || {
            ensure!(count(self) > before, "no overrun");
            Ok(())
        })
    }

    fn flood_socket(&self) -> Result<()> {
        let socket = self.agents[0].socket();
        let mut held = Vec::new();
        for number in 0..300_usize {
            let mut stream = UnixStream::connect(socket)?;
            // Who is refused may find the other end closed.
            let _ = match number % 3 {
                0 => stream.write_all(b"{\"version\":1,"),
                1 => stream.write_all(&[b'{'; 70_000]),
                _ => Ok(()),
            };
            held.push(stream);
        }
        drop(held);
        eventually(PATIENCE, || self.agents[0].show("bgp").map(drop))
    }

    /// Everything is as in the beginning.
    fn wait_whole(&self) -> Result<()> {
        for (agent, vm, there) in [
            (&self.agents[0], &self.vms[1], &self.hosts[1]),
            (&self.agents[1], &self.vms[0], &self.hosts[0]),
        ] {
            let vtep = json!(there.address().to_string());
            eventually(PATIENCE, || {
                let status = agent.show("status")?;
                ensure!(status["ready"] == true, "{status}");
                agent.row("macs", &[("mac", json!(vm.mac())), ("vtep", vtep.clone())])?;
                let flood = agent.row("flood", &[("bd", json!("blue"))])?;
                ensure!(flood["vteps"][0]["address"] == vtep, "{flood}");
                Ok(())
            })?;
        }
        Ping::to("10.0.0.2").until_answered(self.vms[0].ns())?;
        Ping::to("10.0.0.1").until_answered(self.vms[1].ns())
    }

    /// Of both agents.
    pub(crate) fn holdings(&mut self) -> Result<[Holdings; 2]> {
        let pins = self.lab.bpffs();
        let [first, second] = &mut self.agents;
        Ok([
            holdings(first, &pins.join("h1"))?,
            holdings(second, &pins.join("h2"))?,
        ])
    }

    /// Nothing has been lost to somebody who did not give it back.
    pub(crate) fn check_no_leak(&mut self, before: [Holdings; 2]) -> Result<()> {
        eventually(PATIENCE, || {
            for (now, before) in self.holdings()?.into_iter().zip(before) {
                ensure!(
                    now.descriptors <= before.descriptors && now.pins == before.pins,
                    "{now:?}, before: {before:?}"
                );
                // A heap that was larger for a while is not given back as a whole.
                let allowed = before.resident + before.resident / 2 + (8 << 20);
                ensure!(now.resident <= allowed, "{now:?}, before: {before:?}");
            }
            Ok(())
        })
    }

    /// An audit that begins from now on finds the maps as they should be, as all others have.
    pub(crate) fn check_audit(&self) -> Result<()> {
        for agent in &self.agents {
            let audits = || agent.metrics()?.value("vtep_audits_total", &[]);
            let before = audits()?;
            eventually(3 * PATIENCE, || {
                let now = audits()?;
                // One of the two may have begun earlier.
                ensure!(now >= before + 2.0, "{now} audits");
                Ok(())
            })?;
            let metrics = agent.metrics()?;
            let found = metrics.value("vtep_audit_differences_total", &[])?;
            ensure!(found == 0.0, "{}", metrics.text());
        }
        Ok(())
    }
}

fn holdings(agent: &mut Agent, pins: &Path) -> Result<Holdings> {
    let resident = agent.memory()?.resident;
    let descriptors = agent.daemon().descriptors()?;
    Ok(Holdings {
        descriptors,
        pins: files(pins)?,
        resident,
    })
}

/// Files in a directory and those below it.
fn files(directory: &Path) -> Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        count += match path.is_dir() {
            true => files(&path)?,
            false => 1,
        };
    }
    Ok(count)
}

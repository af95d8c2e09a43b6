//! Live migration by the hundred: every VM is found where it is, at once.

mod guests;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{self, Write as _},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use guests::{Guests, HostId, Trip, VmId, mac, port};
use serde_json::Value;
use vtep_tests::{
    Agent, AgentConfig, Frr, Host, Lab, LinuxBd, Pair, eventually, mac_text, wait_flood,
};

const VNI: u32 = 100;
const HOSTS: usize = 3;
/// A loaded machine needs time. A VM that is not found by then is lost for good.
const PATIENCE: Duration = Duration::from_secs(60);
/// Answers that each correspondent gets from a VM before it moves, and after.
const ENOUGH: usize = 5;
/// Bounds of the histogram, milliseconds.
const BUCKETS: [u128; 8] = [5, 10, 20, 50, 100, 200, 500, 1000];

/// Peers' pains 1 to 4, MOB-001, MOB-003: VMs move among three agents with traffic to all of them.
#[test]
fn mob_001_vms_move_among_agents() -> Result<()> {
    migrate("mig", Plan::agents(24, 36)).map(drop)
}

/// The same, with as many VMs and moves as a site sees in a month.
#[test]
#[ignore = "takes many minutes: cargo xtask chaos"]
fn mob_001_a_thousand_migrations_of_250_vms() -> Result<()> {
    let outcome = migrate("mig-1000", Plan::agents(250, 1000))?;
    io::stderr().write_all(outcome.to_string().as_bytes())?;
    let median = outcome.percentile(50);
    ensure!(median < Duration::from_millis(50), "median {median:?}");
    Ok(())
}

/// MOB-001 with FRR on one of the hosts: judged by what our agents know. That FRR's host may lose the
/// way is counted, and not our fault.
#[test]
#[ignore = "takes many minutes: cargo xtask chaos"]
fn mob_001_a_hundred_migrations_with_frr() -> Result<()> {
    let plan = Plan {
        frr: true,
        ..Plan::agents(24, 100)
    };
    let outcome = migrate("mig-frr", plan)?;
    io::stderr().write_all(outcome.to_string().as_bytes())?;
    Ok(())
}

/// Who moves, and how often.
#[derive(Clone, Copy, Debug)]
struct Plan {
    vms: VmId,
    moves: usize,
    /// Whether FRR serves the last host.
    frr: bool,
}

impl Plan {
    fn agents(vms: VmId, moves: usize) -> Self {
        let frr = false;
        Self { vms, moves, frr }
    }

    /// A VM on each host that asks, and stays. FRR's does not: only our agents are judged.
    fn correspondents(&self) -> Vec<VmId> {
        let hosts = HOSTS - usize::from(self.frr);
        (self.vms..).take(hosts).collect()
    }
}

/// What was seen.
#[derive(Debug, Default)]
struct Outcome {
    plan: String,
    /// For each move the longest time in which some correspondent had no answer, from the last one
    /// before to the first one after it.
    outages: Vec<Duration>,
    /// Moves after which the VM was where it should be for our agents, but did not answer all.
    unanswered: usize,
    /// Questions to VMs that did not move, and how many of them had no answer.
    others: (usize, usize),
}

impl Outcome {
    fn percentile(&self, percent: usize) -> Duration {
        let mut outages = self.outages.clone();
        outages.sort();
        let index = (outages.len() * percent).div_ceil(100);
        outages
            .get(index.saturating_sub(1))
            .copied()
            .unwrap_or_default()
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut histogram = String::new();
        let mut before = 0;
        for limit in BUCKETS.into_iter().chain([u128::MAX]) {
            let below = |outage: &&Duration| outage.as_millis() < limit;
            let count = self.outages.iter().filter(below).count();
            match limit {
                u128::MAX => write!(histogram, " more: {}", count - before)?,
                _ => write!(histogram, " <{limit} ms: {}", count - before)?,
            }
            before = count;
        }
        let [p50, p90, p99, worst] = [50, 90, 99, 100].map(|p| self.percentile(p));
        let (asked, lost) = self.others;
        writeln!(
            f,
            "{}: {} outages:{histogram}; median {p50:?}, p90 {p90:?}, p99 {p99:?}, longest \
             {worst:?}; {} unanswered; {lost} of {asked} questions to the others lost",
            self.plan,
            self.outages.len(),
            self.unanswered,
        )
    }
}

/// Three hosts, and who serves them.
struct Site {
    lab: Lab,
    hosts: Vec<Host>,
    agents: Vec<Agent>,
    // Dropped before the hosts' namespaces.
    frr: Option<(Frr, LinuxBd)>,
    guests: Guests,
    plan: Plan,
}

impl Site {
    fn start(name: &str, plan: Plan) -> Result<Self> {
        let lab = Lab::new(name)?;
        let underlay = lab.underlay()?;
        let hosts = ["h1", "h2", "h3"].map(|name| underlay.host(name));
        let hosts = hosts.into_iter().collect::<Result<Vec<_>>>()?;
        let peers = |host: &Host| {
            let others = hosts.iter().filter(|other| other.name() != host.name());
            others
                .map(|other| (other.address(), Pair::ASN))
                .collect::<Vec<_>>()
        };
        let (ours, last) = match plan.frr {
            true => (&hosts[..HOSTS - 1], Some(&hosts[HOSTS - 1])),
            false => (&hosts[..], None),
        };
        let frr = last.map(|host| -> Result<_> {
            let bd = LinuxBd::create(host, VNI)?;
            Ok((Frr::start(host, Pair::ASN, &peers(host))?, bd))
        });
        let frr = frr.transpose()?;
        let start = |host: &Host| {
            let config = AgentConfig::new(host, Pair::ASN).bd("blue", VNI, &["vnet-*"]);
            let add = |config: AgentConfig, (address, asn)| config.peer(address, asn);
            Agent::start(host, &peers(host).into_iter().fold(config, add))
        };
        let agents = ours.iter().map(start).collect::<Result<Vec<_>>>()?;
        for agent in &agents {
            agent.wait_established()?;
            wait_flood(agent, "blue", HOSTS - 1)?;
        }
        let guests = Guests::start(&hosts, &plan.correspondents())?;
        let site = Self {
            lab,
            hosts,
            agents,
            frr,
            guests,
            plan,
        };
        site.populate()?;
        Ok(site)
    }

    /// Starts all VMs, spread over the hosts.
    fn populate(&self) -> Result<()> {
        let correspondents = self.plan.correspondents();
        let first = self.plan.vms;
        for at in 0..HOSTS {
            let here = |vm: &VmId| usize::from(*vm) % HOSTS == at;
            let mut vms: Vec<_> = (0..first).filter(here).collect();
            vms.extend(correspondents.get(at));
            self.plug(at, &vms)?;
            for (number, vm) in vms.iter().enumerate() {
                self.guests.resume(*vm, at, number % 2 == 1);
            }
        }
        eventually(PATIENCE, || self.check())
    }

    /// Makes ports, and waits until the host forwards for them.
    fn plug(&self, at: HostId, vms: &[VmId]) -> Result<()> {
        let bridge = match (self.agents.get(at), &self.frr) {
            (None, Some((_, bd))) => Some(bd.bridge()),
            _ => None,
        };
        self.guests.plug(at, vms, bridge.as_deref())?;
        let Some(agent) = self.agents.get(at) else {
            return Ok(());
        };
        eventually(PATIENCE, || {
            let ports = agent.show("ports")?;
            for vm in vms {
                let ready = find(&ports, "name", &port(*vm));
                ensure!(
                    ready.is_some_and(|row| row["state"] == "up"),
                    "{vm}: {ports}"
                );
            }
            Ok(())
        })
    }

    /// Whether each of our agents knows each VM where it is.
    fn check(&self) -> Result<()> {
        self.guests.alive()?;
        let places = self.guests.places();
        for (at, agent) in self.agents.iter().enumerate() {
            let rows = agent.show("macs")?;
            for (vm, place) in &places {
                self.judge(at, &rows, *vm, *place)?;
            }
        }
        Ok(())
    }

    /// Whether the rows of the agent on host `at` say that the VM is at `place`.
    fn judge(&self, at: HostId, rows: &Value, vm: VmId, place: HostId) -> Result<()> {
        let text = mac_text(mac(vm));
        let row = find(rows, "mac", &text)
            .with_context(|| format!("VM {vm}, {text}, is unknown to agent {at}"))?;
        let right = match place == at {
            true => row["port"] == port(vm),
            false => row["vtep"] == self.hosts[place].address().to_string(),
        };
        ensure!(right, "VM {vm} is on host {place}; agent {at} has {row}");
        ensure!(row["duplicate"] == false, "agent {at} has {row}");
        Ok(())
    }

    /// Moves a VM, and returns the longest time that somebody had to do without it; `None` when some
    /// correspondent never got an answer although all agents have it right.
    fn relocate(&self, number: usize, vm: VmId, to: HostId) -> Result<Option<Duration>> {
        let from = *self.guests.places().get(&vm).context("no such VM")?;
        self.plug(to, &[vm])?;
        let since = self.guests.watch(Some(vm));
        let heard = |since: usize| {
            let trips = self.guests.trips(since);
            let correspondents = self.plan.correspondents();
            correspondents.iter().all(|from| {
                let answers = trips.iter().filter(|trip| trip.answers > 0);
                answers
                    .filter(|trip| trip.to == vm && trip.from == *from)
                    .count()
                    >= ENOUGH
            })
        };
        let wait = |since: usize, patience| {
            eventually(patience, || {
                ensure!(heard(since), "VM {vm} does not answer everybody");
                Ok(())
            })
        };
        // With FRR, some way to the VM may have been lost in an earlier move.
        let reached = wait(
            since,
            if self.frr.is_some() {
                Duration::from_secs(2)
            } else {
                PATIENCE
            },
        );
        if self.frr.is_none() {
            reached?;
        }
        self.guests.pause(vm);
        // Sometimes the old host loses the port first, sometimes last.
        let early = number / 2 % 2 == 1;
        if early {
            self.guests.unplug(from, vm)?;
        }
        let paused = self.guests.trips(since).len() + since;
        self.guests.resume(vm, to, number % 2 == 1);
        let found = match self.frr {
            None => wait(paused, PATIENCE).map(|()| true),
            Some(_) => {
                eventually(PATIENCE, || self.check())?;
                Ok(wait(paused, Duration::from_secs(3)).is_ok())
            }
        };
        if !early {
            self.guests.unplug(from, vm)?;
        }
        self.guests.watch(None);
        let found = found.with_context(|| format!("move {number}, from host {from} to {to}"))?;
        Ok(found.then(|| outage(&self.guests.trips(since), vm)))
    }
}

fn find<'a>(rows: &'a Value, key: &str, value: &str) -> Option<&'a Value> {
    rows.as_array()?.iter().find(|row| row[key] == value)
}

/// The longest time between two answers to the same correspondent.
fn outage(trips: &[Trip], vm: VmId) -> Duration {
    let mut answers: BTreeMap<VmId, Vec<Instant>> = BTreeMap::new();
    for trip in trips.iter().filter(|trip| trip.moving && trip.to == vm) {
        answers.entry(trip.from).or_default().extend(trip.answered);
    }
    let gaps = answers.values_mut().flat_map(|times| {
        times.sort();
        times
            .windows(2)
            .map(|pair| pair[1] - pair[0])
            .collect::<Vec<_>>()
    });
    gaps.max().unwrap_or_default()
}

fn migrate(name: &str, plan: Plan) -> Result<Outcome> {
    let site = Site::start(name, plan)?;
    // There are hundreds of lines on ports that come and go.
    site.lab.hide_logs();
    let since = site.guests.watch(None);
    let mut outcome = Outcome {
        plan: format!("{plan:?}"),
        ..Outcome::default()
    };
    for number in 0..plan.moves {
        // Everybody in turn, in an order that mixes the hosts.
        let vm = VmId::try_from(number * 97 % usize::from(plan.vms))?;
        let from = site.guests.places()[&vm];
        match site.relocate(number, vm, (from + 1) % HOSTS)? {
            Some(outage) => outcome.outages.push(outage),
            None => outcome.unanswered += 1,
        }
    }
    eventually(PATIENCE, || site.check())?;
    let trips = site.guests.trips(since);
    for trip in &trips {
        ensure!(
            trip.delivered < 2 && trip.answers < 2,
            "delivered twice: {trip:?}"
        );
    }
    // The last ones are still on their way.
    let settled = trips.len().saturating_sub(100);
    let others = trips[..settled].iter().filter(|trip| !trip.moving);
    let (asked, lost) = others.fold((0, 0), |(asked, lost), trip| {
        (asked + 1, lost + usize::from(trip.answers == 0))
    });
    outcome.others = (asked, lost);
    if site.frr.is_none() {
        ensure!(
            lost == 0,
            "VMs that did not move were not reached: {outcome}"
        );
    }
    let Site { guests, .. } = site;
    guests.stop()?;
    Ok(outcome)
}

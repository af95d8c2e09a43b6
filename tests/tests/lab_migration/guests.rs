//! Hundreds of VMs that answer, without a namespace for each: those of a host share one, with a device
//! for each VM and one thread that speaks for all of them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use vtep_tests::{Host, Namespace, PacketHub, mac_text};

/// Time between two questions to the VM that is watched, from each correspondent.
const TICK: Duration = Duration::from_millis(2);
/// Devices of the guests have the index of the VM and this.
const FIRST_INDEX: u32 = 1000;
/// EtherType for experiments (IEEE 802 §9.2.4).
const TEST: [u8; 2] = [0x88, 0xb5];
const ARP: [u8; 2] = [0x08, 0x06];
const RARP: [u8; 2] = [0x80, 0x35];
const BROADCAST: [u8; 6] = [0xff; 6];
const QUESTION: u8 = 1;
const ANSWER: u8 = 2;
/// When QEMU announces a VM that has arrived, milliseconds.
const ANNOUNCEMENTS: [u64; 5] = [0, 50, 200, 450, 800];

/// Number of a VM.
pub type VmId = u16;
/// Number of a host, from 0.
pub type HostId = usize;

/// MAC address of a VM.
pub fn mac(vm: VmId) -> [u8; 6] {
    let [high, low] = vm.to_be_bytes();
    [0x02, 0, 0, 1, high, low]
}

fn ip(vm: VmId) -> [u8; 4] {
    let [high, low] = vm.to_be_bytes();
    [10, 1, high, low]
}

/// The host's end of a VM's link.
pub fn port(vm: VmId) -> String {
    format!("vnet-{vm}")
}

/// A question from a correspondent to a VM, and what became of it.
#[derive(Clone, Copy, Debug)]
pub struct Trip {
    /// Who asked.
    pub from: VmId,
    /// Who was asked.
    pub to: VmId,
    /// Whether the VM was on its way to another host.
    pub moving: bool,
    /// How often the question reached the VM.
    pub delivered: u32,
    /// How often the answer came.
    pub answers: u32,
    /// When it came first.
    pub answered: Option<Instant>,
}

/// What is so, whatever the fabric thinks of it.
#[derive(Debug, Default)]
struct Facts {
    /// Where each VM runs; the others are paused.
    running: BTreeMap<VmId, HostId>,
    trips: Vec<Trip>,
    watched: Option<VmId>,
    announcements: Vec<(Instant, VmId, bool)>,
}

/// The VMs of all hosts.
#[derive(Debug)]
pub struct Guests {
    sites: Vec<Site>,
    facts: Arc<Mutex<Facts>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<()>>>,
}

/// Where the VMs of a host are.
#[derive(Clone, Debug)]
struct Site {
    host: Host,
    ns: Namespace,
    hub: Arc<PacketHub>,
}

impl Guests {
    /// Nobody yet. `correspondents` ask all the others, once they run.
    pub fn start(hosts: &[Host], correspondents: &[VmId]) -> Result<Self> {
        let site = |host: &Host| {
            let ns = host.lab().namespace(&format!("vms-{}", host.name()))?;
            // They say nothing of themselves.
            ns.sysctl("net/ipv6/conf/default/disable_ipv6", "1")?;
            let hub = Arc::new(PacketHub::open(&ns)?);
            Ok(Site {
                host: host.clone(),
                ns,
                hub,
            })
        };
        let sites = hosts.iter().map(site).collect::<Result<Vec<_>>>()?;
        let mut guests = Self {
            sites,
            facts: Arc::default(),
            stop: Arc::default(),
            threads: Vec::new(),
        };
        for here in 0..guests.sites.len() {
            let (sites, facts, stop) = guests.shared();
            let serve = move || serve(&sites[here].hub, here, &facts, &stop);
            guests.threads.push(thread::spawn(serve));
        }
        let (sites, facts, stop) = guests.shared();
        let correspondents = correspondents.to_vec();
        let ask = move || ask(&sites, &correspondents, &facts, &stop);
        guests.threads.push(thread::spawn(ask));
        Ok(guests)
    }

    fn shared(&self) -> (Vec<Site>, Arc<Mutex<Facts>>, Arc<AtomicBool>) {
        (
            self.sites.clone(),
            Arc::clone(&self.facts),
            Arc::clone(&self.stop),
        )
    }

    /// Makes ports for VMs, which don't run there yet.
    pub fn plug(&self, at: HostId, vms: &[VmId], bridge: Option<&str>) -> Result<()> {
        let site = self.sites.get(at).context("no such host")?;
        let (mut inside, mut outside) = (String::new(), String::new());
        for vm in vms {
            let (port, index, ns) = (port(*vm), index(*vm), site.host.ns().name());
            let address = mac_text(mac(*vm));
            inside += &format!(
                "link add vm{vm} index {index} address {address} type veth peer name {port} netns \
                 {ns}\nlink set vm{vm} up\n"
            );
            if let Some(bridge) = bridge {
                outside += &format!("link set {port} master {bridge}\n");
            }
            outside += &format!("link set {port} up\n");
        }
        site.ns.ip(&inside)?;
        site.host.ns().ip(&outside)
    }

    /// Takes a VM's port away.
    pub fn unplug(&self, at: HostId, vm: VmId) -> Result<()> {
        let site = self.sites.get(at).context("no such host")?;
        site.host.ns().ip(&format!("link del {}\n", port(vm)))
    }

    /// A VM stops here, as at the end of a migration.
    pub fn pause(&self, vm: VmId) {
        lock(&self.facts).running.remove(&vm);
    }

    /// A VM goes on at a host, and is announced by gratuitous ARP, or by RARP.
    pub fn resume(&self, vm: VmId, at: HostId, rarp: bool) {
        let mut facts = lock(&self.facts);
        facts.running.insert(vm, at);
        let now = Instant::now();
        let due = |after| (now + Duration::from_millis(after), vm, rarp);
        facts.announcements.extend(ANNOUNCEMENTS.map(due));
    }

    /// From now on the correspondents ask this VM more than the others. Returns the number of the next
    /// question.
    pub fn watch(&self, vm: Option<VmId>) -> usize {
        let mut facts = lock(&self.facts);
        facts.watched = vm;
        facts.trips.len()
    }

    /// The questions since the one with this number.
    pub fn trips(&self, since: usize) -> Vec<Trip> {
        lock(&self.facts)
            .trips
            .get(since..)
            .unwrap_or_default()
            .to_vec()
    }

    /// Fails when a thread has ended: nobody would answer any more.
    pub fn alive(&self) -> Result<()> {
        ensure!(
            !self.threads.iter().any(JoinHandle::is_finished),
            "the VMs do not run any more"
        );
        Ok(())
    }

    /// Where each VM runs.
    pub fn places(&self) -> BTreeMap<VmId, HostId> {
        lock(&self.facts).running.clone()
    }

    /// Ends all questions; fails when a thread did.
    pub fn stop(mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            ended.ok().context("a thread of the guests panicked")??;
        }
        Ok(())
    }
}

impl Drop for Guests {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn lock(facts: &Mutex<Facts>) -> MutexGuard<'_, Facts> {
    facts.lock().unwrap_or_else(PoisonError::into_inner)
}

fn index(vm: VmId) -> u32 {
    FIRST_INDEX + u32::from(vm)
}

/// Speaks for the VMs of a host until told to stop.
fn serve(hub: &PacketHub, here: HostId, facts: &Mutex<Facts>, stop: &AtomicBool) -> Result<()> {
    let mut buffer = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        let Some((length, ifindex)) = hub.receive(&mut buffer, Duration::from_millis(50))? else {
            continue;
        };
        let vm = ifindex.checked_sub(FIRST_INDEX).map(VmId::try_from);
        let (Some(Ok(vm)), Some(frame)) = (vm, buffer.get(..length)) else {
            continue;
        };
        let answer = lock(facts).hear(vm, here, frame);
        if let Some(answer) = answer {
            // Its port may have been taken away this moment.
            let _ = hub.send(ifindex, &answer);
        }
    }
    Ok(())
}

impl Facts {
    /// What a VM does with a frame that comes out of its device at a host.
    fn hear(&mut self, vm: VmId, here: HostId, frame: &[u8]) -> Option<Vec<u8>> {
        let (to, rest) = frame.split_first_chunk::<6>()?;
        let (from, rest) = rest.split_first_chunk::<6>()?;
        let (kind, rest) = rest.split_first_chunk::<2>()?;
        let mine = *to == mac(vm) || *to == BROADCAST;
        if !mine || self.running.get(&vm) != Some(&here) {
            return None;
        }
        match *kind {
            ARP if rest.get(6..8) == Some(&[0, 1]) && rest.get(24..28) == Some(&ip(vm)) => {
                let asker = rest.get(8..18)?;
                let head = [from, &mac(vm), &ARP[..], rest.get(..6)?, &[0, 2]].concat();
                Some([&head[..], &mac(vm), &ip(vm), asker, &[0; 18]].concat())
            }
            TEST => {
                let (what, rest) = rest.split_first()?;
                let number = u64::from_be_bytes(*rest.first_chunk()?);
                let trip = self.trips.get_mut(usize::try_from(number).ok()?)?;
                match *what {
                    QUESTION if trip.to == vm => {
                        trip.delivered += 1;
                        Some(test_frame(trip.from, vm, ANSWER, number))
                    }
                    ANSWER if trip.from == vm => {
                        trip.answers += 1;
                        trip.answered.get_or_insert_with(Instant::now);
                        None
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

/// Asks, and announces who has arrived, until told to stop.
fn ask(
    sites: &[Site],
    correspondents: &[VmId],
    facts: &Mutex<Facts>,
    stop: &AtomicBool,
) -> Result<()> {
    let mut last = 0;
    let mut tick = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        tick += TICK;
        thread::sleep(tick.saturating_duration_since(Instant::now()));
        let mut frames = Vec::new();
        {
            let mut facts = lock(facts);
            let now = Instant::now();
            let due = facts.announcements.extract_if(.., |(at, ..)| *at <= now);
            let due: Vec<_> = due.collect();
            for (_, vm, rarp) in due {
                if let Some(at) = facts.running.get(&vm) {
                    frames.push((*at, vm, announcement(vm, rarp)));
                }
            }
            // One of the others, in turn.
            let others = facts.running.range(last + 1..).chain(&facts.running);
            let next = others
                .map(|(vm, _)| *vm)
                .find(|vm| !correspondents.contains(vm));
            last = next.unwrap_or(last);
            let asker = correspondents.get(usize::from(last) % correspondents.len());
            let background = next.into_iter().flat_map(|to| Some((*asker?, to)));
            let watched = facts.watched.into_iter();
            let watched = watched.flat_map(|to| correspondents.iter().map(move |from| (*from, to)));
            for (from, to) in background.chain(watched).collect::<Vec<_>>() {
                let Some(at) = facts.running.get(&from).copied() else {
                    continue;
                };
                frames.push((
                    at,
                    from,
                    test_frame(to, from, QUESTION, facts.trips.len() as u64),
                ));
                let moving = facts.watched == Some(to);
                facts.trips.push(Trip {
                    from,
                    to,
                    moving,
                    delivered: 0,
                    answers: 0,
                    answered: None,
                });
            }
        }
        for (at, from, frame) in frames {
            let site = sites.get(at).context("no such host")?;
            site.hub.send(index(from), &frame)?;
        }
    }
    Ok(())
}

fn test_frame(to: VmId, from: VmId, what: u8, number: u64) -> Vec<u8> {
    let number = number.to_be_bytes();
    [&mac(to)[..], &mac(from), &TEST, &[what], &number, &[0; 40]].concat()
}

/// Gratuitous ARP, or RARP as QEMU sends it: a request for its own address.
fn announcement(vm: VmId, rarp: bool) -> Vec<u8> {
    let (mac, ip) = (mac(vm), ip(vm));
    let (kind, op, ip, target) = match rarp {
        true => (RARP, 3, [0; 4], mac),
        false => (ARP, 2, ip, BROADCAST),
    };
    let head = [&BROADCAST[..], &mac, &kind, &[0, 1, 8, 0, 6, 4, 0, op]].concat();
    [&head[..], &mac, &ip, &target, &ip, &[0; 18]].concat()
}

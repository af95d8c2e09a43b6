//! What is measured: one VTEP under test, with a VM, beside a far VTEP that is always the same.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context as _, Result};
use serde_json::json;
use vtep_tests::{
    Agent, AgentConfig, Host, Lab, LinuxBd, Ping, RouteReflector, UnderlayOptions, Vm, VmSpec,
    Vxlan, eventually, wait_flood,
};

use crate::{
    device::{self, Receiver},
    load::Template,
};

const ASN: u32 = 65000;
const VNI: u32 = 100;
/// VTEPs that a broadcast goes to: the far one, and others that are only routes.
pub(crate) const FLOOD: u8 = 64;
/// The VM's own addresses, and one that the VTEP under test is not told about.
pub(crate) const NEAR: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub(crate) const FAR: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
pub(crate) const UNTOLD: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 3);
/// Processor of whoever makes load, and of the VTEP under test and what is behind it.
pub(crate) const LOADER: usize = 0;
pub(crate) const TESTED: usize = 1;

/// Who forwards on the host under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    /// Linux's bridge and vxlan, programmed by hand.
    Kernel,
    /// vtep with `xdp = "auto"`: native XDP, which veth has.
    Xdp,
    /// vtep with `xdp = "off"`.
    Tc,
}

impl Variant {
    pub(crate) const ALL: [Self; 3] = [Self::Kernel, Self::Xdp, Self::Tc];

    /// Its name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Xdp => "vtep xdp",
            Self::Tc => "vtep tc",
        }
    }
}

/// Around the VTEP under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setup {
    /// The VM on a veth; an uplink that carries packets as a wire does, without offloads.
    Veth,
    /// The same with an uplink that carries super-packets, as veth does by default.
    VethTso,
    /// The VM on a tap with the offloads of virtio-net; an uplink without.
    Tap,
}

impl Setup {
    pub(crate) const ALL: [Self; 3] = [Self::Veth, Self::VethTso, Self::Tap];

    /// Its name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Veth => "veth",
            Self::VethTso => "veth tso",
            Self::Tap => "tap",
        }
    }
}

/// A variant at work, and the two threads in which it receives.
#[derive(Debug)]
pub(crate) struct Rig {
    // Dropped in this order: who uses the devices before the lab.
    agent: Option<Agent>,
    _speaker: Option<RouteReflector>,
    pub(crate) variant: Variant,
    pub(crate) near: Vm,
    pub(crate) far: Vm,
    pub(crate) host: Host,
    pub(crate) far_host: Host,
    /// Receives from the wire.
    pub(crate) uplink: Receiver,
    /// Receives from the VM, if that is on a veth.
    pub(crate) port: Option<Receiver>,
    pub(crate) lab: Lab,
}

impl Rig {
    /// Sets it up, and looks whether the VMs reach each other.
    pub(crate) fn new(variant: Variant, setup: Setup) -> Result<Self> {
        let lab = Lab::new("bench")?;
        lab.hide_logs();
        let options = UnderlayOptions {
            tx_checksum: setup == Setup::VethTso,
            ..UnderlayOptions::default()
        };
        let [host, far_host] = lab.cable(["h1", "h2"], &options)?;
        for host in [&host, &far_host] {
            // So that a full ring of a veth holds the sender back, as a NIC's does.
            host.ns()
                .run(&format!("tc qdisc add dev {} root pfifo", Host::UPLINK))?;
            host.ns()
                .sysctl("net/bridge/bridge-nf-call-iptables", "0")
                .or_else(|error| {
                    let absent = !std::path::Path::new("/proc/sys/net/bridge").exists();
                    if absent { Ok(()) } else { Err(error) }
                })?;
        }
        let near = match setup {
            Setup::Tap => host.tap_vm("vm1", &VmSpec::new(1).offload())?,
            Setup::Veth | Setup::VethTso => host.vm("vm1", &VmSpec::new(1))?,
        };
        let mut spec = VmSpec::new(2);
        spec.addresses.push(format!("{UNTOLD}/24"));
        let far = far_host.vm("vm2", &spec)?;
        resolve_flood(&host, &far_host)?;
        bridge(&far_host, &far, &near, &host)?;
        let uplink = Receiver::on(host.ns(), Host::UPLINK, TESTED)?;
        let port = match setup {
            Setup::Tap => None,
            Setup::Veth | Setup::VethTso => Some(Receiver::on(host.ns(), near.port(), TESTED)?),
        };
        Receiver::on(far_host.ns(), Host::UPLINK, LOADER)?;

        let (mut agent, mut speaker) = (None, None);
        match variant {
            Variant::Kernel => by_kernel(&host, &near, &far, &far_host)?,
            Variant::Xdp | Variant::Tc => {
                let routes = announce(&far_host, &host, &far)?;
                let xdp = if variant == Variant::Xdp {
                    "native"
                } else {
                    "off"
                };
                agent = Some(by_vtep(&host, &far_host, &far, xdp)?);
                speaker = Some(routes);
            }
        }
        Ping::to(&FAR.to_string())
            .until_answered(near.ns())
            .with_context(|| format!("{} does not forward", variant.name()))?;
        Ok(Self {
            agent,
            _speaker: speaker,
            variant,
            near,
            far,
            host,
            far_host,
            uplink,
            port,
            lab,
        })
    }

    /// Small UDP packets for the VM, as the far VTEP encapsulates them.
    pub(crate) fn wire_datagrams(&self) -> Result<Template> {
        let inner = datagram(mac(self.far.mac())?, mac(self.near.mac())?, [FAR, NEAR]);
        let mut bytes = Vxlan::frame(&self.far_host, &self.host, VNI, &inner)?;
        // No outer UDP checksum, as usual; its source port tells the flows apart, too.
        bytes.get_mut(40..42).context("a short frame")?.fill(0);
        bytes
            .get_mut(34..36)
            .context("a short frame")?
            .copy_from_slice(&[0xc0, 0]);
        Ok(Template {
            bytes,
            flow: vec![35, 50 + 35],
        })
    }

    /// Small UDP packets of the VM for the far one.
    pub(crate) fn vm_datagrams(&self) -> Result<Template> {
        Ok(Template {
            bytes: datagram(mac(self.near.mac())?, mac(self.far.mac())?, [NEAR, FAR]),
            flow: vec![35],
        })
    }

    /// Small UDP packets of the VM for everybody.
    pub(crate) fn broadcasts(&self) -> Result<Template> {
        let to = Ipv4Addr::new(10, 0, 0, 255);
        Ok(Template {
            bytes: datagram(mac(self.near.mac())?, [0xff; 6], [NEAR, to]),
            flow: vec![35],
        })
    }

    /// What the agent counted as dropped; nothing for the kernel's own VTEP.
    pub(crate) fn drops(&self) -> Result<Vec<String>> {
        let Some(agent) = &self.agent else {
            return Ok(Vec::new());
        };
        let metrics = agent.metrics()?;
        let told = metrics
            .text()
            .lines()
            .filter(|line| line.starts_with("vtep_drops_total") && !line.ends_with(" 0"));
        Ok(told.map(str::to_owned).collect())
    }
}

/// The bridge of the kernel's own VTEP, with everything in its tables that FRR would put there.
fn bridge(host: &Host, vm: &Vm, remote: &Vm, remote_host: &Host) -> Result<LinuxBd> {
    let bd = LinuxBd::create(host, VNI)?;
    bd.plug(vm)?;
    bd.add_mac(remote.mac(), remote_host)?;
    bd.add_flood(remote_host)?;
    let (bridge, vxlan) = (bd.bridge(), bd.vxlan());
    for (mac, device) in [(vm.mac(), vm.port()), (remote.mac(), &*vxlan)] {
        host.ns().run(&format!(
            "bridge fdb replace {mac} dev {device} master static"
        ))?;
    }
    host.ns()
        .run(&format!("ip link set {bridge} type bridge ageing_time 0"))?;
    Ok(bd)
}

fn by_kernel(host: &Host, near: &Vm, far: &Vm, far_host: &Host) -> Result<()> {
    let bd = bridge(host, near, far, far_host)?;
    for address in flooded(far_host).skip(1) {
        host.ns().run(&format!(
            "bridge fdb append 00:00:00:00:00:00 dev {} dst {address} self",
            bd.vxlan()
        ))?;
    }
    // What `neigh_suppress` answers from.
    host.ns().ip(&format!(
        "neigh replace {FAR} lladdr {} dev {} nud permanent\n",
        far.mac(),
        bd.bridge()
    ))
}

fn by_vtep(host: &Host, far_host: &Host, far: &Vm, xdp: &str) -> Result<Agent> {
    let config = AgentConfig::new(host, ASN)
        .vtep(&format!("xdp = \"{xdp}\""))
        .peer(far_host.address(), ASN)
        .bd_with("blue", VNI, "ports = [\"vnet-*\", \"tap-*\"]\nageing = 0");
    let agent = Agent::start(host, &config)?;
    agent.wait_established()?;
    agent.wait_row("macs", &[("mac", json!(far.mac()))])?;
    wait_flood(&agent, "blue", usize::from(FLOOD))?;
    Ok(agent)
}

/// A BGP speaker on the far host, which announces its VM, and all VTEPs that take floods.
fn announce(far_host: &Host, host: &Host, far: &Vm) -> Result<RouteReflector> {
    let speaker = RouteReflector::start(far_host, ASN, &[host.address()])?;
    let own = far_host.address();
    let add = |route: &str, vtep: Ipv4Addr, tunnel: &str| {
        far_host.ns().run(&format!(
            "gobgp global rib add -a evpn {route} rd {vtep}:{VNI} rt {ASN}:{VNI} encap vxlan \
             {tunnel} nexthop {vtep}"
        ))
    };
    eventually(Duration::from_secs(5), || {
        add(
            &format!("macadv {} {FAR} etag 0 label {VNI}", far.mac()),
            own,
            "",
        )
    })?;
    for vtep in flooded(far_host) {
        let tunnel = format!("pmsi ingress-repl {VNI} {vtep}");
        add(&format!("multicast {vtep} etag 0"), vtep, &tunnel)?;
    }
    Ok(speaker)
}

/// VTEPs that a broadcast goes to.
fn flooded(far_host: &Host) -> impl Iterator<Item = Ipv4Addr> {
    let others = (1..FLOOD).map(|number| Ipv4Addr::new(198, 18, 0, 100 + number));
    [far_host.address()].into_iter().chain(others)
}

/// Makes the far host the next hop of all of them.
fn resolve_flood(host: &Host, far_host: &Host) -> Result<()> {
    let mac = device::mac(far_host.ns(), Host::UPLINK)?;
    let batch: String = flooded(far_host)
        .map(|vtep| {
            let uplink = Host::UPLINK;
            format!("neigh replace {vtep} lladdr {mac} dev {uplink} nud permanent\n")
        })
        .collect();
    host.ns().ip(&batch)
}

/// A UDP packet of 60 bytes without a checksum.
fn datagram(source: [u8; 6], destination: [u8; 6], [from, to]: [Ipv4Addr; 2]) -> Vec<u8> {
    let mut ip = vec![0x45, 0, 0, 46, 0, 0, 0x40, 0, 64, 17, 0, 0];
    ip.extend(from.octets());
    ip.extend(to.octets());
    let sum = ip
        .chunks(2)
        .map(|word| word.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
        .sum::<u32>();
    let check = !((sum & 0xffff) + (sum >> 16)) as u16;
    for (to, from) in ip.iter_mut().skip(10).zip(check.to_be_bytes()) {
        *to = from;
    }
    // Port 9, discard; the low byte of the source port is the flow's.
    let udp = [0x28, 0, 0, 9, 0, 26, 0, 0];
    [
        &destination[..],
        &source,
        &[0x08, 0],
        &ip,
        &udp,
        &[0x5a; 18],
    ]
    .concat()
}

/// A MAC address from its text.
pub(crate) fn mac(text: &str) -> Result<[u8; 6]> {
    let bytes = text.split(':').map(|byte| u8::from_str_radix(byte, 16));
    let bytes: Vec<u8> = bytes.collect::<Result<_, _>>()?;
    bytes.try_into().ok().context("not a MAC address")
}

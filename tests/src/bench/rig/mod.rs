//! What is measured: one VTEP under test, with its VMs, beside a far VTEP that is always the same.

mod domains;
mod flood;
mod kernel;
mod raw;
mod tables;
mod vtep;

use std::{
    fs,
    net::{Ipv4Addr, Ipv6Addr},
    os::fd::OwnedFd,
    path::PathBuf,
};

use anyhow::{Context as _, Result};
use vtep_tests::{
    Agent, Fabric, Host, Lab, Ping, RouteReflector, ScriptedPeer, UnderlayOptions, Vm, VmSpec,
    Vxlan, mac_text, parse_mac,
};

pub(crate) use self::{
    domains::{Domains, SIZES as DOMAIN_SIZES, Size as DomainSize},
    flood::Flooder,
    tables::Table,
};
use crate::{
    device::{self, Receiver},
    load::Template,
    sys,
};

const VNI: u32 = 100;
/// The VM's own addresses, and one that the VTEP under test is not told about.
pub(crate) const NEAR: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub(crate) const FAR: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
pub(crate) const UNTOLD: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 99);
/// The first two in IPv6.
pub(crate) const NEAR6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
pub(crate) const FAR6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
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
    /// Nobody: frames cross the wire as they are, between two bridges. What others are measured by.
    Raw,
}

impl Variant {
    pub(crate) const ALL: [Self; 4] = [Self::Kernel, Self::Xdp, Self::Tc, Self::Raw];

    /// Its name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Xdp => "vtep xdp",
            Self::Tc => "vtep tc",
            Self::Raw => "no overlay",
        }
    }

    /// The agent's `xdp` setting.
    fn xdp(self) -> &'static str {
        match self {
            Self::Xdp => "native",
            Self::Kernel | Self::Tc | Self::Raw => "off",
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
    /// As the first, with NAPI on the VM's NIC and an XDP program there that takes what arrives: a VM
    /// that is itself XDP.
    VmXdp,
    /// The VM on a tap with the offloads of virtio-net; an uplink without.
    Tap,
    /// As the first, with tables of many sizes.
    Tables,
    /// As the first, with many bridge domains.
    Domains,
}

impl Setup {
    pub(crate) const ALL: [Self; 6] = [
        Self::Veth,
        Self::VethTso,
        Self::VmXdp,
        Self::Tap,
        Self::Tables,
        Self::Domains,
    ];

    /// Its name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Veth => "veth",
            Self::VethTso => "veth tso",
            Self::VmXdp => "vm xdp",
            Self::Tap => "tap",
            Self::Tables => "tables",
            Self::Domains => "domains",
        }
    }
}

/// A variant at work, and the threads in which it receives.
#[derive(Debug)]
pub(crate) struct Rig {
    // Dropped in this order: who uses the devices before the lab.
    agent: Option<Agent>,
    _speaker: Option<RouteReflector>,
    _peer: Option<ScriptedPeer>,
    pub(crate) variant: Variant,
    pub(crate) setup: Setup,
    pub(crate) near: Vm,
    /// Another VM on the host under test, in [`Setup::Veth`].
    neighbor: Option<Vm>,
    /// VMs that broadcast, in [`Setup::Veth`].
    pub(crate) flooders: Vec<Flooder>,
    /// VMs with many MACs to talk to, in [`Setup::Tables`].
    pub(crate) tables: Vec<Table>,
    /// In [`Setup::Domains`].
    domains: Option<Domains>,
    pub(crate) far: Vm,
    pub(crate) host: Host,
    pub(crate) far_host: Host,
    /// Receives from the wire.
    pub(crate) uplink: Receiver,
    /// Receives from the VM, if that is on a veth.
    pub(crate) port: Option<Receiver>,
    /// Receives in the VM, in [`Setup::VmXdp`].
    pub(crate) nic: Option<Receiver>,
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
        // Known for good: while processors are busy with load, nobody gets to answer. VTEPs that are
        // only routes are behind it, too.
        let (address, mac) = (far_host.address(), mac_text(far_host.mac()?));
        host.ns().ip(&format!(
            "neigh replace {address} lladdr {mac} dev {uplink} nud permanent\n\
             route add {prefix} via {address}\n",
            uplink = Host::UPLINK,
            prefix = Fabric::PREFIX,
        ))?;
        let near = match setup {
            Setup::Tap => host.tap_vm("vm1", &VmSpec::new(1).offload())?,
            _ => host.vm("vm1", &VmSpec::new(1))?,
        };
        let mut spec = VmSpec::new(2);
        spec.addresses.push(format!("{UNTOLD}/24"));
        let far = far_host.vm("vm2", &spec)?;
        match variant {
            Variant::Raw => raw::bridge(&far_host, &far, &near)?,
            _ => drop(kernel::bridge(&far_host, &far, &near, &host)?),
        }
        let uplink = Receiver::on(host.ns(), Host::UPLINK, TESTED)?;
        let port = match setup {
            Setup::Tap => None,
            _ => Some(Receiver::on(host.ns(), near.port(), TESTED)?),
        };
        let nic = match setup {
            Setup::VmXdp => Some(Receiver::on(near.ns(), Vm::NIC, TESTED)?.ahead()?),
            _ => None,
        };
        Receiver::on(far_host.ns(), Host::UPLINK, LOADER)?;
        let (neighbor, flooders) = match setup {
            Setup::Veth => (Some(host.vm("vm3", &VmSpec::new(3))?), flood::all(&host)?),
            _ => (None, Vec::new()),
        };
        let tables = match setup {
            Setup::Tables => tables::all(&host)?,
            _ => Vec::new(),
        };
        let domains = match setup {
            Setup::Domains => Some(Domains::create(&host)?),
            _ => None,
        };

        let (mut agent, mut speaker, mut peer) = (None, None, None);
        match variant {
            Variant::Raw => raw::bridge(&host, &near, &far)?,
            Variant::Kernel => {
                let bd = kernel::bridge(&host, &near, &far, &far_host)?;
                if let Some(neighbor) = &neighbor {
                    kernel::plug(&host, &bd, neighbor)?;
                }
                // Last: a bridge takes the lowest address of its ports, and with another one forgets.
                kernel::tell(&host, &bd, &far)?;
                for flooder in &flooders {
                    kernel::flood(&host, flooder)?;
                }
                for table in &tables {
                    kernel::table(&host, table)?;
                }
                if domains.is_some() {
                    kernel::domains(&host)?;
                }
            }
            Variant::Xdp | Variant::Tc if setup == Setup::Tables => {
                let (told, by) = vtep::with_tables(&host, &far_host, &tables, variant.xdp())?;
                (agent, peer) = (Some(told), Some(by));
            }
            Variant::Xdp | Variant::Tc => {
                let (routes, xdp) = (
                    vtep::announce(&far_host, &host, &far, &flooders)?,
                    variant.xdp(),
                );
                agent = Some(vtep::start(
                    &host,
                    &far_host,
                    &far,
                    &flooders,
                    domains.as_ref(),
                    xdp,
                )?);
                speaker = Some(routes);
            }
        }
        if setup != Setup::Tables {
            Ping::to(&FAR.to_string())
                .until_answered(near.ns())
                .with_context(|| format!("{} does not forward", variant.name()))?;
        }
        Ok(Self {
            agent,
            _speaker: speaker,
            _peer: peer,
            variant,
            setup,
            near,
            neighbor,
            flooders,
            tables,
            domains,
            far,
            host,
            far_host,
            uplink,
            port,
            nic,
            lab,
        })
    }

    /// Small UDP packets for the VM, as the far VTEP encapsulates them.
    pub(crate) fn wire_datagrams(&self) -> Result<Template> {
        let inner = datagram(
            parse_mac(self.far.mac())?,
            parse_mac(self.near.mac())?,
            [FAR, NEAR],
        );
        if self.variant == Variant::Raw {
            return Ok(flows(inner));
        }
        encapsulated(Vxlan::frame(&self.far_host, &self.host, VNI, &inner)?)
    }

    /// Small UDP packets of the VM for the far one.
    pub(crate) fn vm_datagrams(&self) -> Result<Template> {
        let (near, far) = (parse_mac(self.near.mac())?, parse_mac(self.far.mac())?);
        Ok(flows(datagram(near, far, [NEAR, FAR])))
    }

    /// Small UDP packets of the VM for the one beside it.
    pub(crate) fn neighbor_datagrams(&self) -> Result<Template> {
        let neighbor = parse_mac(self.neighbor()?.mac())?;
        let near = parse_mac(self.near.mac())?;
        Ok(flows(datagram(near, neighbor, [NEAR, FAR])))
    }

    /// The other VM on the host under test.
    pub(crate) fn neighbor(&self) -> Result<&Vm> {
        self.neighbor.as_ref().context("no other VM")
    }

    /// Small UDP packets for many bridge domains, as the far VTEP encapsulates them.
    pub(crate) fn domain_datagrams(&self, size: DomainSize) -> Result<Template> {
        let domains = self.domains.as_ref().context("no domains")?;
        domains.datagrams(size, &self.far_host)
    }

    /// One of the agent's maps.
    pub(crate) fn pinned_map(&self, name: &str) -> Result<OwnedFd> {
        sys::pinned(&self.pins()?.join("maps").join(name))
    }

    /// The program of the agent that is attached at some place, by the name of its link.
    pub(crate) fn program(&self, place: &str) -> Result<OwnedFd> {
        let links = self.pins()?.join("links");
        let mut names = fs::read_dir(&links)?.filter_map(Result::ok);
        let link = names
            .find(|name| name.file_name().to_string_lossy().starts_with(place))
            .with_context(|| format!("no {place} in {}", links.display()))?;
        let line = format!("bpftool --json link show pinned {}", link.path().display());
        let told: serde_json::Value = serde_json::from_str(&self.host.ns().run(&line)?)?;
        let id = told["prog_id"]
            .as_u64()
            .context("a link without a program")?;
        sys::program(u32::try_from(id)?)
    }

    fn pins(&self) -> Result<PathBuf> {
        let root = self.lab.bpffs().join(self.host.name());
        let versions = fs::read_dir(&root)?.filter_map(Result::ok);
        let mut versions = versions.map(|version| version.path());
        let version = versions.find(|version| version.join("maps/fdb").exists());
        version.with_context(|| format!("nothing pinned in {}", root.display()))
    }

    /// Index of the uplink.
    pub(crate) fn uplink_index(&self) -> Result<u32> {
        device::index(self.host.ns(), Host::UPLINK)
    }

    /// Index of the host's end of the VM's link.
    pub(crate) fn port_index(&self) -> Result<u32> {
        device::index(self.host.ns(), self.near.port())
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

/// UDP packets like this one, of several flows.
fn flows(bytes: Vec<u8>) -> Template {
    Template {
        bytes,
        flow: vec![35],
        random: Vec::new(),
    }
}

/// The same, encapsulated.
fn encapsulated(mut bytes: Vec<u8>) -> Result<Template> {
    // No outer UDP checksum, as usual; its source port tells the flows apart, too.
    bytes.get_mut(40..42).context("a short frame")?.fill(0);
    bytes
        .get_mut(34..36)
        .context("a short frame")?
        .copy_from_slice(&[0xc0, 0]);
    Ok(Template {
        bytes,
        flow: vec![35, 50 + 35],
        random: Vec::new(),
    })
}

/// A UDP packet of 60 bytes without a checksum.
pub(crate) fn datagram(
    source: [u8; 6],
    destination: [u8; 6],
    [from, to]: [Ipv4Addr; 2],
) -> Vec<u8> {
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

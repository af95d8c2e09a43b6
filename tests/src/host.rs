//! The underlay, the hypervisors on it, and the VMs on them.

use std::{
    net::Ipv4Addr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
};

use anyhow::{Context as _, Result, ensure};

use crate::{Lab, Namespace, mac::parse_mac, tap::TapWire};

/// Properties of an [`Underlay`].
#[derive(Clone, Copy, Debug)]
pub struct UnderlayOptions {
    /// MTU of all links, bytes.
    pub mtu: u16,
    /// Whether hosts leave checksums to their uplink. Frames between namespaces then carry partial
    /// checksums, which a real network never shows; native XDP on the receiver sees them.
    pub tx_checksum: bool,
}

impl Default for UnderlayOptions {
    /// Room for VXLAN around a frame of 1500 bytes, and checksums as on a real wire.
    fn default() -> Self {
        Self {
            mtu: 1600,
            tx_checksum: false,
        }
    }
}

/// One Ethernet segment, 198.18.0.0/24, that joins hosts: a bridge in a namespace of its own.
#[derive(Debug)]
pub struct Underlay {
    lab: Lab,
    ns: Namespace,
    options: UnderlayOptions,
    hosts: AtomicU8,
}

impl Underlay {
    /// Device that joins the hosts.
    pub const BRIDGE: &'static str = "br0";

    pub(crate) fn create(lab: &Lab, options: &UnderlayOptions) -> Result<Self> {
        let ns = lab.namespace("underlay")?;
        ns.ip(&format!(
            "link add {0} type bridge mcast_snooping 0\nlink set {0} mtu {1} up\n",
            Self::BRIDGE,
            options.mtu
        ))?;
        Ok(Self {
            lab: lab.clone(),
            ns,
            options: *options,
            hosts: AtomicU8::new(0),
        })
    }

    /// Adds a host; the Nth has the address 198.18.0.N on its uplink.
    ///
    /// # Errors
    ///
    /// When `ip` or `ethtool` fails.
    pub fn host(&self, name: &str) -> Result<Host> {
        let number = self.hosts.fetch_add(1, Ordering::Relaxed) + 1;
        let address = Ipv4Addr::new(198, 18, 0, number);
        let host = Host::new(&self.lab, name, address)?;
        self.link(&host, Host::UPLINK, &format!("to-{name}"))?;
        host.ns
            .ip(&format!("addr add {address}/24 dev {}\n", Host::UPLINK))?;
        Ok(host)
    }

    /// Joins a host by one more link, which has no address on it.
    ///
    /// # Errors
    ///
    /// When `ip` or `ethtool` fails.
    pub fn link(&self, host: &Host, device: &str, switch_port: &str) -> Result<()> {
        self.ns.ip(&format!(
            "link add {switch_port} mtu {mtu} type veth peer name {device} mtu {mtu} netns {host}\n\
             link set {switch_port} master {bridge} up\n",
            mtu = self.options.mtu,
            host = host.ns.name(),
            bridge = Self::BRIDGE,
        ))?;
        if !self.options.tx_checksum {
            host.ns.run(&format!("ethtool -K {device} tx off"))?;
        }
        host.ns.ip(&format!("link set {device} up\n"))
    }

    /// The namespace of the switch: every host's link ends here, under the name `to-HOST`.
    pub fn ns(&self) -> &Namespace {
        &self.ns
    }
}

/// A machine on the underlay.
#[derive(Clone, Debug)]
pub struct Host {
    lab: Lab,
    name: String,
    address: Ipv4Addr,
    ns: Namespace,
}

impl Host {
    /// Device on the underlay.
    pub const UPLINK: &'static str = "eth0";

    /// A host that has no links yet.
    pub(crate) fn new(lab: &Lab, name: &str, address: Ipv4Addr) -> Result<Self> {
        Ok(Self {
            lab: lab.clone(),
            name: name.to_owned(),
            address,
            ns: lab.namespace(name)?,
        })
    }

    /// Starts a VM, joined by a veth pair whose end on the host is [`Vm::port`].
    ///
    /// # Errors
    ///
    /// When `ip` fails.
    pub fn vm(&self, name: &str, spec: &VmSpec) -> Result<Vm> {
        self.start(name, spec, Link::Veth)
    }

    /// Starts a VM whose [`Vm::port`] is a tap, as with QEMU.
    ///
    /// # Errors
    ///
    /// When there is no `/dev/net/tun`, or the lab is to outlive this process, which carries the
    /// VM's frames.
    pub fn tap_vm(&self, name: &str, spec: &VmSpec) -> Result<Vm> {
        ensure!(!self.lab.is_kept(), "taps do not outlive this process");
        self.start(name, spec, Link::Tap(Mutex::new(None)))
    }

    fn start(&self, name: &str, spec: &VmSpec, link: Link) -> Result<Vm> {
        let ns = self.lab.namespace(name)?;
        let kind = match link {
            Link::Veth => "vnet",
            Link::Tap(_) => "tap",
        };
        let port = format!("{kind}-{name}");
        ensure!(port.len() <= 15, "the VM's name {name} is too long");
        let vm = Vm {
            name: name.to_owned(),
            port,
            spec: spec.clone(),
            link,
            ns,
            host: self.ns.clone(),
        };
        vm.plug()?;
        Ok(vm)
    }

    /// The MAC address of its uplink.
    ///
    /// # Errors
    ///
    /// When `ip` fails.
    pub fn mac(&self) -> Result<[u8; 6]> {
        let json = self
            .ns
            .run(&format!("ip -json link show {}", Self::UPLINK))?;
        let links: serde_json::Value = serde_json::from_str(&json)?;
        let text = links[0]["address"]
            .as_str()
            .context("the uplink has no address")?;
        parse_mac(text)
    }

    /// The lab it is in.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address on the underlay.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Its namespace.
    pub fn ns(&self) -> &Namespace {
        &self.ns
    }
}

/// What a VM has on its interface.
#[derive(Clone, Debug)]
pub struct VmSpec {
    /// MAC address.
    pub mac: String,
    /// Addresses with prefix lengths.
    pub addresses: Vec<String>,
    /// MTU, bytes.
    pub mtu: u16,
    /// Whether a tap carries super-packets and frames without checksums, as virtio-net does.
    pub offload: bool,
}

impl VmSpec {
    /// 02:00:00:00:00:NN with 10.0.0.N/24 and fd00::N/64 (N in hexadecimal), MTU 1500.
    pub fn new(number: u8) -> Self {
        Self {
            mac: format!("02:00:00:00:00:{number:02x}"),
            addresses: vec![
                format!("10.0.0.{number}/24"),
                format!("fd00::{number:x}/64"),
            ],
            mtu: 1500,
            offload: false,
        }
    }

    /// With another MTU, bytes.
    #[must_use]
    pub fn mtu(self, mtu: u16) -> Self {
        Self { mtu, ..self }
    }

    /// With [`Self::offload`].
    #[must_use]
    pub fn offload(self) -> Self {
        Self {
            offload: true,
            ..self
        }
    }

    /// With another MAC address.
    #[must_use]
    pub fn mac(self, mac: &str) -> Self {
        Self {
            mac: mac.to_owned(),
            ..self
        }
    }

    /// Without addresses: a VM that is silent until a test sends something.
    #[must_use]
    pub fn silent(self) -> Self {
        Self {
            addresses: Vec::new(),
            ..self
        }
    }
}

/// A VM: a namespace with one interface.
#[derive(Debug)]
pub struct Vm {
    name: String,
    port: String,
    spec: VmSpec,
    link: Link,
    ns: Namespace,
    host: Namespace,
}

/// How a VM is joined to its host.
#[derive(Debug)]
enum Link {
    Veth,
    Tap(Mutex<Option<TapWire>>),
}

impl Vm {
    /// Its interface.
    pub const NIC: &'static str = "eth0";

    /// Joins the VM to its host by a new veth pair, or new taps.
    ///
    /// # Errors
    ///
    /// When it is joined already, or `ip` fails.
    pub fn plug(&self) -> Result<()> {
        let (nic, mac, mtu) = (Self::NIC, &self.spec.mac, self.spec.mtu);
        match &self.link {
            Link::Veth => self.host.ip(&format!(
                "link add {port} mtu {mtu} type veth peer name {nic} address {mac} mtu {mtu} \
                 netns {ns}\n",
                port = self.port,
                ns = self.ns.name(),
            ))?,
            Link::Tap(wire) => {
                let ends = [(&self.host, &*self.port), (&self.ns, nic)];
                *wire.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(TapWire::new(ends, self.spec.offload)?);
                self.ns
                    .ip(&format!("link set {nic} address {mac} mtu {mtu}\n"))?;
                self.host
                    .ip(&format!("link set {} mtu {mtu}\n", self.port))?;
            }
        }
        if self.spec.addresses.is_empty() {
            // A silent VM does not even solicit routers.
            let key = format!("net/ipv6/conf/{}/disable_ipv6", Self::NIC);
            self.ns.sysctl(&key, "1")?;
        }
        let mut batch = String::new();
        for address in &self.spec.addresses {
            let nodad = if address.contains(':') { " nodad" } else { "" };
            batch += &format!("addr add {address} dev {}{nodad}\n", Self::NIC);
        }
        batch += &format!("link set {} up\n", Self::NIC);
        self.ns.ip(&batch)?;
        self.host.ip(&format!("link set {} up\n", self.port))
    }

    /// Removes what [`Vm::plug`] made, as a hypervisor does when the VM stops.
    ///
    /// # Errors
    ///
    /// When `ip` fails.
    pub fn unplug(&self) -> Result<()> {
        match &self.link {
            Link::Veth => self.host.ip(&format!("link del {}\n", self.port)),
            Link::Tap(wire) => {
                wire.lock().unwrap_or_else(PoisonError::into_inner).take();
                Ok(())
            }
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The host's end of its link.
    pub fn port(&self) -> &str {
        &self.port
    }

    /// The thread that carries the frames of a VM on a tap, by its number in the kernel: what a
    /// hypervisor's is for a virtio NIC. `None` on a veth, or unplugged.
    pub fn carrier(&self) -> Option<i32> {
        match &self.link {
            Link::Veth => None,
            Link::Tap(wire) => {
                let wire = wire.lock().unwrap_or_else(PoisonError::into_inner);
                wire.as_ref().map(TapWire::thread)
            }
        }
    }

    /// Its MAC address.
    pub fn mac(&self) -> &str {
        &self.spec.mac
    }

    /// Its namespace.
    pub fn ns(&self) -> &Namespace {
        &self.ns
    }
}

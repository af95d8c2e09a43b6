//! Bridge domains by the thousand, with a port in each.

use anyhow::Result;
use vtep_tests::{Host, PacketSocket, Vxlan, mac_text};

use super::{FAR, NEAR, datagram};
use crate::load::{Random, Template};

/// How many of the domains get frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    domains: u16,
    /// Its name in tables.
    pub(crate) name: &'static str,
}

pub(crate) const SIZES: [Size; 3] = [
    size(1, "UDP 60 B, wire to 1 BD"),
    size(100, "  to 100 BDs"),
    size(ALL, "  to 4,000 BDs"),
];

const fn size(domains: u16, name: &'static str) -> Size {
    Size { domains, name }
}

/// So many there are.
const ALL: u16 = 4000;
/// The two lower bytes of a domain's VNI are its number, from 1 on.
const BASE_VNI: u32 = 1 << 16;
/// Where these bytes are in an encapsulated frame.
const VNI_OFFSET: usize = 14 + 20 + 8 + 5;
/// The other end of [`Domains::BELOW`].
const OUTSIDE: &str = "vms";

/// Bridge domains of one host, each with a port that is a macvlan: one device for each, where a veth
/// would be two.
#[derive(Debug)]
pub(crate) struct Domains {
    host: Host,
}

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Domain(u16);

impl Domains {
    /// What leaves by any of the ports leaves by this device.
    pub(crate) const BELOW: &'static str = "ports";

    /// Makes the ports.
    pub(super) fn create(host: &Host) -> Result<Self> {
        let below = Self::BELOW;
        let mut batch = format!(
            "link add {below} type veth peer name {OUTSIDE}\n\
             link set {below} up\nlink set {OUTSIDE} up\n"
        );
        for domain in Self::all() {
            let (port, address) = (domain.port(), mac_text(domain.address()));
            batch += &format!(
                "link add link {below} up {port} address {address} type macvlan mode private\n"
            );
        }
        without_ipv6(host, || host.ns().ip(&batch))?;
        Ok(Self { host: host.clone() })
    }

    pub(super) fn all() -> impl Iterator<Item = Domain> {
        (1..=ALL).map(Domain)
    }

    /// Has the VM of each domain send a frame, from which its MAC is learned.
    pub(super) fn speak(&self) -> Result<()> {
        let frame = |domain: Domain| datagram(domain.mac(), domain.address(), [NEAR, FAR]);
        let frames: Vec<_> = Self::all().map(frame).collect();
        PacketSocket::open(self.host.ns(), OUTSIDE)?.send_all(&frames)
    }

    /// Small UDP packets for the VMs of so many domains, as a far VTEP encapsulates them: each for
    /// another one, in no order.
    pub(crate) fn datagrams(&self, size: Size, from: &Host) -> Result<Template> {
        let first = Domain(1);
        let inner = datagram(first.address(), first.mac(), [FAR, NEAR]);
        let mut template =
            super::encapsulated(Vxlan::frame(from, &self.host, first.vni(), &inner)?)?;
        template.random.push(Random {
            offset: VNI_OFFSET,
            most: size.domains,
        });
        Ok(template)
    }
}

impl Drop for Domains {
    /// All ports go with the device below them, at once and before the namespace, whose end nobody can
    /// wait for.
    fn drop(&mut self) {
        if let Err(error) = self.host.ns().ip(&format!("link del {}\n", Self::BELOW)) {
            eprintln!("{error:#}");
        }
    }
}

impl Domain {
    /// Its name.
    pub(super) fn name(self) -> String {
        format!("domain{}", self.0)
    }

    /// Its VNI.
    pub(super) fn vni(self) -> u32 {
        BASE_VNI + u32::from(self.0)
    }

    /// Its port.
    pub(super) fn port(self) -> String {
        format!("port{}", self.0)
    }

    /// The MAC of its VM: the same in all domains.
    pub(super) fn mac(self) -> [u8; 6] {
        [0x02, 0, 0, 1, 0, 0]
    }

    /// The MAC of the port, by which frames of its VM find it.
    fn address(self) -> [u8; 6] {
        let [high, low] = self.0.to_be_bytes();
        [0x02, 0, 0, 2, high, low]
    }
}

/// Thousands of devices are made sooner without.
pub(super) fn without_ipv6(host: &Host, make: impl FnOnce() -> Result<()>) -> Result<()> {
    let key = "net/ipv6/conf/default/disable_ipv6";
    host.ns().sysctl(key, "1")?;
    make()?;
    host.ns().sysctl(key, "0")
}

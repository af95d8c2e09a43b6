//! Hosts that are routed themselves: each has a link to both of two FRR leaf switches, and nothing else
//! joins them.

use std::{fmt::Write as _, net::Ipv4Addr};

use anyhow::Result;

use crate::{Frr, Host, Lab, UnderlayOptions};

/// Two leaves and two hosts. Host N has its VTEP address 203.0.113.N on `lo`, and `eth0` and `eth1`
/// towards the leaves, whose ends are called `h1` and `h2`.
#[derive(Debug)]
pub struct Leaves {
    /// bgpd and zebra of leaf N are in AS 65100 + N.
    pub leaves: [Frr; 2],
    /// The hosts, without agents.
    pub hosts: [Host; 2],
}

/// How the links are addressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// 192.0.2.4×leaf + 2×host − 6, and one more on the leaf.
    Numbered,
    /// By link-local addresses.
    Unnumbered,
}

impl Leaves {
    /// Starts FRR on the leaves, with a session for each host.
    ///
    /// # Errors
    ///
    /// When `ip` or FRR fails.
    pub fn start(lab: &Lab, links: Links) -> Result<Self> {
        let host = |number: u8, name: &str| -> Result<Host> {
            let address = Ipv4Addr::new(203, 0, 113, number);
            let host = Host::new(lab, name, address)?;
            host.ns()
                .ip(&format!("addr add {address}/32 dev lo\nlink set lo up\n"))?;
            Ok(host)
        };
        let hosts = [host(1, "h1")?, host(2, "h2")?];
        let leaf = |number: u8| -> Result<Frr> {
            let leaf = host(100 + number, &format!("leaf{number}"))?;
            leaf.ns().sysctl("net/ipv4/ip_forward", "1")?;
            for (index, host) in (1..).zip(&hosts) {
                join(&leaf, number, host, index, links)?;
            }
            Frr::start_with(&leaf, &bgpd_conf(number, links))
        };
        Ok(Self {
            leaves: [leaf(1)?, leaf(2)?],
            hosts,
        })
    }

    /// A host's and a leaf's address on their link, both numbers from 1.
    pub fn link(leaf: u8, host: u8) -> (Ipv4Addr, Ipv4Addr) {
        let first = 4 * leaf + 2 * host - 6;
        let address = |last| Ipv4Addr::new(192, 0, 2, last);
        (address(first), address(first + 1))
    }
}

fn join(leaf: &Host, number: u8, host: &Host, index: u8, links: Links) -> Result<()> {
    let (near, far) = (format!("eth{}", number - 1), host.name());
    let mtu = UnderlayOptions::default().mtu;
    host.ns().ip(&format!(
        "link add {near} mtu {mtu} type veth peer name {far} mtu {mtu} netns {}\n",
        leaf.ns().name()
    ))?;
    let (host_address, leaf_address) = Leaves::link(number, index);
    for (end, device, address) in [(host, &*near, host_address), (leaf, far, leaf_address)] {
        end.ns().run(&format!("ethtool -K {device} tx off"))?;
        if links == Links::Numbered {
            end.ns()
                .ip(&format!("addr add {address}/31 dev {device}\n"))?;
        }
        end.ns().ip(&format!("link set {device} up\n"))?;
    }
    Ok(())
}

fn bgpd_conf(leaf: u8, links: Links) -> String {
    let mut conf = format!(
        "router bgp {}\n bgp router-id 203.0.113.{}\n no bgp ebgp-requires-policy\n \
         no bgp default ipv4-unicast\n timers bgp 1 3\n",
        65100 + u32::from(leaf),
        100 + leaf
    );
    let (mut ipv4, mut evpn) = (String::new(), String::new());
    for host in 1..=2 {
        let (address, _) = Leaves::link(leaf, host);
        let (peer, declaration) = match links {
            Links::Numbered => (address.to_string(), "remote-as external".to_owned()),
            Links::Unnumbered => (
                format!("h{host}"),
                "interface remote-as external".to_owned(),
            ),
        };
        // Writing into a String cannot fail.
        let _ = writeln!(conf, " neighbor {peer} {declaration}");
        let _ = writeln!(conf, " neighbor {peer} timers connect 1");
        let _ = writeln!(conf, " neighbor {peer} advertisement-interval 0");
        let _ = writeln!(ipv4, "  neighbor {peer} activate");
        let _ = writeln!(evpn, "  neighbor {peer} activate");
        let _ = writeln!(evpn, "  neighbor {peer} attribute-unchanged next-hop");
    }
    conf + " address-family ipv4 unicast\n"
        + &ipv4
        + " exit-address-family\n address-family l2vpn evpn\n"
        + &evpn
        + " exit-address-family\n"
}

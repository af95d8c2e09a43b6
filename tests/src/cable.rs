//! Two hosts and nothing between them.

use std::net::Ipv4Addr;

use anyhow::Result;

use crate::{Host, Lab, UnderlayOptions};

impl Lab {
    /// Two hosts joined by one veth pair, without a switch: the Nth has the address 198.18.0.N on
    /// its uplink. For measurements, which a switch would take part in.
    ///
    /// # Errors
    ///
    /// When `ip` or `ethtool` fails.
    pub fn cable(&self, names: [&str; 2], options: &UnderlayOptions) -> Result<[Host; 2]> {
        let [a, b] = names;
        let hosts = [
            Host::new(self, a, Ipv4Addr::new(198, 18, 0, 1))?,
            Host::new(self, b, Ipv4Addr::new(198, 18, 0, 2))?,
        ];
        let [one, other] = &hosts;
        one.ns().ip(&format!(
            "link add {uplink} mtu {mtu} type veth peer name {uplink} mtu {mtu} netns {other}\n",
            uplink = Host::UPLINK,
            mtu = options.mtu,
            other = other.ns().name(),
        ))?;
        for host in &hosts {
            if !options.tx_checksum {
                host.ns()
                    .run(&format!("ethtool -K {} tx off", Host::UPLINK))?;
            }
            host.ns().ip(&format!(
                "addr add {}/24 dev {uplink}\nlink set {uplink} up\n",
                host.address(),
                uplink = Host::UPLINK,
            ))?;
        }
        Ok(hosts)
    }
}

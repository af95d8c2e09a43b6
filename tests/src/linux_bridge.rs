//! The kernel's own VTEP: a bridge and a vxlan device for each VNI.

use anyhow::Result;

use crate::{Host, Vm};

/// A bridge domain made of Linux devices: what FRR drives, or a test by hand.
#[derive(Debug)]
pub struct LinuxBd {
    host: Host,
    vni: u32,
}

impl LinuxBd {
    /// A bridge `brVNI` with a vxlan device `vxVNI` that learns nothing from the overlay.
    ///
    /// # Errors
    ///
    /// When `ip` or `bridge` fails.
    pub fn create(host: &Host, vni: u32) -> Result<Self> {
        Self::create_all(host, &[vni])?;
        Ok(Self {
            host: host.clone(),
            vni,
        })
    }

    /// Those of many bridge domains at once.
    ///
    /// # Errors
    ///
    /// When `ip` or `bridge` fails.
    pub fn create_all(host: &Host, vnis: &[u32]) -> Result<()> {
        let local = host.address();
        let devices = |vni: &u32| {
            format!(
                "link add br{vni} type bridge mcast_snooping 0\n\
                 link set br{vni} addrgenmode none\n\
                 link add vx{vni} type vxlan id {vni} local {local} dstport 4789 nolearning\n\
                 link set vx{vni} master br{vni} addrgenmode none\n\
                 link set br{vni} up\nlink set vx{vni} up\n"
            )
        };
        let ports = |vni: &u32| format!("link set dev vx{vni} learning off neigh_suppress on\n");
        host.ns()
            .ip(&vnis.iter().map(devices).collect::<String>())?;
        host.ns()
            .bridge(&vnis.iter().map(ports).collect::<String>())
    }

    /// Puts a VM's port into the bridge.
    ///
    /// # Errors
    ///
    /// When `ip` fails.
    pub fn plug(&self, vm: &Vm) -> Result<()> {
        self.host
            .ns()
            .ip(&format!("link set {} master br{}\n", vm.port(), self.vni))
    }

    /// Sends frames for a MAC to a VTEP, with no control plane.
    ///
    /// # Errors
    ///
    /// When `bridge` fails.
    pub fn add_mac(&self, mac: &str, vtep: &Host) -> Result<()> {
        self.fdb(&format!("add {mac}"), vtep)
    }

    /// Sends broadcast, multicast and unknown unicast to a VTEP too.
    ///
    /// # Errors
    ///
    /// When `bridge` fails.
    pub fn add_flood(&self, vtep: &Host) -> Result<()> {
        self.fdb("append 00:00:00:00:00:00", vtep)
    }

    /// The bridge.
    pub fn bridge(&self) -> String {
        format!("br{}", self.vni)
    }

    /// The vxlan device.
    pub fn vxlan(&self) -> String {
        format!("vx{}", self.vni)
    }

    fn fdb(&self, what: &str, vtep: &Host) -> Result<()> {
        let (vni, address) = (self.vni, vtep.address());
        self.host
            .ns()
            .run(&format!("bridge fdb {what} dev vx{vni} dst {address} self"))?;
        Ok(())
    }
}

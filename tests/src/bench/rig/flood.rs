//! VMs that broadcast, each to another number of VTEPs.

use std::net::Ipv4Addr;

use anyhow::Result;
use vtep_tests::{Host, Vm, VmSpec};

use super::{TESTED, datagram, mac};
use crate::{device::Receiver, load::Template};

/// VTEPs that are only routes; all of them behind the far host.
const VTEPS: Ipv4Addr = Ipv4Addr::new(198, 19, 0, 0);
const FIRST_VNI: u32 = 200;
const FIRST_VM: u8 = 20;

/// How many VTEPs a broadcast goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) vteps: u32,
    /// Its name in tables.
    pub(crate) name: &'static str,
}

const SIZES: [Size; 5] = [
    size(1, "copies of floods to 1 VTEP"),
    size(8, "  to 8 VTEPs"),
    size(64, "  to 64 VTEPs"),
    size(512, "  to 512 VTEPs"),
    size(1000, "  to 1,000 VTEPs"),
];

const fn size(vteps: u32, name: &'static str) -> Size {
    Size { vteps, name }
}

/// A VM in a bridge domain of its own.
#[derive(Debug)]
pub(crate) struct Flooder {
    pub(crate) size: Size,
    pub(crate) vni: u32,
    pub(crate) vm: Vm,
    /// Receives from the VM.
    pub(crate) port: Receiver,
}

/// One for each size; the host has a way to all their VTEPs.
pub(super) fn all(host: &Host, far_host: &Host) -> Result<Vec<Flooder>> {
    host.ns().ip(&format!(
        "route add {VTEPS}/16 via {}\n",
        far_host.address()
    ))?;
    let flooder = |(number, size): (u8, Size)| {
        let spec = VmSpec::new(FIRST_VM + number).silent();
        let vm = host.vm(&format!("f{}", size.vteps), &spec)?;
        Ok(Flooder {
            size,
            vni: FIRST_VNI + u32::from(number),
            port: Receiver::on(host.ns(), vm.port(), TESTED)?,
            vm,
        })
    };
    (0..).zip(SIZES).map(flooder).collect()
}

impl Flooder {
    /// The bridge domain's name.
    pub(crate) fn bd(&self) -> String {
        format!("flood{}", self.size.vteps)
    }

    /// The VTEPs.
    pub(crate) fn vteps(&self) -> impl Iterator<Item = Ipv4Addr> {
        (1..=self.size.vteps).map(|number| Ipv4Addr::from(VTEPS.to_bits() + number))
    }

    /// Small UDP packets for everybody.
    pub(crate) fn broadcasts(&self) -> Result<Template> {
        let (from, to) = (Ipv4Addr::new(10, 0, 0, 9), Ipv4Addr::new(10, 0, 0, 255));
        Ok(Template {
            bytes: datagram(mac(self.vm.mac())?, [0xff; 6], [from, to]),
            flow: vec![35],
            random: Vec::new(),
        })
    }
}

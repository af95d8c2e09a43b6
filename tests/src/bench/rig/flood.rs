//! VMs that broadcast, each to another number of VTEPs.

use std::net::Ipv4Addr;

use anyhow::Result;
use vtep_tests::{Fabric, Host, Vm, VmSpec, parse_mac};

use super::{TESTED, datagram};
use crate::{device::Receiver, load::Template};

const FIRST_VNI: u32 = 200;
const FIRST_VM: u8 = 20;

/// How many VTEPs a broadcast goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) vteps: u16,
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

const fn size(vteps: u16, name: &'static str) -> Size {
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

/// One for each size.
pub(super) fn all(host: &Host) -> Result<Vec<Flooder>> {
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

    /// The VTEPs, which are only routes.
    pub(crate) fn vteps(&self) -> impl Iterator<Item = Ipv4Addr> {
        (1..=self.size.vteps).map(Fabric::vtep)
    }

    /// Small UDP packets for everybody.
    pub(crate) fn broadcasts(&self) -> Result<Template> {
        let (from, to) = (Ipv4Addr::new(10, 0, 0, 9), Ipv4Addr::new(10, 0, 0, 255));
        let source = parse_mac(self.vm.mac())?;
        Ok(super::flows(datagram(source, [0xff; 6], [from, to])))
    }
}

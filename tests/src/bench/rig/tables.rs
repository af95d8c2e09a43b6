//! VMs whose bridge domains have more and more MACs.

use std::net::Ipv4Addr;

use anyhow::Result;
use vtep_tests::{Fabric, Host, Vm, VmSpec, parse_mac};

use super::{NEAR, TESTED, UNTOLD, datagram};
use crate::{
    device::Receiver,
    load::{Random, Template},
};

/// Bridge domain of the first table; [`Fabric`] numbers them from 1.
const FIRST_BD: u16 = 1;
const FIRST_VM: u8 = 40;

/// How many MACs there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    vteps: u16,
    /// Of each VTEP.
    macs: u16,
    /// Its name in tables.
    pub(crate) name: &'static str,
}

const SIZES: [Size; 4] = [
    size(1, 1, "UDP 60 B, 1 MAC"),
    size(64, 16, "  1,024 MACs"),
    size(64, 4096, "  262,144 MACs"),
    size(64, 16_384, "  1,048,576 MACs"),
];

const fn size(vteps: u16, macs: u16, name: &'static str) -> Size {
    Size { vteps, macs, name }
}

/// Room for all of them.
pub(super) const ROOM: usize = 1 << 21;

/// A VM in a bridge domain of its own.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) size: Size,
    bd: u16,
    pub(crate) vm: Vm,
    /// Receives from the VM.
    pub(crate) port: Receiver,
}

/// One for each size.
pub(super) fn all(host: &Host) -> Result<Vec<Table>> {
    let table = |(number, size): (u8, Size)| {
        let vm = host.vm(
            &format!("t{number}"),
            &VmSpec::new(FIRST_VM + number).silent(),
        )?;
        Ok(Table {
            size,
            bd: FIRST_BD + u16::from(number),
            port: Receiver::on(host.ns(), vm.port(), TESTED)?,
            vm,
        })
    };
    (0..).zip(SIZES).map(table).collect()
}

impl Table {
    /// The bridge domain's name.
    pub(super) fn name(&self) -> String {
        format!("table{}", self.bd)
    }

    /// Its VNI.
    pub(super) fn vni(&self) -> u32 {
        Fabric::vni(self.bd)
    }

    /// The MACs, and which VTEP has them.
    pub(super) fn macs(&self) -> impl Iterator<Item = ([u8; 6], Ipv4Addr)> {
        let of = move |vtep| {
            let macs = 1..=self.size.macs;
            macs.map(move |n| (Fabric::mac(vtep, self.bd, n), Fabric::vtep(vtep)))
        };
        (1..=self.size.vteps).flat_map(of)
    }

    /// How many.
    pub(super) fn len(&self) -> usize {
        usize::from(self.size.vteps) * usize::from(self.size.macs)
    }

    /// Small UDP packets for all MACs, in no order.
    pub(crate) fn datagrams(&self) -> Result<Template> {
        let destination = Fabric::mac(1, self.bd, 1);
        let random = |offset, most| Random { offset, most };
        Ok(Template {
            bytes: datagram(parse_mac(self.vm.mac())?, destination, [NEAR, UNTOLD]),
            flow: vec![35],
            // Bytes of the destination.
            random: vec![random(1, self.size.vteps), random(4, self.size.macs)],
        })
    }
}

/// All of them, and the VTEPs.
pub(super) fn announcements(tables: &[Table]) -> Vec<u8> {
    let of = |table: &Table| {
        let fabric = Fabric {
            vteps: table.size.vteps,
            bds: 1,
            macs: table.size.macs,
        };
        fabric.announcements_in(table.bd)
    };
    tables.iter().flat_map(of).collect()
}

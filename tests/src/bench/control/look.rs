//! What forwards, asked of the kernel: the processes under test, which fill these tables, are not kept
//! from their work.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read as _, Write as _},
    net::Ipv4Addr,
    path::PathBuf,
};

use anyhow::{Context as _, Result, ensure};
use aya::maps::{HashMap, Map, MapData, MapError};
use vtep_common::{
    Mac,
    abi::{BdId, FdbKey, FdbWord},
};
use vtep_tests::{Fabric, Host, Station};

use crate::{device, sys};

/// The tables in which the MACs of a fabric are.
pub(super) enum Look {
    /// The agent's map, and the number that it gave each bridge domain, as far as that is known.
    Map {
        fdb: HashMap<MapData, u64, [u64; 2]>,
        bds: u16,
        ids: BTreeMap<u16, BdId>,
    },
    /// Those of the vxlan devices, one for each bridge domain.
    Devices { kernel: File, indices: Vec<u32> },
}

impl Look {
    /// At the agent of a host, with so many bridge domains.
    pub(super) fn map(host: &Host, bds: u16) -> Result<Self> {
        Ok(Self::Map {
            fdb: fdb(host)?,
            bds,
            ids: BTreeMap::new(),
        })
    }

    /// At the vxlan devices of a host.
    pub(super) fn devices(host: &Host, fabric: &Fabric) -> Result<Self> {
        let index = |vni| device::index(host.ns(), &format!("vx{vni}"));
        Ok(Self::Devices {
            kernel: host.ns().enter(sys::route_socket)?,
            indices: fabric.vnis().map(index).collect::<Result<_>>()?,
        })
    }

    /// Where frames for a MAC go: the same number for all MACs of a bridge domain at one VTEP.
    pub(super) fn target(&mut self, station: Station) -> Result<Option<u32>> {
        match self {
            Self::Map { fdb, bds, ids } => {
                let mac = Mac(station.mac());
                let get = |id: BdId| match fdb.get(&FdbKey::new(id, mac).0, 0) {
                    Ok([word, _]) => Ok(Some(FdbWord(word).target())),
                    Err(MapError::KeyNotFound) => Ok(None),
                    Err(error) => Err(error),
                };
                if let Some(id) = ids.get(&station.bd) {
                    return Ok(get(*id)?);
                }
                // No other bridge domain has this MAC.
                for id in (0..=*bds).map(BdId) {
                    if let Some(target) = get(id)? {
                        ids.insert(station.bd, id);
                        return Ok(Some(target));
                    }
                }
                Ok(None)
            }
            Self::Devices { kernel, indices } => {
                let place = usize::from(station.bd).checked_sub(1);
                let index = place.and_then(|place| indices.get(place));
                let vtep = remote(kernel, *index.context("no such device")?, station.mac())?;
                Ok(vtep.map(Ipv4Addr::to_bits))
            }
        }
    }

    /// Whether there is an entry for a MAC.
    pub(super) fn has(&mut self, station: Station) -> Result<bool> {
        Ok(self.target(station)?.is_some())
    }
}

/// The pinned FDB of an agent.
pub(super) fn fdb(host: &Host) -> Result<HashMap<MapData, u64, [u64; 2]>> {
    let pins = host.lab().bpffs().join(host.name());
    let versions = fs::read_dir(&pins)?.filter_map(Result::ok);
    let pin: Option<PathBuf> = versions
        .map(|version| version.path().join("maps/fdb"))
        .find(|path| path.exists());
    let pin = pin.with_context(|| format!("no pinned FDB in {}", pins.display()))?;
    Ok(HashMap::try_from(Map::HashMap(MapData::from_pin(pin)?))?)
}

/// What the FDB of a vxlan device has for a MAC: `bridge fdb get MAC dev DEVICE self`, without a process
/// for each question.
fn remote(kernel: &mut File, ifindex: u32, mac: [u8; 6]) -> Result<Option<Ipv4Addr>> {
    // linux/rtnetlink.h, linux/neighbour.h and linux/netlink.h.
    const RTM_NEWNEIGH: u16 = 28;
    const RTM_GETNEIGH: u16 = 30;
    const NLMSG_ERROR: u16 = 2;
    const NLM_F_REQUEST: u16 = 1;
    const AF_BRIDGE: u8 = 7;
    const NTF_SELF: u8 = 2;
    const NDA_DST: u16 = 1;
    const NDA_LLADDR: u16 = 2;
    /// Of `struct nlmsghdr` and `struct ndmsg`.
    const HEAD: usize = 16 + 12;

    let mut request = Vec::with_capacity(40);
    request.extend(40_u32.to_ne_bytes());
    request.extend(RTM_GETNEIGH.to_ne_bytes());
    request.extend(NLM_F_REQUEST.to_ne_bytes());
    request.extend([0; 8]);
    request.extend([AF_BRIDGE, 0, 0, 0]);
    request.extend(ifindex.to_ne_bytes());
    request.extend([0, 0, NTF_SELF, 0]);
    request.extend(10_u16.to_ne_bytes());
    request.extend(NDA_LLADDR.to_ne_bytes());
    request.extend(mac);
    request.extend([0; 2]);
    kernel.write_all(&request)?;
    let mut buffer = [0; 1024];
    let length = kernel.read(&mut buffer)?;
    let answer = buffer.get(..length).unwrap_or_default();
    let half = |bytes: &[u8], offset: usize| {
        let found = bytes.get(offset..).and_then(<[u8]>::first_chunk);
        found.map(|bytes| u16::from_ne_bytes(*bytes))
    };
    match half(answer, 4).context("a short answer")? {
        NLMSG_ERROR => {
            let number = answer.get(16..).and_then(<[u8]>::first_chunk);
            let number = i32::from_ne_bytes(*number.context("a short error")?);
            let error = std::io::Error::from_raw_os_error(-number);
            ensure!(-number == libc::ENOENT, "no look at the FDB: {error}");
            Ok(None)
        }
        RTM_NEWNEIGH => {
            let mut rest = answer.get(HEAD..).unwrap_or_default();
            while let Some((length, kind)) = half(rest, 0).zip(half(rest, 2)) {
                let value = rest.get(4..usize::from(length));
                if let (NDA_DST, Some(octets)) = (kind, value.and_then(<[u8]>::first_chunk::<4>)) {
                    return Ok(Some(Ipv4Addr::from(*octets)));
                }
                // Attributes begin at multiples of 4.
                let next = usize::from(length).next_multiple_of(4).max(4);
                rest = rest.get(next..).unwrap_or_default();
            }
            Ok(None)
        }
        other => anyhow::bail!("the kernel answers with a message of type {other}"),
    }
}

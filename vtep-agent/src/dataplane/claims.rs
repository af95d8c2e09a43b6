//! One agent for one pin directory, and one for one uplink: two would take each other's frames.

use std::{
    collections::{HashMap, hash_map::Entry},
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use super::{
    DataplaneError,
    bpffs::{self, Lock},
    check_privileges,
    hooks::Device,
    sys,
};

/// What is ours while this lives, and no other agent's.
pub struct Claims {
    pin_dir: PathBuf,
    _lock: Lock,
    uplinks: HashMap<u32, Claim>,
}

impl Claims {
    /// Makes the pin directory, on a bpffs, and keeps other agents off it.
    ///
    /// # Errors
    ///
    /// Lack of privilege, no place for pins, or [`DataplaneError::Locked`].
    pub fn new(pin_dir: &Path) -> Result<Self, DataplaneError> {
        check_privileges()?;
        bpffs::prepare(pin_dir)?;
        Ok(Self {
            pin_dir: pin_dir.to_owned(),
            _lock: bpffs::lock(pin_dir)?,
            uplinks: HashMap::new(),
        })
    }

    /// Keeps other agents off an uplink. Again is done, and a device that does not exist is nobody's.
    ///
    /// # Errors
    ///
    /// [`DataplaneError::Claimed`] when another agent has it.
    pub fn uplink(&mut self, name: &str) -> Result<(), DataplaneError> {
        match Device::named(name) {
            Some(device) => self.claim(&device),
            None => Ok(()),
        }
    }

    pub(super) fn claim(&mut self, device: &Device) -> Result<(), DataplaneError> {
        if let Entry::Vacant(place) = self.uplinks.entry(device.ifindex) {
            place.insert(Claim::take(device)?);
        }
        Ok(())
    }

    /// Others may have the uplink.
    pub(super) fn release(&mut self, ifindex: u32) {
        self.uplinks.remove(&ifindex);
    }

    pub(super) fn pin_dir(&self) -> &Path {
        &self.pin_dir
    }
}

/// An uplink is ours while this lives. The name of a socket without a file belongs to the network
/// namespace, as the device does, and goes with the process, however it ends.
struct Claim {
    /// `None` when somebody has the name who is no agent.
    _listener: Option<UnixListener>,
}

impl Claim {
    /// Claims an uplink.
    fn take(device: &Device) -> Result<Self, DataplaneError> {
        let refused = |error| DataplaneError::Claim {
            device: device.name.clone(),
            error,
        };
        let address = address(device.ifindex).map_err(refused)?;
        match UnixListener::bind_addr(&address) {
            Ok(listener) => Ok(Self {
                _listener: Some(listener),
            }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => match holder(&address) {
                Some(holder) if holder.uid == own_uid() => Err(DataplaneError::Claimed {
                    device: device.name.clone(),
                    pid: holder.pid,
                }),
                // Anybody may take the name, but not keep us from our work.
                _ => {
                    tracing::warn!(
                        device = device.name,
                        "another user holds the name that keeps a second agent off this uplink"
                    );
                    Ok(Self { _listener: None })
                }
            },
            Err(error) => Err(refused(error)),
        }
    }
}

fn address(ifindex: u32) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("vtep-agent/uplink/{ifindex}"))
}

fn holder(address: &SocketAddr) -> Option<libc::ucred> {
    sys::peer(&UnixStream::connect_addr(address).ok()?).ok()
}

fn own_uid() -> libc::uid_t {
    // SAFETY: no arguments, no memory, never fails.
    unsafe { libc::geteuid() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_of_the_first() {
        let device = Device {
            // No kernel hands out such a one.
            ifindex: u32::MAX - std::process::id(),
            name: "eth0".to_owned(),
        };
        let first = Claim::take(&device).unwrap();
        let Err(error) = Claim::take(&device) else {
            panic!("claimed twice")
        };
        let pid = std::process::id();
        assert_eq!(
            error.to_string(),
            format!(
                "another agent (process {pid}) has the uplink eth0: stop it, or detach it there"
            )
        );
        drop(first);
        Claim::take(&device).unwrap();
    }
}

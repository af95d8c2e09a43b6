//! Which programs go to which device, and what becomes of those of an earlier run.

use aya::{
    Ebpf,
    programs::{SchedClassifier, Xdp},
};

use super::{
    Dataplane, DataplaneError,
    hooks::{Attached, Device},
    pins::{Hook, Place},
    program,
};
use crate::config::XdpMode;

/// Hooks of a VM port.
const ACCESS: [Hook; 2] = [Hook::AccessTcx, Hook::AccessFilter];
/// Hooks of an uplink, the XDP half first.
const UNDERLAY: [Hook; 4] = [
    Hook::XdpNative,
    Hook::XdpGeneric,
    Hook::UnderlayTcx,
    Hook::UnderlayFilter,
];

/// How an uplink's XDP half is attached. The TC half always is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachedMode {
    /// In the driver.
    Native,
    /// On socket buffers.
    Generic,
    /// Not at all: TC does everything.
    Off,
}

/// An attached uplink.
pub(super) struct Uplink {
    requested: XdpMode,
    mode: AttachedMode,
    xdp: Option<Attached>,
    tc: Attached,
}

impl AttachedMode {
    /// As `show uplinks` prints it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Off => "off",
        }
    }
}

impl Dataplane {
    /// Attaches the underlay programs to an uplink, the TC half first: a frame that the XDP half
    /// stripped must find it. Again with another mode changes the mode; again with the same one does
    /// nothing. Returns what became of the XDP half.
    ///
    /// # Errors
    ///
    /// The device is gone, or it refuses a program; XDP in mode `auto` is no error. Nothing of this
    /// call stays attached then; a change of mode leaves the old one.
    pub fn attach_uplink(
        &mut self,
        ifindex: u32,
        name: &str,
        mode: XdpMode,
    ) -> Result<AttachedMode, DataplaneError> {
        let device = Device::find(ifindex, name)?;
        if let Some(mut uplink) = self.uplinks.remove(&ifindex) {
            let result = self.change_mode(&device, &mut uplink, mode);
            self.uplinks.insert(ifindex, uplink);
            return result;
        }
        self.claims.claim(&device)?;
        let tc = self.attach_tc(&device, Hook::UnderlayTcx, Hook::UnderlayFilter)?;
        match self.attach_xdp(&device, mode) {
            Ok((attached, xdp)) => {
                self.uplinks.insert(
                    ifindex,
                    Uplink {
                        requested: mode,
                        mode: attached,
                        xdp,
                        tc,
                    },
                );
                Ok(attached)
            }
            Err(error) => {
                if let Err(also) = tc.detach() {
                    tracing::warn!("{also}");
                }
                Err(error)
            }
        }
    }

    /// Detaches the underlay programs, the XDP half first. An uplink that is not attached, or whose
    /// device is gone, is fine.
    ///
    /// # Errors
    ///
    /// The pin cannot be removed.
    pub fn detach_uplink(&mut self, ifindex: u32) -> Result<(), DataplaneError> {
        self.claims.release(ifindex);
        let detached = self.uplinks.remove(&ifindex).map_or(Ok(()), |uplink| {
            let xdp = uplink.xdp.map_or(Ok(()), Attached::detach);
            uplink.tc.detach().and(xdp)
        });
        detached.and(self.drop_all_inherited(&UNDERLAY, ifindex))
    }

    /// Attaches the access program to a VM port, after the programs that are there. A port that is
    /// attached already is fine.
    ///
    /// # Errors
    ///
    /// The device is gone or refuses the program.
    pub fn attach_port(&mut self, ifindex: u32, name: &str) -> Result<(), DataplaneError> {
        if self.ports.contains_key(&ifindex) {
            return Ok(());
        }
        let device = Device::find(ifindex, name)?;
        let attached = self.attach_tc(&device, Hook::AccessTcx, Hook::AccessFilter)?;
        self.ports.insert(ifindex, attached);
        Ok(())
    }

    /// An earlier run left its program on this port, and this one has not taken it over yet.
    pub fn has_left_over(&self, ifindex: u32) -> bool {
        ACCESS
            .into_iter()
            .any(|hook| self.pins.is_left(Place { hook, ifindex }))
    }

    /// Detaches the access program. A port that is not attached, or whose device is gone, is fine.
    ///
    /// # Errors
    ///
    /// The pin cannot be removed.
    pub fn detach_port(&mut self, ifindex: u32) -> Result<(), DataplaneError> {
        let detached = self.ports.remove(&ifindex).map_or(Ok(()), Attached::detach);
        detached.and(self.drop_all_inherited(&ACCESS, ifindex))
    }

    /// Attaches the overlay program to the host's collect-metadata vxlan device; inner TCP goes there
    /// from now on, where the underlay's TC half has to decapsulate.
    ///
    /// # Errors
    ///
    /// The device is gone or refuses the program, or the settings cannot be written.
    pub fn attach_overlay(&mut self, ifindex: u32, name: &str) -> Result<(), DataplaneError> {
        let device = Device::find(ifindex, name)?;
        let attached = self.attach_tc(&device, Hook::OverlayTcx, Hook::OverlayFilter)?;
        self.overlay = Some(attached);
        self.maps.set_tcp_to_device(true)
    }

    /// Has the underlay's TC half decapsulate inner TCP again, whoever had it do otherwise, and detaches
    /// the overlay program. A device that is gone, or never was, is fine.
    ///
    /// # Errors
    ///
    /// The settings cannot be written or the pin not removed.
    pub fn detach_overlay(&mut self) -> Result<(), DataplaneError> {
        let off = self.maps.set_tcp_to_device(false);
        off.and(self.overlay.take().map_or(Ok(()), Attached::detach))
    }

    /// Detaches what an earlier run attached and this one has not, and puts new maps in the places of
    /// the old ones: call it when everything that the configuration names has been attached.
    ///
    /// # Errors
    ///
    /// The first that occurred; everything is tried.
    pub fn finish_takeover(&mut self) -> Result<(), DataplaneError> {
        let mut places = self.pins.unclaimed();
        // The XDP half before the TC half.
        places.sort_by_key(|place| !matches!(place.hook, Hook::XdpNative | Hook::XdpGeneric));
        let mut result = Ok(());
        for place in places {
            result = result.and(self.drop_inherited(place));
        }
        result
            .and_then(|()| self.pins.commit())
            .and_then(|()| self.pins.sweep())
    }

    fn attach_tc(
        &mut self,
        device: &Device,
        tcx: Hook,
        filter: Hook,
    ) -> Result<Attached, DataplaneError> {
        let program = classifier(&mut self.ebpf, tcx.program())?;
        let (attached, other) = if self.tcx {
            (Attached::tcx(program, &mut self.pins, device, tcx)?, filter)
        } else {
            (
                Attached::filter(program, &mut self.pins, device, filter)?,
                tcx,
            )
        };
        // The other way, which an earlier run with another kernel or setting may have taken.
        self.drop_inherited(Place {
            hook: other,
            ifindex: device.ifindex,
        })?;
        Ok(attached)
    }

    fn attach_xdp(
        &mut self,
        device: &Device,
        mode: XdpMode,
    ) -> Result<(AttachedMode, Option<Attached>), DataplaneError> {
        let wanted = match mode {
            XdpMode::Auto | XdpMode::Native => Some((AttachedMode::Native, Hook::XdpNative)),
            XdpMode::Generic => Some((AttachedMode::Generic, Hook::XdpGeneric)),
            XdpMode::Off => None,
        };
        // A device has one XDP program, in one mode.
        for hook in [Hook::XdpNative, Hook::XdpGeneric] {
            if wanted.is_none_or(|(_, wanted)| wanted != hook) {
                self.drop_inherited(Place {
                    hook,
                    ifindex: device.ifindex,
                })?;
            }
        }
        let Some((attached, hook)) = wanted else {
            return Ok((AttachedMode::Off, None));
        };
        let program = xdp(&mut self.ebpf, hook.program())?;
        match Attached::xdp(program, &mut self.pins, device, hook) {
            Ok(xdp) => Ok((attached, Some(xdp))),
            Err(error) if mode == XdpMode::Auto => {
                tracing::info!(device = device.name, "TC only: {error}");
                Ok((AttachedMode::Off, None))
            }
            Err(error) => Err(error),
        }
    }

    /// Exchanges the XDP half of an uplink for one in another mode.
    fn change_mode(
        &mut self,
        device: &Device,
        uplink: &mut Uplink,
        mode: XdpMode,
    ) -> Result<AttachedMode, DataplaneError> {
        if uplink.requested == mode {
            return Ok(uplink.mode);
        }
        if let Some(xdp) = uplink.xdp.take() {
            xdp.detach()?;
        }
        let before = match std::mem::replace(&mut uplink.mode, AttachedMode::Off) {
            AttachedMode::Native => XdpMode::Native,
            AttachedMode::Generic => XdpMode::Generic,
            AttachedMode::Off => XdpMode::Off,
        };
        let (result, (attached, xdp)) = match self.attach_xdp(device, mode) {
            Ok(attached) => {
                uplink.requested = mode;
                (Ok(attached.0), attached)
            }
            Err(error) => (Err(error), self.attach_xdp(device, before)?),
        };
        uplink.mode = attached;
        uplink.xdp = xdp;
        result
    }

    fn drop_all_inherited(&mut self, hooks: &[Hook], ifindex: u32) -> Result<(), DataplaneError> {
        let mut result = Ok(());
        for &hook in hooks {
            result = result.and(self.drop_inherited(Place { hook, ifindex }));
        }
        result
    }

    fn drop_inherited(&mut self, place: Place) -> Result<(), DataplaneError> {
        Attached::inherited(&mut self.pins, place).map_or(Ok(()), Attached::detach)
    }
}

fn classifier<'a>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut SchedClassifier, DataplaneError> {
    program(ebpf, name)?
        .try_into()
        .map_err(|error| DataplaneError::program(name, &error))
}

fn xdp<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Xdp, DataplaneError> {
    program(ebpf, name)?
        .try_into()
        .map_err(|error| DataplaneError::program(name, &error))
}

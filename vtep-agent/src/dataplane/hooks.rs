//! Attaching programs to devices, so that they stay when the process goes.
//!
//! XDP and tcx programs hang on BPF links, which are pinned. Before Linux 6.6 there is no tcx: then
//! TC programs hang on clsact filters with a fixed priority and handle, by which a later run finds
//! them again.
//!
//! What an earlier run attached at the same place is taken over by exchanging the program in its
//! link: at no time do both forward, and at no time does neither.

use std::{
    error::Error,
    ffi::{CStr, CString},
    fs,
    path::{Path, PathBuf},
};

use aya::programs::{
    Link as _, LinkOrder, ProgramError, SchedClassifier, TcAttachType, Xdp,
    links::{FdLink, PinnedLink},
    tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle},
    xdp::{XdpLink, XdpMode},
};

use super::{
    DataplaneError,
    error::{errno, flat},
    pins::{self, Hook, Pins, Place},
    sys,
};

/// Priority of our clsact filters: after anybody else's.
const FILTER_PRIORITY: u16 = 0xfffe;
/// Handle of our clsact filters.
const FILTER_HANDLE: TcHandle = TcHandle::new(0, 0x7674);

/// A device of the calling thread's network namespace.
pub(super) struct Device {
    pub(super) ifindex: u32,
    pub(super) name: String,
}

/// A program on a device. Dropping it leaves the program attached.
pub(super) struct Attached {
    place: Place,
    pin: PathBuf,
    /// `None` for a clsact filter.
    _link: Option<PinnedLink>,
}

impl Device {
    /// The device that has this name now.
    pub(super) fn named(name: &str) -> Option<Self> {
        let text = CString::new(name).ok()?;
        // SAFETY: a terminated string that outlives the call.
        let ifindex = unsafe { libc::if_nametoindex(text.as_ptr()) };
        (ifindex != 0).then(|| Self {
            ifindex,
            name: name.to_owned(),
        })
    }

    /// The device with this index, by the name that it has now; `name` is what the caller calls it.
    pub(super) fn find(ifindex: u32, name: &str) -> Result<Self, DataplaneError> {
        device_name(ifindex)
            .map(|name| Self { ifindex, name })
            .ok_or_else(|| DataplaneError::NoDevice {
                device: name.to_owned(),
            })
    }
}

impl Attached {
    /// Attaches an XDP program with a link that can be pinned.
    pub(super) fn xdp(
        program: &mut Xdp,
        pins: &mut Pins,
        device: &Device,
        hook: Hook,
    ) -> Result<Self, DataplaneError> {
        let place = device.place(hook);
        let name = hook.program();
        let exchanged = Self::take_over(pins, place, |link| {
            let link = program.attach_to_link(XdpLink::try_from(link)?)?;
            drop(program.take_link(link)?);
            Ok(())
        });
        if let Some(attached) = exchanged.map_err(|reason| device.refused(name, reason))? {
            return Ok(attached);
        }
        let mode = match hook {
            Hook::XdpGeneric => XdpMode::Skb,
            _ => XdpMode::Driver,
        };
        let failed = |error: &ProgramError| device.refused(name, xdp_reason(error));
        let link = program
            .attach_to_if_index(device.ifindex, mode)
            .and_then(|link| program.take_link(link))
            .map_err(|error| failed(&error))?;
        // aya falls back to netlink when the kernel refuses a link with EINVAL. That kind cannot be
        // pinned and aya forgets it here, hence the advice.
        let link = FdLink::try_from(link).map_err(|_| {
            device.refused(
                name,
                format!(
                    "the kernel gave no BPF link; `ip link set dev {} xdp off` removes the program",
                    device.name
                ),
            )
        })?;
        Self::pin(pins, place, link, name, device)
    }

    /// Attaches a TC program at ingress, after whatever is there already.
    pub(super) fn tcx(
        program: &mut SchedClassifier,
        pins: &mut Pins,
        device: &Device,
        hook: Hook,
    ) -> Result<Self, DataplaneError> {
        let place = device.place(hook);
        let name = hook.program();
        let exchanged = Self::take_over(pins, place, |link| {
            let link = program.attach_to_link(SchedClassifierLink::try_from(link)?)?;
            drop(program.take_link(link)?);
            Ok(())
        });
        if let Some(attached) = exchanged.map_err(|reason| device.refused(name, reason))? {
            return Ok(attached);
        }
        let failed = |error: &ProgramError| device.refused(name, flat(error));
        report_neighbours(device);
        let link = program
            .attach_with_options(
                &device.name,
                TcAttachType::Ingress,
                TcAttachOptions::TcxOrder(LinkOrder::last()),
            )
            .and_then(|link| program.take_link(link))
            .map_err(|error| failed(&error))?;
        let link = FdLink::try_from(link)
            .map_err(|error| DataplaneError::link(name, &device.name, &error))?;
        Self::pin(pins, place, link, name, device)
    }

    /// Attaches a TC program as a clsact filter.
    pub(super) fn filter(
        program: &mut SchedClassifier,
        pins: &mut Pins,
        device: &Device,
        hook: Hook,
    ) -> Result<Self, DataplaneError> {
        let place = device.place(hook);
        let failed = |error: &ProgramError| device.refused(hook.program(), flat(error));
        match tc::qdisc_add_clsact(&device.name) {
            Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => {}
            Err(error) => return Err(failed(&error.into())),
            Ok(()) => {}
        }
        let options = NlOptions {
            priority: FILTER_PRIORITY,
            handle: FILTER_HANDLE,
            classid: None,
        };
        let attached = program.attach_with_options(
            &device.name,
            TcAttachType::Ingress,
            TcAttachOptions::Netlink(options),
        );
        let link = match attached {
            // An earlier run's, whether or not its mark was found: exchange the program.
            Err(error) if netlink_errno(&error) == Some(libc::EEXIST) => filter_link(&device.name)
                .map_err(|error| failed(&error))
                .and_then(|link| program.attach_to_link(link).map_err(|error| failed(&error)))?,
            other => other.map_err(|error| failed(&error))?,
        };
        let link = program.take_link(link).map_err(|error| failed(&error))?;
        let pin = pins.link(place);
        let marked = match pins.claim(place) {
            Some(old) => fs::rename(&old, &pin),
            None => fs::create_dir(&pin),
        };
        // On error the drop of `link` removes the filter.
        marked.map_err(|error| DataplaneError::pin(&pin, error))?;
        // It holds no descriptor, only the numbers that we know; its drop would detach.
        std::mem::forget(link);
        Ok(Self {
            place,
            pin,
            _link: None,
        })
    }

    /// What an earlier run left at this place, or `None`.
    pub(super) fn inherited(pins: &mut Pins, place: Place) -> Option<Self> {
        let pin = pins.claim(place)?;
        Some(Self {
            place,
            _link: PinnedLink::from_pin(&pin).ok(),
            pin,
        })
    }

    /// Detaches. A device that is gone has taken its programs along, which is no error.
    pub(super) fn detach(self) -> Result<(), DataplaneError> {
        match self.place.hook {
            Hook::UnderlayFilter | Hook::AccessFilter | Hook::OverlayFilter => {
                if let Some(name) = device_name(self.place.ifindex)
                    && let Err(error) = filter_link(&name).and_then(SchedClassifierLink::detach)
                {
                    tracing::debug!(device = name, "no filter to remove: {}", flat(&error));
                }
                pins::remove(&self.pin)
            }
            _ => release(&self.pin),
        }
    }

    /// Exchanges the program in the link that an earlier run pinned at this place. A link whose device
    /// is gone is removed. One that does not take the program stays as it is: an error, not a gap.
    fn take_over(
        pins: &mut Pins,
        place: Place,
        exchange: impl FnOnce(FdLink) -> Result<(), Box<dyn Error>>,
    ) -> Result<Option<Self>, String> {
        let Some(old) = pins.claim(place) else {
            return Ok(None);
        };
        let pin = pins.link(place);
        let exchanged = match PinnedLink::from_pin(&old) {
            Ok(link) => exchange(link.into()),
            // Removed by somebody; what it held is detached.
            Err(error) => Err(error.into()),
        };
        let reason = match exchanged {
            Ok(()) => {
                let link = fs::rename(&old, &pin)
                    .map_err(|error| error.to_string())
                    .and_then(|()| PinnedLink::from_pin(&pin).map_err(|error| flat(&error)))?;
                return Ok(Some(Self {
                    place,
                    pin,
                    _link: Some(link),
                }));
            }
            Err(error) => error,
        };
        let dead = matches!(errno(&*reason), Some(libc::ENOLINK | libc::ENOENT));
        if !dead {
            pins.give_back(place, old);
            return Err(format!(
                "the program of an earlier run stays: {}",
                flat(&*reason)
            ));
        }
        tracing::debug!(pin = %old.display(), "link of an earlier run is of no use: {reason}");
        for path in [old, pin] {
            if let Err(error) = release(&path) {
                tracing::warn!("{error}");
            }
        }
        Ok(None)
    }

    /// Pins a new link. On error the link is dropped, which detaches.
    fn pin(
        pins: &Pins,
        place: Place,
        link: FdLink,
        program: &'static str,
        device: &Device,
    ) -> Result<Self, DataplaneError> {
        let pin = pins.link(place);
        pins::remove(&pin)?;
        let link = link
            .pin(&pin)
            .map_err(|error| device.refused(program, flat(&error)))?;
        Ok(Self {
            place,
            pin,
            _link: Some(link),
        })
    }
}

impl Device {
    fn place(&self, hook: Hook) -> Place {
        Place {
            hook,
            ifindex: self.ifindex,
        }
    }

    fn refused(&self, program: &'static str, reason: String) -> DataplaneError {
        DataplaneError::Attach {
            program,
            device: self.name.clone(),
            reason,
        }
    }
}

impl Hook {
    /// The program that is attached there.
    pub(super) const fn program(self) -> &'static str {
        match self {
            Self::XdpNative => "underlay_xdp",
            Self::XdpGeneric => "underlay_xdp_generic",
            Self::UnderlayTcx | Self::UnderlayFilter => "underlay_tc",
            Self::AccessTcx | Self::AccessFilter => "access_tc",
            Self::OverlayTcx | Self::OverlayFilter => "overlay_tc",
        }
    }
}

/// Detaches a pinned link and removes the pin.
fn release(pin: &Path) -> Result<(), DataplaneError> {
    if let Err(error) = sys::detach_link(pin) {
        // The link goes with its pin, too, if not at once.
        tracing::debug!(pin = %pin.display(), %error, "link not detached");
    }
    pins::remove(pin)
}

/// Says which foreign programs run before ours.
fn report_neighbours(device: &Device) {
    let programs = match SchedClassifier::query_tcx(&device.name, TcAttachType::Ingress) {
        Ok((_, programs)) => programs,
        // To look at a program by its id takes CAP_SYS_ADMIN, which the agent has given up. That there
        // is one to look at is known by then.
        Err(error) if errno(&error) == Some(libc::EPERM) => {
            tracing::warn!(
                device = device.name,
                "another TC program is attached and runs before ours: `bpftool net` names it"
            );
            return;
        }
        Err(_) => return,
    };
    for program in programs {
        tracing::warn!(
            device = device.name,
            id = program.id(),
            name = program.name_as_str().unwrap_or_default(),
            "another TC program is attached and runs before ours"
        );
    }
}

/// Why a device takes no XDP program.
fn xdp_reason(error: &ProgramError) -> String {
    let number = match error {
        ProgramError::XdpError(_) => netlink_errno(error),
        error => errno(error),
    };
    match number {
        Some(libc::EOPNOTSUPP) => "the driver has no XDP in this mode".to_owned(),
        Some(libc::EBUSY | libc::EEXIST) => {
            "another XDP program is attached (`ip link` shows it)".to_owned()
        }
        Some(libc::ERANGE) => "the device's MTU is too big for XDP".to_owned(),
        _ => flat(error),
    }
}

fn netlink_errno(error: &ProgramError) -> Option<i32> {
    match error {
        ProgramError::NetlinkError(error)
        | ProgramError::TcError(TcError::NetlinkError(error))
        | ProgramError::XdpError(aya::programs::xdp::XdpError::NetlinkError(error)) => {
            error.raw_os_error()
        }
        _ => None,
    }
}

/// Our clsact filter on a device.
fn filter_link(device: &str) -> Result<SchedClassifierLink, ProgramError> {
    Ok(SchedClassifierLink::attached(
        device,
        TcAttachType::Ingress,
        FILTER_PRIORITY,
        FILTER_HANDLE,
        None,
    )?)
}

/// The device's name, or `None` when there is none with that index.
fn device_name(ifindex: u32) -> Option<String> {
    let mut name = [0_u8; libc::IF_NAMESIZE];
    // SAFETY: the buffer has the size that the call wants.
    let found = unsafe { libc::if_indextoname(ifindex, name.as_mut_ptr().cast()) };
    if found.is_null() {
        return None;
    }
    CStr::from_bytes_until_nul(&name)
        .ok()
        .map(CString::from)
        .and_then(|name| name.into_string().ok())
}

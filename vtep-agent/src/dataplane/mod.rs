//! The only user of aya: programs, links, maps, events and counters.
//!
//! Maps and links are pinned, so that forwarding goes on when the process ends without
//! [`Dataplane::remove`], be it by intent or not. The next run loads its own programs on the maps that
//! it finds, knows from [`Dataplane::take_installed`] what is in them, and exchanges the programs in
//! the links ([`Dataplane::attach_uplink`], [`Dataplane::attach_port`]). Maps of another layout are
//! made anew beside the old ones; with the exchange, frames go from the ones to the others. What
//! nobody wants any more goes with [`Dataplane::finish_takeover`]. Until the first exchange or write
//! nothing has changed for anybody.

mod attach;
mod bpffs;
mod claims;
mod counters;
mod error;
mod hash;
mod hooks;
mod layout;
mod maps;
mod pins;
mod probe;
mod read_back;
mod ring;
mod sys;
mod transmit;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

pub use attach::AttachedMode;
use aya::{
    Ebpf, EbpfLoader,
    maps::{MapData, RingBuf},
    programs::{Program, ProgramError, ProgramInfo},
};
pub use claims::Claims;
pub use counters::DatapathCounters;
pub use error::DataplaneError;
pub use pins::Inheritance;
pub use ring::{BATCH, Events, Record, Records, Report, Traces};
pub use transmit::FrameSocket;
use vtep_common::abi::{FdbKey, TraceFilter};

use crate::{
    intent::Installed,
    reconcile::{Contents, Entries, Entry, Key, Keys, Map, Position, Progress, TableError, Tables},
};
use attach::Uplink;
use error::flat;
use hooks::Attached;
use layout::{Layouts, OwnMaps};
use maps::Maps;
use pins::Pins;
use read_back::Content;

/// The BPF object, aligned as aya wants it.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/vtep"));

/// Every program of the object.
const PROGRAMS: [&str; 5] = [
    "underlay_xdp",
    "underlay_xdp_generic",
    "underlay_tc",
    "overlay_tc",
    "access_tc",
];

/// How often a program is given to the verifier, which gives up when the thread has a signal to take
/// (`EAGAIN`, Linux 5.0): as often as libbpf does.
const ATTEMPTS: u32 = 5;

/// How to load.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Directory for pins. On a bpffs, or one is mounted.
    pub pin_dir: PathBuf,
    /// Size of `fdb`, `arp` and `nd`.
    pub max_macs: u32,
    /// Use tcx links where the kernel has them (6.6); otherwise clsact filters.
    pub tcx: bool,
}

/// The loaded datapath. Everything happens in the calling thread's network namespace, which must be
/// the same for all calls.
///
/// Dropping it leaves everything attached and pinned.
pub struct Dataplane {
    ebpf: Ebpf,
    maps: Maps,
    pins: Pins,
    tcx: bool,
    uplinks: HashMap<u32, Uplink>,
    ports: HashMap<u32, Attached>,
    overlay: Option<Attached>,
    claims: Claims,
    inheritance: Inheritance,
    installed: Installed,
    started: Instant,
    /// The clock of the stamps when this run started.
    first_epoch: u64,
}

/// What the kernel made of a program, for the ledger of verifier costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramReport {
    /// Name.
    pub name: &'static str,
    /// Instructions that the verifier walked through; `None` before Linux 5.16.
    pub verified_instructions: Option<u32>,
    /// Size of the translated program, bytes.
    pub translated_bytes: Option<u32>,
    /// Size of the machine code, bytes; 0 without JIT.
    pub jited_bytes: u32,
}

impl LoadOptions {
    /// With tcx where the kernel has it.
    pub fn new(pin_dir: PathBuf, max_macs: u32) -> Self {
        Self {
            pin_dir,
            max_macs,
            tcx: true,
        }
    }
}

/// Whether this process may load and attach programs.
///
/// # Errors
///
/// [`DataplaneError::Privilege`] names what it lacks.
pub fn check_privileges() -> Result<(), DataplaneError> {
    probe::privileges()
}

/// What keeps this process from loading the programs; nothing, if all is well.
pub fn obstacles() -> Vec<DataplaneError> {
    let checks = [probe::privileges(), probe::kernel()];
    checks.into_iter().filter_map(Result::err).collect()
}

/// Whether the kernel has tcx links (Linux 6.6).
pub fn has_tcx() -> bool {
    probe::tcx()
}

/// Whether a directory is on a bpffs, or would be if it existed.
pub fn is_on_bpffs(path: &Path) -> bool {
    bpffs::is_below(path).unwrap_or(false)
}

impl Dataplane {
    /// As [`Dataplane::load_in`], in the pin directory that the options name.
    ///
    /// # Errors
    ///
    /// Those of [`Claims::new`] and [`Dataplane::load_in`].
    pub fn load(options: &LoadOptions) -> Result<Self, DataplaneError> {
        Self::load_in(Claims::new(&options.pin_dir)?, options)
    }

    /// Loads the programs, on the maps of an earlier run where they fit, on new ones otherwise.
    /// Attaches nothing, and writes to no map that is in use.
    ///
    /// # Errors
    ///
    /// Lack of privilege or of kernel features, no place for pins, or a program that the kernel
    /// refuses. Nothing is attached then, and what an earlier run attached forwards as before.
    pub fn load_in(claims: Claims, options: &LoadOptions) -> Result<Self, DataplaneError> {
        probe::kernel()?;
        let layouts = Layouts::of_object(options.max_macs)?;
        let mut pins = Pins::open(claims.pin_dir())?;
        let inheritance = pins.inheritance(&layouts);
        let content = match inheritance {
            Inheritance::Nothing => Content::default(),
            Inheritance::Maps | Inheritance::Content => Content::read(&pins.maps())?,
            Inheritance::Endpoints => Content::read_endpoints(&pins.versions()?, &layouts)?,
        };
        let directory = pins.place_for_maps(inheritance)?;
        let own = OwnMaps::open(&directory, &layouts)?;
        let mut loader = EbpfLoader::new();
        for map in layout::SIZED {
            loader.map_max_entries(map, options.max_macs);
        }
        for name in layouts.names() {
            loader.map_pin_path(name, directory.join(name));
        }
        let mut ebpf = loader
            .load(OBJECT)
            .map_err(|error| DataplaneError::object(&error))?;
        for name in PROGRAMS {
            let program = program(&mut ebpf, name)?;
            verify(program).map_err(|error| DataplaneError::program(name, &error))?;
        }
        let mut maps = Maps::take(&mut ebpf, own)?;
        maps.inherit(inheritance, &content);
        let links = pins.unclaimed().len();
        if links > 0 {
            tracing::info!(links, maps = ?inheritance, "an earlier run's programs are attached");
        }
        Ok(Self {
            first_epoch: maps.epoch(),
            ebpf,
            maps,
            pins,
            tcx: options.tcx && probe::tcx(),
            uplinks: HashMap::new(),
            ports: HashMap::new(),
            overlay: None,
            claims,
            inheritance,
            installed: content.installed,
            started: Instant::now(),
        })
    }

    /// What of an earlier run's maps is of use.
    pub fn inheritance(&self) -> Inheritance {
        self.inheritance
    }

    /// What an earlier run left in the maps. Once; empty afterwards.
    pub fn take_installed(&mut self) -> Installed {
        std::mem::take(&mut self.installed)
    }

    /// Detaches everything and removes all pins.
    ///
    /// # Errors
    ///
    /// The first that occurred; everything is tried.
    pub fn remove(mut self) -> Result<(), DataplaneError> {
        let mut result = self.detach_overlay();
        for ifindex in self.uplinks.keys().copied().collect::<Vec<_>>() {
            result = result.and(self.detach_uplink(ifindex));
        }
        for ifindex in self.ports.keys().copied().collect::<Vec<_>>() {
            result = result.and(self.detach_port(ifindex));
        }
        self.pins.abandon_kept();
        result
            .and(self.finish_takeover())
            .and_then(|()| self.pins.clear())
    }

    /// Writes the clock that the datapath stamps local MACs with: the seconds that an agent has been
    /// running. To be called once a second.
    ///
    /// # Errors
    ///
    /// The map refuses.
    pub fn tick_epoch(&mut self, now: Instant) -> Result<(), TableError> {
        let running = now.saturating_duration_since(self.started).as_secs();
        self.maps.set_epoch(self.first_epoch + running)
    }

    /// How long ago each local MAC was last seen as a source, to the second.
    ///
    /// # Errors
    ///
    /// The map cannot be read.
    pub fn idle(&self) -> Result<Vec<(FdbKey, Duration)>, DataplaneError> {
        self.maps.idle()
    }

    /// The counters, for metrics: never cleared.
    ///
    /// # Errors
    ///
    /// A map cannot be read.
    pub fn read_counters(&self) -> Result<DatapathCounters, DataplaneError> {
        DatapathCounters::read(&self.maps)
    }

    /// The counters since [`Dataplane::clear_counters`], for people.
    ///
    /// # Errors
    ///
    /// A map cannot be read.
    pub fn read_cleared_counters(&self) -> Result<DatapathCounters, DataplaneError> {
        DatapathCounters::read_cleared(&self.maps)
    }

    /// Has [`Dataplane::read_cleared_counters`] begin at 0, until the agent ends.
    ///
    /// # Errors
    ///
    /// A map cannot be read.
    pub fn clear_counters(&mut self) -> Result<(), DataplaneError> {
        self.maps.cleared = self.read_counters()?;
        Ok(())
    }

    /// The source of events. Once, and in a tokio runtime.
    ///
    /// # Errors
    ///
    /// It was taken already, or the reactor refuses it.
    pub fn events(&mut self) -> Result<Events, DataplaneError> {
        self.records("events")
    }

    /// The frames that [`Dataplane::set_trace`] has traced. Once, and in a tokio runtime.
    ///
    /// # Errors
    ///
    /// They were taken already, or the reactor refuses them.
    pub fn traces(&mut self) -> Result<Traces, DataplaneError> {
        self.records("traces")
    }

    /// Has frames traced, or none any more.
    ///
    /// # Errors
    ///
    /// A map refuses.
    pub fn set_trace(&mut self, filter: Option<TraceFilter>) -> Result<(), DataplaneError> {
        self.maps.set_trace(filter)
    }

    fn records<T: Record>(&mut self, name: &'static str) -> Result<Records<T>, DataplaneError> {
        let failed = |reason: String| DataplaneError::Map { map: name, reason };
        let map = self
            .ebpf
            .take_map(name)
            .ok_or_else(|| failed("taken already, or not in the object".to_owned()))?;
        let ring = RingBuf::<MapData>::try_from(map).map_err(|error| failed(flat(&error)))?;
        Records::new(ring).map_err(|error| failed(error.to_string()))
    }

    /// What the kernel made of the programs.
    pub fn info(&self) -> Vec<ProgramReport> {
        let report = |name| {
            let info = match self.ebpf.program(name)? {
                Program::Xdp(program) => program.info(),
                Program::SchedClassifier(program) => program.info(),
                _ => return None,
            };
            let info: ProgramInfo = info.ok()?;
            Some(ProgramReport {
                name,
                verified_instructions: info.verified_instruction_count(),
                translated_bytes: info.size_translated(),
                jited_bytes: info.size_jitted(),
            })
        };
        PROGRAMS.into_iter().filter_map(report).collect()
    }
}

impl Tables for Dataplane {
    fn update(&mut self, entry: Entry) -> Result<(), TableError> {
        self.maps.update(entry)
    }

    fn delete(&mut self, key: Key) -> Result<(), TableError> {
        self.maps.delete(key)
    }

    fn update_all(&mut self, entries: Entries<'_>) -> Progress {
        self.maps.update_all(entries)
    }

    fn delete_all(&mut self, keys: Keys<'_>) -> Progress {
        self.maps.delete_all(keys)
    }

    fn capacity(&self, map: Map) -> u32 {
        self.maps.capacity(map)
    }
}

impl Contents for Dataplane {
    fn read(
        &self,
        map: Map,
        from: Option<Position>,
        each: &mut dyn FnMut(Entry),
    ) -> Result<Option<Position>, TableError> {
        self.maps.read(map, from, each)
    }
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Program, DataplaneError> {
    ebpf.program_mut(name)
        .ok_or_else(|| DataplaneError::Object {
            reason: format!("it has no program {name}"),
        })
}

/// Has the kernel verify and take a program.
fn verify(program: &mut Program) -> Result<(), ProgramError> {
    let interrupted = |error: &ProgramError| {
        matches!(error, ProgramError::LoadError { io_error, .. }
            if io_error.raw_os_error() == Some(libc::EAGAIN))
    };
    let mut attempts = 0;
    loop {
        attempts += 1;
        let result = match program {
            Program::Xdp(program) => program.load(),
            Program::SchedClassifier(program) => program.load(),
            _ => Err(ProgramError::UnexpectedProgramType),
        };
        match result {
            Err(error) if interrupted(&error) && attempts < ATTEMPTS => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The daemon may run on any runtime.
    #[test]
    fn handles_may_move_between_threads() {
        fn check<T: Send>() {}
        check::<Dataplane>();
        check::<Events>();
        check::<crate::reconcile::Reconciler>();
    }
}

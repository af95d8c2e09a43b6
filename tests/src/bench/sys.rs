//! The system calls of the benchmark that have no safe face: bpf(2), processors and priorities.

use std::{
    ffi::CString,
    fs::File,
    io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use anyhow::{Context as _, Result, ensure};

/// `BPF_PROG_TYPE_SCHED_CLS` of `linux/bpf.h`.
pub(crate) const PROGRAM_TC: u32 = 3;
/// `BPF_PROG_TYPE_XDP`.
pub(crate) const PROGRAM_XDP: u32 = 6;

const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_PROG_TEST_RUN: libc::c_long = 10;
const BPF_PROG_GET_FD_BY_ID: libc::c_long = 13;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_MAP_TYPE_ARRAY: u32 = 2;
/// Test runs whose frames are real ones: since Linux 5.18.
const BPF_F_TEST_XDP_LIVE_FRAMES: u32 = 1 << 1;

/// `XDP_FLAGS_DRV_MODE` of `linux/if_link.h`.
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// Where a program is attached: `BPF_XDP`, in the driver, or for TC programs `BPF_TCX_INGRESS` and
/// `BPF_TCX_EGRESS`, since Linux 6.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Hook {
    Driver = 37,
    Ingress = 46,
    Egress = 47,
}

/// Head of `union bpf_attr` for `BPF_MAP_CREATE`.
#[repr(C)]
#[derive(Default)]
struct MapCreate {
    kind: u32,
    key_size: u32,
    value_size: u32,
    entries: u32,
}

/// `union bpf_attr` for `BPF_MAP_LOOKUP_ELEM`.
#[repr(C)]
#[derive(Default)]
struct MapLookup {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Head of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    instructions: u32,
    code: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
}

/// `union bpf_attr` for `BPF_PROG_TEST_RUN`.
#[repr(C)]
#[derive(Default)]
struct TestRun {
    program: u32,
    verdict: u32,
    input_size: u32,
    output_size: u32,
    input: u64,
    output: u64,
    repeat: u32,
    duration: u32,
    context_input_size: u32,
    context_output_size: u32,
    context_input: u64,
    context_output: u64,
    flags: u32,
    cpu: u32,
    batch: u32,
    padding: u32,
}

/// `union bpf_attr` for `BPF_LINK_CREATE` with XDP or tcx.
#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    program: u32,
    ifindex: u32,
    attach_type: u32,
    flags: u32,
    relative: u32,
    padding: u32,
    revision: u64,
}

/// Head of `union bpf_attr` for `BPF_OBJ_GET`.
#[repr(C)]
#[derive(Default)]
struct Pinned {
    path: u64,
    fd: u32,
    flags: u32,
}

/// Head of `union bpf_attr` for `BPF_PROG_GET_FD_BY_ID`.
#[repr(C)]
#[derive(Default)]
struct ById {
    id: u32,
    next: u32,
    flags: u32,
}

/// A frame as a program of some type gets it.
#[derive(Clone, Debug)]
pub(crate) struct TestFrame {
    bytes: Vec<u8>,
    /// `struct __sk_buff`; XDP programs that don't ask for the device need none.
    context: Vec<u8>,
}

impl TestFrame {
    /// On a device of the namespace in which the program will run.
    pub(crate) fn of(kind: u32, bytes: Vec<u8>, ifindex: u32) -> Self {
        /// Size of `struct __sk_buff`, and where `ifindex` is in it.
        const SIZE: usize = 192;
        const IFINDEX: usize = 40;
        let mut context = Vec::new();
        if kind == PROGRAM_TC {
            context.resize(IFINDEX, 0);
            context.extend(ifindex.to_ne_bytes());
            context.resize(SIZE, 0);
        }
        Self { bytes, context }
    }
}

/// Loads a program.
pub(crate) fn load(kind: u32, code: &[u64]) -> Result<OwnedFd> {
    let license = c"GPL";
    let mut attributes = Load {
        kind,
        instructions: u32::try_from(code.len())?,
        code: code.as_ptr() as u64,
        license: license.as_ptr() as u64,
        ..Load::default()
    };
    // SAFETY: code and license outlive the call, which only reads them.
    unsafe { bpf_fd(BPF_PROG_LOAD, &mut attributes) }.context("cannot load a BPF program")
}

/// A map of one number.
pub(crate) fn counter() -> Result<OwnedFd> {
    let mut attributes = MapCreate {
        kind: BPF_MAP_TYPE_ARRAY,
        key_size: 4,
        value_size: 8,
        entries: 1,
    };
    // SAFETY: there are no pointers in it.
    unsafe { bpf_fd(BPF_MAP_CREATE, &mut attributes) }.context("cannot create a BPF map")
}

/// The number in a map of [`counter`].
pub(crate) fn count(map: &OwnedFd) -> Result<u64> {
    let (key, mut value) = (0_u32, 0_u64);
    let mut attributes = MapLookup {
        map: number(map.as_raw_fd())?,
        key: (&raw const key) as u64,
        value: (&raw mut value) as u64,
        ..MapLookup::default()
    };
    // SAFETY: key and value have the sizes that the map was made with, and outlive the call.
    unsafe { bpf(BPF_MAP_LOOKUP_ELEM, &mut attributes) }.context("cannot read a BPF map")?;
    Ok(value)
}

/// Attaches a program to a device of the calling thread's namespace, until the descriptor is closed.
pub(crate) fn attach(program: &OwnedFd, ifindex: u32, hook: Hook) -> Result<OwnedFd> {
    let mut attributes = LinkCreate {
        program: number(program.as_raw_fd())?,
        ifindex,
        attach_type: hook as u32,
        flags: match hook {
            Hook::Driver => XDP_FLAGS_DRV_MODE,
            Hook::Ingress | Hook::Egress => 0,
        },
        ..LinkCreate::default()
    };
    // SAFETY: there are no pointers in it.
    unsafe { bpf_fd(BPF_LINK_CREATE, &mut attributes) }.context("cannot attach a BPF program")
}

/// Runs an XDP program on `repeat` live frames, which begin as `frame`.
pub(crate) fn run_live(program: &OwnedFd, frame: &[u8], repeat: u32, batch: u32) -> Result<()> {
    let mut attributes = TestRun {
        program: number(program.as_raw_fd())?,
        input_size: u32::try_from(frame.len())?,
        input: frame.as_ptr() as u64,
        repeat,
        flags: BPF_F_TEST_XDP_LIVE_FRAMES,
        batch,
        ..TestRun::default()
    };
    // SAFETY: the frame outlives the call, which reads it and writes to no memory but the
    // attributes.
    unsafe { bpf(BPF_PROG_TEST_RUN, &mut attributes) }.context("cannot send live frames")?;
    Ok(())
}

/// Runs an XDP program on one frame that goes nowhere. Gives the mean time of a run, nanoseconds.
pub(crate) fn run_dry(program: &OwnedFd, frame: &[u8], repeat: u32) -> Result<u32> {
    let mut attributes = TestRun {
        program: number(program.as_raw_fd())?,
        input_size: u32::try_from(frame.len())?,
        input: frame.as_ptr() as u64,
        repeat,
        ..TestRun::default()
    };
    // SAFETY: the frame outlives the call, which reads it and writes to no memory but the
    // attributes.
    unsafe { bpf(BPF_PROG_TEST_RUN, &mut attributes) }.context("cannot run a BPF program")?;
    Ok(attributes.duration)
}

/// Runs a program once on a frame that goes nowhere. Gives the time it took, nanoseconds.
pub(crate) fn run_once(program: &OwnedFd, frame: &TestFrame) -> Result<u32> {
    let mut attributes = TestRun {
        program: number(program.as_raw_fd())?,
        input_size: u32::try_from(frame.bytes.len())?,
        input: frame.bytes.as_ptr() as u64,
        repeat: 1,
        context_input_size: u32::try_from(frame.context.len())?,
        context_input: match frame.context.is_empty() {
            true => 0,
            false => frame.context.as_ptr() as u64,
        },
        ..TestRun::default()
    };
    // SAFETY: frame and context outlive the call, which reads them and writes to no memory but the
    // attributes.
    unsafe { bpf(BPF_PROG_TEST_RUN, &mut attributes) }.context("cannot run a BPF program")?;
    Ok(attributes.duration)
}

/// Opens what is pinned in a bpffs.
pub(crate) fn pinned(path: &Path) -> Result<OwnedFd> {
    let text = CString::new(path.as_os_str().as_bytes())?;
    let mut attributes = Pinned {
        path: text.as_ptr() as u64,
        ..Pinned::default()
    };
    // SAFETY: the path is a C string that outlives the call, which only reads it.
    unsafe { bpf_fd(BPF_OBJ_GET, &mut attributes) }
        .with_context(|| format!("cannot open {}", path.display()))
}

/// A loaded program by its number.
pub(crate) fn program(id: u32) -> Result<OwnedFd> {
    let mut attributes = ById {
        id,
        ..ById::default()
    };
    // SAFETY: there are no pointers in it.
    unsafe { bpf_fd(BPF_PROG_GET_FD_BY_ID, &mut attributes) }
        .with_context(|| format!("cannot open program {id}"))
}

/// A socket to ask the kernel about routes and neighbours, in the calling thread's namespace: each write
/// is a request.
pub(crate) fn route_socket() -> Result<File> {
    // SAFETY: socket(2) takes three integers.
    let fd = unsafe {
        libc::socket(
            libc::AF_NETLINK,
            libc::SOCK_RAW | libc::SOCK_CLOEXEC,
            libc::NETLINK_ROUTE,
        )
    };
    ensure!(fd >= 0, "no netlink: {}", io::Error::last_os_error());
    // SAFETY: the descriptor is new, and nobody else knows it.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// Binds a thread to one processor; 0 is the calling one.
pub(crate) fn pin(thread: i32, cpu: usize) -> Result<()> {
    run_on(thread, [cpu]).with_context(|| format!("processor {cpu}"))
}

/// Puts a thread before all ordinary ones, and those of lower priority; 0 is the calling one. A nice value
/// would not do: it counts within a session only (sched(7), autogroup).
pub(crate) fn real_time(thread: i32, priority: i32) -> Result<()> {
    schedule(thread, libc::SCHED_FIFO, priority).context("real-time priority")
}

/// Undoes [`pin`] and [`real_time`].
pub(crate) fn ordinary(thread: i32) -> Result<()> {
    schedule(thread, libc::SCHED_OTHER, 0)?;
    Ok(run_on(thread, 0..libc::CPU_SETSIZE as usize)?)
}

fn run_on(thread: i32, cpus: impl IntoIterator<Item = usize>) -> io::Result<()> {
    // SAFETY: all-zero is an empty cpu_set_t.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for cpu in cpus {
        // SAFETY: the set is ours; CPU_SET ignores numbers beyond its size.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    // SAFETY: the set outlives the call, and its size is given.
    done(unsafe { libc::sched_setaffinity(thread, size_of_val(&set), &raw const set) })
}

fn schedule(thread: i32, policy: i32, priority: i32) -> io::Result<()> {
    let parameters = libc::sched_param {
        sched_priority: priority,
    };
    // SAFETY: the parameters outlive the call, which only reads them.
    done(unsafe { libc::sched_setscheduler(thread, policy, &raw const parameters) })
}

fn done(status: i32) -> io::Result<()> {
    match status {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// # Safety
///
/// Pointers in the attributes must be good for what the command does with them.
unsafe fn bpf_fd<T>(command: libc::c_long, attributes: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: the caller vouches for the attributes.
    let fd = unsafe { bpf(command, attributes) }?;
    // SAFETY: these commands return a descriptor that nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// # Safety
///
/// Pointers in the attributes must be good for what the command does with them.
unsafe fn bpf<T>(command: libc::c_long, attributes: &mut T) -> io::Result<RawFd> {
    // SAFETY: the attributes outlive the call and their size is given; the kernel takes what is
    // missing at the end for zero. The caller vouches for pointers.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attributes),
            size_of::<T>(),
        )
    };
    match RawFd::try_from(result) {
        Ok(result) if result >= 0 => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}

fn number(fd: RawFd) -> Result<u32> {
    Ok(u32::try_from(fd)?)
}

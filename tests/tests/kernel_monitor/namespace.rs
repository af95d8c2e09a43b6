//! Network namespaces, and programs run in them.

use std::{future::Future, process::Command, sync::mpsc, thread};

/// Connects this namespace with another by a veth that is up with addresses.
pub fn uplink(device: &str, address: &str, other: &Namespace, peer: &str, peer_address: &str) {
    let tid = other.tid;
    ip(&format!(
        "link add {device} type veth peer name {peer} netns {tid}"
    ));
    // No duplicate address detection, whose notifications would hide a missing one.
    ip(&format!("link set {device} addrgenmode none"));
    other.ip(&format!("link set {peer} addrgenmode none"));
    ip(&format!("address add {address} dev {device}"));
    ip(&format!("link set {device} up"));
    ip("link set lo up");
    other.ip(&format!("address add {peer_address} dev {peer}"));
    other.ip(&format!("link set {peer} up"));
}

/// The line of `ip neigh` for an address; empty without an entry.
pub fn neighbour(address: &str) -> String {
    output("ip", &format!("-details neigh show to {address} nud all"))
}

pub fn ip(arguments: &str) {
    output("ip", arguments);
}

pub fn tc(arguments: &str) {
    output("tc", arguments);
}

/// Runs a program in the calling thread's namespace.
pub fn output(program: &str, arguments: &str) -> String {
    try_output(program, arguments).unwrap_or_else(|error| panic!("{error}"))
}

fn try_output(program: &str, arguments: &str) -> Result<String, String> {
    let output = Command::new(program)
        .args(arguments.split_whitespace())
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!("{program} {arguments}: {stderr}")),
    }
}

/// Runs `ip -batch` with these lines; those that fail are passed over.
pub fn ip_batch(lines: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), lines).unwrap();
    let path = file.path().to_str().unwrap();
    let _ = try_output("ip", &format!("-force -batch {path}"));
}

/// Runs a test in a thread with a network namespace and a runtime of its own.
pub fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send) {
    thread::scope(|scope| {
        let run = || {
            unshare();
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap()
                .block_on(test());
        };
        if let Err(panic) = scope.spawn(run).join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Another network namespace, held by a thread that runs programs in it.
pub struct Namespace {
    pub tid: i32,
    jobs: mpsc::Sender<(String, String)>,
    results: mpsc::Receiver<Result<String, String>>,
}

impl Namespace {
    pub fn new() -> Self {
        let (jobs, to_do) = mpsc::channel::<(String, String)>();
        let (done, results) = mpsc::channel();
        let (started, tid) = mpsc::channel();
        thread::spawn(move || {
            unshare();
            started.send(gettid()).unwrap();
            for (program, arguments) in to_do {
                if done.send(try_output(&program, &arguments)).is_err() {
                    break;
                }
            }
        });
        Self {
            tid: tid.recv().unwrap(),
            jobs,
            results,
        }
    }

    pub fn output(&self, program: &str, arguments: &str) -> String {
        self.jobs
            .send((program.to_owned(), arguments.to_owned()))
            .unwrap();
        self.results
            .recv()
            .unwrap()
            .unwrap_or_else(|error| panic!("{error}"))
    }

    pub fn run(&self, program: &str, arguments: &str) {
        self.output(program, arguments);
    }

    pub fn ip(&self, arguments: &str) {
        self.run("ip", arguments);
    }

    /// As [`Namespace::ip`] where failure is fine.
    pub fn try_ip(&self, arguments: &str) {
        let job = ("ip".to_owned(), arguments.to_owned());
        self.jobs.send(job).unwrap();
        let _ = self.results.recv().unwrap();
    }
}

fn unshare() {
    // SAFETY: takes no pointer; affects the calling thread alone.
    let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    assert_eq!(
        result,
        0,
        "network namespaces need root: {}",
        std::io::Error::last_os_error()
    );
}

pub fn unshare_mounts() {
    // SAFETY: takes no pointer; affects the calling thread alone.
    let result = unsafe { libc::unshare(libc::CLONE_NEWNS) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

pub fn gettid() -> i32 {
    // SAFETY: takes no pointer and cannot fail.
    unsafe { libc::gettid() }
}

/// Gives up all effective capabilities of the calling thread.
pub fn drop_capabilities() {
    /// `_LINUX_CAPABILITY_VERSION_3`
    const VERSION: u32 = 0x2008_0522;
    let header = [VERSION, 0];
    let data = [0u32; 6];
    // SAFETY: the header and the two sets of three words that version 3 wants outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

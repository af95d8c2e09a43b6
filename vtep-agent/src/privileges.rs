//! What the process may do once it has started: less than it was started with.
//!
//! What takes more comes before: mounting a bpffs, giving the control socket to a group, and whatever
//! the service manager does. Capabilities belong to a thread and are inherited by those that it makes,
//! so this comes before the first of them.

use std::io;

use rustix::{
    io::Errno,
    thread::{
        CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
        clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
        set_no_new_privs,
    },
};

/// Capabilities that the agent needs while it runs, and what for.
const NEEDED: [(CapabilitySet, &str); 5] = [
    // Maps and programs.
    (CapabilitySet::BPF, "CAP_BPF"),
    // Devices, routes and neighbours; attaching.
    (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
    // TCP port 179, and BFD.
    (CapabilitySet::NET_BIND_SERVICE, "CAP_NET_BIND_SERVICE"),
    // Questions to silent VMs, router discovery.
    (CapabilitySet::NET_RAW, "CAP_NET_RAW"),
    // Programs that use bounded loops and pointers.
    (CapabilitySet::PERFMON, "CAP_PERFMON"),
];

/// Gives up every capability of the calling thread that the agent does not need, for good: nothing that
/// it executes gets one back. The bounding set shrinks too, where the process may do that
/// (`CAP_SETPCAP`); a unit with `CapabilityBoundingSet` has done it already.
///
/// # Errors
///
/// The kernel's, none of which is known to occur.
pub fn give_up() -> io::Result<()> {
    let all = NEEDED.iter().map(|(capability, _)| *capability);
    let needed = CapabilitySet::from_iter(all);
    let permitted = capabilities(None)?.permitted;
    let kept = permitted & needed;
    // First, since it takes one of those that go.
    let bounded = bound(needed)?;
    clear_ambient_capability_set()?;
    set_capabilities(
        None,
        CapabilitySets {
            effective: kept,
            permitted: kept,
            inheritable: CapabilitySet::empty(),
        },
    )?;
    set_no_new_privs(true)?;
    let names = |set: CapabilitySet| {
        let names = NEEDED.iter().filter(|(one, _)| set.contains(*one));
        names.map(|(_, name)| *name).collect::<Vec<_>>().join(" ")
    };
    let missing = needed - kept;
    if !missing.is_empty() {
        tracing::warn!(missing = names(missing), "not all capabilities are there");
    }
    tracing::info!(kept = names(kept), bounded, "privileges given up");
    Ok(())
}

/// Takes all but these out of the bounding set. Whether it holds no others any more.
fn bound(needed: CapabilitySet) -> io::Result<bool> {
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        let other = match capability_is_in_bounding_set(capability) {
            // The kernel knows no more of them.
            Err(Errno::INVAL) => break,
            found => found? && !needed.contains(capability),
        };
        if !other {
            continue;
        }
        match remove_capability_from_bounding_set(capability) {
            Err(Errno::PERM) => return Ok(false),
            removed => removed?,
        }
    }
    Ok(true)
}

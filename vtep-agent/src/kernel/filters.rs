//! TC filters that others have put on a device.

use super::{
    KernelError, failed,
    message::{Message, Request, u32_at},
    socket::Requests,
};

/// `RTM_NEWTFILTER` of linux/rtnetlink.h.
const NEW_FILTER: u16 = 44;
/// `RTM_GETTFILTER`
const GET_FILTER: u16 = 46;
/// Filters at ingress: `TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)` of linux/pkt_sched.h.
const INGRESS: u32 = 0xffff_fff2;
/// Priority of the agent's own filters, where it has no tcx.
const OWN_PRIORITY: u32 = 0xfffe;

/// Whether a device has ingress filters that are not the agent's.
///
/// # Errors
///
/// No netlink socket, or no answer.
pub fn has_ingress_filters(ifindex: u32) -> Result<bool, KernelError> {
    // A `struct tcmsg`.
    let mut header = [0; 20];
    header[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    header[12..16].copy_from_slice(&INGRESS.to_ne_bytes());
    let request = Request::new(GET_FILTER, libc::NLM_F_DUMP, &header);
    let filters = Requests::open(libc::NETLINK_ROUTE as isize)
        .map_err(KernelError::Open)?
        .dump(&request, priority)
        .map_err(failed("filters"))?;
    Ok(filters.iter().any(|priority| *priority != OWN_PRIORITY))
}

fn priority(message: &Message<'_>) -> Option<u32> {
    let (header, _) = message.split::<20>()?;
    (message.kind == NEW_FILTER).then(|| u32_at(header, 16).map(|info| info >> 16))?
}

//! One log line per verdict, in builds with the feature `trace`; nothing at all in others: a single
//! line costs thousands of verified instructions.

use aya_ebpf::EbpfContext;
use vtep_common::DropReason;

/// Logs what `program` decided: the action that the kernel gets, or why the frame is refused.
#[cfg(feature = "trace")]
#[inline(always)]
pub fn verdict<T: Copy + Into<i64>>(
    context: &impl EbpfContext,
    program: &'static str,
    verdict: &Result<T, DropReason>,
) {
    match *verdict {
        Ok(action) => {
            let action: i64 = action.into();
            aya_log_ebpf::info!(context, "{} action={}", program, action);
        }
        Err(reason) => aya_log_ebpf::info!(context, "{} drop={}", program, reason.name()),
    }
}

/// Logs nothing.
#[cfg(not(feature = "trace"))]
#[inline(always)]
pub fn verdict<T>(
    _context: &impl EbpfContext,
    _program: &'static str,
    _verdict: &Result<T, DropReason>,
) {
}

//! What the datapath tells whoever traces frames. Private to one run of the agent: these maps are not
//! pinned.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{BdRef, FdbWord, Path, pod};

/// Size of the ring buffer `traces`, bytes.
pub const TRACE_RING_BYTES: u32 = 1 << 18;

/// Which program a [`Trace`] is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TraceProgram {
    /// `access_tc`
    Access = 1,
    /// `underlay_xdp` and `underlay_xdp_generic`
    UnderlayXdp = 2,
    /// `underlay_tc`
    Underlay = 3,
    /// `overlay_tc`
    Overlay = 4,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Refused; the record has the reason.
    Dropped,
    /// None of ours: the host has it. Such frames are not traced.
    NotOurs,
    /// Left to the next program, as it came.
    Passed,
    /// Answered on the spot: ARP, ND, or too big.
    Answered,
    /// For the agent, and ends here.
    Agent,
    /// It went this way.
    Took(Path),
}

impl Fate {
    const PATHS: u32 = 16;

    /// As a number, for a record.
    pub const fn code(self) -> u32 {
        match self {
            Self::Dropped => 0,
            Self::NotOurs => 1,
            Self::Passed => 2,
            Self::Answered => 3,
            Self::Agent => 4,
            Self::Took(path) => Self::PATHS + path as u32,
        }
    }

    /// From a record; `None` from a newer datapath.
    pub fn from_code(code: u32) -> Option<Self> {
        Some(match code {
            0 => Self::Dropped,
            1 => Self::NotOurs,
            2 => Self::Passed,
            3 => Self::Answered,
            4 => Self::Agent,
            code => {
                let path = |path: &&Path| Self::PATHS + **path as u32 == code;
                Self::Took(*Path::ALL.iter().find(path)?)
            }
        })
    }
}

/// One record of `traces`: a frame, what the tables said of it, and the verdict of one program.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Trace {
    /// Destination in the tenant's frame, as [`Mac::to_bits`](crate::Mac::to_bits).
    pub destination: u64,
    /// Its source.
    pub source: u64,
    /// What `fdb` says of the destination; zero for nothing.
    pub word: FdbWord,
    /// The bridge domain; zero when none was found.
    pub bd: BdRef,
    /// Slot of the port that it came from; 0 from the underlay.
    pub slot: u32,
    /// Device that the program runs on.
    pub ifindex: u32,
    /// Bytes of the frame as it came, with its encapsulation.
    pub length: u32,
    /// VNI in the frame; 0 from a port.
    pub vni: u32,
    /// Outer source, as loaded from the frame; 0 from a port.
    pub outer_source_be: u32,
    /// EtherType of the tenant's frame, in wire order.
    pub ethertype_be: u16,
    /// VLAN identifier on the port; 0 for untagged.
    pub vlan: u16,
    /// [`TraceProgram`] as a number.
    pub program: u8,
    /// [`Fate::code`]
    pub fate: u8,
    /// [`DropReason`](crate::DropReason) as a number; 0 if not dropped.
    pub reason: u8,
    /// Zero.
    pub reserved: u8,
}

/// Value of `trace_filter`: what is wanted. Zero stands for anything.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct TraceFilter {
    /// Source or destination in the tenant's frame.
    pub mac: u64,
    /// State of a token bucket, see [`rate`](crate::wire::rate).
    pub bucket: u64,
    /// Slot of the port that it comes from or goes to.
    pub slot: u32,
    /// Records per second.
    pub rate: u32,
    /// Number of the bridge domain.
    pub bd: u16,
    /// Number of the drop reason; [`TraceFilter::ANY_DROP`] for all.
    pub reason: u8,
    /// Zero.
    pub reserved: [u8; 5],
}

impl TraceFilter {
    /// No reason has this number.
    pub const ANY_DROP: u8 = 0xff;

    /// The record is wanted.
    #[inline(always)]
    pub fn takes(&self, trace: &Trace) -> bool {
        if self.mac != 0 && self.mac != trace.source && self.mac != trace.destination {
            return false;
        }
        if self.bd != 0 && self.bd != trace.bd.bd.0 {
            return false;
        }
        if self.slot != 0 && self.slot != trace.slot && !self.is_target(trace) {
            return false;
        }
        match self.reason {
            0 => true,
            Self::ANY_DROP => trace.reason != 0,
            reason => trace.reason == reason,
        }
    }

    #[inline(always)]
    fn is_target(&self, trace: &Trace) -> bool {
        let word = trace.word;
        word.bd() == trace.bd
            && word.flags().has(super::FdbFlags::LOCAL)
            && word.target() == self.slot
    }
}

pod!(Trace, TraceFilter);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::{BdId, FdbFlags};

    #[test]
    fn fates_have_numbers_of_their_own() {
        let fates = [
            Fate::Dropped,
            Fate::NotOurs,
            Fate::Passed,
            Fate::Answered,
            Fate::Agent,
        ];
        let paths = Path::ALL.iter().map(|path| Fate::Took(*path));
        for fate in fates.into_iter().chain(paths) {
            assert_eq!(Fate::from_code(fate.code()), Some(fate));
            assert!(fate.code() <= u8::MAX.into());
        }
        assert_eq!(Fate::from_code(99), None);
    }

    #[test]
    fn filters_are_all_to_hold() {
        let bd = BdRef {
            bd: BdId(3),
            generation: 1,
        };
        let trace = Trace {
            destination: 2,
            source: 4,
            word: FdbWord::new(bd, 9, FdbFlags::LOCAL),
            bd,
            slot: 7,
            reason: 5,
            ..Trace::default()
        };
        let any = TraceFilter::default();
        let with = |change: fn(&mut TraceFilter)| {
            let mut filter = any;
            change(&mut filter);
            filter.takes(&trace)
        };
        assert!(any.takes(&trace));
        assert!(with(|f| f.mac = 2) && with(|f| f.mac = 4) && !with(|f| f.mac = 6));
        assert!(with(|f| f.bd = 3) && !with(|f| f.bd = 4));
        assert!(with(|f| f.slot = 7) && with(|f| f.slot = 9) && !with(|f| f.slot = 8));
        assert!(with(|f| f.reason = 5) && !with(|f| f.reason = 6));
        assert!(with(|f| f.reason = TraceFilter::ANY_DROP));
        assert!(!with(|f| (f.bd, f.mac) = (3, 6)));
        let passed = Trace { reason: 0, ..trace };
        let dropped = TraceFilter {
            reason: TraceFilter::ANY_DROP,
            ..any
        };
        assert!(!dropped.takes(&passed));
    }
}

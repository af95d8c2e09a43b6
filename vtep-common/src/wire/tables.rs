//! The maps, as far as decisions read them.

use super::underlay;
use crate::{
    DropReason,
    abi::{BdEntry, BdId, BdRef, FdbKey, FdbWord, PortEntry, Settings, SourceKey},
};

/// What a decision looks up: BPF maps in the kernel, plain collections in host tests.
pub trait Tables {
    /// `settings`; `None` only before the agent has written it.
    fn settings(&self) -> Option<&Settings>;
    /// `vnis`.
    fn vni(&self, vni: u32) -> Option<BdRef>;
    /// `bds`.
    fn bd(&self, bd: BdId) -> Option<&BdEntry>;
    /// `fdb`, the word read at once.
    fn fdb(&self, key: FdbKey) -> Option<FdbWord>;
    /// `ports`.
    fn port(&self, slot: u32) -> Option<&PortEntry>;
    /// Whether `sources` has the key.
    fn source(&self, key: SourceKey) -> bool;

    /// The bridge domain of what a VTEP sends with a VNI, as [`underlay::admit`] finds it; perhaps from
    /// memory.
    #[inline(always)]
    fn admission(&self, settings: &Settings, vni: u32, source_be: u32) -> Result<BdRef, DropReason>
    where
        Self: Sized,
    {
        underlay::admit(settings, self, vni, source_be)
    }

    /// As [`Tables::fdb`] for what the underlay sends to a MAC; perhaps from memory.
    #[inline(always)]
    fn receiver(&self, _settings: &Settings, key: FdbKey) -> Option<FdbWord> {
        self.fdb(key)
    }
}

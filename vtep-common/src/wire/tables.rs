//! The maps, as far as decisions read them.

use crate::abi::{BdEntry, BdId, BdRef, FdbKey, FdbWord, PortEntry, Settings, SourceKey};

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
}

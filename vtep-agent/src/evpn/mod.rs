//! EVPN: bridge domains, MAC mobility, address bindings, what is imported and what is originated.
//! No IO, no BPF tables.

mod announcement;
mod bd;
mod census;
mod frame;
mod import;
mod mac;
mod memory;
mod mobility;
mod moves;
mod neighbor;
mod originate;
mod probe;
mod receiver;

pub use announcement::announcement;
pub use bd::{BridgeDomain, DhcpCounts, DhcpRefusal, Dirty, is_host_address};
pub use census::Census;
pub use import::{Imported, TargetIndex, Unused, encapsulation_name, import};
pub use mac::{
    Contest, Duplicate, Learned, Local, MacEntry, MacTable, Origin, Refused, Remote, RemoteId,
    Slot, Winner,
};
pub use neighbor::{Binding, BindingOrigin, DuplicateIp, NeighborTable};
pub use originate::Originator;
pub use probe::{PATIENCE, ProbeCounts, QUESTIONS, Question};
pub use receiver::{ACTIVATION, Pruned, Receiver, ReceiverTable, Replicator, ReplicatorState};

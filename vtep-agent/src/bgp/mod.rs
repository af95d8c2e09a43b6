//! BGP-4: codec, session state machine, session IO, routing tables.

pub mod fsm;
pub mod peer;
pub mod rib;
pub mod session;
pub mod wire;

//! What must hold for every input, whoever made it: the properties that libFuzzer attacks
//! (`cargo xtask fuzz`) and that an ordinary `cargo test` checks over the corpora it left behind.
//!
//! Each module has a function `check`, which panics when a property is broken. An input's first byte
//! chooses the options of the run; the rest is what a peer or the network sends.

#![expect(
    clippy::panic,
    reason = "a property that is broken must stop the fuzzer"
)]

mod allocation;
pub mod frame;
pub mod fsm;
pub mod message;
pub mod update;

/// Checks one input.
pub type Check = fn(&[u8]);

/// Every target: its name, which is the name of its corpus too, and its check.
pub const TARGETS: [(&str, Check); 4] = [
    ("message", message::check),
    ("update", update::check),
    ("fsm", fsm::check),
    ("frame", frame::check),
];

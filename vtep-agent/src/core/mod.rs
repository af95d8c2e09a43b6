//! The control plane without IO: inputs and time in, outputs and desired tables out.

mod io;

pub use io::{Command, DeclaredEndpoint, Input, Link, Output};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::types::BdName;

/// What outlives the agent, in `state_dir/state.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Index of each bridge domain's automatic RD: stable, so that a restart does not change every
    /// route's key.
    pub rd_index: BTreeMap<BdName, u16>,
    // Objects made by CLI join this when the core keeps them.
}

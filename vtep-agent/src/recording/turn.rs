use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::digest::Done;
use crate::core::{Command, Core, Input};

/// What is done with a core: each of its functions that changes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Turn {
    /// [`Core::handle`]
    Input(Input),
    /// [`Core::command`]
    Command(Command),
    /// [`Core::devices_read`]
    DevicesRead,
    /// [`Core::shutdown`]
    Shutdown,
}

impl Turn {
    pub(super) fn carry_out(self, core: &mut Core, now: Instant) -> Done {
        match self {
            Self::Input(input) => Ok(core.handle(input, now)),
            Self::Command(command) => core.command(command, now),
            Self::DevicesRead => {
                core.devices_read();
                Ok(Vec::new())
            }
            Self::Shutdown => Ok(core.shutdown(now)),
        }
    }
}

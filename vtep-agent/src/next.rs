//! The binary `vtep-agent-next`: what an agent of a later version may be, for the labs that upgrade to
//! it and back. Its tables have another version and another layout.

use std::process::ExitCode;

fn main() -> ExitCode {
    vtep_agent::cli::main()
}

//! The binary `vtep-agent`: see [`vtep_agent::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    vtep_agent::cli::main()
}

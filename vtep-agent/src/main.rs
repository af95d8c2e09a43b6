//! The `vtep-agent` command.
fn main() {}

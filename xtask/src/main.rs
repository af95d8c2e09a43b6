//! Build, test, demo and packaging jobs.
fn main() {}

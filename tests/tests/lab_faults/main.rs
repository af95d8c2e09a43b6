//! What breaks around an agent, and how it is whole again.

mod audit;
mod watchdog;

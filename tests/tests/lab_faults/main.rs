//! What breaks around an agent, and how it is whole again.

mod audit;
mod filesystems;
mod matrix;
mod rig;
mod watchdog;

//! Uplinks that this takes kernel modules for.

//! Sessions over TCP.

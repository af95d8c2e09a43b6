//! One file per attach point.

mod access_tc;
mod underlay_tc;
mod underlay_xdp;

//! One file per attach point.

mod access_tc;
mod overlay_tc;
mod underlay_tc;
mod underlay_xdp;

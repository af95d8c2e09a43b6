//! EVPN.

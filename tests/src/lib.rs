//! The laboratory of vtep's black-box tests: hypervisors, VMs, an underlay and real BGP peers, each
//! in a network namespace of its own.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use vtep_tests::{Agent, AgentConfig, Lab, Ping, VmSpec};
//!
//! let lab = Lab::new("example")?;
//! let underlay = lab.underlay()?;
//! let (h1, h2) = (underlay.host("h1")?, underlay.host("h2")?);
//! let (vm1, _vm2) = (h1.vm("vm1", &VmSpec::new(1))?, h2.vm("vm2", &VmSpec::new(2))?);
//! let blue = |here: &_, there: &vtep_tests::Host| {
//!     AgentConfig::new(here, 65000)
//!         .peer(there.address(), 65000)
//!         .bd("blue", 100, &["vnet-*"])
//! };
//! let _a1 = Agent::start(&h1, &blue(&h1, &h2))?;
//! let _a2 = Agent::start(&h2, &blue(&h2, &h1))?;
//! Ping::to("10.0.0.2").until_answered(vm1.ns())?;
//! # Ok(())
//! # }
//! ```
//!
//! Everything is undone when its owner is dropped, on failure and on panic too; what a killed test
//! left behind is removed by the next [`Lab`]. Labs don't disturb each other: names carry the
//! process's id, and nothing is created in the namespace that the test was started in. Daemons are
//! stopped by process id, and print their logs as they go, which the test harness shows only for a
//! test that failed.
//!
//! A lab needs root and the programs that `cargo xtask setup` installs. Without them the test fails
//! and says so.

mod agent;
mod bfd_speaker;
mod bird;
mod cable;
mod capture;
mod daemon;
mod dhcp;
mod exabgp;
mod fabric;
mod frr;
mod gobgp;
mod host;
mod imet;
mod iperf;
mod lab;
mod leaves;
mod linux_bridge;
mod mac;
mod metrics;
mod namespace;
mod packet_socket;
mod pair;
mod ping;
mod programs;
mod random;
mod scripted_peer;
mod tap;
mod undo;
mod vxlan;
mod wait;
mod witness;

pub use agent::{Agent, AgentConfig, CliOutput, agent_binary, next_agent_binary};
pub use bfd_speaker::{BfdPacket, BfdSpeaker};
pub use bird::Bird;
pub use capture::{Capture, Frame};
pub use daemon::{Daemon, Memory};
pub use dhcp::{Dhcpv6Client, dhcp_client, dhcp_server};
pub use exabgp::ExaBgp;
pub use fabric::{Fabric, Station};
pub use frr::Frr;
pub use gobgp::{GoBgpOptions, RouteReflector};
pub use host::{Host, Underlay, UnderlayOptions, Vm, VmSpec};
pub use imet::Imet;
pub use iperf::{Iperf, IperfResult, IperfStream};
pub use lab::Lab;
pub use leaves::{Leaves, Links};
pub use linux_bridge::LinuxBd;
pub use mac::{mac_text, parse_mac};
pub use metrics::Metrics;
pub use namespace::Namespace;
pub use packet_socket::{PacketHub, PacketSocket};
pub use pair::{Pair, count, mesh, pings, test_frame, wait_flood};
pub use ping::{Ping, Pinging, Pings};
pub use random::Random;
pub use scripted_peer::{BgpMessage, ScriptedPeer};
pub use vxlan::{VXLAN_PORT, Vxlan};
pub use wait::{eventually, stays};
pub use witness::Witness;

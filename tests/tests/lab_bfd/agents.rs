//! Agents on both sides.

use std::time::Duration;

use anyhow::{Result, ensure};
use vtep_tests::{Agent, AgentConfig};

use crate::{ASN, Wire, bgp_down, wait_up};

/// Two agents, multihop as internal peers are: up, cut, and up again.
#[test]
fn agents_notice_a_cut() -> Result<()> {
    let wire = Wire::new("cut")?;
    let dut = wire.agent(ASN, "bfd = true")?;
    let config = AgentConfig::new(&wire.peer, ASN).peer_with(wire.dut.address(), ASN, "bfd = true");
    let peer = Agent::start(&wire.peer, &config)?;
    for agent in [&dut, &peer] {
        agent.wait_established()?;
        let bfd = wait_up(agent)?;
        ensure!(bfd["multihop"] == true, "{bfd}");
    }
    let cut = wire.cut()?;
    for (name, agent) in [("dut", &dut), ("peer", &peer)] {
        let after = bgp_down(agent, cut)?;
        println!("two agents: {name} has BGP down {after:?} after the cut");
        ensure!(after < Duration::from_secs(10), "{after:?}");
    }
    wire.mend()?;
    for agent in [&dut, &peer] {
        agent.wait_established()?;
        wait_up(agent)?;
    }
    Ok(())
}

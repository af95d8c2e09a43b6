//! Of several next hops the nearest one (RFC 4271 §9.1.2.2 e), by the kernel's routes.

use super::*;

/// Next hops of the paths to one MAC, behind the peer's host.
const NEXT_HOPS: [&str; 2] = ["198.18.1.1", "198.18.1.2"];

/// MP_REACH_NLRI with one of these next hops.
fn reach(next_hop: &str, nlri: &[u8]) -> Result<Vec<u8>> {
    let address: Ipv4Addr = next_hop.parse()?;
    let head = [&[0, 25, 70, 4][..], &address.octets(), &[0]].concat();
    Ok(attribute(0x80, 14, &[&head, nlri].concat()))
}

/// Two paths that differ in their next hops alone. The MAC is behind the one with the lower metric,
/// whichever that is at the moment; where both are as near, the identifiers decide.
#[test]
fn the_nearest_next_hop_is_used() -> Result<()> {
    let bench = Bench::with_peer_lines("igpcost", ASN, "add_path = true")?;
    let gateway = bench.peer.address();
    let ip = |line: &str| bench.dut.ns().ip(line);
    for next_hop in NEXT_HOPS {
        ip(&format!("route add {next_hop}/32 via {gateway} metric 100"))?;
    }
    let (mut peer, _) = bench.connect()?;
    // Able to send several paths (RFC 7911).
    let sends = [0, 25, 70, 2];
    peer.send(&bench.open().with_capability(69, &sends))?;
    peer.send(&BgpMessage::keepalive())?;
    bench.agent.wait_established()?;
    let nlri = rt2(1);
    for (id, next_hop) in (0_u32..).zip(NEXT_HOPS) {
        let path = [&id.to_be_bytes()[..], &nlri].concat();
        peer.send(&update(&[common(0), reach(next_hop, &path)?].concat()))?;
    }

    // Which path is best, and why the other one is not.
    let decided = |best: usize, reason: &str| {
        let fields = [("mac", json!(mac(1))), ("vtep", json!(NEXT_HOPS[best]))];
        bench.agent.wait_row("macs", &fields)?;
        let other = [
            ("next_hop", json!(NEXT_HOPS[1 - best])),
            ("best", json!(false)),
            ("reason", json!(reason)),
        ];
        bench.agent.wait_row("routes", &other).map(drop)
    };
    decided(0, "not best: higher path identifier")?;
    // A metric is part of what a route is: the new route comes, and the old one goes.
    let change = |next_hop: &str, from: u32, to: u32| {
        ip(&format!(
            "route add {next_hop}/32 via {gateway} metric {to}"
        ))?;
        ip(&format!("route del {next_hop}/32 metric {from}"))
    };
    change(NEXT_HOPS[0], 100, 200)?;
    decided(1, "not best: IGP cost 200 > 100")?;
    change(NEXT_HOPS[1], 100, 300)?;
    decided(0, "not best: IGP cost 300 > 200")?;
    let shown = [("address", json!(NEXT_HOPS[0])), ("metric", json!(200))];
    bench.agent.wait_row("vteps", &shown)?;
    ip(&format!("route replace unreachable {}/32", NEXT_HOPS[0]))?;
    decided(1, "not best: next hop unreachable, that of the best is not")?;
    ip(&format!("route del unreachable {}/32", NEXT_HOPS[0]))?;
    decided(0, "not best: IGP cost 300 > 200")?;
    ensure!(bench.shown()?["routes_received"] == 2);
    Ok(())
}

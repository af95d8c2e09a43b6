//! Several paths of one peer to one route (RFC 7911).

use super::*;

/// Capability 69 for L2VPN EVPN: able to send (2).
const SENDS: [u8; 4] = [0, 25, 70, 2];

/// MP_REACH_NLRI with a next hop of 198.18.0.`host`.
fn reach(host: u8, nlri: &[u8]) -> Vec<u8> {
    let next_hop = [0, 25, 70, 4, 198, 18, 0, host, 0];
    attribute(0x80, 14, &[&next_hop, nlri].concat())
}

fn path(id: u32, nlri: &[u8]) -> Vec<u8> {
    [&id.to_be_bytes()[..], nlri].concat()
}

/// Two paths to one RD and MAC. Both are shown; when the best one is withdrawn the other is used at
/// once, without an UPDATE for it. Ours have no identifiers: we never said that we send several.
#[test]
fn the_other_path_takes_over() -> Result<()> {
    let bench = Bench::with_peer_lines("addpath", ASN, "add_path = true")?;
    let (mut peer, theirs) = bench.connect()?;
    let offered = [69, 4, 0, 25, 70, 1];
    ensure!(
        theirs.body.windows(6).any(|part| part == offered),
        "{theirs:02x?}"
    );
    peer.send(&bench.open().with_capability(69, &SENDS))?;
    peer.send(&BgpMessage::keepalive())?;
    bench.agent.wait_established()?;
    let capabilities = bench.shown()?["capabilities"].clone();
    let capabilities = capabilities.as_array().context("capabilities")?;
    ensure!(
        capabilities.contains(&json!("add_path")),
        "{capabilities:?}"
    );

    let nlri = rt2(1);
    for (id, host) in [(0, 2), (u32::MAX, 3)] {
        let announced = [common(0), reach(host, &path(id, &nlri))].concat();
        peer.send(&update(&announced))?;
    }
    let at = |vtep: &str| {
        let fields = [("mac", json!(mac(1))), ("vtep", json!(vtep))];
        bench.agent.wait_row("macs", &fields).map(drop)
    };
    let paths = |expected: &[(u64, bool)]| {
        eventually(SOON, || {
            let routes = bench.agent.show("routes")?;
            let routes = routes.as_array().into_iter().flatten();
            let of_peer = routes.filter(|route| !route["peer"].is_null());
            let found: Vec<_> = of_peer
                .map(|route| (route["path_id"].as_u64(), route["best"] == true))
                .collect();
            let expected: Vec<_> = expected
                .iter()
                .map(|(id, best)| (Some(*id), *best))
                .collect();
            ensure!(found == expected, "{found:?}, not {expected:?}");
            Ok(())
        })
    };
    paths(&[(0, true), (u64::from(u32::MAX), false)])?;
    at("198.18.0.2")?;
    peer.send(&update(&mp_unreach(&path(0, &nlri))))?;
    at("198.18.0.3")?;
    paths(&[(u64::from(u32::MAX), true)])?;
    ensure!(bench.shown()?["routes_received"] == 1);

    // RFC 7606 with an identifier: that path is treated as withdrawn, and the session stays.
    peer.send(&update(&[common(0), reach(2, &path(7, &nlri))].concat()))?;
    at("198.18.0.2")?;
    let damaged = [common(9), reach(2, &path(7, &nlri))].concat();
    peer.send(&update(&damaged))?;
    at("198.18.0.3")?;
    peer.send(&update(&mp_unreach(&path(u32::MAX, &nlri))))?;
    bench.has_no_mac(&mac(1))?;

    let imet = [&[3, 17][..], &[0, 1], &bench.dut.address().octets()].concat();
    let plain = [
        &[0, 25, 70, 4][..],
        &bench.dut.address().octets(),
        &[0],
        &imet,
    ]
    .concat();
    eventually(SOON, || {
        peer.receive(Duration::from_millis(100))?;
        let told = |message: &BgpMessage| message.body.windows(plain.len()).any(|p| p == plain);
        ensure!(peer.received().iter().any(told), "{:02x?}", peer.received());
        Ok(())
    })?;
    bench.agent.wait_established()
}

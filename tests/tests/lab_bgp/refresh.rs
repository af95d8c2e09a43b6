//! Route refresh (RFC 2918, RFC 7313).

use super::*;

/// ROUTE-REFRESH for L2VPN EVPN with this subtype.
fn refresh(subtype: u8) -> BgpMessage {
    BgpMessage::new(BgpMessage::ROUTE_REFRESH, &[0, 25, subtype, 70])
}

/// Everything again, between BoRR and EoRR if the peer has the capability.
#[test]
fn rr_001_everything_is_sent_again() -> Result<()> {
    for (enhanced, markers) in [(false, 0), (true, 2)] {
        let bench = Bench::new("rr001")?;
        let mut open = bench.open();
        if enhanced {
            open = open.with_capability(70, &[]);
        }
        let mut peer = bench.establish_with(&open)?;
        eventually(SOON, || {
            peer.receive(Duration::from_millis(100))?;
            ensure!(
                peer.received()
                    .iter()
                    .any(|message| message.body == END_OF_RIB)
            );
            Ok(())
        })?;
        let before = peer.received().len();
        peer.send(&refresh(0))?;
        let address = bench.dut.address().octets();
        let imet = [&[3, 17][..], &[0, 1], &address].concat();
        eventually(SOON, || {
            peer.receive(Duration::from_millis(100))?;
            let again = peer.received().get(before..).unwrap_or_default();
            let told = |message: &BgpMessage| message.body.windows(8).any(|part| part == imet);
            ensure!(again.iter().any(told), "{again:02x?}");
            let sent: Vec<_> = again
                .iter()
                .filter(|message| message.kind == BgpMessage::ROUTE_REFRESH)
                .map(|message| message.body.clone())
                .collect();
            let expected = [vec![0, 25, 1, 70], vec![0, 25, 2, 70]];
            let expected = expected.get(..markers).unwrap_or_default();
            ensure!(sent == expected, "{sent:02x?}");
            Ok(())
        })?;
    }
    Ok(())
}

/// What isn't between BoRR and EoRR is gone.
#[test]
fn rr_002_absent_routes_are_purged() -> Result<()> {
    let bench = Bench::new("rr002")?;
    let mut peer = bench.establish_with(&bench.open().with_capability(70, &[]))?;
    let both = mp_reach(&[rt2(1), rt2(2)].concat());
    peer.send(&update(&[common(0), both].concat()))?;
    bench.has_mac(&mac(1))?;
    bench.has_mac(&mac(2))?;
    peer.send(&refresh(1))?;
    peer.send(&update(&[common(0), mp_reach(&rt2(2))].concat()))?;
    peer.send(&refresh(2))?;
    bench.has_no_mac(&mac(1))?;
    bench.has_mac(&mac(2))?;
    bench.agent.wait_established()
}

/// BoRR before End-of-RIB is ignored where graceful restart was agreed: EoRR purges nothing.
#[test]
fn rr_004_no_refresh_before_end_of_rib() -> Result<()> {
    let bench = Bench::new("rr004")?;
    let open = bench
        .open()
        .with_capability(70, &[])
        .with_capability(64, &[0, 120, 0, 25, 70, 0x80]);
    let mut peer = bench.establish_with(&open)?;
    peer.send(&update(&[common(0), mp_reach(&rt2(1))].concat()))?;
    peer.send(&refresh(1))?;
    peer.send(&update(&[common(0), mp_reach(&rt2(2))].concat()))?;
    peer.send(&refresh(2))?;
    bench.has_mac(&mac(2))?;
    bench.has_mac(&mac(1))?;
    bench.agent.wait_established()
}

/// Routes for a bridge domain that appears later: without a flap of the session.
#[test]
fn rr_003_a_new_bridge_domain_finds_its_routes() -> Result<()> {
    let bench = Bench::new("rr003")?;
    let mut peer = bench.establish()?;
    let mut nlri = rt2(5);
    let vni = nlri.len() - 1;
    nlri[vni] = 200;
    let communities = [
        [0x00, 0x02, 0xfd, 0xe8, 0, 0, 0, 200],
        [0x03, 0x0c, 0, 0, 0, 0, 0, 8],
    ];
    let attributes = [
        attribute(0x40, 1, &[0]),
        attribute(0x40, 2, &[]),
        attribute(0x40, 5, &[0, 0, 0, 100]),
        attribute(0xc0, 16, &communities.concat()),
        mp_reach(&nlri),
    ];
    peer.send(&update(&attributes.concat()))?;
    peer.send(&update(&[common(0), mp_reach(&rt2(1))].concat()))?;
    bench.has_mac(&mac(1))?;
    ensure!(bench.agent.row("macs", &[("mac", json!(mac(5)))]).is_err());
    let config = bench.config.clone().bd("red", 200, &["vnet-r*"]);
    bench.agent.reload(&config)?.done()?;
    let fields = [("mac", json!(mac(5))), ("bd", json!("red"))];
    bench.agent.wait_row("macs", &fields)?;
    ensure!(!peer.is_closed());
    let shown = bench.shown()?;
    ensure!(shown["state"] == "established", "{shown}");
    Ok(())
}

//! BGP sessions that are not up, or bring nothing.

use super::{AgentFacts, Finding};
use crate::view;

/// Parts of a peer's `last_error`, and what to do about it; the first that fits counts.
const REMEDIES: &[(&[&str], &str)] = &[
    (
        &["refused its OPEN", "bad peer AS"],
        "correct `asn` of the peer here, or its AS there",
    ),
    (
        &["the peer ended", "bad peer AS"],
        "the peer expects us in another AS: correct `asn` of [bgp] here, or our AS there",
    ),
    (
        &["no family in common"],
        "activate one of our families for us there (`evpn` is L2VPN EVPN), or name one of its in \
         `families`",
    ),
    (
        &["the peer ended", "unsupported capability"],
        "the peer misses a family that it wants: compare `families` with those activated there",
    ),
    (
        &["bad BGP identifier"],
        "two routers have one router id: set `router_id`, or change the peer's",
    ),
    (
        &["we ended", "maximum number of prefixes"],
        "raise `max_prefixes` of the peer, or find out why it has so many routes; it is let in \
         again after a minute",
    ),
    (
        &["the peer ended", "maximum number of prefixes"],
        "we have more routes than the peer takes: raise its limit",
    ),
    (
        &["signature"],
        "compare `password` on both sides: one of them has none, or another",
    ),
    (
        &["TTL"],
        "`ttl_security` has to be configured on both sides, for as many hops as there are",
    ),
    (
        &["Connection refused"],
        "no BGP listens at that address and port: is the daemon running there, and its firewall \
         open for TCP port 179?",
    ),
    (
        &["timed out"],
        "nobody answers: does the address answer a ping, is TCP port 179 open on the way? A \
         password on one side only, or another there than here, looks the same: `nstat -az \
         'TcpExtTCPMD5*'` on the peer's host",
    ),
    (
        &["unreachable"],
        "ip route get ADDRESS: is there a route to the peer?",
    ),
    (
        &["No route to host"],
        "ip route get ADDRESS: is there a route to the peer, and does its next hop answer ARP?",
    ),
    (
        &["connection not synchronized"],
        "what answers on TCP port 179 there speaks no BGP, or something on the way changes it",
    ),
    (
        &["hold timer expired"],
        "packets are lost on the way, or one side is overloaded; if small messages pass and large \
         ones don't, compare MTUs",
    ),
    (
        &["BFD"],
        "the path fails, or the peer: `show bgp --json` says more under `bfd`",
    ),
    (
        &["shut down by the configuration"],
        "remove `shutdown` of the peer, and reload",
    ),
    (
        &["the peer ended", "administrative shutdown"],
        "the peer's operator shut the session down: ask there",
    ),
    (
        &["connection rejected"],
        "the peer is not configured for a session with this host: compare addresses",
    ),
    (
        &["peer de-configured"],
        "the peer's operator removed the session: ask there",
    ),
    (&["closed by the peer"], UNKNOWN_THERE),
    (&["reset by peer"], UNKNOWN_THERE),
    (
        &["no router advertisement"],
        "does the other end send router advertisements (FRR: `neighbor IFNAME interface`)?",
    ),
];

const UNKNOWN_THERE: &str = "it hangs up without a word: is this host a neighbor in its configuration, \
                             with the address that it sees (`local_address`)? The peer's log says more";

/// Before there is any error.
const NO_ERROR_YET: &[(&str, &str)] = &[
    (
        "active",
        "we wait for the peer's connection (`passive`), or are about to try again: does it know us?",
    ),
    (
        "connect",
        "nobody has answered yet: does the address answer a ping, is TCP port 179 open on the way, \
         and `password` the same on both sides?",
    ),
    (
        "opensent",
        "TCP is connected and no OPEN came: is it BGP that answers there, and `ttl_security` the \
         same on both sides?",
    ),
    (
        "openconfirm",
        "the peer did not confirm our OPEN yet: its log says why; is `ttl_security` the same on \
         both sides?",
    ),
];

const OTHERWISE: &str =
    "compare AS numbers, addresses and passwords on both sides; is TCP port 179 open?";

pub(super) fn examine(agent: &AgentFacts, findings: &mut Vec<Finding>) {
    if agent.bgp.peers.is_empty() {
        findings.push(Finding::warning(
            "bgp",
            None,
            "no BGP peer is configured: nothing is learned of other VTEPs",
            "add a [[bgp.peer]]",
        ));
    }
    for peer in &agent.bgp.peers {
        let address = peer.address.map(|address| address.to_string());
        let name = peer.interface.clone().or(address);
        if peer.state != "established" {
            let error = match &peer.last_error {
                Some(error) => format!("last error: {error}"),
                None => "no error yet".to_owned(),
            };
            findings.push(Finding::error(
                "bgp",
                name.as_deref(),
                format!("the session is {}; {error}", peer.state),
                remedy(peer),
            ));
        } else if peer.routes_received > 0 && peer.routes_accepted == 0 {
            findings.push(Finding::warning(
                "import",
                name.as_deref(),
                format!(
                    "none of its {} routes is imported by a bridge domain",
                    peer.routes_received
                ),
                "compare route targets: `show routes` and `show bds`",
            ));
        }
    }
}

fn remedy(peer: &view::Peer) -> &'static str {
    let fits = match &peer.last_error {
        Some(error) => REMEDIES
            .iter()
            .find(|(parts, _)| parts.iter().all(|part| error.contains(part)))
            .map(|(_, remedy)| *remedy),
        None => NO_ERROR_YET
            .iter()
            .find(|(state, _)| *state == peer.state)
            .map(|(_, remedy)| *remedy),
    };
    fits.unwrap_or(OTHERWISE)
}

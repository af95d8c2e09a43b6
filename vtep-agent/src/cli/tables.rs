//! `show` for people: columns without borders.

use std::{collections::BTreeMap, net::IpAddr};

use comfy_table::{CellAlignment, Table as Grid, presets};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    control::Table,
    view::{
        Bd, Bgp, Counters, Flood, MacEntry, Neighbor, Peer, Port, Route, Status, TracedFrame,
        UnicastRoute, Uplink, Vtep,
    },
};

/// A table as text, with a header even when it is empty.
///
/// # Errors
///
/// The agent's data is not of the shape that this program knows.
pub(super) fn render(what: Table, data: Value) -> serde_json::Result<String> {
    Ok(match what {
        Table::Bgp => bgp(&read(data)?),
        Table::Routes => routes(read(data)?),
        Table::Bds => bds(read(data)?),
        Table::Ports => ports(read(data)?),
        Table::Macs => macs(read(data)?),
        Table::Neighbors => neighbors(read(data)?),
        Table::Vteps => vteps(read(data)?),
        Table::Flood => flood(read(data)?),
        Table::Counters => counters(&read(data)?),
        Table::Uplinks => uplinks(read(data)?),
        Table::Status => status(&read(data)?),
    })
}

/// `show routes` of a unicast family as text.
///
/// # Errors
///
/// The agent's data is not of the shape that this program knows.
pub(super) fn unicast_routes(data: Value) -> serde_json::Result<String> {
    let routes: Vec<UnicastRoute> = read(data)?;
    let columns = ["", "PREFIX", "NEXT HOP", "PEER", "AS PATH", "REASON"];
    let rows = routes.into_iter().map(|route| {
        [
            route_status(route.best, route.installed, route.stale),
            route.prefix,
            or_dash(route.next_hop),
            route
                .peer
                .map_or_else(|| "local".to_owned(), |peer| peer.to_string()),
            or_dash(route.attributes.as_path.filter(|path| !path.is_empty())),
            or_dash(route.reason),
        ]
    });
    let table = grid(columns, rows);
    Ok(format!("{ROUTE_LEGEND}\n\n{table}"))
}

/// What [`route_status`] means.
const ROUTE_LEGEND: &str = "* best, > in use, S stale";

fn route_status(best: bool, installed: bool, stale: bool) -> String {
    let status = match (best, installed) {
        (true, true) => "*>",
        (true, false) => "*",
        (false, true) => " >",
        (false, false) => "",
    };
    match stale {
        true => format!("{status:2}S"),
        false => status.to_owned(),
    }
}

fn read<T: DeserializeOwned>(data: Value) -> serde_json::Result<T> {
    serde_json::from_value(data)
}

fn bgp(bgp: &Bgp) -> String {
    let columns = [
        "PEER",
        "NAME",
        ">AS",
        "STATE",
        ">UPTIME",
        ">RECEIVED",
        ">ACCEPTED",
        ">SENT",
        "LAST ERROR",
    ];
    let rows = bgp.peers.iter().map(|peer| {
        [
            match &peer.interface {
                Some(interface) => interface.clone(),
                None if peer.dynamic => format!("{}*", or_dash(peer.address)),
                None => or_dash(peer.address),
            },
            or_dash(peer.hostname.as_deref()),
            or_dash(peer.asn),
            session_state(peer),
            peer.uptime_s.map_or_else(dash, duration),
            peer.routes_received.to_string(),
            peer.routes_accepted.to_string(),
            peer.routes_sent.to_string(),
            or_dash(peer.last_error.as_deref()),
        ]
    });
    let peers = grid(columns, rows);
    let restart = match bgp.restarting {
        false => "",
        true => ", restarted: routes of before are kept until every peer has sent its own",
    };
    let dynamic = match bgp.peers.iter().any(|peer| peer.dynamic) {
        true => "\n* dynamic",
        false => "",
    };
    let mut known = BTreeMap::<u32, Vec<String>>::new();
    for peer in &bgp.peers {
        if let Some(asn) = peer.local_as {
            let name = peer.interface.clone();
            let name = name.unwrap_or_else(|| or_dash(peer.address));
            known.entry(asn).or_default().push(name);
        }
    }
    let known: String = known
        .into_iter()
        .map(|(asn, peers)| format!("\nAS {asn} to {}", peers.join(", ")))
        .collect();
    let (asn, router_id) = (bgp.asn, bgp.router_id);
    let targets: String = bgp.peers.iter().filter_map(memberships).collect();
    format!("AS {asn}, router id {router_id}{restart}{known}{dynamic}\n\n{peers}{targets}")
}

/// Route targets that a peer and we ask each other for.
fn memberships(peer: &Peer) -> Option<String> {
    /// `--json` has more.
    const SHOWN: usize = 8;
    let exchanged = peer.rt_constraint.as_ref()?;
    let list = |count: u64, targets: &[String]| {
        let shown = targets.iter().take(SHOWN);
        let mut words: Vec<_> = shown.cloned().collect();
        match count.saturating_sub(words.len() as u64) {
            0 if words.is_empty() => words.push("no routes".to_owned()),
            0 => {}
            more => words.push(format!("and {more} more")),
        }
        words.join(" ")
    };
    let name = or_dash(
        peer.interface
            .clone()
            .or(peer.address.map(|a| a.to_string())),
    );
    let received = list(exchanged.received, &exchanged.received_targets);
    let sent = list(exchanged.sent, &exchanged.sent_targets);
    let waiting = match exchanged.complete {
        true => "",
        false => " (not all yet: it gets no routes)",
    };
    Some(format!(
        "\n{name} asks for {received}{waiting}\n{name} is asked for {sent}\n"
    ))
}

fn session_state(peer: &Peer) -> String {
    let mut state = peer.state.clone();
    if peer.routes_stale > 0 {
        state += &format!(", {} stale", peer.routes_stale);
    }
    if let Some(bfd) = &peer.bfd {
        state += &format!(", BFD {}", bfd.state);
    }
    state
}

fn routes(routes: Vec<Route>) -> String {
    let columns = [
        "", "RD", "ROUTE", "NEXT HOP", "PEER", ">VNI", ">SEQ", "TARGETS", "REASON",
    ];
    let rows = routes.into_iter().map(|route| {
        [
            route_status(route.best, route.installed, route.stale),
            route.rd,
            route.key,
            or_dash(route.next_hop),
            origin(route.peer, route.path_id),
            or_dash(route.attributes.vni),
            or_dash(route.attributes.sequence),
            words(&route.attributes.route_targets),
            why(route.reason, route.stale_reason),
        ]
    });
    let table = grid(columns, rows);
    format!("{ROUTE_LEGEND}\n\n{table}")
}

/// The peer, and which of its paths it is where it sends several.
fn origin(peer: Option<IpAddr>, path_id: Option<u32>) -> String {
    match (peer, path_id) {
        (None, _) => "local".to_owned(),
        (Some(peer), None) => peer.to_string(),
        (Some(peer), Some(id)) => format!("{peer} path {id}"),
    }
}

fn why(reason: Option<String>, stale: Option<String>) -> String {
    let stale = stale.map(|stale| format!("stale: {stale}"));
    let reasons: Vec<_> = reason.into_iter().chain(stale).collect();
    match reasons.is_empty() {
        true => dash(),
        false => reasons.join("; "),
    }
}

fn bds(bds: Vec<Bd>) -> String {
    let columns = [
        "NAME",
        ">VNI",
        "RD",
        "IMPORT",
        "EXPORT",
        ">PORTS",
        ">LOCAL MACS",
        ">REMOTE MACS",
        ">VTEPS",
    ];
    let rows = bds.into_iter().map(|bd| {
        [
            bd.name,
            bd.vni.to_string(),
            bd.rd,
            words(&bd.rt_import),
            words(&bd.rt_export),
            bd.ports.to_string(),
            bd.local_macs.to_string(),
            bd.remote_macs.to_string(),
            bd.vteps.to_string(),
        ]
    });
    grid(columns, rows)
}

fn ports(ports: Vec<Port>) -> String {
    let columns = [
        "PORT",
        ">VLAN",
        "BD",
        "STATE",
        ">RX PACKETS",
        ">TX PACKETS",
        ">DROPS",
        "FLAGS",
    ];
    let rows = ports.into_iter().map(|port| {
        [
            port.name,
            or_dash(port.vlan),
            port.bd,
            port.state,
            port.rx_packets.to_string(),
            port.tx_packets.to_string(),
            port.drops.to_string(),
            if port.source_filter { "filter" } else { "-" }.to_owned(),
        ]
    });
    grid(columns, rows)
}

fn macs(macs: Vec<MacEntry>) -> String {
    let columns = ["BD", ">VNI", "MAC", "ORIGIN", "AT", ">SEQ", ">AGE", "FLAGS"];
    let rows = macs.into_iter().map(|entry| {
        let mut flags = Vec::new();
        if entry.sticky {
            flags.push("sticky".to_owned());
        }
        if entry.duplicate {
            flags.push(match entry.duplicate_action {
                Some(action) => format!("duplicate ({action})"),
                None => "duplicate".to_owned(),
            });
        }
        [
            entry.bd,
            entry.vni.to_string(),
            entry.mac,
            entry.origin,
            entry
                .port
                .or_else(|| entry.vtep.map(|vtep| vtep.to_string()))
                .or(entry.esi)
                .unwrap_or_else(dash),
            entry.seq.to_string(),
            duration(entry.age_s),
            words(&flags),
        ]
    });
    grid(columns, rows)
}

fn neighbors(neighbors: Vec<Neighbor>) -> String {
    let columns = ["BD", "IP", "MAC", "ORIGIN", "SOURCE", "ROUTER", "STATE"];
    let rows = neighbors.into_iter().map(|neighbor| {
        let router = if neighbor.router { "yes" } else { "no" };
        let state = match neighbor.duplicate_action {
            Some(action) => format!("duplicate ({action})"),
            None if neighbor.anycast => "anycast".to_owned(),
            None => dash(),
        };
        [
            neighbor.bd,
            neighbor.ip.to_string(),
            neighbor.mac,
            neighbor.origin,
            or_dash(neighbor.source),
            router.to_owned(),
            state,
        ]
    });
    grid(columns, rows)
}

fn vteps(vteps: Vec<Vtep>) -> String {
    let rows = vteps.into_iter().map(|vtep| {
        let reachable = if vtep.reachable { "yes" } else { "no" };
        [
            vtep.address.to_string(),
            reachable.to_owned(),
            or_dash(vtep.metric),
            vtep.macs.to_string(),
            words(&vtep.bds),
        ]
    });
    grid(["VTEP", "REACHABLE", ">METRIC", ">MACS", "BDS"], rows)
}

/// A line per receiver: lists of a thousand VTEPs are common.
fn flood(lists: Vec<Flood>) -> String {
    let mut rows = Vec::new();
    for list in lists {
        let Flood {
            bd,
            vni,
            ports,
            vteps,
            replicators,
        } = list;
        for port in ports {
            rows.push([bd.clone(), vni.to_string(), format!("port {port}"), dash()]);
        }
        for vtep in vteps {
            let mut receiver = format!("VTEP {}", vtep.address);
            if !vtep.pruned.is_empty() {
                receiver.push_str(&format!(" (no {})", vtep.pruned.join(", ")));
            }
            rows.push([bd.clone(), vni.to_string(), receiver, vtep.vni.to_string()]);
        }
        for replicator in replicators {
            let receiver = format!("replicator {} ({})", replicator.address, replicator.state);
            rows.push([
                bd.clone(),
                vni.to_string(),
                receiver,
                replicator.vni.to_string(),
            ]);
        }
    }
    grid(["BD", ">VNI", "RECEIVER", ">ITS VNI"], rows.into_iter())
}

/// Drops that did not happen are left out here, and are there in the JSON.
fn counters(counters: &Counters) -> String {
    let Counters {
        drops,
        rx,
        tx,
        suppressed,
        flood_copies,
        unwritten,
        maps,
        audits,
        audit_differences,
    } = counters;
    let totals = [
        ("decapsulated packets", rx.packets),
        ("decapsulated bytes", rx.bytes),
        ("encapsulated packets", tx.packets),
        ("encapsulated bytes", tx.bytes),
        ("suppressed ARP requests", suppressed.arp),
        ("suppressed neighbour solicitations", suppressed.nd),
        ("flood copies", *flood_copies),
        ("audits of the maps", *audits),
    ];
    let totals = totals.map(|(name, count)| [name.to_owned(), count.to_string()]);
    let drops = drops.iter().filter(|(_, count)| **count != 0);
    let drops = drops.map(|(reason, count)| [format!("dropped: {reason}"), count.to_string()]);
    let unwritten = unwritten
        .iter()
        .map(|(map, count)| [format!("not written: {map}"), count.to_string()]);
    let differences = audit_differences
        .iter()
        .map(|(map, count)| [format!("differed: {map}"), count.to_string()]);
    let maps = maps.iter().filter(|(_, fill)| fill.entries != 0);
    let maps = maps.map(|(map, fill)| {
        let use_of = format!("{} of {}", fill.entries, fill.capacity);
        [format!("entries: {map}"), use_of]
    });
    let rows = totals.into_iter().chain(drops).chain(unwritten);
    let rows = rows.chain(differences).chain(maps);
    grid(["COUNTER", ">VALUE"], rows)
}

fn uplinks(uplinks: Vec<Uplink>) -> String {
    let rows = uplinks
        .into_iter()
        .map(|uplink| [uplink.name, uplink.xdp, uplink.state, or_dash(uplink.mtu)]);
    grid(["UPLINK", "XDP", "STATE", ">MTU"], rows)
}

fn status(status: &Status) -> String {
    let remaining = status
        .remaining_s
        .map(|seconds| format!(", programs are detached in {}", duration(seconds)));
    let Status { version, state, .. } = status;
    let readiness = match status.ready {
        true => "ready".to_owned(),
        false => format!("not ready:\n  {}", status.reasons.join("\n  ")),
    };
    let remaining = remaining.unwrap_or_default();
    format!("vtep-agent {version}, {state}{remaining}\n{readiness}\n")
}

/// A frame of `trace` on a line.
pub(super) fn traced(frame: &Value) -> String {
    let Ok(frame) = serde_json::from_value::<TracedFrame>(frame.clone()) else {
        return format!("{frame}\n");
    };
    let from = frame
        .port
        .or(frame.vtep.map(|vtep| vtep.to_string()))
        .or(frame.device)
        .unwrap_or_else(dash);
    let what = frame.path.or(frame.reason).unwrap_or_default();
    let target = frame.target.unwrap_or_default();
    let line = format!(
        "{} {from} {} {} > {} {} {} bytes: {} {what}; {} {target}",
        frame.program,
        frame.bd.unwrap_or_else(dash),
        frame.source,
        frame.destination,
        frame.ethertype,
        frame.length,
        frame.verdict,
        frame.lookup,
    );
    let line = line.replace(" ;", ";");
    format!("{}\n", line.trim_end())
}

/// Columns without borders; those whose name begins with `>` are aligned to the right.
fn grid<const N: usize>(columns: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let mut grid = Grid::new();
    grid.load_style(presets::NOTHING);
    grid.set_header(columns.map(|name| name.trim_start_matches('>')));
    for row in rows {
        grid.add_row(row.map(|cell| cell.replace(char::is_control, " ")));
    }
    for (column, name) in grid.column_iter_mut().zip(columns) {
        column.set_padding((0, 2));
        if name.starts_with('>') {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let lines = grid.lines().map(|line| format!("{}\n", line.trim_end()));
    lines.collect()
}

fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(dash, |value| value.to_string())
}

fn words(words: &[String]) -> String {
    match words {
        [] => dash(),
        words => words.join(" "),
    }
}

fn dash() -> String {
    "-".to_owned()
}

/// Seconds as `59s`, `1m00s`, `2h03m`, `4d05h`.
fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{:02}s", seconds % 60),
        3600..86400 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

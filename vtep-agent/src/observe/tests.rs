use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
};
use vtep_common::{
    DropReason,
    abi::{BdCounters, Path, PortCounters, Traffic},
};

use super::*;

/// Something of everything.
fn snapshot() -> Snapshot {
    let counters = PortCounters {
        rx: Traffic {
            packets: 5,
            bytes: 500,
        },
        tx: Traffic {
            packets: 6,
            bytes: 600,
        },
        drops: 0,
    };
    let port = PortMetrics {
        port: "tap1".to_owned(),
        bd: "blue".to_owned(),
        counters,
    };
    Snapshot {
        peers: vec![PeerMetrics {
            name: "198.18.0.100".to_owned(),
            up: true,
            bfd: Some(BfdMetrics {
                up: true,
                received: 5,
                sent: 6,
            }),
            messages: [(("sent", "update"), 3), (("received", "keepalive"), 4)].into(),
            routes: [("2", 7), ("3", 1), ("ipv4", 6)]
                .map(|(kind, count)| (kind.to_owned(), count))
                .into(),
            update_errors: [("treat_as_withdraw", 2)].into(),
        }],
        bds: vec![BdMetrics {
            name: "blue".to_owned(),
            macs: Origins {
                learned: 1,
                declared: 2,
                remote: 3,
            },
            neighbors: Origins {
                remote: 9,
                ..Origins::default()
            },
            remote_vteps: 4,
            mac_moves: 5,
            duplicate_macs: 1,
            duplicate_ips: 2,
            assisted: true,
            probes: [("sent", 9), ("answered", 2), ("silent", 1)],
            dhcp_bindings: vec![("bound", 6)],
            dhcp_refused: vec![("unsolicited", 7)],
            counters: BdCounters {
                suppressed_arp: 10,
                suppressed_nd: 11,
                flood_copies: 12,
            },
        }],
        // The same device twice, with distinct VLANs.
        ports: vec![port.clone(), port],
        paths: vec![PathMetrics {
            path: Path::RxTc,
            traffic: Traffic {
                packets: 100,
                bytes: 10000,
            },
        }],
        drops: vec![(DropReason::UnknownVni, 8)],
        maps: vec![MapMetrics {
            map: "fdb",
            entries: 3,
            capacity: 262_144,
            pending: 14,
        }],
        reconcile_operations: [("insert", 20), ("delete", 1)].into(),
        reconcile_errors: 2,
        audits: 17,
        audit_differences: vec![("fdb", 18)],
        events_lost: 13,
        events_limited: 14,
        signature_failures: [("wrong", 6)].into(),
        bfd_discards: vec![("ttl", 14), ("version", 0)],
        state: "running",
        host_routes: HostRouteMetrics {
            installed: 15,
            failed: 16,
            errors: 17,
        },
    }
}

fn render(snapshot: &Snapshot) -> String {
    Metrics::new().unwrap().render(snapshot).unwrap()
}

#[test]
fn every_metric_with_its_labels() {
    let text = render(&snapshot());
    for line in [
        concat!(
            "vtep_build_info{version=\"",
            env!("CARGO_PKG_VERSION"),
            "\"} 1"
        ),
        "vtep_bgp_peer_up{peer=\"198.18.0.100\"} 1",
        "vtep_bgp_messages_total{direction=\"sent\",peer=\"198.18.0.100\",type=\"update\"} 3",
        "vtep_bgp_messages_total{direction=\"received\",peer=\"198.18.0.100\",type=\"keepalive\"} 4",
        "vtep_bgp_routes{peer=\"198.18.0.100\",type=\"2\"} 7",
        "vtep_bgp_routes{peer=\"198.18.0.100\",type=\"3\"} 1",
        "vtep_bgp_update_errors_total{outcome=\"treat_as_withdraw\",peer=\"198.18.0.100\"} 2",
        "vtep_macs{bd=\"blue\",origin=\"learned\"} 1",
        "vtep_macs{bd=\"blue\",origin=\"declared\"} 2",
        "vtep_macs{bd=\"blue\",origin=\"remote\"} 3",
        "vtep_neighbors{bd=\"blue\",origin=\"learned\"} 0",
        "vtep_neighbors{bd=\"blue\",origin=\"remote\"} 9",
        "vtep_remote_vteps{bd=\"blue\"} 4",
        "vtep_packets_total{direction=\"rx\",path=\"tc\"} 100",
        "vtep_packets_total{direction=\"tx\",path=\"flood\"} 0",
        "vtep_bytes_total{direction=\"rx\",path=\"tc\"} 10000",
        "vtep_port_packets_total{bd=\"blue\",direction=\"rx\",port=\"tap1\"} 10",
        "vtep_port_packets_total{bd=\"blue\",direction=\"tx\",port=\"tap1\"} 12",
        "vtep_port_bytes_total{bd=\"blue\",direction=\"rx\",port=\"tap1\"} 1000",
        "vtep_port_bytes_total{bd=\"blue\",direction=\"tx\",port=\"tap1\"} 1200",
        "vtep_drops_total{reason=\"unknown_vni\"} 8",
        "vtep_suppressed_total{bd=\"blue\",protocol=\"arp\"} 10",
        "vtep_suppressed_total{bd=\"blue\",protocol=\"nd\"} 11",
        "vtep_flood_copies_total{bd=\"blue\"} 12",
        "vtep_mac_moves_total{bd=\"blue\"} 5",
        "vtep_duplicate_macs{bd=\"blue\"} 1",
        "vtep_duplicate_ips{bd=\"blue\"} 2",
        "vtep_assisted_replication{bd=\"blue\"} 1",
        "vtep_endpoint_probes_total{bd=\"blue\",result=\"answered\"} 2",
        "vtep_dhcp_bindings_total{bd=\"blue\",event=\"bound\"} 6",
        "vtep_dhcp_refused_total{bd=\"blue\",reason=\"unsolicited\"} 7",
        "vtep_map_entries{map=\"fdb\"} 3",
        "vtep_map_capacity{map=\"fdb\"} 262144",
        "vtep_map_pending{map=\"fdb\"} 14",
        "vtep_reconcile_operations_total{op=\"insert\"} 20",
        "vtep_reconcile_errors_total 2",
        "vtep_convergence_seconds_count 0",
        "vtep_convergence_seconds_bucket{le=\"+Inf\"} 0",
        "vtep_events_lost_total 13",
        "vtep_events_limited_total 14",
        "vtep_tcp_signature_failures_total{reason=\"wrong\"} 6",
        "vtep_bfd_up{peer=\"198.18.0.100\"} 1",
        "vtep_bfd_packets_total{direction=\"received\",peer=\"198.18.0.100\"} 5",
        "vtep_bfd_packets_total{direction=\"sent\",peer=\"198.18.0.100\"} 6",
        "vtep_bfd_discards_total{reason=\"ttl\"} 14",
        "vtep_bfd_discards_total{reason=\"version\"} 0",
        "vtep_bgp_routes{peer=\"198.18.0.100\",type=\"ipv4\"} 6",
        "vtep_state{state=\"running\"} 1",
        "vtep_state{state=\"draining\"} 0",
        "vtep_audits_total 17",
        "vtep_audit_differences_total{map=\"fdb\"} 18",
        "vtep_host_routes{state=\"installed\"} 15",
        "vtep_host_routes{state=\"failed\"} 16",
        "vtep_host_route_errors_total 17",
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line} not in:\n{text}"
        );
    }
}

/// `_total` is a counter, all else a gauge or the histogram; each has help.
#[test]
fn kinds() {
    let text = render(&snapshot());
    let mut names = BTreeSet::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        let expected = match name {
            "vtep_convergence_seconds" => "histogram",
            name if name.ends_with("_total") => "counter",
            _ => "gauge",
        };
        assert_eq!(kind, expected, "{name}");
        assert!(text.contains(&format!("# HELP {name} ")), "{name}");
        assert!(names.insert(name), "{name} is there twice");
    }
    assert_eq!(names.len(), 39);
}

/// The documentation's table and the metrics are the same.
#[test]
fn documentation() {
    let table: BTreeSet<_> = include_str!("../../../docs/metrics.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `vtep_")?.split('`').next())
        .map(|name| format!("vtep_{name}"))
        .collect();
    let text = render(&snapshot());
    let rendered: BTreeSet<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next())
        .map(str::to_owned)
        .collect();
    assert_eq!(table, rendered);
}

/// An agent that has just started: what has no labels to wait for is there, with zeros.
#[test]
fn nothing_yet() {
    let text = render(&Snapshot::default());
    for reason in DropReason::ALL {
        let line = format!("vtep_drops_total{{reason=\"{}\"}} 0", reason.name());
        assert!(text.contains(&line), "{line}");
    }
    for path in Path::ALL {
        let (direction, path) = (path.direction(), path.name());
        let line = format!("vtep_packets_total{{direction=\"{direction}\",path=\"{path}\"}} 0");
        assert!(text.contains(&line), "{line}");
    }
    assert!(text.contains("vtep_events_lost_total 0"));
}

#[test]
fn convergence_is_kept_between_scrapes() {
    let metrics = Metrics::new().unwrap();
    let observer = metrics.clone();
    observer.observe_convergence(Duration::from_millis(3));
    observer.observe_convergence(Duration::from_secs(20));
    let text = metrics.render(&Snapshot::default()).unwrap();
    for line in [
        "vtep_convergence_seconds_bucket{le=\"0.0025\"} 0",
        "vtep_convergence_seconds_bucket{le=\"0.005\"} 1",
        "vtep_convergence_seconds_bucket{le=\"10\"} 1",
        "vtep_convergence_seconds_bucket{le=\"+Inf\"} 2",
        "vtep_convergence_seconds_sum 20.003",
    ] {
        assert!(text.contains(line), "{line} not in:\n{text}");
    }
}

/// A server whose daemon reports [`snapshot`] and `unready`.
async fn serve(unready: &'static [&'static str]) -> SocketAddr {
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = server.local_address().unwrap();
    let (sender, mut queries) = mpsc::channel(1);
    tokio::spawn(server.run(Metrics::new().unwrap(), sender));
    tokio::spawn(async move {
        while let Some(query) = queries.recv().await {
            match query {
                Query::Snapshot(answer) => drop(answer.send(snapshot())),
                Query::Unready(answer) => {
                    let reasons = unready.iter().map(|&reason| reason.to_owned());
                    drop(answer.send(reasons.collect()));
                }
            }
        }
    });
    address
}

async fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The server may answer and close before it has read all.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut response = Vec::new();
    let _ = stream.read_to_end(&mut response).await;
    String::from_utf8(response).unwrap()
}

async fn get(address: SocketAddr, path: &str) -> (String, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    let response = exchange(address, &request).await;
    let (header, body) = response.split_once("\r\n\r\n").unwrap();
    let length = format!("Content-Length: {}", body.len());
    assert!(header.lines().any(|line| line == length), "{header}");
    assert!(header.contains("\r\nConnection: close"), "{header}");
    (header.to_owned(), body.to_owned())
}

#[tokio::test]
async fn pages() {
    let address = serve(&[]).await;
    let (header, body) = get(address, "/metrics").await;
    assert!(header.starts_with("HTTP/1.1 200 OK\r\n"), "{header}");
    assert!(
        header.contains("Content-Type: text/plain; version=0.0.4"),
        "{header}"
    );
    assert!(
        body.contains("vtep_bgp_peer_up{peer=\"198.18.0.100\"} 1\n"),
        "{body}"
    );
    for path in ["/healthz", "/readyz", "/readyz?verbose"] {
        let (header, body) = get(address, path).await;
        assert!(header.starts_with("HTTP/1.1 200 OK\r\n"), "{header}");
        assert_eq!(body, "ok\n");
    }
    let (header, _) = get(address, "/").await;
    assert!(header.starts_with("HTTP/1.1 404 "), "{header}");
}

#[tokio::test]
async fn unready_is_not_unhealthy() {
    let address = serve(&["no BGP peer is up", "eth0 is waited for"]).await;
    let (header, body) = get(address, "/readyz").await;
    assert!(header.starts_with("HTTP/1.1 503 "), "{header}");
    assert_eq!(body, "no BGP peer is up\neth0 is waited for\n");
    let (header, _) = get(address, "/healthz").await;
    assert!(header.starts_with("HTTP/1.1 200 "), "{header}");
}

#[tokio::test]
async fn bad_requests() {
    let address = serve(&[]).await;
    let long = format!(
        "GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n",
        "x".repeat(16 * 1024)
    );
    for (request, expected) in [
        ("POST /metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 405 "),
        ("PUT /nothing HTTP/1.1\r\n\r\n", "HTTP/1.1 404 "),
        ("GET /metrics\r\n\r\n", "HTTP/1.1 400 "),
        ("GET /metrics HTTP/2\r\n\r\n", "HTTP/1.1 400 "),
        ("\r\n\r\n", "HTTP/1.1 400 "),
        ("GET /metrics HTTP/1.0\r\n\r\n", "HTTP/1.1 200 "),
        (&long, "HTTP/1.1 431 "),
    ] {
        let response = exchange(address, request).await;
        assert!(
            response.starts_with(expected),
            "{request:.40}: {response:.100}"
        );
    }
    let head = exchange(address, "HEAD /metrics HTTP/1.1\r\n\r\n").await;
    assert!(
        head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
    let allow = exchange(address, "DELETE /metrics HTTP/1.1\r\n\r\n").await;
    assert!(allow.contains("\r\nAllow: GET, HEAD\r\n"), "{allow}");
}

/// A client that never finishes its request is cut off.
#[tokio::test(start_paused = true)]
async fn slow_requests() {
    let address = serve(&[]).await;
    let started = tokio::time::Instant::now();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\n")
        .await
        .unwrap();
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(started.elapsed().as_secs(), 5);
}

/// A daemon that hangs is unhealthy, and says nothing about readiness.
#[tokio::test(start_paused = true)]
async fn daemon_hangs() {
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = server.local_address().unwrap();
    let (sender, _queries) = mpsc::channel(1);
    tokio::spawn(server.run(Metrics::new().unwrap(), sender));
    for path in ["/healthz", "/readyz", "/metrics"] {
        let (header, body) = get(address, path).await;
        assert!(header.starts_with("HTTP/1.1 503 "), "{header}");
        assert_eq!(body, "the agent does not answer\n");
    }
}

/// Silent connections do not keep a scraper out for longer than their time.
#[tokio::test(start_paused = true)]
async fn more_connections_than_slots() {
    let address = serve(&[]).await;
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let (header, _) = get(address, "/healthz").await;
    assert!(header.starts_with("HTTP/1.1 200 "), "{header}");
}

#[tokio::test]
async fn address_in_use() {
    let address = serve(&[]).await;
    let error = Server::bind(address).await.unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "cannot serve metrics on {address}: Address already in use (os error 98); \
             set another vtep.metrics, or \"\" for none"
        )
    );
}

#[tokio::test]
async fn daemon_is_gone() {
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let (sender, queries) = mpsc::channel(1);
    let running = tokio::spawn(server.run(Metrics::new().unwrap(), sender));
    drop(queries);
    tokio::time::timeout(Duration::from_secs(5), running)
        .await
        .unwrap()
        .unwrap();
}

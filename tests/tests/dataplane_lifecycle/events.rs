//! Events and counters.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use vtep_agent::{
    dataplane::{BATCH, Report},
    reconcile::Reconciler,
};
use vtep_common::{
    Mac,
    abi::{BdId, EventKind, PortCounters},
};

use super::rig::*;

/// Sends frames out of a device: broadcast, each from a MAC of its own.
fn storm(device: u32, frames: u16) {
    // SAFETY: creates a descriptor.
    let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0) };
    assert!(socket >= 0);
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: 0,
        sll_ifindex: device as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [0xff; 8],
    };
    for n in 0..frames {
        let mut frame = [0_u8; 60];
        frame[..6].fill(0xff);
        frame[6] = 2;
        frame[10..12].copy_from_slice(&n.to_be_bytes());
        // Local experimental EtherType (IEEE 802).
        frame[12..14].copy_from_slice(&0x88b5_u16.to_be_bytes());
        // SAFETY: frame and address live through the call and have the sizes given.
        let sent = unsafe {
            libc::sendto(
                socket,
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const address).cast(),
                size_of_val(&address) as u32,
            )
        };
        assert_eq!(sent, 60, "{}", std::io::Error::last_os_error());
    }
    // SAFETY: opened above, closed once.
    unsafe { libc::close(socket) };
}

#[test]
fn a_storm_of_events_comes_in_batches() {
    isolated(|pins| {
        const FRAMES: u16 = 3000;
        let p0 = ifindex("p0");
        let mut dataplane = load(pins);
        Reconciler::new().apply(&mut intent(p0), &mut dataplane, Instant::now());
        dataplane.attach_port(p0, "p0").unwrap();
        storm(ifindex("p1"), FRAMES);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut events = dataplane.events().unwrap();
            let (mut batches, mut total) = (0, 0);
            while total < FRAMES.into() {
                let batch = tokio::time::timeout(Duration::from_secs(5), events.next());
                let batch = batch.await.expect("events are missing").unwrap();
                assert!((1..=BATCH).contains(&batch.len()));
                batches += 1;
                total += batch.len();
            }
            assert!(batches >= 3);
            // Drained, but awake: what comes now is seen.
            storm(ifindex("p1"), 1);
            let batch = tokio::time::timeout(Duration::from_secs(5), events.next());
            assert!(!batch.await.expect("asleep").unwrap().is_empty());
        });
        dataplane.remove().unwrap();
    });
}

#[test]
fn events_and_counters_arrive() {
    isolated(|pins| {
        let p0 = ifindex("p0");
        let mut dataplane = load(pins);
        let mut reconciler = Reconciler::new();
        let mut intent = intent(p0);
        reconciler.apply(&mut intent, &mut dataplane, Instant::now());
        dataplane.attach_port(p0, "p0").unwrap();
        // Any frame of the VM will do: ARP for an address that nobody has.
        run("ip link set p1 address 02:00:00:00:00:11");
        run("ip address add 10.0.0.1/24 dev p1");
        let ping = ["-c", "1", "-W", "1", "10.0.0.2"];
        Command::new("ping").args(ping).output().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let events = runtime.block_on(async {
            let mut events = dataplane.events().unwrap();
            assert!(dataplane.events().is_err(), "only once");
            let batch = tokio::time::timeout(Duration::from_secs(5), events.next());
            batch.await.expect("no event").unwrap()
        });
        let vm = Mac([2, 0, 0, 0, 0, 0x11]);
        assert!(
            events
                .iter()
                .any(|report| matches!(report, Report::Event(event)
                if event.kind() == Some(EventKind::Mac)
                    && (event.slot, event.bd, event.mac) == (1, bd(), vm))),
            "{events:?}"
        );
        let counters = dataplane.read_counters().unwrap();
        assert!(counters.ports[&1].rx.packets > 0);
        assert!(counters.bds.contains_key(&BdId(1)));
        // The slot's next user starts at zero.
        dataplane.detach_port(p0).unwrap();
        let port = intent.ports.remove(1).unwrap();
        reconciler.apply(&mut intent, &mut dataplane, Instant::now());
        intent.ports.set(1, port);
        reconciler.apply(&mut intent, &mut dataplane, Instant::now());
        let counters = dataplane.read_counters().unwrap();
        assert_eq!(counters.ports[&1], PortCounters::default());
        dataplane.remove().unwrap();
    });
}

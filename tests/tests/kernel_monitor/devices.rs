//! Devices: what is reported of them, and what is done to a port.

use std::{net::IpAddr, time::Duration};

use vtep_agent::{
    kernel::{KernelError, local_addresses, prepare_port, restore_port},
    types::IfName,
};

use crate::{
    namespace::{Namespace, gettid, in_namespace, ip, output, tc, unshare_mounts},
    watch::{Watch, mac},
};

#[test]
fn devices_come_change_and_go() {
    in_namespace(async || {
        let mut watch = Watch::start().await;
        ip("link add p0 type veth peer name q0");
        ip("link set p0 address 02:00:00:00:00:0a");
        ip("link set q0 up");
        watch.link("p0", |a| !a.up).await;
        ip("link set p0 up mtu 1400");
        let a = watch.link("p0", |a| a.up && a.mtu == 1400).await;
        assert_eq!(a.mac, mac("02:00:00:00:00:0a"));

        ip("link set q0 down");
        watch.link("p0", |a| !a.up).await; // no carrier
        ip("link set q0 up");
        watch.link("p0", |a| a.up).await;

        ip("link set p0 address 02:00:00:00:00:0b");
        watch
            .link("p0", |a| a.mac == mac("02:00:00:00:00:0b"))
            .await;

        ip("link set p0 down name p1");
        let c = watch.link("p1", |c| !c.up).await;
        assert_eq!(c.ifindex, a.ifindex);

        ip("link del p1");
        ip("link add p1 type veth peer name q0");
        let again = watch.link("p1", |again| again.ifindex != c.ifindex).await;
        assert!(!watch.links.contains_key(&c.ifindex), "{again:?}");
    });
}

#[test]
fn bridge_ports_are_not_mistaken_for_devices() {
    in_namespace(async || {
        let mut watch = Watch::start().await;
        ip("link add p0 type veth peer name q0");
        ip("link add br0 type bridge");
        ip("link set p0 master br0 up");
        let a = watch.link("p0", |_| true).await;
        // RTM_DELLINK with family AF_BRIDGE: the port is gone, the device is not.
        ip("link set p0 nomaster");
        ip("link set p0 mtu 1300");
        watch.link("p0", |a| a.mtu == 1300).await;
        assert!(!watch.gone.contains(&a.ifindex));
    });
}

#[test]
fn redirect_peer_needs_another_namespace_and_no_qdisc() {
    in_namespace(async || {
        let other = Namespace::new();
        let mut watch = Watch::start().await;
        ip("link add p0 type veth peer name q0");
        ip("link set p0 up");
        watch.link("p0", |a| !a.redirect_peer).await;
        ip(&format!("link set q0 netns {}", other.tid));
        watch.link("p0", |a| a.redirect_peer).await;
        other.ip("link set q0 up");
        watch.link("p0", |a| a.up && a.redirect_peer).await;

        tc("qdisc add dev p0 root tbf rate 1gbit burst 1mb latency 10ms");
        watch.link("p0", |a| !a.redirect_peer).await;
        tc("qdisc del dev p0 root");
        watch.link("p0", |a| a.redirect_peer).await;
        tc("qdisc add dev p0 clsact"); // shapes nothing

        other.ip(&format!("link set q0 netns {}", gettid()));
        watch.link("p0", |a| !a.redirect_peer).await;
    });
}

#[test]
fn redirect_xdp_follows_the_peers_gro() {
    in_namespace(async || {
        let other = Namespace::new();
        let mut watch = Watch::start().await;
        ip(&format!(
            "link add p0 type veth peer name q0 netns {}",
            other.tid
        ));
        ip("link set p0 up");
        other.ip("link set q0 up");
        watch.link("p0", |a| a.up && !a.redirect_xdp).await;
        other.run("ethtool", "-K q0 gro on");
        watch.link("p0", |a| a.redirect_xdp).await;
        // A fresh monitor sees it in its first dump.
        let mut fresh = Watch::start().await;
        fresh.link("p0", |a| a.redirect_xdp).await;
        other.run("ethtool", "-K q0 gro off");
        watch.link("p0", |a| !a.redirect_xdp).await;

        ip("tuntap add tap0 mode tap");
        ip("link set tap0 up");
        watch.link("tap0", |tap| !tap.redirect_xdp).await;
    });
}

#[test]
fn a_port_gets_no_address() {
    in_namespace(async || {
        let other = Namespace::new();
        ip(&format!(
            "link add port type veth peer name q0 netns {}",
            other.tid
        ));
        let mut watch = Watch::start().await;
        let port = watch.link("port", |_| true).await;
        let name: IfName = "port".parse().unwrap();
        let before = prepare_port(port.ifindex, &name, false).unwrap();
        ip("link set port up");
        other.ip("link set q0 up");
        watch.link("port", |port| port.up).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(local_addresses().unwrap(), [] as [IpAddr; 0]);
        // The other end, untouched, made itself one: the test can fail.
        assert!(
            other
                .output("ip", "-6 address show dev q0")
                .contains("fe80")
        );

        let error = prepare_port(port.ifindex + 1000, &name, false).unwrap_err();
        assert!(matches!(error, KernelError::NotThePort { .. }), "{error}");

        // Whatever its name is by then, it is as it was: with IPv6, and an address again.
        ip("link set port name other");
        restore_port(&before).unwrap();
        let other = output("ip", "-6 address show dev other");
        assert!(other.contains("fe80"), "{other}");
        // Prepared by a run that did not get to restore it, and then released by this one.
        let name: IfName = "other".parse().unwrap();
        prepare_port(port.ifindex, &name, false).unwrap();
        let before = prepare_port(port.ifindex, &name, true).unwrap();
        restore_port(&before).unwrap();
        let other = output("ip", "-6 address show dev other");
        assert!(other.contains("fe80"), "{other}");
        ip("link del other");
        restore_port(&before).unwrap();
    });
}

#[test]
fn a_port_gets_no_address_where_proc_sys_is_read_only() {
    in_namespace(async || {
        unshare_mounts();
        output("mount", "--make-rprivate /");
        output("mount", "--bind -o ro /proc/sys /proc/sys");
        let other = Namespace::new();
        let tid = other.tid;
        ip(&format!("link add port type veth peer name q0 netns {tid}"));
        let mut watch = Watch::start().await;
        let port = watch.link("port", |_| true).await;
        let before = prepare_port(port.ifindex, &port.name, false).unwrap();
        assert!(std::fs::write("/proc/sys/net/ipv6/conf/port/accept_ra", "0").is_err());
        ip("link set port up");
        other.ip("link set q0 up");
        watch.link("port", |port| port.up).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(local_addresses().unwrap(), [] as [IpAddr; 0]);

        restore_port(&before).unwrap();
        ip("link set port down");
        ip("link set port up");
        tokio::time::sleep(Duration::from_secs(1)).await;
        let address = output("ip", "-6 address show dev port");
        assert!(address.contains("fe80"), "{address}");
    });
}

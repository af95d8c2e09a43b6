//! Hosts that are routed themselves: the agents speak with two FRR leaves and install what they learn.

use std::{
    net::{Ipv4Addr, UdpSocket},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use vtep_tests::{
    Agent, AgentConfig, Capture, Host, Lab, Leaves, Links, Ping, UnderlayOptions, Vm, VmSpec,
    Vxlan, eventually, pings,
};

const PATIENCE: Duration = Duration::from_secs(60);
const FAMILIES: &str = "families = [\"evpn\", \"ipv4\"]\nhold_time = 3";

/// Two leaves, two hosts with an agent and a VM each.
struct Routed {
    // Dropped in this order: agents before what they are attached to.
    agents: Vec<Agent>,
    vms: [Vm; 2],
    fabric: Leaves,
    lab: Lab,
    links: Links,
}

impl Routed {
    fn start(name: &str, links: Links) -> Result<Self> {
        let lab = Lab::new(name)?;
        let fabric = Leaves::start(&lab, links)?;
        let [h1, h2] = &fabric.hosts;
        let vms = [
            h1.vm("vm1", &VmSpec::new(1))?,
            h2.vm("vm2", &VmSpec::new(2))?,
        ];
        let agents = [(h1, 1), (h2, 2)]
            .map(|(host, number)| Agent::start(host, &config(host, number, links)));
        let agents = agents.into_iter().collect::<Result<Vec<_>>>()?;
        let routed = Self {
            agents,
            vms,
            fabric,
            lab,
            links,
        };
        for agent in &routed.agents {
            agent.wait_established()?;
        }
        Ok(routed)
    }

    /// The VTEP address of the other host.
    fn other(&self, host: usize) -> Ipv4Addr {
        self.fabric.hosts[1 - host].address()
    }

    /// Devices of the kernel's route from a host to the other's VTEP, as `ip` shows them.
    fn devices(&self, host: usize) -> Result<Vec<String>> {
        let to = self.other(host);
        let text = self.fabric.hosts[host]
            .ns()
            .run(&format!("ip -json -details route show {to}"))?;
        let routes: Value = serde_json::from_str(&text)?;
        let Some(route) = routes.get(0) else {
            return Ok(Vec::new());
        };
        ensure!(
            route["protocol"] == "118" && route["metric"] == 512,
            "not ours: {text}"
        );
        ensure!(
            route["prefsrc"] == self.fabric.hosts[host].address().to_string(),
            "{text}"
        );
        let device = |hop: &Value| hop["dev"].as_str().map(str::to_owned);
        let dead = |hop: &Value| hop["flags"].to_string().contains("dead");
        let mut devices: Vec<_> = match route["nexthops"].as_array() {
            Some(hops) => hops
                .iter()
                .filter(|hop| !dead(hop))
                .filter_map(device)
                .collect(),
            None => device(route).into_iter().collect(),
        };
        devices.sort();
        Ok(devices)
    }

    fn wait_devices(&self, expected: &[&str]) -> Result<()> {
        for host in 0..self.fabric.hosts.len() {
            eventually(PATIENCE, || {
                let devices = self.devices(host)?;
                ensure!(devices == expected, "host {host} routes by {devices:?}");
                Ok(())
            })?;
        }
        Ok(())
    }

    /// How many of sixteen flows of the VMs pass each leaf. All arrive.
    fn flows(&self) -> Result<[usize; 2]> {
        let captures = self.fabric.leaves.each_ref().map(|leaf| {
            let leaf = leaf.host().ns();
            Capture::start_received(&self.lab, leaf, "h1", "udp port 4789")
        });
        let [from, to] = &self.vms;
        let server = to.ns().enter(|| Ok(UdpSocket::bind("10.0.0.2:0")?))?;
        server.set_read_timeout(Some(Duration::from_secs(2)))?;
        let address = server.local_addr()?;
        for _ in 0..16 {
            let client = from.ns().enter(|| Ok(UdpSocket::bind("10.0.0.1:0")?))?;
            client.send_to(b"flow", address)?;
            server.recv(&mut [0; 8]).context("a datagram is lost")?;
        }
        let mut flows = [0; 2];
        for (flows, capture) in flows.iter_mut().zip(captures) {
            let frames = capture?.stop()?;
            let datagrams = frames.iter().filter_map(Vxlan::parse);
            let of_flow = datagrams.filter(|vxlan| vxlan.inner.ends_with(b"flow"));
            *flows = of_flow.count();
        }
        ensure!(
            flows[0] + flows[1] == 16,
            "{flows:?}: not one for each flow"
        );
        Ok(flows)
    }

    fn wait_flows_over_both(&self) -> Result<()> {
        eventually(PATIENCE, || {
            let flows = self.flows()?;
            ensure!(flows[0] > 0 && flows[1] > 0, "{flows:?}");
            Ok(())
        })
    }

    /// The session's addresses are as the links are, and FRR knows the way to the VTEPs.
    fn check_tables(&self) -> Result<()> {
        for (host, agent) in self.agents.iter().enumerate() {
            let prefix = format!("{}/32", self.other(host));
            eventually(PATIENCE, || {
                let routes = agent.show("routes --family ipv4")?;
                let rows = routes.as_array().context("no list")?;
                let of = |row: &&Value| row["prefix"] == prefix && row["installed"] == true;
                let used: Vec<_> = rows.iter().filter(of).collect();
                ensure!(used.len() == 2, "{routes}");
                ensure!(
                    used.iter().filter(|row| row["best"] == true).count() == 1,
                    "{routes}"
                );
                // FRR tells us our own prefix again, which changes nothing.
                let own = format!("{}/32", self.fabric.hosts[host].address());
                let own = rows.iter().filter(|row| row["prefix"] == own);
                for row in own {
                    let ours = row["peer"].is_null();
                    ensure!(row["installed"] == ours && row["best"] == ours, "{routes}");
                }
                Ok(())
            })?;
            let bgp = agent.show("bgp")?;
            for peer in bgp["peers"].as_array().context("no peers")? {
                ensure!(peer["families"] == json!(["evpn", "ipv4"]), "{peer}");
            }
            let metrics = agent.metrics()?;
            let installed = metrics.value("vtep_host_routes", &["state=\"installed\""])?;
            ensure!(installed >= 1.0, "{installed} host routes");
            ensure!(metrics.value("vtep_host_routes", &["state=\"failed\""])? == 0.0);
        }
        for leaf in &self.fabric.leaves {
            eventually(PATIENCE, || {
                let routes = leaf.show("show ip route bgp json")?;
                for host in &self.fabric.hosts {
                    let prefix = format!("{}/32", host.address());
                    ensure!(
                        routes[&prefix][0]["installed"] == true,
                        "{prefix}: {routes}"
                    );
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}

fn config(host: &Host, number: u8, links: Links) -> AgentConfig {
    let config = AgentConfig::new(host, 65000 + u32::from(number))
        .vtep("uplinks = [\"eth0\", \"eth1\"]")
        .bd("blue", 100, &["vnet-*"]);
    let config = (1..=2).fold(config, |config, leaf| match links {
        Links::Numbered => {
            let (_, leaf_address) = Leaves::link(leaf, number);
            config.peer_with(leaf_address, 65100 + u32::from(leaf), FAMILIES)
        }
        Links::Unnumbered => config.unnumbered(&format!("eth{}", leaf - 1), FAMILIES),
    });
    config.tables("[underlay]\nmultipath_relax = true\n")
}

/// ECMP over two leaves; one is killed and comes back, one link loses its carrier.
#[test]
fn two_leaves_share_the_load() -> Result<()> {
    let mut routed = Routed::start("leaves", Links::Numbered)?;
    routed.wait_devices(&["eth0", "eth1"])?;
    routed.check_tables()?;
    let [vm1, vm2] = &routed.vms;
    pings(vm1, vm2)?;
    routed.wait_flows_over_both()?;

    // A leaf's bgpd dies: its routes go with the session.
    routed.fabric.leaves[0].bgpd().kill()?;
    let lost = Ping::to("10.0.0.2").count(100).run(routed.vms[0].ns())?;
    routed.wait_devices(&["eth1"])?;
    // 50 ms apart; the hold time is 3 s.
    let answered = lost.received;
    ensure!(
        answered >= 30,
        "{answered} of 100 answered: more lost than the detection takes"
    );
    let [vm1, vm2] = &routed.vms;
    pings(vm1, vm2)?;
    let flows = routed.flows()?;
    ensure!(flows == [0, 16], "{flows:?}");
    routed.fabric.leaves[0].restart_bgpd()?;
    routed.wait_devices(&["eth0", "eth1"])?;
    routed.wait_flows_over_both()?;

    // A link without carrier is left before BGP notices.
    let leaf = routed.fabric.leaves[1].host().ns().clone();
    leaf.ip("link set h1 down\nlink set h2 down\n")?;
    routed.wait_devices(&["eth0"])?;
    let [vm1, vm2] = &routed.vms;
    pings(vm1, vm2)?;
    leaf.ip("link set h1 up\nlink set h2 up\n")?;
    routed.wait_devices(&["eth0", "eth1"])?;

    // Somebody removes the route; it is put back.
    let other = routed.other(0);
    let h1 = routed.fabric.hosts[0].ns().clone();
    h1.run(&format!("ip route del {other}"))?;
    routed.wait_devices(&["eth0", "eth1"])?;

    // A clean stop leaves none of ours.
    ensure!(routed.agents[0].stop()?.success());
    let left = h1.run("ip route show proto 118")?;
    ensure!(left.is_empty(), "{left}");
    Ok(())
}

/// RFC 8950: the links have no IPv4 addresses at all. What stays after `on_stop = "keep"` is taken over
/// by the next run without a gap.
#[test]
fn unnumbered_links() -> Result<()> {
    let mut routed = Routed::start("unleaves", Links::Unnumbered)?;
    routed.wait_devices(&["eth0", "eth1"])?;
    routed.check_tables()?;
    let [vm1, vm2] = &routed.vms;
    pings(vm1, vm2)?;
    routed.wait_flows_over_both()?;
    let h1 = routed.fabric.hosts[0].clone();
    let text = h1.ns().run("ip route show proto 118")?;
    ensure!(text.contains("via inet6 fe80"), "{text}");

    let keep = config(&h1, 1, routed.links).vtep("on_stop = \"keep\"");
    routed.agents[0].reload(&keep)?.done()?;
    ensure!(routed.agents[0].stop()?.success());
    ensure!(
        routed.devices(0)? == ["eth0", "eth1"],
        "{:?}",
        routed.devices(0)?
    );
    // One that nobody announces any more, as if it had been withdrawn meanwhile.
    h1.ns()
        .ip("route add 203.0.113.77/32 via inet6 fe80::77 dev eth0 metric 512 proto 118\n")?;
    routed.agents[0] = Agent::start(&h1, &keep)?;
    ensure!(
        routed.devices(0)? == ["eth0", "eth1"],
        "{:?}",
        routed.devices(0)?
    );
    routed.agents[0].wait_established()?;
    eventually(PATIENCE, || {
        let text = h1.ns().run("ip route show 203.0.113.77")?;
        ensure!(text.is_empty(), "{text}");
        Ok(())
    })?;
    routed.wait_devices(&["eth0", "eth1"])?;
    let [vm1, vm2] = &routed.vms;
    pings(vm1, vm2)
}

/// RFC 4760, RFC 2545 §3: the family `ipv6`, over a session of link-local addresses. What one agent
/// announces is routed by the other's kernel, and goes with the session.
#[test]
fn ipv6_prefixes() -> Result<()> {
    let lab = Lab::new("underlay6")?;
    let hosts = lab.cable(["h1", "h2"], &UnderlayOptions::default())?;
    let prefix = |number: usize| format!("2001:db8::{number}");
    for (number, host) in (1..).zip(&hosts) {
        host.ns()
            .ip(&format!("addr add {}/128 dev lo\n", prefix(number)))?;
    }
    let config = |number: usize| {
        AgentConfig::new(&hosts[number - 1], 65000 + number as u32)
            .unnumbered(
                Host::UPLINK,
                "families = [\"evpn\", \"ipv6\"]\nhold_time = 3",
            )
            .tables(&format!(
                "[underlay]\nannounce = [\"{}/128\"]\nimport = [\"2001:db8::/32 le 128\"]\n",
                prefix(number)
            ))
    };
    let first = Agent::start(&hosts[0], &config(1))?;
    let mut second = Agent::start(&hosts[1], &config(2))?;
    first.wait_established()?;
    second.wait_established()?;
    let routes = |host: &Host| host.ns().run("ip -6 route show proto 118");
    for (host, other) in [(&hosts[0], 2), (&hosts[1], 1)] {
        eventually(PATIENCE, || {
            let text = routes(host)?;
            let wanted = format!("{} via fe80::", prefix(other));
            ensure!(
                text.contains(&wanted) && text.contains(&format!("dev {}", Host::UPLINK)),
                "{text}"
            );
            Ok(())
        })?;
    }
    let ping = format!("ping -6 -c 3 -i 0.2 -I {} {}", prefix(1), prefix(2));
    hosts[0].ns().run(&ping)?;

    ensure!(second.stop()?.success());
    ensure!(routes(&hosts[1])?.is_empty(), "left by a clean stop");
    eventually(PATIENCE, || {
        let text = routes(&hosts[0])?;
        ensure!(text.is_empty(), "{text}");
        Ok(())
    })
}

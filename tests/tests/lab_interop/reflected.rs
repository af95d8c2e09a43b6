//! Two agents with a VM each behind GoBGP as their reflector.

use anyhow::Result;
use vtep_tests::{Agent, AgentConfig, GoBgpOptions, Host, Lab, Ping, RouteReflector, Vm, VmSpec};

use crate::{ASN, VNI, wait_established, wait_mac};

/// Graceful restart, and nothing else.
pub(crate) const GRACEFUL: GoBgpOptions = GoBgpOptions {
    paths: 0,
    password: None,
    graceful_restart: true,
    rt_constraint: false,
};

/// The reflector, and agents with a VM each.
pub(crate) struct Reflected {
    pub(crate) reflector: RouteReflector,
    pub(crate) agents: [Agent; 2],
    /// 02:00:00:00:00:01 and 02:00:00:00:00:02, with 10.0.0.1 and 10.0.0.2.
    pub(crate) vms: [Vm; 2],
    pub(crate) hosts: [Host; 2],
    /// A third client of the reflector, if there is one, which runs nothing yet. After a restart, the
    /// reflector waits for it.
    pub(crate) witness: Option<Host>,
    pub(crate) lab: Lab,
    configs: [AgentConfig; 2],
}

impl Reflected {
    /// Lines of `[vtep]`, `[bgp]` and bridge domains are the two agents' own.
    pub(crate) fn start(
        name: &str,
        options: GoBgpOptions,
        config: impl Fn(usize, AgentConfig) -> AgentConfig,
    ) -> Result<Self> {
        Self::with(name, options, false, config)
    }

    /// With a third client.
    pub(crate) fn witnessed(
        name: &str,
        options: GoBgpOptions,
        config: impl Fn(usize, AgentConfig) -> AgentConfig,
    ) -> Result<Self> {
        Self::with(name, options, true, config)
    }

    fn with(
        name: &str,
        options: GoBgpOptions,
        witness: bool,
        config: impl Fn(usize, AgentConfig) -> AgentConfig,
    ) -> Result<Self> {
        let lab = Lab::new(name)?;
        let underlay = lab.underlay()?;
        let hosts = [underlay.host("h1")?, underlay.host("h2")?];
        let rr = underlay.host("rr")?;
        let witness = witness.then(|| underlay.host("witness")).transpose()?;
        let [h1, h2] = &hosts;
        let vms = [
            h1.vm("vm1", &VmSpec::new(1))?,
            h2.vm("vm2", &VmSpec::new(2))?,
        ];
        let clients = hosts.iter().chain(&witness).map(Host::address);
        let clients: Vec<_> = clients.collect();
        let reflector = RouteReflector::start_with(&rr, ASN, &clients, options)?;
        let configured = |number: usize, host: &Host| {
            let common = AgentConfig::new(host, ASN)
                .bgp("arp_nd_flags = false")
                .peer(rr.address(), ASN)
                .bd("blue", VNI, &["vnet-*"]);
            config(number, common)
        };
        let configs = [configured(0, h1), configured(1, h2)];
        let agents = [
            Agent::start(h1, &configs[0])?,
            Agent::start(h2, &configs[1])?,
        ];
        let reflected = Self {
            reflector,
            agents,
            vms,
            hosts,
            witness,
            lab,
            configs,
        };
        reflected.wait_known()?;
        Ok(reflected)
    }

    /// Starts the first agent again.
    pub(crate) fn restart_a1(&mut self) -> Result<()> {
        self.agents[0] = Agent::start(&self.hosts[0], &self.configs[0])?;
        Ok(())
    }

    /// Up, and each agent knows the other one's VM.
    pub(crate) fn wait_known(&self) -> Result<()> {
        for agent in &self.agents {
            wait_established(agent)?;
        }
        let [vm1, vm2] = &self.vms;
        let [a1, a2] = &self.agents;
        let [h1, h2] = &self.hosts;
        Ping::to("10.0.0.2").until_answered(vm1.ns())?;
        wait_mac(a1, vm2.mac(), h2)?;
        wait_mac(a2, vm1.mac(), h1)
    }

    /// Both ways.
    pub(crate) fn all_answered(&self) -> Result<()> {
        let [vm1, vm2] = &self.vms;
        Ping::to("10.0.0.2").count(20).all_answered(vm1.ns())?;
        Ping::to("10.0.0.1").count(20).all_answered(vm2.ns())
    }
}

//! The only wiring: every part, joined.
//!
//! One task owns core, reconciler and dataplane. Everything that happens reaches it through a
//! channel or a socket, becomes an input of the core, and what the core then wants is carried out:
//! first the maps, then devices and peers, so that nobody is told of a MAC that does not forward yet.

mod attach;
mod bfd;
mod command;
mod peers;
mod report;
mod service;
mod stop;
mod takeover;
mod trace;
mod tunnel;

use std::{
    future, io,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    time::{Interval, MissedTickBehavior, interval, sleep_until},
};

use crate::{
    bfd::Bfd,
    bgp::{
        fsm::Cease,
        session::{self, SessionOptions, Sessions},
    },
    config::{Config, Source, VtepConfig},
    control::{self, Call},
    core::{Input, Output, State},
    dataplane::{Claims, Dataplane, Events, FrameSocket, Inheritance, LoadOptions, Report, Traces},
    kernel::{self, Monitor},
    observe::{self, Metrics, Query},
    privileges,
    reconcile::{Outcome, Reconciler},
    recording::{Recorded, Recording},
    store::{Store, StoreError},
    tcp_ao,
};
use attach::Devices;
use service::Service;
use takeover::Takeover;
use trace::Listener;
use tunnel::Tunnel;

/// Idle times of local MACs are read from the map this often, or four times in the shortest ageing
/// time if that is more.
const IDLE_SCAN: Duration = Duration::from_secs(5);

/// Time for peers to say again what they said to an earlier run.
const PRUNE_AFTER: Duration = Duration::from_secs(300);

/// Where to record what the core is given.
#[derive(Clone, Debug)]
pub struct RecordTo {
    /// The file.
    pub file: PathBuf,
    /// Its largest size in bytes.
    pub limit: u64,
}

/// Runs until SIGTERM or SIGINT. `source` is read again at `reload` and on SIGHUP.
///
/// # Errors
///
/// What keeps the agent from starting, or ended it.
pub fn run(config: Config, source: Source, record: Option<RecordTo>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    service::end_on_panic();
    runtime.block_on(async {
        // A signal that comes while starting is obeyed when there is something to stop.
        let signals = Signals::new()?;
        #[cfg(debug_assertions)]
        service::panic_on_request()?;
        let (daemon, sources) = Daemon::start(config, source, record).await?;
        daemon.run(sources, signals).await
    })
}

/// Removes what a start has made that cannot go on; what an earlier run left forwarding stays.
fn abandon(dataplane: Dataplane, error: anyhow::Error) -> anyhow::Error {
    if dataplane.inheritance() == Inheritance::Nothing
        && let Err(left) = dataplane.remove()
    {
        tracing::warn!("cannot remove what was pinned: {left}");
    }
    error
}

struct Daemon {
    config: VtepConfig,
    source: Source,
    store: Store,
    service: Service,
    core: Recorded,
    reconciler: Reconciler,
    outcome: Outcome,
    dataplane: Dataplane,
    devices: Devices,
    tunnel: Tunnel,
    takeover: Takeover,
    sessions: Sessions,
    bfd: Bfd,
    bfd_wanted: bfd::Wanted,
    monitor: Monitor,
    metrics: Metrics,
    frames: FrameSocket,
    outputs: Vec<Output>,
    /// Of `trace`.
    listener: Option<Listener>,
    /// State that could not be saved, and why.
    unsaved: Option<(Box<State>, StoreError)>,
    /// When to remove what an earlier run left of neighbour entries: by then everything that is in
    /// use again is tracked.
    prune: Option<Instant>,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

/// Where inputs come from.
struct Sources {
    peers: session::Events,
    events: Events,
    traces: Traces,
    calls: mpsc::Receiver<Call>,
    queries: mpsc::Receiver<Query>,
}

impl Daemon {
    /// Takes everything that can be refused before it touches what an earlier run left forwarding.
    async fn start(
        config: Config,
        source: Source,
        record: Option<RecordTo>,
    ) -> Result<(Self, Sources)> {
        let claims = claim(&config.vtep)?;
        check_addresses(&config.vtep)?;
        let store = Store::open(&config.vtep.state_dir);
        let state = store.load()?;
        let control =
            control::Server::bind(&config.vtep.socket, config.vtep.socket_group.as_deref())?;
        let http = match config.vtep.metrics {
            Some(address) => Some(observe::Server::bind(address).await?),
            None => None,
        };
        tcp_ao::check_kernel(&config.bgp)?;
        let metrics = Metrics::new()?;
        let recording = record
            .map(|to| Recording::create(&to.file, to.limit))
            .transpose()?;
        let options = LoadOptions::new(config.vtep.pin_dir.clone(), config.vtep.max_macs);
        let mut dataplane = Dataplane::load_in(claims, &options)?;
        // Before there is another thread.
        privileges::give_up().context("cannot give up privileges")?;
        let started = Sessions::start(session_options(&config))
            .map_err(anyhow::Error::from)
            .and_then(|(sessions, peers)| Ok((bfd::start(&sessions)?, sessions, peers)));
        let (bfd, sessions, peers) = match started {
            Ok(started) => started,
            Err(error) => return Err(abandon(dataplane, error)),
        };
        let monitor = Monitor::start()?;
        let frames = FrameSocket::open()?;
        let events = dataplane.events()?;
        let traces = dataplane.traces()?;
        for program in dataplane.info() {
            tracing::debug!(
                program = program.name,
                verified = program.verified_instructions,
                bytes = program.jited_bytes,
                "loaded"
            );
        }
        let (call_sender, calls) = mpsc::channel(64);
        tokio::spawn(control.run(call_sender));
        let (query_sender, queries) = mpsc::channel(16);
        if let Some(http) = http {
            tokio::spawn(http.run(metrics.clone(), query_sender));
        }
        let mut installed = dataplane.take_installed();
        let mut reconciler = Reconciler::new();
        let inheritance = dataplane.inheritance();
        if inheritance != Inheritance::Nothing {
            sessions.restarted();
        }
        if inheritance == Inheritance::Maps {
            reconciler.adopt(&mut installed.tables);
        }
        let vtep = config.vtep.clone();
        let tunnel = Tunnel::new(&vtep);
        let now = Instant::now();
        let installed = (inheritance != Inheritance::Nothing).then_some(&installed);
        let (core, outputs) = Recorded::begin(recording, config, state, installed, now);
        let daemon = Self {
            config: vtep,
            source,
            store,
            service: Service::new(),
            core,
            reconciler,
            outcome: Outcome::default(),
            dataplane,
            devices: Devices::default(),
            tunnel,
            takeover: Takeover::new(inheritance),
            sessions,
            bfd,
            bfd_wanted: bfd::Wanted::default(),
            monitor,
            metrics,
            frames,
            outputs,
            listener: None,
            unsaved: None,
            prune: Some(Instant::now() + PRUNE_AFTER),
        };
        Ok((
            daemon,
            Sources {
                peers,
                events,
                traces,
                calls,
                queries,
            },
        ))
    }

    async fn run(mut self, mut sources: Sources, mut signals: Signals) -> Result<()> {
        let mut second = ticks(Duration::from_secs(1));
        let mut scanned = Instant::now();
        // Devices first: a command may name one.
        for input in self.monitor.next().await? {
            self.take_kernel_input(input);
        }
        self.first_links();
        loop {
            let deadline = self.deadline();
            tokio::select! {
                _ = signals.terminate.recv() => break,
                _ = signals.interrupt.recv() => break,
                _ = signals.hangup.recv() => {
                    if let Err(error) = self.reload() {
                        tracing::error!("reload: {error}");
                    }
                }
                Some(call) = sources.calls.recv() => self.take_call(call),
                Some(query) = sources.queries.recv() => self.report(query),
                Some(first) = sources.peers.recv() => self.take_peer_events(first, &mut sources.peers),
                inputs = self.monitor.next() => {
                    for input in inputs? {
                        self.take_kernel_input(input);
                    }
                }
                events = sources.events.next() => {
                    for event in events.context("cannot read the ring buffer")? {
                        self.handle(match event {
                            Report::Event(event) => Input::Event(event),
                            Report::Dhcp(event) => Input::Dhcp(event),
                        });
                    }
                }
                records = sources.traces.next(), if self.listener.is_some() => {
                    self.take_traces(records.context("cannot read the ring buffer")?);
                }
                _ = second.tick() => {
                    if let Err(error) = self.dataplane.tick_epoch(Instant::now()) {
                        tracing::warn!("cannot write the datapath's clock: {error}");
                    }
                    self.devices.retry(&mut self.dataplane);
                    self.retry_save();
                    self.sync_bfd();
                    self.prune_neighbours();
                    self.reconciler.audit(&self.dataplane, Instant::now());
                    self.tell_status();
                    self.end_trace_of_nobody();
                    let shortest = self.core.shortest_ageing();
                    if shortest.is_some_and(|age| scanned.elapsed() >= IDLE_SCAN.min(age / 4)) {
                        scanned = Instant::now();
                        self.read_idle_times();
                    }
                }
                () = at(deadline) => self.handle(Input::Tick),
                () = self.service.ping_due() => self.service.ping(),
            }
            self.settle();
            // Whoever has a question shares this thread, and peers that always have more to say
            // would never let it be asked.
            tokio::task::yield_now().await;
        }
        self.stop().await
    }

    fn deadline(&self) -> Option<Instant> {
        [self.core.deadline(), self.reconciler.deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    fn prune_neighbours(&mut self) {
        if self.prune.take_if(|at| *at <= Instant::now()).is_none() {
            return;
        }
        match self.monitor.prune_neighbours() {
            Ok(removed) => tracing::debug!(removed, "neighbour entries of an earlier run"),
            Err(error) => tracing::warn!("{error}"),
        }
        self.monitor.host_routes_complete();
    }

    fn read_idle_times(&mut self) {
        match self.dataplane.idle() {
            Ok(idle) => self.handle(Input::Idle(idle)),
            Err(error) => tracing::warn!("cannot read idle times: {error}"),
        }
    }

    fn take_kernel_input(&mut self, input: Input) {
        if !self.tunnel.takes(&mut self.dataplane, &input) {
            self.handle(input);
        }
    }

    fn handle(&mut self, input: Input) {
        self.takeover.sees(&input);
        let outputs = self.core.handle(input, Instant::now());
        self.outputs.extend(outputs);
    }

    /// Makes the maps what the core wants, then carries out the rest.
    fn settle(&mut self) {
        self.reconcile();
        for output in std::mem::take(&mut self.outputs) {
            self.carry_out(output);
            // The kernel takes some 12 ms to attach a port.
            self.service.gets_on();
        }
        let needed = self.devices.without_xdp();
        self.tunnel.settle(&mut self.dataplane, needed);
        if self.takeover.is_due() {
            self.take_over();
        }
    }

    fn reconcile(&mut self) {
        let (intent, now) = (self.core.intent_mut(), Instant::now());
        self.outcome = self.reconciler.apply(intent, &mut self.dataplane, now);
    }

    fn carry_out(&mut self, output: Output) {
        let Some(output) = self.takeover.passes(output) else {
            return;
        };
        match output {
            Output::Send(peer, advertisement) => self.sessions.send(peer, advertisement),
            Output::TooManyRoutes(peer, family, limit) => {
                self.sessions.reset(peer, Cease::MaxPrefixes(family, limit));
            }
            Output::Track(vtep) => self.monitor.track(vtep),
            Output::Untrack(vtep) => self.monitor.untrack(vtep),
            Output::Transmit(ifindex, frame) => {
                // A port that is going away: its end is on its way, too.
                if let Err(error) = self.frames.send(ifindex, &frame) {
                    tracing::debug!(ifindex, %error, "question not sent");
                }
            }
            Output::AttachPort(ifindex, name) => {
                self.devices.attach_port(&mut self.dataplane, ifindex, name);
            }
            Output::DetachPort(ifindex, name) => {
                self.devices
                    .detach_port(&mut self.dataplane, ifindex, &name);
            }
            Output::AttachUplink(ifindex, name, mode) => {
                self.devices
                    .attach_uplink(&mut self.dataplane, ifindex, name, mode);
            }
            Output::DetachUplink(ifindex, name) => {
                self.devices
                    .detach_uplink(&mut self.dataplane, ifindex, &name);
            }
            Output::HostRoute(prefix, route) => self.monitor.host_route(prefix, route),
            Output::HostRoutesComplete => self.monitor.host_routes_complete(),
            Output::Persist(state) => self.save(state),
            Output::Settled => {
                tracing::info!("the restart is over");
                self.sessions.settled();
            }
            Output::DynamicPeers(dynamic) => self.sessions.accept_from(dynamic),
            Output::Peers(peers) => {
                self.configure_bfd(&peers);
                self.sessions.configure(peers);
            }
        }
    }

    fn save(&mut self, state: Box<State>) {
        let result = self.store.save(&state);
        match (&result, &self.unsaved) {
            (Err(error), None) => tracing::error!("{error}"),
            (Ok(()), Some(_)) => tracing::info!("state saved at last"),
            _ => {}
        }
        self.unsaved = result.err().map(|error| (state, error));
    }

    fn retry_save(&mut self) {
        if let Some(state) = self.unsaved.as_ref().map(|(state, _)| state.clone()) {
            self.save(state);
        }
    }

    /// After the first batch of links everything is known that an earlier run's programs are needed
    /// for, and the service manager may know.
    fn first_links(&mut self) {
        self.core.devices_read(Instant::now());
        self.handle(Input::Recovered);
        if self.takeover.is_waiting() {
            self.settle();
        } else {
            self.take_over();
        }
        self.service.ready();
        tracing::info!(version = env!("CARGO_PKG_VERSION"), "running");
    }
}

fn session_options(config: &Config) -> SessionOptions {
    SessionOptions {
        local_asn: config.bgp.asn,
        router_id: config.vtep.router_id,
        vtep_address: config.vtep.address(),
        listen: config.bgp.listen.then_some(session::PORT),
    }
}

/// Keeps other agents off what is ours, as far as it exists.
fn claim(config: &VtepConfig) -> Result<Claims> {
    let mut claims = Claims::new(&config.pin_dir)?;
    for uplink in &config.uplinks {
        claims.uplink(uplink.as_str())?;
    }
    Ok(claims)
}

fn check_addresses(config: &VtepConfig) -> Result<()> {
    let local = kernel::local_addresses()?;
    for &address in &config.addresses {
        if !local.contains(&address.into()) {
            bail!(
                "vtep.address {address} is not an address of this host; \
                 add it to an interface first (ip address add {address}/32 dev lo)"
            );
        }
    }
    Ok(())
}

fn ticks(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => future::pending().await,
    }
}

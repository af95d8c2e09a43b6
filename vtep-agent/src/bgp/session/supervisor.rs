//! The listening socket and the set of peers.

use std::{
    collections::{HashMap, HashSet},
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use ipnet::IpNet;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use super::{
    Control, Lot, Notice, SessionOptions, Shared,
    dynamic::Stay,
    peer::{Order, Outlets, Peer},
    socket::{self, Endpoint},
    status::PeerStatus,
    unnumbered,
};
use crate::{
    bgp::{
        fsm::{Cease, Restart, Settings},
        wire::{Context, Message, Notification},
    },
    config::{AoKeys, Authentication, DynamicPeers, PeerConfig},
    types::{Liveness, PeerId, PeerName},
};

/// How long a shutdown may wait for peers to take their NOTIFICATION.
const SHUTDOWN: Duration = Duration::from_millis(900);

/// Pause after an error of `accept`, which means a lack of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often the host's counters are read.
const COUNTING: Duration = Duration::from_secs(1);

/// Strangers are logged once in this time.
const STRANGER_INTERVAL: Duration = Duration::from_secs(10);

/// Owns the tasks of all peers.
pub(super) struct Supervisor {
    options: SessionOptions,
    listener: Option<TcpListener>,
    /// For peers.
    outlets: Outlets,
    /// From them.
    notices: mpsc::UnboundedReceiver<Notice>,
    pub(super) peers: HashMap<PeerId, Member>,
    names: HashMap<PeerName, PeerId>,
    /// Where peers may come from that are not configured,
    pub(super) dynamic: Vec<DynamicPeers>,
    /// and the next one's id, without its highest bit.
    pub(super) next_dynamic: u32,
    /// The peers are known. Until then connections wait in the socket's queue: a peer that we
    /// reject may not try again for minutes.
    configured: bool,
    /// What OPENs say of our own restart, to peers that were not up since.
    pub(super) restart: Restart,
    /// What BFD says of the paths to peers.
    paths: HashMap<PeerId, Liveness>,
    /// Peers that were told to stop.
    leaving: HashMap<PeerId, JoinHandle<()>>,
    stranger_logged: Option<Instant>,
}

pub(super) struct Member {
    config: PeerConfig,
    /// That of a dynamic peer.
    pub(super) prefix: Option<IpNet>,
    /// The address for which the listening socket has its key.
    keyed: Option<IpAddr>,
    pub(super) orders: mpsc::UnboundedSender<Order>,
    task: JoinHandle<()>,
}

impl Supervisor {
    pub(super) fn new(
        options: SessionOptions,
        listener: Option<TcpListener>,
        shared: Arc<Shared>,
        reports: mpsc::Sender<Lot>,
    ) -> Self {
        let (sender, notices) = mpsc::unbounded_channel();
        Self {
            options,
            listener,
            outlets: Outlets {
                shared,
                reports,
                notices: sender,
            },
            notices,
            peers: HashMap::new(),
            names: HashMap::new(),
            dynamic: Vec::new(),
            next_dynamic: 0,
            configured: false,
            restart: Restart::default(),
            paths: HashMap::new(),
            leaving: HashMap::new(),
            stranger_logged: None,
        }
    }

    /// Runs until told to shut down, or until the handle is gone.
    pub(super) async fn run(mut self, mut control: mpsc::UnboundedReceiver<Control>) {
        let mut counting = interval(COUNTING);
        counting.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let cease = loop {
            tokio::select! {
                control = control.recv() => match control {
                    Some(Control::Configure(peers)) => {
                        self.configure(peers);
                        if !std::mem::replace(&mut self.configured, true) {
                            self.accept_early().await;
                        }
                    }
                    Some(Control::AcceptFrom(dynamic)) => self.accept_from(dynamic),
                    Some(Control::Advertise(peer, session, advertisement)) => {
                        if let Some(member) = self.peers.get(&peer) {
                            let _ = member.orders.send(Order::Advertise(session, advertisement));
                        }
                    }
                    Some(Control::Path(peer, liveness)) => {
                        self.paths.insert(peer, liveness);
                        if let Some(member) = self.peers.get(&peer) {
                            let _ = member.orders.send(Order::Path(liveness));
                        }
                    }
                    Some(Control::Reset(peer, session, cease)) => {
                        if let Some(member) = self.peers.get(&peer) {
                            let _ = member.orders.send(Order::Reset(session, cease));
                        }
                    }
                    Some(Control::Restarted) => {
                        self.restart = Restart {
                            restarting: true,
                            forwarding_preserved: true,
                        };
                    }
                    Some(Control::Settled) => self.settled(),
                    Some(Control::Shutdown(cease)) => break cease,
                    None => break Cease::Restart(String::new()),
                },
                _ = counting.tick() => self.outlets.shared.count_silent_drops(),
                Some(notice) = self.notices.recv() => self.notice(notice),
                accepted = accept(self.listener.as_ref()), if self.configured => match accepted {
                    Ok((stream, from)) => self.accepted(stream, from),
                    Err(error) => {
                        tracing::error!(%error, "cannot accept BGP connections");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        };
        for peer in self.peers.keys().copied().collect::<Vec<_>>() {
            self.remove(peer, cease.clone());
        }
        let _ = timeout(SHUTDOWN, async {
            for (_, task) in self.leaving.drain() {
                let _ = task.await;
            }
        })
        .await;
    }

    /// Applies the difference.
    fn configure(&mut self, peers: Vec<(PeerId, PeerConfig)>) {
        let wanted: HashSet<PeerId> = peers.iter().map(|(id, _)| *id).collect();
        let names: HashSet<&PeerName> = peers.iter().map(|(_, peer)| &peer.name).collect();
        let members = self.peers.iter();
        let gone: Vec<PeerId> = members
            .filter(|(id, member)| match member.prefix {
                None => !wanted.contains(id),
                // It is known by name from now on.
                Some(_) => names.contains(&member.config.name),
            })
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            self.remove(id, Cease::Deconfigured);
            self.paths.remove(&id);
        }
        for (id, config) in peers {
            let mut restart = self.restart;
            if let Some(member) = self.peers.get_mut(&id) {
                if same_session(&member.config, &config) {
                    let was = std::mem::replace(&mut member.config, config);
                    if let Some((old, new)) = changed_keys(&was, &member.config) {
                        let range = member.keyed.map(IpNet::from);
                        change_listener_keys(self.listener.as_ref(), range, &old, &new);
                        let _ = member.orders.send(Order::Keys(None, new));
                    }
                    continue;
                }
                let cease = change(&member.config, &config);
                // BFD begins anew, and what it said last is that it is not in use.
                if member.config.bfd.is_none() || member.config.shutdown.is_some() {
                    self.paths.remove(&id);
                }
                let known = self.remove(id, cease);
                restart.forwarding_preserved |= known;
            }
            self.add(id, config, restart, None);
        }
    }

    /// Our restart is over.
    fn settled(&mut self) {
        self.restart.restarting = false;
        for member in self.peers.values() {
            let _ = member.orders.send(Order::Settled);
        }
    }

    /// Starts a peer, which is one of `prefix` if it is nowhere configured.
    pub(super) fn add(
        &mut self,
        id: PeerId,
        config: PeerConfig,
        restart: Restart,
        prefix: Option<IpNet>,
    ) {
        let endpoint = Endpoint::new(&self.options, &config);
        let settings = Settings {
            local_asn: self.options.local_asn,
            local_as: config.local_as,
            router_id: self.options.router_id,
            peer_address: config
                .name
                .address()
                .unwrap_or(Ipv6Addr::UNSPECIFIED.into()),
            peer_asn: config.asn,
            families: config.families,
            hold_time: config.hold_time,
            send_hold_time: config.send_hold_time,
            extended_messages: config.extended_messages,
            graceful_restart: config.graceful_restart,
            restart_time: config.restart_time,
            long_lived: config.long_lived_graceful_restart,
            unicast_restart: config.unicast_graceful_restart,
            checks: config.checks,
            restart,
            passive: config.passive,
            allowas_in: config.allowas_in,
            rt_constraint: config.rt_constraint,
            add_path: config.add_path,
            route_reflector_client: config.route_reflector_client,
            needs_path: config.bfd.is_some_and(|bfd| bfd.strict),
            shutdown: config.shutdown.is_some(),
        };
        let stay = match prefix {
            None => Stay::Configured,
            Some(_) => Stay::Dynamic {
                begun: false,
                retained: None,
            },
        };
        let status = PeerStatus::new(id, config.name.clone(), prefix.is_some(), &settings);
        self.outlets.shared.insert(status);
        let (orders, received) = mpsc::unbounded_channel();
        let outlets = self.outlets.clone();
        if let Some(liveness) = self.paths.get(&id) {
            let _ = orders.send(Order::Path(*liveness));
        }
        // The core hears the end of the old session before the beginning of the new one.
        let predecessor = self.leaving.remove(&id);
        let task = tokio::spawn(async move {
            if let Some(predecessor) = predecessor {
                let _ = predecessor.await;
            }
            Peer::run(id, settings, endpoint, stay, received, outlets).await;
        });
        let address = config.name.address();
        self.names.insert(config.name.clone(), id);
        let mut member = Member {
            config,
            prefix,
            keyed: None,
            orders,
            task,
        };
        // The key of a prefix is there already.
        if prefix.is_none() {
            self.set_key(&mut member, address);
        }
        self.peers.insert(id, member);
    }

    /// Whether the peer had a session before.
    pub(super) fn remove(&mut self, id: PeerId, cease: Cease) -> bool {
        let status = self.outlets.shared.remove(id);
        if let Some(mut member) = self.peers.remove(&id) {
            self.set_key(&mut member, None);
            if self.names.get(&member.config.name) == Some(&id) {
                self.names.remove(&member.config.name);
            }
            let _ = member.orders.send(Order::Stop(cease));
            self.leaving.retain(|_, task| !task.is_finished());
            self.leaving.insert(id, member.task);
        }
        status.is_some_and(|status| status.router_id.is_some())
    }

    /// Sets the key of a prefix on the listening socket, or removes it.
    pub(super) fn set_prefix_key(&self, range: &DynamicPeers, present: bool) {
        let (Some(listener), Some(how)) = (&self.listener, &range.template().authentication) else {
            return;
        };
        if let Err(error) = socket::authenticate(listener, range.prefix, how, present) {
            let prefix = range.prefix;
            tracing::error!(%prefix, %error, "its peers cannot connect to us");
        }
    }

    /// Brings other keys to a prefix whose sessions go on.
    pub(super) fn change_prefix_keys(&mut self, old: &DynamicPeers, new: &DynamicPeers) {
        let keys = changed_keys(old.template(), new.template());
        if let Some((old, keys)) = &keys {
            change_listener_keys(self.listener.as_ref(), Some(new.prefix), old, keys);
        }
        for member in self.peers.values_mut() {
            let PeerName::Address(address) = member.config.name else {
                continue;
            };
            if member.prefix == Some(new.prefix) {
                member.config = new.peer(address);
                if let Some((_, keys)) = &keys {
                    let _ = member
                        .orders
                        .send(Order::Keys(Some(new.prefix), keys.clone()));
                }
            }
        }
    }

    /// Sets a peer's key on the listening socket, for where it is now, and removes that for where
    /// it was.
    fn set_key(&self, member: &mut Member, address: Option<IpAddr>) {
        let (Some(listener), Some(how)) = (&self.listener, &member.config.authentication) else {
            return;
        };
        let was = std::mem::replace(&mut member.keyed, address);
        for (address, present) in [(was, false), (address, true)] {
            if let Some(address) = address
                && let Err(error) = socket::authenticate(listener, address.into(), how, present)
            {
                let peer = &member.config.name;
                tracing::error!(%peer, %error, "the peer cannot connect to us");
            }
        }
    }

    fn notice(&mut self, notice: Notice) {
        match notice {
            // Its task has ended, the Cease finds nobody.
            Notice::Finished(id) => {
                self.remove(id, Cease::Deconfigured);
            }
            Notice::Located(id, address) => {
                if let Some(mut member) = self.peers.remove(&id) {
                    self.set_key(&mut member, address);
                    self.peers.insert(id, member);
                }
            }
        }
    }

    /// The peer that has this address, or is behind the device that the address belongs to.
    fn member(&self, from: SocketAddr) -> Option<&Member> {
        let device = match &from {
            SocketAddr::V6(from) => unnumbered::device_of(from),
            SocketAddr::V4(_) => None,
        };
        let id = device
            .and_then(|device| self.names.get(&device.into()))
            .or_else(|| self.names.get(&from.ip().to_canonical().into()))?;
        self.peers.get(id)
    }

    fn accepted(&mut self, stream: TcpStream, from: SocketAddr) {
        match self.member(from) {
            Some(member) => {
                let _ = member.orders.send(Order::Accepted(stream));
            }
            None => self.welcome(stream, from),
        }
    }

    /// Takes the connections that came before the peers were known. Those of peers with a key came
    /// before it was there to be checked (RFC 2385, RFC 5925), and are closed.
    async fn accept_early(&mut self) {
        while let Ok(Ok((stream, from))) =
            timeout(Duration::ZERO, accept(self.listener.as_ref())).await
        {
            let key = match self.member(from) {
                Some(member) => member.config.authentication.as_ref(),
                None => self
                    .range(from.ip().to_canonical())
                    .and_then(|range| range.template().authentication.as_ref()),
            };
            if key.is_none() {
                self.accepted(stream, from);
            }
        }
    }

    /// Tells a stranger so, if the socket takes it at once, and closes the connection.
    pub(super) fn reject(&mut self, stream: &TcpStream, from: SocketAddr, reason: &str) {
        let mut rejection = BytesMut::new();
        Message::Notification(Notification::CONNECTION_REJECTED)
            .encode(&Context::default(), &mut rejection);
        let _ = stream.try_write(&rejection);
        let now = Instant::now();
        let silent = |logged: Instant| now.duration_since(logged) < STRANGER_INTERVAL;
        if !self.stranger_logged.is_some_and(silent) {
            self.stranger_logged = Some(now);
            tracing::warn!(%from, reason, "BGP connection rejected");
        }
    }
}

/// Why a peer's session ends when its configuration becomes another one. With another AS it is
/// another peer, and as another AS so are we.
fn change(old: &PeerConfig, new: &PeerConfig) -> Cease {
    match &new.shutdown {
        Some(text) => Cease::Shutdown(text.clone()),
        None if (new.asn, new.local_as) == (old.asn, old.local_as) => Cease::ConfigChange,
        None => Cease::Deconfigured,
    }
}

/// Whether a session of one configuration is one of the other, too: intervals of BFD are BFD's
/// business, and keys of TCP-AO can be changed
/// under way.
pub(super) fn same_session(one: &PeerConfig, other: &PeerConfig) -> bool {
    let strict = |peer: &PeerConfig| peer.bfd.is_some_and(|bfd| bfd.strict);
    let without = |peer: &PeerConfig| PeerConfig {
        bfd: None,
        authentication: None,
        ..peer.clone()
    };
    let same_keys = match (&one.authentication, &other.authentication) {
        (Some(Authentication::Ao(old)), Some(Authentication::Ao(new))) => old.can_become(new),
        (old, new) => old == new,
    };
    strict(one) == strict(other) && without(one) == without(other) && same_keys
}

/// The keys of TCP-AO before and after, where they differ.
fn changed_keys(was: &PeerConfig, is: &PeerConfig) -> Option<(AoKeys, AoKeys)> {
    let ao = |config: &PeerConfig| config.authentication.as_ref()?.ao().cloned();
    let keys = (ao(was)?, ao(is)?);
    (keys.0 != keys.1).then_some(keys)
}

fn change_listener_keys(
    listener: Option<&TcpListener>,
    range: Option<IpNet>,
    old: &AoKeys,
    new: &AoKeys,
) {
    if let (Some(listener), Some(range)) = (listener, range)
        && let Err(error) = socket::change_keys(listener, range, old, new)
    {
        tracing::error!(%range, %error, "peers from there cannot connect to us");
    }
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

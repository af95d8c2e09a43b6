//! Routes of our own for one bridge domain.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use bytes::Bytes;

use crate::{
    bgp::wire::{
        ArpNd, Attributes, Encapsulation, ExtCommunity, Imet, MacIp, MacMobility, PmsiTunnel,
        Route, TunnelType,
    },
    types::{Esi, EthernetTag, Mac, RouteDistinguisher, RouteTarget, Vni, hash::HashMap},
};

/// Attribute sets kept for reuse; most routes share one or two.
const CACHED: usize = 256;

/// Builds the routes of a bridge domain; equal attributes are shared.
#[derive(Debug)]
pub struct Originator {
    vtep: Ipv4Addr,
    vni: Vni,
    rd: RouteDistinguisher,
    /// Encapsulation and route targets, which every route carries (RFC 8365 §5.1.3).
    communities: Vec<ExtCommunity>,
    /// The flags of every binding are announced, not only those of routers.
    arp_nd: bool,
    /// Of the PMSI tunnel attribute.
    imet_flags: u8,
    cache: HashMap<Variant, Arc<Attributes>>,
}

/// What differs between the RT-2s of a bridge domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Variant {
    mobility: MacMobility,
    arp_nd: Option<ArpNd>,
}

impl Originator {
    /// For a bridge domain whose VTEP address is `vtep`.
    pub fn new(vtep: Ipv4Addr, vni: Vni, rd: RouteDistinguisher, targets: &[RouteTarget]) -> Self {
        let mut communities: Vec<_> = targets.iter().copied().map(ExtCommunity::from).collect();
        communities.push(ExtCommunity::encapsulation(Encapsulation::VXLAN));
        Self {
            vtep,
            vni,
            rd,
            communities,
            arp_nd: true,
            imet_flags: 0,
            cache: HashMap::default(),
        }
    }

    /// Whether the flags of every binding are announced (RFC 9047 §3.1), as is the default, or only
    /// those that nobody would assume: that it is a router's. Reflectors that don't know the community
    /// drop the routes that have it.
    pub fn with_arp_nd(mut self, all: bool) -> Self {
        self.arp_nd = all;
        self
    }

    /// Flags of the PMSI tunnel attribute (RFC 9574 §4). Whether they are other ones now.
    pub fn set_imet_flags(&mut self, flags: u8) -> bool {
        std::mem::replace(&mut self.imet_flags, flags) != flags
    }

    /// Its MAC and MAC/IP routes are those of `other`.
    pub fn announces_as(&self, other: &Self) -> bool {
        let of = |it: &Self| (it.vtep, it.vni, it.rd, it.arp_nd);
        of(self) == of(other) && self.communities == other.communities
    }

    /// Those flags.
    pub fn imet_flags(&self) -> u8 {
        self.imet_flags
    }

    /// The route distinguisher.
    pub fn rd(&self) -> RouteDistinguisher {
        self.rd
    }

    /// Inclusive multicast route: BUM by ingress replication, with our VNI (RFC 7432 §11).
    pub fn imet(&self) -> (Route, Arc<Attributes>) {
        let route = Route::Imet(Imet {
            rd: self.rd,
            tag: EthernetTag::default(),
            originator: IpAddr::V4(self.vtep),
        });
        let mut attributes = self.attributes(&[]);
        attributes.pmsi = Some(PmsiTunnel {
            flags: self.imet_flags,
            tunnel_type: TunnelType::INGRESS_REPLICATION,
            label: self.vni.get(),
            identifier: Bytes::copy_from_slice(&self.vtep.octets()),
        });
        (route, Arc::new(attributes))
    }

    /// MAC or MAC/IP route. The mobility community is left out of the first announcement (RFC 7432
    /// §15). An IPv6 binding has its flags, an IPv4 one only when it is immutable (RFC 9047 §3); see
    /// [`Originator::with_arp_nd`].
    pub fn mac_ip(
        &mut self,
        mac: Mac,
        mobility: MacMobility,
        binding: Option<(IpAddr, ArpNd)>,
    ) -> (Route, Arc<Attributes>) {
        let route = Route::MacIp(MacIp {
            rd: self.rd,
            esi: Esi::ZERO,
            tag: EthernetTag::default(),
            mac,
            ip: binding.map(|(ip, _)| ip),
            label1: self.vni.get(),
            label2: None,
        });
        let arp_nd = binding.and_then(|(ip, flags)| match ip {
            IpAddr::V6(_) => (self.arp_nd || flags.router).then_some(flags),
            IpAddr::V4(_) if !self.arp_nd => None,
            IpAddr::V4(_) => flags.immutable.then_some(ArpNd {
                immutable: true,
                ..ArpNd::default()
            }),
        });
        let variant = Variant { mobility, arp_nd };
        if let Some(attributes) = self.cache.get(&variant) {
            return (route, Arc::clone(attributes));
        }
        let mut extra = Vec::new();
        if mobility != MacMobility::default() {
            extra.push(ExtCommunity::from_mac_mobility(mobility));
        }
        extra.extend(arp_nd.map(ExtCommunity::from_arp_nd));
        let attributes = Arc::new(self.attributes(&extra));
        if self.cache.len() >= CACHED {
            self.cache.clear();
        }
        self.cache.insert(variant, Arc::clone(&attributes));
        (route, attributes)
    }

    fn attributes(&self, extra: &[ExtCommunity]) -> Attributes {
        let mut attributes = Attributes::originated(IpAddr::V4(self.vtep));
        attributes.ext_communities = [&self.communities, extra].concat();
        attributes
    }
}

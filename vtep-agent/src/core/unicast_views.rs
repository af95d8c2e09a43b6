//! `show routes --family ipv4` and `ipv6`

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::{
    Core,
    route_views::as_path,
    underlay::{next_hop, prefix_of},
};
use crate::{
    bgp::{
        rib::{NotBest, Path, Step},
        wire::{Family, Origin},
    },
    view,
};

impl Core {
    /// `show routes` of a unicast family: what peers sent, and our own. `problems` says which routes
    /// the kernel doesn't have as they are wanted, and why.
    pub fn unicast_routes(
        &self,
        family: Family,
        problems: &BTreeMap<IpNet, String>,
    ) -> Vec<view::UnicastRoute> {
        let own = self.underlay.out.announced(family).map(|(prefix, told)| {
            let view = view::UnicastRoute {
                prefix: prefix.to_string(),
                next_hop: None,
                peer: None,
                best: true,
                installed: told > 0,
                stale: false,
                reason: (told == 0).then(|| {
                    "not announced: no session that can carry it is established".to_owned()
                }),
                attributes: view::UnicastAttributes::default(),
            };
            (prefix, None, view)
        });
        let rib = self.underlay.ribs.get(&family);
        let paths = rib.into_iter().flat_map(|rib| rib.paths());
        let received = paths.filter_map(|(key, path, not_best)| {
            let prefix = prefix_of(&key)?;
            let view = self.unicast_route(prefix, path, not_best, problems);
            Some((prefix, Some(path.peer), view))
        });
        let mut routes: Vec<_> = own.chain(received).collect();
        routes.sort_by_key(|(prefix, peer, _)| (*prefix, *peer));
        routes.into_iter().map(|(.., view)| view).collect()
    }

    fn unicast_route(
        &self,
        prefix: IpNet,
        path: &Path,
        not_best: Option<NotBest>,
        problems: &BTreeMap<IpNet, String>,
    ) -> view::UnicastRoute {
        let wanted = self.underlay.wanted(&prefix);
        let used = wanted.is_some_and(|route| route.next_hops.contains(&next_hop(path)));
        let reason = match (used, not_best) {
            (true, _) => problems
                .get(&prefix)
                .map(|problem| format!("not installed as it should be: {problem}")),
            (false, Some(NotBest::Lost(step))) => Some(self.not_used(step)),
            (false, Some(rejected)) => Some(rejected.to_string()),
            (false, None) => None,
        };
        let attributes = &path.attributes;
        view::UnicastRoute {
            prefix: prefix.to_string(),
            next_hop: Some(attributes.next_hop),
            peer: Some(path.session.address),
            best: not_best.is_none(),
            installed: used && reason.is_none(),
            stale: path.stale,
            reason,
            attributes: view::UnicastAttributes {
                as_path: Some(as_path(&attributes.as_path)),
                local_pref: attributes.local_pref,
                med: attributes.med,
                origin: Some(match attributes.origin {
                    Origin::Igp => "igp".to_owned(),
                    Origin::Egp => "egp".to_owned(),
                    Origin::Incomplete => "incomplete".to_owned(),
                }),
            },
        }
    }

    /// Steps that are no difference to multipath leave other reasons.
    fn not_used(&self, step: Step) -> String {
        let config = &self.config.underlay;
        match step {
            Step::RouterId | Step::ClusterList | Step::PeerAddress if !config.multipath_relax => {
                "not used beside the best: another AS_PATH, and underlay.multipath_relax is off; or \
                 underlay.ecmp"
                    .to_owned()
            }
            Step::RouterId | Step::ClusterList | Step::PeerAddress => {
                format!("not used beside the best: underlay.ecmp is {}", config.ecmp)
            }
            step => step.to_string(),
        }
    }
}

//! Which of several paths to the same NLRI is best (RFC 4271 §9.1.2, RFC 4456 §9).

use std::{
    cmp::Ordering,
    fmt,
    net::{IpAddr, Ipv4Addr},
};

use super::{LLGR_STALE, Path, interior::Interior};
use crate::{
    bgp::wire::{AsPath, AsSegment, PathId},
    types::Asn,
};

/// LOCAL_PREF of a path that carries none (an external one).
const DEFAULT_LOCAL_PREF: u32 = 100;

/// The step of the decision at which a path lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// RFC 4271 §9.1.2, before all others. A path that has no rival is best without a way to its next hop:
    /// what it brings stays known, and the datapath counts what is sent there.
    Unreachable,
    /// RFC 9494 §4.3
    LongLivedStale,
    /// RFC 4271 §9.1.1
    LocalPref,
    /// RFC 4271 §9.1.2.2 a
    AsPathLength,
    /// b
    Origin,
    /// c
    Med,
    /// d
    Internal,
    /// e: metrics of the kernel's routes to the next hops.
    IgpCost {
        /// That of the path that lost.
        worse: u32,
        /// That of the other one.
        better: u32,
    },
    /// f, with ORIGINATOR_ID in place of the identifier (RFC 4456 §9)
    RouterId,
    /// RFC 4456 §9
    ClusterList,
    /// g
    PeerAddress,
    /// Two paths of one peer (RFC 7911), alike in everything else.
    PathId,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IgpCost { worse, better } => {
                return write!(f, "not best: IGP cost {worse} > {better}");
            }
            Self::Unreachable => "not best: next hop unreachable, that of the best is not",
            Self::LongLivedStale => "not best: long-lived stale",
            Self::LocalPref => "not best: lower LOCAL_PREF",
            Self::AsPathLength => "not best: longer AS_PATH",
            Self::Origin => "not best: higher ORIGIN",
            Self::Med => "not best: higher MED",
            Self::Internal => "not best: internal, the best is external",
            Self::RouterId => "not best: higher router or originator id",
            Self::ClusterList => "not best: longer CLUSTER_LIST",
            Self::PeerAddress => "not best: higher peer address",
            Self::PathId => "not best: higher path identifier",
        })
    }
}

/// Index of the best path. MED counts among paths of one neighbouring AS only, so the winner of each
/// AS is found first: the result does not depend on the order of arrival.
pub(super) fn best(paths: &[Path], interior: Interior<'_>) -> Option<usize> {
    // Mostly there is one.
    if let [only] = paths {
        return only.rejected.is_none().then_some(0);
    }
    let candidates = || {
        paths
            .iter()
            .enumerate()
            .filter(|(_, path)| path.rejected.is_none())
    };
    let champion = |&(_, path): &(usize, &Path)| {
        !candidates().any(|(_, other)| {
            same_neighbour(other, path) && compare(other, path, interior).0.is_lt()
        })
    };
    candidates()
        .filter(champion)
        .min_by(|(_, a), (_, b)| compare(a, b, interior).0)
        .map(|(index, _)| index)
}

/// The paths that take part in the decision.
pub(super) fn eligible(paths: &[Path]) -> impl Iterator<Item = &Path> {
    paths.iter().filter(|path| path.rejected.is_none())
}

/// Why `path` lost; `best` won.
pub(super) fn lost(paths: &[Path], best: &Path, path: &Path, interior: Interior<'_>) -> Step {
    // Where it is even with the best one, another path of its own neighbouring AS may have a lower MED.
    std::iter::once(best)
        .chain(eligible(paths))
        .find_map(|other| beaten(path, other, interior))
        .unwrap_or_else(|| compare(best, path, interior).1)
}

/// The step at which `other` is better than `path`, but for the tie-breaks.
fn beaten(path: &Path, other: &Path, interior: Interior<'_>) -> Option<Step> {
    let decided = preference(other, path, interior).filter(|(order, _)| order.is_lt());
    decided.map(|(_, step)| step)
}

/// The paths to use together with the best one, which comes first.
pub(super) fn multipath(paths: &[Path], limit: usize, relax: bool) -> Vec<&Path> {
    // Next hops of unicast routes are on links.
    let interior = Interior::default();
    let Some(best) = best(paths, interior).and_then(|index| paths.get(index)) else {
        return Vec::new();
    };
    let same_path = |path: &Path| relax || path.attributes.as_path == best.attributes.as_path;
    // By MED, another path of its own neighbouring AS may be better.
    let is_beaten =
        |path: &Path| eligible(paths).any(|other| beaten(path, other, interior).is_some());
    let mut others: Vec<_> = eligible(paths)
        .filter(|path| path.peer != best.peer && !is_beaten(path))
        .filter(|path| preference(best, path, interior).is_none() && same_path(path))
        .collect();
    // Not by `compare`: with MED that is no order of paths of several ASes.
    others.sort_by_key(|path| tie_break(path));
    std::iter::once(best).chain(others).take(limit).collect()
}

/// `Less` when `a` is better, and the step that decided.
fn compare(a: &Path, b: &Path, interior: Interior<'_>) -> (Ordering, Step) {
    if let Some(decided) = preference(a, b, interior) {
        return decided;
    }
    let (a, b) = (tie_break(a), tie_break(b));
    let steps = [
        (a.0.cmp(&b.0), Step::RouterId),
        (a.1.cmp(&b.1), Step::ClusterList),
        (a.2.cmp(&b.2), Step::PeerAddress),
    ];
    steps
        .into_iter()
        .find(|(order, _)| order.is_ne())
        .unwrap_or((a.3.cmp(&b.3), Step::PathId))
}

/// What decides between paths that are even: router or originator id, length of CLUSTER_LIST, address
/// of the peer, and which of its paths it is. The lowest wins.
fn tie_break(path: &Path) -> (Ipv4Addr, usize, IpAddr, Option<PathId>) {
    (
        router_id(path),
        path.attributes.cluster_list.len(),
        path.session.address,
        path.path_id,
    )
}

/// The steps that are about the paths and not about who sent them; `None` when all are even.
fn preference(a: &Path, b: &Path, interior: Interior<'_>) -> Option<(Ordering, Step)> {
    let local_pref = |path: &Path| path.attributes.local_pref.unwrap_or(DEFAULT_LOCAL_PREF);
    let is_stale = |path: &Path| path.attributes.communities.contains(&LLGR_STALE);
    let med = |path: &Path| path.attributes.med.unwrap_or(0);
    let med_order = if same_neighbour(a, b) {
        med(a).cmp(&med(b))
    } else {
        Ordering::Equal
    };
    let (cost_a, cost_b) = (interior.cost(a), interior.cost(b));
    let by_cost = Step::IgpCost {
        worse: cost_a.max(cost_b),
        better: cost_a.min(cost_b),
    };
    let steps = [
        (
            interior.is_lost(a).cmp(&interior.is_lost(b)),
            Step::Unreachable,
        ),
        (is_stale(a).cmp(&is_stale(b)), Step::LongLivedStale),
        (local_pref(b).cmp(&local_pref(a)), Step::LocalPref),
        (
            path_length(&a.attributes.as_path).cmp(&path_length(&b.attributes.as_path)),
            Step::AsPathLength,
        ),
        (a.attributes.origin.cmp(&b.attributes.origin), Step::Origin),
        (med_order, Step::Med),
        (a.session.internal.cmp(&b.session.internal), Step::Internal),
        (cost_a.cmp(&cost_b), by_cost),
    ];
    steps.into_iter().find(|(order, _)| order.is_ne())
}

fn router_id(path: &Path) -> Ipv4Addr {
    path.attributes
        .originator_id
        .unwrap_or(path.session.router_id)
}

fn same_neighbour(a: &Path, b: &Path) -> bool {
    neighbour(&a.attributes.as_path) == neighbour(&b.attributes.as_path)
}

/// The AS that the path was received from; `None` for our own.
fn neighbour(path: &AsPath) -> Option<Asn> {
    path.0.iter().find_map(|segment| match segment {
        AsSegment::Sequence(asns) => Some(asns.first().copied()),
        AsSegment::Set(_) => Some(None),
        AsSegment::ConfedSequence(_) | AsSegment::ConfedSet(_) => None,
    })?
}

/// A set counts as one (RFC 4271 §9.1.2.2 a), confederation segments not at all (RFC 5065 §5.3).
fn path_length(path: &AsPath) -> usize {
    path.0
        .iter()
        .map(|segment| match segment {
            AsSegment::Sequence(asns) => asns.len(),
            AsSegment::Set(_) => 1,
            AsSegment::ConfedSequence(_) | AsSegment::ConfedSet(_) => 0,
        })
        .sum()
}

/// How often `asn` is in the path.
pub(super) fn occurrences(path: &AsPath, asn: Asn) -> usize {
    path.0
        .iter()
        .flat_map(|segment| match segment {
            AsSegment::Sequence(asns)
            | AsSegment::Set(asns)
            | AsSegment::ConfedSequence(asns)
            | AsSegment::ConfedSet(asns) => asns,
        })
        .filter(|other| **other == asn)
        .count()
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Instant};

    use super::*;
    use crate::{
        bgp::{
            peer::Session,
            rib::{Reach, Rejected, interior::NextHops},
            wire::{Attributes, Family, Imet, Origin, Route},
        },
        types::{EthernetTag, PeerId, RouteDistinguisher},
    };

    /// A path from peer 198.18.0.`host`, internal.
    fn path(host: u8, change: impl FnOnce(&mut Attributes)) -> Path {
        let address = Ipv4Addr::new(198, 18, 0, host);
        let mut attributes = Attributes::originated(IpAddr::V4(address));
        attributes.local_pref = Some(100);
        change(&mut attributes);
        Path {
            peer: PeerId(host.into()),
            session: Arc::new(Session::new(address.into(), Asn(65000), address, true)),
            path_id: None,
            route: Route::Imet(Imet {
                rd: RouteDistinguisher::default(),
                tag: EthernetTag::default(),
                originator: IpAddr::V4(address),
            }),
            attributes: Arc::new(attributes),
            rejected: None,
            accepted: true,
            received: Instant::now(),
            stale: false,
        }
    }

    fn sequence(asns: &[u32]) -> AsPath {
        AsPath(vec![AsSegment::Sequence(
            asns.iter().copied().map(Asn).collect(),
        )])
    }

    /// A path of peer 1 that has others beside it.
    fn identified(id: u32) -> Path {
        let mut path = path(1, |_| ());
        path.path_id = Some(PathId(id));
        path
    }

    fn external(mut path: Path) -> Path {
        let mut session = Session::clone(&path.session);
        session.internal = false;
        path.session = Arc::new(session);
        path
    }

    /// To the same next hop as others.
    fn through(mut path: Path) -> Path {
        let mut attributes = Attributes::clone(&path.attributes);
        attributes.next_hop = Ipv4Addr::new(198, 18, 0, 200).into();
        path.attributes = Arc::new(attributes);
        path
    }

    /// Of the next hops of these hosts this is known.
    fn known(next_hops: &[(u8, Reach)]) -> NextHops {
        let mut known = NextHops::of_family(Family::EVPN);
        for (host, reach) in next_hops {
            let address = Ipv4Addr::new(198, 18, 0, *host);
            known.set(address.into(), *reach, Instant::now());
        }
        known
    }

    /// The second path of each pair is worse, and for that reason: RFC 4271 §9.1.2, RFC 4456 §9. What
    /// decides later would have it the other way round, as far as there is such a thing.
    #[test]
    fn steps_in_order() {
        let stale = |a: &mut Attributes| {
            a.communities.push(LLGR_STALE);
            a.local_pref = Some(200);
        };
        let originator = |a: &mut Attributes| a.originator_id = Some(Ipv4Addr::LOCALHOST);
        let pairs = [
            (path(1, stale), path(9, |_| ()), Step::Unreachable),
            (path(2, |_| ()), path(1, stale), Step::LongLivedStale),
            (
                path(2, |a| {
                    (a.local_pref, a.as_path) = (Some(200), sequence(&[1]))
                }),
                path(1, |_| ()),
                Step::LocalPref,
            ),
            (
                path(2, |a| a.origin = Origin::Incomplete),
                path(1, |a| a.as_path = sequence(&[1])),
                Step::AsPathLength,
            ),
            (
                path(2, |a| a.med = Some(5)),
                path(1, |a| a.origin = Origin::Incomplete),
                Step::Origin,
            ),
            (
                path(2, |_| ()),
                external(path(1, |a| a.med = Some(5))),
                Step::Med,
            ),
            (external(path(2, |_| ())), path(1, |_| ()), Step::Internal),
            (
                path(3, |_| ()),
                path(1, |_| ()),
                Step::IgpCost {
                    worse: 100,
                    better: 50,
                },
            ),
            (
                through(path(1, |_| ())),
                through(path(2, |_| ())),
                Step::RouterId,
            ),
            (
                through(path(2, originator)),
                through(path(1, |_| ())),
                Step::RouterId,
            ),
            (
                through(path(2, originator)),
                through(path(1, |a| {
                    originator(a);
                    a.cluster_list = vec![Ipv4Addr::BROADCAST];
                })),
                Step::ClusterList,
            ),
            (
                through(path(1, originator)),
                through(path(2, originator)),
                Step::PeerAddress,
            ),
            (identified(1), identified(2), Step::PathId),
        ];
        let next_hops = known(&[
            (1, Reach::Cost(100)),
            (2, Reach::Cost(200)),
            (3, Reach::Cost(50)),
            (9, Reach::Lost),
        ]);
        for (better, worse, step) in pairs {
            let paths = [worse, better];
            let interior = next_hops.of(&paths);
            let [worse, better] = &paths;
            assert_eq!(compare(better, worse, interior), (Ordering::Less, step));
            let reverse = compare(worse, better, interior);
            assert_eq!(reverse, (Ordering::Greater, step));
            assert_eq!(best(&paths, interior), Some(1), "{step:?}");
            assert_eq!(lost(&paths, better, worse, interior), step);
        }
    }

    /// RFC 4271 §9.1.2.2 e: where the cost of one cannot be told, those of the others don't count either:
    /// what is best does not depend on the order of arrival.
    #[test]
    fn costs_count_when_all_are_known() {
        let paths = || [1, 2, 3].map(|host| path(host, |_| ()));
        let best_of = |next_hops: &NextHops| {
            let orders = [[0, 1, 2], [2, 1, 0], [1, 2, 0]];
            let best = orders.map(|order| {
                let paths = order.map(|index: usize| paths()[index].clone());
                best(&paths, next_hops.of(&paths)).map(|index| paths[index].peer.0)
            });
            assert!(best.iter().all(|other| *other == best[0]), "{best:?}");
            best[0]
        };
        let (dear, cheap) = (Reach::Cost(200), Reach::Cost(u32::MAX - 1));
        assert_eq!(best_of(&known(&[(2, dear), (3, cheap)])), Some(1));
        let all = [(1, Reach::Cost(u32::MAX)), (2, cheap), (3, dear)];
        assert_eq!(best_of(&known(&all)), Some(3));
        // One that is lost takes no part in that; one of which nobody knows is not lost.
        let all = [(1, Reach::Lost), (2, dear), (3, Reach::Cost(0))];
        assert_eq!(best_of(&known(&all)), Some(3));
        assert_eq!(best_of(&known(&[(1, Reach::Lost), (3, cheap)])), Some(2));
        // Where all are lost, the rest decides.
        let all = [1, 2, 3].map(|host| (host, Reach::Lost));
        assert_eq!(best_of(&known(&all)), Some(1));
        let only = [path(1, |_| ())];
        assert_eq!(best(&only, known(&all).of(&only)), Some(0));
    }

    /// RFC 4271 §9.1.2.2: MED only among paths of one neighbouring AS, in whatever order they came.
    #[test]
    fn med_of_different_ases_is_not_compared() {
        let a = || path(1, |a| (a.as_path, a.med) = (sequence(&[1]), Some(10)));
        let b = || path(2, |a| (a.as_path, a.med) = (sequence(&[2]), Some(5)));
        let c = || path(3, |a| (a.as_path, a.med) = (sequence(&[1]), Some(1)));
        for paths in [[a(), b(), c()], [c(), b(), a()], [b(), c(), a()]] {
            let winner = &paths[best(&paths, Interior::default()).unwrap()];
            assert_eq!(winner.peer, PeerId(2));
            let a = paths.iter().find(|path| path.peer == PeerId(1)).unwrap();
            assert_eq!(lost(&paths, winner, a, Interior::default()), Step::Med);
        }
    }

    #[test]
    fn rejected_paths_take_no_part() {
        let mut good = path(1, |_| ());
        good.rejected = Some(Rejected::AsLoop);
        let paths = [good.clone(), path(2, |_| ())];
        assert_eq!(best(&paths, Interior::default()), Some(1));
        assert_eq!(best(&[good], Interior::default()), None);
    }

    /// Paths of several ASes, some with a MED: comparing two by two is no order, which sorting of many
    /// may not survive. What loses by MED within its own AS is not used beside the best.
    #[test]
    fn multipath_with_meds() {
        let paths: Vec<_> = (1..=60)
            .map(|host| {
                path(host, |attributes| {
                    let asn = u32::from(host % 3);
                    attributes.as_path = sequence(&[65_100 + asn]);
                    attributes.med = (asn > 0).then(|| 100 - u32::from(host));
                })
            })
            .collect();
        let used = multipath(&paths, 64, true);
        let loser = paths.iter().find(|path| path.peer.0 == 1).unwrap();
        assert_eq!(lost(&paths, used[0], loser, Interior::default()), Step::Med);
        // All of the AS without MEDs, and the least MED of each of the others.
        let hosts: Vec<_> = used.iter().map(|path| path.peer.0).collect();
        let mut expected: Vec<_> = (1..=20).map(|n| n * 3).chain([58, 59]).collect();
        expected.sort_unstable();
        assert_eq!(hosts, expected);
    }

    #[test]
    fn sets_count_once() {
        let path = AsPath(vec![
            AsSegment::Sequence(vec![Asn(1), Asn(2)]),
            AsSegment::Set(vec![Asn(3), Asn(4)]),
            AsSegment::ConfedSequence(vec![Asn(5)]),
        ]);
        assert_eq!(path_length(&path), 3);
        assert_eq!(occurrences(&path, Asn(4)), 1);
        assert_eq!(occurrences(&path, Asn(9)), 0);
    }
}

//! Tables with a row for each route, MAC or neighbour, in pieces. Whoever asks gets the keys at once,
//! and what is to be said of them piece by piece: an answer of any length never keeps the core from
//! its work for longer than one piece takes.
//!
//! A row is told as it is when its piece is; one that is gone by then is left out, one that came after
//! the keys is missing.

use std::{net::IpAddr, sync::Arc, time::Instant};

use serde::Serialize;
use vtep_common::abi::{BdId, FdbKey};

use super::{CommandError, Core};
use crate::{
    bgp::wire::RouteKey,
    types::{BdName, Mac, hash::HashSet},
    view,
};

/// Most keys in a piece.
pub const PIECE: usize = 256;

/// Keys of rows that are still to be told.
#[derive(Clone, Debug)]
pub struct Rows(Keys);

/// Rows as `show` prints them.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Piece {
    /// `show routes`
    Routes(Vec<view::Route>),
    /// `show macs`
    Macs(Vec<view::MacEntry>),
    /// `show neighbors`
    Neighbors(Vec<view::Neighbor>),
}

#[derive(Clone, Debug)]
enum Keys {
    Routes(Routes),
    Macs(Vec<InBd<Mac>>),
    Neighbors(Vec<InBd<IpAddr>>),
}

#[derive(Clone, Debug)]
struct Routes {
    bd: Option<BdName>,
    /// Entries of `fdb` that the datapath did not have when the routes were asked for.
    unwritten: Arc<HashSet<FdbKey>>,
    keys: Vec<RouteKey>,
}

/// A key in a bridge domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct InBd<K> {
    /// Of the bridge domain, by name.
    position: usize,
    bd: BdId,
    key: K,
}

impl Rows {
    /// Puts the keys in their order, before the first [`Rows::take`]. Takes the longer the more there
    /// are: not for the thread of the core.
    pub fn sort(&mut self) {
        match &mut self.0 {
            Keys::Routes(routes) => sort(&mut routes.keys),
            Keys::Macs(macs) => sort(macs),
            Keys::Neighbors(neighbors) => sort(neighbors),
        }
    }

    /// Takes the next ones, at most `limit`; `None` when nothing is left.
    pub fn take(&mut self, limit: usize) -> Option<Self> {
        if self.is_empty() {
            return None;
        }
        Some(Self(match &mut self.0 {
            Keys::Routes(routes) => Keys::Routes(Routes {
                bd: routes.bd.clone(),
                unwritten: Arc::clone(&routes.unwritten),
                keys: take(&mut routes.keys, limit),
            }),
            Keys::Macs(macs) => Keys::Macs(take(macs, limit)),
            Keys::Neighbors(neighbors) => Keys::Neighbors(take(neighbors, limit)),
        }))
    }

    /// All of them, in their order.
    fn whole(mut self) -> Keys {
        self.sort();
        self.take(usize::MAX).unwrap_or(self).0
    }

    /// That many MACs of no bridge domain.
    #[cfg(test)]
    pub(crate) fn of_macs(count: u32) -> Self {
        let macs = (0..count).map(|number| {
            let [a, b, c, d] = number.to_be_bytes();
            InBd {
                position: 0,
                bd: BdId(0),
                key: Mac([2, 0, a, b, c, d]),
            }
        });
        Self(Keys::Macs(macs.collect()))
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        match &self.0 {
            Keys::Routes(routes) => routes.keys.len(),
            Keys::Macs(macs) => macs.len(),
            Keys::Neighbors(neighbors) => neighbors.len(),
        }
    }

    /// Nothing is left to be told.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Core {
    /// `show routes`: what peers sent, and our own; with a bridge domain, what it imports and
    /// announces. `unwritten` are the entries of `fdb` that the datapath does not have.
    ///
    /// # Errors
    ///
    /// When there is no such bridge domain.
    pub fn route_rows(
        &self,
        bd: Option<&BdName>,
        unwritten: HashSet<FdbKey>,
    ) -> Result<Rows, CommandError> {
        Ok(Rows(Keys::Routes(Routes {
            bd: bd.cloned(),
            unwritten: Arc::new(unwritten),
            keys: self.route_keys(bd)?,
        })))
    }

    /// `show macs`
    ///
    /// # Errors
    ///
    /// When there is no such bridge domain.
    pub fn mac_rows(&self, bd: Option<&BdName>) -> Result<Rows, CommandError> {
        let mut rows = Vec::new();
        for (position, bd) in self.selected(bd)?.into_iter().enumerate() {
            let macs = bd.macs();
            // A black-holed one may have no owner left.
            let known = macs.known().chain(macs.duplicates().map(|(mac, _)| mac));
            rows.extend(known.map(|key| InBd {
                position,
                bd: bd.id.bd,
                key,
            }));
        }
        Ok(Rows(Keys::Macs(rows)))
    }

    /// `show neighbors`
    ///
    /// # Errors
    ///
    /// When there is no such bridge domain.
    pub fn neighbor_rows(&self, bd: Option<&BdName>) -> Result<Rows, CommandError> {
        let mut rows = Vec::new();
        for (position, bd) in self.selected(bd)?.into_iter().enumerate() {
            rows.extend(bd.neighbors().known().map(|key| InBd {
                position,
                bd: bd.id.bd,
                key,
            }));
        }
        Ok(Rows(Keys::Neighbors(rows)))
    }

    /// What is to be said of these keys.
    pub fn piece(&self, rows: &Rows, now: Instant) -> Piece {
        match &rows.0 {
            Keys::Routes(routes) => Piece::Routes(self.routes_piece(routes)),
            Keys::Macs(macs) => Piece::Macs(self.macs_piece(macs, now)),
            Keys::Neighbors(neighbors) => Piece::Neighbors(self.neighbors_piece(neighbors, now)),
        }
    }

    /// [`Core::route_rows`] at once, for tables that are short.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn routes(
        &self,
        bd: Option<&BdName>,
        unwritten: &HashSet<FdbKey>,
    ) -> Result<Vec<view::Route>, CommandError> {
        match self.route_rows(bd, unwritten.clone())?.whole() {
            Keys::Routes(routes) => Ok(self.routes_piece(&routes)),
            _ => Ok(Vec::new()),
        }
    }

    /// [`Core::mac_rows`] at once, for tables that are short.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn macs(
        &self,
        bd: Option<&BdName>,
        now: Instant,
    ) -> Result<Vec<view::MacEntry>, CommandError> {
        match self.mac_rows(bd)?.whole() {
            Keys::Macs(macs) => Ok(self.macs_piece(&macs, now)),
            _ => Ok(Vec::new()),
        }
    }

    /// [`Core::neighbor_rows`] at once, for tables that are short.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn neighbors(
        &self,
        bd: Option<&BdName>,
        now: Instant,
    ) -> Result<Vec<view::Neighbor>, CommandError> {
        match self.neighbor_rows(bd)?.whole() {
            Keys::Neighbors(neighbors) => Ok(self.neighbors_piece(&neighbors, now)),
            _ => Ok(Vec::new()),
        }
    }

    fn macs_piece(&self, macs: &[InBd<Mac>], now: Instant) -> Vec<view::MacEntry> {
        let views = macs.iter().map(|row| self.mac_view(row.bd, row.key, now));
        views.flatten().collect()
    }

    fn neighbors_piece(&self, neighbors: &[InBd<IpAddr>], now: Instant) -> Vec<view::Neighbor> {
        let neighbors = neighbors.iter();
        let views = neighbors.map(|row| self.neighbor_view(row.bd, row.key, now));
        views.flatten().collect()
    }

    fn routes_piece(&self, routes: &Routes) -> Vec<view::Route> {
        // A bridge domain that is gone has no routes.
        let Ok(filter) = self.filter(routes.bd.as_ref()) else {
            return Vec::new();
        };
        let keys = routes.keys.iter();
        let views = keys.map(|key| self.route_views(key, filter, &routes.unwritten));
        views.flatten().collect()
    }
}

/// The last is the first to be taken.
fn sort<K: Ord>(keys: &mut Vec<K>) {
    keys.sort_unstable_by(|a, b| b.cmp(a));
    keys.dedup();
}

fn take<K>(keys: &mut Vec<K>, limit: usize) -> Vec<K> {
    let mut taken = keys.split_off(keys.len().saturating_sub(limit));
    taken.reverse();
    taken
}

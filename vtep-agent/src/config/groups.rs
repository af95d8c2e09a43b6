//! `[bgp.group.NAME]`: what peers have in common.

use std::{collections::BTreeMap, net::IpAddr, ops::Range, path::Path};

use toml::Spanned;

use super::{
    PeerConfig,
    diagnostic::Fault,
    field::{Result, asn},
    options::{Options, options, peer_asn},
    peers::peer,
    raw::{self, Scalar},
};
use crate::types::Asn;

/// `[bgp.group.NAME]` by name.
pub(super) struct Groups<'a> {
    options: BTreeMap<&'a str, Options>,
    local_asn: Asn,
    directory: &'a Path,
}

impl<'a> Groups<'a> {
    /// All groups. `directory` is where relative password files are.
    pub(super) fn read(raw: &'a raw::Bgp, directory: &'a Path) -> Result<Self> {
        let local_asn = asn(&raw.asn, "asn")?;
        let mut groups = BTreeMap::new();
        for (name, raw) in &raw.group {
            for (key, text) in [
                ("address", &raw.address),
                ("interface", &raw.interface),
                ("group", &raw.group),
            ] {
                if let Some(text) = text {
                    return Err(Fault::new(
                        text.span(),
                        format!("bgp.group.{name} has the key {key}, which only a peer can have"),
                    ));
                }
            }
            groups.insert(name.as_str(), options(raw, local_asn, directory)?);
        }
        Ok(Self {
            options: groups,
            local_asn,
            directory,
        })
    }

    /// What the peers of a prefix have in common; `network` is its first address, `key` its place.
    pub(super) fn template(
        &self,
        group: &Spanned<String>,
        asn: Option<&Spanned<Scalar>>,
        network: IpAddr,
        key: &Spanned<String>,
    ) -> Result<PeerConfig> {
        let own = Options {
            asn: asn.map(peer_asn).transpose()?,
            ..Options::default()
        };
        let options = own.or(self.get(group)?);
        let table = Spanned::new(key.span(), raw::Peer::default());
        let peer = peer(&table, network.into(), key, options)?;
        self.check_reflector(&peer, key.span())?;
        Ok(peer)
    }

    /// What a peer and its group say.
    pub(super) fn resolve(&self, raw: &raw::Peer) -> Result<Options> {
        let own = options(raw, self.local_asn, self.directory)?;
        match &raw.group {
            None => Ok(own),
            Some(name) => Ok(own.or(self.get(name)?)),
        }
    }

    fn get(&self, name: &Spanned<String>) -> Result<Options> {
        self.options
            .get(name.get_ref().as_str())
            .cloned()
            .ok_or_else(|| unknown_group(name, &self.options))
    }

    /// Only an internal peer can be a client; `span` is what says that it is one.
    pub(super) fn check_reflector(&self, peer: &PeerConfig, span: Range<usize>) -> Result<()> {
        match peer.route_reflector_client && !peer.is_internal(self.local_asn) {
            true => Err(Fault::new(
                span,
                "route_reflector_client is for internal peers",
            )),
            false => Ok(()),
        }
    }
}

fn unknown_group(name: &Spanned<String>, groups: &BTreeMap<&str, Options>) -> Fault {
    let known = match groups.is_empty() {
        true => "there is no [bgp.group.NAME] table".to_owned(),
        false => {
            let names: Vec<_> = groups.keys().copied().collect();
            format!("expected one of {}", names.join(", "))
        }
    };
    let message = format!("group {:?} is not defined, {known}", name.get_ref());
    Fault::new(name.span(), message)
}

//! Uplinks: the NICs on which tunnels end.

use std::collections::BTreeMap;

use vtep_common::abi::MAX_UPLINKS;

use super::{Link, Output};
use crate::{config::XdpMode, types::IfName};

/// Uplinks that are wanted, whether they exist or not.
#[derive(Debug, Default)]
pub(super) struct Uplinks {
    by_name: BTreeMap<IfName, Uplink>,
}

/// One uplink.
#[derive(Debug)]
pub(super) struct Uplink {
    pub(super) mode: XdpMode,
    /// Present when attached.
    pub(super) link: Option<Link>,
}

impl Uplinks {
    /// Makes these the uplinks, attaching and detaching the difference. Those beyond [`MAX_UPLINKS`]
    /// are left out with an error in the log.
    pub(super) fn set<'a>(
        &mut self,
        wanted: &BTreeMap<IfName, XdpMode>,
        link: impl Fn(&IfName) -> Option<&'a Link>,
        outputs: &mut Vec<Output>,
    ) {
        let gone: Vec<_> = self
            .by_name
            .iter()
            .filter(|(name, uplink)| wanted.get(*name) != Some(&uplink.mode))
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            if let Some(link) = self.by_name.remove(&name).and_then(|uplink| uplink.link) {
                outputs.push(Output::DetachUplink(link.ifindex, name));
            }
        }
        for (name, mode) in wanted {
            if self.by_name.contains_key(name) {
                continue;
            }
            if self.by_name.len() >= MAX_UPLINKS {
                tracing::error!(uplink = %name, limit = MAX_UPLINKS, "too many uplinks, left out");
                continue;
            }
            let (mode, link) = (*mode, link(name).cloned());
            if let Some(link) = &link {
                outputs.push(Output::AttachUplink(link.ifindex, name.clone(), mode));
            }
            self.by_name.insert(name.clone(), Uplink { mode, link });
        }
    }

    /// A device is there, or changed. Whether it is an uplink.
    pub(super) fn set_link(&mut self, link: &Link, outputs: &mut Vec<Output>) -> bool {
        let Some(uplink) = self.by_name.get_mut(&link.name) else {
            return false;
        };
        let attached = uplink
            .link
            .as_ref()
            .is_some_and(|old| old.ifindex == link.ifindex);
        if !attached {
            outputs.push(Output::AttachUplink(
                link.ifindex,
                link.name.clone(),
                uplink.mode,
            ));
        }
        uplink.link = Some(link.clone());
        true
    }

    /// A device is gone, or has another name now.
    pub(super) fn remove_link(&mut self, ifindex: u32, outputs: &mut Vec<Output>) {
        for (name, uplink) in &mut self.by_name {
            if let Some(link) = uplink.link.take_if(|link| link.ifindex == ifindex) {
                tracing::warn!(uplink = %name, "uplink is gone, waiting for it");
                outputs.push(Output::DetachUplink(link.ifindex, name.clone()));
            }
        }
    }

    /// How an uplink is attached.
    pub(super) fn mode(&self, name: &IfName) -> Option<XdpMode> {
        self.by_name.get(name).map(|uplink| uplink.mode)
    }

    /// Uplinks whose device does not exist.
    pub(super) fn missing(&self) -> impl Iterator<Item = &IfName> {
        self.by_name
            .iter()
            .filter(|(_, uplink)| uplink.link.is_none())
            .map(|(name, _)| name)
    }

    /// Whether a device of this name is an uplink.
    pub(super) fn contains(&self, name: &IfName) -> bool {
        self.by_name.contains_key(name)
    }

    /// Number of uplinks.
    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// All uplinks, by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&IfName, &Uplink)> {
        self.by_name.iter()
    }
}

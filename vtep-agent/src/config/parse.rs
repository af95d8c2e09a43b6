//! From the shape of the file to its meaning.

use std::{path::Path, time::Duration};

use super::{
    AutoRt, AutoRtImport, BgpConfig, Config, ConfigError, Diagnostic, bds, diagnostic::Fault,
    dynamic, field, groups::Groups, peers, raw, underlay, vtep,
};

impl Config {
    /// Reads and checks a file, and the password files that it names. Beside the configuration come
    /// warnings: what is allowed and probably not meant.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or the first thing in it that is wrong.
    pub fn load(file: &Path) -> Result<(Self, Vec<Diagnostic>), ConfigError> {
        let text = std::fs::read_to_string(file).map_err(|cause| ConfigError::Read {
            file: file.to_owned(),
            cause,
        })?;
        Self::parse(&text, file).map_err(ConfigError::Invalid)
    }

    /// As [`Config::load`], from text. `file` is what messages name, and relative password files are
    /// looked for beside it.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong.
    pub fn parse(text: &str, file: &Path) -> Result<(Self, Vec<Diagnostic>), Diagnostic> {
        let mut warnings = Vec::new();
        let config = toml::from_str(text)
            .map_err(Fault::from)
            .and_then(|raw| resolve(&raw, file, &mut warnings))
            .map_err(|fault| fault.locate(file, text))?;
        let warnings = warnings
            .into_iter()
            .map(|warning| warning.locate(file, text))
            .collect();
        Ok((config, warnings))
    }
}

fn resolve(raw: &raw::File, file: &Path, warnings: &mut Vec<Fault>) -> Result<Config, Fault> {
    let vtep = vtep::vtep(&raw.vtep, warnings)?;
    let asn = field::asn(&raw.bgp.asn, "asn")?;
    let directory = file.parent().unwrap_or(Path::new(""));
    let listen = raw.bgp.listen.unwrap_or(true);
    let groups = Groups::read(&raw.bgp, directory)?;
    let peers = peers::peers(&raw.bgp, &groups, &vtep.addresses)?;
    let bgp = BgpConfig {
        asn,
        listen,
        auto_rt: raw.bgp.auto_rt.unwrap_or(AutoRt::As),
        auto_rt_import: raw.bgp.auto_rt_import.unwrap_or(AutoRtImport::AnyAs),
        arp_nd_flags: raw.bgp.arp_nd_flags.unwrap_or(true),
        selection_deferral: Duration::from_secs(field::number_or(
            &raw.bgp.selection_deferral,
            "selection_deferral",
            1..=3600,
            120,
        )?),
        dynamic: dynamic::dynamic(&raw.bgp.dynamic, &groups, listen, &peers)?,
        peers,
    };
    let underlay = underlay::underlay(raw.underlay.as_ref(), &vtep.addresses)?;
    if let Some(table) = &raw.underlay
        && !bgp.peers.iter().any(|peer| peer.families.unicast())
    {
        warnings.push(Fault::new(
            table.span(),
            "[underlay] does nothing: no peer has families = [\"ipv4\"] or [\"ipv6\"]",
        ));
    }
    let bds = bds::bds(&raw.bd, &vtep.uplinks, warnings)?;
    if u16::try_from(asn.0).is_err() && bds.iter().any(|bd| bd.rt_export.is_none()) {
        warnings.push(Fault::new(
            raw.bgp.asn.span(),
            format!(
                "AS {asn} does not fit into automatic route targets, which carry its lower 16 bits \
                 ({}); set rt_export if this matters",
                asn.0 as u16
            ),
        ));
    }
    Ok(Config {
        vtep,
        bgp,
        underlay,
        bds,
    })
}

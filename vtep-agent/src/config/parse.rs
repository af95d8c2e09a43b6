//! From the shape of the file to its meaning.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
    time::Duration,
};

use super::{
    AutoRt, AutoRtImport, BgpConfig, Config, ConfigError, Diagnostic, Source, bds,
    diagnostic::Fault, dynamic, field, groups::Groups, peers, raw, underlay, vtep,
};

/// Most octets of a configuration: a thousand times what a large host has.
const MAX_FILE: u64 = 64 << 20;

impl Source {
    /// As [`Config::load`], with what the command line says instead.
    ///
    /// # Errors
    ///
    /// Those of [`Config::load`].
    pub fn load(&self) -> Result<(Config, Vec<Diagnostic>), ConfigError> {
        let (mut config, warnings) = Config::load(&self.file)?;
        if let Some(socket) = &self.socket {
            config.vtep.socket.clone_from(socket);
        }
        Ok((config, warnings))
    }
}

impl Config {
    /// Reads and checks a file, and the password files that it names. Beside the configuration come
    /// warnings: what is allowed and probably not meant.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or the first thing in it that is wrong.
    pub fn load(file: &Path) -> Result<(Self, Vec<Diagnostic>), ConfigError> {
        let octets = read(file, MAX_FILE).map_err(|cause| ConfigError::Read {
            file: file.to_owned(),
            cause,
        })?;
        let text = String::from_utf8(octets).map_err(|error| {
            let end = error.utf8_error().valid_up_to();
            let before = String::from_utf8_lossy(&error.as_bytes()[..end]);
            let fault = Fault::new(end..end, "not UTF-8, expected a text file");
            ConfigError::Invalid(fault.locate(file, &before))
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

/// A whole file or pipe of at most `limit` octets: the name may be that of a device without an end.
pub(super) fn read(file: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    let length = File::open(file)?.take(limit + 1).read_to_end(&mut octets)?;
    if length as u64 > limit {
        return Err(io::Error::other(format!("more than {limit} bytes")));
    }
    Ok(octets)
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

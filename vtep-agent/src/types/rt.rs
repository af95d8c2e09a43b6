use std::{fmt, net::Ipv4Addr, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{Asn, Vni};

/// A route target (RFC 4360 §4, RFC 5668): an extended community of sub-type 2, eight octets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteTarget(pub [u8; 8]);

octets!(RouteTarget);

impl RouteTarget {
    /// Automatic, in the form that FRR, Cumulus and NX-OS use: the lower 16 bits of the AS, and the
    /// VNI.
    pub fn auto(asn: Asn, vni: Vni) -> Self {
        Self::two_octet_as(asn.0 as u16, vni.get())
    }

    /// Automatic after RFC 8365 §5.1.2.1: A = 0, type 1 (VXLAN), D-ID 0, and the VNI.
    pub fn auto_rfc8365(asn: Asn, vni: Vni) -> Self {
        Self::two_octet_as(asn.0 as u16, 0x1000_0000 | vni.get())
    }

    /// Two-octet AS specific.
    pub fn two_octet_as(asn: u16, number: u32) -> Self {
        let [a, b] = asn.to_be_bytes();
        let [c, d, e, f] = number.to_be_bytes();
        Self([0x00, 0x02, a, b, c, d, e, f])
    }

    /// The local administrator part: 32 bits of a two-octet AS target, 16 of the other kinds.
    pub fn local_admin(self) -> u32 {
        let [kind, _, _, _, c, d, e, f] = self.0;
        match kind {
            0x00 => u32::from_be_bytes([c, d, e, f]),
            _ => u32::from(u16::from_be_bytes([e, f])),
        }
    }
}

impl fmt::Display for RouteTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [kind, _, a, b, c, d, e, g] = self.0;
        match kind {
            0x00 => {
                write!(
                    f,
                    "{}:{}",
                    u16::from_be_bytes([a, b]),
                    u32::from_be_bytes([c, d, e, g])
                )
            }
            0x01 => write!(
                f,
                "{}:{}",
                Ipv4Addr::new(a, b, c, d),
                u16::from_be_bytes([e, g])
            ),
            0x02 => {
                write!(
                    f,
                    "{}:{}",
                    u32::from_be_bytes([a, b, c, d]),
                    u16::from_be_bytes([e, g])
                )
            }
            _ => {
                f.write_str("0x")?;
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

impl fmt::Debug for RouteTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for RouteTarget {
    type Err = &'static str;

    /// `AS:number` or `IPv4:number`; an AS above 65535 and an IPv4 address take a 16-bit number.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "not a route target (expected AS:n such as 65000:100, or IPv4:n)";
        let (admin, number) = text.rsplit_once(':').ok_or(EXPECTED)?;
        let number: u32 = number.parse().map_err(|_| EXPECTED)?;
        let (kind, admin) = if let Ok(address) = admin.parse::<Ipv4Addr>() {
            (0x01, address.octets())
        } else {
            let asn: u32 = admin.parse().map_err(|_| EXPECTED)?;
            match u16::try_from(asn) {
                Ok(asn) => return Ok(Self::two_octet_as(asn, number)),
                Err(_) => (0x02, asn.to_be_bytes()),
            }
        };
        let [a, b, c, d] = admin;
        let [e, f] = u16::try_from(number)
            .map_err(|_| "number above 65535")?
            .to_be_bytes();
        Ok(Self([kind, 0x02, a, b, c, d, e, f]))
    }
}

/// What a bridge domain imports.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ImportTarget {
    /// Just this target.
    Exact(RouteTarget),
    /// `*:number`: any administrator with this local part, so that fabrics with an AS per leaf need
    /// no configuration. Matches RFC 8365's automatic form of the same VNI as well.
    AnyAdmin(u32),
}

impl ImportTarget {
    /// Whether a route with `target` is imported.
    pub fn matches(self, target: RouteTarget) -> bool {
        match self {
            Self::Exact(exact) => exact == target,
            Self::AnyAdmin(number) => match target.0[0] {
                0x00 => {
                    let local = target.local_admin();
                    local == number || local == 0x1000_0000 | number
                }
                _ => target.local_admin() == number & 0xffff,
            },
        }
    }
}

impl fmt::Display for ImportTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(target) => target.fmt(f),
            Self::AnyAdmin(number) => write!(f, "*:{number}"),
        }
    }
}

impl fmt::Debug for ImportTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ImportTarget {
    type Err = &'static str;

    /// As [`RouteTarget`], or `*:number`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("*:") {
            Some(number) => number
                .parse()
                .map(Self::AnyAdmin)
                .map_err(|_| "not a route target (expected *:n, AS:n or IPv4:n)"),
            None => text.parse().map(Self::Exact),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ENC-007.
    #[test]
    fn automatic_targets() {
        let vni = Vni::new(10100).unwrap();
        let hex = |target: RouteTarget| target.0.map(|byte| format!("{byte:02x}")).concat();
        assert_eq!(hex(RouteTarget::auto(Asn(65001), vni)), "0002fde900002774");
        assert_eq!(
            hex(RouteTarget::auto_rfc8365(Asn(65001), vni)),
            "0002fde910002774"
        );
    }

    /// ENC-008.
    #[test]
    fn wildcard_import_takes_any_as_in_both_forms() {
        let vni = Vni::new(10100).unwrap();
        let import: ImportTarget = "*:10100".parse().unwrap();
        assert!(import.matches(RouteTarget::auto(Asn(65099), vni)));
        assert!(import.matches(RouteTarget::auto_rfc8365(Asn(65099), vni)));
        assert!(!import.matches("65099:10101".parse().unwrap()));
        let exact: ImportTarget = "65001:10100".parse().unwrap();
        assert!(!exact.matches(RouteTarget::auto(Asn(65099), vni)));
    }

    #[test]
    fn text_round_trip() {
        for text in ["65000:100", "198.18.0.1:7", "4200000001:9", "*:10100"] {
            assert_eq!(text.parse::<ImportTarget>().unwrap().to_string(), text);
        }
        assert!("198.18.0.1:65536".parse::<RouteTarget>().is_err());
    }
}

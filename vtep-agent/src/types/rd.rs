use std::{fmt, net::Ipv4Addr, str::FromStr};

/// A route distinguisher (RFC 4364 §4.2): eight octets, type first. Types other than 0 to 2 are kept
/// as an opaque key.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteDistinguisher(pub [u8; 8]);

octets!(RouteDistinguisher);

impl RouteDistinguisher {
    /// Type 1: IPv4 address and 16-bit number, the form for MAC-VRFs (RFC 7432 §7.9). The number is
    /// an index and no VNI, which would not fit.
    pub fn ipv4(address: Ipv4Addr, number: u16) -> Self {
        let [a, b, c, d] = address.octets();
        let [e, f] = number.to_be_bytes();
        Self([0, 1, a, b, c, d, e, f])
    }
}

impl fmt::Display for RouteDistinguisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [t0, t1, a, b, c, d, e, g] = self.0;
        match u16::from_be_bytes([t0, t1]) {
            0 => write!(
                f,
                "{}:{}",
                u16::from_be_bytes([a, b]),
                u32::from_be_bytes([c, d, e, g])
            ),
            1 => write!(
                f,
                "{}:{}",
                Ipv4Addr::new(a, b, c, d),
                u16::from_be_bytes([e, g])
            ),
            2 => write!(
                f,
                "{}:{}",
                u32::from_be_bytes([a, b, c, d]),
                u16::from_be_bytes([e, g])
            ),
            _ => {
                f.write_str("0x")?;
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

impl fmt::Debug for RouteDistinguisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for RouteDistinguisher {
    type Err = &'static str;

    /// `IPv4:number`, `AS:number`; an AS above 65535 gives type 2 with a 16-bit number.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str =
            "not a route distinguisher (expected IPv4:n, or AS:n such as 65000:100)";
        let (admin, number) = text.rsplit_once(':').ok_or(EXPECTED)?;
        let number: u32 = number.parse().map_err(|_| EXPECTED)?;
        if let Ok(address) = admin.parse::<Ipv4Addr>() {
            return Ok(Self::ipv4(
                address,
                number.try_into().map_err(|_| "number above 65535")?,
            ));
        }
        let asn: u32 = admin.parse().map_err(|_| EXPECTED)?;
        let mut bytes = [0; 8];
        if let Ok(asn) = u16::try_from(asn) {
            bytes[2..4].copy_from_slice(&asn.to_be_bytes());
            bytes[4..].copy_from_slice(&number.to_be_bytes());
        } else {
            let number = u16::try_from(number).map_err(|_| "number above 65535")?;
            bytes[1] = 2;
            bytes[2..6].copy_from_slice(&asn.to_be_bytes());
            bytes[6..].copy_from_slice(&number.to_be_bytes());
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trip() {
        for text in [
            "198.18.0.1:5",
            "65000:100",
            "65000:4294967295",
            "4200000001:7",
        ] {
            assert_eq!(
                text.parse::<RouteDistinguisher>().unwrap().to_string(),
                text
            );
        }
        for text in [
            "",
            "1",
            "198.18.0.1:65536",
            "4200000001:65536",
            "a:1",
            "1:-1",
        ] {
            assert!(text.parse::<RouteDistinguisher>().is_err(), "{text}");
        }
    }
}

use core::{fmt, str::FromStr};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// An IEEE 802 MAC address, bytes in wire order.
#[derive(
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(transparent)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// All zero: no address.
    pub const ZERO: Self = Self([0; 6]);
    /// `ff:ff:ff:ff:ff:ff`.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// The address as the low 48 bits of an integer whose *first* wire byte is the lowest, which is
    /// what two little-endian loads from a frame give without a byte swap.
    pub const fn to_bits(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
    }

    /// Inverse of [`Mac::to_bits`]; the upper 16 bits are ignored.
    pub const fn from_bits(bits: u64) -> Self {
        let [a, b, c, d, e, f, _, _] = bits.to_le_bytes();
        Self([a, b, c, d, e, f])
    }

    /// The group bit (IEEE 802.1Q §8.2): broadcast or multicast.
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// All zero.
    pub const fn is_zero(self) -> bool {
        self.to_bits() == 0
    }

    /// Can be the source of a frame: neither a group address nor zero.
    pub const fn is_station(self) -> bool {
        !self.is_group() && !self.is_zero()
    }

    /// A virtual router's (RFC 9568 §7.3): `00-00-5E-00-01-XX`, for IPv6 `00-00-5E-00-02-XX`.
    pub const fn is_vrrp(self) -> bool {
        matches!(self.0, [0x00, 0x00, 0x5e, 0x00, 0x01 | 0x02, _])
    }

    /// `01-80-C2-00-00-00` to `-0F`: link-local control, never bridged nor tunnelled (802.1Q §8.6.3).
    pub const fn is_link_local_control(self) -> bool {
        let [a, b, c, d, e, f] = self.0;
        a == 0x01 && b == 0x80 && c == 0xc2 && d == 0 && e == 0 && f <= 0x0f
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Mac {
    type Err = ParseMacError;

    /// Six groups of one or two hexadecimal digits, separated by `:` or `-`.
    fn from_str(text: &str) -> Result<Self, ParseMacError> {
        let mut bytes = [0; 6];
        let mut groups = text.split([':', '-']);
        for byte in &mut bytes {
            let group = groups.next().ok_or(ParseMacError)?;
            if group.is_empty() || group.len() > 2 || group.starts_with('+') {
                return Err(ParseMacError);
            }
            *byte = u8::from_str_radix(group, 16).map_err(|_| ParseMacError)?;
        }
        match groups.next() {
            None => Ok(Self(bytes)),
            Some(_) => Err(ParseMacError),
        }
    }
}

/// The text is not a MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseMacError;

impl fmt::Display for ParseMacError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a MAC address (expected six hexadecimal bytes such as 02:00:00:00:00:01)")
    }
}

impl core::error::Error for ParseMacError {}

/// Text for people, octets for programs, which alone read it back.
#[cfg(feature = "user")]
impl serde::Serialize for Mac {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match serializer.is_human_readable() {
            true => serializer.collect_str(self),
            false => self.0.serialize(serializer),
        }
    }
}

#[cfg(feature = "user")]
impl<'de> serde::Deserialize<'de> for Mac {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.is_human_readable() {
            true => deserializer.deserialize_str(Text),
            false => serde::Deserialize::deserialize(deserializer).map(Self),
        }
    }
}

/// Reads what [`fmt::Display`] writes.
#[cfg(feature = "user")]
struct Text;

#[cfg(feature = "user")]
impl serde::de::Visitor<'_> for Text {
    type Value = Mac;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a MAC address")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Mac, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn text_round_trip() {
        let mac: Mac = "02:00:00:AB:cd:1".parse().unwrap();
        assert_eq!(mac.to_string(), "02:00:00:ab:cd:01");
        assert_eq!("02-00-00-ab-cd-01".parse(), Ok(mac));
    }

    #[test]
    fn bad_text() {
        for text in [
            "",
            "02:00:00:00:00",
            "02:00:00:00:00:00:00",
            "02:00:00:00:00:0g",
            "020:0:0:0:0:0",
            "+2:0:0:0:0:0",
        ] {
            assert_eq!(text.parse::<Mac>(), Err(ParseMacError), "{text}");
        }
    }

    #[test]
    fn bits_put_the_first_wire_byte_lowest() {
        let mac = Mac([1, 2, 3, 4, 5, 6]);
        assert_eq!(mac.to_bits(), 0x0605_0403_0201);
        assert_eq!(Mac::from_bits(mac.to_bits() | 0xffff << 48), mac);
    }

    #[test]
    fn link_local_control_range() {
        assert!(Mac([0x01, 0x80, 0xc2, 0, 0, 0x0e]).is_link_local_control());
        assert!(!Mac([0x01, 0x80, 0xc2, 0, 0, 0x10]).is_link_local_control());
    }
}

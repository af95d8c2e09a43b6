//! AS_PATH and AS4_PATH (RFC 4271 §4.3, RFC 5065, RFC 6793).

use bytes::{BufMut, BytesMut};

use super::{AsPath, AsSegment, AttributeCode, Cause, Reader};
use crate::types::Asn;

const AS_PATH: AttributeCode = AttributeCode(2);

impl AsPath {
    /// Length for route selection: a set counts one, confederation segments nothing (RFC 4271
    /// §9.1.2.2, RFC 5065 §5.3).
    pub fn length(&self) -> usize {
        self.0
            .iter()
            .fold(0, |sum, segment| sum.saturating_add(segment.length()))
    }

    /// All AS numbers, in order.
    pub fn iter(&self) -> impl Iterator<Item = Asn> {
        self.0
            .iter()
            .flat_map(|segment| segment.asns().iter().copied())
    }

    /// The AS that sent the route on last: first of a leading sequence.
    pub fn first(&self) -> Option<Asn> {
        match self.0.first() {
            Some(AsSegment::Sequence(asns)) => asns.first().copied(),
            _ => None,
        }
    }

    pub(super) fn decode(value: &[u8], four_octet: bool) -> Result<Self, Cause> {
        let malformed = |_| Cause::Malformed(AS_PATH);
        let mut reader = Reader::new(value);
        let mut segments = Vec::new();
        while !reader.is_empty() {
            let kind = reader.u8().map_err(malformed)?;
            let count = reader.u8().map_err(malformed)?;
            let mut asns = Vec::new();
            for _ in 0..count {
                let asn = match four_octet {
                    true => reader.u32(),
                    false => reader.u16().map(u32::from),
                }
                .map_err(malformed)?;
                asns.push(Asn(asn));
            }
            let segment = match kind {
                _ if asns.is_empty() => return Err(Cause::Malformed(AS_PATH)),
                1 => AsSegment::Set(asns),
                2 => AsSegment::Sequence(asns),
                3 => AsSegment::ConfedSequence(asns),
                4 => AsSegment::ConfedSet(asns),
                _ => return Err(Cause::Malformed(AS_PATH)),
            };
            segments.push(segment);
        }
        let path = Self(segments);
        if path.iter().any(|asn| asn == Asn(0)) {
            return Err(Cause::AsZero(AS_PATH));
        }
        Ok(path)
    }

    pub(super) fn encode(&self, four_octet: bool, out: &mut BytesMut) {
        for segment in &self.0 {
            for asns in segment.asns().chunks(usize::from(u8::MAX)) {
                out.put_u8(segment.code());
                out.put_u8(u8::try_from(asns.len()).unwrap_or(u8::MAX));
                for asn in asns {
                    match four_octet {
                        true => out.put_u32(asn.0),
                        false => out.put_u16(asn.to_u16()),
                    }
                }
            }
        }
    }

    /// Some number doesn't fit into 16 bits, so that a two-octet peer needs AS4_PATH.
    pub(super) fn needs_as4(&self) -> bool {
        self.iter().any(|asn| asn.0 > u32::from(u16::MAX))
    }

    /// Without confederation segments, which AS4_PATH must not have (RFC 6793 §3).
    pub(super) fn without_confederations(&self) -> Self {
        let segments = self.0.iter().filter(|segment| !segment.is_confederation());
        Self(segments.cloned().collect())
    }

    /// The path that a two-octet peer's AS_PATH and AS4_PATH describe (RFC 6793 §4.2.3): what
    /// AS_PATH is longer by goes in front of AS4_PATH.
    pub(super) fn merge(self, as4: Self) -> Self {
        let as4 = as4.without_confederations();
        let Some(mut missing) = self.length().checked_sub(as4.length()) else {
            return self;
        };
        let mut segments = Vec::new();
        for segment in self.0 {
            let length = segment.length();
            match segment {
                // Confederation segments are leading by construction and count nothing.
                segment if segment.is_confederation() => segments.push(segment),
                _ if missing == 0 => break,
                AsSegment::Sequence(mut asns) => {
                    asns.truncate(missing);
                    segments.push(AsSegment::Sequence(asns));
                }
                segment => segments.push(segment),
            }
            missing = missing.saturating_sub(length);
        }
        // A sequence that the two attributes share becomes one again.
        let mut as4 = as4.0.into_iter().peekable();
        if let (Some(AsSegment::Sequence(head)), Some(AsSegment::Sequence(tail))) =
            (segments.last_mut(), as4.peek_mut())
            && head.len().saturating_add(tail.len()) <= usize::from(u8::MAX)
        {
            head.append(tail);
            as4.next();
        }
        segments.extend(as4);
        Self(segments)
    }
}

impl AsSegment {
    /// Its AS numbers.
    pub fn asns(&self) -> &[Asn] {
        match self {
            Self::Sequence(asns)
            | Self::Set(asns)
            | Self::ConfedSequence(asns)
            | Self::ConfedSet(asns) => asns,
        }
    }

    pub(super) fn is_set(&self) -> bool {
        matches!(self, Self::Set(_) | Self::ConfedSet(_))
    }

    pub(super) fn is_confederation(&self) -> bool {
        matches!(self, Self::ConfedSequence(_) | Self::ConfedSet(_))
    }

    fn length(&self) -> usize {
        match self {
            Self::Sequence(asns) => asns.len(),
            Self::Set(_) => 1,
            Self::ConfedSequence(_) | Self::ConfedSet(_) => 0,
        }
    }

    fn code(&self) -> u8 {
        match self {
            Self::Set(_) => 1,
            Self::Sequence(_) => 2,
            Self::ConfedSequence(_) => 3,
            Self::ConfedSet(_) => 4,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(asns: &[u32]) -> AsSegment {
        AsSegment::Sequence(asns.iter().copied().map(Asn).collect())
    }

    /// RFC 6793 §4.2.3.
    #[test]
    fn merge_prepends_what_as4_path_lacks() {
        let path = AsPath(vec![sequence(&[1, 23456, 3])]);
        let as4 = AsPath(vec![sequence(&[4_200_000_001, 3])]);
        let merged = AsPath(vec![sequence(&[1, 4_200_000_001, 3])]);
        assert_eq!(path.merge(as4), merged);
    }

    #[test]
    fn a_longer_as4_path_is_ignored() {
        let path = AsPath(vec![sequence(&[1])]);
        let as4 = AsPath(vec![sequence(&[2, 3])]);
        assert_eq!(path.clone().merge(as4), path);
    }

    #[test]
    fn a_set_counts_one_and_confederations_nothing() {
        let path = AsPath(vec![
            AsSegment::ConfedSequence(vec![Asn(64512)]),
            sequence(&[1, 2]),
            AsSegment::Set(vec![Asn(7), Asn(8)]),
        ]);
        assert_eq!(path.length(), 3);
        let as4 = AsPath(vec![
            sequence(&[70000]),
            AsSegment::Set(vec![Asn(7), Asn(80000)]),
        ]);
        let merged = AsPath(vec![
            AsSegment::ConfedSequence(vec![Asn(64512)]),
            sequence(&[1, 70000]),
            AsSegment::Set(vec![Asn(7), Asn(80000)]),
        ]);
        assert_eq!(path.merge(as4), merged);
    }

    /// More than 255 numbers need a second segment.
    #[test]
    fn long_sequences_are_split() {
        let long: Vec<u32> = (1..=300).collect();
        let mut out = BytesMut::new();
        AsPath(vec![sequence(&long)]).encode(true, &mut out);
        let read = AsPath::decode(&out, true).unwrap();
        assert_eq!(read.0.len(), 2);
        assert!(read.iter().eq(long.into_iter().map(Asn)));
    }
}

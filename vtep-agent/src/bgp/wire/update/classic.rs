//! The fields of an UPDATE outside its attributes: IPv4 unicast (RFC 4271 §4.3).

use bytes::Bytes;

use super::super::{
    Context, Family, Fault, Outcome, Reader, Route, RouteKey, nlri, prefix, reader::WrongLength,
};

/// What the two fields say; without routes when the session doesn't have the family.
pub(super) struct Classic {
    /// There was something in one of the fields,
    pub(super) present: bool,
    /// in the NLRI field.
    pub(super) announces: bool,
    pub(super) announced: Vec<Route>,
    pub(super) withdrawn: Vec<RouteKey>,
}

impl Classic {
    /// # Errors
    ///
    /// When a field can't be read to its end, also for a family of which nothing is kept: the routes
    /// that are lost can't be known (RFC 7606 §5.3).
    pub(super) fn decode(
        withdrawn: &[u8],
        announced: &[u8],
        context: &Context,
        faults: &mut Vec<Fault>,
    ) -> Result<Self, WrongLength> {
        let mut classic = Self {
            present: !withdrawn.is_empty() || !announced.is_empty(),
            announces: !announced.is_empty(),
            announced: Vec::new(),
            withdrawn: Vec::new(),
        };
        let wanted = context.families.ipv4;
        each(withdrawn, |route, _| {
            if wanted {
                classic.withdrawn.push(route.key());
            }
        })?;
        each(announced, |route, bytes| match nlri::validate(&route) {
            _ if !wanted => {}
            Ok(()) => classic.announced.push(route),
            Err(cause) => {
                classic.withdrawn.push(route.key());
                faults.push(Fault {
                    outcome: Outcome::TreatAsWithdraw,
                    cause,
                    bytes: Bytes::copy_from_slice(bytes),
                });
            }
        })?;
        Ok(classic)
    }
}

fn each(bytes: &[u8], mut each: impl FnMut(Route, &[u8])) -> Result<(), WrongLength> {
    let mut reader = Reader::new(bytes);
    while !reader.is_empty() {
        let mut start = reader;
        let route = Route::Unicast(prefix::decode(Family::IPV4_UNICAST, &mut reader)?);
        let length = start.len().saturating_sub(reader.len());
        each(route, start.take(length)?);
    }
    Ok(())
}

//! Options, one after the other.

use super::{Fault, word};

/// Options of a part of a DHCPv4 message (RFC 2132 §2): a code, a length, and so many bytes.
pub(super) struct V4<'a> {
    rest: &'a [u8],
    /// More was sent than is there.
    cut: bool,
}

impl<'a> V4<'a> {
    const PAD: u8 = 0;
    const END: u8 = 255;

    pub(super) fn new(part: &'a [u8], cut: bool) -> Self {
        Self { rest: part, cut }
    }

    /// The next option; `None` behind the last one. An end that is missing is none that matters.
    ///
    /// # Errors
    /// [`Fault::Cut`] when the next option is not there, or not all of it.
    pub(super) fn next(&mut self) -> Result<Option<(u8, &'a [u8])>, Fault> {
        while let [Self::PAD, rest @ ..] = self.rest {
            self.rest = rest;
        }
        match self.rest {
            [] if self.cut => Err(Fault::Cut),
            [] | [Self::END, ..] => Ok(None),
            [code, rest @ ..] => {
                let value = rest
                    .split_first()
                    .and_then(|(length, rest)| rest.split_at_checked((*length).into()));
                let (value, rest) = value.ok_or(self.fault())?;
                self.rest = rest;
                Ok(Some((*code, value)))
            }
        }
    }

    fn fault(&self) -> Fault {
        if self.cut {
            Fault::Cut
        } else {
            Fault::Malformed
        }
    }
}

/// Options of DHCPv6 (RFC 8415 §21.1): two bytes each of code and length, and so many bytes.
pub(super) struct V6<'a>(&'a [u8]);

impl<'a> V6<'a> {
    pub(super) fn new(options: &'a [u8]) -> Self {
        Self(options)
    }

    /// The next option; `None` behind the last one.
    pub(super) fn next(&mut self) -> Result<Option<(usize, &'a [u8])>, Fault> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let (code, length) = (word(self.0, 0)?, word(self.0, 2)?);
        let rest = self.0.get(4..).ok_or(Fault::Malformed)?;
        let (value, rest) = rest.split_at_checked(length).ok_or(Fault::Malformed)?;
        self.0 = rest;
        Ok(Some((code, value)))
    }
}

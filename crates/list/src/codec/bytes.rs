//! Integers as variable-length bytes, and a reader that trusts nothing.

use crate::error::{Error, Result};

#[allow(unreachable_pub, reason = "named by the sealed trait `Content`")]
#[derive(Default)]
pub struct Writer {
    pub(crate) bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn byte(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    /// Seven bits a byte, lowest first, as in LEB128.
    #[inline]
    pub(crate) fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }

    /// A number that may be negative: small ones of either sign are short.
    #[inline]
    pub(crate) fn signed(&mut self, number: i64) {
        self.number(((number << 1) ^ (number >> 63)) as u64);
    }

    pub(crate) fn slice(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
    }
}

pub(crate) struct Reader<'a> {
    what: &'static str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, bytes, at: 0 }
    }

    pub(crate) fn damaged(&self, problem: &'static str) -> Error {
        Error::Damaged {
            what: self.what,
            offset: self.at,
            problem,
        }
    }

    pub(crate) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(crate) fn byte(&mut self) -> Result<u8> {
        let byte = *self
            .bytes
            .get(self.at)
            .ok_or_else(|| self.damaged("it ends early"))?;
        self.at += 1;
        Ok(byte)
    }

    #[inline]
    pub(crate) fn number(&mut self) -> Result<u64> {
        if let Some(&byte) = self.bytes.get(self.at)
            && byte < 0x80
        {
            self.at += 1;
            return Ok(u64::from(byte));
        }
        self.long_number()
    }

    fn long_number(&mut self) -> Result<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(self.damaged("a number is too large"));
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(self.damaged("a number is too long"))
    }

    #[inline]
    pub(crate) fn signed(&mut self) -> Result<i64> {
        let number = self.number()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    pub(crate) fn small(&mut self) -> Result<u32> {
        u32::try_from(self.number()?).map_err(|_| self.damaged("a number is too large"))
    }

    /// How many things follow, of which each takes at least a byte: no more than there are bytes.
    pub(crate) fn count(&mut self) -> Result<usize> {
        let count = self.number()?;
        if count > self.left() as u64 {
            return Err(self.damaged("it announces more than it holds"));
        }
        Ok(count as usize)
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let end = self
            .at
            .checked_add(len)
            .filter(|&end| end <= self.bytes.len());
        let end = end.ok_or_else(|| self.damaged("it ends early"))?;
        let bytes = &self.bytes[self.at..end];
        self.at = end;
        Ok(bytes)
    }

    pub(crate) fn slice(&mut self) -> Result<&'a [u8]> {
        let len = self.count()?;
        self.take(len)
    }

    pub(crate) fn end(&self) -> Result<()> {
        if self.left() > 0 {
            return Err(self.damaged("something follows its end"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_come_back(numbers in prop::collection::vec(any::<i64>(), 0..50)) {
            let mut writer = Writer::default();
            for &number in &numbers {
                writer.signed(number);
                writer.number(number as u64);
            }
            let mut reader = Reader::new("test", &writer.bytes);
            for &number in &numbers {
                prop_assert_eq!(reader.signed().unwrap_or_default(), number);
                prop_assert_eq!(reader.number().unwrap_or_default(), number as u64);
            }
            prop_assert!(reader.end().is_ok());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut reader = Reader::new("test", &bytes);
            while reader.number().is_ok() {}
            let mut reader = Reader::new("test", &bytes);
            while reader.slice().is_ok_and(|slice| !slice.is_empty()) {}
        }
    }
}

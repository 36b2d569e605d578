//! Names of ledgers and ids of documents.

use crate::error::{Error, Result};
use crate::reading::MAX_ID_BYTES;

/// Refuses what is no name for a ledger.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let fine = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > 100 || name.starts_with('.') || !name.chars().all(fine) {
        return Err(Error::invalid(format!(
            "{name:?} is no name for a ledger: take 1 to 100 of a-z, A-Z, 0-9, '-', '_' and '.', not starting with '.'"
        )));
    }
    Ok(())
}

/// Refuses what is no id for a document.
pub(crate) fn check_id(id: &str) -> Result<()> {
    if id.is_empty() {
        return Err(Error::invalid("an empty id cannot be deleted"));
    }
    if id.len() > MAX_ID_BYTES {
        return Err(Error::TooLarge {
            what: "bytes of an id",
            size: id.len() as u64,
            limit: MAX_ID_BYTES as u64,
        });
    }
    Ok(())
}

/// A UUID of version 7 (RFC 9562, section 5.7) from milliseconds and 74 random bits.
pub(crate) fn uuid_v7(ms: u64, one: u64, two: u64) -> String {
    let high = (ms << 16) | 0x7000 | (one & 0x0fff);
    let low = (two & 0x3fff_ffff_ffff_ffff) | 0x8000_0000_0000_0000;
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff
    )
}

#[cfg(test)]
mod tests {
    use super::uuid_v7;

    #[test]
    fn a_new_id_is_a_uuid_of_version_7_in_the_order_of_time() {
        let id = uuid_v7(0x0198_0000_0001, u64::MAX, 5);
        assert_eq!(id, "01980000-0001-7fff-8000-000000000005");
        assert!(id < uuid_v7(0x0198_0000_0002, 0, 0));
    }
}

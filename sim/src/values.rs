//! The bytes of keys, values and operands, each a function of a number.

/// A key, by number.
pub(crate) type Key = u16;

/// Keys of a keyspace.
pub(crate) const KEYS: Key = 120;

/// The bytes of a key: of different lengths, with bytes that are awkward to order.
pub(crate) fn key_bytes(key: Key) -> Vec<u8> {
    let mut bytes = vec![b'k'];
    bytes.extend_from_slice(&(key / 3).to_be_bytes());
    bytes.extend(std::iter::repeat_n(
        [0x00, 0x61, 0xff][usize::from(key % 3)],
        usize::from(key % 3),
    ));
    bytes
}

/// The value that write number `nonce` gives to `key`.
pub(crate) fn value_bytes(key: Key, nonce: u64) -> Vec<u8> {
    let mixed = (nonce ^ u64::from(key) << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let len = match mixed >> 60 {
        0 => 0,
        1..=13 => mixed >> 32 & 0x3f,
        _ => mixed >> 32 & 0x3ff,
    };
    let mut bytes = nonce.to_be_bytes().to_vec();
    bytes.resize(8 + len as usize, (mixed >> 16) as u8);
    if mixed >> 60 == 0 && nonce.is_multiple_of(7) {
        bytes.clear();
    }
    bytes
}

/// What write number `nonce` appends.
pub(crate) fn operand_bytes(nonce: u64) -> Vec<u8> {
    let mut bytes = vec![b'+'];
    bytes.extend_from_slice(&nonce.to_be_bytes()[4..]);
    bytes
}

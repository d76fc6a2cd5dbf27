//! The names of Prometheus' blocks: 48 bits of time and 80 of chance, in 26 digits of Crockford's base 32.

const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A name for a block made at a time; `chance` tells those of the same millisecond apart.
pub(super) fn ulid(now_ms: i64, chance: u128) -> String {
    let n = (u128::from(now_ms.max(0).unsigned_abs()) << 80) | (chance & ((1 << 80) - 1));
    (0..26).rev().map(|digit| char::from(DIGITS[(n >> (5 * digit)) as usize & 31])).collect()
}

/// Whether a folder may be a block.
pub(super) fn is_ulid(name: &str) -> bool {
    name.len() == 26
        && name.starts_with(|first| ('0'..='7').contains(&first))
        && name.bytes().all(|b| DIGITS.contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_others_make() {
        // The example of the specification has the time 1469922850259.
        assert!(ulid(1_469_922_850_259, 0).starts_with("01ARZ3NDEK"));
        assert_eq!(ulid(0, 33), "00000000000000000000000011");
        assert_eq!(ulid(1, (1 << 80) - 1), "0000000001ZZZZZZZZZZZZZZZZ");
        assert!(is_ulid(&ulid(1_790_000_000_000, 12_345)));
        for other in [
            "wal",
            "01ARZ3NDEKTSV4RRFFQ69G5FAV.tmp-for-deletion",
            "81ARZ3NDEKTSV4RRFFQ69G5FAV",
            "01ARZ3NDEKTSV4RRFFQ69G5FAU",
        ] {
            assert!(!is_ulid(other), "{other}");
        }
    }
}

//! The work itself.

use std::io::Read as _;

use super::*;

fn unpack(coding: Coding, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match coding {
        Coding::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).expect("gzip"),
        Coding::Zstd => zstd::Decoder::new(bytes).expect("a decoder").read_to_end(&mut out).expect("Zstandard"),
    };
    out
}

#[test]
fn work_that_was_cancelled_ends_and_what_does_not_fit_is_not_compressed() {
    // What does not get smaller, so that some of it is there after each piece.
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    let plain: Vec<u8> = (0..3 * PIECE).map(|_| next()).collect();
    let memory = Budget::default();
    for coding in [Coding::Gzip, Coding::Zstd] {
        let cancel = Cancel::with(memory.claim());
        let packed = pack(coding, &plain, &cancel, &memory).expect("packed");
        drop(cancel);
        assert_eq!((unpack(coding, &packed) == plain, memory.held()), (true, packed.len()));
        drop(packed);
        assert_eq!(memory.held(), 0, "given back");
        let cancel = Cancel::with(memory.claim());
        cancel.cancel();
        assert_eq!(pack(coding, &plain, &cancel, &memory), None);
        let little = Budget::new("queries", 64);
        assert_eq!(pack(coding, &plain, &Cancel::with(little.claim()), &little), None);
        assert_eq!(little.held(), 0);
    }
}

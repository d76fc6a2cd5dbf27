//! What is read of a block to open it.

use std::io;

use super::FOOTER;
use crate::disk::Input;

/// Size of the top of the index and the footer, which lie at the end of a block: who reads these bytes at once opens it by one read of its end. What is no
/// block has as many as a footer has, or all of its bytes; whether it is one is not looked at.
pub fn tail_bytes(block: &dyn Input) -> io::Result<u64> {
    let bytes = block.bytes();
    let Some(footer_at) = bytes.checked_sub(FOOTER as u64) else { return Ok(bytes) };
    let mut top_at = [0; 8];
    block.read_exact_at(&mut top_at, footer_at + 8)?;
    let top_at = u64::from_le_bytes(top_at);
    Ok(bytes - top_at.min(footer_at))
}

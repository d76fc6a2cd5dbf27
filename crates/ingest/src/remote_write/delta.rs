//! The canonical text of a series, made from its difference to the series before it.
//!
//! Series of one request mostly come target by target, so that one differs from the one before in two or three labels of a dozen. What
//! is the same on the wire is the same in the canonical text, and was checked before: only labels that differ are read. This holds for
//! labels in order, in the form in which every encoder writes them, with names and values of 1 to 127 bytes; everything else is left
//! to the reader that takes any form. The price is that a series can be read in two ways, which a property test holds equal.

use model::LabelsRef;

/// Bytes before a label's name on the wire: tag and length of the label, tag and length of the name.
const NAME_AT: usize = 4;
/// Tag of a label in its series, and of a name in its label.
const LABEL: u8 = 1 << 3 | 2;
/// Tag of a value in its label.
const VALUE: u8 = 2 << 3 | 2;

/// The labels of the series before, on the wire and as canonical text.
#[derive(Debug, Default)]
pub(super) struct Delta<'a> {
    wire: &'a [u8],
    ends: Vec<End>,
    text: String,
    next_ends: Vec<End>,
    next_text: String,
}

/// Where a label ends.
#[derive(Debug, Clone, Copy, Default)]
struct End {
    wire: usize,
    text: usize,
}

impl<'a> Delta<'a> {
    /// The labels that were read last.
    pub(super) fn labels(&self) -> LabelsRef<'_> {
        LabelsRef::from_canonical(&self.text)
    }

    /// Reads the labels at the beginning of a series, and returns where they end; `None` where they are not in the usual form.
    pub(super) fn read(&mut self, message: &'a [u8]) -> Option<usize> {
        let end = self.follow(message);
        if end.is_none() {
            self.next_ends.clear();
            self.next_text.clear();
        }
        std::mem::swap(&mut self.ends, &mut self.next_ends);
        std::mem::swap(&mut self.text, &mut self.next_text);
        self.wire = &message[..end.unwrap_or(0)];
        end
    }

    fn follow(&mut self, message: &'a [u8]) -> Option<usize> {
        let (wire, ends) = (self.wire, self.ends.as_slice());
        let (next_ends, next_text) = (&mut self.next_ends, &mut self.next_text);
        next_ends.clear();
        next_text.clear();
        // The label of the series before that comes next, where it begins, and the place in the message.
        let (mut at, mut old, mut new) = (0, End::default(), 0);
        let mut last: &[u8] = &[];
        // Whether the label before this one has the name of the one before it then: names that ascended still do.
        let mut in_step = true;
        loop {
            // Labels that are the same.
            let same = old.wire + common_prefix(&wire[old.wire..], &message[new..]);
            let count = ends[at..].iter().take_while(|end| end.wire <= same).count();
            if count > 0 {
                if !in_step && name_at(wire, old.wire) <= last {
                    return None;
                }
                let run = &ends[at..at + count];
                let (start, end, text) = (new, run[count - 1], next_text.len());
                next_ends.extend(
                    run.iter().map(|end| End { wire: end.wire - old.wire + start, text: end.text - old.text + text }),
                );
                next_text.push_str(&self.text[old.text..end.text]);
                new += end.wire - old.wire;
                last = name_at(wire, ends[..at + count - 1].last().map_or(0, |end| end.wire));
                (at, old, in_step) = (at + count, end, true);
            }
            // One that is not.
            if message.get(new) != Some(&LABEL) {
                return (!next_ends.is_empty()).then_some(new);
            }
            let (name, value, end) = read_label(message, new)?;
            let same_name = ends.get(at).filter(|_| name_at(wire, old.wire) == name.as_bytes()).copied();
            if !(in_step && same_name.is_some()) && name.as_bytes() <= last {
                return None;
            }
            push_piece(next_text, name);
            push_piece(next_text, value);
            next_ends.push(End { wire: end, text: next_text.len() });
            (last, new) = (name.as_bytes(), end);
            in_step = same_name.is_some();
            if let Some(end) = same_name {
                (at, old) = (at + 1, end);
                continue;
            }
            while let Some(end) = ends.get(at).filter(|_| name_at(wire, old.wire) <= last) {
                (at, old) = (at + 1, *end);
            }
        }
    }
}

/// The name of the label that begins there, which was read before.
fn name_at(wire: &[u8], at: usize) -> &[u8] {
    let length = usize::from(wire[at + NAME_AT - 1]);
    &wire[at + NAME_AT..at + NAME_AT + length]
}

/// Name and value of the label that begins there, and where it ends.
#[inline]
fn read_label(message: &[u8], at: usize) -> Option<(&str, &str, usize)> {
    let &[_, length, LABEL, name, ..] = message.get(at..)? else { return None };
    let (end, name) = (at + 2 + usize::from(length), usize::from(name));
    let content = message.get(at + NAME_AT..end)?;
    let &[VALUE, value, ..] = content.get(name..)? else { return None };
    let value = usize::from(value);
    if name == 0 || value == 0 || length >= 0x80 || name + 2 + value != content.len() {
        return None;
    }
    // Tag and length between name and value are ASCII: one check covers both.
    let text = std::str::from_utf8(content).ok()?;
    Some((text.get(..name)?, text.get(name + 2..)?, end))
}

/// As `model::labels` writes it: length in base 64, least digit first, and the text. Both have less than 128 bytes.
#[inline]
fn push_piece(text: &mut String, piece: &str) {
    let length = piece.len() as u8;
    if length >= 64 {
        text.push(char::from(length & 63 | 64));
        text.push(char::from(length >> 6));
    } else {
        text.push(char::from(length));
    }
    text.push_str(piece);
}

/// Number of bytes that both begin with.
#[inline]
fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let mut at = 0;
    // Arrays and not slices, so that the comparison needs no call.
    for (a, b) in a.as_chunks::<32>().0.iter().zip(b.as_chunks::<32>().0) {
        if a != b {
            break;
        }
        at += 32;
    }
    for (a, b) in a[at..].as_chunks::<8>().0.iter().zip(b[at..].as_chunks::<8>().0) {
        let differ = u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
        if differ != 0 {
            return at + (differ.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    at + a[at..].iter().zip(&b[at..]).take_while(|(a, b)| a == b).count()
}

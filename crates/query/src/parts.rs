//! Texts that are written in parts, so that an answer need not be in memory as a whole.
//!
//! A part is a series' head, some of its samples, an element of a list or a line. Whoever writes says how many bytes are enough for now, which a part exceeds by
//! what one of these takes. The price is what has to be remembered between two parts; what is written is the same, byte by byte.

/// Something that is written in parts.
pub(crate) trait Parts: Send + 'static {
    /// Appends to `out` until it has at least so many bytes, or everything is written, which is what it tells.
    fn write(&mut self, out: &mut Vec<u8>, enough: usize) -> bool;
}

/// A list in brackets, each element written by a function.
pub(crate) struct List<I, F> {
    items: I,
    write: F,
    is_begun: bool,
}

impl<I: Iterator, F: FnMut(&mut Vec<u8>, I::Item)> List<I, F> {
    pub(crate) fn new(items: impl IntoIterator<IntoIter = I>, write: F) -> Self {
        List { items: items.into_iter(), write, is_begun: false }
    }
}

impl<I, F> Parts for List<I, F>
where
    I: Iterator + Send + 'static,
    F: FnMut(&mut Vec<u8>, I::Item) + Send + 'static,
{
    fn write(&mut self, out: &mut Vec<u8>, enough: usize) -> bool {
        while out.len() < enough {
            let Some(item) = self.items.next() else {
                out.extend_from_slice(if self.is_begun { b"]" } else { b"[]" });
                return true;
            };
            out.push(if self.is_begun { b',' } else { b'[' });
            self.is_begun = true;
            (self.write)(out, item);
        }
        false
    }
}

/// Lines, each written by a function as a whole.
pub(crate) struct Lines<I, F> {
    items: I,
    write: F,
}

impl<I: Iterator, F: FnMut(&mut Vec<u8>, I::Item)> Lines<I, F> {
    pub(crate) fn new(items: impl IntoIterator<IntoIter = I>, write: F) -> Self {
        Lines { items: items.into_iter(), write }
    }
}

impl<I, F> Parts for Lines<I, F>
where
    I: Iterator + Send + 'static,
    F: FnMut(&mut Vec<u8>, I::Item) + Send + 'static,
{
    fn write(&mut self, out: &mut Vec<u8>, enough: usize) -> bool {
        while out.len() < enough {
            let Some(item) = self.items.next() else { return true };
            (self.write)(out, item);
        }
        false
    }
}

/// What is written in parts, between what is at hand.
pub(crate) struct Text {
    before: Vec<u8>,
    parts: Box<dyn Parts>,
    after: Vec<u8>,
    /// How many bytes it takes, about.
    size: usize,
}

impl Text {
    /// `size` is how many bytes the parts take, about, and rather more.
    pub(crate) fn new(before: Vec<u8>, parts: impl Parts, after: Vec<u8>, size: usize) -> Self {
        let size = size.saturating_add(before.len() + after.len());
        Text { before, parts: Box::new(parts), after, size }
    }

    /// How many bytes it takes, about, and rather more.
    pub(crate) fn size(&self) -> usize {
        self.size
    }
}

impl Parts for Text {
    fn write(&mut self, out: &mut Vec<u8>, enough: usize) -> bool {
        out.append(&mut self.before);
        let is_whole = self.parts.write(out, enough);
        if is_whole {
            out.append(&mut self.after);
        }
        is_whole
    }
}

impl Parts for Box<dyn Parts> {
    fn write(&mut self, out: &mut Vec<u8>, enough: usize) -> bool {
        (**self).write(out, enough)
    }
}

/// What is at hand as a whole.
impl Parts for Vec<u8> {
    fn write(&mut self, out: &mut Vec<u8>, _: usize) -> bool {
        out.append(self);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(out: &mut Vec<u8>, n: u32) {
        out.extend_from_slice(n.to_string().as_bytes());
    }

    /// All of it, in pieces of at least so many bytes.
    fn pieces(mut parts: impl Parts, enough: usize) -> Vec<String> {
        let mut pieces = Vec::new();
        loop {
            let mut out = Vec::new();
            let is_whole = parts.write(&mut out, enough);
            assert!(is_whole || out.len() >= enough, "less than enough, and not all");
            pieces.push(String::from_utf8(out).expect("text"));
            if is_whole {
                return pieces;
            }
        }
    }

    #[test]
    fn a_list_is_cut_between_its_elements_and_nowhere_else() {
        assert_eq!(pieces(List::new(0..5, number), 4), ["[0,1", ",2,3", ",4]"]);
        assert_eq!(pieces(List::new(0..2, number), 100), ["[0,1]"]);
        assert_eq!(pieces(List::new(0..0, number), 1), ["[]"]);
        assert_eq!(pieces(List::new(7..8, number), 1), ["[7", "]"]);
    }

    #[test]
    fn what_stands_around_is_written_once_and_with_what_it_stands_around() {
        let text = || Text::new(b"{a:".to_vec(), List::new(0..3, number), b"}".to_vec(), 10);
        assert_eq!((text().size(), pieces(text(), 5)), (14, vec!["{a:[0".to_owned(), ",1,2]}".to_owned()]));
        assert_eq!(pieces(Text::new(b"<".to_vec(), b"whole".to_vec(), b">".to_vec(), 5), 1), ["<whole>"]);
        assert_eq!(pieces(Lines::new(0..4, number), 2), ["01", "23", ""]);
    }
}

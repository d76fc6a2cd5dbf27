//! Label work of the evaluator: keys by which series group and match. A key is the canonical text of the labels that
//! are kept, so it is the label set of the result at the same time.

use std::collections::HashMap;

use model::{Labels, LabelsRef, METRIC_NAME, piece_text};

use crate::lexer::is_plain_name;
use crate::printer::quote;

/// Whether a label describes the metric itself, and goes when an operation makes another metric of it.
pub(super) fn is_metadata(name: &str) -> bool {
    matches!(name, METRIC_NAME | "__type__" | "__unit__")
}

/// The labels that describe the metric itself, in the order of their names. Looks no further than where the last of them would be.
pub(super) fn metadata(labels: &Labels) -> impl Iterator<Item = (&str, &str)> {
    labels.iter().take_while(|(name, _)| *name <= "__unit__").filter(|(name, _)| is_metadata(name))
}

/// Labels as Prometheus' errors show them, the name of the metric among them.
pub(super) fn shown(labels: &Labels) -> String {
    let name = |name: &str| if is_plain_name(name, false) { name.to_owned() } else { quote(name) };
    let all: Vec<String> = labels.iter().map(|(own, value)| format!("{}={}", name(own), quote(value))).collect();
    format!("{{{}}}", all.join(", "))
}

/// Which labels make up a key.
#[derive(Debug, Clone)]
pub(super) struct Key {
    keep: bool,
    names: Vec<String>,
}

impl Key {
    /// Of the labels named.
    pub(super) fn of(names: &[String]) -> Self {
        Key { keep: true, names: names.to_vec() }
    }

    /// Of all labels but those named and those that describe the metric itself.
    pub(super) fn without(names: &[String]) -> Self {
        let of_metric = [METRIC_NAME, "__type__", "__unit__"].map(str::to_owned);
        let names = names.iter().cloned().chain(of_metric).collect();
        Key { keep: false, names }
    }

    /// Of all labels but one; the metric's name stays.
    pub(super) fn without_only(name: &str) -> Self {
        Key { keep: false, names: vec![name.to_owned()] }
    }

    /// Writes the key of a series.
    pub(super) fn write(&self, labels: LabelsRef<'_>, out: &mut String) {
        out.clear();
        if self.keep && self.names.is_empty() {
            return;
        }
        let mut pieces = labels.pieces();
        while let (Some(name), Some(value)) = (pieces.next(), pieces.next()) {
            let named = self.names.iter().any(|n| n == piece_text(name));
            if named == self.keep {
                out.push_str(name);
                out.push_str(value);
            }
        }
    }

    /// The labels of the key of a series.
    pub(super) fn labels(&self, labels: LabelsRef<'_>) -> Labels {
        let mut text = String::new();
        self.write(labels, &mut text);
        LabelsRef::from_canonical(&text).to_labels()
    }
}

/// Numbers keys in the order in which they come.
#[derive(Debug, Default)]
pub(super) struct Numbering {
    numbers: HashMap<String, usize>,
    text: String,
    /// The key before, and its number: series of a group are often side by side.
    last: (String, usize),
}

impl Numbering {
    /// The number of the key of a series.
    pub(super) fn number(&mut self, key: &Key, labels: LabelsRef<'_>) -> usize {
        key.write(labels, &mut self.text);
        let Numbering { numbers, text, last } = self;
        if !numbers.is_empty() && *text == last.0 {
            return last.1;
        }
        let next = numbers.len();
        let number = match numbers.get(text.as_str()) {
            Some(number) => *number,
            None => *numbers.entry(text.clone()).or_insert(next),
        };
        last.0.clone_from(text);
        last.1 = number;
        number
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::new(pairs).expect("valid")
    }

    #[test]
    fn keys_have_their_numbers_in_whatever_order_they_come() {
        let key = Key::of(&["job".to_owned()]);
        let mut numbering = Numbering::default();
        let mut number = |job: &str| numbering.number(&key, labels(&[("__name__", "up"), ("job", job)]).as_ref());
        // The first key is the empty one, as is what no key was before.
        assert_eq!(["", "a", "a", "b", "a", "", "", "b", "c"].map(&mut number), [0, 1, 1, 2, 1, 0, 0, 2, 3]);
        assert_eq!(numbering.len(), 4);
    }

    #[test]
    fn what_describes_the_metric_is_found_among_its_neighbours() {
        let all = labels(&[
            ("A", "0"),
            ("__name__", "up"),
            ("__o", "x"),
            ("__type__", "gauge"),
            ("__unit__", "s"),
            ("__v", "x"),
            ("job", "a"),
        ]);
        let found: Vec<_> = metadata(&all).collect();
        assert_eq!(found, [("__name__", "up"), ("__type__", "gauge"), ("__unit__", "s")]);
        assert_eq!(metadata(&labels(&[("A", "0"), ("job", "a")])).count(), 0);
    }
}

//! Label work of the evaluator: keys by which series group and match. A key is the canonical text of the labels that
//! are kept, so it is the label set of the result at the same time.

use std::collections::HashMap;

use model::{Labels, LabelsRef, METRIC_NAME, piece_text};

/// Whether a label describes the metric itself, and goes when an operation makes another metric of it.
pub(super) fn is_metadata(name: &str) -> bool {
    matches!(name, METRIC_NAME | "__type__" | "__unit__")
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

    /// Of all labels but those named and the metric's name.
    pub(super) fn without(names: &[String]) -> Self {
        let names = names.iter().cloned().chain([METRIC_NAME.to_owned()]).collect();
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
}

impl Numbering {
    /// The number of the key of a series.
    pub(super) fn number(&mut self, key: &Key, labels: LabelsRef<'_>) -> usize {
        key.write(labels, &mut self.text);
        if let Some(number) = self.numbers.get(self.text.as_str()) {
            return *number;
        }
        let next = self.numbers.len();
        self.numbers.insert(self.text.clone(), next);
        next
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }
}

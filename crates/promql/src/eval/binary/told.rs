//! What is told of pairs of values that do not go together: of each step the last one, as Prometheus does.

use crate::ast::Span;
use crate::eval::Context;

/// What is wrong with a pair, or odd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Note {
    Info(String),
    Warning(String),
}

/// The last note of each step. Pairs have a number each, and an order, in which Prometheus looks at them; here they come in any.
#[derive(Debug, Default)]
pub(super) struct Told {
    last: Vec<Option<(usize, Note)>>,
}

impl Told {
    /// Keeps the note of a pair, unless that of a later one is there, of which `is_before` says whether it is before this.
    pub(super) fn tell(&mut self, step: usize, pair: usize, note: Note, is_before: impl Fn(usize) -> bool) {
        if self.last.len() <= step {
            self.last.resize(step + 1, None);
        }
        let slot = &mut self.last[step];
        if slot.as_ref().is_none_or(|(other, _)| is_before(*other)) {
            *slot = Some((pair, note));
        }
    }

    /// Tells what was kept.
    pub(super) fn finish(self, context: &Context, span: Span) {
        for (_, note) in self.last.into_iter().flatten() {
            match note {
                Note::Info(text) => context.notes.inform(text, span),
                Note::Warning(text) => context.notes.warn(text, span),
            }
        }
    }
}

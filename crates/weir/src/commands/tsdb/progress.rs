//! How far something is: one line that is written over on a terminal, and a line each tenth elsewhere.

use std::io::{IsTerminal as _, Write as _};

/// Cells of the bar.
const CELLS: u64 = 30;

/// Tells how far something is, on standard error.
pub(super) struct Bar {
    is_terminal: bool,
    /// What was told last: percent on a terminal, tens of percent elsewhere.
    told: Option<u64>,
}

impl Bar {
    pub(super) fn new() -> Self {
        Bar { is_terminal: std::io::stderr().is_terminal(), told: None }
    }

    /// Tells it if that is worth a line. Where standard error is closed there is nobody to tell.
    pub(super) fn show(&mut self, done: u64, all: u64, detail: &str) {
        let percent = percent(done, all);
        let step = if self.is_terminal { percent } else { percent / 10 };
        // Whatever else changes on a terminal is worth it too: it costs no line.
        if self.told == Some(step) && !self.is_terminal {
            return;
        }
        self.told = Some(step);
        let mut error = std::io::stderr();
        let _ = if self.is_terminal {
            write!(error, "\r{} {percent:>3} %  {detail}\x1b[K", bar(percent)).and_then(|()| error.flush())
        } else {
            writeln!(error, "{percent} %  {detail}")
        };
    }

    /// Leaves the line.
    pub(super) fn end(&self) {
        if self.is_terminal && self.told.is_some() {
            let _ = writeln!(std::io::stderr());
        }
    }
}

fn percent(done: u64, all: u64) -> u64 {
    (u128::from(done) * 100).checked_div(u128::from(all)).map_or(100, |percent| percent.min(100) as u64)
}

fn bar(percent: u64) -> String {
    let full = percent * CELLS / 100;
    format!("[{}{}]", "=".repeat(full as usize), " ".repeat((CELLS - full) as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_is_as_full_as_the_work_is_done() {
        assert_eq!(bar(percent(0, 9)), format!("[{}]", " ".repeat(30)));
        assert_eq!(bar(percent(5, 10)), format!("[{}{}]", "=".repeat(15), " ".repeat(15)));
        assert_eq!(bar(percent(12, 10)), format!("[{}]", "=".repeat(30)));
        assert_eq!(percent(0, 0), 100, "nothing to do is done");
        assert_eq!(percent(u64::MAX, u64::MAX), 100);
    }
}

//! Which error of a join is told: that of the earliest step, as Prometheus tells it, which goes from step to step. The join itself goes from group to
//! group, so that only who meets an error looks for the first one.

use std::collections::HashSet;

use model::Labels;

use super::join::{Group, Matching, NONE, ambiguous, implicit};
use crate::ast::Cardinality;
use crate::eval::EvalError;
use crate::eval::matrix::{Cell, Matrix, is_present};

/// A series and its group, in the order of labels.
type Row = (usize, usize);

fn rows(groups: &[Group], of: impl Fn(&Group) -> &[usize], matrix: &Matrix) -> Vec<Row> {
    let numbered = groups.iter().enumerate();
    let mut rows: Vec<Row> = numbered.flat_map(|(n, group)| of(group).iter().map(move |row| (*row, n))).collect();
    rows.sort_by(|a, b| matrix.labels(a.0).cmp(matrix.labels(b.0)));
    rows
}

impl Matching<'_> {
    /// The error of the earliest step; of one step, series of the one side that are there twice come first.
    pub(super) fn earliest_error(&self, groups: &[Group]) -> Result<(), EvalError> {
        let ones = rows(groups, |group| &group.one, self.one);
        let many = rows(groups, |group| &group.many, self.many);
        for step in 0..self.many.steps() {
            self.context.check_cancelled()?;
            if self.is_asked(step) {
                self.check_step(step, groups.len(), &ones, &many)?;
            }
        }
        Ok(())
    }

    fn check_step(&self, step: usize, groups: usize, ones: &[Row], many: &[Row]) -> Result<(), EvalError> {
        let mut one_of = vec![NONE; groups];
        for &(row, group) in ones.iter().filter(|(row, _)| is_present(self.one.row(*row)[step])) {
            if one_of[group] != NONE {
                return Err(self.duplicate(one_of[group], row));
            }
            one_of[group] = row;
        }
        let fill = self.fill().1;
        let mut met = vec![false; groups];
        let mut made: HashSet<(usize, Labels)> = HashSet::new();
        for &(row, group) in many.iter().filter(|(row, _)| is_present(self.many.row(*row)[step])) {
            let one = one_of[group];
            if one == NONE && fill.is_none() {
                continue;
            }
            let other = || if one == NONE { fill.map(Cell::Float) } else { self.one.cell(one, step) };
            if self.mixed && self.of_mixed(self.many.cell(row, step), other(), (step, row)).is_none() {
                continue;
            }
            if self.join.matching.cardinality == Cardinality::OneToOne {
                if std::mem::replace(&mut met[group], true) {
                    return Err(implicit());
                }
            } else if !made.insert((group, self.labels((row, one)))) {
                return Err(ambiguous());
            }
        }
        Ok(())
    }
}

//! Arithmetic and comparison between vectors. The series of both sides are put into groups by the key of their matching
//! labels. In a group the *one* side may have one value a step; the *many* side is what the result is labelled after.

use std::cell::{OnceCell, RefCell};
use std::collections::{HashMap, HashSet};

use model::Labels;

use super::told::Told;
use super::{changes_metric, element, histograms};
use crate::ast::{Cardinality, Span};
use crate::eval::labels::{Key, Numbering, is_metadata, shown};
use crate::eval::matrix::{ABSENT, Cell, Matrix, is_present};
use crate::eval::plan::Join;
use crate::eval::{Context, EvalError};

/// Marks a step at which the one side has no value.
pub(super) const NONE: usize = usize::MAX;

/// Evaluates an operator between vectors.
pub(super) fn eval(
    context: &Context,
    join: &Join,
    span: Span,
    left: &Matrix,
    right: &Matrix,
) -> Result<Matrix, EvalError> {
    let swapped = join.matching.cardinality == Cardinality::OneToMany;
    let (many, one) = if swapped { (right, left) } else { (left, right) };
    let on = join.matching.on;
    let key = if on { Key::of(&join.matching.labels) } else { Key::without(&join.matching.labels) };
    let mut numbers = Numbering::default();
    let mut groups: Vec<Group> = Vec::new();
    for (matrix, is_one) in [(many, false), (one, true)] {
        for row in 0..matrix.len() {
            let number = numbers.number(&key, matrix.labels(row).as_ref());
            if number == groups.len() {
                groups.push(Group::default());
            }
            let group = &mut groups[number];
            if is_one { group.one.push(row) } else { group.many.push(row) }
        }
    }
    let matching = Matching {
        context,
        join,
        many,
        one,
        key: &key,
        swapped,
        f: element(join.op, join.return_bool),
        mixed: left.has_histograms() || right.has_histograms() || histograms::trims(join.op),
        asked: OnceCell::new(),
        told: RefCell::default(),
    };
    let mut out = Matrix::new(context, left.steps());
    for group in &groups {
        if let Err(error) = matching.group(group, &mut out) {
            if !matches!(error, EvalError::Execution(_)) {
                return Err(error);
            }
            matching.earliest_error(&groups)?;
            return Err(error);
        }
    }
    matching.told.into_inner().finish(context, span);
    Ok(out)
}

/// The series of a key.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) many: Vec<usize>,
    pub(super) one: Vec<usize>,
}

/// Both sides, and how they meet.
pub(super) struct Matching<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) join: &'a Join,
    pub(super) many: &'a Matrix,
    pub(super) one: &'a Matrix,
    key: &'a Key,
    swapped: bool,
    f: fn(f64, f64) -> f64,
    /// Whether some values are histograms.
    pub(super) mixed: bool,
    /// At which steps anything can match at all; worked out when it is asked for.
    asked: OnceCell<Vec<bool>>,
    told: RefCell<Told>,
}

impl Matching<'_> {
    fn group(&self, group: &Group, out: &mut Matrix) -> Result<(), EvalError> {
        self.context.check_cancelled()?;
        let matching = &self.join.matching;
        let (fill_many, fill_one) = self.fill();
        if group.one.is_empty() && fill_one.is_none() {
            return Ok(());
        }
        // Also where nothing meets them: two series of one group are an error by themselves.
        let ones = self.ones(group)?;
        if group.many.is_empty() && fill_many.is_none() {
            return Ok(());
        }
        // At which steps some of the many side has met a value.
        let mut met = vec![false; self.many.steps()];
        let first = out.len();
        for &many in &group.many {
            self.meet(many, &ones, fill_one, &mut met, out)?;
        }
        if group.many.len() > 1 && matching.cardinality != Cardinality::OneToOne {
            self.check_unique(group, &ones, out, first)?;
        }
        if let Some(fill) = fill_many {
            let mut rows = HashMap::new();
            for step in (0..met.len()).filter(|step| ones[*step] != NONE && !met[*step]) {
                let row = self.row(&mut rows, (NONE, ones[step]), out)?;
                if !self.mixed {
                    self.set(out, row, step, (fill, self.one.row(ones[step])[step]));
                } else if let Some(Some(value)) = self.of_mixed(
                    Some(Cell::Float(fill)),
                    self.one.cell(ones[step], step),
                    (step, self.many.len() + ones[step]),
                ) {
                    out.set(row, step, value)?;
                }
            }
        }
        Ok(())
    }

    /// What stands for the many side where that has no value, and for the one side.
    pub(super) fn fill(&self) -> (Option<f64>, Option<f64>) {
        let (left, right) = (self.join.matching.fill_left, self.join.matching.fill_right);
        if self.swapped { (right, left) } else { (left, right) }
    }

    /// Lets one series of the many side meet the other side at all steps.
    fn meet(
        &self,
        many: usize,
        ones: &[usize],
        fill_one: Option<f64>,
        met: &mut [bool],
        out: &mut Matrix,
    ) -> Result<(), EvalError> {
        let one_to_one = self.join.matching.cardinality == Cardinality::OneToOne;
        let mut rows = HashMap::new();
        let mut last = None;
        for (step, v) in self.many.row(many).iter().enumerate().filter(|(_, v)| is_present(**v)) {
            if ones[step] == NONE && fill_one.is_none() {
                continue;
            }
            let mixed = match self.mixed {
                false => None,
                true => {
                    let one = ones[step];
                    let other = if one == NONE { fill_one.map(Cell::Float) } else { self.one.cell(one, step) };
                    // What does not go together has not met.
                    let Some(value) = self.of_mixed(self.many.cell(many, step), other, (step, many)) else { continue };
                    Some(value)
                }
            };
            if std::mem::replace(&mut met[step], true) && one_to_one {
                return Err(implicit());
            }
            let row = match last {
                Some((one, row)) if one == ones[step] => row,
                _ => self.row(&mut rows, (many, ones[step]), out)?,
            };
            last = Some((ones[step], row));
            match mixed {
                Some(Some(value)) => out.set(row, step, value)?,
                Some(None) => {}
                None => {
                    let one = ones[step];
                    let other = if one == NONE { fill_one.unwrap_or(ABSENT) } else { self.one.row(one)[step] };
                    self.set(out, row, step, (*v, other));
                }
            }
        }
        Ok(())
    }

    fn set(&self, out: &mut Matrix, row: usize, step: usize, (many, one): (f64, f64)) {
        out.row_mut(row)[step] = if self.swapped { (self.f)(one, many) } else { (self.f)(many, one) };
    }

    /// The place of a pair in the order of Prometheus: series of the many side by their labels, then those of the one side that something stands for.
    fn place(&self, pair: usize) -> (bool, &Labels) {
        match pair.checked_sub(self.many.len()) {
            None => (false, self.many.labels(pair)),
            Some(one) => (true, self.one.labels(one)),
        }
    }

    /// The operator on values of which some may be histograms; `None` where they do not go together. `at` is the step and the place among the pairs of it.
    pub(super) fn of_mixed(&self, many: Option<Cell>, one: Option<Cell>, at: (usize, usize)) -> Option<Option<Cell>> {
        let (many, one) = (many?, one?);
        let (left, right) = if self.swapped { (one, many) } else { (many, one) };
        let mut noted = None;
        let value = histograms::of(self.join, &left, &right, &mut |note| noted = Some(note)).ok();
        if let Some(note) = noted {
            let (step, pair) = at;
            self.told.borrow_mut().tell(step, pair, note, |other| self.place(other) <= self.place(pair));
        }
        value
    }

    /// The series of the result for a pair; labels are worked out when it first meets.
    fn row(
        &self,
        rows: &mut HashMap<usize, usize>,
        (many, one): (usize, usize),
        out: &mut Matrix,
    ) -> Result<usize, EvalError> {
        if let Some(row) = rows.get(&one) {
            return Ok(*row);
        }
        // Series with the same result are one, if they come from the same series of the many side.
        out.add(self.labels((many, one)), self.join.return_bool)?;
        rows.insert(one, out.len() - 1);
        Ok(out.len() - 1)
    }

    /// The series of the one side at each step.
    fn ones(&self, group: &Group) -> Result<Vec<usize>, EvalError> {
        let mut ones = vec![NONE; self.many.steps()];
        for &row in &group.one {
            for (step, _) in self.one.row(row).iter().enumerate().filter(|(_, v)| is_present(**v)) {
                if ones[step] != NONE && self.is_asked(step) {
                    return Err(self.duplicate(ones[step], row));
                }
                ones[step] = row;
            }
        }
        Ok(ones)
    }

    /// Whether anything can match at a step at all; where not, duplicates are no error.
    pub(super) fn is_asked(&self, step: usize) -> bool {
        let asked = self.asked.get_or_init(|| {
            let fill = self.join.matching.fill_left.is_some() || self.join.matching.fill_right.is_some();
            let mut asked = vec![fill; self.many.steps()];
            for row in self.many.rows() {
                asked.iter_mut().zip(row).for_each(|(asked, v)| *asked |= is_present(*v));
            }
            asked
        });
        asked[step]
    }

    /// Two series of the many side must not make the same series at a step, even if a comparison drops one of them.
    fn check_unique(&self, group: &Group, ones: &[usize], out: &Matrix, first: usize) -> Result<(), EvalError> {
        let unique = (first..out.len()).map(|row| out.labels(row)).collect::<HashSet<_>>().len();
        if unique == out.len() - first {
            return Ok(());
        }
        let mut matched: HashMap<Labels, Vec<bool>> = HashMap::new();
        for &many in &group.many {
            for (step, _) in self.many.row(many).iter().enumerate().filter(|(_, v)| is_present(**v)) {
                if ones[step] == NONE && self.fill().1.is_none() {
                    continue;
                }
                let steps = matched.entry(self.labels((many, ones[step]))).or_insert_with(|| vec![false; ones.len()]);
                if std::mem::replace(&mut steps[step], true) {
                    return Err(ambiguous());
                }
            }
        }
        Ok(())
    }

    /// The labels of what a pair makes.
    pub(super) fn labels(&self, (many, one): (usize, usize)) -> Labels {
        let matching = &self.join.matching;
        let of = |matrix: &Matrix, row: usize, other: &Matrix, other_row: usize| {
            if row == NONE { self.match_labels(other.labels(other_row)) } else { matrix.labels(row).clone() }
        };
        let one_labels = of(self.one, one, self.many, many);
        let mut labels = of(self.many, many, self.one, one);
        let delayed = self.context.params.features.delayed_name_removal;
        if changes_metric(self.join.op) || (self.join.return_bool && !delayed) {
            labels = labels.retain(|name| !is_metadata(name));
        }
        if matching.cardinality == Cardinality::OneToOne {
            let named = |name: &str| matching.labels.iter().any(|label| label == name);
            labels = labels.retain(|name| named(name) == matching.on);
        }
        for name in &matching.include {
            labels = labels.with(name, one_labels.get(name).unwrap_or(""));
        }
        labels
    }

    /// The labels by which a series matches, as Prometheus names them in errors.
    fn match_labels(&self, labels: &Labels) -> Labels {
        self.key.labels(labels.as_ref())
    }

    pub(super) fn duplicate(&self, a: usize, b: usize) -> EvalError {
        let group = shown(&self.match_labels(self.one.labels(a)));
        let (mut a, mut b) = (shown(self.one.labels(a)), shown(self.one.labels(b)));
        if a > b {
            std::mem::swap(&mut a, &mut b);
        }
        let side = if self.swapped { "left" } else { "right" };
        EvalError::Execution(format!(
            "found duplicate series for the match group {group} on the {side} hand-side of the operation: [{a}, {b}];\
             many-to-many matching not allowed: matching labels must be unique on one side"
        ))
    }
}

/// Several series of a side meet one, which nobody said that they may.
pub(super) fn implicit() -> EvalError {
    let reason = "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)";
    EvalError::Execution(reason.to_owned())
}

/// Several series of a group become the same.
pub(super) fn ambiguous() -> EvalError {
    EvalError::Execution("multiple matches for labels: grouping labels must ensure unique matches".to_owned())
}

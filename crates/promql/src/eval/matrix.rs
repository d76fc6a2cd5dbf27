//! Series as columns over the steps of a grid, one after the other in one allocation.

use std::collections::HashMap;
use std::sync::Arc;

use model::{Columns, Held, Labels, STALE_NAN_BITS};

use super::budget::Budget;
use super::grid::Grid;
use super::labels::is_metadata;
use super::{Context, EvalError};

/// The value of a cell without a value. Selectors drop staleness markers and arithmetic makes other NaNs of them, so
/// that no series of an evaluation has these bits as a value.
pub(super) const ABSENT: f64 = f64::from_bits(STALE_NAN_BITS);

/// Whether a cell has a value.
#[inline]
pub(super) fn is_present(v: f64) -> bool {
    v.to_bits() != STALE_NAN_BITS
}

/// What a series takes beside its cells and the text of its labels.
const SERIES_BYTES: usize = 48;

/// Series over the same steps. Gives its samples and its memory back when it is dropped.
#[derive(Debug)]
pub(super) struct Matrix {
    budget: Arc<Budget>,
    /// The room for cells, and the series.
    held: Held,
    n: usize,
    labels: Vec<Labels>,
    /// Whether the name of a series goes at the end of the evaluation (only with delayed name removal).
    drop_name: Vec<bool>,
    cells: Vec<f64>,
}

impl Matrix {
    pub(super) fn new(context: &Context, n: usize) -> Self {
        let (budget, held) = (context.budget.clone(), context.hold());
        Matrix { budget, held, n, labels: Vec::new(), drop_name: Vec::new(), cells: Vec::new() }
    }

    /// Number of series.
    pub(super) fn len(&self) -> usize {
        self.labels.len()
    }

    /// Number of steps.
    pub(super) fn steps(&self) -> usize {
        self.n
    }

    /// Appends a series of absent cells, and lends them.
    pub(super) fn add(&mut self, labels: Labels, drop_name: bool) -> Result<&mut [f64], EvalError> {
        self.budget.take(self.n)?;
        self.held.grow(series_bytes(&labels))?;
        let from = self.cells.len();
        if from + self.n > self.cells.capacity() {
            self.make_room((from + self.n).max(self.cells.capacity() * 2))?;
        }
        self.cells.resize(from + self.n, ABSENT);
        self.labels.push(labels);
        self.drop_name.push(drop_name);
        Ok(&mut self.cells[from..])
    }

    /// Makes room for so many cells, of which there are not so many. Those that are there are copied, so for a moment it is held as well.
    fn make_room(&mut self, cells: usize) -> Result<(), EvalError> {
        let before = self.cells.capacity() * size_of::<f64>();
        self.held.grow(cells * size_of::<f64>())?;
        self.cells.reserve_exact(cells - self.cells.len());
        self.held.shrink_to(self.held.bytes() - before);
        Ok(())
    }

    /// Takes the last series away, where it turned out to have no value.
    pub(super) fn pop(&mut self) {
        if let Some(labels) = self.labels.pop() {
            self.held.shrink_to(self.held.bytes() - series_bytes(&labels));
        }
        self.drop_name.pop();
        self.cells.truncate(self.labels.len() * self.n);
        self.budget.release(self.n);
    }

    /// Appends the series of another over the same steps, for which there is room.
    fn append(&mut self, mut other: Matrix) {
        self.labels.append(&mut other.labels);
        self.drop_name.append(&mut other.drop_name);
        // What was counted for the other is now counted for this one, but for its room.
        self.cells.append(&mut other.cells);
        let mut held = std::mem::take(&mut other.held);
        held.shrink_to(held.bytes() - other.cells.capacity() * size_of::<f64>());
        self.held.join(held);
    }

    /// Joins parts in their order.
    pub(super) fn concat(context: &Context, n: usize, mut parts: Vec<Matrix>) -> Result<Self, EvalError> {
        if parts.len() < 2 {
            return Ok(parts.pop().unwrap_or_else(|| Matrix::new(context, n)));
        }
        let mut all = Matrix::new(context, n);
        all.make_room(parts.iter().map(|part| part.cells.len()).sum())?;
        parts.into_iter().for_each(|part| all.append(part));
        Ok(all)
    }

    pub(super) fn labels(&self, row: usize) -> &Labels {
        &self.labels[row]
    }

    pub(super) fn drop_name(&self, row: usize) -> bool {
        self.drop_name[row]
    }

    pub(super) fn row(&self, row: usize) -> &[f64] {
        &self.cells[row * self.n..(row + 1) * self.n]
    }

    /// All cells, series by series.
    pub(super) fn cells_mut(&mut self) -> &mut [f64] {
        &mut self.cells
    }

    /// The cells of the series, one after the other.
    pub(super) fn rows(&self) -> impl Iterator<Item = &[f64]> {
        self.cells.chunks_exact(self.n)
    }

    /// Changes the labels of every series, and keeps its name or not.
    pub(super) fn relabel(&mut self, mut change: impl FnMut(&Labels, bool) -> (Labels, bool)) {
        for (labels, drop_name) in self.labels.iter_mut().zip(&mut self.drop_name) {
            (*labels, *drop_name) = change(labels, *drop_name);
        }
    }

    /// The series in this order; each at most once.
    pub(super) fn pick(&self, context: &Context, order: &[usize]) -> Result<Matrix, EvalError> {
        let mut picked = Matrix::new(context, self.n);
        for &row in order {
            picked.add(self.labels[row].clone(), self.drop_name[row])?.copy_from_slice(self.row(row));
        }
        Ok(picked)
    }

    /// One series of one step, over all steps of a longer grid.
    pub(super) fn spread(&self, context: &Context, n: usize) -> Result<Matrix, EvalError> {
        let mut spread = Matrix::new(context, n);
        for row in 0..self.len() {
            let value = self.row(row)[0];
            spread.add(self.labels[row].clone(), self.drop_name[row])?.fill(value);
        }
        Ok(spread)
    }

    /// Drops the names of all series, now or at the end of the evaluation. Two that become the same are an error if
    /// `strict`, and otherwise where both have a value at the same step.
    pub(super) fn drop_names(self, context: &Context, strict: bool) -> Result<Matrix, EvalError> {
        let mut matrix = self;
        if context.params.features.delayed_name_removal {
            matrix.drop_name.fill(true);
            return Ok(matrix);
        }
        let unique = matrix.has_one_name();
        for labels in &mut matrix.labels {
            if labels.iter().any(|(name, _)| is_metadata(name)) {
                *labels = labels.retain(|name| !is_metadata(name));
            }
        }
        if unique {
            return Ok(matrix);
        }
        if strict && matrix.has_same_labels() {
            return Err(EvalError::same_labelset());
        }
        matrix.merge_same_labels(context)
    }

    /// Whether all series have the same name, type and unit, so that they stay different without them.
    fn has_one_name(&self) -> bool {
        let Some(first) = self.labels.first() else { return true };
        let names =
            |labels: &Labels| [labels.metric_name().to_owned(), get(labels, "__type__"), get(labels, "__unit__")];
        let expect = names(first);
        self.labels.iter().all(|labels| {
            labels.metric_name() == expect[0]
                && labels.get("__type__").unwrap_or("") == expect[1]
                && labels.get("__unit__").unwrap_or("") == expect[2]
        })
    }

    fn has_same_labels(&self) -> bool {
        let mut seen = std::collections::HashSet::with_capacity(self.len());
        !self.labels.iter().all(|labels| seen.insert(labels.canonical()))
    }

    /// Makes one series of those with the same labels; an error where two have a value at the same step.
    pub(super) fn merge_same_labels(self, context: &Context) -> Result<Matrix, EvalError> {
        if !self.has_same_labels() {
            return Ok(self);
        }
        let mut merged = Matrix::new(context, self.n);
        let mut places: HashMap<&str, usize> = HashMap::with_capacity(self.len());
        for (row, labels) in self.labels.iter().enumerate() {
            let place = *places.entry(labels.canonical()).or_insert(merged.len());
            if place == merged.len() {
                merged.add(labels.clone(), self.drop_name[row])?.copy_from_slice(self.row(row));
                continue;
            }
            let into = &mut merged.cells[place * self.n..(place + 1) * self.n];
            for (to, from) in into.iter_mut().zip(self.row(row)).filter(|(_, from)| is_present(**from)) {
                if is_present(*to) {
                    return Err(EvalError::same_labelset());
                }
                *to = *from;
            }
        }
        Ok(merged)
    }

    /// Drops the names that were to go at the end.
    pub(super) fn drop_delayed_names(mut self, context: &Context) -> Result<Matrix, EvalError> {
        if !self.drop_name.iter().any(|drop| *drop) {
            return Ok(self);
        }
        for (labels, drop) in self.labels.iter_mut().zip(&mut self.drop_name) {
            if std::mem::take(drop) {
                *labels = labels.retain(|name| !is_metadata(name));
            }
        }
        self.merge_same_labels(context)
    }

    /// Each series as times and values.
    pub(super) fn columns(&self, grid: Grid) -> impl Iterator<Item = (&Labels, bool, Columns)> {
        (0..self.len()).map(move |row| {
            // Exactly as much as there is: many of these are held together.
            let present = self.row(row).iter().filter(|v| is_present(**v)).count();
            let mut columns = Columns::floats(Vec::with_capacity(present), Vec::with_capacity(present));
            for (k, v) in self.row(row).iter().enumerate().filter(|(_, v)| is_present(**v)) {
                columns.push(grid.at(k), *v);
            }
            (&self.labels[row], self.drop_name[row], columns)
        })
    }
}

fn series_bytes(labels: &Labels) -> usize {
    SERIES_BYTES + labels.canonical().len()
}

fn get(labels: &Labels, name: &str) -> String {
    labels.get(name).unwrap_or("").to_owned()
}

impl Drop for Matrix {
    fn drop(&mut self) {
        self.budget.release(self.cells.len());
    }
}

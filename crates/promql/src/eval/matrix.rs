//! Series as columns over the steps of a grid, one after the other in one allocation.
//!
//! A cell is a float, or says by its bits that it is absent or that its value is a native histogram, which lies beside. So whoever has only floats to do with
//! pays nothing for histograms, and whoever only asks whether there is a value needs not know of them.

use std::collections::HashMap;
use std::sync::Arc;

use model::{Columns, Held, HistogramSample, Labels, STALE_NAN_BITS};

use super::budget::Budget;
use super::grid::Grid;
use super::labels::{is_metadata, metadata};
use super::{Context, EvalError};
use crate::FloatHistogram;

/// The value of a cell without a value. Selectors drop staleness markers and arithmetic makes other NaNs of them, so
/// that no series of an evaluation has these bits as a value.
pub(super) const ABSENT: f64 = f64::from_bits(STALE_NAN_BITS);

/// The value of a cell whose value is a histogram. No arithmetic makes these bits, and of samples that have them others are made ([`float_cell`]).
pub(super) const HISTOGRAM: f64 = f64::from_bits(STALE_NAN_BITS + 2);

/// Whether a cell has a value.
#[inline]
pub(super) fn is_present(v: f64) -> bool {
    v.to_bits() != STALE_NAN_BITS
}

/// Whether the value of a cell is a histogram.
#[inline]
pub(super) fn is_histogram(v: f64) -> bool {
    v.to_bits() == HISTOGRAM.to_bits()
}

/// Whether the value of a cell is a float.
#[inline]
pub(super) fn is_float(v: f64) -> bool {
    is_present(v) && !is_histogram(v)
}

/// The cell of a float that comes from a sample.
#[inline]
pub(super) fn float_cell(v: f64) -> f64 {
    if is_histogram(v) { f64::NAN } else { v }
}

/// The value of a cell.
#[derive(Debug, Clone)]
pub(super) enum Cell {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

/// The histograms of a series, one place for each step.
pub(super) type Histograms = Box<[Option<Arc<FloatHistogram>>]>;

/// What a series takes beside its cells and the text of its labels.
const SERIES_BYTES: usize = 64;
/// What a histogram takes for each sample that it counts as.
const HISTOGRAM_SAMPLE_BYTES: usize = 16;

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
    /// Of series that have some.
    histograms: Vec<Option<Histograms>>,
    /// Of the result of `or` the series with which its operands after the first begin.
    operands: Vec<usize>,
    /// What the histograms count as in the budget, in samples; each takes its memory too.
    histogram_samples: usize,
}

impl Matrix {
    pub(super) fn new(context: &Context, n: usize) -> Self {
        Matrix {
            budget: context.budget.clone(),
            held: context.hold(),
            n,
            labels: Vec::new(),
            drop_name: Vec::new(),
            cells: Vec::new(),
            histograms: Vec::new(),
            operands: Vec::new(),
            histogram_samples: 0,
        }
    }

    /// With room for so many series.
    pub(super) fn with_room(context: &Context, n: usize, series: usize) -> Result<Self, EvalError> {
        let mut matrix = Matrix::new(context, n);
        matrix.make_room(series.saturating_mul(n))?;
        Ok(matrix)
    }

    /// Gives back the room of series that turned out to have no value, where these are many.
    pub(super) fn give_room_back(&mut self) {
        let room = self.cells.capacity();
        if self.cells.len() < room / 2 {
            self.cells.shrink_to_fit();
            let less = (room - self.cells.capacity()) * size_of::<f64>();
            self.held.shrink_to(self.held.bytes() - less);
        }
    }

    /// Number of series.
    pub(super) fn len(&self) -> usize {
        self.labels.len()
    }

    /// Says that the series which follow are those of another operand of `or`.
    pub(super) fn begin_operand(&mut self) {
        self.operands.push(self.len());
    }

    /// The operand of `or` that a series is of, from 0 on.
    pub(super) fn operand(&self, row: usize) -> usize {
        self.operands.partition_point(|first| *first <= row)
    }

    /// What it counts as in the budget, in samples.
    pub(super) fn samples(&self) -> usize {
        self.cells.len() + self.histogram_samples
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
        self.histograms.push(None);
        Ok(&mut self.cells[from..])
    }

    /// Sets the value of a cell of a series to a histogram.
    pub(super) fn put(&mut self, row: usize, step: usize, histogram: Arc<FloatHistogram>) -> Result<(), EvalError> {
        let samples = histogram.samples();
        self.budget.take(samples)?;
        self.histogram_samples += samples;
        self.held.grow(samples * HISTOGRAM_SAMPLE_BYTES)?;
        let n = self.n;
        self.cells[row * n + step] = HISTOGRAM;
        self.histograms[row].get_or_insert_with(|| vec![None; n].into_boxed_slice())[step] = Some(histogram);
        Ok(())
    }

    /// Sets the value of a cell of a series.
    pub(super) fn set(&mut self, row: usize, step: usize, value: Cell) -> Result<(), EvalError> {
        match value {
            Cell::Float(v) => self.cells[row * self.n + step] = v,
            Cell::Histogram(histogram) => self.put(row, step, histogram)?,
        }
        Ok(())
    }

    /// The value of a cell.
    pub(super) fn cell(&self, row: usize, step: usize) -> Option<Cell> {
        let v = self.row(row)[step];
        match self.histogram(row, step) {
            Some(histogram) => Some(Cell::Histogram(histogram.clone())),
            None => is_present(v).then_some(Cell::Float(v)),
        }
    }

    /// The histogram of a cell that has one.
    pub(super) fn histogram(&self, row: usize, step: usize) -> Option<&Arc<FloatHistogram>> {
        if !is_histogram(self.row(row)[step]) {
            return None;
        }
        self.histograms[row].as_ref().and_then(|row| row[step].as_ref())
    }

    /// Whether any series has histograms.
    pub(super) fn has_histograms(&self) -> bool {
        self.histogram_samples > 0
    }

    /// Takes the histograms away.
    pub(super) fn floats(mut self) -> Self {
        if self.has_histograms() {
            self.cells.iter_mut().filter(|v| is_histogram(**v)).for_each(|v| *v = ABSENT);
            self.forget_histograms();
        }
        self
    }

    /// Makes some float of each histogram, for who only asks whether there is a value.
    pub(super) fn all_as_floats(mut self) -> Self {
        self.cells.iter_mut().filter(|v| is_histogram(**v)).for_each(|v| *v = 0.0);
        self.forget_histograms();
        self
    }

    fn forget_histograms(&mut self) {
        self.histograms.iter_mut().for_each(|row| *row = None);
        self.release_histograms(self.histogram_samples);
    }

    /// Gives back what histograms of so many samples took.
    fn release_histograms(&mut self, samples: usize) {
        self.histogram_samples -= samples;
        self.held.shrink_to(self.held.bytes() - samples * HISTOGRAM_SAMPLE_BYTES);
        self.budget.release(samples);
    }

    /// Changes each value that is a histogram to a float, and takes the other ones away.
    pub(super) fn map_histograms(mut self, f: impl Fn(&FloatHistogram) -> f64) -> Self {
        for (cells, histograms) in self.cells.chunks_exact_mut(self.n).zip(&self.histograms) {
            for (step, cell) in cells.iter_mut().enumerate() {
                let histogram = histograms.as_ref().and_then(|row| row[step].as_ref()).filter(|_| is_histogram(*cell));
                *cell = histogram.map_or(ABSENT, |histogram| f(histogram));
            }
        }
        self.forget_histograms();
        self
    }

    /// Changes each histogram.
    pub(super) fn change_histograms(&mut self, change: impl Fn(&mut FloatHistogram)) {
        for histogram in self.histograms.iter_mut().flatten().flatten().flatten() {
            change(Arc::make_mut(histogram));
        }
    }

    /// Copies the values of a series of another matrix to one of this, at the steps for which this holds.
    pub(super) fn copy(
        &mut self,
        to: usize,
        from: &Matrix,
        row: usize,
        wanted: impl Fn(usize) -> bool,
    ) -> Result<bool, EvalError> {
        let mut any = false;
        for (step, v) in from.row(row).iter().enumerate().filter(|(_, v)| is_present(**v)) {
            if !wanted(step) {
                continue;
            }
            any = true;
            match from.histogram(row, step) {
                Some(histogram) => self.put(to, step, histogram.clone())?,
                None => self.cells[to * self.n + step] = *v,
            }
        }
        Ok(any)
    }

    /// Appends a series of another matrix.
    fn add_copy(&mut self, from: &Matrix, row: usize) -> Result<(), EvalError> {
        self.add(from.labels[row].clone(), from.drop_name[row])?.copy_from_slice(from.row(row));
        if from.histograms[row].is_some() {
            self.copy(self.len() - 1, from, row, |_| true)?;
        }
        Ok(())
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
        let histograms = self.histograms.pop().flatten();
        // Each was counted when it was put.
        let samples: usize = histograms.iter().flatten().flatten().map(|histogram| histogram.samples()).sum();
        self.release_histograms(samples.min(self.histogram_samples));
        self.budget.release(self.n);
    }

    /// Appends the series of another over the same steps, for which there is room.
    fn append(&mut self, mut other: Matrix) {
        self.labels.append(&mut other.labels);
        self.drop_name.append(&mut other.drop_name);
        // What was counted for the other is now counted for this one, but for its room.
        self.cells.append(&mut other.cells);
        self.histograms.append(&mut other.histograms);
        self.histogram_samples += std::mem::take(&mut other.histogram_samples);
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

    /// The cells of a series; none of them may become a histogram this way.
    pub(super) fn row_mut(&mut self, row: usize) -> &mut [f64] {
        &mut self.cells[row * self.n..(row + 1) * self.n]
    }

    /// All cells, series by series, those of histograms among them.
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
            picked.add_copy(self, row)?;
        }
        Ok(picked)
    }

    /// One series of one step, over all steps of a longer grid.
    pub(super) fn spread(&self, context: &Context, n: usize) -> Result<Matrix, EvalError> {
        let mut spread = Matrix::new(context, n);
        for row in 0..self.len() {
            let value = self.row(row)[0];
            spread.add(self.labels[row].clone(), self.drop_name[row])?.fill(value);
            if let Some(histogram) = self.histogram(row, 0) {
                (0..n).try_for_each(|step| spread.put(row, step, histogram.clone()))?;
            }
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
            if metadata(labels).next().is_some() {
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
        let Some((first, others)) = self.labels.split_first() else { return true };
        others.iter().all(|labels| metadata(labels).eq(metadata(first)))
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
                merged.add_copy(&self, row)?;
                continue;
            }
            let both = |(a, b): (&f64, &f64)| is_present(*a) && is_present(*b);
            if merged.row(place).iter().zip(self.row(row)).any(both) {
                return Err(EvalError::same_labelset());
            }
            // Whether its name goes is said by the one that has the first value.
            let first = |cells: &[f64]| cells.iter().position(|v| is_present(*v)).unwrap_or(usize::MAX);
            if first(self.row(row)) < first(merged.row(place)) {
                merged.drop_name[place] = self.drop_name[row];
            }
            merged.copy(place, &self, row, |_| true)?;
        }
        Ok(merged)
    }

    /// As [`Matrix::merge_same_labels`], of what an operator makes step by step. Where names are dropped at the end, Prometheus looks at what was asked for at one
    /// time only at the end too.
    pub(super) fn merge_of_steps(self, context: &Context, grid: Grid) -> Result<Matrix, EvalError> {
        if !grid.is_range() && context.params.features.delayed_name_removal {
            return Ok(self);
        }
        self.merge_same_labels(context)
    }

    /// Drops the names that were to go at the end.
    pub(super) fn drop_delayed_names(mut self, context: &Context, grid: Grid) -> Result<Matrix, EvalError> {
        let is_looked_at = grid.is_range() || !context.params.features.delayed_name_removal;
        if is_looked_at && !self.drop_name.iter().any(|drop| *drop) {
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
                match self.histogram(row, k) {
                    Some(histogram) => {
                        let histogram = histogram.to_model();
                        columns.histograms.push(HistogramSample { t: grid.at(k), start: 0, histogram });
                    }
                    None => columns.push(grid.at(k), *v),
                }
            }
            (&self.labels[row], self.drop_name[row], columns)
        })
    }
}

fn series_bytes(labels: &Labels) -> usize {
    SERIES_BYTES + labels.canonical().len()
}

impl Drop for Matrix {
    fn drop(&mut self) {
        self.budget.release(self.cells.len() + self.histogram_samples);
    }
}

//! Joins series with what describes them. Who belongs together is found out once, by numbers: a step only looks which of what describes the same is the
//! newest, and only where that is another than at the step before are labels looked at. The price is a number for each series, and what is remembered
//! of each series for each choice that it met.

use std::collections::{BTreeMap, HashMap};

use model::{Labels, Matcher};

use super::identity;
use crate::eval::labels::{is_metadata, shown};
use crate::eval::matrix::{Matrix, is_present};
use crate::eval::{Context, EvalError};

/// What describes the same under one name: of these the one with the newest sample counts.
type Key = usize;
/// Series with the same values of the identifying labels.
type Identity = usize;
/// Which series describe an identity at a step, one for each name.
type Choice = usize;

/// Nothing, where a number is expected.
const NONE: usize = usize::MAX;

pub(super) struct Join<'a> {
    context: &'a Context<'a>,
    base: &'a Matrix,
    /// What describes; its values are the times of its samples.
    info: &'a Matrix,
    data: &'a [Matcher],
    /// Whether a series is described by others, and does not describe itself.
    described: Vec<bool>,
    /// Of each series of the base that something describes.
    identities: Vec<Option<Identity>>,
    /// Of each series that describes.
    keys: Vec<Key>,
    /// The keys of each identity, ascending by name.
    keys_of: Vec<Vec<Key>>,
    key_count: usize,
}

impl<'a> Join<'a> {
    pub(super) fn new(
        context: &'a Context<'a>,
        base: &'a Matrix,
        info: &'a Matrix,
        described: Vec<bool>,
        data: &'a [Matcher],
    ) -> Self {
        let mut names: BTreeMap<[&str; 2], BTreeMap<&str, Vec<usize>>> = BTreeMap::new();
        for row in 0..info.len() {
            let labels = info.labels(row);
            names.entry(identity(labels)).or_default().entry(labels.metric_name()).or_default().push(row);
        }
        let (mut keys, mut key_count, mut keys_of) = (vec![NONE; info.len()], 0, Vec::with_capacity(names.len()));
        let mut numbers = HashMap::with_capacity(names.len());
        for (identity, names) in names {
            numbers.insert(identity, keys_of.len());
            keys_of.push((key_count..key_count + names.len()).collect());
            for rows in names.into_values() {
                rows.into_iter().for_each(|row| keys[row] = key_count);
                key_count += 1;
            }
        }
        let number = |row: usize| described[row].then(|| numbers.get(&identity(base.labels(row))).copied()).flatten();
        let identities = (0..base.len()).map(number).collect();
        Join { context, base, info, data, described, identities, keys, keys_of, key_count }
    }

    /// The base, with the labels that describe it.
    pub(super) fn all(&self) -> Result<Matrix, EvalError> {
        let mut joined = Joined { out: Matrix::new(self.context, self.base.steps()), rows: HashMap::new() };
        let mut choices = Choices::new(self.keys_of.len());
        let mut newest = vec![NONE; self.key_count];
        // The choice that a series met last, and where its values went.
        let mut last: Vec<Option<(Choice, Option<usize>)>> = vec![None; self.base.len()];
        let mut met: HashMap<(usize, Choice), Option<usize>> = HashMap::new();
        for step in 0..self.base.steps() {
            self.context.check_cancelled()?;
            let is_here = |row: &usize| is_present(self.base.row(*row)[step]);
            if !(0..self.base.len()).any(|row| is_here(&row)) {
                continue;
            }
            self.find_newest(step, &mut newest)?;
            choices.next();
            for row in (0..self.base.len()).filter(is_here) {
                let choice = match self.identities[row] {
                    Some(identity) => choices.of(identity, &self.keys_of[identity], &newest),
                    None => NONE,
                };
                let to = match last[row] {
                    Some((before, to)) if before == choice => to,
                    _ => match met.get(&(row, choice)) {
                        Some(to) => *to,
                        None => {
                            let chosen = choices.rows(choice);
                            let to =
                                self.labels(row, chosen)?.map(|labels| joined.row(labels, self.base.drop_name(row)));
                            *met.entry((row, choice)).or_insert(to.transpose()?)
                        }
                    },
                };
                last[row] = Some((choice, to));
                if let Some(to) = to {
                    joined.set(to, step, self.base, row)?;
                }
            }
        }
        Ok(joined.out)
    }

    /// Of what describes the same at a step, the one with the newest sample.
    fn find_newest(&self, step: usize, newest: &mut [usize]) -> Result<(), EvalError> {
        newest.fill(NONE);
        for (row, key) in self.keys.iter().enumerate() {
            let t = self.info.row(row)[step];
            if !is_present(t) {
                continue;
            }
            let before = newest[*key];
            if before != NONE {
                let before_t = self.info.row(before)[step];
                if before_t > t {
                    continue;
                }
                if before_t == t {
                    let ms = (t * 1000.0).round() as i64;
                    let (existing, new) = (shown(self.info.labels(before)), shown(self.info.labels(row)));
                    return Err(EvalError::Execution(format!(
                        "found duplicate series for info metric: existing {existing} @ {ms}, new {new} @ {ms}"
                    )));
                }
            }
            newest[*key] = row;
        }
        Ok(())
    }

    /// The labels of a series with those that describe it; `None` where there are none, and some were asked for.
    fn labels(&self, row: usize, chosen: &[usize]) -> Result<Option<Labels>, EvalError> {
        let base = self.base.labels(row);
        if !self.described[row] {
            return Ok(Some(base.clone()));
        }
        let mut labels = base.clone();
        let (mut added, mut any): (BTreeMap<&str, &str>, bool) = (BTreeMap::new(), false);
        for info in chosen.iter().filter(|row| **row != NONE) {
            any = true;
            for (name, value) in self.info.labels(*info).iter() {
                let is_asked = self.data.is_empty() || self.data.iter().any(|m| m.name == name);
                if is_metadata(name) || !is_asked {
                    continue;
                }
                if added.get(name).is_some_and(|before| *before != value) {
                    return Err(EvalError::Execution(format!("conflicting label: {name}")));
                }
                if base.get(name).is_none() {
                    added.insert(name, value);
                    labels = labels.with(name, value);
                }
            }
        }
        let needs_none = self.data.iter().all(|m| m.matches(""));
        Ok((any || needs_none).then_some(labels))
    }
}

/// The choices that there were.
struct Choices {
    numbers: HashMap<(Identity, Vec<usize>), Choice>,
    rows: Vec<Vec<usize>>,
    /// Of each identity the choice of this step or of one before.
    last: Vec<Choice>,
    /// Whether that is of this step.
    is_current: Vec<bool>,
}

impl Choices {
    fn new(identities: usize) -> Self {
        Choices {
            numbers: HashMap::new(),
            rows: Vec::new(),
            last: vec![NONE; identities],
            is_current: vec![false; identities],
        }
    }

    /// Goes on to another step.
    fn next(&mut self) {
        self.is_current.fill(false);
    }

    /// The choice of an identity at this step.
    fn of(&mut self, identity: Identity, keys: &[Key], newest: &[usize]) -> Choice {
        let last = self.last[identity];
        if self.is_current[identity] {
            return last;
        }
        self.is_current[identity] = true;
        let chosen = || keys.iter().map(|key| newest[*key]);
        if last != NONE && self.rows[last].iter().copied().eq(chosen()) {
            return last;
        }
        let rows: Vec<usize> = chosen().collect();
        let choice = *self.numbers.entry((identity, rows)).or_insert_with_key(|(_, rows)| {
            self.rows.push(rows.clone());
            self.rows.len() - 1
        });
        self.last[identity] = choice;
        choice
    }

    /// Which series a choice is, one for each name that has one.
    fn rows(&self, choice: Choice) -> &[usize] {
        self.rows.get(choice).map_or(&[], Vec::as_slice)
    }
}

/// What comes out.
struct Joined {
    out: Matrix,
    rows: HashMap<Labels, usize>,
}

impl Joined {
    /// The series with these labels, which may be a new one.
    fn row(&mut self, labels: Labels, drop_name: bool) -> Result<usize, EvalError> {
        if let Some(row) = self.rows.get(&labels) {
            return Ok(*row);
        }
        self.out.add(labels.clone(), drop_name)?;
        self.rows.insert(labels, self.out.len() - 1);
        Ok(self.out.len() - 1)
    }

    fn set(&mut self, to: usize, step: usize, from: &Matrix, row: usize) -> Result<(), EvalError> {
        if is_present(self.out.row(to)[step]) {
            return Err(EvalError::same_labelset());
        }
        match from.cell(row, step) {
            Some(value) => self.out.set(to, step, value),
            None => Ok(()),
        }
    }
}

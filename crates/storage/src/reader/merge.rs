//! From the answers of several nodes to one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use model::{Cancel, Columns, Exemplar, Labels, Series, SeriesData, SeriesExemplars, SourceError, TimeRange};
use tsdb::{Newest, merge_newer};

use super::outlined::{Asked, Outlined};
use crate::wire::series::Encoded;

/// A series of which copies differ: one is behind, or was written anew from a part of the log.
struct Copies(Vec<Encoded>);

impl SeriesData for Copies {
    /// Each time once; where copies differ in a value, that of the later copy.
    fn read(&self, range: TimeRange, out: &mut Columns) -> Result<(), SourceError> {
        let (start, mut one) = (out.mark(), Columns::default());
        for copy in &self.0 {
            one.clear();
            copy.read(range, &mut one)?;
            merge_newer(out, start, &one);
        }
        Ok(())
    }
}

/// Each label set once, ascending by canonical text, as each answer is. Of answers in which a series differs, the later one counts more. `asked` is there where
/// some of them may be outlines.
pub(super) fn series(mut answers: Vec<Vec<(Labels, Encoded)>>, asked: Option<&Arc<Asked>>) -> Vec<Series> {
    if answers.len() == 1 {
        return answers.remove(0).into_iter().map(|(labels, data)| one(labels, data, asked)).collect();
    }
    let mut all: Vec<(Labels, Encoded)> = answers.into_iter().flatten().collect();
    // Stable, so that copies stay in the order of the answers; and it finds the runs that are sorted already.
    all.sort_by(|a, b| a.0.canonical().cmp(b.0.canonical()));
    let mut merged: Vec<Series> = Vec::with_capacity(all.len());
    let mut all = all.into_iter().peekable();
    while let Some((labels, data)) = all.next() {
        let mut copies = vec![data];
        while let Some((_, copy)) = all.next_if(|(next, _)| *next == labels) {
            // The same samples are the same bytes, of which one is enough. The same outlines may be of different samples.
            copies.retain(|other| *other != copy || copy.leaves_out());
            copies.push(copy);
        }
        merged.push(match asked {
            _ if copies.len() == 1 => one(labels, copies.remove(0), asked),
            // What one has and not the other may be among what either left out.
            Some(asked) if copies.iter().any(Encoded::leaves_out) => {
                Series { data: Box::new(Outlined::new(labels.clone(), None, asked.clone())), labels }
            }
            _ => Series { labels, data: Box::new(Copies(copies)) },
        });
    }
    merged
}

/// A series of which there is one copy.
fn one(labels: Labels, data: Encoded, asked: Option<&Arc<Asked>>) -> Series {
    let data: Box<dyn SeriesData> = match asked {
        Some(asked) if data.leaves_out() => Box::new(Outlined::new(labels.clone(), Some(data), asked.clone())),
        _ => Box::new(data),
    };
    Series { labels, data }
}

/// Each element once, ascending.
pub(super) fn list<T: Ord>(answers: impl Iterator<Item = Vec<T>>) -> Vec<T> {
    let mut all: Vec<T> = answers.flatten().collect();
    all.sort();
    all.dedup();
    all
}

/// Each exemplar once, by series.
pub(super) fn exemplars(answers: impl Iterator<Item = Vec<SeriesExemplars>>) -> Vec<SeriesExemplars> {
    let mut all: BTreeMap<Labels, BTreeSet<Exemplar>> = BTreeMap::new();
    for one in answers.flatten() {
        all.entry(one.series).or_default().extend(one.exemplars);
    }
    let ordered = |(series, exemplars): (Labels, BTreeSet<Exemplar>)| {
        let exemplars = exemplars.into_iter().collect();
        SeriesExemplars { series, exemplars }
    };
    all.into_iter().map(ordered).collect()
}

/// How many series have each value, of what is counted apart.
pub(super) fn counts(counts: impl Iterator<Item = (String, u64)>) -> Vec<(String, u64)> {
    let mut all: HashMap<String, u64> = HashMap::new();
    for (value, series) in counts {
        *all.entry(value).or_default() += series;
    }
    all.into_iter().filter(|(_, series)| *series > 0).collect()
}

/// Series between looks at whether anybody waits for the answer.
const LOOK_EVERY: usize = 1 << 16;

/// What a node tells of series that are counted: the values of the label with how many have each, and the newest samples, whose groups are places in these.
type Told = (Vec<(String, u64)>, Vec<Newest>);

/// How many series have each value, each counted once, if its newest sample is no stale marker; of samples at the same time that of the later answer counts.
pub(super) fn newest(answers: Vec<Told>, cancel: &Cancel) -> Result<Vec<(String, u64)>, SourceError> {
    let mut held = cancel.claim().hold();
    let mut all: HashMap<u64, (usize, Newest)> = HashMap::new();
    for (at, (_, series)) in answers.iter().enumerate() {
        for some in series.chunks(LOOK_EVERY) {
            if cancel.is_cancelled() {
                return Err(SourceError::cancelled());
            }
            // A table is up to twice as large as what is in it, and is there twice for as long as it grows.
            held.grow_to(4 * (all.len() + some.len()) * size_of::<(u64, (usize, Newest))>())?;
            for one in some {
                let known = all.entry(one.hash).or_insert((at, *one));
                if one.t >= known.1.t {
                    *known = (at, *one);
                }
            }
        }
    }
    let live = all.into_values().filter(|(_, one)| one.is_live);
    let groups = |(at, one): (usize, Newest)| (answers[at].0[one.group as usize].0.as_str(), 1);
    let mut numbers: HashMap<&str, u64> = HashMap::new();
    live.map(groups).for_each(|(value, series)| *numbers.entry(value).or_default() += series);
    Ok(numbers.into_iter().map(|(value, series)| (value.to_owned(), series)).collect())
}

#[cfg(test)]
mod tests {
    use model::Aggregate;

    use super::*;
    use crate::wire::answer::{Answer, Begin};
    use crate::wire::frame::Assembler;
    use crate::wire::series::SeriesWriter;

    fn encoded(samples: &[(i64, u32)]) -> Vec<(Labels, Encoded)> {
        let mut columns = Columns::default();
        let is_thinned = samples.iter().any(|(_, count)| *count > 0);
        for (t, count) in samples {
            columns.push(*t, 1.0);
            let resolution_ms = if is_thinned { 10 } else { 0 };
            columns.set_last_aggregate(Aggregate { count: *count, resolution_ms, sum: f64::from(*count) });
        }
        let mut writer = SeriesWriter::default();
        writer.push(&Labels::new(&[("a", "b")]).expect("valid"), &columns, &[]);
        let mut answer = Answer::default();
        let begin = Begin { replica: crate::Replica::ALONE, partitions: 1 }.encode();
        let mut frames = Assembler::default();
        frames.push(&[vec![begin], writer.finish()].concat().concat());
        while let Some(frame) = frames.next().expect("whole") {
            answer.take(frame).expect("reads");
        }
        answer.series
    }

    #[test]
    fn raw_samples_of_one_copy_win_over_what_another_has_left_out() {
        let thinned = || encoded(&[(1, 3), (5, 0), (9, 0)]);
        let check = |copies: Vec<Vec<(Labels, Encoded)>>, t: &[i64], counts: &[u32]| {
            let merged = series(copies, None);
            let mut out = Columns::default();
            merged[0].data.read(TimeRange::ALL, &mut out).expect("reads");
            let found: Vec<u32> = out.aggregates.iter().map(|aggregate| aggregate.count).collect();
            assert_eq!((merged.len(), out.t.as_slice(), found.as_slice()), (1, t, counts));
        };
        let raw = || encoded(&[(1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (9, 0)]);
        check(vec![thinned(), raw()], &[1, 2, 3, 4, 5, 9], &[0; 6]);
        check(vec![raw(), thinned()], &[1, 2, 3, 4, 5, 9], &[0; 6]);
        check(vec![thinned(), thinned()], &[1, 5, 9], &[3, 0, 0]);
    }

    #[test]
    fn a_series_that_several_have_counts_once_by_the_newest_sample_of_any() {
        let groups = |values: &[&str]| values.iter().map(|value| ((*value).to_owned(), 7)).collect::<Vec<_>>();
        let one = |hash, t, group, is_live| Newest { hash, t, group, is_live };
        let first = vec![
            one(1, 10, 0, true),
            one(2, 10, 1, true),
            one(3, 10, 1, false),
            one(4, 10, 1, true),
            one(5, 9, 0, true),
        ];
        // The values are at other places there.
        let second = vec![
            one(1, 10, 2, true),
            one(2, 11, 1, false),
            one(3, 11, 1, true),
            one(4, 10, 1, false),
            one(6, 1, 0, true),
        ];
        let answers = vec![(groups(&["a", "b"]), first), (groups(&["c", "b", "a"]), second)];
        let counted = |answers| {
            let mut counted = newest(answers, &Cancel::default()).expect("counts");
            counted.sort();
            counted
        };
        let number = |value: &str, n| (value.to_owned(), n);
        assert_eq!(counted(answers.clone()), [number("a", 2), number("b", 1), number("c", 1)]);
        assert_eq!(counted(answers[..1].to_vec()), [number("a", 2), number("b", 2)]);
        assert_eq!(counted(Vec::new()), []);
        let cancel = Cancel::default();
        cancel.cancel();
        assert_eq!(newest(answers.clone(), &cancel).expect_err("cancelled").kind, model::Kind::Unavailable);
        let budget = model::Budget::new("queries", 100);
        let error = newest(answers, &Cancel::with(budget.claim())).expect_err("too little");
        assert!(error.message.starts_with("too little memory"), "{error}");
    }

    #[test]
    fn numbers_of_different_series_add_up() {
        let told = [("a", 1), ("b", 2), ("a", 3), ("c", 0)].map(|(value, n)| (value.to_owned(), n));
        let mut all = counts(told.into_iter());
        all.sort();
        assert_eq!(all, [("a".to_owned(), 4), ("b".to_owned(), 2)]);
    }
}

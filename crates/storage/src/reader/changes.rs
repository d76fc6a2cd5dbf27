//! What changed in a storage since it was looked at.

use model::{Cancel, TimeRange};

/// How far a storage was when it was looked at: of each node which engine it has, and the version of what that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark(pub(crate) Vec<(u64, u64)>);

/// What is asked of a storage.
#[derive(Debug, Clone)]
pub struct ChangesRequest {
    /// Since when; `None` asks for a mark alone.
    pub since: Option<Mark>,
    /// The names of the metrics that matter; `None` for all.
    pub names: Option<Vec<String>>,
    /// The times of the samples that matter.
    pub range: TimeRange,
    /// Looked at while the answer is waited for: who is cancelled knows nothing.
    pub cancel: Cancel,
}

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// How far the storage is. What is read after this answer has all that it stands for; `None` where not all of the storage is there to be asked.
    pub mark: Option<Mark>,
    /// The times of the samples that may have changed, ascending and apart, within what was asked for.
    pub ranges: Vec<TimeRange>,
}

impl From<Vec<(u64, u64)>> for Mark {
    /// Of each node its engine and the version of that.
    fn from(nodes: Vec<(u64, u64)>) -> Self {
        Mark(nodes)
    }
}

impl Mark {
    /// The older of two looks at the same storage; `None` where a node began anew in between, or there are others.
    pub fn older(&self, other: &Mark) -> Option<Mark> {
        let is_same = self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(|(a, b)| a.0 == b.0);
        is_same.then(|| Mark(self.0.iter().zip(&other.0).map(|(a, b)| (a.0, a.1.min(b.1))).collect()))
    }
}

impl Changes {
    /// Nothing is known of the range.
    pub(crate) fn unknown(range: TimeRange) -> Changes {
        Changes { mark: None, ranges: vec![range] }
    }

    /// Several storages as one; none of these if nothing is known of one of them.
    pub(crate) fn of_all(all: Vec<Changes>, range: TimeRange) -> Changes {
        let mut marks = Vec::new();
        let mut ranges: Vec<TimeRange> = Vec::new();
        for one in all {
            let Some(Mark(mark)) = one.mark else { return Changes::unknown(range) };
            marks.extend(mark);
            ranges.extend(one.ranges);
        }
        Changes { mark: Some(Mark(marks)), ranges: TimeRange::apart(ranges) }
    }
}

impl ChangesRequest {
    /// The same of one node, given by its place among so many.
    pub(crate) fn of_node(&self, at: usize, of: usize) -> ChangesRequest {
        let since = self.since.as_ref().map(|Mark(all)| {
            // A mark of another number of nodes tells nothing of this one, so it is as one of another engine.
            Mark(all.get(at).filter(|_| all.len() == of).into_iter().copied().collect())
        });
        ChangesRequest { since, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start_ms: i64, end_ms: i64) -> TimeRange {
        TimeRange { start_ms, end_ms }
    }

    #[test]
    fn changes_of_several_are_those_of_each_and_unknown_where_one_is() {
        let one =
            |engine, ranges: &[TimeRange]| Changes { mark: Some(Mark(vec![(engine, 5)])), ranges: ranges.to_vec() };
        let all = vec![one(1, &[range(0, 10), range(50, 60)]), one(2, &[range(5, 20), range(21, 30)])];
        let expect = Changes { mark: Some(Mark(vec![(1, 5), (2, 5)])), ranges: vec![range(0, 30), range(50, 60)] };
        assert_eq!(Changes::of_all(all.clone(), range(0, 100)), expect);
        let with_unknown = [all, vec![Changes::unknown(range(0, 100))]].concat();
        assert_eq!(Changes::of_all(with_unknown, range(0, 100)), Changes { mark: None, ranges: vec![range(0, 100)] });
    }

    #[test]
    fn the_older_of_two_marks_is_that_of_each_node_and_none_where_one_began_anew() {
        let mark = |versions: &[(u64, u64)]| Mark(versions.to_vec());
        let older = |a: &[(u64, u64)], b: &[(u64, u64)]| mark(a).older(&mark(b));
        assert_eq!(older(&[(1, 5), (2, 6)], &[(1, 4), (2, 7)]), Some(mark(&[(1, 4), (2, 6)])));
        assert_eq!(older(&[(1, 5), (2, 6)], &[(1, 5), (3, 6)]), None);
        assert_eq!(older(&[(1, 5), (2, 6)], &[(1, 5)]), None);
    }

    #[test]
    fn a_node_is_asked_since_its_own_mark() {
        let mark = Mark(vec![(1, 5), (2, 6)]);
        let request = ChangesRequest { since: Some(mark), names: None, range: range(0, 1), cancel: Cancel::default() };
        assert_eq!(request.of_node(1, 2).since, Some(Mark(vec![(2, 6)])));
        assert_eq!(request.of_node(1, 3).since, Some(Mark(Vec::new())));
    }
}

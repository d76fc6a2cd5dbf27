//! The queries of late: which are asked most often, and which take longest.
//!
//! Each evaluation is remembered by itself, so that what is older than the asker wants can be left out; the text is there once for all that ask the same. The
//! oldest make room for new ones.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::asked::Subject;
use crate::metrics::Metrics;

/// Evaluations that are remembered: of a hundred a second, those of the last three minutes. Each takes 32 bytes.
pub(crate) const EVALUATIONS_MAX: usize = 20_000;

/// Bytes of the texts of all: 200 for each if no two were the same.
pub(crate) const TEXT_BYTES_MAX: usize = 4 << 20;

/// What a text takes beside its bytes.
const ENTRY: usize = 128;

/// What is asked, whoever asks it and when.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Question {
    pub(crate) kind: &'static str,
    pub(crate) text: Arc<str>,
    /// How long the range is that is asked for, in whole seconds.
    pub(crate) range_seconds: i64,
}

impl Question {
    fn bytes(&self) -> usize {
        self.text.len() + ENTRY
    }
}

/// A question with how often it was evaluated and how long that took altogether.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) question: Arc<Question>,
    pub(crate) count: u32,
    pub(crate) took: Duration,
}

impl Asked {
    /// How long one evaluation took on average.
    pub(crate) fn average(&self) -> Duration {
        self.took / self.count.max(1)
    }
}

/// The first of each order.
#[derive(Debug)]
pub(crate) struct Lists {
    pub(crate) by_count: Vec<Asked>,
    pub(crate) by_average: Vec<Asked>,
    pub(crate) by_sum: Vec<Asked>,
}

#[derive(Debug)]
struct Evaluation {
    question: Arc<Question>,
    ended_ms: i64,
    took: Duration,
}

/// The evaluations of late.
#[derive(Debug)]
pub(crate) struct Top {
    now_ms: fn() -> i64,
    metrics: Metrics,
    evaluations_max: usize,
    text_bytes_max: usize,
    remembered: Mutex<Remembered>,
}

#[derive(Debug, Default)]
struct Remembered {
    /// In the order of their ends.
    evaluations: VecDeque<Evaluation>,
    /// With how many of the evaluations asked them.
    questions: HashMap<Arc<Question>, usize>,
    text_bytes: usize,
}

impl Top {
    pub(crate) fn new(now_ms: fn() -> i64, metrics: Metrics) -> Self {
        Self::with_bounds(now_ms, metrics, EVALUATIONS_MAX, TEXT_BYTES_MAX)
    }

    fn with_bounds(now_ms: fn() -> i64, metrics: Metrics, evaluations_max: usize, text_bytes_max: usize) -> Self {
        Top { now_ms, metrics, evaluations_max, text_bytes_max, remembered: Mutex::default() }
    }

    /// Remembers an evaluation that has ended now.
    pub(crate) fn remember(&self, subject: &Subject, took: Duration) {
        let text = subject.text.clone();
        let question = Question { kind: subject.kind, text, range_seconds: subject.range_ms() / 1000 };
        let ended_ms = (self.now_ms)();
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        let question = remembered.question(question);
        remembered.evaluations.push_back(Evaluation { question, ended_ms, took });
        while remembered.evaluations.len() > self.evaluations_max || remembered.text_bytes > self.text_bytes_max {
            remembered.forget();
            self.metrics.forgotten.inc();
        }
        self.metrics.remembered.set(remembered.evaluations.len() as i64);
        self.metrics.remembered_bytes.set(remembered.text_bytes as i64);
    }

    /// The first `n` of each order, of evaluations that ended no longer ago than this.
    pub(crate) fn lists(&self, n: usize, age_max_ms: i64) -> Lists {
        let since_ms = (self.now_ms)().saturating_sub(age_max_ms);
        let mut all: HashMap<*const Question, Asked> = HashMap::new();
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        for one in remembered.evaluations.iter().filter(|one| one.ended_ms >= since_ms) {
            // The same question is the same place in memory.
            let asked = all.entry(Arc::as_ptr(&one.question)).or_insert_with(|| Asked {
                question: one.question.clone(),
                count: 0,
                took: Duration::ZERO,
            });
            asked.count += 1;
            asked.took += one.took;
        }
        drop(remembered);
        let all: Vec<Asked> = all.into_values().collect();
        Lists {
            by_count: first(&all, n, |asked| u128::from(asked.count)),
            by_average: first(&all, n, |asked| asked.average().as_nanos()),
            by_sum: first(&all, n, |asked| asked.took.as_nanos()),
        }
    }
}

/// The `n` with the largest keys, largest first; of equal ones those first whose text is.
fn first(all: &[Asked], n: usize, key: impl Fn(&Asked) -> u128) -> Vec<Asked> {
    let mut order: Vec<&Asked> = all.iter().collect();
    let rest = |asked: &Asked| {
        let Question { kind, text, range_seconds } = &*asked.question;
        (text.clone(), *kind, *range_seconds)
    };
    order.sort_by(|a, b| key(b).cmp(&key(a)).then_with(|| rest(a).cmp(&rest(b))));
    order.into_iter().take(n).cloned().collect()
}

impl Remembered {
    /// The question that is there, or this one.
    fn question(&mut self, question: Question) -> Arc<Question> {
        let known = self.questions.get_key_value(&question).map(|(known, _)| known.clone());
        let question = known.unwrap_or_else(|| {
            self.text_bytes += question.bytes();
            Arc::new(question)
        });
        *self.questions.entry(question.clone()).or_default() += 1;
        question
    }

    fn forget(&mut self) {
        let Some(Evaluation { question, .. }) = self.evaluations.pop_front() else { return };
        if let Some(evaluations) = self.questions.get_mut(&question) {
            *evaluations -= 1;
            if *evaluations == 0 {
                self.text_bytes -= question.bytes();
                self.questions.remove(&question);
            }
        }
    }
}

#[cfg(test)]
mod tests;

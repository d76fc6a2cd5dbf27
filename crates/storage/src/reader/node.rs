//! One storage node over HTTP/2: a question, and its whole answer or why there is none.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::{Cancel, Claim, Exceeded, Held, Kind, SourceError};
use prometheus::{IntCounter, IntGauge};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use reqwest::{Client, Response, StatusCode, Url};
use runtime::Token;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::metrics::Metrics;
use super::{Changes, ChangesRequest};
use crate::replica::Replica;
use crate::wire::answer::{Answer, Step};
use crate::wire::frame::Assembler;
use crate::wire::question::Question;
use crate::wire::{self, KIND_HEADER, KINDS};

/// Time to connect: a node in the same cluster answers within milliseconds, and one that is gone must not hold up the others.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a connection on which nothing comes is asked whether it lives, and how long for an answer. A node that vanished is
/// noticed after the sum.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Longest time for an answer; a query's own timeout is mostly shorter.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);
/// Longest time for what changed, which saves less than it, unless told otherwise.
pub(super) const CHANGES_TIMEOUT: Duration = Duration::from_millis(500);
/// For so many times as long a node that did not tell what changed is not asked for that again.
const CHANGES_PAUSE: u32 = 10;
/// Largest answer. It is held while it is evaluated: at two bytes a sample, five times what a query may hold decoded.
const ANSWER_BYTES_MAX: usize = 512 << 20;
/// Text of a refusal that is passed on.
const REASON_BYTES_MAX: usize = 1 << 10;
/// How often a caller that blocks looks whether it is cancelled.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Why a node gave no answer.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// It was not reached, is starting, or broke off: as good as not there. The text says how.
    Unreachable(String),
    /// It answered with an error.
    Failed(SourceError),
    /// It does not know the question: it is older than that. Only of questions without which the asker can do.
    Unknown(String),
}

/// What one attempt came to.
enum Attempt {
    /// The connection broke: another attempt may find a new one.
    Broken(String),
    Over(Fault),
}

/// A storage node.
pub(super) struct Node {
    /// As in the configuration.
    pub(super) name: String,
    /// What it must say that it is.
    pub(super) replica: Replica,
    base: Url,
    client: Client,
    token: Option<Token>,
    /// Whether it did not answer the last question.
    down: AtomicBool,
    changes_timeout: Duration,
    /// Until when it is not asked what changed.
    changes_paused_until: Mutex<Option<Instant>>,
    up: IntGauge,
    failures: IntCounter,
}

impl Node {
    /// Nothing is connected yet. The error says what is wrong with the address.
    pub(super) fn new(
        url: &str,
        replica: Replica,
        token: Option<Token>,
        changes_timeout: Duration,
        metrics: &Metrics,
    ) -> Result<Node, String> {
        let name = url.trim().trim_end_matches('/').to_owned();
        let wrong = |reason: &str| format!("--storage-urls: {url:?} {reason}");
        let base = Url::parse(&name).map_err(|e| wrong(&format!("is not a URL: {e}")))?;
        if base.scheme() != "http" || base.host_str().is_none() || base.path() != "/" || base.query().is_some() {
            return Err(wrong("is not of the form http://HOST:PORT"));
        }
        let client = Client::builder()
            .http2_prior_knowledge()
            .http2_keep_alive_interval(KEEP_ALIVE)
            .http2_keep_alive_timeout(KEEP_ALIVE)
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|e| wrong(&format!("cannot be connected to: {e}")))?;
        let up = metrics.up.with_label_values(&[&name]);
        let failures = metrics.failures.with_label_values(&[&name]);
        let (down, changes_paused_until) = (AtomicBool::new(false), Mutex::default());
        Ok(Node { name, replica, base, client, token, down, changes_timeout, changes_paused_until, up, failures })
    }

    /// Asks, once more where the connection breaks: no question changes anything. One that knows nothing of outlines is asked for samples.
    pub(super) async fn ask(&self, question: &Question<'_>) -> Result<Answer, Fault> {
        let timeout = match question {
            Question::CaughtUp(timeout, _) => timeout.saturating_add(KEEP_ALIVE),
            _ => ANSWER_TIMEOUT,
        };
        let asked = tokio::time::timeout(timeout, async {
            match (self.attempts(question).await, question) {
                (Err(Fault::Unknown(_)), Question::Outlines(request, ..)) => {
                    self.attempts(&Question::Select(request)).await
                }
                (answer, _) => answer,
            }
        });
        let asked = asked.await;
        let answer = asked.unwrap_or_else(|_| Err(Fault::Unreachable(format!("no answer within {timeout:?}"))));
        let answer = match answer {
            Err(Fault::Unknown(reason)) if !matches!(question, Question::Count(..)) => Err(Fault::Unreachable(reason)),
            answer => answer,
        };
        match &answer {
            Err(Fault::Unreachable(reason)) => self.is_down(reason),
            _ => self.is_up(),
        }
        answer
    }

    /// What changed in it; unknown where it does not answer, which is no sign that it is down: it may be older than the question. Then, and where it is down, it
    /// is not asked for a while, since each query would wait for it.
    #[expect(
        clippy::disallowed_methods,
        reason = "spares a node that does not answer; nothing that is answered depends on it"
    )]
    pub(super) async fn changes(&self, request: &ChangesRequest) -> Changes {
        let now = Instant::now();
        let is_paused = self.changes_paused().is_some_and(|until| now < until);
        if is_paused || self.down.load(Ordering::Relaxed) {
            return Changes::unknown(request.range);
        }
        let question = Question::Changes(request);
        let asked = tokio::time::timeout(self.changes_timeout, self.attempts(&question)).await;
        if let Ok(Ok(answer)) = asked {
            return answer.changes.unwrap_or_else(|| Changes::unknown(request.range));
        }
        *self.changes_paused() = now.checked_add(self.changes_timeout.saturating_mul(CHANGES_PAUSE));
        Changes::unknown(request.range)
    }

    fn changes_paused(&self) -> MutexGuard<'_, Option<Instant>> {
        self.changes_paused_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn attempts(&self, question: &Question<'_>) -> Result<Answer, Fault> {
        let (body, claim) = (question.encode(), question.claim());
        let mut first = None;
        loop {
            match (self.attempt(question.path(), body.clone(), &claim).await, first) {
                (Ok(answer), _) => return Ok(answer),
                (Err(Attempt::Over(fault)), _) => return Err(fault),
                (Err(Attempt::Broken(reason)), None) => {
                    tracing::debug!(node = self.name, reason, "the connection broke; asking once more");
                    first = Some(reason);
                }
                (Err(Attempt::Broken(reason)), Some(_)) => return Err(Fault::Unreachable(reason)),
            }
        }
    }

    async fn attempt(&self, path: &str, body: Vec<u8>, claim: &Claim) -> Result<Answer, Attempt> {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", wire::PREFIX));
        let mut request = self.client.post(url).header(CONTENT_TYPE, wire::CONTENT_TYPE).body(body);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token.header());
        }
        let response = request.send().await.map_err(|e| {
            let reason = innermost(&e);
            if e.is_connect() { Attempt::Over(Fault::Unreachable(reason)) } else { Attempt::Broken(reason) }
        })?;
        if response.status() == StatusCode::OK {
            self.read(response, claim.hold()).await
        } else {
            Err(Attempt::Over(self.refusal(response).await))
        }
    }

    /// Reads an answer, whose memory is held until who asked is done with it.
    async fn read(&self, mut response: Response, mut held: Held) -> Result<Answer, Attempt> {
        let broken = |reason: &str| Attempt::Broken(format!("the answer broke off: {reason}"));
        let (mut assembler, mut answer, mut bytes) = (Assembler::default(), Answer::default(), 0);
        while let Some(piece) = response.chunk().await.map_err(|e| broken(&innermost(&e)))? {
            bytes += piece.len();
            if bytes > ANSWER_BYTES_MAX {
                let message =
                    format!("the answer is larger than {ANSWER_BYTES_MAX} bytes; ask for fewer series or less time");
                return Err(Attempt::Over(self.failed(Kind::Invalid, &message)));
            }
            let too_much = |e: Exceeded| Attempt::Over(self.failed(e.kind(), &e.to_string()));
            held.grow(piece.len()).map_err(too_much)?;
            assembler.push(&piece);
            while let Some(frame) = assembler.next().map_err(broken)? {
                let (known, tallied) = (answer.series.len(), answer.tally_bytes);
                let step = answer.take(frame).map_err(broken)?;
                // On the way they share what they have in common.
                let labels = answer.series[known..].iter().map(|one| size_of_val(one) + one.0.canonical().len());
                held.grow(labels.sum::<usize>() + answer.tally_bytes - tallied).map_err(too_much)?;
                match step {
                    Step::More => {}
                    Step::Whole if assembler.is_empty() => {
                        held.keep();
                        return self.check(answer);
                    }
                    Step::Whole => return Err(broken("there is more after its end")),
                    Step::Failed(error) => return Err(Attempt::Over(self.failed(error.kind, &error.message))),
                }
            }
        }
        Err(broken("it has no end"))
    }

    /// Refuses the answer of another than the node that it should be: which partitions it has would be guessed.
    fn check(&self, mut answer: Answer) -> Result<Answer, Attempt> {
        let Some(begin) = answer.begin else { return Err(Attempt::Broken("nobody says who answers".to_owned())) };
        if begin.replica != self.replica {
            let message =
                format!("it is {}, and by --storage-urls and --storage-copies it is {}", begin.replica, self.replica);
            return Err(Attempt::Over(self.failed(Kind::Unavailable, &message)));
        }
        for warning in &mut answer.warnings {
            *warning = format!("storage node {}: {warning}", self.name);
        }
        Ok(answer)
    }

    async fn refusal(&self, mut response: Response) -> Fault {
        let status = response.status();
        let kind = response.headers().get(KIND_HEADER).cloned();
        let mut text = Vec::new();
        while let Ok(Some(piece)) = response.chunk().await {
            text.extend_from_slice(&piece);
            if text.len() > REASON_BYTES_MAX {
                text.truncate(REASON_BYTES_MAX);
                break;
            }
        }
        let text = String::from_utf8_lossy(&text);
        let reason = text.trim();
        match kind.and_then(|kind| KINDS.into_iter().find(|k| kind == k.as_str())) {
            Some(kind) => self.failed(kind, reason),
            None if status == StatusCode::NOT_FOUND => Fault::Unknown(format!("it answers {status}: {reason}")),
            // What answers before the routes do: a process that is starting, one that refuses the token, something else altogether.
            None => Fault::Unreachable(format!("it answers {status}: {reason}")),
        }
    }

    fn failed(&self, kind: Kind, message: &str) -> Fault {
        Fault::Failed(SourceError { kind, message: format!("storage node {}: {message}", self.name) })
    }

    fn is_down(&self, reason: &str) {
        self.up.set(0);
        self.failures.inc();
        if self.down.swap(true, Ordering::Relaxed) {
            tracing::debug!(node = self.name, reason, "the storage node is unreachable");
        } else {
            tracing::warn!(node = self.name, reason, "the storage node is unreachable");
        }
    }

    fn is_up(&self) {
        self.up.set(1);
        if self.down.swap(false, Ordering::Relaxed) {
            tracing::info!(node = self.name, "the storage node answers again");
        }
    }
}

/// Waits on the runtime for a call that blocks, unless it is cancelled.
pub(super) fn block<T>(
    handle: &Handle,
    cancel: &Cancel,
    work: impl Future<Output = Result<T, SourceError>>,
) -> Result<T, SourceError> {
    handle.block_on(async {
        let cancelled = async {
            while !cancel.is_cancelled() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::select! {
            biased;
            () = cancelled => Err(SourceError::cancelled()),
            done = work => done,
        }
    })
}

/// What is at the bottom of an error: those above it only say that a request failed.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

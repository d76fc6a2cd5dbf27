//! The engine's loop: the one place that reads the clock, waits, and makes the engine's changes durable.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use queue::payload::Decoder;
use queue::{Lag, Log, Record};
use rules::Loaded;
use runtime::{Shutdown, clock};
use storage::Reader;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, oneshot};

use super::{Changed, Engine, Round, RulesChange};
use crate::Error;
use crate::delivery::Channels;
use crate::metrics::Metrics;
use crate::store::{Commit, Store};
use crate::view::{RULE_STATES, View};

/// The consumer group of the log.
pub(crate) const GROUP: &str = "alerting";
/// How often positions are written when nothing else is: after a crash that much of the log is read again.
const POSITIONS_MS: i64 = 2_000;
/// Longest wait; what is shown by metrics is this fresh.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// Messages that are taken before a round of evaluations, so that a backlog does not keep rules from being evaluated.
const MESSAGES_A_ROUND: usize = 64;
/// How long a reload waits for storage to have read what the log has.
const CAUGHT_UP: Duration = Duration::from_secs(30);

/// What the engine is told.
pub(crate) enum Message {
    /// Records of a partition, in order.
    Records {
        /// Which.
        partition: u32,
        /// At least one.
        records: Vec<Record>,
    },
    /// These rules take the place of those of files before.
    Files {
        /// All rules and channels.
        loaded: Box<Loaded>,
        /// Told once they are in use.
        done: oneshot::Sender<()>,
    },
    /// Some rules that were handed over come, change or go.
    Change {
        /// Which.
        change: RulesChange,
        /// The channels that are there for rules that name none.
        default_channels: HashSet<String>,
        /// Told once they are in use: those that were refused, by identity.
        done: oneshot::Sender<Vec<(String, String)>>,
    },
}

/// The rules with which the engine begins.
#[derive(Default)]
pub(crate) struct First {
    /// Of files.
    pub(crate) loaded: Loaded,
    /// Handed over before.
    pub(crate) handed: RulesChange,
    pub(crate) default_channels: HashSet<String>,
}

/// What the loop needs.
pub(crate) struct Parts {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) reader: Arc<dyn Reader>,
    pub(crate) store: Store,
    pub(crate) channels: Channels,
    pub(crate) view: View,
    pub(crate) metrics: Metrics,
    /// Told when there is more in the outbox.
    pub(crate) more: Arc<Notify>,
    /// The next offset of each partition.
    pub(crate) positions: BTreeMap<u32, i64>,
    pub(crate) lag: Arc<Lag>,
}

struct Loop {
    engine: Engine,
    parts: Parts,
    handle: Handle,
    decoder: Decoder,
    /// Whether positions moved since they were written.
    moved: bool,
    /// Those that are durable, and of which the log has to be told.
    untold: BTreeMap<u32, i64>,
    written_at_ms: i64,
}

/// Runs on a thread that may block, until it is asked to stop.
pub(crate) fn run(
    engine: Engine,
    parts: Parts,
    first: First,
    ready: oneshot::Sender<()>,
    mut messages: mpsc::Receiver<Message>,
    mut shutdown: Shutdown,
    handle: Handle,
) -> Result<(), Error> {
    let (decoder, untold) = (Decoder::default(), BTreeMap::new());
    let mut this = Loop { engine, parts, handle, decoder, moved: true, untold, written_at_ms: 0 };
    this.first(first)?;
    // A start that was given up does not wait for the answer.
    let _ = ready.send(());
    loop {
        let wait = this.wait();
        let next = this.handle.block_on(async {
            tokio::select! {
                biased;
                () = shutdown.asked() => None,
                message = tokio::time::timeout(wait, messages.recv()) => match message {
                    // Nobody sends any more: what failed there ends this too.
                    Ok(None) => None,
                    Ok(Some(message)) => Some(Some(message)),
                    Err(_) => Some(None),
                },
            }
        });
        let Some(message) = next else { break };
        if let Some(message) = message {
            this.take(message)?;
            for _ in 1..MESSAGES_A_ROUND {
                match messages.try_recv() {
                    Ok(message) => this.take(message)?,
                    Err(_) => break,
                }
            }
        }
        this.round()?;
    }
    let owed = this.write(Commit { now_ms: clock::now_ms(), ..Commit::default() })?;
    this.tell(owed);
    Ok(())
}

impl Loop {
    fn wait(&self) -> Duration {
        let due = self.engine.due_ms().unwrap_or(i64::MAX).saturating_sub(clock::now_ms()).max(0);
        Duration::from_millis(due.unsigned_abs()).min(WAIT_MAX)
    }

    fn take(&mut self, message: Message) -> Result<(), Error> {
        match message {
            Message::Records { partition, records } => self.records(partition, &records),
            Message::Files { loaded, done } => {
                self.files(&loaded)?;
                // Nobody waits for it at a change of files.
                let _ = done.send(());
            }
            Message::Change { change, default_channels, done } => {
                self.engine.set_default_channels(default_channels);
                let changed = self.engine.change(change, clock::now_ms(), self.parts.reader.as_ref());
                let refused = self.changed(changed)?;
                // A source that has gone asks again what is held.
                let _ = done.send(refused);
            }
        }
        Ok(())
    }

    fn records(&mut self, partition: u32, records: &[Record]) {
        let now_ms = clock::now_ms();
        // Without rules nothing in a record matters.
        let read = if self.engine.windows().has_rules() { records } else { &[] };
        for record in read {
            let decoder = &mut self.decoder;
            let shown = self
                .engine
                .record(partition, record.timestamp_ms, now_ms, |visitor| decoder.decode(&record.payload, visitor));
            if let Err(e) = shown {
                self.parts.metrics.records_refused.inc();
                tracing::error!(partition, offset = record.offset, error = %e, "a record of the log cannot be read");
            }
        }
        if let Some(last) = records.last() {
            self.parts.positions.insert(partition, last.offset + 1);
            self.parts.lag.applied(partition, last);
            self.moved = true;
        }
    }

    fn first(&mut self, first: First) -> Result<(), Error> {
        let First { loaded, handed, default_channels } = first;
        self.engine.set_default_channels(default_channels);
        if !handed.put.is_empty() {
            self.catch_up();
            let changed = self.engine.change(handed, clock::now_ms(), self.parts.reader.as_ref());
            self.changed(changed)?;
        }
        self.files(&loaded)
    }

    fn files(&mut self, loaded: &Loaded) -> Result<(), Error> {
        self.parts.channels.set_files(&loaded.channels);
        if !loaded.rules.is_empty() {
            self.catch_up();
        }
        let changed = self.engine.set_files(loaded, clock::now_ms(), self.parts.reader.as_ref());
        self.changed(changed)?;
        let orphans = self.engine.end_orphans(&loaded.bad_files(), clock::now_ms());
        self.changed(orphans)?;
        self.parts.view.set_problems(loaded.problems.clone());
        self.parts.metrics.files_bad.set(loaded.bad_files().len() as i64);
        Ok(())
    }

    fn catch_up(&self) {
        if let Err(e) = self.handle.block_on(self.parts.reader.caught_up(CAUGHT_UP)) {
            tracing::warn!(error = %e, "storage has not read the whole log; windows of rules may begin late");
        }
    }

    /// Makes a change of rules durable, then shows it. Returns the rules that were refused.
    fn changed(&mut self, changed: Changed) -> Result<Vec<(String, String)>, Error> {
        let Changed { changes, states, gone, shown, seeded, refused } = changed;
        let now_ms = clock::now_ms();
        self.parts.metrics.windows_seeded.inc_by(seeded);
        let showing = self.handle.block_on(self.parts.view.showing());
        let owed = self.write(Commit { now_ms, changes, states, gone, ..Commit::default() })?;
        self.parts.view.update(shown, now_ms);
        drop(showing);
        self.show();
        self.tell(owed);
        Ok(refused)
    }

    #[expect(clippy::disallowed_methods, reason = "the duration of an evaluation is measured here")]
    fn round(&mut self) -> Result<(), Error> {
        let now_ms = clock::now_ms();
        let began = std::time::Instant::now();
        let elapsed = || began.elapsed().as_secs_f64();
        let Round { changes, states, shown, failures, delays_ms, took_seconds } =
            self.engine.round(now_ms, self.parts.reader.as_ref(), &elapsed);
        let metrics = &self.parts.metrics;
        metrics.evaluations.inc_by(took_seconds.len() as u64);
        metrics.evaluation_failures.inc_by(failures);
        took_seconds.iter().for_each(|s| metrics.evaluation_seconds.observe(*s));
        delays_ms.iter().for_each(|ms| metrics.delay_seconds.observe((*ms).max(0) as f64 / 1e3));
        // Durable, then shown, then told: who was told finds what he looks for.
        let mut owed = false;
        let changed = !changes.is_empty() || !states.is_empty();
        // Most rounds change nothing, and wait for nobody.
        let showing = changed.then(|| self.handle.block_on(self.parts.view.showing()));
        if changed || (self.moved && now_ms - self.written_at_ms >= POSITIONS_MS) {
            owed = self.write(Commit { now_ms, changes, states, ..Commit::default() })?;
        }
        if !shown.is_empty() {
            self.parts.view.update(shown, now_ms);
            self.show();
        }
        drop(showing);
        self.tell(owed);
        Ok(())
    }

    /// Tells those who deliver, and then the log how far it was read.
    fn tell(&mut self, owed: bool) {
        if owed {
            self.parts.more.notify_one();
        }
        for (partition, offset) in std::mem::take(&mut self.untold) {
            // The database has it; the log only keeps more than it must until it is told again.
            if let Err(e) = self.handle.block_on(self.parts.log.commit(GROUP, partition, offset)) {
                tracing::warn!(partition, error = %e, "telling the log how far it was read");
            }
        }
    }

    /// Makes changes durable with the positions that led to them. Returns whether anything is owed because of them.
    fn write(&mut self, mut commit: Commit) -> Result<bool, Error> {
        if commit.changes.is_empty() && commit.states.is_empty() && commit.gone.is_empty() && !self.moved {
            return Ok(false);
        }
        let (now_ms, owed) = (commit.now_ms, commit.changes.iter().any(|(_, c)| !c.notices.is_empty()));
        let positions = if self.moved { self.parts.positions.clone() } else { BTreeMap::new() };
        commit.positions.clone_from(&positions);
        let refused = self.handle.block_on(self.parts.store.commit(commit))?;
        (self.moved, self.written_at_ms) = (false, now_ms);
        if refused > 0 {
            self.parts.metrics.outbox_refused.inc_by(refused);
            self.parts.metrics.dead_letters.inc_by(refused);
            tracing::error!(notifications = refused, "the outbox is full, notifications became dead letters");
        }
        self.untold = positions;
        Ok(owed)
    }

    fn show(&self) {
        let metrics = &self.parts.metrics;
        let counts = self.parts.view.counts();
        for state in RULE_STATES {
            metrics.rules.with_label_values(&[state]).set(counts.rules.get(state).copied().unwrap_or(0));
        }
        for state in crate::state::State::ALL {
            let count = counts.alerts.get(state.as_str()).copied().unwrap_or(0);
            metrics.alerts.with_label_values(&[state.as_str()]).set(count);
        }
        let windows = self.engine.windows();
        metrics.window_series.set(windows.head().series() as i64);
        metrics.window_samples.set(windows.head().samples().cast_signed());
        metrics.window_bytes.set(windows.bytes() as i64);
        metrics.window_overflowed.set(i64::from(windows.is_overflowed()));
    }
}

//! The engine's loop: the one place that reads the clock, waits, and makes the engine's changes durable.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use queue::payload::Decoder;
use queue::{Log, Record};
use rules::Loaded;
use runtime::{Shutdown, clock};
use storage::Reader;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, oneshot};

use super::{Engine, Round};
use crate::Error;
use crate::delivery::Channels;
use crate::metrics::Metrics;
use crate::state::Change;
use crate::store::{Commit, Origin, Store};
use crate::view::View;

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
    /// These rules take the place of those before.
    Rules {
        /// All rules and channels.
        loaded: Box<Loaded>,
        /// Told once they are in use.
        done: oneshot::Sender<()>,
    },
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
}

struct Loop {
    engine: Engine,
    parts: Parts,
    handle: Handle,
    decoder: Decoder,
    /// Whether positions moved since they were written.
    moved: bool,
    written_at_ms: i64,
}

/// Runs on a thread that may block, until it is asked to stop.
pub(crate) fn run(
    engine: Engine,
    parts: Parts,
    first: Loaded,
    ready: oneshot::Sender<()>,
    mut messages: mpsc::Receiver<Message>,
    mut shutdown: Shutdown,
    handle: Handle,
) -> Result<(), Error> {
    let mut this = Loop { engine, parts, handle, decoder: Decoder::default(), moved: true, written_at_ms: 0 };
    this.rules(&first)?;
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
    this.write(clock::now_ms(), Vec::new()).map(drop)
}

impl Loop {
    fn wait(&self) -> Duration {
        let due = self.engine.due_ms().unwrap_or(i64::MAX).saturating_sub(clock::now_ms()).max(0);
        Duration::from_millis(due.unsigned_abs()).min(WAIT_MAX)
    }

    fn take(&mut self, message: Message) -> Result<(), Error> {
        match message {
            Message::Records { partition, records } => self.records(partition, &records),
            Message::Rules { loaded, done } => {
                self.rules(&loaded)?;
                // Nobody waits for it at a change of files.
                let _ = done.send(());
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
            self.moved = true;
        }
    }

    fn rules(&mut self, loaded: &Loaded) -> Result<(), Error> {
        self.parts.channels.replace(&loaded.channels);
        if !loaded.rules.is_empty()
            && let Err(e) = self.handle.block_on(self.parts.reader.caught_up(CAUGHT_UP))
        {
            tracing::warn!(error = %e, "storage has not read the whole log; windows of rules may begin late");
        }
        let now_ms = clock::now_ms();
        let changes = self.engine.set_rules(loaded, now_ms, self.parts.reader.as_ref());
        let owed = self.write(now_ms, changes)?;
        self.parts.view.replace(self.engine.picture(loaded));
        self.parts.metrics.files_bad.set(loaded.bad_files().len() as i64);
        self.show();
        self.tell(owed);
        Ok(())
    }

    #[expect(clippy::disallowed_methods, reason = "the duration of an evaluation is measured here")]
    fn round(&mut self) -> Result<(), Error> {
        let now_ms = clock::now_ms();
        let began = std::time::Instant::now();
        let elapsed = || began.elapsed().as_secs_f64();
        let Round { changes, shown, failures, delays_ms, took_seconds } =
            self.engine.round(now_ms, self.parts.reader.as_ref(), &elapsed);
        let metrics = &self.parts.metrics;
        metrics.evaluations.inc_by(took_seconds.len() as u64);
        metrics.evaluation_failures.inc_by(failures);
        took_seconds.iter().for_each(|s| metrics.evaluation_seconds.observe(*s));
        delays_ms.iter().for_each(|ms| metrics.delay_seconds.observe((*ms).max(0) as f64 / 1e3));
        // Durable, then shown, then told: who was told finds what he looks for.
        let mut owed = false;
        if !changes.is_empty() || (self.moved && now_ms - self.written_at_ms >= POSITIONS_MS) {
            owed = self.write(now_ms, changes)?;
        }
        if !shown.is_empty() {
            self.parts.view.update(shown);
            self.show();
        }
        self.tell(owed);
        Ok(())
    }

    fn tell(&self, owed: bool) {
        if owed {
            self.parts.more.notify_one();
        }
    }

    /// Makes changes durable with the positions that led to them, then tells the log. Returns whether anything is owed because of them.
    fn write(&mut self, now_ms: i64, changes: Vec<(Origin, Change)>) -> Result<bool, Error> {
        if changes.is_empty() && !self.moved {
            return Ok(false);
        }
        let owed = changes.iter().any(|(_, c)| !c.notices.is_empty());
        let positions = if self.moved { self.parts.positions.clone() } else { BTreeMap::new() };
        let commit = Commit { now_ms, positions: positions.clone(), changes };
        let refused = self.handle.block_on(self.parts.store.commit(commit))?;
        (self.moved, self.written_at_ms) = (false, now_ms);
        if refused > 0 {
            self.parts.metrics.outbox_refused.inc_by(refused);
            self.parts.metrics.dead_letters.inc_by(refused);
            tracing::error!(notifications = refused, "the outbox is full, notifications became dead letters");
        }
        for (partition, offset) in positions {
            // The database has it; the log only keeps more than it must until it is told again.
            if let Err(e) = self.handle.block_on(self.parts.log.commit(GROUP, partition, offset)) {
                tracing::warn!(partition, error = %e, "telling the log how far it was read");
            }
        }
        Ok(owed)
    }

    fn show(&self) {
        let metrics = &self.parts.metrics;
        let picture = self.parts.view.picture();
        for state in ["inactive", "pending", "firing", "recovering", "nodata", "error", "paused", "recording"] {
            let count = picture.rules.iter().filter(|r| r.detail() == state).count();
            metrics.rules.with_label_values(&[state]).set(count as i64);
        }
        for state in crate::state::State::ALL {
            let count = picture.rules.iter().flat_map(|r| &r.alerts).filter(|a| a.state == state).count();
            metrics.alerts.with_label_values(&[state.as_str()]).set(count as i64);
        }
        let windows = self.engine.windows();
        metrics.window_series.set(windows.head().series() as i64);
        metrics.window_samples.set(windows.head().samples().cast_signed());
        metrics.window_bytes.set(windows.head().bytes() as i64);
        metrics.window_overflowed.set(i64::from(windows.is_overflowed()));
    }
}

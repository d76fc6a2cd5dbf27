//! What is asked of the database.

use std::collections::{BTreeMap, HashMap};

use model::Labels;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::Store;
use crate::Error;
use crate::state::{Alert, Alerts, Change, State};
use crate::text;
use crate::view::RULE_STATES;

/// Rows of the ledger and of the transitions that are kept: at two hundred bytes each, some twenty megabytes.
const HISTORY_MAX: i64 = 100_000;
/// Notifications that may wait; at half a kilobyte each, fifty megabytes. Further ones become dead letters at once.
pub(crate) const OUTBOX_MAX: i64 = 100_000;
/// Dead letters that are kept.
const DEAD_MAX: i64 = 100_000;

/// What becomes durable together.
#[derive(Debug, Default)]
pub(crate) struct Commit {
    pub(crate) now_ms: i64,
    /// The next offset of each partition.
    pub(crate) positions: BTreeMap<u32, i64>,
    /// The changes, each with what the outbox says of its rule.
    pub(crate) changes: Vec<(Origin, Change)>,
    /// The states that rules have from now on.
    pub(crate) states: Vec<StateChange>,
    /// Rules that are gone.
    pub(crate) gone: Vec<String>,
}

/// What the database keeps of an alert's rule.
pub(crate) type Origin = std::sync::Arc<RuleFacts>;

/// What the database keeps of an alert's rule.
#[derive(Debug, Default)]
pub(crate) struct RuleFacts {
    pub(crate) uid: String,
    pub(crate) file: String,
    pub(crate) name: String,
    pub(crate) generator_url: String,
}

/// A state that a rule has from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StateChange {
    /// The identity of the rule.
    pub(crate) rule: String,
    /// One of [`RULE_STATES`].
    pub(crate) state: &'static str,
    pub(crate) since_ms: i64,
}

/// What was stored of rules, by their identities.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    /// The alerts, with the file or the source of the rule.
    pub(crate) alerts: BTreeMap<String, (String, Alerts)>,
    /// The state, and since when.
    pub(crate) states: HashMap<String, (&'static str, i64)>,
}

/// What became of the notifications of a rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// When one was delivered last.
    pub(crate) delivered_ms: Option<i64>,
    /// Why the last attempt failed; empty if it did not.
    pub(crate) error: String,
}

/// A notification that is owed.
#[derive(Debug, Clone)]
pub(crate) struct Owed {
    pub(crate) id: i64,
    pub(crate) alertname: String,
    pub(crate) generator_url: String,
    pub(crate) firing: bool,
    pub(crate) labels: Labels,
    pub(crate) annotations: Labels,
    pub(crate) starts_at_ms: i64,
    pub(crate) ends_at_ms: i64,
    pub(crate) created_at_ms: i64,
    pub(crate) attempts: u32,
}

/// The first notification of a lane: what is owed to one channel because of one rule, in order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Lane {
    pub(crate) channel: String,
    pub(crate) rule: String,
}

/// Lanes with the time at which their first notification may be sent.
pub(crate) type Outbox = Vec<(Lane, i64)>;

/// One attempt at delivery.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub(crate) at_ms: i64,
    pub(crate) lane: Lane,
    pub(crate) ids: Vec<i64>,
    pub(crate) firing: usize,
    pub(crate) resolved: usize,
    pub(crate) attempt: u32,
    /// `delivered`, `retried`, `refused`, `expired`, `skipped`.
    pub(crate) outcome: &'static str,
    pub(crate) status: Option<u16>,
    pub(crate) error: String,
    pub(crate) duration_ms: i64,
    /// The labels of the alerts, as JSON.
    pub(crate) alerts: String,
    /// When it is tried again; `None` if never.
    pub(crate) next_at_ms: Option<i64>,
}

/// An attempt as it is shown.
#[derive(Debug, Clone, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LedgerEntry {
    id: i64,
    at: String,
    channel: String,
    rule: String,
    firing: i64,
    resolved: i64,
    attempt: i64,
    outcome: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<i64>,
    #[serde(skip_serializing_if = "String::is_empty")]
    error: String,
    duration_ms: i64,
    alerts: serde_json::Value,
}

/// How much is owed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) outbox: i64,
    pub(crate) oldest_ms: Option<i64>,
    pub(crate) dead: i64,
}

impl Store {
    /// Says which log is read from now on, before anything of it is. Where the positions are of another one they go to the start; whether they did.
    pub(crate) async fn follow(&self, log: String) -> Result<bool, Error> {
        self.run(move |connection| {
            let transaction = connection.transaction()?;
            let known: Option<String> = transaction.query_row("SELECT id FROM log", [], |row| row.get(0)).optional()?;
            let is_other = known.is_some_and(|known| known != log);
            if is_other {
                transaction.execute("UPDATE positions SET next_offset = 0", [])?;
            }
            transaction.execute("INSERT OR REPLACE INTO log VALUES (1, ?1)", [&log])?;
            transaction.commit()?;
            Ok(is_other)
        })
        .await
    }

    /// Positions and alerts as the last transaction left them.
    pub(crate) async fn restore(&self) -> Result<(BTreeMap<u32, i64>, Stored), Error> {
        self.run(|connection| {
            let mut statement = connection.prepare("SELECT partition, next_offset FROM positions")?;
            let positions = statement.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?.collect::<Result<_, _>>()?;
            let mut statement = connection.prepare("SELECT * FROM alerts")?;
            let mut rows = statement.query([])?;
            let mut stored = Stored::default();
            while let Some(row) = rows.next()? {
                let (rule, file): (String, String) = (row.get("rule")?, row.get("file")?);
                let entry = stored.alerts.entry(rule).or_insert_with(|| (file, Alerts::new()));
                entry.1.insert(read_labels(row, "series")?, read_alert(row)?);
            }
            let mut statement = connection.prepare("SELECT rule, state, since_ms FROM rule_states")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let (rule, state, since_ms): (String, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
                if let Some(state) = RULE_STATES.into_iter().find(|known| *known == state) {
                    stored.states.insert(rule, (state, since_ms));
                }
            }
            Ok((positions, stored))
        })
        .await
    }

    /// Makes changes, positions and what is owed durable together. Returns how many notifications found the outbox full.
    pub(crate) async fn commit(&self, commit: Commit) -> Result<u64, Error> {
        self.run(move |connection| {
            let transaction = connection.transaction()?;
            let refused = write(&transaction, &commit)?;
            transaction.commit()?;
            Ok(refused)
        })
        .await
    }

    /// The lanes that are owed something, those first that wait longest, at most `max`.
    pub(crate) async fn lanes(&self, max: usize) -> Result<Outbox, Error> {
        self.run(move |connection| {
            // Of the bare columns beside min(), SQLite takes those of the row with the minimum.
            let sql = "SELECT channel, rule, min(id), next_at_ms FROM outbox GROUP BY channel, rule ORDER BY next_at_ms LIMIT ?1";
            let mut statement = connection.prepare_cached(sql)?;
            let lane = |r: &Row<'_>| Ok((Lane { channel: r.get(0)?, rule: r.get(1)? }, r.get(3)?));
            Ok(statement.query_map([max as i64], lane)?.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// The first notifications of a lane, in order.
    pub(crate) async fn owed(&self, lane: Lane, max: usize) -> Result<Vec<Owed>, Error> {
        self.run(move |connection| {
            let sql = "SELECT * FROM outbox WHERE channel = ?1 AND rule = ?2 ORDER BY id LIMIT ?3";
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows = statement.query(params![lane.channel, lane.rule, max as i64])?;
            let mut owed = Vec::new();
            while let Some(row) = rows.next()? {
                owed.push(read_owed(row)?);
            }
            Ok(owed)
        })
        .await
    }

    /// Records an attempt, and what follows from it: done, tried again, or dead.
    pub(crate) async fn attempted(&self, attempt: Attempt) -> Result<(), Error> {
        self.run(move |connection| {
            let transaction = connection.transaction()?;
            record(&transaction, &attempt)?;
            Ok(transaction.commit()?)
        })
        .await
    }

    /// The newest attempts, newest first.
    pub(crate) async fn ledger(&self, max: usize) -> Result<Vec<LedgerEntry>, Error> {
        self.run(move |connection| {
            let mut statement = connection.prepare_cached("SELECT * FROM ledger ORDER BY id DESC LIMIT ?1")?;
            Ok(statement.query_map([max as i64], read_entry)?.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// What the ledger says of the notifications of each rule.
    pub(crate) async fn told(&self) -> Result<HashMap<String, Told>, Error> {
        self.run(|connection| {
            // Of the bare columns beside max(), SQLite takes those of the row with the maximum.
            let sql = "SELECT rule, max(id), iif(outcome IN ('delivered', 'skipped'), '', error),
                       (SELECT max(at_ms) FROM ledger d WHERE d.rule = l.rule AND d.outcome = 'delivered')
                       FROM ledger l GROUP BY rule";
            let mut statement = connection.prepare(sql)?;
            let row = |r: &Row<'_>| Ok((r.get(0)?, Told { error: r.get(2)?, delivered_ms: r.get(3)? }));
            Ok(statement.query_map([], row)?.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Lets what waits for a channel be tried at once.
    pub(crate) async fn hurry(&self, channels: Vec<String>, now_ms: i64) -> Result<(), Error> {
        self.run(move |connection| {
            let transaction = connection.transaction()?;
            for channel in &channels {
                let sql = "UPDATE outbox SET next_at_ms = min(next_at_ms, ?2) WHERE channel = ?1";
                transaction.prepare_cached(sql)?.execute(params![channel, now_ms])?;
            }
            Ok(transaction.commit()?)
        })
        .await
    }

    /// How much is owed.
    pub(crate) async fn summary(&self) -> Result<Summary, Error> {
        self.run(|connection| {
            let sql = "SELECT count(*), min(created_at_ms), (SELECT count(*) FROM dead_letters) FROM outbox";
            let summary = |r: &Row<'_>| Ok(Summary { outbox: r.get(0)?, oldest_ms: r.get(1)?, dead: r.get(2)? });
            Ok(connection.prepare_cached(sql)?.query_row([], summary)?)
        })
        .await
    }
}

fn write(connection: &Connection, commit: &Commit) -> Result<u64, Error> {
    let mut refused = 0;
    for (partition, offset) in &commit.positions {
        let sql = "INSERT INTO positions VALUES (?1, ?2) ON CONFLICT (partition) DO UPDATE SET next_offset = ?2";
        connection.prepare_cached(sql)?.execute(params![partition, offset])?;
    }
    for StateChange { rule, state, since_ms } in &commit.states {
        let sql = "INSERT OR REPLACE INTO rule_states VALUES (?1, ?2, ?3)";
        connection.prepare_cached(sql)?.execute(params![rule, state, since_ms])?;
    }
    for rule in &commit.gone {
        connection.prepare_cached("DELETE FROM rule_states WHERE rule = ?1")?.execute([rule])?;
    }
    if commit.changes.is_empty() {
        return Ok(0);
    }
    let mut room = OUTBOX_MAX - connection.query_row("SELECT count(*) FROM outbox", [], |r| r.get::<_, i64>(0))?;
    for (rule, change) in &commit.changes {
        let series = text::labels(&change.series).to_string();
        let sql = "INSERT INTO transitions (rule, series, state, at_ms) VALUES (?1, ?2, ?3, ?4)";
        connection.prepare_cached(sql)?.execute(params![rule.uid, series, change.to, commit.now_ms])?;
        match &change.alert {
            Some(alert) => write_alert(connection, rule, &series, alert)?,
            None => {
                let sql = "DELETE FROM alerts WHERE rule = ?1 AND series = ?2";
                connection.prepare_cached(sql)?.execute(params![rule.uid, series])?;
            }
        }
        for notice in &change.notices {
            room -= 1;
            let (labels, annotations) =
                (text::labels(&notice.labels).to_string(), text::labels(&notice.annotations).to_string());
            let sql = "INSERT INTO outbox (channel, rule, alertname, generator_url, firing, labels, annotations, value,
                       starts_at_ms, ends_at_ms, created_at_ms, next_at_ms) VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?11)";
            connection.prepare_cached(sql)?.execute(params![
                notice.channel,
                rule.uid,
                rule.name,
                rule.generator_url,
                notice.firing,
                labels,
                annotations,
                notice.value,
                notice.starts_at_ms,
                notice.ends_at_ms,
                commit.now_ms
            ])?;
            if room < 0 {
                refused += 1;
                bury(connection, connection.last_insert_rowid(), commit.now_ms, "the outbox is full")?;
            }
        }
    }
    let sql = "DELETE FROM transitions WHERE id <= (SELECT max(id) FROM transitions) - ?1";
    connection.prepare_cached(sql)?.execute([HISTORY_MAX])?;
    Ok(refused)
}

fn write_alert(connection: &Connection, rule: &RuleFacts, series: &str, alert: &Alert) -> Result<(), Error> {
    let (labels, annotations) = (text::labels(&alert.labels).to_string(), text::labels(&alert.annotations).to_string());
    let sql = "INSERT OR REPLACE INTO alerts VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
    connection.prepare_cached(sql)?.execute(params![
        rule.uid,
        series,
        rule.file,
        alert.state.as_str(),
        labels,
        annotations,
        alert.value,
        alert.active_at_ms,
        alert.fired_at_ms,
        alert.recovering_since_ms,
        alert.channel
    ])?;
    Ok(())
}

fn record(connection: &Connection, attempt: &Attempt) -> Result<(), Error> {
    let sql = "INSERT INTO ledger (at_ms, channel, rule, firing, resolved, attempt, outcome, status, error, duration_ms, alerts)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
    connection.prepare_cached(sql)?.execute(params![
        attempt.at_ms,
        attempt.lane.channel,
        attempt.lane.rule,
        attempt.firing as i64,
        attempt.resolved as i64,
        attempt.attempt,
        attempt.outcome,
        attempt.status,
        attempt.error,
        attempt.duration_ms,
        attempt.alerts
    ])?;
    let sql = "DELETE FROM ledger WHERE id <= (SELECT max(id) FROM ledger) - ?1";
    connection.prepare_cached(sql)?.execute([HISTORY_MAX])?;
    for id in &attempt.ids {
        match attempt.next_at_ms {
            Some(next) => {
                let sql = "UPDATE outbox SET attempts = attempts + 1, next_at_ms = ?2 WHERE id = ?1";
                connection.prepare_cached(sql)?.execute(params![id, next])?;
            }
            None if matches!(attempt.outcome, "delivered" | "skipped") => {
                connection.prepare_cached("DELETE FROM outbox WHERE id = ?1")?.execute([id])?;
            }
            None => bury(connection, *id, attempt.at_ms, &attempt.error)?,
        }
    }
    Ok(())
}

/// Makes a dead letter of a notification.
fn bury(connection: &Connection, id: i64, now_ms: i64, reason: &str) -> Result<(), Error> {
    let sql =
        "INSERT INTO dead_letters SELECT id, channel, rule, firing, labels, annotations, starts_at_ms, ends_at_ms,
               created_at_ms, ?2, ?3 FROM outbox WHERE id = ?1";
    connection.prepare_cached(sql)?.execute(params![id, now_ms, reason])?;
    connection.prepare_cached("DELETE FROM outbox WHERE id = ?1")?.execute([id])?;
    let sql = "DELETE FROM dead_letters WHERE id <= (SELECT max(id) FROM dead_letters) - ?1";
    connection.prepare_cached(sql)?.execute([DEAD_MAX])?;
    Ok(())
}

fn read_labels(row: &Row<'_>, column: &str) -> Result<Labels, Error> {
    let json: String = row.get(column)?;
    text::read_labels(&json).ok_or_else(|| Error::Schema(format!("column {column} holds no labels: {json}")))
}

fn read_alert(row: &Row<'_>) -> Result<Alert, Error> {
    let state: String = row.get("state")?;
    Ok(Alert {
        state: State::from_name(&state).ok_or_else(|| Error::Schema(format!("{state:?} is no state of an alert")))?,
        labels: read_labels(row, "labels")?,
        annotations: read_labels(row, "annotations")?,
        // SQLite keeps NaN as NULL.
        value: row.get::<_, Option<f64>>("value")?.unwrap_or(f64::NAN),
        active_at_ms: row.get("active_at_ms")?,
        fired_at_ms: row.get("fired_at_ms")?,
        recovering_since_ms: row.get("recovering_since_ms")?,
        channel: row.get("channel")?,
    })
}

fn read_owed(row: &Row<'_>) -> Result<Owed, Error> {
    Ok(Owed {
        id: row.get("id")?,
        alertname: row.get("alertname")?,
        generator_url: row.get("generator_url")?,
        firing: row.get("firing")?,
        labels: read_labels(row, "labels")?,
        annotations: read_labels(row, "annotations")?,
        starts_at_ms: row.get("starts_at_ms")?,
        ends_at_ms: row.get("ends_at_ms")?,
        created_at_ms: row.get("created_at_ms")?,
        attempts: row.get("attempts")?,
    })
}

fn read_entry(row: &Row<'_>) -> rusqlite::Result<LedgerEntry> {
    let alerts: String = row.get("alerts")?;
    Ok(LedgerEntry {
        id: row.get("id")?,
        at: text::time(row.get("at_ms")?),
        channel: row.get("channel")?,
        rule: row.get("rule")?,
        firing: row.get("firing")?,
        resolved: row.get("resolved")?,
        attempt: row.get("attempt")?,
        outcome: row.get("outcome")?,
        status: row.get("status")?,
        error: row.get("error")?,
        duration_ms: row.get("duration_ms")?,
        alerts: serde_json::from_str(&alerts).unwrap_or_default(),
    })
}

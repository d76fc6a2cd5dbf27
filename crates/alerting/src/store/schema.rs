//! The tables, and how the file comes to be.

use std::fs::OpenOptions;
use std::path::Path;

use runtime::files::{create_dir, sync_dir};
use rusqlite::Connection;

use crate::Error;

/// Version of the tables, in `PRAGMA user_version`. A later one is refused.
const VERSION: i64 = 3;
const FILE: &str = "alerting.db";

const TABLES: &str = "
CREATE TABLE positions (partition INTEGER PRIMARY KEY, next_offset INTEGER NOT NULL);
CREATE TABLE alerts (
  rule TEXT NOT NULL, series TEXT NOT NULL, file TEXT NOT NULL, state TEXT NOT NULL,
  labels TEXT NOT NULL, annotations TEXT NOT NULL, value REAL,
  active_at_ms INTEGER NOT NULL, fired_at_ms INTEGER NOT NULL, recovering_since_ms INTEGER NOT NULL,
  channel TEXT, PRIMARY KEY (rule, series)) WITHOUT ROWID;
CREATE TABLE transitions (
  id INTEGER PRIMARY KEY, rule TEXT NOT NULL, series TEXT NOT NULL, state TEXT NOT NULL, at_ms INTEGER NOT NULL);
CREATE TABLE outbox (
  id INTEGER PRIMARY KEY AUTOINCREMENT, channel TEXT NOT NULL, rule TEXT NOT NULL, alertname TEXT NOT NULL,
  generator_url TEXT NOT NULL, firing INTEGER NOT NULL, labels TEXT NOT NULL, annotations TEXT NOT NULL, value REAL,
  starts_at_ms INTEGER NOT NULL, ends_at_ms INTEGER NOT NULL, created_at_ms INTEGER NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 0, next_at_ms INTEGER NOT NULL);
CREATE INDEX outbox_lane ON outbox (channel, rule, id);
CREATE TABLE dead_letters (
  id INTEGER PRIMARY KEY, channel TEXT NOT NULL, rule TEXT NOT NULL, firing INTEGER NOT NULL, labels TEXT NOT NULL,
  annotations TEXT NOT NULL, starts_at_ms INTEGER NOT NULL, ends_at_ms INTEGER NOT NULL, created_at_ms INTEGER NOT NULL,
  dead_at_ms INTEGER NOT NULL, reason TEXT NOT NULL);
CREATE TABLE ledger (
  id INTEGER PRIMARY KEY AUTOINCREMENT, at_ms INTEGER NOT NULL, channel TEXT NOT NULL, rule TEXT NOT NULL,
  firing INTEGER NOT NULL, resolved INTEGER NOT NULL, attempt INTEGER NOT NULL, outcome TEXT NOT NULL, status INTEGER,
  error TEXT NOT NULL, duration_ms INTEGER NOT NULL, alerts TEXT NOT NULL);
";

/// What version 2 has more: the states of rules, and the rule sets that were handed over, without secrets.
const TABLES_2: &str = "
CREATE TABLE rule_states (rule TEXT PRIMARY KEY, state TEXT NOT NULL, since_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE rule_sets (source TEXT PRIMARY KEY, epoch TEXT NOT NULL, generation INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE handed_rules (
  source TEXT NOT NULL, uid TEXT NOT NULL, document TEXT NOT NULL, good TEXT, PRIMARY KEY (source, uid)) WITHOUT ROWID;
CREATE TABLE handed_channels (
  source TEXT NOT NULL, id TEXT NOT NULL, document TEXT NOT NULL, PRIMARY KEY (source, id)) WITHOUT ROWID;
CREATE INDEX ledger_rule ON ledger (rule, id);
";

/// What version 3 has more: the log whose offsets the positions are.
const TABLES_3: &str = "
CREATE TABLE log (one INTEGER PRIMARY KEY CHECK (one = 1), id TEXT NOT NULL);
";

/// Opens or creates the database.
///
/// SQLite syncs the folder for its journals but not for the database file itself, so the file is made, and its entry and those of the
/// folders above it are synced, before SQLite sees it.
pub(super) fn open(dir: &Path) -> Result<Connection, Error> {
    create_dir(dir)?;
    let path = dir.join(FILE);
    let context = || format!("opening {}", path.display());
    let file = OpenOptions::new().create(true).append(true).open(&path).map_err(|e| Error::io(context(), e))?;
    file.sync_all().map_err(|e| Error::io(context(), e))?;
    sync_dir(dir)?;
    let mut connection = Connection::open(&path)?;
    // Another process with the same folder is told at once.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    write_ahead(&connection)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if !(0..=VERSION).contains(&version) {
        let message = format!("{} has version {version}, this program knows {VERSION}", path.display());
        return Err(Error::Schema(message));
    }
    if version < VERSION {
        let transaction = connection.transaction()?;
        if version < 1 {
            transaction.execute_batch(TABLES)?;
        }
        if version < 2 {
            transaction.execute_batch(TABLES_2)?;
        }
        transaction.execute_batch(TABLES_3)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
        transaction.commit()?;
    }
    // The entry of the journal, whatever the version of SQLite does.
    sync_dir(dir)?;
    Ok(connection)
}

/// Has the database keep a log. It answers before it has done so, and who looks no further does not hear of an error after that: the database then goes on in
/// another mode, in which what was committed last may go with the power.
fn write_ahead(connection: &Connection) -> Result<(), Error> {
    let mut statement = connection.prepare("PRAGMA journal_mode = WAL")?;
    let mut rows = statement.query([])?;
    let mut mode = String::new();
    while let Some(row) = rows.next()? {
        mode = row.get(0)?;
    }
    if mode == "wal" { Ok(()) } else { Err(Error::Stopped("the database cannot keep its log")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn positions_of_another_log_go_to_the_start_and_those_of_the_same_one_stay() {
        let dir = tempfile::tempdir().expect("a folder");
        let positions = async |log: &str| {
            let store = crate::store::Store::open(dir.path()).expect("opened");
            let is_other = store.follow(log.to_owned()).await.expect("noted");
            let (positions, _) = store.restore().await.expect("read");
            store.close().await;
            (is_other, positions.into_iter().collect::<Vec<_>>())
        };
        // Of a database of before logs were told apart, the positions are those of the log that is there.
        let old = open(dir.path()).expect("opened");
        old.execute("INSERT INTO positions VALUES (0, 7), (1, 9)", []).expect("written");
        drop(old);
        assert_eq!(positions("a").await, (false, vec![(0, 7), (1, 9)]));
        assert_eq!(positions("a").await, (false, vec![(0, 7), (1, 9)]));
        assert_eq!(positions("b").await, (true, vec![(0, 0), (1, 0)]));
        assert_eq!(positions("b").await, (false, vec![(0, 0), (1, 0)]));
    }

    #[test]
    fn a_database_of_version_1_keeps_what_it_has_and_one_of_a_later_version_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let old = Connection::open(dir.path().join(FILE)).expect("opened");
        old.execute_batch(TABLES).expect("made");
        old.execute("INSERT INTO positions VALUES (3, 7)", []).expect("written");
        old.pragma_update(None, "user_version", 1).expect("set");
        drop(old);
        let new = open(dir.path()).expect("opened");
        let next: i64 = new.query_row("SELECT next_offset FROM positions", [], |r| r.get(0)).expect("kept");
        let sets: i64 = new.query_row("SELECT count(*) FROM rule_sets", [], |r| r.get(0)).expect("there");
        let logs: i64 = new.query_row("SELECT count(*) FROM log", [], |r| r.get(0)).expect("there");
        assert_eq!((next, sets, logs), (7, 0, 0));
        new.pragma_update(None, "user_version", VERSION + 1).expect("set");
        drop(new);
        let error = open(dir.path()).expect_err("refused").to_string();
        assert!(error.ends_with("has version 4, this program knows 3"), "{error}");
    }
}
